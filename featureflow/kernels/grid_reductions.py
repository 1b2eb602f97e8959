"""Statistics of whole dimensions, and running ones. NaN stands for no value, and is skipped.

Sums are made in double precision, in the order of positions: each run of 128 values by itself, then the runs. So a
result is the same however the other dimensions are cut, and has about the error of 128 additions.
"""

# ruff: noqa: FURB136  `a if a < b else b` is one instruction; Numba's `min` tests for NaN first

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Array = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]

#: what is given; as in `featureflow.kernels.grid_ranges`
MEAN, SUM, MIN, MAX, COUNT, FIRST, LAST = range(7)
#: columns side by side, and positions whose sum is made by itself
_TILE, _RUN = 512, 128


@kernel
def totals(x: Array, op: int, out: Doubles) -> None:
    """Give a statistic of ``x[o, :, c]`` as ``out[o, c]``; ``x`` is C-contiguous ``(outer, n, inner)``.

    Of nothing the sum and the number are 0, and all else is NaN.
    """
    n, inner = x.shape[1], x.shape[2]
    run, total, count = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    for outer in range(x.shape[0]):
        for left in range(0, inner, _TILE):
            width = min(_TILE, inner - left)
            run[:], count[:] = 0.0, 0.0
            total[:] = np.inf if op == MIN else (-np.inf if op == MAX else 0.0)
            for t in range(n):
                _add(x[outer, t, left : left + width], op, run, total, count)
                if t % _RUN == _RUN - 1:
                    for c in range(width):
                        total[c] += run[c]
                        run[c] = 0.0
            for c in range(width):
                found = total[c] + run[c]
                if op == COUNT:
                    found = count[c]
                elif op == MEAN:
                    found /= count[c]
                elif op != SUM and count[c] == 0.0:
                    found = np.nan
                out[outer, left + c] = np.nan if np.isnan(found) else found


@kernel
def _add(row: Array, op: int, run: Doubles, total: Doubles, count: Doubles) -> None:
    """Add a row to the columns' statistics."""
    if op == MIN:
        for c in range(row.size):
            total[c] = row[c] if row[c] < total[c] else total[c]
            count[c] += 0.0 if np.isnan(row[c]) else 1.0
    elif op == MAX:
        for c in range(row.size):
            total[c] = row[c] if row[c] > total[c] else total[c]
            count[c] += 0.0 if np.isnan(row[c]) else 1.0
    elif op == FIRST:
        for c in range(row.size):
            total[c] = row[c] if count[c] == 0.0 and not np.isnan(row[c]) else total[c]
            count[c] += 0.0 if np.isnan(row[c]) else 1.0
    elif op == LAST:
        for c in range(row.size):
            total[c] = total[c] if np.isnan(row[c]) else row[c]
            count[c] += 0.0 if np.isnan(row[c]) else 1.0
    elif op == COUNT:
        for c in range(row.size):
            count[c] += 0.0 if np.isnan(row[c]) else 1.0
    else:
        for c in range(row.size):
            run[c] += 0.0 if np.isnan(row[c]) else np.float64(row[c])
            count[c] += 0.0 if np.isnan(row[c]) else 1.0


@kernel
def moments(x: Array, ddof: int, root: bool, means: Doubles, out: Doubles) -> None:
    """Variance or standard deviation, from the means that `totals` gave; as there otherwise."""
    n, inner = x.shape[1], x.shape[2]
    run, total, count = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    for outer in range(x.shape[0]):
        for left in range(0, inner, _TILE):
            width = min(_TILE, inner - left)
            run[:], total[:], count[:] = 0.0, 0.0, 0.0
            mean = means[outer, left : left + width]
            for t in range(n):
                row = x[outer, t, left : left + width]
                for c in range(width):
                    apart = np.float64(row[c]) - mean[c]
                    run[c] += 0.0 if np.isnan(row[c]) else apart * apart
                    count[c] += 0.0 if np.isnan(row[c]) else 1.0
                if t % _RUN == _RUN - 1:
                    for c in range(width):
                        total[c] += run[c]
                        run[c] = 0.0
            for c in range(width):
                found = np.nan
                if count[c] > ddof:
                    found = (total[c] + run[c]) / (count[c] - ddof)
                out[outer, left + c] = np.nan if np.isnan(found) else (np.sqrt(found) if root else found)


@kernel
def running(x: Array, first: int, op: int, out: Array) -> None:
    """Give the mean, sum, minimum or maximum of a value and all before it, from position ``first`` on.

    Sums are made one after the other. The sum of nothing is 0; ``out`` is ``(outer, m, inner)``.
    """
    empty = np.inf if op == MIN else (-np.inf if op == MAX else 0.0)
    total, count = np.empty(_TILE), np.empty(_TILE)
    for outer in range(x.shape[0]):
        for left in range(0, x.shape[2], _TILE):
            width = min(_TILE, x.shape[2] - left)
            total[:] = empty
            count[:] = 0.0
            for t in range(first + out.shape[1]):
                row = x[outer, t, left : left + width]
                _add(row, op, total, total, count)
                if t >= first:
                    target = out[outer, t - first, left : left + width]
                    for c in range(width):
                        found = total[c] / count[c] if op == MEAN else total[c]
                        missing = np.isnan(found) or (op != SUM and count[c] == 0.0)
                        target[c] = np.nan if missing else found


@kernel
def one_pattern(x: Array) -> None:
    """Give NaN and zero one bit pattern each, in place; flat."""
    for i in range(x.size):
        value = x[i]
        x[i] = np.nan if np.isnan(value) else (value * value if value == 0.0 else value)
