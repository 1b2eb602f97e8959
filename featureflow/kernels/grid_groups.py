"""Rows of an array by group: sums, moments and extrema of each group, and rows minus what their group has.

Rows are times and columns are places, as grids are stored; a tile of columns at a time, so that what is kept of the
groups stays in the cache while the rows stream by. NaN stands for no value. Sums are made in double precision in the
order of the rows.
"""

# ruff: noqa: FURB136  `a if a < b else b` is one instruction; Numba's `min` tests for NaN first

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Array = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]
Groups = NDArray[np.int64]

#: what `compare` gives: x - a, x / a, (x - a) / b
MINUS, RATIO, SCALED = range(3)
#: bytes of the groups' sums of one tile
_TILE_BYTES = 64 * 1024


@kernel
def _tile(groups: int, columns: int) -> int:
    return min(columns, max(16, _TILE_BYTES // (16 * groups) // 8 * 8))


@kernel
def group_sums(x: Array, groups: Groups, sums: Doubles, counts: Doubles) -> None:
    """Add rows to the sums and numbers of values of their groups, ``(group, column)``; -1 is no group."""
    columns = x.shape[1]
    tile = _tile(sums.shape[0], columns)
    for left in range(0, columns, tile):
        width = min(tile, columns - left)
        for t in range(x.shape[0]):
            if groups[t] < 0:
                continue
            row = x[t, left : left + width]
            total, count = sums[groups[t], left : left + width], counts[groups[t], left : left + width]
            for c in range(width):
                there = not np.isnan(row[c])
                total[c] += np.float64(row[c]) if there else 0.0
                count[c] += 1.0 if there else 0.0


@kernel
def group_moments(x: Array, groups: Groups, counts: Doubles, means: Doubles, squares: Doubles) -> None:
    """Give the number, mean and squared deviations of each group and column; the three are zero before."""
    columns = x.shape[1]
    tile = _tile(means.shape[0], columns)
    group_sums(x, groups, means, counts)
    for group in range(means.shape[0]):
        for c in range(columns):
            means[group, c] = means[group, c] / counts[group, c] if counts[group, c] > 0.0 else 0.0
    for left in range(0, columns, tile):
        width = min(tile, columns - left)
        for t in range(x.shape[0]):
            if groups[t] < 0:
                continue
            row = x[t, left : left + width]
            mean, square = means[groups[t], left : left + width], squares[groups[t], left : left + width]
            for c in range(width):
                apart = np.float64(row[c]) - mean[c]
                square[c] += 0.0 if np.isnan(row[c]) else apart * apart


@kernel
def group_extrema(x: Array, groups: Groups, low: Doubles, high: Doubles) -> None:
    """Lower and raise the extrema of groups to those of their rows; ``inf`` and ``-inf`` before."""
    columns = x.shape[1]
    for t in range(x.shape[0]):
        if groups[t] < 0:
            continue
        row, least, most = x[t], low[groups[t]], high[groups[t]]
        for c in range(columns):
            value = np.float64(row[c])
            least[c] = value if value < least[c] else least[c]
            most[c] = value if value > most[c] else most[c]


@kernel
def merge_moments(
    counts: Doubles, means: Doubles, squares: Doubles, count: Doubles, mean: Doubles, square: Doubles
) -> None:
    """Add moments to moments, all flat (Chan, Golub and LeVeque 1983)."""
    for c in range(counts.size):
        both = counts[c] + count[c]
        share = count[c] / both if both > 0.0 else 0.0
        apart = mean[c] - means[c]
        squares[c] += square[c] + apart * apart * (counts[c] * share)
        means[c] += apart * share
        counts[c] = both


@kernel
def compare(x: Array, groups: Groups, a: Doubles, b: Doubles, op: int, out: Array) -> None:
    """Give each row minus, or divided by, what its group has in ``a``, or scaled by ``a`` and ``b``."""
    for t in range(x.shape[0]):
        row, target, first = x[t], out[t], a[groups[t]]
        if op == MINUS:
            for c in range(row.size):
                found = np.float64(row[c]) - first[c]
                target[c] = np.nan if np.isnan(found) else found
        elif op == RATIO:
            for c in range(row.size):
                found = np.float64(row[c]) / first[c]
                target[c] = np.nan if np.isnan(found) else found
        else:
            second = b[groups[t]]
            for c in range(row.size):
                found = (np.float64(row[c]) - first[c]) / second[c]
                target[c] = np.nan if np.isnan(found) else found
