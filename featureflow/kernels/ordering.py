"""Sorting rows by (key, time), in time linear in the rows.

A radix sort over packed (key, time) words: constant digits are skipped, whole seconds or milliseconds are sorted as
such, and rows that already come in time order need one counting sort by key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

#: 2,048 counters and write positions stay in the first-level cache; 8 bits need a third more passes
_DIGIT = 11
_BUCKETS = 1 << _DIGIT
_MASK = np.uint64(_BUCKETS - 1)


@kernel
def _radix_sort(
    keys: NDArray[np.uint64],
    order: NDArray[np.uint32],
    keys_out: NDArray[np.uint64],
    order_out: NDArray[np.uint32],
    passes: int,
) -> bool:
    """Sort stably by ``keys``; returns whether the result is in the ``_out`` arrays."""
    counts = np.zeros((passes, _BUCKETS), np.int64)
    for i in range(keys.size):
        key = keys[i]
        for p in range(passes):
            counts[p, (key >> np.uint64(p * _DIGIT)) & _MASK] += 1
    swapped = False
    for p in range(passes):
        shift = np.uint64(p * _DIGIT)
        if keys.size > 0 and counts[p, (keys[0] >> shift) & _MASK] == keys.size:
            continue
        position = 0
        for b in range(_BUCKETS):
            count = counts[p, b]
            counts[p, b] = position
            position += count
        for i in range(keys.size):
            key = keys[i]
            bucket = (key >> shift) & _MASK
            to = counts[p, bucket]
            counts[p, bucket] = to + 1
            keys_out[to] = key
            order_out[to] = order[i]
        keys, keys_out = keys_out, keys
        order, order_out = order_out, order
        swapped = not swapped
    return swapped


@kernel
def _counting_sort(codes: NDArray[np.int64], groups: int, out: NDArray[np.int64]) -> None:
    starts = np.zeros(groups + 1, np.int64)
    for i in range(codes.size):
        starts[codes[i] + 1] += 1
    for g in range(groups):
        starts[g + 1] += starts[g]
    for i in range(codes.size):
        to = starts[codes[i]]
        starts[codes[i]] = to + 1
        out[to] = i


@kernel
def _pack(
    codes: NDArray[np.int64],
    times: NDArray[np.int64],
    first: int,
    unit: int,
    bits: int,
    out: NDArray[np.uint64],
) -> None:
    for i in range(codes.size):
        offset = np.uint64(times[i] - first)
        if unit > 1:
            offset //= np.uint64(unit)
        out[i] = (np.uint64(codes[i]) << np.uint64(bits)) | offset


@kernel
def _survey(times: NDArray[np.int64]) -> tuple[int, int, int, bool]:
    """Smallest and largest time, the coarsest unit of all distances, and whether they already ascend."""
    low = times[0]
    high = times[0]
    unit = 1_000_000
    ascending = True
    for i in range(times.size):
        t = times[i]
        low = min(low, t)
        high = max(high, t)
        if unit > 1:
            # unsigned: the distance of two int64 can need 64 bits
            distance = np.uint64(t) - np.uint64(times[0])
            if t < times[0]:
                distance = np.uint64(0) - distance
            while unit > 1 and distance % np.uint64(unit) != np.uint64(0):
                unit //= 1000
        if i > 0 and t < times[i - 1]:
            ascending = False
    return low, high, unit, ascending


def _radix_order(words: NDArray[np.uint64], bits: int) -> NDArray[np.uint32]:
    order = np.arange(words.size, dtype=np.uint32)
    words_out, order_out = np.empty_like(words), np.empty_like(order)
    passes = max(1, -(-bits // _DIGIT))
    swapped = _radix_sort(words, order, words_out, order_out, passes)
    return order_out if swapped else order


def _by_code(codes: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    out = np.empty(codes.size, np.int64)
    _counting_sort(codes, groups, out)
    return out


def _by_code_and_time(codes: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    groups = int(codes.max()) + 1
    first, last, unit, ascending = _survey(times)
    if ascending:
        return _by_code(codes, groups)
    bits = ((int(last) - int(first)) // int(unit)).bit_length()
    code_bits = (groups - 1).bit_length()
    words = np.empty(codes.size, np.uint64)
    if bits + code_bits <= 64:
        _pack(codes, times, first, unit, bits if code_bits else 0, words)
        return _radix_order(words, bits + code_bits).astype(np.int64)
    # least significant first: by time alone, then stably by code
    _pack(np.zeros_like(codes), times, first, unit, 0, words)
    order = _radix_order(words, bits).astype(np.int64)
    return order[_by_code(codes[order], groups)]


def sort_order(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stable permutation that sorts integers.

    Examples
    --------
    >>> sort_order(np.array([30, -1, 30, 2])).tolist()
    [1, 3, 0, 2]
    """
    if keys.size == 0:
        return np.zeros(0, np.int64)
    return _by_code_and_time(np.zeros(keys.size, np.int64), np.ascontiguousarray(keys, np.int64))


def group_order(
    key_codes: NDArray[Any], times: NDArray[np.int64], *tie_keys: NDArray[Any]
) -> NDArray[np.int64]:
    """Permutation that sorts rows by (key code, time, tie keys...), stably.

    Parameters
    ----------
    key_codes
        Group of each row: integers from 0, shape (n,).
    times
        int64, shape (n,).
    tie_keys
        Integer, float or bool arrays of shape (n,) that order rows of one key and time; first one first.
        Only rows that tie are ever looked at.

    Returns
    -------
    NDArray[np.int64]
        ``rows[group_order(...)]`` is sorted. Rows equal in everything keep their order.

    Raises
    ------
    ValueError
        If shapes differ, a code is negative, or there are 2**32 rows or more.

    Notes
    -----
    Cost: O(n) for usual ranges (packed radix sort); rows that tie cost a comparison sort among themselves.

    Examples
    --------
    >>> group_order(np.array([1, 0, 1]), np.array([5, 9, 3])).tolist()
    [1, 2, 0]
    """
    if key_codes.shape != times.shape or any(tie.shape != times.shape for tie in tie_keys):
        raise ValueError("key codes, times and tie keys must have one shape.")
    if times.size >= 2**32:
        raise ValueError(f"{times.size} rows in one partition; at most 2**32 - 1. Use more buckets.")
    if times.size == 0:
        return np.zeros(0, np.int64)
    codes = np.ascontiguousarray(key_codes, np.int64)
    if int(codes.min()) < 0:
        raise ValueError(f"key codes must not be negative; got {int(codes.min())}.")
    order = _by_code_and_time(codes, np.ascontiguousarray(times, np.int64))
    if tie_keys:
        starts, stops = runs_of_ties(codes[order], times[order])
        if starts.size:
            # rows of all runs, run by run: positions start..stop of each, without a Python loop
            lengths = stops - starts
            run = np.repeat(np.arange(starts.size), lengths)
            within = np.arange(run.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            positions = starts[run] + within
            rows = order[positions]
            sorted_within = np.lexsort((*(tie[rows] for tie in reversed(tie_keys)), run))
            order[positions] = rows[sorted_within]
    return order


def offsets_from_codes(sorted_codes: NDArray[Any], n_groups: int) -> NDArray[np.int64]:
    """Where each group starts: rows of group ``k`` are ``offsets[k]:offsets[k + 1]``.

    Examples
    --------
    >>> offsets_from_codes(np.array([0, 0, 2]), 3).tolist()
    [0, 2, 2, 3]
    """
    offsets = np.zeros(n_groups + 1, np.int64)
    np.cumsum(np.bincount(sorted_codes, minlength=n_groups), out=offsets[1:])
    return offsets


def runs_of_ties(
    sorted_codes: NDArray[Any], sorted_times: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs of two or more rows of one key and time, as ``start`` (inclusive) and ``stop`` (exclusive).

    Examples
    --------
    >>> start, stop = runs_of_ties(np.array([0, 0, 0, 1]), np.array([4, 7, 7, 7]))
    >>> start.tolist(), stop.tolist()
    ([1], [3])
    """
    same = np.zeros(sorted_times.size + 1, np.bool_)
    if sorted_times.size:
        same[1:-1] = (sorted_codes[1:] == sorted_codes[:-1]) & (sorted_times[1:] == sorted_times[:-1])
    # same[i]: row i ties with row i - 1; a run starts where that turns on and stops where it turns off
    starts = np.flatnonzero(~same[:-1] & same[1:])
    stops = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    return starts.astype(np.int64), stops.astype(np.int64)
