"""`resample`: bins of time, as a month, a day, six hours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region, Span
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.library.grid_steps.attributes import of_statistic
from featureflow.library.grid_steps.axes import check_dim, is_time, known, with_known
from featureflow.library.grid_steps.bins import latest, statistic
from featureflow.library.grid_steps.blocks import (
    Values,
    along,
    back,
    float_dtype,
    floats,
    is_number,
    reshaped,
    result,
)


@dataclass(frozen=True)
class Resample(GridStep):
    """Statistics of bins of time, with the labels that xarray's ``resample`` gives them: their starts.

    Notes
    -----
    Nulls: NaN is skipped; a bin without times is NaN, one of NaN only has the sum 0 and the number 0.
    Time: a bin takes times after its label; ``known_at`` is when the last of them is known.
    Types: integers become float64, since a later bin may be empty.
    """

    dim: str
    every: str
    op: str = "mean"
    ddof: int = 0

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Make it of the parameters that a spec has."""
        return cls(**params)

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give the bins from the first time to the last; coordinates along time that are no index are left out."""
        check_dim(cube, self.dim, ("dim",))
        if not is_time(cube, self.dim):
            raise StepMistake(("dim",), f"{self.dim!r} holds no times. Use coarsen.")
        index = cube.indexes[self.dim]
        if not len(index) or not index.is_monotonic_increasing:
            raise StepMistake(("dim",), f"bins need ascending times, and those of {self.dim!r} are not.")
        for name, variable in cube.data_vars.items():
            if self.dim in variable.dims and not is_number(variable):
                raise StepMistake(
                    (), f"{name!r} is {variable.dtype}; bins take numbers. Leave it out before."
                )
        positions = xr.DataArray(np.zeros(len(index)), {self.dim: cube[self.dim]}, dims=[self.dim], name="n")
        labels = positions.resample({self.dim: self.every}).count()[self.dim]
        if labels.size > len(index):
            raise StepMistake(
                ("every",),
                f"makes {labels.size} bins of {len(index)} times; resample puts several together. Use longer bins.",
            )
        sizes = {self.dim: labels.size}
        variables = {
            name: reshaped(
                v,
                sizes,
                float_dtype(v.dtype) if self.op != "count" else np.dtype(np.float64),
                of_statistic(v.attrs, self.op, [self.dim]),
            )
            if self.dim in v.dims
            else v.variable
            for name, v in cube.data_vars.items()
        }
        label = xr.Variable(
            (self.dim,), labels.values, dict(cube[self.dim].attrs), dict(cube[self.dim].encoding)
        )
        kept = {name: c.variable for name, c in cube.coords.items() if self.dim not in c.dims}
        made = xr.Dataset(variables, {**kept, self.dim: label}, attrs=cube.attrs)
        starts, stops = self._ranges(cube, made, (0, labels.size))
        return with_known(made, self.dim, latest(known(cube, self.dim), starts, stops, labels.values))

    def _ranges(self, cube: xr.Dataset, made: xr.Dataset, bins: Span) -> tuple[Values, Values]:
        """Positions in the input where bins start and stop: a bin is from its label to the next one."""
        times, labels = cube.indexes[self.dim], made.indexes[self.dim]
        edges = np.asarray(times.searchsorted(labels[bins[0] : bins[1] + 1]), np.int64)
        if bins[1] == len(labels):
            edges = np.append(edges, len(times))
        return edges[:-1], edges[1:]

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """The times of the bins."""
        starts, stops = self._ranges(cube, made, region[self.dim])
        return Needs({**region, self.dim: (int(starts[0]), int(stops[-1]))})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Compute whole bins."""
        data = block.within({dim: span for dim, span in region.items() if dim != self.dim})
        starts, stops = self._ranges(data, made, region[self.dim])
        arrays: dict[str, Values] = {}
        for name, v in data.data_vars.items():
            if self.dim not in v.dims:
                continue
            axis = v.dims.index(self.dim)
            x, moved = along(floats(v.values), axis)
            out = np.empty((x.shape[0], starts.size, x.shape[2]), made[name].dtype)
            statistic(x, starts, stops, self.op, self.ddof, out)
            arrays[str(name)] = back(out, v.shape, axis, moved)
        return result(made, region, arrays, data)
