"""Statistics of ranges along a dimension (bins of time, blocks of cells). NaN stands for no value, and is skipped.

Sums are made in double precision in the order of positions. An empty range has NaN everywhere; a range of NaN only has
the sum 0 and the number 0.
"""

# ruff: noqa: FURB136  `a if a < b else b` is one instruction; Numba's `min` tests for NaN first

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Array = NDArray[np.float32] | NDArray[np.float64]
Bounds = NDArray[np.int64]

#: what is given of a range; the first five as in `featureflow.kernels.grid_windows`
MEAN, SUM, MIN, MAX, COUNT, FIRST, LAST = range(7)
_TILE = 256


@kernel
def range_totals(x: Array, starts: Bounds, stops: Bounds, op: int, out: Array) -> None:
    """Give a statistic of ``x[:, starts[k]:stops[k]]`` as ``out[:, k]``; all are ``(outer, n, inner)``."""
    inner = x.shape[2]
    total, count = np.empty(_TILE), np.empty(_TILE)
    for outer in range(x.shape[0]):
        for k in range(starts.size):
            for left in range(0, inner, _TILE):
                width = min(_TILE, inner - left)
                total[:] = np.inf if op == MIN else (-np.inf if op == MAX else 0.0)
                count[:] = 0.0
                for t in range(starts[k], stops[k]):
                    row = x[outer, t, left : left + width]
                    if op == MIN:
                        for c in range(width):
                            total[c] = row[c] if row[c] < total[c] else total[c]
                    elif op == MAX:
                        for c in range(width):
                            total[c] = row[c] if row[c] > total[c] else total[c]
                    elif op == FIRST:
                        for c in range(width):
                            total[c] = row[c] if count[c] == 0.0 and not np.isnan(row[c]) else total[c]
                    elif op == LAST:
                        for c in range(width):
                            total[c] = total[c] if np.isnan(row[c]) else row[c]
                    elif op != COUNT:
                        for c in range(width):
                            total[c] += 0.0 if np.isnan(row[c]) else np.float64(row[c])
                    for c in range(width):
                        count[c] += 0.0 if np.isnan(row[c]) else 1.0
                _finish(total, count, op, stops[k] > starts[k], out[outer, k, left : left + width])


@kernel
def _finish(
    total: NDArray[np.float64], count: NDArray[np.float64], op: int, is_there: bool, target: Array
) -> None:
    if not is_there:
        target[:] = np.nan
        return
    for c in range(target.size):
        if op == COUNT:
            target[c] = count[c]
        elif op == MEAN:
            mean = total[c] / count[c]  # 0 / 0 is NaN, whose bits are those of the machine
            target[c] = np.nan if np.isnan(mean) else mean
        else:
            there = (op == SUM or count[c] > 0.0) and not np.isnan(total[c])
            target[c] = total[c] if there else np.nan


@kernel
def block_totals(x: Array, rows: int, columns: int, op: int, out: Array) -> None:
    """Statistics of blocks of ``rows x columns`` cells of each ``x[i]``; the last ones may be smaller."""
    height, length = x.shape[1], x.shape[2]
    total, count = np.empty(length), np.empty(length)
    sums, counts = np.empty(out.shape[2]), np.empty(out.shape[2])
    empty = np.inf if op == MIN else (-np.inf if op == MAX else 0.0)
    for outer in range(x.shape[0]):
        for k in range(out.shape[1]):
            total[:] = empty
            count[:] = 0.0
            for t in range(k * rows, min(height, (k + 1) * rows)):
                row = x[outer, t]
                for c in range(length):
                    there = not np.isnan(row[c])
                    if op == MIN:
                        total[c] = row[c] if row[c] < total[c] else total[c]
                    elif op == MAX:
                        total[c] = row[c] if row[c] > total[c] else total[c]
                    else:
                        total[c] += np.float64(row[c]) if there else 0.0
                    count[c] += 1.0 if there else 0.0
            for j in range(out.shape[2]):
                found, number = empty, 0.0
                for c in range(j * columns, min(length, (j + 1) * columns)):
                    number += count[c]
                    if op == MIN:
                        found = total[c] if total[c] < found else found
                    elif op == MAX:
                        found = total[c] if total[c] > found else found
                    else:
                        found += total[c]
                sums[j], counts[j] = found, number
            _finish(sums, counts, op, True, out[outer, k])


@kernel
def range_moments(x: Array, starts: Bounds, stops: Bounds, ddof: int, root: bool, out: Array) -> None:
    """Variance or standard deviation of ranges, in two passes."""
    inner = x.shape[2]
    mean, count, squares = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    for outer in range(x.shape[0]):
        for k in range(starts.size):
            for left in range(0, inner, _TILE):
                width = min(_TILE, inner - left)
                mean[:], count[:], squares[:] = 0.0, 0.0, 0.0
                for t in range(starts[k], stops[k]):
                    row = x[outer, t, left : left + width]
                    for c in range(width):
                        mean[c] += 0.0 if np.isnan(row[c]) else np.float64(row[c])
                        count[c] += 0.0 if np.isnan(row[c]) else 1.0
                for c in range(width):
                    mean[c] /= count[c]
                for t in range(starts[k], stops[k]):
                    row = x[outer, t, left : left + width]
                    for c in range(width):
                        apart = np.float64(row[c]) - mean[c]
                        squares[c] += 0.0 if np.isnan(row[c]) else apart * apart
                for c in range(width):
                    variance = squares[c] / (count[c] - ddof) if count[c] > ddof else np.nan
                    out[outer, k, left + c] = (
                        np.nan if np.isnan(variance) else (np.sqrt(variance) if root else variance)
                    )


@kernel
def range_medians(x: Array, starts: Bounds, stops: Bounds, out: Array) -> None:
    """Median of ranges; the mean of the middle two if the number of values is even."""
    longest = 0
    for k in range(starts.size):
        longest = max(longest, stops[k] - starts[k])
    values = np.empty(longest)
    for outer in range(x.shape[0]):
        for k in range(starts.size):
            for c in range(x.shape[2]):
                size = 0
                for t in range(starts[k], stops[k]):
                    value = x[outer, t, c]
                    if not np.isnan(value):
                        values[size] = value
                        size += 1
                found = np.nan
                if size > 0:
                    ordered = np.sort(values[:size])
                    found = ordered[size // 2]
                    if size % 2 == 0:
                        found = (ordered[size // 2 - 1] + found) / 2.0
                out[outer, k, c] = found
