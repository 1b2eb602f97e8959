"""Statistics along axes of an array, in an order that depends on nothing but how many values there are.

A sum over an axis has other bytes if the array is laid out or cut in another way, because NumPy adds in the order of
memory. Here every output value has its inputs side by side, in the order of the dimensions, and is added up alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: what `statistic` can do
OPS = ("mean", "sum", "min", "max", "std", "var", "median", "count", "first", "last")
#: values that are put side by side at once: a few MB
_SLAB = 1 << 20


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
    Determinism: sums in float64, pairwise over values in the order of the axes, one output value at a time.
    """
    dtype = result_dtype(op, values.dtype)
    compute = _ROWS[op]
    if op == "sum" and dtype.kind in "iu":
        compute = _whole_sum

    def rows(part: Array) -> Array:
        with np.errstate(all="ignore"):
            found = compute(part, ddof) if op in ("std", "var") else compute(part)
        return clean(found.astype(dtype, copy=False))

    return over_rows(values, axes, rows, dtype)


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
    if values.dtype.kind != "f":
        return values
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


def _doubles(rows: Array) -> tuple[Array, Array]:
    """Values with 0 for those that are not there, and how many there are."""
    if rows.dtype.kind != "f":
        return rows.astype(np.float64), np.full(len(rows), rows.shape[1], np.float64)
    absent = np.isnan(rows)
    values = rows.astype(np.float64)
    values[absent] = 0.0
    return values, rows.shape[1] - absent.sum(axis=1, dtype=np.float64)


def _sum(rows: Array) -> Array:
    return np.asarray(np.add.reduce(_doubles(rows)[0], axis=1))


def _whole_sum(rows: Array) -> Array:
    return np.asarray(rows.sum(axis=1, dtype=result_dtype("sum", rows.dtype)))


def _mean(rows: Array) -> Array:
    values, count = _doubles(rows)
    return np.asarray(np.add.reduce(values, axis=1) / count)


def _var(rows: Array, ddof: int) -> Array:
    values, count = _doubles(rows)
    mean = np.add.reduce(values, axis=1) / count
    values -= mean[:, None]
    if rows.dtype.kind == "f":
        values[np.isnan(rows)] = 0.0
    squares = np.add.reduce(values * values, axis=1)
    return np.where(count > ddof, squares / np.maximum(count - ddof, 1), np.nan)


def _std(rows: Array, ddof: int) -> Array:
    return np.sqrt(_var(rows, ddof))


def _min(rows: Array) -> Array:
    return np.asarray(np.fmin.reduce(rows, axis=1))


def _max(rows: Array) -> Array:
    return np.asarray(np.fmax.reduce(rows, axis=1))


def _median(rows: Array) -> Array:
    return quantiles_of(rows, [0.5])[:, 0]


def _count(rows: Array) -> Array:
    if rows.dtype.kind != "f":
        return np.full(len(rows), rows.shape[1], np.int64)
    return np.asarray(rows.shape[1] - np.isnan(rows).sum(axis=1))


def _first(rows: Array) -> Array:
    place = np.argmax(~np.isnan(rows), axis=1) if rows.dtype.kind == "f" else np.zeros(len(rows), np.int64)
    return np.asarray(rows[np.arange(len(rows)), place])


def _last(rows: Array) -> Array:
    return _first(rows[:, ::-1])


_ROWS: dict[str, Callable[..., Array]] = {
    "mean": _mean,
    "sum": _sum,
    "min": _min,
    "max": _max,
    "std": _std,
    "var": _var,
    "median": _median,
    "count": _count,
    "first": _first,
    "last": _last,
}
