"""Steps that take a part of a cube: `select` by labels of coordinates, `isel` by positions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region, Span
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.axes import check_dim, check_variables
from featureflow.library.grid_steps.blocks import result
from featureflow.library.grid_steps.chosen import names_in
from featureflow.library.grid_steps.labels import index_of, position_of, positions_of, span_of

#: what is taken along one dimension: ``range(…)``, one position (the dimension goes), or positions in any order
Taken = range | int | np.ndarray[Any, Any]
#: the same within a block
Place = slice | int | np.ndarray[Any, Any]


class _Selection(GridStep):
    """Take positions along some dimensions."""

    variables: tuple[str, ...] | None = None

    @abstractmethod
    def taken(self, cube: xr.Dataset) -> dict[str, Taken]:
        """What is taken along each dimension that is named."""

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Dimensions are cut; one that a single label is taken of goes, its label stays as a scalar coordinate."""
        if self.variables is not None:
            check_variables(cube, self.variables, ("variables",))
            kept = cube[list(self.variables)]
            dims = {dim for v in kept.data_vars.values() for dim in v.dims}
            cube = kept.drop_vars([name for name, c in kept.coords.items() if not dims.issuperset(c.dims)])
            cube = cube.assign_attrs(kept.attrs)
        indexers = {d: _indexer(t) for d, t in self.taken(cube).items()}
        return outline_of(cube.isel(indexers))

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """Everything between the first and the last position that is taken."""
        found: Region = {str(dim): region.get(str(dim), (0, int(n))) for dim, n in cube.sizes.items()}
        if self.variables is not None:
            used = {str(dim) for name in self.variables for dim in cube[name].dims}
            found = {dim: span if dim in used else (0, min(1, span[1])) for dim, span in found.items()}
        for dim, taken in self.taken(cube).items():
            if isinstance(taken, int):
                found[dim] = (taken, taken + 1)
            elif dim in region:
                low, high = region[dim]
                found[dim] = _reach(taken[low:high])
        return Needs(found)

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Values as they are."""
        data = block.data if self.variables is None else block.data[list(self.variables)]
        indexers = {d: t for d, t in self.relative(block, region, made).items() if d in data.sizes}
        return result(made, region, {}, data.isel(indexers))

    @abstractmethod
    def relative(self, block: Block, region: Region, made: xr.Dataset) -> dict[str, Place]:
        """What is taken along each dimension, as positions within the block."""


@dataclass(frozen=True)
class Select(_Selection):
    """Take labels: a range (both ends inclusive), one label, or several.

    Examples
    --------
    >>> from featureflow.contracts.cube import whole
    >>> cube = xr.Dataset({"t": ("lat", [1.0, 2.0, 3.0])}, {"lat": [60, 0, -60]})
    >>> step = Select.of({"labels": {"lat": {"kind": "range", "from": -60, "to": 10}}})
    >>> step.outline(cube, {})["lat"].values.tolist()
    [0, -60]
    """

    labels: tuple[tuple[str, dict[str, Any]], ...]
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Select:
        """Make the step from the parameters of a spec."""
        return cls(tuple(params.get("labels", {}).items()), names_in(params))

    def taken(self, cube: xr.Dataset) -> dict[str, Taken]:
        """Look the labels up in the coordinates."""
        return {dim: self._taken(cube, dim, dict(wanted)) for dim, wanted in self.labels}

    def _taken(self, cube: xr.Dataset, dim: str, wanted: dict[str, Any]) -> Taken:
        check_dim(cube, dim, (dim,))
        index = index_of(cube, dim, (dim,))
        if wanted["kind"] == "range":
            return range(*span_of(index, wanted.get("from"), wanted.get("to"), (dim,)))
        method = wanted.get("method", "exact")
        if wanted["kind"] == "values":
            return positions_of(index, wanted["values"], method, (dim,))
        found = position_of(index, wanted["value"], method, (dim,))
        return found if isinstance(found, int) else range(*found)

    def relative(self, block: Block, region: Region, made: xr.Dataset) -> dict[str, Place]:
        """Find the labels of the output in the block's own coordinate."""
        found: dict[str, Place] = {}
        for dim, wanted in self.labels:
            if dim not in made.sizes:
                found[dim] = 0
            elif wanted["kind"] == "values":
                low, high = region[dim]
                found[dim] = block.data.indexes[dim].get_indexer(made.indexes[dim][low:high])
        return found


@dataclass(frozen=True)
class SelectPositions(_Selection):
    """Take positions; negative ones count from the end."""

    positions: tuple[tuple[str, dict[str, Any]], ...]
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> SelectPositions:
        """Make the step from the parameters of a spec."""
        return cls(tuple(params.get("positions", {}).items()), names_in(params))

    def taken(self, cube: xr.Dataset) -> dict[str, Taken]:
        """Count negative positions from the end."""
        return {dim: self._taken(cube, dim, dict(wanted)) for dim, wanted in self.positions}

    def _taken(self, cube: xr.Dataset, dim: str, wanted: dict[str, Any]) -> Taken:
        check_dim(cube, dim, (dim,))
        size = int(cube.sizes[dim])
        if wanted["kind"] == "range":
            ends = slice(wanted.get("start"), wanted.get("stop"), wanted.get("step") or 1)
            found = range(*ends.indices(size))
            if not found:
                raise StepMistake((dim,), f"takes nothing of the {size} positions along {dim!r}.")
            return found
        given = [wanted["index"]] if wanted["kind"] == "value" else list(wanted["indices"])
        for one in given:
            if not -size <= one < size:
                text = f"position {one} is outside of {dim!r}, which has {size}."
                raise StepMistake((dim,), f"{text} Give {-size} to {size - 1}.")
        counted = [one % size for one in given]
        return counted[0] if wanted["kind"] == "value" else np.asarray(counted, np.int64)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """As for `select`; to the very end where positions count from there, so that `apply` can count, too."""
        found = super().needs(region, cube, made).region
        for dim, wanted in self.positions:
            if wanted["kind"] == "values" and min(wanted["indices"]) < 0:
                found[dim] = (found[dim][0], int(cube.sizes[dim]))
        return Needs(found)

    def relative(self, block: Block, region: Region, made: xr.Dataset) -> dict[str, Place]:
        """Count from the start of the block, which is the first position that is taken."""
        found: dict[str, Place] = {}
        for dim, wanted in self.positions:
            start, stop = block.region[dim]
            if dim not in made.sizes:
                found[dim] = 0
            elif wanted["kind"] == "range":
                found[dim] = slice(None, None, wanted.get("step") or 1)
            else:
                low, high = region[dim]
                counted = [one if one >= 0 else one + stop for one in wanted["indices"][low:high]]
                found[dim] = np.asarray(counted, np.int64) - start
        return found


def _indexer(taken: Taken) -> Any:
    if isinstance(taken, range):  # a range that runs down to 0 has no end as a slice
        return slice(taken.start, None if taken.stop < 0 else taken.stop, taken.step)
    return taken


def _reach(taken: Any) -> Span:
    """From the lowest to the highest position of some; of none: the first one, as a region holds at least one."""
    if len(taken) == 0:
        return (0, 1)
    if isinstance(taken, range):
        return (min(taken[0], taken[-1]), max(taken[0], taken[-1]) + 1)
    return (int(taken.min()), int(taken.max()) + 1)
