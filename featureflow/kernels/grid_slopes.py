"""Change per unit of a coordinate: each position from two values, or from three."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Array = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]
Places = NDArray[np.int64]


@kernel
def slopes(
    x: Array,
    low: Places,
    high: Places,
    apart: Doubles,
    of_three: NDArray[np.bool_],
    first: Places,
    weights: Doubles,
    out: Array,
) -> None:
    """Give ``(x[high] - x[low]) / apart``, or three values from ``first`` on times their weights, for each position.

    Parameters
    ----------
    x
        C-contiguous ``(outer, n, inner)``; slopes go along ``n``.
    weights
        ``(3, m)`` for ``m`` positions of ``out``, ``(outer, m, inner)``.
    """
    for outer in range(x.shape[0]):
        for k in range(out.shape[1]):
            target = out[outer, k]
            if of_three[k]:
                a, b, c = x[outer, first[k]], x[outer, first[k] + 1], x[outer, first[k] + 2]
                p, q, r = weights[0, k], weights[1, k], weights[2, k]
                for i in range(target.size):
                    found = p * np.float64(a[i]) + q * np.float64(b[i]) + r * np.float64(c[i])
                    target[i] = np.nan if np.isnan(found) else found
            else:
                below, above, distance = x[outer, low[k]], x[outer, high[k]], apart[k]
                for i in range(target.size):
                    found = (np.float64(above[i]) - np.float64(below[i])) / distance
                    target[i] = np.nan if np.isnan(found) else found
