"""Columns of shards as NumPy arrays and back, without copying where the layouts agree.

A column of a shard has no nulls: floats have NaN instead, and a null elsewhere is an error, because most readers of
shards have no word for it. A value has one shape for all rows, ``()`` for a scalar; only text has a length of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featureflow.core.errors import ComputeError

_TO_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


def element_type_and_shape(arrow_type: pa.DataType) -> tuple[pa.DataType, tuple[int, ...]]:
    """Take the fixed-size lists off a type: what is inside, and the shape of one row's value.

    Examples
    --------
    >>> element_type_and_shape(pa.list_(pa.list_(pa.float32(), 5), 4))
    (DataType(float), (4, 5))
    >>> element_type_and_shape(pa.int64())
    (DataType(int64), ())
    """
    shape: list[int] = []
    while pa.types.is_fixed_size_list(arrow_type):
        shape.append(arrow_type.list_size)
        arrow_type = arrow_type.value_type
    return arrow_type, tuple(shape)


def shape_of(field: pa.Field) -> tuple[int, ...]:
    """Shape of one row's value: ``()`` for a scalar, ``(4, 5)`` for a list of 4 lists of 5."""
    return element_type_and_shape(field.type)[1]


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether values are text or bytes of any length, which `string_buffers` reads and `numpy_column` does not."""
    return any(
        known(arrow_type)
        for known in (
            *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
            *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
        )
    )


def is_fixed(arrow_type: pa.DataType) -> bool:
    """Whether every value has the same shape and `numpy_column` can read it."""
    return _element_dtype(element_type_and_shape(arrow_type)[0]) is not None


def numpy_dtype(arrow_type: pa.DataType) -> np.dtype[Any]:
    """The dtype that `numpy_column` gives: int64 for times and durations (microseconds), int32 for dates (days).

    Raises
    ------
    ComputeError
        If there is none: text, lists of varying length, decimals, structs.
    """
    dtype = _element_dtype(element_type_and_shape(arrow_type)[0])
    if dtype is None:
        raise ComputeError(f"export: values of type {arrow_type} are no NumPy array of one shape.")
    return dtype


def numpy_column(array: pa.Array | pa.ChunkedArray, *, name: str = "") -> np.ndarray[Any, Any]:
    """Make a contiguous array of shape ``(n, *shape)`` of a column.

    Parameters
    ----------
    array
        Booleans, integers, floats, times, durations, dates, or (nested) fixed-size lists of these.
    name
        The column's name, for messages.

    Returns
    -------
    ndarray
        In native byte order. It may be a read-only view of the column's memory.

    Raises
    ------
    ComputeError
        For a null that is not in a floating column, a type without a fixed shape, or a time in nanoseconds
        that is no whole number of microseconds.

    Notes
    -----
    Nulls: in floats NaN, also those of a whole list; elsewhere an error.
    Cost: none for one chunk of numbers; one copy for several chunks, booleans and columns with nulls.
    """
    element, shape = element_type_and_shape(array.type)
    dtype = _element_dtype(element)
    if dtype is None:
        raise ComputeError(
            f"export: {_column(name)} is {array.type}: not an array of one shape for all rows."
        )
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    if len(chunks) == 1:
        return np.ascontiguousarray(_one_chunk(chunks[0], dtype, shape, name))
    out = np.empty((len(array), *shape), dtype)
    first = 0
    for chunk in chunks:
        out[first : first + len(chunk)] = _one_chunk(chunk, dtype, shape, name)
        first += len(chunk)
    return out


def arrow_column(values: np.ndarray[Any, Any], arrow_type: pa.DataType) -> pa.Array:
    """Make a column of ``arrow_type`` from what `numpy_column` gave; the opposite of it.

    Parameters
    ----------
    values
        Shape ``(n, *shape)``, of `numpy_dtype(arrow_type)`; other byte orders and strides are copied.

    Raises
    ------
    ComputeError
        If the shape or the dtype is not the type's.

    Notes
    -----
    Cost: none for contiguous numbers: the column is a view of ``values``, which must not change any more.
    """
    element, shape = element_type_and_shape(arrow_type)
    dtype = numpy_dtype(arrow_type)
    if values.shape[1:] != shape or values.dtype.newbyteorder("=") != dtype:
        raise ComputeError(
            f"export: an array of {values.dtype} of shape {values.shape} can't be a column of type {arrow_type}."
        )
    flat = np.ascontiguousarray(values, dtype).reshape(-1)
    unit = getattr(element, "unit", "us")
    if pa.types.is_boolean(element):
        bits = np.packbits(flat, bitorder="little")
        column = pa.Array.from_buffers(element, flat.size, [None, pa.py_buffer(bits)])
    elif unit == "us" or pa.types.is_date32(element):
        column = pa.Array.from_buffers(element, flat.size, [None, pa.py_buffer(flat)])
    else:
        whole = flat * 1_000 if unit == "ns" else flat // _TO_MICROSECONDS[unit]
        column = pa.Array.from_buffers(element, flat.size, [None, pa.py_buffer(whole)])
    return _nest(column, arrow_type, len(values))


def string_buffers(
    array: pa.Array | pa.ChunkedArray, *, name: str = ""
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Take a column of text or bytes apart: value ``i`` is ``data[offsets[i]:offsets[i + 1]]`` in UTF-8.

    Returns
    -------
    offsets, data
        int64 of length n + 1, from 0 to ``len(data)``; uint8. ``data`` may be a read-only view.

    Raises
    ------
    ComputeError
        For a null, or another type.

    Notes
    -----
    Cost: no copy of the text of one chunk; the offsets are always copied, widened and made to start at 0.
    """
    if not is_text(array.type):
        raise ComputeError(f"export: {_column(name)} is {array.type}, not text.")
    no_nulls(array, name)
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    parts = [_text_of_chunk(chunk) for chunk in chunks if len(chunk)]
    if not parts:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(data) for _, data in parts)])
    ends = [offsets[1:] + start for (offsets, _), start in zip(parts, starts[:-1], strict=True)]
    return np.concatenate([np.zeros(1, np.int64), *ends]), np.concatenate([data for _, data in parts])


def string_column(
    offsets: np.ndarray[Any, Any], data: np.ndarray[Any, Any], arrow_type: pa.DataType
) -> pa.Array:
    """Make a column of text or bytes from what `string_buffers` gave; the opposite of it.

    Raises
    ------
    ComputeError
        If the type is not text, or is one with 32-bit offsets and there are 2 GiB or more.
    """
    if not is_text(arrow_type):
        raise ComputeError(f"export: type {arrow_type} is not text.")
    wide = (
        pa.large_binary()
        if pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type)
        else pa.large_string()
    )
    wide = pa.large_binary() if pa.types.is_binary_view(arrow_type) else wide
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(data)]
    column = pa.Array.from_buffers(wide, len(offsets) - 1, buffers)
    if arrow_type.equals(wide):
        return column
    if not (pa.types.is_string(arrow_type) or pa.types.is_binary(arrow_type)):
        return column.cast(arrow_type)
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ComputeError(
            f"export: {offsets[-1]:,} bytes of text do not fit a column of {arrow_type}. Use smaller shards."
        )
    narrow = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(arrow_type, len(offsets) - 1, narrow)


def no_nulls(array: pa.Array | pa.ChunkedArray, name: str) -> None:
    """Raise `ComputeError` naming the column if there is a null."""
    if array.null_count:
        raise ComputeError(
            f"export: {_column(name)} has {array.null_count:,} nulls, and only floating columns of shards can "
            "(as NaN). Give `fill: {column: value}`, or leave the rows out."
        )


def _element_dtype(element: pa.DataType) -> np.dtype[Any] | None:
    if pa.types.is_boolean(element):
        return np.dtype(np.bool_)
    if pa.types.is_integer(element) or pa.types.is_floating(element):
        dtype: np.dtype[Any] = np.dtype(element.to_pandas_dtype())
        return dtype
    if pa.types.is_timestamp(element) or pa.types.is_duration(element):
        return np.dtype(np.int64)
    return np.dtype(np.int32) if pa.types.is_date32(element) else None


def _column(name: str) -> str:
    return f"column {name!r}" if name else "a column"


def _one_chunk(
    chunk: pa.Array, dtype: np.dtype[Any], shape: tuple[int, ...], name: str
) -> np.ndarray[Any, Any]:
    """Values of one chunk in its own slice, lists opened level by level; NaN where a level is null."""
    rows, size = len(chunk), 1
    missing: list[tuple[int, np.ndarray[Any, Any]]] = []  # (lists so far, which of them are null)
    for length in (*shape, None):
        if chunk.null_count:
            if not np.issubdtype(dtype, np.floating):
                no_nulls(chunk, name)
            missing.append((rows * size, _bits(pc.is_null(chunk))))
        if length is not None:
            # `flatten` would drop null lists, `values` forgets the slice
            chunk = chunk.values.slice(chunk.offset * length, len(chunk) * length)
            size *= length
    values = _flat(chunk, dtype, name)
    if missing:
        values = values.copy()
        for count, null in missing:
            values.reshape(count, -1)[null] = np.nan
    return values.reshape(rows, *shape)


def _flat(array: pa.Array, dtype: np.dtype[Any], name: str) -> np.ndarray[Any, Any]:
    """Values of an array without lists, whatever lies under its nulls."""
    if pa.types.is_boolean(array.type):
        return _bits(array)
    data = array.buffers()[1]
    if data is None or not len(array):
        return np.zeros(0, dtype)
    values = np.frombuffer(data, dtype)[array.offset : array.offset + len(array)]
    unit = getattr(array.type, "unit", "us")
    if unit == "us" or pa.types.is_date32(array.type):
        return values
    if unit == "ns":
        if (values % 1_000).any():
            raise ComputeError(
                f"export: {_column(name)} is {array.type} with values that are no whole microseconds. "
                "Round it in `derive:`."
            )
        return values // 1_000
    limit = np.iinfo(np.int64).max // _TO_MICROSECONDS[unit]
    if ((values > limit) | (values < -limit)).any():
        raise ComputeError(f"export: {_column(name)} has times that int64 can't hold in microseconds.")
    return values * _TO_MICROSECONDS[unit]


def _bits(array: pa.Array) -> np.ndarray[Any, Any]:
    """Booleans, a byte each."""
    if not len(array):
        return np.zeros(0, np.bool_)
    first = array.offset // 8
    packed = np.frombuffer(array.buffers()[1], np.uint8)[first : (array.offset + len(array) + 7) // 8]
    skip = array.offset - first * 8
    bits = np.unpackbits(packed, bitorder="little", count=skip + len(array))
    return bits[skip:].view(np.bool_)


def _text_of_chunk(chunk: pa.Array) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if pa.types.is_string_view(chunk.type) or pa.types.is_binary_view(chunk.type):
        chunk = chunk.cast(pa.large_string() if pa.types.is_string_view(chunk.type) else pa.large_binary())
    width = (
        np.int64 if pa.types.is_large_string(chunk.type) or pa.types.is_large_binary(chunk.type) else np.int32
    )
    _, ends, data = chunk.buffers()
    offsets = np.frombuffer(ends, width)[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
    text = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return offsets - offsets[0], text[offsets[0] : offsets[-1]]


def _nest(column: pa.Array, arrow_type: pa.DataType, rows: int) -> pa.Array:
    """Put the lists of a type around its flat values."""
    shape = element_type_and_shape(arrow_type)[1]
    levels, inner = [], arrow_type
    for _ in shape:
        levels.append(inner)
        inner = inner.value_type
    counts: list[int] = np.cumprod([rows, *shape[:-1]]).tolist() if shape else []
    for level, count in zip(reversed(levels), reversed(counts), strict=True):
        column = pa.Array.from_buffers(level, count, [None], children=[column])
    return column
