"""Records of bytes, many at once: laid out from columns and read back into columns.

A record is the bytes of one row, or of a few rows, one part after another. A part is fixed (each record has as many
bytes of it) or ragged. Formats of training shards say which parts there are; here they are copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Bytes = NDArray[np.uint8]
Longs = NDArray[np.int64]

_CACHED = 1 << 18


@dataclass(frozen=True, slots=True)
class Ragged:
    """A part of any length: that of record ``i`` is ``data[offsets[i]:offsets[i + 1]]``.

    Parameters
    ----------
    data, offsets
        Bytes, and one offset more than there are records.
    align
        Zeros follow up to a multiple of this many bytes.
    """

    data: Bytes
    offsets: Longs
    align: int = 1

    @property
    def lengths(self) -> Longs:
        """Bytes of each, without the zeros."""
        return np.diff(self.offsets)

    @property
    def rooms(self) -> Longs:
        """Bytes of each, with the zeros."""
        lengths = self.lengths
        return lengths if self.align == 1 else -(-lengths // self.align) * self.align


#: bytes that all records share, an array of one row for each record, or bytes of any length
Part = bytes | Bytes | Ragged


@kernel
def _scatter(out: Bytes, starts: Longs, data: Bytes, at: Longs, lengths: Longs) -> None:
    # unsigned, because Numba tests a signed index for being negative, which keeps the loop scalar: 8 times slower
    for i in range(starts.size):
        a, b = np.uint64(starts[i]), np.uint64(at[i])
        for j in range(np.uint64(lengths[i])):
            out[a + j] = data[b + j]


@kernel
def _gather(data: Bytes, starts: Longs, offsets: Longs, out: Bytes) -> None:
    for i in range(starts.size):
        a, b = np.uint64(starts[i]), np.uint64(offsets[i])
        for j in range(np.uint64(offsets[i + 1] - offsets[i])):
            out[b + j] = data[a + j]


def _width(part: bytes | Bytes) -> int:
    return len(part) if isinstance(part, bytes) else part.shape[1]


def _table(parts: Sequence[bytes | Bytes], n_records: int) -> Bytes:
    """Fixed parts side by side, one row for each record."""
    table = np.empty((n_records, sum(map(_width, parts))), np.uint8)
    # every part writes to every row: do that while the rows are in the cache
    step = max(1, _CACHED // max(1, table.shape[1]))
    for first in range(0, n_records, step):
        rows = table[first : first + step]
        at = 0
        for part in parts:
            width = _width(part)
            rows[:, at : at + width] = (
                np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part[first : first + step]
            )
            at += width
    return table


def _grouped(parts: Sequence[Part], n_records: int) -> list[Part]:
    """The same parts, neighbours of fixed length as one."""
    grouped: list[Part] = []
    for ragged, group in groupby(parts, key=lambda part: isinstance(part, Ragged)):
        members = list(group)
        fixed = [part for part in members if not isinstance(part, Ragged)]
        if ragged or len(members) == 1:
            grouped += members
        elif all(isinstance(part, bytes) for part in fixed):
            grouped.append(b"".join(bytes(part) for part in fixed))
        else:
            grouped.append(_table(fixed, n_records))
    return grouped


def interleave(parts: Sequence[Part], n_records: int) -> tuple[Bytes, Longs]:
    """Lay the parts of every record one after another.

    Returns
    -------
    tuple
        The bytes of all records, and one offset more than there are records.

    Notes
    -----
    Cost: one copy of ragged parts, and of fixed ones where there is no ragged one; else two of fixed ones.

    Examples
    --------
    >>> names = Ragged(np.frombuffer(b"anna", np.uint8), np.array([0, 1, 4]))
    >>> data, offsets = interleave([b"<", names, b">"], 2)
    >>> bytes(data), offsets.tolist()
    (b'<a><nna>', [0, 3, 8])
    """
    fixed = [part for part in parts if not isinstance(part, Ragged)]
    if len(fixed) == len(parts):
        table = _table(fixed, n_records)
        return table.reshape(-1), np.arange(n_records + 1, dtype=np.int64) * table.shape[1]
    grouped = _grouped(parts, n_records)
    offsets = np.zeros(n_records + 1, np.int64)
    rooms = [part.rooms if isinstance(part, Ragged) else np.int64(_width(part)) for part in grouped]
    for room in rooms:
        offsets[1:] += room
    np.cumsum(offsets, out=offsets)
    padded = any(isinstance(part, Ragged) and part.align > 1 for part in grouped)
    out = np.zeros(offsets[-1], np.uint8) if padded else np.empty(offsets[-1], np.uint8)
    starts = offsets[:-1].copy()
    for part, room in zip(grouped, rooms, strict=True):
        if isinstance(part, Ragged):
            _scatter(out, starts, part.data, part.offsets[:-1], part.lengths)
        else:
            width = _width(part)
            flat = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part.reshape(-1)
            step = 0 if isinstance(part, bytes) else width
            at = np.arange(n_records, dtype=np.int64) * step
            _scatter(out, starts, flat, at, np.full(n_records, width, np.int64))
        starts += room
    return out, offsets


def gather_bytes(data: Bytes, starts: Longs, lengths: Longs) -> Ragged:
    """Copy ``lengths[i]`` bytes from ``starts[i]`` for every record.

    Raises
    ------
    ValueError
        If a part reaches beyond ``data``.

    Examples
    --------
    >>> found = gather_bytes(np.frombuffer(b"<a><nna>", np.uint8), np.array([1, 4]), np.array([1, 3]))
    >>> bytes(found.data), found.offsets.tolist()
    (b'anna', [0, 1, 4])
    """
    check_inside(data, starts, lengths)
    offsets = np.zeros(starts.size + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    out = np.empty(offsets[-1], np.uint8)
    _gather(data, starts, offsets, out)
    return Ragged(out, offsets)


def check_inside(data: Bytes, starts: Longs, lengths: Longs | int) -> None:
    """Raise `ValueError` unless every part lies inside ``data``."""
    ends = starts + lengths
    if starts.size and (starts.min() < 0 or ends.max() > data.size or (ends < starts).any()):
        raise ValueError(f"a part of a record lies outside the {data.size} bytes that are there.")


def gather_fixed(data: Bytes, starts: Longs, width: int) -> Bytes:
    """Copy ``width`` bytes from each of ``starts``, as an array of one row for each record.

    Raises
    ------
    ValueError
        If a part reaches beyond ``data``.

    Examples
    --------
    >>> gather_fixed(np.frombuffer(b"<a><b>", np.uint8), np.array([1, 4]), 1).tobytes()
    b'ab'
    """
    return gather_bytes(data, starts, np.full(starts.size, width, np.int64)).data.reshape(starts.size, width)
