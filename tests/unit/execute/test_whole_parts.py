"""Row groups and files of text that one task reads as a whole: told of at plan, or refused, with the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import featureflow as ff
from featureflow.core.errors import PlanError
from featureflow.execute.sizing import BASELINE_BYTES, MIN_TASK_BYTES

SPEC = """
featureflow: 1
project: large
sources:
  events: {{path: "{path}", time: ts, timezone: UTC}}
features:
  spend:
    source: events
    keys: [card]
    aggregate: [{{column: amount, ops: [sum], windows: [1h]}}]
"""
ROWS = 1_000_000  # of 24 bytes: 48 MB as two copies, 84 MB as measured
LEAST = 2 * 24 * ROWS


def made(folder: Path, suffix: str, rows: int = ROWS, group_rows: int = ROWS) -> str:
    """A spec whose source is one file with these rows."""
    frame = pl.DataFrame({"card": pl.repeat(1, rows, dtype=pl.Int64, eager=True)}).with_columns(
        ts=pl.datetime_range(
            pl.datetime(2026, 1, 1),
            pl.datetime(2026, 1, 1, 6),
            f"{6 * 3600 * 1_000_000 // rows}us",
            closed="left",
        ).slice(0, rows),
        amount=pl.lit(1.5),
    )
    path = folder / f"events.{suffix}"
    if suffix == "parquet":
        frame.write_parquet(path, row_group_size=group_rows)
    else:
        frame.write_csv(path) if suffix == "csv" else frame.write_ndjson(path)
    return SPEC.format(path=path)


def planned(spec: str, folder: Path, memory: int) -> Any:
    project = ff.Project(
        spec, store=str(folder / "store"), scratch=folder / "scratch", scheduler="threads", workers=1,
        memory=f"{memory}B",
    )  # fmt: skip
    return project.plan()


def test_a_row_group_that_no_worker_could_hold(tmp_path: Path) -> None:
    spec = made(tmp_path, "parquet", rows=2 * ROWS, group_rows=2 * ROWS)
    limit = BASELINE_BYTES + MIN_TASK_BYTES
    with pytest.raises(PlanError) as refused:
        planned(spec, tmp_path, limit)
    said = str(refused.value)
    assert f"sources.events: row group 0 of {tmp_path}/events.parquet" in said
    assert f"{2 * ROWS:,} rows of card, ts, amount take {2 * LEAST / 1e6:.0f} MB" in said
    assert f"{limit / 1e6:.0f} MB" in said
    assert "row groups of at most" in said
    assert "--memory to 525MB" in said  # 340 MiB and 3.5 x 48 MB
    planned(spec, tmp_path, 525_000_000)


def test_one_that_may_be_too_large_is_told_of(tmp_path: Path) -> None:
    spec = made(tmp_path, "parquet")
    (said,) = [
        line for line in planned(spec, tmp_path, BASELINE_BYTES + 60_000_000).warnings if "whole" in line
    ]
    assert "row group 0" in said
    assert "84 MB" in said
    assert "a task may hold 60 MB" in said
    rows = 60_000_000 * ROWS // 84_000_000
    assert f"row groups of at most {rows:,} rows" in said
    roomy = planned(spec, tmp_path, BASELINE_BYTES + 85_000_000)
    assert not any("whole" in line for line in roomy.warnings)


def test_small_groups_of_a_large_file_are_not(tmp_path: Path) -> None:
    spec = made(tmp_path, "parquet", group_rows=ROWS // 4)
    assert not any(
        "whole" in line for line in planned(spec, tmp_path, BASELINE_BYTES + MIN_TASK_BYTES).warnings
    )


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_file_of_text_is_one_part(suffix: str, tmp_path: Path) -> None:
    spec = made(tmp_path, suffix, rows=ROWS // 5)
    size = (tmp_path / f"events.{suffix}").stat().st_size
    about = 2 * 24 * ROWS // 5 + 3.5 * size
    budget = max(MIN_TASK_BYTES, int(about) - 1_000_000)
    found = planned(spec, tmp_path, BASELINE_BYTES + budget)
    whole = [line for line in found.warnings if "whole" in line]
    assert len(whole) == (about > budget)
    if whole:
        assert f"sources.events: {tmp_path}/events.{suffix} is read as a whole" in whole[0]
        assert "files of at most" in whole[0]


def test_what_is_re_keyed_already_is_not_read_again(tmp_path: Path) -> None:
    spec = made(tmp_path, "parquet")
    options = {
        "store": str(tmp_path / "store"),
        "scratch": tmp_path / "scratch",
        "scheduler": "threads",
        "workers": 1,
    }
    ff.Project(spec, memory="2GB", **options).build()  # type: ignore[arg-type]
    again = ff.Project(spec, memory=f"{BASELINE_BYTES + 60_000_000}B", **options).plan(full=True)  # type: ignore[arg-type]
    assert again.tables[0].missing
    assert not any("whole" in line for line in again.warnings)
