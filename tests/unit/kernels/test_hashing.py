"""Hashes are part of the product: these values never change."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from featureflow.kernels.hashing import NULL, combine, hash_column, hash_rows

MOMENT = dt.datetime(2020, 1, 1, 12)
GOLDEN = {
    "integer": (pa.array([5, None, -1]), [0xBB87F3C4034DBA14, 0x6E756C6C6E756C6C, 0x316E64C68E47E078]),
    "float": (pa.array([1.5, -0.0, 0.0]), [0x9B99DA96A075E6E, 0x96C2FB5E2C8450C2, 0x96C2FB5E2C8450C2]),
    "text": (
        pa.array(["", "a", "12345678", "123456789"]),
        [0x55754B663F975472, 0xF4B21ACEE6CA65CB, 0x2751071A4335204F, 0xF3CC3FA16DF0AFFF],
    ),
    "bool": (pa.array([True, False]), [0xEA5A0088452841D9, 0x6DB1A7D8622AE735]),
    "date": (pa.array([dt.date(2020, 1, 1)]), [0x99A1ADBDE77BEC90]),
    "timestamp": (pa.array([dt.datetime(2020, 1, 1)], pa.timestamp("us", "UTC")), [0x50671AD0A8F5AFF9]),
    "duration": (pa.array([dt.timedelta(1)]), [0xFC82E4A9ED947E5D]),
    "time": (pa.array([dt.time(1)]), [0x8873488C3217602F]),
    "list": (pa.array([[1, 2], [], None]), [0xD8305564DE217CD3, 0x38285BB2E3591535, 0x6E756C6C6E756C6C]),
    "struct": (pa.array([{"a": 1, "b": "x"}]), [0xA429554628E84386]),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden(kind):
    array, expected = GOLDEN[kind]
    assert hash_column(array).tolist() == expected


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.array([5, -1], pa.int8()), pa.array([5, -1], pa.int64())),
        (pa.array([5], pa.uint64()), pa.array([5], pa.int16())),
        (pa.array([0.5], pa.float32()), pa.array([0.5])),
        (pa.array([MOMENT], pa.timestamp("s")), pa.array([MOMENT], pa.timestamp("us", "UTC"))),
        (pa.array([MOMENT.date()], pa.date64()), pa.array([MOMENT.date()], pa.date32())),
        (pa.array(["a", None], pa.large_string()), pa.array(["a", None]).dictionary_encode()),
        (pa.array(["a"], pa.string_view()), pa.array([b"a"])),
        (pa.array([float("nan")]), pa.array(np.array([0x7FF8000000000001]).view(np.float64))),
        (pa.array([[1]], pa.list_(pa.int8())), pa.array([[1]], pa.large_list(pa.int64()))),
        (pa.array([None, None]), pa.array([None, None], pa.string())),
    ],
    ids=str,
)
def test_equal_values_of_other_types_hash_alike(left, right):
    assert hash_column(left).tolist() == hash_column(right).tolist()


@pytest.mark.parametrize("array", [array for array, _ in GOLDEN.values()], ids=list(GOLDEN))
def test_slices_and_chunks_change_nothing(array):
    padded = pa.concat_arrays([array[:1], array, array[:1]])
    assert hash_column(padded[1:-1]).tolist() == hash_column(array).tolist()
    chunked = pa.chunked_array([array[:1], array[1:1], array[1:]])
    assert hash_column(chunked).tolist() == hash_column(array).tolist()


def test_different_kinds_and_orders_differ():
    one = [
        pa.array([1]),
        pa.array([1.0]),
        pa.array([True]),
        pa.array(["1"]),
        pa.array([dt.timedelta(microseconds=1)]),
    ]
    assert len({int(hash_column(array)[0]) for array in one}) == len(one)
    a, b = hash_column(pa.array([1])), hash_column(pa.array([2]))
    assert combine(a, b) != combine(b, a)
    assert hash_rows([pa.array([1]), pa.array([2])]).tolist() == combine(a, b).tolist()
    assert hash_rows(pa.table({"x": [1], "y": [2]})).tolist() == combine(a, b).tolist()


def test_many_hashes_do_not_collide():
    n = 200_000
    assert len(np.unique(hash_column(pa.array(np.arange(n))))) == n
    assert len(np.unique(hash_column(pa.array([f"card-{i}" for i in range(n)])))) == n
    # buckets are taken from the low bits: they must be even too
    counts = np.bincount(hash_column(pa.array(np.arange(n) * 4096)) % np.uint64(64))
    assert counts.min() > 0.9 * n / 64
    assert counts.max() < 1.1 * n / 64


def test_decimals_and_empty_columns():
    assert hash_column(pa.array([Decimal("1.50"), None]))[1] == NULL
    for kind in (pa.string(), pa.int8(), pa.timestamp("ms"), pa.list_(pa.int64())):
        assert hash_column(pa.array([], kind)).size == 0
