"""Boxes cut out of an array, and sums over boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Longs = NDArray[np.int64]
_DIMS = 4


def cut_patches(
    values: NDArray[Any], starts: Longs, shape: Sequence[int], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Copy boxes of one shape out of an array: ``(n, *shape)``.

    Parameters
    ----------
    starts
        ``(dimensions, n)``: first position of each box along each dimension; boxes lie within the array.
    out
        Where to; made if None.
    """
    shape = tuple(shape)
    if out is None:
        out = np.empty((starts.shape[1], *shape), values.dtype)
    for size, first, extent in zip(shape, starts, values.shape, strict=True):
        if first.size and (first.min() < 0 or first.max() + size > extent):
            raise ValueError(f"a box of {shape} leaves an array of {values.shape}.")
    if values.ndim > _DIMS or not values.flags.c_contiguous:
        for row, first in enumerate(starts.T):
            out[row] = values[tuple(slice(a, a + n) for a, n in zip(first, shape, strict=True))]
        return out
    missing = _DIMS - values.ndim
    whole = values.reshape((1,) * missing + values.shape)
    boxes = out.reshape((len(out),) + (1,) * missing + shape)
    firsts = np.concatenate([np.zeros((missing, starts.shape[1]), np.int64), starts])
    _cut(whole, np.ascontiguousarray(firsts), boxes)
    return out


@kernel
def _cut(values: NDArray[Any], starts: Longs, out: NDArray[Any]) -> None:
    n, a_size, b_size, c_size, d_size = out.shape
    for row in range(n):
        a0, b0, c0, d0 = starts[0, row], starts[1, row], starts[2, row], starts[3, row]
        for a in range(a_size):
            for b in range(b_size):
                for c in range(c_size):
                    out[row, a, b, c, :] = values[a0 + a, b0 + b, c0 + c, d0 : d0 + d_size]


def box_sums(counted: NDArray[np.bool_], starts: Longs, shape: Sequence[int]) -> Longs:
    """Count the true values in boxes of one shape, in time linear in the array whatever the boxes overlap."""
    table = np.zeros([n + 1 for n in counted.shape], np.int64)
    table[tuple(slice(1, None) for _ in counted.shape)] = counted
    for axis in range(counted.ndim):
        np.cumsum(table, axis=axis, out=table)
    total = np.zeros(starts.shape[1], np.int64)
    for corner in range(1 << counted.ndim):
        upper = [(corner >> d) & 1 for d in range(counted.ndim)]
        place = tuple(starts[d] + (shape[d] if up else 0) for d, up in enumerate(upper))
        sign = 1 if (counted.ndim - sum(upper)) % 2 == 0 else -1
        total += sign * table[place]
    return total
