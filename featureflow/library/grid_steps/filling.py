"""The step `fill`: values for missing ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.axes import (
    check_dim,
    check_variables,
    coordinates_within,
    is_time,
    known,
    latest_within,
    with_known,
)
from featureflow.library.grid_steps.chosen import acted_on, cut
from featureflow.library.grid_steps.gradients import positions
from featureflow.library.grid_steps.statistics import clean

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Fill(GridStep):
    """A constant, the last value before, or a straight line between the values on both sides, for what is missing.

    ``ffill`` reads no later value. ``linear`` along time does, and how far depends on the values: everything is
    known at the last time only, and `known_at` says so.
    """

    method: str
    value: float | None = None
    each: tuple[tuple[str, float], ...] = ()
    dim: str | None = None
    limit: int | None = None
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Fill:
        """Make the step from the parameters of a spec."""
        kept = params.get("variables")
        return cls(
            params["method"],
            params.get("value"),
            tuple((params.get("each") or {}).items()),
            params.get("dim"),
            params.get("limit"),
            None if kept is None else tuple(kept),
        )

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:  # noqa: ARG002
        """As the input: only missing values change."""
        made = outline_of(cube)
        if self.dim is None:
            check_variables(cube, [name for name, _ in self.each], ())
            self._chosen(cube)
            return made
        check_dim(cube, self.dim, ("dim",))
        self._chosen(cube)
        time = is_time(cube, self.dim)
        if self.method == "linear":
            self._check_line(cube, time)
        if not time:
            return made
        when = known(cube, self.dim)
        if self.method == "linear":
            return with_known(made, self.dim, np.full_like(when, when.max()))
        reach = len(when) if self.limit is None else min(self.limit, len(when))
        filled = np.maximum.accumulate(when) if reach == len(when) else latest_within(when, reach, 0)
        return with_known(made, self.dim, filled)

    def _check_line(self, cube: xr.Dataset, time: bool) -> None:
        dim = str(self.dim)
        if dim in cube.indexes:
            index = cube.indexes[dim]
            if not time and index.dtype.kind not in "iuf":
                raise StepMistake(
                    ("dim",), f"labels of {dim!r} are no numbers and no times: nothing is between."
                )
            if not (index.is_unique and (index.is_monotonic_increasing or index.is_monotonic_decreasing)):
                raise StepMistake(("dim",), f"labels of {dim!r} neither rise nor fall all the way.")

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:  # noqa: ARG002
        """What is before, within the limit; a line ends at a value that may be anywhere behind."""
        if self.dim is None:
            return Needs(dict(region))
        low, high = region[self.dim]
        start = 0 if self.limit is None else max(0, low - self.limit)
        stop = int(cube.sizes[self.dim]) if self.method == "linear" else high
        return Needs({**region, self.dim: (start, stop)})

    def apply(
        self,
        block: Block,
        region: Region,
        made: xr.Dataset,
        others: Mapping[str, Block],  # noqa: ARG002
        fitted: xr.Dataset | None,  # noqa: ARG002
    ) -> xr.Dataset:
        """Change missing values only."""
        passing = cut(block, region)
        found: dict[str, xr.Variable] = {str(n): one for n, one in passing.data_vars.variables.items()}
        for name in self._chosen(block.data):
            one = block.data.variables[name]
            if one.dtype.kind != "f":
                continue
            if self.dim is None:
                values = np.asarray(passing.variables[name].values)
                constant = one.dtype.type(dict(self.each).get(name, self.value))
                found[name] = xr.Variable(one.dims, np.where(np.isnan(values), constant, values), one.attrs)
            else:
                found[name] = xr.Variable(one.dims, self._along(one, block, region, made), one.attrs)
        ordered = {name: found[str(name)] for name in made.data_vars}
        return coordinates_within(xr.Dataset(ordered), made, region)

    def _along(self, one: xr.Variable, block: Block, region: Region, made: xr.Dataset) -> Array:
        dim = str(self.dim)
        axis = one.dims.index(dim)
        rows = np.moveaxis(np.asarray(one.values), axis, 0)
        start = block.region[dim][0]
        low, high = (end - start for end in region[dim])
        if self.method == "ffill":
            filled = forward(rows, self.limit)[low:high]
        else:
            x = positions(made, dim, "s") if dim in made.indexes else np.arange(float(made.sizes[dim]))
            filled = between(rows, x[start : start + len(rows)], self.limit)[low:high]
        return np.ascontiguousarray(np.moveaxis(filled, 0, axis))

    def _chosen(self, cube: xr.Dataset) -> list[str]:
        if self.each:
            return [name for name, _ in self.each]
        place: tuple[str | int, ...] = () if self.dim is None else ("dim",)
        return acted_on(cube, self.variables, () if self.dim is None else [self.dim], place)


def _last_value(rows: Array) -> Array:
    """Position of the last value at or before each position along the first axis; -1 if there is none."""
    at = np.arange(len(rows)).reshape(-1, *[1] * (rows.ndim - 1))
    return np.asarray(np.maximum.accumulate(np.where(np.isnan(rows), -1, at), axis=0))


def forward(rows: Array, limit: int | None) -> Array:
    """Last value before, at most ``limit`` positions away."""
    last = _last_value(rows)
    at = np.arange(len(rows)).reshape(-1, *[1] * (rows.ndim - 1))
    there = (last >= 0) & (at - last <= (len(rows) if limit is None else limit))
    values = np.take_along_axis(rows, np.maximum(last, 0), axis=0)
    return np.where(there, values, rows.dtype.type(np.nan))


def between(rows: Array, x: Array, limit: int | None) -> Array:
    """Straight lines between values; of each gap at most the first ``limit`` positions, nothing outside of values."""
    last = _last_value(rows)
    after = len(rows) - 1 - _last_value(rows[::-1])[::-1]
    at = np.arange(len(rows)).reshape(-1, *[1] * (rows.ndim - 1))
    inside = np.isnan(rows) & (last >= 0) & (after < len(rows))
    inside &= at - last <= (len(rows) if limit is None else limit)
    low, high = np.where(inside, last, 0), np.where(inside, after, 0)
    below = np.take_along_axis(rows, low, axis=0).astype(np.float64)
    above = np.take_along_axis(rows, high, axis=0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (x[at] - x[low]) / (x[high] - x[low])
        lines = below + (above - below) * share
    return np.where(inside, clean(lines.astype(rows.dtype)), rows)
