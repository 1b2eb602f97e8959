"""Rows from open shards into the arrays of a batch, whole batches at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow.loaders.columns import Array, Column, is_plain, python_values, to_array
from featureflow.loaders.order import Longs

#: One for each group: an array of rows, or the parts of a column that stays Arrow until a batch is made.
Buffers = list[Any]
Batch = dict[str, Any]

_BLOCK = 1024  # rows that are transposed at a time: source and target fit the second-level cache
_FEW = 8  # columns that are written one by one
_ODD = 16  # a distance between columns that is no power of two, or all would fall on the same cache lines


@dataclass(frozen=True)
class Group:
    """Columns that lie together in memory: one array of ``(rows, columns)`` for scalars of one type.

    Parameters
    ----------
    columns
        The columns.
    places
        Their numbers in an open shard.

    Notes
    -----
    Cost: a row of 64 columns is 4 lines of cache here, and 64 in arrays of their own.
    """

    columns: tuple[Column, ...]
    places: tuple[int, ...]

    @cached_property
    def python(self) -> bool:
        """Whether values are Python's."""
        return self.columns[0].dtype is None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""
        return (len(self.columns),) if len(self.columns) > 1 else self.columns[0].shape

    def normalize(self, values: Array) -> None:
        """Apply ``(x - mean) / scale`` in place."""
        if self.columns[0].mean is None:
            return
        if len(self.columns) > 1:
            mean = np.concatenate([c.mean for c in self.columns if c.mean is not None])
            scale = np.concatenate([c.scale for c in self.columns if c.scale is not None])
        else:
            mean, scale = self.columns[0].mean, self.columns[0].scale  # type: ignore[assignment]
            if not values.shape[1:]:
                mean, scale = mean[0], scale[0]
        np.subtract(values, mean, out=values)
        np.divide(values, scale, out=values)


class OpenShard:
    """A shard's table, its columns as arrays once they are needed."""

    def __init__(self, table: pa.Table, columns: Sequence[Column]) -> None:
        self._columns = columns
        table = table.select([column.name for column in columns])
        self._plain = [is_plain(field.type) for field in table.schema]
        self._batches = table.to_batches()
        self._bounds = [0, *accumulate(len(batch) for batch in self._batches)]
        self._arrays: list[list[Any] | None] = [None] * len(self._batches)

    def parts(self, start: int, stop: int) -> Iterator[tuple[list[Any], int, int]]:
        """Columns of each record batch that holds some of the rows, and which of its rows."""
        number = bisect_right(self._bounds, start) - 1
        while start < stop:
            base, end = self._bounds[number], min(stop, self._bounds[number + 1])
            if end > start:
                yield self._of_batch(number), start - base, end - base
                start = end
            number += 1

    def _of_batch(self, number: int) -> list[Any]:
        found = self._arrays[number]
        if found is None:
            batch = self._batches[number]
            found = [
                values if column.dtype is None else to_array(values, column, plain=plain)
                for column, values, plain in zip(self._columns, batch.columns, self._plain, strict=True)
            ]
            self._arrays[number] = found
        return found


class Layout:
    """How the wanted columns lie in buffers: those of a round, and those of a batch."""

    def __init__(self, columns: Sequence[Column]) -> None:
        together: dict[Any, list[int]] = {}
        for place, column in enumerate(columns):
            alone = column.dtype is None or column.shape
            key = place if alone else (column.dtype, column.mean is None)
            together.setdefault(key, []).append(place)
        self.columns = tuple(columns)
        self.groups = [Group(tuple(columns[p] for p in ps), tuple(ps)) for ps in together.values()]
        grouped = [name for group in self.groups for name in group.names]
        self._names = [column.name for column in columns]
        self._in_order = grouped == self._names

    def allocate(self, rows: int) -> Buffers:
        """Make buffers, not filled."""
        return [[] if g.python else np.empty((rows, *g.shape), g.columns[0].dtype) for g in self.groups]

    def capacity(self, buffers: Buffers) -> int:
        """Rows that buffers of arrays hold; unlimited if there are none."""
        return min(
            (len(b) for b, g in zip(buffers, self.groups, strict=True) if not g.python), default=1 << 62
        )

    def clear(self, buffers: Buffers) -> None:
        """Forget the parts of Arrow columns; arrays are overwritten."""
        for buffer, group in zip(buffers, self.groups, strict=True):
            if group.python:
                buffer.clear()

    def fill(self, buffers: Buffers, at: int, shard: OpenShard, start: int, stop: int) -> None:
        """Copy rows of a shard to row ``at`` of the buffers."""
        for arrays, first, last in shard.parts(start, stop):
            for buffer, group in zip(buffers, self.groups, strict=True):
                if group.python:
                    buffer.append(arrays[group.places[0]].slice(first, last - first))
                elif len(group.columns) == 1:
                    buffer[at : at + last - first] = arrays[group.places[0]][first:last]
                else:
                    _transpose([arrays[p] for p in group.places], first, last, buffer, at)
            at += last - first

    def join(self, buffers: Buffers) -> None:
        """Make one Arrow array of the parts, so that rows can be taken from it."""
        for buffer, group in zip(buffers, self.groups, strict=True):
            if group.python and len(buffer) > 1:
                buffer[:] = [pa.concat_arrays(buffer)]

    def gather(self, pool: Buffers, index: Longs, out: Buffers, at: int) -> None:
        """Copy the rows ``index`` of a round to row ``at`` of a batch."""
        stop = at + len(index)
        for source, target, group in zip(pool, out, self.groups, strict=True):
            if group.python:
                # `pa.array` imports pandas first
                rows = pa.Array.from_buffers(pa.int64(), len(index), [None, pa.py_buffer(index)])
                target.append(source[0].take(rows))
            else:
                # "clip" needs no second buffer, as "raise" does; every index is in range
                np.take(source, index, axis=0, out=target[at:stop], mode="clip")

    def finish(self, out: Buffers, rows: int) -> Batch:
        """Name the columns of a batch, normalize, and set what lies behind ``rows`` to zero."""
        named: Batch = {}
        for buffer, group in zip(out, self.groups, strict=True):
            if group.python:
                column = group.columns[0]
                named[column.name] = [v for part in buffer for v in python_values(part, column)]
                continue
            group.normalize(buffer)
            if rows < len(buffer):
                buffer[rows:] = 0
            if len(group.columns) > 1:
                named.update(zip(group.names, buffer.T, strict=True))
            else:
                named[group.names[0]] = buffer
        return named if self._in_order else {name: named[name] for name in self._names}


def _transpose(columns: list[Array], first: int, last: int, target: Array, at: int) -> None:
    """Copy rows of columns to rows of a matrix, through a small buffer: writing column by column is slower."""
    rows = min(last - first, _BLOCK)
    if len(columns) < _FEW:
        for number, column in enumerate(columns):
            target[at : at + last - first, number] = column[first:last]
        return
    scratch = np.empty((len(columns), rows + _ODD), target.dtype)[:, :rows]
    for start in range(first, last, _BLOCK):
        stop = min(start + _BLOCK, last)
        for number, column in enumerate(columns):
            scratch[number, : stop - start] = column[start:stop]
        target[at : at + stop - start] = scratch[:, : stop - start].T
        at += stop - start
