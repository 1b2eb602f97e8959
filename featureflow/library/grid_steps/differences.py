"""The step `diff`: a value minus the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.library.grid_steps.attributes import of_difference
from featureflow.library.grid_steps.axes import check_dim, is_time, known, latest_within, with_known
from featureflow.library.grid_steps.blocks import result
from featureflow.library.grid_steps.chosen import acted_on, with_variables
from featureflow.library.grid_steps.statistics import clean


@dataclass(frozen=True)
class Diff(GridStep):
    """Differences of neighbours, ``n`` times, as xarray's ``diff``: ``n`` positions fewer, each at the later label."""

    dim: str
    n: int = 1

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Diff:
        """Make the step from the parameters of a spec."""
        return cls(params["dim"], params.get("n") or 1)

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Shorter by ``n``; integers become int64, as a difference of small or unsigned ones would wrap."""
        check_dim(cube, self.dim, ("dim",))
        if self.n >= cube.sizes[self.dim]:
            text = f"takes {self.n} positions away, but {self.dim!r} has only {cube.sizes[self.dim]}."
            raise StepMistake(("n",), text)
        chosen = acted_on(cube, None, [self.dim], ("dim",), "iuf")
        for name, one in cube.data_vars.items():
            if self.dim in one.dims and name not in chosen:
                text = f"{name!r} is {one.dtype}: it has no differences. Leave it out with select: {{variables: …}}."
                raise StepMistake(("dim",), text)
        made = cube.isel({self.dim: slice(self.n, None)})
        changed = {
            name: absent(
                made[name].dims, made[name].shape, _signed(made[name].dtype), of_difference(made[name].attrs)
            )
            for name in chosen
        }
        made = with_variables(made, changed)
        if is_time(cube, self.dim):
            made = with_known(made, self.dim, latest_within(known(cube, self.dim), self.n, 0)[self.n :])
        return made

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """The ``n`` positions before."""
        low, high = region[self.dim]
        return Needs({**region, self.dim: (low, high + self.n)})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Subtract, as often as asked."""
        arrays = {}
        for name, one in block.data.data_vars.variables.items():
            if self.dim in one.dims:
                wide = np.asarray(one.values).astype(made[name].dtype, copy=False)
                with np.errstate(invalid="ignore", over="ignore"):
                    arrays[str(name)] = clean(np.diff(wide, self.n, one.dims.index(self.dim)))
        return result(made, region, arrays, block.data)


def _signed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype("int64") if dtype.kind in "iu" else dtype
