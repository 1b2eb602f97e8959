"""`clip`: to numbers that the spec gives, or to quantiles that are learned on a stated period."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep
from featureflow.contracts.outlines import absent
from featureflow.library.grid_steps.axes import check_variables
from featureflow.library.grid_steps.blocks import Values, float_dtype, result
from featureflow.library.grid_steps.chosen import acted_on
from featureflow.library.grid_steps.learning import LearningStep, Period, period_of
from featureflow.library.grid_steps.statistics import quantiles_of

Limits = tuple[float | None, float | None]
#: up to so many values quantiles over all dimensions are exact
EXACT_VALUES = 1 << 22
#: bits of a float32 that a coarse quantile leaves out: 12 bits of the fraction stay, so 1 part in 8192
_LEFT_OUT = 11


class Clip:
    """``clip`` in a spec: makes one of the two steps below."""

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> GridStep:
        """Make the step of the parameters that a spec has."""
        chosen, dims = params.get("variables"), params.get("dims")
        variables = None if chosen is None else tuple(chosen)
        if params.get("quantiles") is not None:
            low, high = (float(share) for share in params["quantiles"])
            return ClipToQuantiles(
                (low, high), None if dims is None else tuple(dims), period_of(params.get("period")), variables
            )
        limits = params.get("range")
        each = tuple((name, (pair[0], pair[1])) for name, pair in (params.get("each") or {}).items())
        return ClipToRange(None if limits is None else (limits[0], limits[1]), each, variables)


@dataclass(frozen=True)
class ClipToRange(GridStep):
    """Values below the least or above the greatest number become that number; NaN stays."""

    limits: Limits | None
    each: tuple[tuple[str, Limits], ...] = ()
    variables: tuple[str, ...] | None = None

    def _limits(self, cube: xr.Dataset) -> dict[str, Limits]:
        if self.limits is not None:
            return dict.fromkeys(acted_on(cube, self.variables, (), ()), self.limits)
        check_variables(cube, [name for name, _ in self.each], ("each",))
        return dict(self.each)

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give the same types; integers become float64 if a limit is not one of their numbers."""
        made = cube.copy(deep=False)
        limits = self._limits(cube)
        acted_on(cube, list(limits), (), ())
        for name, ends in limits.items():
            v = cube[name]
            fits = v.dtype.kind == "f" or all(end is None or _fits(end, v.dtype) for end in ends)
            made[name] = absent(v.dims, v.shape, v.dtype if fits else np.float64, v.attrs)
        return made

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Compute each value by itself."""
        data = block.within(region)
        arrays = {}
        for name, (low, high) in self._limits(made).items():
            dtype = made[name].dtype
            ends = [None if end is None else dtype.type(end) for end in (low, high)]
            values = np.asarray(data[name].values, dtype)
            arrays[name] = values.copy() if ends == [None, None] else np.clip(values, *ends)
        return result(made, region, arrays, data)


def _fits(end: float, dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "b" or end != math.floor(end):
        return False
    return bool(np.iinfo(dtype).min <= end <= np.iinfo(dtype).max)


@dataclass(frozen=True)
class ClipToQuantiles(LearningStep):
    """Values outside two quantiles of the stated period become those.

    Quantiles of each place along the dimensions that are kept are exact, linear between values. Over all dimensions
    they are exact up to 4 million values, and within 1 part in 8192 of a value above that.

    Notes
    -----
    Nulls: NaN is skipped; where there is nothing to learn from, the result is NaN.
    Cost: what is exact keeps all values of the stated period of its places in memory.
    """

    shares: tuple[float, float]
    dims: tuple[str, ...] | None = None
    period: Period = None
    variables: tuple[str, ...] | None = None

    @property
    def statistics(self) -> tuple[str, ...]:
        """The limits."""
        return ("low", "high")

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give the same dimensions and attributes; integers become float64."""
        self.check(cube)
        made = cube.copy(deep=False)
        for name in self.names(cube):
            v = cube[name]
            made[name] = absent(v.dims, v.shape, float_dtype(v.dtype), v.attrs)
        return made

    def _is_exact(self, cube: xr.Dataset, name: str) -> bool:
        region = self.fit_region(cube)
        values = math.prod(region[str(dim)][1] - region[str(dim)][0] for dim in cube[name].dims)
        return values <= EXACT_VALUES or bool(set(cube[name].dims) - set(self.over))

    def partial(self, block: Block, cube: xr.Dataset) -> xr.Dataset:
        """Values of a cell, or how many there are of each size."""
        first = self.fit_region(cube)
        found: dict[str, Any] = {}
        for name in self.names(cube):
            variable = block.data[name]
            table = self.rows(variable)[0]
            if any(block.region[dim][0] != first[dim][0] for dim in self.over if dim not in variable.dims):
                table = table[:0]  # the same values were in the first cell along that dimension
            if self._is_exact(cube, name):
                dims, shape = self._layout(variable)
                found[f"{name}:values"] = ((f"{name}:row", *dims), table.reshape(len(table), *shape))
            else:
                keys, counts = np.unique(_keys(table), return_counts=True)
                found[f"{name}:keys"] = ((f"{name}:key",), keys)
                found[f"{name}:counts"] = ((f"{name}:key",), counts)
        return xr.Dataset(found)

    def sums(self, table: Values, groups: Values) -> dict[str, Values]:
        """Not sums but values: see `partial`."""
        return {"values": table[groups >= 0]}

    def combine(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        """Put them one after the other, or add the numbers up."""
        found: dict[str, Any] = {}
        for key, v in parts[0].data_vars.items():
            name, what = str(key).rsplit(":", 1)
            if what == "values":
                found[f"{name}:values"] = (v.dims, np.concatenate([one[key].values for one in parts]))
            elif what == "keys":
                keys = np.concatenate([one[key].values for one in parts])
                counts = np.concatenate([one[f"{name}:counts"].values for one in parts])
                kept, place = np.unique(keys, return_inverse=True)
                total = np.zeros(kept.size, np.int64)
                np.add.at(total, place, counts)
                found[f"{name}:keys"], found[f"{name}:counts"] = (v.dims, kept), (v.dims, total)
        return xr.Dataset(found)

    def finish(self, sums: xr.Dataset) -> xr.Dataset:
        """Find the two quantiles."""
        found: dict[str, Any] = {}
        for key, v in sums.data_vars.items():
            name, what = str(key).rsplit(":", 1)
            if what == "values":
                rows = np.ascontiguousarray(v.values.reshape(v.shape[0], -1).T)
                limits = quantiles_of(rows, self.shares) if rows.shape[1] else np.full((len(rows), 2), np.nan)
                for i, end in enumerate(self.statistics):
                    found[f"{name}:{end}"] = (
                        v.dims[1:],
                        limits[:, i].reshape(v.shape[1:]).astype(np.float64),
                    )
            elif what == "keys":
                ends = _coarse(v.values, sums[f"{name}:counts"].values, self.shares)
                for end, limit in zip(self.statistics, ends, strict=True):
                    found[f"{name}:{end}"] = ((), np.float64(limit))
        return xr.Dataset(found)

    def compare(self, table: Values, groups: Values, learned: Sequence[Values], out: Values) -> None:
        """Clip rows to the limits of their columns."""
        low, high = (np.asarray(one[0], out.dtype) for one in learned)
        np.clip(table, low, high, out=out)
        out[:, np.isnan(low)] = np.nan
        out[np.isnan(table)] = np.nan  # one bit pattern


def _keys(values: Values) -> Values:
    """Values as whole numbers in the same order, equal for values that differ by less than 1 part in 4096."""
    flat = values.reshape(-1).astype(np.float32)
    bits = flat[~np.isnan(flat)].view(np.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> _LEFT_OUT


def _coarse(keys: Values, counts: Values, shares: Sequence[float]) -> list[float]:
    """Quantiles from how often each key is there: the middle of the key that has the rank."""
    if not keys.size:
        return [math.nan] * len(shares)
    until = np.cumsum(counts)
    ranks = [math.floor(share * (until[-1] - 1)) for share in shares]
    found = keys[np.searchsorted(until, ranks, side="right")].astype(np.int32)
    middle = (found << _LEFT_OUT) + (1 << (_LEFT_OUT - 1))
    return [float(x) for x in (middle ^ ((middle >> 31) & 0x7FFFFFFF)).view(np.float32)]
