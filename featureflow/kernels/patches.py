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


def cut_overlaps(values: NDArray[Any], starts: Longs, out: NDArray[Any]) -> None:
    """Copy what boxes of one shape have of an array: the parts of them that lie in it.

    Parameters
    ----------
    values
        C-contiguous, of up to 4 dimensions or more.
    starts
        ``(dimensions, n)``: first position of each box, negative where it begins before the array.
    out
        ``(n, *shape)``, C-contiguous; what lies outside of the array stays as it is.
    """
    ndim = values.ndim
    if ndim > _DIMS:
        for row, first in enumerate(starts.T):
            low = np.maximum(first, 0)
            high = np.minimum(first + np.array(out.shape[1:]), values.shape)
            if (low < high).all():
                inside = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
                out[row][inside] = values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        return
    missing = _DIMS - ndim
    firsts = np.zeros((_DIMS, starts.shape[1]), np.int64)
    firsts[missing:] = starts
    shape = np.ones((2, _DIMS), np.int64)
    shape[:, missing:] = values.shape, out.shape[1:]
    _overlaps(values.reshape(-1), shape[0], firsts, out.reshape(-1), shape[1])


@kernel
def _overlaps(values: NDArray[Any], extent: Longs, starts: Longs, out: NDArray[Any], size: Longs) -> None:
    low, high = np.empty(4, np.int64), np.empty(4, np.int64)
    for row in range(starts.shape[1]):
        for d in range(4):
            low[d] = max(starts[d, row], 0)
            high[d] = min(starts[d, row] + size[d], extent[d])
        if high[3] <= low[3]:
            continue
        # unsigned, because Numba tests a signed index for being negative, which keeps the innermost loop scalar
        width = np.uint64(high[3] - low[3])
        for a in range(low[0], high[0]):
            for b in range(low[1], high[1]):
                for c in range(low[2], high[2]):
                    source = ((a * extent[1] + b) * extent[2] + c) * extent[3] + low[3]
                    place = (row * size[0] + a - starts[0, row]) * size[1] + b - starts[1, row]
                    target = (place * size[2] + c - starts[2, row]) * size[3] + low[3] - starts[3, row]
                    x, y = np.uint64(source), np.uint64(target)
                    for d in range(width):
                        out[y + d] = values[x + d]


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
