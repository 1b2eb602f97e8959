"""TensorFlow and the `tfrecord` package read our records; protobuf would write the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from readers.environment import assert_values, export, flip, read, read_fails

pytestmark = pytest.mark.readers

#: what a user writes down for tf.io: shape and dtype of the list
FEATURES = {
    "x": [[64], "float32"],
    "patch": [[4, 5, 3], "float32"],
    "amount": [[], "float64"],
    "big": [[], "int64"],
    "negative": [[], "int64"],
    "small": [[], "int64"],
    "flag": [[], "int64"],
    "week": [[7], "int64"],
    "text": [[], "string"],
}
KINDS = {"float32": "float", "int64": "int", "float64": "byte", "string": "byte"}


def hexadecimal(rows):
    """Text as the readers dump it: the bytes."""
    return {
        n: np.array([v.encode().hex() for v in a.tolist()]) if a.dtype.kind == "U" else a
        for n, a in rows.items()
    }


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_tensorflow_reads_every_value(tmp_path, compression):
    written = export(tmp_path, "tfrecord", compression=compression)
    given = {"none": "", "gzip": "GZIP"}[compression]
    found = read("tensorflow", written.folder, environment="tensorflow", features=FEATURES, compression=given)
    assert_values(found, hexadecimal(written.rows))


def test_tensorflow_reads_records_of_several_rows(tmp_path):
    written = export(tmp_path, "tfrecord", rows_per_record=16)
    features = {name: facts for name, facts in FEATURES.items() if name != "amount"}
    found = read("tensorflow_ragged", written.folder, environment="tensorflow", features=features)
    expected = hexadecimal(written.rows)
    del expected["amount"]
    assert_values(found, expected)


@pytest.mark.parametrize("rows_per_record", [1, 16])
def test_records_are_protobufs_own_bytes(tmp_path, rows_per_record):
    written = export(tmp_path, "tfrecord", rows_per_record=rows_per_record)
    found = read("tensorflow_records", written.folder, environment="tensorflow")["same"]
    assert found.all()
    assert len(found) == sum(-(-n // rows_per_record) for n in (70, 55, 33))


def test_an_empty_shard_is_no_hindrance(tmp_path):
    written = export(tmp_path, "tfrecord", sizes=(30, 0, 12))
    found = read("tensorflow", written.folder, environment="tensorflow", features=FEATURES)
    assert_values(found, hexadecimal(written.rows))


@pytest.mark.parametrize("at", [4, 200])
def test_tensorflow_finds_a_flipped_bit(tmp_path, at):
    written = export(tmp_path, "tfrecord")
    flip(written.files[0], at)
    said = read_fails("tensorflow", written.folder, environment="tensorflow", features=FEATURES)
    assert "DataLossError" in said


@pytest.mark.parametrize(("compression", "index"), [("none", False), ("none", True), ("gzip", False)])
def test_the_tfrecord_package_reads_every_value(tmp_path, compression, index):
    written = export(tmp_path, "tfrecord", compression=compression)
    kinds = {name: KINDS[dtype] for name, (_, dtype) in FEATURES.items()}
    found = read("tfrecord", written.folder, kinds=kinds, index=index)
    amount = np.array(
        [float(v).hex() for v in np.frombuffer(bytes.fromhex("".join(found.pop("amount"))), "<f8")]
    )
    expected = {
        name: array.reshape(len(array), -1) if array.dtype.kind != "U" else array
        for name, array in hexadecimal(written.rows).items()
    }
    assert amount.tolist() == [float(v).hex() for v in expected.pop("amount")[:, 0]]
    assert_values(found, expected)
