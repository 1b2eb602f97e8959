"""Taking rows by position: equal to Arrow's own, for every layout of a column."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.kernels.gather import gather_or_zero, split_rows, take_rows

COLUMNS = {
    "f64": pa.array([1.5, None, float("inf"), -0.0, None, 3.0, 4.0, 5.0, None, 7.0, 8.0]),
    "i64": pa.array([1, 2, 3, None, 5, 6, 7, 8, 9, 10, 11], pa.int64()),
    "i32": pa.array([1, None, 3, 4, 5, 6, 7, 8, 9, 10, 11], pa.int32()),
    "i16": pa.array(range(11), pa.int16()),
    "i8": pa.array([None, *range(10)], pa.int8()),
    "f32": pa.array([0.5] * 11, pa.float32()),
    "bool": pa.array([True, False, None] * 3 + [True, None]),
    "text": pa.array(["a", None, "ccc", "", "é"] * 2 + ["z"]),
    "time": pa.array(
        [None, *(dt.datetime(2026, 1, d, tzinfo=dt.UTC) for d in range(1, 11))], pa.timestamp("us", "UTC")
    ),
    "day": pa.array([dt.date(2026, 1, 1)] * 11),
    "list": pa.array([[1], None, [], [2, 3]] * 2 + [[4], [5], None]),
    "nothing": pa.nulls(11, pa.float64()),
}


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 4), st.booleans())
def test_equals_arrow(order: list[int], offset: int, chunked: bool) -> None:
    table = pa.table(COLUMNS).slice(offset, 7)
    if chunked:
        table = pa.concat_tables([table.slice(0, 3), table.slice(3)])
    taken = take_rows(table, np.array(order, np.int64))
    assert taken.equals(table.take(pa.array(order, pa.int64())))
    taken.validate(full=True)


def test_a_table_without_rows() -> None:
    empty = pa.table(COLUMNS).slice(0, 0)
    assert take_rows(empty, np.empty(0, np.int64)).equals(empty)


@pytest.mark.parametrize("values", [np.array([1.5, -0.0, np.inf]), np.array([7, 8, 9])])
def test_gather_or_zero(values: np.ndarray) -> None:
    found = gather_or_zero(values, np.array([2, -1, 0, -1, 1])).view(values.dtype)
    assert found.tolist() == [values[2], 0, values[0], 0, values[1]]


@given(st.lists(st.integers(0, 3), min_size=7, max_size=7), st.integers(0, 4), st.integers(4, 40_000))
def test_split_equals_a_filter_for_each_group(groups: list[int], offset: int, n_groups: int) -> None:
    table = pa.table(COLUMNS).slice(offset, 7)
    place = np.array(groups, np.int64)
    columns = [column.chunk(0) for column in table.columns]
    parts = split_rows(columns, table.schema, place, n_groups)
    assert columns == [] and len(parts) == n_groups
    for group in {0, 1, 2, 3, n_groups - 1}:
        assert parts[group].equals(table.filter(pa.array(place == group)))
        parts[group].validate(full=True)


def test_one_group_is_the_table() -> None:
    table = pa.table(COLUMNS)
    (only,) = split_rows(
        [column.chunk(0) for column in table.columns], table.schema, np.zeros(11, np.int64), 1
    )
    assert only.equals(table)
