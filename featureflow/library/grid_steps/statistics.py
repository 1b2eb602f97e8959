"""Statistics along axes of an array, in an order that depends on nothing but how many values there are.

A sum over an axis has other bytes if the array is laid out or cut in another way, because NumPy adds in the order of
memory. Here every output value is made of its inputs in the order of the dimensions, alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from featureflow.kernels import grid_reductions
from featureflow.library.grid_steps.blocks import floats

Array = np.ndarray[Any, Any]

#: statistics of one pass, as the kernels name them
_TOTALS = {
    "mean": grid_reductions.MEAN,
    "sum": grid_reductions.SUM,
    "min": grid_reductions.MIN,
    "max": grid_reductions.MAX,
    "count": grid_reductions.COUNT,
    "first": grid_reductions.FIRST,
    "last": grid_reductions.LAST,
}
#: values that are put side by side at once: a few MB
_SLAB = 1 << 20
#: fewer columns than this side by side are slow
_ROW = 16


def result_dtype(op: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type of a statistic: as in xarray, so integers have a float64 mean and float32 a float32 one."""
    if op == "count":
        return np.dtype("int64")
    if op in ("min", "max", "first", "last"):
        return dtype
    if op == "sum":
        wide = {"b": "int64", "i": "int64", "u": "uint64"}
        return np.dtype(wide.get(dtype.kind, dtype))
    return dtype if dtype.kind == "f" else np.dtype("float64")


def statistic(values: Array, axes: Sequence[int], op: str, ddof: int = 0) -> Array:
    """One statistic over some axes; the others keep their order. NaN is no value.

    Notes
    -----
    Nulls: nothing to sum up is 0, of nothing else there is NaN.
    Determinism: sums in double precision over values in the order of the axes, one output value at a time.
    """
    dtype = result_dtype(op, values.dtype)
    if values.dtype.kind in "iub" and op in ("sum", "min", "max", "count", "first", "last"):
        return _of_whole_numbers(values, tuple(axes), op, dtype)
    if op == "median":
        found = over_rows(values, axes, lambda rows: quantiles_of(rows, [0.5])[:, 0], dtype)
        return clean(found)
    kept = [axis for axis in range(values.ndim) if axis not in axes]
    x = _in_columns(floats(values), axes, kept)
    out = np.empty((x.shape[0], x.shape[2]))
    grid_reductions.totals(x, _TOTALS.get(op, grid_reductions.MEAN), out)
    if op in ("std", "var"):
        grid_reductions.moments(x, ddof, op == "std", out.copy(), out)
    with np.errstate(over="ignore"):
        return clean(out.reshape([values.shape[axis] for axis in kept]).astype(dtype))


def _in_columns(values: Array, axes: Sequence[int], kept: Sequence[int]) -> Array:
    """Give ``(outer, n, inner)`` with the axes together as ``n``; what is kept has its order, around them.

    They are moved to the front if they are not side by side, or little is after them: kernels work on rows.
    """
    count = math.prod(values.shape[axis] for axis in axes)
    after = math.prod(values.shape[axis + 1] for axis in range(max(axes, default=-1), values.ndim - 1))
    if after >= _ROW and list(axes) == list(range(min(axes), max(axes) + 1)):
        return np.ascontiguousarray(values).reshape(-1, count, after)
    moved = np.ascontiguousarray(np.transpose(values, [*axes, *kept]))
    return moved.reshape(1, count, -1)


def _of_whole_numbers(values: Array, axes: tuple[int, ...], op: str, dtype: np.dtype[Any]) -> Array:
    """Give what is exact in any order; nothing is missing."""
    if op == "count":
        shape = [n for axis, n in enumerate(values.shape) if axis not in axes]
        return np.full(shape, math.prod(values.shape[axis] for axis in axes), dtype)
    if op in ("first", "last") and axes:
        return np.ascontiguousarray(np.take(values, 0 if op == "first" else -1, axes[0]))
    if op == "sum":
        return np.asarray(values.sum(axis=axes, dtype=dtype))
    return np.asarray(values.max(axis=axes) if op == "max" else values.min(axis=axes))


def over_rows(
    values: Array,
    axes: Sequence[int],
    compute: Callable[[Array], Array],
    dtype: np.dtype[Any],
    width: int = 0,
) -> Array:
    """Apply a function of ``(outputs, inputs of each)`` to the values along some axes.

    With a ``width`` it gives that many values for each output, which go along a new first axis.
    """
    kept = [axis for axis in range(values.ndim) if axis not in axes]
    moved = np.transpose(values, [*kept, *axes])
    out = np.empty((*moved.shape[: len(kept)], max(width, 1)), dtype)
    if not kept:
        out[...] = compute(np.ascontiguousarray(moved).reshape(1, -1)).reshape(-1)
    else:
        for part, target in _slabs(moved, out):
            flat = np.ascontiguousarray(part).reshape(target.size // out.shape[-1], -1)
            target[...] = compute(flat).reshape(target.shape)
    return np.ascontiguousarray(np.moveaxis(out, -1, 0)) if width else out[..., 0]


def clean(values: Array) -> Array:
    """Give one bit pattern to each of NaN and zero: the sign of either shows how a computation was cut."""
    if values.dtype in (np.float32, np.float64) and values.flags.c_contiguous:
        grid_reductions.one_pattern(values.reshape(-1))
    elif values.dtype.kind == "f":
        values += values.dtype.type(0)  # -0.0 becomes 0.0
        values[np.isnan(values)] = np.nan
    return values


def quantiles_of(rows: Array, shares: Sequence[float]) -> Array:
    """Quantiles of each row, linear between the two nearest values, ``(rows, shares)``; NaN is no value."""
    ordered = np.sort(rows, axis=1)  # NaN goes to the end
    there = rows.shape[1] - np.isnan(ordered).sum(axis=1) if rows.dtype.kind == "f" else rows.shape[1]
    count = np.broadcast_to(np.asarray(there, np.int64), rows.shape[:1])
    out = np.empty((len(rows), len(shares)))
    every = np.arange(len(rows))
    for i, share in enumerate(shares):
        place = share * np.maximum(count - 1, 0)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, np.maximum(count - 1, 0))
        weight = place - low
        below, above = ordered[every, low].astype(float), ordered[every, high].astype(float)
        with np.errstate(invalid="ignore"):
            apart = above - below
            found = np.where(weight < 0.5, below + apart * weight, above - apart * (1 - weight))
        found = np.where(
            (weight == 0) | (below == above), below, found
        )  # between two infinities there is no NaN
        out[:, i] = np.where(count > 0, found, np.nan)
    return out


def _slabs(moved: Array, out: Array) -> Iterator[tuple[Array, Array]]:
    """Parts along the first axis that is kept, along with where their results go."""
    each = max(1, moved[0].size if len(moved) else 1)
    step = max(1, _SLAB // each)
    for low in range(0, len(moved), step):
        part, target = moved[low : low + step], out[low : low + step]
        if step == 1 and target.ndim > 2 and each > _SLAB:
            yield from _slabs(part[0], target[0])
        else:
            yield part, target
