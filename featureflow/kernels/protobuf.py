"""Numbers and values as protobuf lays them out, many at once, and the frames of TFRecord around its messages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel
from featureflow.kernels.records import Bytes, Longs, Ragged

_LONGEST_VARINT = 10


@kernel
def _write_varints(values: NDArray[np.uint64], out: Bytes, offsets: Longs) -> None:
    at = 0
    for i in range(values.size):
        offsets[i] = at
        value = values[i]
        while value >= np.uint64(128):
            out[at] = np.uint8(value & np.uint64(127)) | np.uint8(128)
            value = value >> np.uint64(7)
            at += 1
        out[at] = np.uint8(value)
        at += 1
    offsets[values.size] = at


@kernel
def _read_varints(data: Bytes, starts: Longs, count: int, out: NDArray[np.uint64], ends: Longs) -> bool:
    for i in range(starts.size):
        at = starts[i]
        for k in range(count):
            value = np.uint64(0)
            shift = np.uint64(0)
            while True:
                if at < 0 or at >= data.size or shift > np.uint64(63):
                    return False
                byte = data[at]
                at += 1
                value |= np.uint64(byte & np.uint8(127)) << shift
                shift += np.uint64(7)
                if byte < np.uint8(128):
                    break
            out[i, k] = value
        ends[i] = at
    return True


def write_varints(values: Longs) -> Ragged:
    r"""Protobuf's variable-length integers, 1 to 10 bytes each; negative ones have 10, as protobuf's ``int64``.

    Examples
    --------
    >>> made = write_varints(np.array([1, 300]))
    >>> bytes(made.data), made.offsets.tolist()
    (b'\x01\xac\x02', [0, 1, 3])
    """
    plain = np.ascontiguousarray(values, np.int64).view(np.uint64)
    out, offsets = np.empty(values.size * _LONGEST_VARINT, np.uint8), np.empty(values.size + 1, np.int64)
    _write_varints(plain, out, offsets)
    return Ragged(out[: offsets[-1]], offsets)


def read_varints(data: Bytes, starts: Longs, count: int = 1) -> tuple[Longs, Longs]:
    r"""Read ``count`` varints one after another from each start.

    Returns
    -------
    tuple
        Values of shape (records, count), and where each record's last one ends.

    Raises
    ------
    ValueError
        If one does not end inside ``data`` or is longer than 64 bits.

    Examples
    --------
    >>> values, ends = read_varints(np.frombuffer(b"\x01\xac\x02", np.uint8), np.array([0]), 2)
    >>> values.tolist(), ends.tolist()
    ([[1, 300]], [3])
    """
    values, ends = np.empty((starts.size, count), np.uint64), np.empty(starts.size, np.int64)
    if not _read_varints(data, starts, count, values, ends):
        raise ValueError(f"a number of variable length does not end inside the {data.size} bytes.")
    return values.view(np.int64), ends


@kernel
def _read_delimited(data: Bytes, tag: int, starts: Longs, lengths: Longs) -> bool:
    at = 0
    for i in range(starts.size):
        if at >= data.size or data[at] != tag:
            return False
        at += 1
        length = np.int64(0)
        shift = 0
        while True:
            if at >= data.size or shift > 56:
                return False
            byte = data[at]
            at += 1
            length |= np.int64(byte & np.uint8(127)) << np.int64(shift)
            shift += 7
            if byte < np.uint8(128):
                break
        if length > data.size - at:
            return False
        starts[i] = at
        lengths[i] = length
        at += int(length)
    return bool(at == data.size)


def read_delimited(data: Bytes, tag: int, count: int) -> tuple[Longs, Longs]:
    r"""Find ``count`` values that follow each other, each behind a tag and its length as a varint (protobuf).

    Returns
    -------
    tuple
        Where each value starts, and its bytes.

    Raises
    ------
    ValueError
        If they do not end with ``data``.

    Examples
    --------
    >>> starts, lengths = read_delimited(np.frombuffer(b"\n\x01a\n\x03nna", np.uint8), 10, 2)
    >>> starts.tolist(), lengths.tolist()
    ([2, 5], [1, 3])
    """
    starts, lengths = np.empty(count, np.int64), np.empty(count, np.int64)
    if not _read_delimited(data, tag, starts, lengths):
        raise ValueError(f"{count} values do not add up to the {data.size} bytes that are there.")
    return starts, lengths


@kernel
def _count_frames(data: Bytes, prefix: int, extra: int, starts: Longs, lengths: Longs) -> int:
    at, n = 0, 0
    while at < data.size:
        if at + prefix > data.size:
            return -1
        length = np.int64(0)
        for k in range(8):
            length |= np.int64(data[at + k]) << np.int64(8 * k)
        if length < 0 or length > data.size or at + prefix + length + extra > data.size:
            return -1
        if starts.size:
            starts[n] = at + prefix
            lengths[n] = length
        n += 1
        at += prefix + int(length) + extra
    return n


def read_frames(data: Bytes, prefix: int, extra: int) -> tuple[Longs, Longs]:
    """Find records that follow each other, each behind its length in 8 bytes (TFRecord).

    Parameters
    ----------
    data
        Whole file.
    prefix, extra
        Bytes before each record, the length being the first 8 of them, and bytes after it.

    Returns
    -------
    tuple
        Where each record's own bytes start, and how many there are.

    Raises
    ------
    ValueError
        If the last one does not end with ``data``.
    """
    nothing = np.empty(0, np.int64)
    n = _count_frames(data, prefix, extra, nothing, nothing)
    if n < 0:
        raise ValueError(f"the lengths of its records do not add up to the {data.size} bytes that are there.")
    starts, lengths = np.empty(n, np.int64), np.empty(n, np.int64)
    if n:
        _count_frames(data, prefix, extra, starts, lengths)
    return starts, lengths
