"""MosaicML's StreamingDataset reads our shards; its writer makes the same ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from readers.environment import SHARD_ROWS, assert_values, export, flip, read, read_fails, write

pytestmark = pytest.mark.readers

ENCODINGS = {
    "x": "ndarray:float32:64",
    "patch": "ndarray:float32:4,5,3",
    "amount": "float64",
    "big": "int",
    "negative": "int",
    "small": "int32",
    "flag": "uint8",
    "week": "ndarray:int64:7",
    "text": "str",
}


@pytest.mark.parametrize("compression", ["none", "zstd", "gzip"])
def test_every_value_is_read(tmp_path, compression):
    written = export(tmp_path, "mds", compression=compression)
    assert_values(read("mds", written.folder), written.rows)


def test_records_of_several_rows(tmp_path):
    written = export(tmp_path, "mds", rows_per_record=16)
    assert_values(read("mds", written.folder, blocked=True), written.rows)


def test_a_shard_without_rows_is_no_hindrance(tmp_path):
    written = export(tmp_path, "mds", sizes=(30, 0, 12))
    assert_values(read("mds", written.folder), written.rows)


def test_bytes_equal_the_librarys_own(tmp_path):
    written = export(tmp_path / "ours", "mds")
    names = {path.name: rows for path, rows in zip(written.files, SHARD_ROWS, strict=True)}
    theirs = tmp_path / "theirs"
    write("mds", written.rows, theirs, columns=ENCODINGS, shards=names, compression=None)
    for path in [*written.files, written.folder / "index.json"]:
        assert path.read_bytes() == (theirs / path.name).read_bytes(), path.name


def test_compressed_index_equals_the_librarys_own_but_for_the_packing(tmp_path):
    written = export(tmp_path / "ours", "mds", compression="zstd")
    names = {
        path.name.removesuffix(".zstd"): rows for path, rows in zip(written.files, SHARD_ROWS, strict=True)
    }
    theirs = tmp_path / "theirs"
    write("mds", written.rows, theirs, columns=ENCODINGS, shards=names, compression="zstd")
    found, expected = (json.loads((f / "index.json").read_text()) for f in (written.folder, theirs))
    for a, b in zip(found["shards"], expected["shards"], strict=True):
        for packed in (a["zip_data"], b["zip_data"]):
            packed.pop("bytes"), packed.pop("hashes")
    assert found == expected


def test_a_flipped_bit_is_found(tmp_path):
    written = export(tmp_path, "mds")
    flip(written.files[1], written.files[1].stat().st_size // 2)
    assert "part-00001-of-00003.mds" in read_fails("mds", written.folder)


def test_more_dtypes(tmp_path):
    rng = np.random.default_rng(1)
    rows = {
        dtype: (rng.standard_normal(9) * 100).astype(dtype)
        for dtype in ("float16", "float32", "int8", "int16", "uint8", "uint16", "uint32")
    }
    rows |= {f"{name}s": array.reshape(9, 1) for name, array in rows.items()}
    written = export(tmp_path, "mds", rows, sizes=(5, 4))
    found = read("mds", written.folder)
    assert_values(found, rows)
    assert {name: found[name].dtype for name in rows} == {name: array.dtype for name, array in rows.items()}
