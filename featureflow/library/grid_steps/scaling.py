"""Scales: `normalize` to a range, `standardize` to mean 0 and deviation 1; learned on a stated period, or given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep
from featureflow.contracts.outlines import absent
from featureflow.kernels import grid_groups
from featureflow.library.grid_steps.attributes import with_units
from featureflow.library.grid_steps.axes import check_variables
from featureflow.library.grid_steps.blocks import Values, float_dtype, floats, result
from featureflow.library.grid_steps.chosen import acted_on
from featureflow.library.grid_steps.learning import LearningStep, Period, added, period_of


def _scaled(values: Values, shift: float, scale: float, out: Values) -> None:
    """Compute ``(values - shift) / scale`` of any shape, in double precision."""
    width = values.shape[-1] if values.ndim else 1
    rows = np.ascontiguousarray(values).reshape(-1, max(width, 1))
    groups = np.zeros(len(rows), np.int64)
    ends = [np.full((1, rows.shape[1]), number) for number in (shift, scale)]
    grid_groups.compare(rows, groups, ends[0], ends[1], grid_groups.SCALED, out.reshape(rows.shape))


def _outline(cube: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Give the same dimensions, without units; integers become float64."""
    made = cube.copy(deep=False)
    for name in names:
        v = cube[name]
        made[name] = absent(v.dims, v.shape, float_dtype(v.dtype), with_units(v.attrs, "1"))
    return made


@dataclass(frozen=True)
class Rescale(GridStep):
    """``(x - shift) / scale * width + low`` with numbers that the spec gives; nothing is learned."""

    constants: tuple[float, float] | None
    each: tuple[tuple[str, tuple[float, float]], ...] = ()
    to: tuple[float, float] = (0.0, 1.0)
    variables: tuple[str, ...] | None = None

    def _numbers(self, cube: xr.Dataset) -> dict[str, tuple[float, float]]:
        if self.constants is None:
            check_variables(cube, [name for name, _ in self.each], ("each",))
            return dict(self.each)
        return dict.fromkeys(acted_on(cube, self.variables, (), ()), self.constants)

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give the same dimensions, without units; integers become float64."""
        names = list(self._numbers(cube))
        acted_on(cube, names, (), ())
        return _outline(cube, names)

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Compute each value by itself."""
        data = block.within(region)
        arrays: dict[str, Values] = {}
        for name, (shift, scale) in self._numbers(made).items():
            out = np.empty(data[name].shape, made[name].dtype)
            _scaled(floats(data[name].values), shift, scale, out)
            arrays[name] = _moved(out, self.to)
        return result(made, region, arrays, data)


def _moved(values: Values, to: tuple[float, float]) -> Values:
    """From 0 … 1 to another range."""
    if to == (0.0, 1.0):
        return values
    return np.asarray(values * (to[1] - to[0]) + to[0], values.dtype)


@dataclass(frozen=True)
class _Scale(LearningStep):
    dims: tuple[str, ...] | None = None
    period: Period = None
    variables: tuple[str, ...] | None = None
    to: tuple[float, float] = (0.0, 1.0)
    ddof: int = 0

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give the same dimensions, without units; integers become float64."""
        self.check(cube)
        return _outline(cube, self.names(cube))

    @property
    def statistics(self) -> tuple[str, ...]:
        """What is subtracted, and what the rest is divided by."""
        return ("shift", "scale")

    def compare(self, table: Values, groups: Values, learned: Sequence[Values], out: Values) -> None:
        """Subtract and divide, in double precision."""
        shift, scale = learned
        if self.to != (0.0, 1.0):
            # (x - low) / (high - low) * width + bottom, as one subtraction and one division
            with np.errstate(all="ignore"):
                width = (self.to[1] - self.to[0]) / scale
                shift, scale = shift - self.to[0] / width, 1.0 / width
        grid_groups.compare(table, groups, shift, scale, grid_groups.SCALED, out)


class Normalize(_Scale):
    """``(x - min) / (max - min)`` with the extrema of the stated period at each place; to another range with `to`.

    Notes
    -----
    Nulls: NaN is skipped; where all values are the same, or there is none, the result is NaN as in NumPy.
    Time: values outside the period may be below 0 and above 1. Nothing is clipped.
    """

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> GridStep:
        """Make it of the parameters that a spec has; with numbers given, nothing is learned."""
        to = tuple(float(end) for end in params.get("to") or (0.0, 1.0))
        given = _given(params)
        if given is not None:
            ranges = [((low, high - low)) for low, high in given[1].values()]
            each = tuple(zip(given[1], ranges, strict=True))
            constants = None if given[0] is None else (given[0][0], given[0][1] - given[0][0])
            return Rescale(constants, each, to, _tuple(params.get("variables")))  # type: ignore[arg-type]
        return cls(
            _tuple(params.get("dims")),
            period_of(params.get("period")),
            _tuple(params.get("variables")),
            to,  # type: ignore[arg-type]
        )

    def sums(self, table: Values, groups: Values) -> dict[str, Values]:
        """Extrema."""
        low = np.full((1, table.shape[1]), np.inf)
        high = np.full((1, table.shape[1]), -np.inf)
        grid_groups.group_extrema(table, groups, low, high)
        return {"min": low, "max": high}

    def combine(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        """Extrema of extrema."""
        return added(parts, {"min": np.minimum, "max": np.maximum})

    def finish(self, sums: xr.Dataset) -> xr.Dataset:
        """Give the minimum and the range; NaN where there is nothing."""
        found = {}
        for name in dict.fromkeys(str(name).rsplit(":", 1)[0] for name in sums.data_vars):
            low, high = sums[f"{name}:min"], sums[f"{name}:max"]
            there = low.values <= high.values
            with np.errstate(all="ignore"):
                found[f"{name}:shift"] = (low.dims, np.where(there, low.values, np.nan))
                found[f"{name}:scale"] = (low.dims, np.where(there, high.values - low.values, np.nan))
        return xr.Dataset(found)


class Standardize(_Scale):
    """``(x - mean) / std`` with those of the stated period at each place.

    Notes
    -----
    Nulls: NaN is skipped; where all values are the same, or there is none, the result is NaN as in NumPy.
    Determinism: cells have (number, mean, squared deviations), merged in the cells' order (Chan et al. 1983).
    """

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> GridStep:
        """Make it of the parameters that a spec has; with numbers given, nothing is learned."""
        given = _given(params)
        if given is not None:
            return Rescale(given[0], tuple(given[1].items()), variables=_tuple(params.get("variables")))
        return cls(
            _tuple(params.get("dims")),
            period_of(params.get("period")),
            _tuple(params.get("variables")),
            ddof=params.get("ddof") or 0,
        )

    def sums(self, table: Values, groups: Values) -> dict[str, Values]:
        """Numbers of values, means and squared deviations."""
        shape = (1, table.shape[1])
        count, mean, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        grid_groups.group_moments(table, groups, count, mean, squares)
        return {"count": count, "mean": mean, "squares": squares}

    def combine(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        """Merge moments in their order."""
        total = parts[0].copy(deep=True)
        names = dict.fromkeys(str(name).rsplit(":", 1)[0] for name in total.data_vars)
        for one in parts[1:]:
            for name in names:
                mine, other = (
                    [
                        np.ascontiguousarray(side[f"{name}:{what}"].values).reshape(-1)
                        for what in ("count", "mean", "squares")
                    ]
                    for side in (total, one)
                )
                grid_groups.merge_moments(*mine, *other)
                for what, values in zip(("count", "mean", "squares"), mine, strict=True):
                    v = total[f"{name}:{what}"]
                    total[f"{name}:{what}"] = (v.dims, values.reshape(v.shape))
        return total

    def finish(self, sums: xr.Dataset) -> xr.Dataset:
        """Give the mean and the standard deviation; NaN where there are not enough values."""
        found = {}
        for name in dict.fromkeys(str(name).rsplit(":", 1)[0] for name in sums.data_vars):
            count, dims = sums[f"{name}:count"].values, sums[f"{name}:count"].dims
            with np.errstate(all="ignore"):
                variance = np.where(
                    count > self.ddof, sums[f"{name}:squares"].values / (count - self.ddof), np.nan
                )
                found[f"{name}:shift"] = (dims, np.where(count > 0, sums[f"{name}:mean"].values, np.nan))
                found[f"{name}:scale"] = (dims, np.sqrt(variance))
        return xr.Dataset(found)


def _tuple(given: Any) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


def _given(
    params: Mapping[str, Any],
) -> tuple[tuple[float, float] | None, dict[str, tuple[float, float]]] | None:
    """Numbers that stand in the spec: for all variables, or for each."""
    constants, each = params.get("constants"), params.get("each")
    if constants is None and not each:
        return None
    pair = None if constants is None else (float(constants[0]), float(constants[1]))
    return pair, {name: (float(ends[0]), float(ends[1])) for name, ends in (each or {}).items()}
