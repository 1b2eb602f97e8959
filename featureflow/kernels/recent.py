"""The first and last k values of windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.columns import Dense
from featureflow.kernels.jit import kernel


@kernel
def _edges(
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    offsets: NDArray[np.int64],
    newest: bool,
    out: NDArray[np.int64],
) -> None:
    for i in range(lo.size):
        for r in range(offsets[i + 1] - offsets[i]):
            out[offsets[i] + r] = hi[i] - 1 - r if newest else lo[i] + r


def window_edges(selected: Dense, *, k: int, newest: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and positions of the first k rows (oldest first) or last k (newest first) of each window."""
    offsets = np.zeros(selected.lo.size + 1, np.int64)
    np.cumsum(np.minimum(selected.counts, k), out=offsets[1:])
    out = np.empty(int(offsets[-1]), np.int64)
    _edges(selected.lo, selected.hi, offsets, newest, out)
    return offsets, out


@kernel
def _recent_distinct(
    codes: NDArray[np.int32],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    start: NDArray[np.int64],
    count: NDArray[np.int64],
    at: NDArray[np.int32],
    older: NDArray[np.int32],
    newer: NDArray[np.int32],
    out: NDArray[np.int64],
) -> None:
    """A linked list of each value's newest row, by recency: a value that comes again moves to the end."""
    newest = -1
    left = right = 0
    for i in range(lo.size):
        if lo[i] >= right:
            for j in range(left, right):
                at[codes[j]] = -1
            newest = -1
            left = right = lo[i]
        for j in range(right, hi[i]):
            before = at[codes[j]]
            if before >= 0:
                if older[before] >= 0:
                    newer[older[before]] = newer[before]
                if newer[before] >= 0:
                    older[newer[before]] = older[before]
                else:
                    newest = older[before]
            older[j] = newest
            newer[j] = -1
            if newest >= 0:
                newer[newest] = j
            newest = j
            at[codes[j]] = j
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            if at[codes[j]] == j:  # it is the oldest of all
                at[codes[j]] = -1
                if newer[j] >= 0:
                    older[newer[j]] = -1
                else:
                    newest = -1
        left = lo[i]
        row = newest
        for r in range(count[i]):
            out[start[i] + r] = row
            row = older[row]


def window_distinct_edges(
    codes: NDArray[np.int32], size: int, selected: Dense, distinct: NDArray[np.int64], *, k: int, newest: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """:func:`window_edges` where a value counts once: at its first occurrence from that end.

    Notes
    -----
    Cost: O(n + m k). Seen from the other end of the data, the first k are the last k.
    """
    offsets = np.zeros(distinct.size + 1, np.int64)
    np.cumsum(np.minimum(distinct, k), out=offsets[1:])
    start, count = offsets[:-1], np.diff(offsets)
    out = np.empty(int(offsets[-1]), np.int64)
    lo, hi, n = selected.lo, selected.hi, codes.size
    if not newest:
        codes, lo, hi = codes[::-1].copy(), (n - hi)[::-1].copy(), (n - selected.lo)[::-1].copy()
        start, count = start[::-1].copy(), count[::-1].copy()
    at = np.full(size, -1, np.int32)
    older, newer = np.empty(n, np.int32), np.empty(n, np.int32)
    _recent_distinct(codes, lo, hi, start, count, at, older, newer, out)
    return offsets, out if newest else n - 1 - out
