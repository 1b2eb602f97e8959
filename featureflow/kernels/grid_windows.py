"""Windows along one dimension of an array: sums, extrema and moments, each of the values of its own window only.

A window of ``w`` values is put together from windows of 1, 2, 4, 8 … values (``S2[t] = S1[t] + S1[t-1]``,
``S4[t] = S2[t] + S2[t-2]`` …), so that a value takes about ``2 log2(w)`` additions in an order that depends on ``w``
alone: where a block starts does not show in the result, as it does with running sums. One pass over the array: rows of
some columns at a time, of which the last ``w`` are kept in a ring that fits into the cache.
"""

# ruff: noqa: FURB136  `a if a < b else b` is one instruction; Numba's `min` tests for NaN first

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Array = NDArray[np.float32] | NDArray[np.float64]

#: what `window_totals` gives
MEAN, SUM, MIN, MAX, COUNT = range(5)
#: a ring's bytes: narrow tiles cost more than a ring that leaves the cache (measured: 16 columns take 4 times 256)
_RING_BYTES = 5 * 2**20


@kernel
def window_totals(
    x: Array, window: int, first: int, minimum: int, op: int, ring: NDArray[np.float64], out: Array
) -> None:
    """Mean, sum, minimum, maximum or number of the values in windows; NaN stands for no value.

    Parameters
    ----------
    x
        C-contiguous ``(outer, n, inner)``; windows go along ``n``.
    first
        Position at which the first window of the output ends; windows may reach past both ends of ``x``.
    minimum
        Fewer values than this make NaN; at least 1.
    ring
        Scratch of `ring_for`.
    out
        ``(outer, m, inner)``: ``out[:, k]`` is the window that ends at ``first + k``, that position included.
    """
    n, inner, last = x.shape[1], x.shape[2], first + out.shape[1]
    levels, mask, tile = ring.shape[0], ring.shape[1] - 1, ring.shape[2]
    start = max(0, first - window + 1)
    empty = np.inf if op == MIN else (-np.inf if op == MAX else 0.0)
    count = np.empty(tile)
    total = np.empty(tile)
    for outer in range(x.shape[0]):
        for left in range(0, inner, tile):
            width = min(tile, inner - left)
            count[:] = 0.0
            for t in range(start, last):
                # 1. the row itself, and how many values the window has (whole numbers: exact from any start)
                single = ring[0, t & mask]
                if t < n:
                    row = x[outer, t, left : left + width]
                    for c in range(width):
                        value = np.float64(row[c])
                        single[c] = empty if np.isnan(value) else value
                        count[c] += 0.0 if np.isnan(value) else 1.0
                else:
                    single[:width] = empty
                if start <= t - window < n:
                    row = x[outer, t - window, left : left + width]
                    for c in range(width):
                        count[c] -= 0.0 if np.isnan(row[c]) else 1.0
                # 2. windows of 2, 4, 8 … rows
                for level in range(1, levels):
                    half = 1 << (level - 1)
                    here, lower = ring[level, t & mask], ring[level - 1, t & mask]
                    if t - half < start:
                        here[:width] = lower[:width]
                        continue
                    back = ring[level - 1, (t - half) & mask]
                    _join(lower, back, op, here[:width])
                if t < first:
                    continue
                # 3. the window from those of its binary digits
                offset = 0
                for level in range(levels - 1, -1, -1):
                    if op == COUNT or not (window >> level) & 1 or t - offset < start:
                        continue
                    part = ring[level, (t - offset) & mask]
                    if offset == 0:
                        total[:width] = part[:width]
                    else:
                        _join(total, part, op, total[:width])
                    offset += 1 << level
                _store(total, count, minimum, op, out[outer, t - first, left : left + width])


@kernel
def _join(one: NDArray[np.float64], other: NDArray[np.float64], op: int, target: NDArray[np.float64]) -> None:
    """Join the windows of one row to those of another."""
    if op == MIN:
        for c in range(target.size):
            target[c] = one[c] if one[c] < other[c] else other[c]
    elif op == MAX:
        for c in range(target.size):
            target[c] = one[c] if one[c] > other[c] else other[c]
    elif op != COUNT:
        for c in range(target.size):
            target[c] = one[c] + other[c]


@kernel
def _store(
    total: NDArray[np.float64], count: NDArray[np.float64], minimum: int, op: int, target: Array
) -> None:
    """Finish a row; every NaN has the same bits."""
    if op == MEAN:
        for c in range(target.size):
            mean = total[c] / count[c]
            target[c] = np.nan if count[c] < minimum or np.isnan(mean) else mean
    elif op == COUNT:
        for c in range(target.size):
            target[c] = count[c] if count[c] >= minimum else np.nan
    else:
        for c in range(target.size):
            target[c] = np.nan if count[c] < minimum or np.isnan(total[c]) else total[c]


def ring_for(window: int, inner: int, arrays: int = 1) -> NDArray[np.float64]:
    """Scratch for windows of that many rows: levels, rows, columns."""
    levels = window.bit_length()
    rows = 1 << (window - 1).bit_length()
    tile = max(8, min(256, inner, _RING_BYTES // (8 * levels * rows * arrays) // 8 * 8))
    return np.empty((levels * arrays, rows, tile))


@kernel
def window_moments(
    x: Array,
    window: int,
    first: int,
    minimum: int,
    ddof: int,
    root: bool,
    ring: NDArray[np.float64],
    out: Array,
) -> None:
    """Variance or standard deviation in windows; as `window_totals` otherwise.

    Windows are merged as (number, mean, squared deviations), so that nothing cancels.
    """
    n, inner, last = x.shape[1], x.shape[2], first + out.shape[1]
    levels, mask, tile = ring.shape[0] // 3, ring.shape[1] - 1, ring.shape[2]
    start = max(0, first - window + 1)
    count, mean, squares = np.empty(tile), np.empty(tile), np.empty(tile)
    for outer in range(x.shape[0]):
        for left in range(0, inner, tile):
            width = min(tile, inner - left)
            for t in range(start, last):
                here = t & mask
                for c in range(width):
                    value = np.float64(x[outer, t, left + c]) if t < n else np.nan
                    there = not np.isnan(value)
                    ring[0, here, c] = 1.0 if there else 0.0
                    ring[levels, here, c] = value if there else 0.0
                    # NaN for infinities, which have no deviation
                    ring[2 * levels, here, c] = value - value if there else 0.0
                for level in range(1, levels):
                    half = 1 << (level - 1)
                    count[:width] = ring[level - 1, here, :width]
                    mean[:width] = ring[levels + level - 1, here, :width]
                    squares[:width] = ring[2 * levels + level - 1, here, :width]
                    if t - half >= start:
                        _merge(ring, levels, level - 1, (t - half) & mask, width, count, mean, squares)
                    ring[level, here, :width] = count[:width]
                    ring[levels + level, here, :width] = mean[:width]
                    ring[2 * levels + level, here, :width] = squares[:width]
                if t < first:
                    continue
                count[:width], mean[:width], squares[:width] = 0.0, 0.0, 0.0
                offset = 0
                for level in range(levels - 1, -1, -1):
                    if (window >> level) & 1 and t - offset >= start:
                        _merge(ring, levels, level, (t - offset) & mask, width, count, mean, squares)
                        offset += 1 << level
                target = out[outer, t - first, left : left + width]
                for c in range(width):
                    if count[c] >= minimum and count[c] > ddof:
                        variance = squares[c] / (count[c] - ddof)
                        target[c] = (
                            np.nan if np.isnan(variance) else (np.sqrt(variance) if root else variance)
                        )
                    else:
                        target[c] = np.nan


@kernel
def _merge(
    ring: NDArray[np.float64],
    levels: int,
    level: int,
    row: int,
    width: int,
    count: NDArray[np.float64],
    mean: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Add a row's window to the moments so far (Chan, Golub and LeVeque 1983)."""
    counts, means, others = ring[level, row], ring[levels + level, row], ring[2 * levels + level, row]
    for c in range(width):
        both = count[c] + counts[c]
        share = counts[c] / both if both > 0.0 else 0.0
        apart = means[c] - mean[c]
        squares[c] += others[c] + apart * apart * (count[c] * share)
        mean[c] += apart * share
        count[c] = both


@kernel
def window_medians(x: Array, window: int, first: int, minimum: int, out: Array) -> None:
    """Median of the values in windows, the mean of the middle two if their number is even; as `window_totals`."""
    n, inner, last = x.shape[1], x.shape[2], first + out.shape[1]
    start = max(0, first - window + 1)
    rows = last - start
    columns = np.empty((16, rows))  # of 16 columns at a time, so that each cache line of x is read once
    ordered = np.empty(window + 1)
    for outer in range(x.shape[0]):
        for left in range(0, inner, 16):
            width = min(16, inner - left)
            for t in range(start, last):
                for c in range(width):
                    # + 0.0 makes one zero of two: which of equal values leaves the window must not matter
                    columns[c, t - start] = np.float64(x[outer, t, left + c]) + 0.0 if t < n else np.nan
            for c in range(width):
                size = 0
                for k in range(rows):
                    value = columns[c, k]
                    gone = columns[c, k - window] if k >= window else np.nan
                    if not np.isnan(gone):
                        place = np.searchsorted(ordered[:size], gone)
                        for i in range(place, size - 1):
                            ordered[i] = ordered[i + 1]
                        size -= 1
                    if not np.isnan(value):
                        place = np.searchsorted(ordered[:size], value)
                        for i in range(size, place, -1):
                            ordered[i] = ordered[i - 1]
                        ordered[place] = value
                        size += 1
                    if start + k >= first:
                        middle = size // 2
                        found = np.nan
                        if size >= minimum:
                            found = ordered[middle]
                            if size % 2 == 0:
                                found = (ordered[middle - 1] + found) / 2.0
                        out[outer, start + k - first, left + c] = found
