"""Missing values along a dimension: the last value before, or a straight line between the values on both sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Array = NDArray[np.float32] | NDArray[np.float64]
#: columns side by side: what is kept of them stays in the cache
_TILE = 256


@kernel
def fill_forward(x: Array, first: int, limit: int, out: Array) -> None:
    """Give positions from ``first`` on, missing ones as the last value at most ``limit`` positions before.

    Parameters
    ----------
    x
        C-contiguous ``(outer, n, inner)``; NaN is missing, and stays one NaN where nothing is near enough.
    out
        ``(outer, m, inner)``: positions ``first`` to ``first + m``.
    """
    last, age = np.empty(_TILE, x.dtype), np.empty(_TILE, np.int64)
    for outer in range(x.shape[0]):
        for left in range(0, x.shape[2], _TILE):
            width = min(_TILE, x.shape[2] - left)
            last[:width] = np.nan
            age[:width] = 0
            for t in range(first + out.shape[1]):
                row = x[outer, t, left : left + width]
                for c in range(width):
                    there = not np.isnan(row[c])
                    last[c] = row[c] if there else last[c]
                    age[c] = 0 if there else age[c] + 1
                if t >= first:
                    target = out[outer, t - first, left : left + width]
                    for c in range(width):
                        target[c] = last[c] if age[c] <= limit else np.nan


@kernel
def fill_lines(x: Array, places: NDArray[np.float64], first: int, limit: int, out: Array) -> None:
    """Give positions from ``first`` on, missing ones on a line between the values around them.

    Of a gap at most the first ``limit`` positions are filled; before the first value and after the last one, none. As
    `fill_forward` otherwise; ``places`` has the coordinate of each position of ``x``.
    """
    stop = first + out.shape[1]
    for outer in range(x.shape[0]):
        out[outer] = x[outer, first:stop]
        for left in range(0, x.shape[2], _TILE):
            _gaps(x[outer], places, first, limit, left, min(left + _TILE, x.shape[2]), out[outer])


@kernel
def _gaps(
    x: Array, places: NDArray[np.float64], first: int, limit: int, left: int, right: int, out: Array
) -> None:
    """Fill the gaps of some columns: each when the value after it comes, row by row as they lie in memory."""
    stop = first + out.shape[0]
    last = np.full(right - left, -1)
    for t in range(x.shape[0]):
        for c in range(left, right):
            if np.isnan(x[t, c]):
                if first <= t < stop:
                    out[t - first, c] = np.nan
                continue
            before = last[c - left]
            last[c - left] = t
            if before < 0 or before + 1 == t or t <= first:
                continue
            low, high = np.float64(x[before, c]), np.float64(x[t, c])
            for k in range(max(before + 1, first), min(t, before + limit + 1, stop)):
                share = (places[k] - places[before]) / (places[t] - places[before])
                found = low + (high - low) * share
                out[k - first, c] = np.nan if np.isnan(found) else found
                out[k - first, c] += 0.0  # -0.0 becomes 0.0
