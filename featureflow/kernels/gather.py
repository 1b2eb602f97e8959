"""Rows of a table in another order: what sorting and slicing cost after the order is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

_WIDTHS = {16: np.int16, 32: np.int32, 64: np.int64}


@kernel
def _gather(values: NDArray[Any], order: NDArray[np.int64], out: NDArray[Any]) -> None:
    for i in range(order.size):
        out[i] = values[order[i]]


@kernel
def _gather_bits(
    bits: NDArray[np.uint8], offset: int, order: NDArray[np.int64], out: NDArray[np.uint8]
) -> int:
    present = 0
    for start in range(0, order.size, 8):
        packed = 0
        for i in range(start, min(start + 8, order.size)):
            place = order[i] + offset
            bit = (bits[place >> 3] >> (place & 7)) & 1
            packed |= bit << (i - start)
            present += bit
        out[start >> 3] = packed
    return present


@kernel
def _gather_or_zero(values: NDArray[Any], order: NDArray[np.int64], out: NDArray[Any]) -> None:
    for i in range(order.size):
        if order[i] >= 0:
            out[i] = values[order[i]]
        else:
            out[i] = 0


def gather_or_zero(values: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
    """Give the 64-bit values at these positions, and zero for a negative one."""
    out = np.empty(positions.size, np.int64)
    _gather_or_zero(np.ascontiguousarray(values).view(np.int64), positions, out)
    return out


def take_rows(table: pa.Table, order: NDArray[np.int64]) -> pa.Table:
    """Take rows by position, all of them valid; twice as fast as Arrow's own for fixed-width columns.

    Parameters
    ----------
    order
        Positions, int64, each in ``[0, table.num_rows)``.

    Notes
    -----
    Cost: 14 ns a float with nulls on one thread (Arrow 31; 1.6M rows in 90 groups); the GIL is released.
    """
    order = np.ascontiguousarray(order, np.int64)
    positions = _positions(order)
    if table.num_rows == 0:
        return table
    taken = [_take(_one(column), order, positions) for column in table.columns]
    return pa.Table.from_arrays(taken, schema=table.schema)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _take(array: pa.Array, order: NDArray[np.int64], positions: pa.Array) -> pa.Array:
    kind = array.type
    plain = pa.types.is_primitive(kind) and not pa.types.is_boolean(kind) and kind.bit_width in _WIDTHS
    if not plain or order.size == 0:
        return array.take(positions)
    dtype = _WIDTHS[kind.bit_width]
    bitmap, data = array.buffers()
    values = np.frombuffer(data, dtype, count=array.offset + len(array))[array.offset :]
    out = np.empty(order.size, dtype)
    _gather(values, order, out)
    if array.null_count == 0:
        return pa.Array.from_buffers(kind, order.size, [None, pa.py_buffer(out)], 0)
    packed = np.empty((order.size + 7) // 8, np.uint8)
    present = _gather_bits(np.frombuffer(bitmap, np.uint8), array.offset, order, packed)
    return pa.Array.from_buffers(
        kind, order.size, [pa.py_buffer(packed), pa.py_buffer(out)], order.size - present
    )


@kernel
def _scatter(values: NDArray[Any], targets: NDArray[np.int64], out: NDArray[Any]) -> None:
    for i in range(targets.size):
        out[targets[i]] = values[i]


@kernel
def _scatter_bits(
    bits: NDArray[np.uint8], offset: int, targets: NDArray[np.int64], out: NDArray[np.bool_]
) -> None:
    for i in range(targets.size):
        out[targets[i]] = (bits[(i + offset) >> 3] >> ((i + offset) & 7)) & 1


def split_rows(
    columns: list[pa.Array], schema: pa.Schema, groups: NDArray[np.int64], n_groups: int
) -> list[pa.Table]:
    """Split rows by group, each group in the order of the rows.

    Writes each column once, front to back, into as many places as there are groups: memory is read and written in
    order, so that it takes less than half of the time of gathering group by group.

    Parameters
    ----------
    columns, schema
        The table. The list is emptied as its columns are split, so that they need not be there twice.
    groups
        Group of each row, int64, each in ``[0, n_groups)``.

    Notes
    -----
    Cost: 6 ns a float with nulls on one thread (gathering 14; 1.6M rows in 90 groups); the GIL is released.
    """
    if n_groups == 1:
        only = pa.Table.from_arrays(list(columns), schema=schema)
        columns.clear()
        return [only]
    counts = np.bincount(groups, minlength=n_groups)
    ends = np.cumsum(counts)
    order = np.argsort(groups.astype(np.int16) if n_groups < 2**15 else groups, kind="stable")
    targets = np.empty_like(order)
    targets[order] = np.arange(order.size)
    bounds = [(int(end - count), int(end)) for end, count in zip(ends, counts, strict=True)]
    pieces: list[list[pa.Array]] = [[] for _ in bounds]
    columns.reverse()
    while columns:
        for found, part in zip(pieces, _split(columns.pop(), order, targets, bounds), strict=True):
            found.append(part)
    return [pa.Table.from_arrays(found, schema=schema) for found in pieces]


def _split(
    array: pa.Array, order: NDArray[np.int64], targets: NDArray[np.int64], bounds: list[tuple[int, int]]
) -> list[pa.Array]:
    kind = array.type
    plain = pa.types.is_primitive(kind) and not pa.types.is_boolean(kind) and kind.bit_width in _WIDTHS
    if not plain:
        return [_take(array, order[a:b], _positions(order[a:b])) for a, b in bounds]
    dtype = _WIDTHS[kind.bit_width]
    bitmap, data = array.buffers()
    out = np.empty(len(array), dtype)
    _scatter(np.frombuffer(data, dtype, count=array.offset + len(array))[array.offset :], targets, out)
    if array.null_count == 0:
        return [pa.Array.from_buffers(kind, b - a, [None, pa.py_buffer(out[a:b])], 0) for a, b in bounds]
    present = np.empty(len(array), np.bool_)
    _scatter_bits(np.frombuffer(bitmap, np.uint8), array.offset, targets, present)
    return [_with_nulls(kind, out[a:b], present[a:b]) for a, b in bounds]


def _with_nulls(kind: pa.DataType, values: NDArray[Any], present: NDArray[np.bool_]) -> pa.Array:
    missing = int(present.size - np.count_nonzero(present))
    bitmap = pa.py_buffer(np.packbits(present, bitorder="little")) if missing else None
    return pa.Array.from_buffers(kind, values.size, [bitmap, pa.py_buffer(values)], missing)


def _positions(order: NDArray[np.int64]) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), order.size, [None, pa.py_buffer(np.ascontiguousarray(order))])
