"""Steps that are fitted on a stated part of their input: what they learn over, and what they learn from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region, whole
from featureflow.contracts.grid_step import Block, FittedStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.library.grid_steps.axes import check_dim, is_time
from featureflow.library.grid_steps.blocks import Values, columns, floats, result
from featureflow.library.grid_steps.chosen import acted_on
from featureflow.library.grid_steps.labels import index_of, span_of

#: ``all``, or the first and the last label, both inclusive; None: nothing is stated
Period = str | tuple[Any, Any] | None


def period_of(given: Any) -> Period:
    """Read a period as a spec has it, so that steps can be compared and shown."""
    return tuple(given) if isinstance(given, list | tuple) else given


class LearningStep(FittedStep):
    """A step that learns statistics over some dimensions, of each place along the others.

    Statistics are named ``<variable>:<statistic>``; their first dimension is `groups` unless that is 1.
    """

    #: dimensions that are learned over; None: all
    dims: tuple[str, ...] | None
    period: Period
    variables: tuple[str, ...] | None

    #: where a mistake in `dims` is shown
    place: tuple[str, ...] = ("dims",)

    def over_of(self, cube: xr.Dataset) -> tuple[str, ...]:
        """Dimensions of a cube that are learned over."""
        found = tuple(str(dim) for dim in cube.sizes) if self.dims is None else self.dims
        # `over` has no cube to ask: the contract's callers ask for an outline or a region first
        object.__setattr__(self, "_over", found)
        return found

    @property
    def over(self) -> tuple[str, ...]:
        """Dimensions that are summed up; where none are named, known after `outline` or `fit_region`."""
        found = self.dims if self.dims is not None else getattr(self, "_over", None)
        if found is None:
            raise RuntimeError("which dimensions are all of them is known after `outline` or `fit_region`")
        return found

    def names(self, cube: xr.Dataset) -> list[str]:
        """Names of the variables that the step acts on."""
        return acted_on(cube, self.variables, self.over_of(cube), self.place)

    def check(self, cube: xr.Dataset) -> None:
        """Refuse dimensions that are not there, and times without a stated period."""
        for dim in self.over_of(cube):
            check_dim(cube, dim, self.place)
        times = [dim for dim in self.over_of(cube) if is_time(cube, dim)]
        if times and self.period is None:
            raise StepMistake(
                ("period",),
                f"it learns over {times[0]!r}, so what it learns from must be stated, or the past would know the"
                " future. Give period: [from, to], select that dimension with both ends before, or say period: all.",
            )
        if isinstance(self.period, tuple) and not times:
            raise StepMistake(
                ("period",), "there are no times among the dimensions that it learns over. Remove it."
            )
        self.fit_region(cube)

    def fit_region(self, cube: xr.Dataset) -> Region:
        """Everything, or the stated period of the times."""
        region = whole(cube)
        times = [dim for dim in self.over_of(cube) if is_time(cube, dim)]
        if isinstance(self.period, tuple):
            for dim in times:
                region[dim] = span_of(index_of(cube, dim, ("period",)), *self.period, ("period",))
        return region

    @property
    @abstractmethod
    def statistics(self) -> tuple[str, ...]:
        """Names of what `finish` gives for each variable."""

    def groups(self, coordinate: xr.DataArray) -> Values:
        """Group of each label of the dimension that is learned over; one group unless a step has more."""
        return np.zeros(coordinate.size, np.int64)

    @property
    def group_dim(self) -> tuple[str, int] | None:
        """Dimension of the groups and how many there are; None for one group."""
        return None

    @property
    def _count(self) -> int:
        return 1 if self.group_dim is None else self.group_dim[1]

    def fitted_outline(self, cube: xr.Dataset) -> xr.Dataset:
        """Statistics in float64 along the groups and the dimensions that are kept; without coordinates."""
        found = {}
        for name in self.names(cube):
            dims, shape = self._layout(cube[name])
            for statistic in self.statistics:
                found[f"{name}:{statistic}"] = absent(dims, shape, np.float64)
        return xr.Dataset(found)

    def _layout(self, variable: xr.DataArray) -> tuple[tuple[str, ...], tuple[int, ...]]:
        kept = [str(dim) for dim in variable.dims if dim not in self.over]
        sizes = [variable.sizes[dim] for dim in kept]
        if self.group_dim is None:
            return tuple(kept), tuple(sizes)
        return (self.group_dim[0], *kept), (self.group_dim[1], *sizes)

    def rows(self, variable: xr.DataArray) -> tuple[Values, Values]:
        """Give values as ``(rows, columns)`` with rows along what is learned over, and the group of each row."""
        axes = [axis for axis, dim in enumerate(variable.dims) if dim in self.over]
        table = columns(floats(variable.values), axes)
        if self.group_dim is None:
            return table, np.zeros(len(table), np.int64)
        return table, self.groups(variable[self.over[0]])

    def partial(self, block: Block, cube: xr.Dataset) -> xr.Dataset:
        """Sums of a cell. A variable that lacks a dimension has the same values in every cell along it: one counts."""
        first = self.fit_region(cube)
        found: dict[str, Any] = {}
        for name in self.names(cube):
            variable = block.data[name]
            repeated = any(
                block.region[dim][0] != first[dim][0] for dim in self.over if dim not in variable.dims
            )
            dims, shape = self._layout(variable)
            table, groups = self.rows(variable)
            if repeated:
                table, groups = table[:0], groups[:0]
            for statistic, values in self.sums(table, groups).items():
                found[f"{name}:{statistic}"] = (dims, values.reshape(shape))
        return xr.Dataset(found)

    @abstractmethod
    def sums(self, table: Values, groups: Values) -> dict[str, Values]:
        """Sums of the rows of each group, ``(group, column)``."""

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """The same region, and what was learned for it."""
        known, sizes = getattr(self, "_sizes", (None, {}))
        if known is not cube:  # asked for each chunk of a grid
            sizes = {str(dim): int(size) for dim, size in self.fitted_outline(cube).sizes.items()}
            object.__setattr__(self, "_sizes", (cube, sizes))
        fitted = {dim: region.get(dim, (0, size)) for dim, size in sizes.items()}
        return Needs(dict(region), fitted=fitted)

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Compare each value with what was learned for its group and place."""
        fitted = block.fitted
        if fitted is None:
            raise RuntimeError("a step that learns is applied with what was learned")
        data = block.within(region)
        arrays = {}
        for name in self.names(made):
            variable = data[name]
            axes = [axis for axis, dim in enumerate(variable.dims) if dim in self.over]
            table, groups = self.rows(variable)
            learned = [
                np.ascontiguousarray(fitted[f"{name}:{one}"].values, np.float64).reshape(self._count, -1)
                for one in self.statistics
            ]
            out = np.empty(table.shape, made[name].dtype)
            self.compare(table, groups, learned, out)
            front = [variable.shape[axis] for axis in axes]
            rest = [n for axis, n in enumerate(variable.shape) if axis not in axes]
            arrays[name] = np.moveaxis(out.reshape((*front, *rest)), range(len(axes)), axes)
        return result(made, region, arrays, data)

    @abstractmethod
    def compare(self, table: Values, groups: Values, learned: Sequence[Values], out: Values) -> None:
        """Compute the output's rows."""


def added(parts: Sequence[xr.Dataset], how: Mapping[str, Any]) -> xr.Dataset:
    """Combine sums one after the other: each statistic with its own function of two arrays."""
    total = parts[0]
    for one in parts[1:]:
        total = total.copy(
            data={
                name: how[str(name).rsplit(":", 1)[1]](v.values, one[name].values)
                for name, v in total.data_vars.items()
            }
        )
    return total
