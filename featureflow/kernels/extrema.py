"""Where the largest or smallest value of each window is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel


@kernel
def _extrema(
    keys: NDArray[np.int64],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    flip: int,
    queue: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    head = 0
    tail = 0
    right = 0
    for i in range(lo.size):
        left = lo[i]
        if left >= right:
            head = tail = 0
            right = left
        for j in range(right, hi[i]):
            key = keys[j] ^ flip
            # strictly smaller only: of equal values the earliest stays in front
            while tail > head and (keys[queue[tail - 1]] ^ flip) < key:
                tail -= 1
            queue[tail] = j
            tail += 1
        right = max(right, hi[i])
        while head < tail and queue[head] < left:
            head += 1
        out[i] = queue[head] if head < tail else -1


def window_extrema(
    keys: NDArray[np.int64], lo: NDArray[np.int64], hi: NDArray[np.int64], *, largest: bool
) -> NDArray[np.int64]:
    """Position of the extreme of each window; the earliest of equal ones, -1 for an empty window.

    Parameters
    ----------
    keys
        Order keys of the values (:func:`featureflow.kernels.columns.order_keys`).
    lo, hi
        Windows; never decreasing.
    largest
        Look for the largest value; otherwise the smallest.

    Notes
    -----
    Cost: O(n + m) with a monotonic queue: a value that a later, larger one follows can't win again.

    Examples
    --------
    >>> at = window_extrema(np.array([3, 9, 1]), np.array([0, 1, 2]), np.array([2, 3, 3]), largest=True)
    >>> at.tolist()
    [1, 1, 2]
    """
    out = np.empty(lo.size, np.int64)
    # all bits flipped, the order of integers is reversed
    _extrema(keys, lo, hi, 0 if largest else -1, np.empty(keys.size, np.int64), out)
    return out
