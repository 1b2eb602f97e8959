"""Builds that end with exports: one that fails says of which dataset it is, and the others are written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

import featureflow as ff
from featureflow.core.errors import ComputeError

SPEC = """
project: shards
sources:
  rows: {path: rows.parquet, time: t}
datasets:
  holes: {spine: {source: rows, keys: [k], columns: [a]}, export: {format: arrow, path: FOLDER/holes}}
  whole: {spine: {source: rows, keys: [k], columns: [b]}, export: {format: arrow, path: FOLDER/whole}}
  more: {spine: {source: rows, keys: [k], columns: [a, b]}, export: {format: arrow, path: FOLDER/more}}
"""


def test_shards_of_other_datasets_are_written(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": [1, 2], "t": [datetime(2026, 1, 1)] * 2, "a": [1.0, None], "b": [3.0, 4.0]})
    frame.write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "p.yaml").write_text(SPEC.replace("FOLDER", str(tmp_path)))
    project = ff.Project(
        tmp_path / "p.yaml", store=str(tmp_path / "store"), scratch=tmp_path / "scratch", scheduler="threads"
    )
    with pytest.raises(ComputeError, match=r"export of holes: nulls in 1 column: a \(1, feature\)") as told:
        project.build()
    assert told.value.__notes__ == [
        "while exporting: datasets.holes, whose version is published",
        *(note for note in told.value.__notes__ if note.startswith("also: export of more: nulls in")),
        "exported: whole",
    ]
    assert len(told.value.__notes__) == 3
    assert ff.load_shards(str(tmp_path / "whole" / "whole")).to_polars()["b"].to_list() in (
        [3.0, 4.0],
        [4.0, 3.0],
    )
    assert project.dataset("holes").to_polars().height == 2
