"""Hugging Face's `load_dataset(folder)` finds every split of an export through its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from readers.environment import read
from unit.export.small_dataset import expected_positions, export, table_of, write_version


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ("arrow", {}),
        ("parquet", {}),
        ("webdataset", {}),
        ("webdataset", {"compression": "gzip"}),
        ("arrow", {"compression": "zstd"}),
    ],
    ids=str,
)
def test_hugging_face_reads_all_splits(tmp_path: Path, form: str, more: dict[str, Any]) -> None:
    table = table_of(300)
    names = {"id": "id", "a": "a", "v": "v", "city": "city", "label": "label"}
    rows = write_version(table, tmp_path / "version", names=names)
    manifest = export(rows, tmp_path / "out", format=form, shard_size=1_500, **more)
    found = read("hugging_face_folder", tmp_path / "out")
    assert {name.partition("/")[0] for name in found} == {"train", "valid", "test"}
    for split, shards in manifest.splits.items():
        assert len(shards) > 1
        wanted = table.take(expected_positions(table, split, 0))
        columns = {
            name.removeprefix(f"{split}/"): v for name, v in found.items() if name.startswith(f"{split}/")
        }
        assert all(len(values) == wanted.num_rows for values in columns.values())
        if form != "webdataset":
            np.testing.assert_array_equal(columns["id"], wanted["id"].to_numpy())
            np.testing.assert_array_equal(columns["city"], np.array(wanted["city"].to_pylist()))
            np.testing.assert_array_equal(columns["v"], np.array(wanted["v"].to_pylist(), np.float32))
