"""Lightning's litdata reads our chunks; its writer makes the same ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from readers.environment import assert_values, export, read, table, values, write

from featureflow.contracts.shard_format import ShardOptions, ShardPlace
from featureflow.library.shards.litdata import _DTYPE_NUMBERS, FORMAT

pytestmark = pytest.mark.readers


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_every_value_is_read(tmp_path, compression):
    written = export(tmp_path, "litdata", compression=compression)
    assert_values(read("litdata", written.folder), written.rows)


def test_rows_of_scalars_alone(tmp_path):
    rows = {name: array for name, array in values(40).items() if array.ndim == 1}
    written = export(tmp_path, "litdata", rows, sizes=(30, 10))
    assert_values(read("litdata", written.folder), rows)


def test_records_of_several_rows(tmp_path):
    written = export(tmp_path, "litdata", rows_per_record=16)
    assert_values(read("litdata", written.folder, blocked=True), written.rows)


def test_a_shard_without_rows_is_no_hindrance(tmp_path):
    written = export(tmp_path, "litdata", sizes=(30, 0, 12))
    assert_values(read("litdata", written.folder), written.rows)


def test_two_workers_see_each_row_once(tmp_path):
    written = export(tmp_path, "litdata")
    found = read("litdata_loader", written.folder, column="big")["big"]
    assert sorted(found.tolist()) == sorted(written.rows["big"].tolist())


def test_chunks_and_index_equal_the_librarys_own(tmp_path):
    rows = values(50)
    theirs = tmp_path / "theirs"
    write("litdata", rows, theirs, chunk_size=50)
    index = json.loads((theirs / "index.json").read_text())
    (chunk,) = index["chunks"]
    place, options = ShardPlace("train/chunk-0-0", 0, 1, 0, 50), ShardOptions()
    made = FORMAT.encode(table(rows), place, options)
    assert (
        b"".join(map(bytes, made.files["train/chunk-0-0.bin"])) == (theirs / chunk["filename"]).read_bytes()
    )
    own = json.loads(
        FORMAT.index("train", [place], [made.entry], table(rows).schema, options)["train/index.json"]
    )
    index.pop("updated_at")  # a clock
    assert own == index


def test_its_numbers_of_dtypes_are_ours(tmp_path):
    out = tmp_path / "dtypes.json"
    write("litdata_dtypes", {}, out)
    theirs = json.loads(out.read_text())
    assert {str(np.dtype(name)): number for name, number in _DTYPE_NUMBERS.items()}.items() <= theirs.items()
