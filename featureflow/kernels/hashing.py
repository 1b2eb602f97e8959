"""Stable 64-bit hashes of columns and rows.

The values are part of the product: buckets, splits, tie order and masks come from them, so they never change
(``tests/unit/kernels`` pins them). They depend on values only: not on Arrow's chunking, offsets, widths or
dictionary, nor on the platform or Python's hash seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as t
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)
#: hash of every null
NULL = np.uint64(0x6E75_6C6C_6E75_6C6C)
# one seed for each kind of value, so that 1, 1.0, true and "1" differ
_INTEGER, _FLOAT, _BOOL, _TEXT, _TIMESTAMP, _DATE, _DURATION, _TIME, _LIST, _STRUCT = range(1, 11)


@kernel
def _mix(x: Any) -> Any:
    """Finalizer of MurmurHash3: every input bit flips every output bit with probability one half."""
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xFF51_AFD7_ED55_8CCD)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xC4CE_B9FE_1A85_EC53)
    x ^= x >> np.uint64(33)
    return x


@kernel
def _hash_words(
    words: NDArray[np.uint64], valid: NDArray[np.bool_], start: np.uint64, out: NDArray[np.uint64]
) -> None:
    for i in range(words.size):
        out[i] = _mix(words[i] + start) if valid[i] else NULL


@kernel
def _hash_binary(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    start: np.uint64,
    out: NDArray[np.uint64],
) -> None:
    for i in range(offsets.size - 1):
        if not valid[i]:
            out[i] = NULL
            continue
        size = offsets[i + 1] - offsets[i]
        at = offsets[i]
        h = _mix(start + np.uint64(size) * _GOLDEN)
        while at < offsets[i + 1]:
            word = np.uint64(0)
            for b in range(min(8, offsets[i + 1] - at)):
                word |= np.uint64(data[at + b]) << np.uint64(8 * b)
            h = _mix(h ^ word) + _GOLDEN
            at += 8
        out[i] = _mix(h)


@kernel
def _combine(a: NDArray[np.uint64], b: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    for i in range(a.size):
        out[i] = _mix(a[i] * _GOLDEN + b[i])


@kernel
def _fold(offsets: NDArray[np.int64], items: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    for i in range(offsets.size - 1):
        for j in range(offsets[i], offsets[i + 1]):
            out[i] = _mix(out[i] * _GOLDEN + items[j])


def _start(seed: int) -> np.uint64:
    x = (seed * 0x9E37_79B9_7F4A_7C15 + 0x5851_F42D_4C95_7F2D) % 2**64
    x ^= x >> 32
    return np.uint64(x * 0xD6E8_FEB8_6659_FD93 % 2**64)


def hash_int64(
    values: NDArray[np.int64], valid: NDArray[np.bool_], *, seed: int = _INTEGER
) -> NDArray[np.uint64]:
    """Hash integers by value; :data:`NULL` where not valid."""
    out = np.empty(values.size, np.uint64)
    _hash_words(np.ascontiguousarray(values, np.int64).view(np.uint64), valid, _start(seed), out)
    return out


def hash_float64(
    values: NDArray[np.float64], valid: NDArray[np.bool_], *, seed: int = _FLOAT
) -> NDArray[np.uint64]:
    """Hash floats by value: ``-0.0`` as ``0.0``, every NaN alike; :data:`NULL` where not valid."""
    clean = np.where(np.isnan(values), np.float64("nan"), values + 0.0)
    out = np.empty(values.size, np.uint64)
    _hash_words(clean.view(np.uint64), valid, _start(seed), out)
    return out


def hash_binary(
    offsets: NDArray[Any], data: NDArray[np.uint8], valid: NDArray[np.bool_], *, seed: int = _TEXT
) -> NDArray[np.uint64]:
    """Hash byte strings ``data[offsets[i]:offsets[i + 1]]``; :data:`NULL` where not valid."""
    out = np.empty(offsets.size - 1, np.uint64)
    _hash_binary(offsets.astype(np.int64, copy=False), data, valid, _start(seed), out)
    return out


def combine(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash of a pair of hashes; order matters."""
    out = np.empty(first.size, np.uint64)
    _combine(first, second, out)
    return out


def _validity(array: pa.Array) -> NDArray[np.bool_]:
    if array.null_count == 0:
        return np.ones(len(array), np.bool_)
    mask: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return mask


def _fixed(array: pa.Array, dtype: str) -> NDArray[Any]:
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype)[array.offset : array.offset + len(array)]


def _hash_text(array: pa.Array) -> NDArray[np.uint64]:
    if len(array) == 0:
        return np.zeros(0, np.uint64)
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.zeros(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    return hash_binary(offsets, data, _validity(array))


def _hash_nested(array: pa.Array) -> NDArray[np.uint64]:
    valid = _validity(array)
    if t.is_struct(array.type):
        out = np.full(len(array), _start(_STRUCT), np.uint64)
        for child in array.flatten():
            out = combine(out, _hash_array(child))
    else:
        plain = array.cast(pa.large_list(array.type.value_type))
        lengths = plain.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        out = hash_int64(lengths, np.ones(len(array), np.bool_), seed=_LIST)
        _fold(offsets, _hash_array(plain.flatten()), out)
    out[~valid] = NULL
    return out


def _hash_time(array: pa.Array) -> NDArray[np.uint64]:
    kind, valid = array.type, _validity(array)
    if t.is_date(kind):
        days = _fixed(array.cast(pa.date32()), "int32").astype(np.int64)
        return hash_int64(days, valid, seed=_DATE)
    if t.is_timestamp(kind):
        target, seed = pa.timestamp("us", tz=kind.tz), _TIMESTAMP
    elif t.is_duration(kind):
        target, seed = pa.duration("us"), _DURATION
    else:
        target, seed = pa.time64("us"), _TIME
    return hash_int64(_fixed(array.cast(target, safe=False), "int64"), valid, seed=seed)


def _hash_array(array: pa.Array) -> NDArray[np.uint64]:
    kind = array.type
    if t.is_dictionary(kind):
        if len(array.dictionary) == 0:
            return np.full(len(array), NULL, np.uint64)
        codes = array.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return np.where(_validity(array), _hash_array(array.dictionary)[codes], NULL)
    if t.is_null(kind):
        return np.full(len(array), NULL, np.uint64)
    if t.is_boolean(kind):
        return hash_int64(
            _fixed(array.cast(pa.uint8()), "uint8").astype(np.int64), _validity(array), seed=_BOOL
        )
    if t.is_integer(kind):
        wide = pa.uint64() if t.is_uint64(kind) else pa.int64()
        return hash_int64(_fixed(array.cast(wide), "int64"), _validity(array))
    if t.is_floating(kind):
        return hash_float64(_fixed(array.cast(pa.float64()), "float64"), _validity(array))
    if t.is_temporal(kind) and not t.is_interval(kind):
        return _hash_time(array)
    if t.is_decimal(kind):
        return _hash_text(array.cast(pa.string()).cast(pa.large_binary()))
    if t.is_struct(kind) or t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        return _hash_nested(array)
    if t.is_map(kind):
        entries = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        return _hash_nested(array.cast(pa.list_(entries)))
    try:
        return _hash_text(array.cast(pa.large_binary()))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise TypeError(
            f"no hash for a column of type {kind}. Cast it in the source's `columns:`."
        ) from error


def hash_column(column: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """Hash a column by value.

    Integers of any width, timestamps of any unit (as microseconds), dates, strings and binaries hash by value; all
    nulls are :data:`NULL`. An integer, a float, a boolean and a string never hash alike on purpose.

    Raises
    ------
    TypeError
        For a type that has no hash.

    Examples
    --------
    >>> bool(hash_column(pa.array([5], pa.int8()))[0] == hash_column(pa.array([5], pa.int64()))[0])
    True
    """
    if isinstance(column, pa.ChunkedArray):
        parts = [_hash_array(chunk) for chunk in column.chunks]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint64)
    return _hash_array(column)


def hash_rows(
    columns: pa.Table | pa.RecordBatch | Sequence[pa.Array | pa.ChunkedArray],
) -> NDArray[np.uint64]:
    """Hash rows over all their columns, in the order given; names do not matter.

    Raises
    ------
    ValueError
        If there is no column.
    """
    arrays = list(columns.columns) if isinstance(columns, pa.Table | pa.RecordBatch) else list(columns)
    if not arrays:
        raise ValueError("hash_rows: needs at least one column.")
    out = hash_column(arrays[0])
    for array in arrays[1:]:
        out = combine(out, hash_column(array))
    return out
