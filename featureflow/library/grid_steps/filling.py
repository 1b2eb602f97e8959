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
from featureflow.kernels import grid_fills
from featureflow.library.grid_steps.axes import (
    check_dim,
    check_variables,
    is_time,
    known,
    latest_within,
    with_known,
)
from featureflow.library.grid_steps.blocks import Values, along, back, floats, result
from featureflow.library.grid_steps.chosen import acted_on, names_in
from featureflow.library.grid_steps.gradients import positions


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

    @property
    def scratch_bytes(self) -> int:
        """For each value: lines hold positions and values of both neighbours."""
        return 112 if self.method == "linear" else 24

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Fill:
        """Make the step from the parameters of a spec."""
        return cls(
            params["method"],
            params.get("value"),
            tuple((params.get("each") or {}).items()),
            params.get("dim"),
            params.get("limit"),
            names_in(params),
        )

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
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

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """What is before, within the limit; a line ends at a value that may be anywhere behind."""
        if self.dim is None:
            return Needs(dict(region))
        low, high = region[self.dim]
        start = 0 if self.limit is None else max(0, low - self.limit)
        stop = int(cube.sizes[self.dim]) if self.method == "linear" else high
        return Needs({**region, self.dim: (start, stop)})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Change missing values only."""
        passed = block.within(region)
        arrays = {}
        for name in self._chosen(block.data):
            one = block.data.variables[name]
            if one.dtype.kind != "f":
                continue  # nothing of it is missing
            if self.dim is None:
                values = np.asarray(passed.variables[name].values)
                arrays[name] = np.where(
                    np.isnan(values), one.dtype.type(dict(self.each).get(name, self.value)), values
                )
            else:
                arrays[name] = self._along(one, block, region, made)
        return result(made, region, arrays, passed)

    def _along(self, one: xr.Variable, block: Block, region: Region, made: xr.Dataset) -> Values:
        dim = str(self.dim)
        axis = one.dims.index(dim)
        start = block.region[dim][0]
        low, high = (end - start for end in region[dim])
        x, moved = along(floats(one.values), axis)
        out = np.empty((x.shape[0], high - low, x.shape[2]), x.dtype)
        limit = x.shape[1] if self.limit is None else self.limit
        if self.method == "ffill":
            grid_fills.fill_forward(x, low, limit, out)
        else:
            places = positions(made, dim, "s") if dim in made.indexes else np.arange(float(made.sizes[dim]))
            grid_fills.fill_lines(x, places[start : start + x.shape[1]], low, limit, out)
        return back(out, one.shape, axis, moved)

    def _chosen(self, cube: xr.Dataset) -> list[str]:
        if self.each:
            return [name for name, _ in self.each]
        place: tuple[str | int, ...] = () if self.dim is None else ("dim",)
        return acted_on(cube, self.variables, () if self.dim is None else [self.dim], place)
