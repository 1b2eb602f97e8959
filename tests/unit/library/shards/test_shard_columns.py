"""Columns to arrays and back: values, memory that is not copied, and what is refused."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow.core.errors import ComputeError
from featureflow.library.shards.columns import (
    arrow_column,
    element_type_and_shape,
    numpy_column,
    numpy_dtype,
    shape_of,
    string_buffers,
    string_column,
)

PATCH = pa.list_(pa.list_(pa.float32(), 3), 2)
UTC_TIME = pa.timestamp("us", tz="UTC")


def laid_out(values: list, of: pa.DataType, cuts: list[int]) -> pa.ChunkedArray:
    """The values in slices of longer arrays, cut at ``cuts``."""
    edges = sorted({0, len(values), *(cut % (len(values) + 1) for cut in cuts)})
    chunks = []
    for first, last in itertools.pairwise(edges):
        around = values[:3]
        longer = pa.array([*around, *values[first:last], *around], of)
        chunks.append(longer.slice(len(around), last - first))
    return pa.chunked_array(chunks, of)


NUMBERS = {
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint8(): st.integers(0, 255),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.bool_(): st.booleans(),
}


@st.composite
def columns(draw):
    element = draw(st.sampled_from(list(NUMBERS)))
    shape = draw(st.lists(st.integers(1, 3), max_size=3))
    of, values = element, NUMBERS[element]
    for size in reversed(shape):
        of, values = pa.list_(of, size), st.lists(values, min_size=size, max_size=size)
    return (
        of,
        tuple(shape),
        draw(st.lists(values, max_size=12)),
        draw(st.lists(st.integers(0, 12), max_size=3)),
    )


@given(columns())
@settings(max_examples=150)
def test_any_layout_gives_the_values_and_comes_back(column):
    of, shape, values, cuts = column
    array = numpy_column(laid_out(values, of, cuts))
    assert array.shape == (len(values), *shape)
    assert array.dtype == numpy_dtype(of)
    assert array.flags.c_contiguous
    assert array.tolist() == values
    back = arrow_column(array, of)
    back.validate(full=True)
    assert back.type == of
    assert back.to_pylist() == values


@given(st.lists(st.text(max_size=5), max_size=12), st.lists(st.integers(0, 12), max_size=3))
@pytest.mark.parametrize("of", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_text_of_any_layout(of, values, cuts):
    offsets, data = string_buffers(laid_out(values, of, cuts))
    assert offsets.dtype == np.int64
    assert (offsets[0], len(offsets), offsets[-1]) == (0, len(values) + 1, len(data))
    assert [bytes(data[a:b]).decode() for a, b in itertools.pairwise(offsets)] == values
    back = string_column(offsets, data, of)
    back.validate(full=True)
    assert (back.type, back.to_pylist()) == (of, values)


@pytest.mark.parametrize("of", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_bytes_that_are_no_text(of):
    values = [b"\xff\x00", b"", b"\x00\x00"]
    back = string_column(*string_buffers(pa.array(values, of)), of)
    assert (back.type, back.to_pylist()) == (of, values)


@pytest.mark.parametrize(
    "of", [pa.int64(), pa.float32(), pa.list_(pa.float32(), 4), UTC_TIME, pa.date32()], ids=str
)
def test_numbers_of_one_chunk_are_not_copied(of):
    element, shape = element_type_and_shape(of)
    source = np.arange(40 * int(np.prod(shape, dtype=int)), dtype=numpy_dtype(of)).reshape(40, *shape)
    column = arrow_column(source, of)
    assert np.shares_memory(numpy_column(column), source)
    assert np.shares_memory(numpy_column(column.slice(3, 5)), source)
    assert numpy_column(column.slice(3, 5)).tolist() == source[3:8].tolist()
    assert np.shares_memory(numpy_column(pa.chunked_array([column])), source)
    assert element == arrow_column(source.reshape(-1), element).type


def test_text_of_one_chunk_is_not_copied():
    column = pa.array(["ab", "c", ""])
    text = np.frombuffer(column.buffers()[2], np.uint8)
    assert np.shares_memory(string_buffers(column)[1], text)


def test_times_are_whole_microseconds_since_1970():
    at = [datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(2026, 1, 2, 3, tzinfo=UTC)]
    since = [(each - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for each in at]
    assert numpy_column(pa.array(at, UTC_TIME)).tolist() == since
    for unit in ("s", "ms", "us", "ns"):
        of = pa.timestamp(unit, tz="UTC")
        column = pa.array([at[1]]).cast(of)
        assert numpy_column(column).tolist() == since[1:]
        assert arrow_column(numpy_column(column), of).equals(column)
    days = pa.array([date(1969, 12, 31), date(2026, 1, 2)])
    assert numpy_column(days).tolist() == [-1, 20455]
    assert arrow_column(numpy_column(days), pa.date32()).equals(days)
    waits = pa.array([timedelta(seconds=-1), timedelta(days=3)], pa.duration("us"))
    assert numpy_column(waits).tolist() == [-(10**6), 3 * 86_400 * 10**6]
    assert arrow_column(numpy_column(waits), pa.duration("us")).equals(waits)


def test_times_that_microseconds_can_not_hold_are_an_error():
    with pytest.raises(ComputeError, match=r"'at'.*no whole microseconds"):
        numpy_column(pa.array([1_001], pa.timestamp("ns")), name="at")
    for far in (2**62, -(2**63)):
        with pytest.raises(ComputeError, match="'at' has times"):
            numpy_column(pa.array([far], pa.timestamp("s")), name="at")


def test_nulls_of_floats_are_nan_at_every_level():
    column = pa.array([[[1, 2, 3], [4, None, 6]], None, [None, [7, 8, 9]]], PATCH)
    nan = float("nan")
    expected = np.array([[[1, 2, 3], [4, nan, 6]], [[nan] * 3] * 2, [[nan] * 3, [7, 8, 9]]], np.float32)
    np.testing.assert_array_equal(numpy_column(column), expected)
    np.testing.assert_array_equal(numpy_column(column.slice(1)), expected[1:])
    chunked = pa.chunked_array([column.slice(0, 2), column.slice(2)])
    np.testing.assert_array_equal(numpy_column(chunked), expected)
    np.testing.assert_array_equal(numpy_column(pa.array([1.5, None])), [1.5, nan])


def test_memory_under_nulls_is_not_changed():
    """The table may be used again, and by other threads."""
    source = np.array([1.0, 2.0, 3.0])
    column = pa.Array.from_buffers(pa.float64(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(source)])
    np.testing.assert_array_equal(numpy_column(column), [1.0, np.nan, 3.0])
    assert source.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None]),
        pa.array([True, None]),
        pa.array([[1, 2], None], pa.list_(pa.int64(), 2)),
        pa.array([[1, None]], pa.list_(pa.int64(), 2)),
        pa.array([None], UTC_TIME),
        pa.chunked_array([[1], [None]], pa.int32()),
    ],
    ids=lambda c: str(c.type),
)
def test_other_nulls_are_an_error(column):
    with pytest.raises(ComputeError, match=r"column 'n' has 1 nulls.*fill:"):
        numpy_column(column, name="n")


def test_nulls_of_text_are_an_error():
    with pytest.raises(ComputeError, match=r"column 'city' has 1 nulls"):
        string_buffers(pa.array(["a", None]), name="city")


@pytest.mark.parametrize(
    "column", [pa.array(["a"]), pa.array([[1], []]), pa.array([{"a": 1}]), pa.array([1]).dictionary_encode()]
)
def test_what_has_no_shape_is_no_array(column):
    with pytest.raises(ComputeError, match="'odd'"):
        numpy_column(column, name="odd")
    with pytest.raises(ComputeError):
        numpy_dtype(column.type)


def test_numbers_are_no_text():
    with pytest.raises(ComputeError, match="'n' is int64"):
        string_buffers(pa.array([1]), name="n")


def test_arrays_of_another_shape_or_type_are_refused():
    with pytest.raises(ComputeError, match="float64"):
        arrow_column(np.zeros((2, 2, 3)), PATCH)
    with pytest.raises(ComputeError, match=r"\(2, 3, 2\)"):
        arrow_column(np.zeros((2, 3, 2), np.float32), PATCH)


def test_arrays_of_any_stride_and_byte_order_are_taken():
    values = np.arange(24, dtype=">f4").reshape(4, 3, 2).transpose(0, 2, 1)
    assert arrow_column(values, PATCH).to_pylist() == values.tolist()


def test_empty_columns_keep_their_shape():
    for column in (pa.array([], PATCH), pa.chunked_array([], PATCH)):
        assert numpy_column(column).shape == (0, 2, 3)
    assert [part.tolist() for part in string_buffers(pa.chunked_array([], pa.string()))] == [[0], []]
    assert len(arrow_column(np.zeros((0, 2, 3), np.float32), PATCH)) == 0


def test_shape_of_a_field():
    assert shape_of(pa.field("x", PATCH)) == (2, 3)
    assert shape_of(pa.field("x", pa.list_(pa.int64()))) == ()
