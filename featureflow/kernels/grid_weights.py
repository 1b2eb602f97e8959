"""Weighted sums along a dimension (between points, over overlapping cells) and over the cells of zones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Array = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]
Places = NDArray[np.int64]

#: statistics of zones
MEAN, SUM, MIN, MAX, COUNT, VAR, STD, MEDIAN = range(8)


@kernel
def between(x: Array, lower: Places, upper: Places, share: Doubles, out: Doubles) -> None:
    """Give ``x[lower] + share * (x[upper] - x[lower])`` along the middle of ``(outer, n, inner)``; -1 gives NaN.

    As SciPy's linear interpolation: a neighbour that is NaN makes NaN, also with the share 0. Where both are the same
    one, it is that value.
    """
    for outer in range(x.shape[0]):
        for k in range(lower.size):
            if lower[k] < 0:
                out[outer, k] = np.nan
                continue
            below, above = x[outer, lower[k]], x[outer, upper[k]]
            if lower[k] == upper[k]:
                for c in range(x.shape[2]):
                    out[outer, k, c] = np.nan if np.isnan(below[c]) else below[c]
                continue
            for c in range(x.shape[2]):
                found = np.float64(below[c]) + share[k] * (np.float64(above[c]) - np.float64(below[c]))
                out[outer, k, c] = np.nan if np.isnan(found) else found


@kernel
def overlap_values(
    x: Array, offsets: Places, places: Places, weights: Doubles, sums: Doubles, covered: Doubles
) -> None:
    """Sum values by the weights of their cells, and the weights of those that are there; ``(outer, n, inner)``."""
    for outer in range(x.shape[0]):
        for k in range(offsets.size - 1):
            total, weight = sums[outer, k], covered[outer, k]
            total[:] = 0.0
            weight[:] = 0.0
            for i in range(offsets[k], offsets[k + 1]):
                row = x[outer, places[i]]
                for c in range(x.shape[2]):
                    absent = np.isnan(row[c])
                    total[c] += 0.0 if absent else weights[i] * np.float64(row[c])
                    weight[c] += 0.0 if absent else weights[i]


@kernel
def overlap_sums(x: Doubles, offsets: Places, places: Places, weights: Doubles, out: Doubles) -> None:
    """Sum along a further dimension what `overlap_values` gave."""
    for outer in range(x.shape[0]):
        for k in range(offsets.size - 1):
            out[outer, k] = 0.0
            for i in range(offsets[k], offsets[k + 1]):
                for c in range(x.shape[2]):
                    out[outer, k, c] += weights[i] * x[outer, places[i], c]


@kernel
def zone_statistics(
    x: Array, offsets: Places, cells: Places, weights: Doubles, op: int, ddof: int, out: Doubles
) -> None:
    """Give a statistic of the cells of each zone, ``(row, zone)`` from ``(row, cell)``; NaN is skipped.

    A zone without values is NaN; its sum and number are 0.
    """
    longest = 0
    for zone in range(offsets.size - 1):
        longest = max(longest, offsets[zone + 1] - offsets[zone])
    values = np.empty(longest)
    shares = np.empty(longest)
    for row in range(x.shape[0]):
        for zone in range(offsets.size - 1):
            size, total, weight = 0, 0.0, 0.0
            for i in range(offsets[zone], offsets[zone + 1]):
                value = np.float64(x[row, cells[i]])
                if not np.isnan(value):
                    values[size] = value
                    shares[size] = weights[i]
                    total += weights[i] * value
                    weight += weights[i]
                    size += 1
            found = _statistic(values[:size], shares[:size], total, weight, op, ddof)
            out[row, zone] = np.nan if np.isnan(found) else found


@kernel
def _statistic(values: Doubles, shares: Doubles, total: float, weight: float, op: int, ddof: int) -> float:
    if op == COUNT:
        return float(values.size)
    if op == SUM:
        return total
    if values.size == 0 or weight <= 0.0:
        return np.nan
    if op == MEAN:
        return total / weight
    if op == MIN:
        return np.min(values)
    if op == MAX:
        return np.max(values)
    if op == MEDIAN:
        return np.median(values)
    if weight <= ddof:
        return np.nan
    squares = 0.0
    for i in range(values.size):
        squares += shares[i] * (values[i] - total / weight) ** 2
    variance = squares / (weight - ddof)
    return np.sqrt(variance) if op == STD else variance
