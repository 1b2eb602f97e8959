"""The step `groupby`: a statistic of all times of each month, day of the year, hour, season or year."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.library.grid_steps.attributes import of_statistic
from featureflow.library.grid_steps.axes import check_dim, is_time
from featureflow.library.grid_steps.blocks import result
from featureflow.library.grid_steps.chosen import acted_on, names_in, refuse_others, with_variables
from featureflow.library.grid_steps.statistics import result_dtype, statistic

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class GroupBy(GridStep):
    """One statistic of each group of times; the dimension of times becomes that of the groups, in its place.

    Groups are those that occur, in their order (seasons: DJF, JJA, MAM, SON, as in xarray). Variables without the
    dimension pass unchanged.
    """

    dim: str
    by: str
    op: str
    ddof: int = 0
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> GroupBy:
        """Make the step from the parameters of a spec."""
        return cls(params["dim"], params["by"], params["op"], params.get("ddof") or 0, names_in(params))

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """With ``by`` for the dimension of times."""
        check_dim(cube, self.dim, ("dim",))
        if not is_time(cube, self.dim):
            raise StepMistake(("by",), f"{self.by} is a part of a time, but {self.dim!r} holds no times.")
        if self.by in cube.variables or self.by in cube.sizes:
            raise StepMistake(("by",), f"the cube already has a {self.by!r}. Drop or rename it before.")
        refuse_others(cube, self.variables, [self.dim], f"a {self.op}")
        labels, _ = groups_of(cube, self.dim, self.by)
        changed = {}
        for name in acted_on(cube, self.variables, [self.dim], ("dim",)):
            one = cube[name]
            dims = [self.by if dim == self.dim else str(dim) for dim in one.dims]
            shape = [len(labels) if dim == self.by else cube.sizes[dim] for dim in dims]
            changed[name] = absent(
                dims, shape, result_dtype(self.op, one.dtype), of_statistic(one.attrs, self.op, [self.dim])
            )
        made = with_variables(cube, changed, [self.dim])
        return made.assign_coords({self.by: (self.by, labels)})

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """All times from the first to the last one of the groups; all if something keeps the dimension."""
        found = {str(dim): region[str(dim)] for dim in cube.sizes if dim != self.dim}
        _, codes = groups_of(cube, self.dim, self.by)
        low, high = region[self.by]
        there = np.flatnonzero((codes >= low) & (codes < high))
        found[self.dim] = (int(there[0]), int(there[-1]) + 1)
        if self.dim in made.sizes:
            ends = region[self.dim]
            found[self.dim] = (min(found[self.dim][0], ends[0]), max(found[self.dim][1], ends[1]))
        return Needs(found)

    def is_separable(self, cube: xr.Dataset, made: xr.Dataset) -> bool:
        """Unless something keeps the dimension: then a range of it follows from groups and from times."""
        return self.dim not in made.sizes

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Each group by itself, its times in their order."""
        low, high = region[self.by]
        wanted = made[self.by].values[low:high]
        labels, codes = groups_of(block.data, self.dim, self.by)
        places = [np.flatnonzero(labels[codes] == label) for label in wanted]
        arrays = {}
        for name in acted_on(block.data, self.variables, [self.dim], ("dim",)):
            one = block.data.variables[name]
            axis = one.dims.index(self.dim)
            values = np.asarray(one.values)
            groups = [statistic(np.take(values, at, axis), [axis], self.op, self.ddof) for at in places]
            arrays[name] = np.stack(groups, axis)
        return result(made, region, arrays, block.within(region))


def groups_of(cube: xr.Dataset, dim: str, by: str) -> tuple[Array, Array]:
    """Labels of the groups that occur, in their order, and the number of its group for each time."""
    values = np.asarray(getattr(cube[dim].dt, by).values)
    labels, codes = np.unique(
        values.astype("U3") if values.dtype.kind in "OUT" else values, return_inverse=True
    )
    return labels, codes.reshape(-1)
