"""The step `merge`: variables of another source beside those of the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import KNOWN_AT, Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.alignment import (
    Beside,
    aligned,
    known_with,
    sizes_of,
    span_of,
    taken_from,
)
from featureflow.library.grid_steps.axes import hint
from featureflow.library.grid_steps.blocks import result
from featureflow.library.grid_steps.chosen import names_in


@dataclass(frozen=True)
class Merge(GridStep):
    """Variables of another source beside those of the input.

    Along the dimensions that both have, labels are equal, or those of one are among those of the other: the smaller
    set is left, in the input's order. Dimensions that only the source has are added.
    """

    source: str
    variables: tuple[str, ...] | None = None
    prefix: str = ""
    seen: dict[str, Beside] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Merge:
        """Make the step from the parameters of a spec."""
        return cls(params["source"], names_in(params), params.get("prefix") or "")

    @property
    def others(self) -> tuple[str, ...]:  # type: ignore[override]
        """The source that is merged in."""
        return (self.source,)

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """All variables; of coordinates that both have, the input's."""
        other = others[self.source]
        for name in self.variables or ():
            if name not in other.data_vars:
                text = f"{self.source!r} has no variable {name!r}. {hint(name, other.data_vars)}"
                raise StepMistake(("variables",), text)
        used = other[
            [str(name) for name in other.data_vars] if self.variables is None else list(self.variables)
        ]
        taken = [name for name in self._names(used).values() if name in cube.variables or name in cube.sizes]
        if taken:
            text = f"both have {taken[0]!r}. Choose others with variables, or give a prefix such as {self.source}_."
            raise StepMistake(("prefix",), text)
        found = aligned(cube, used, self.source, ("source",), shrink=True)
        self.seen[self.source] = Beside(sizes_of(used, other), found)
        left = cube.isel({dim: one.here for dim, one in found.items() if not one.whole})
        beside = used.isel({dim: one.there for dim, one in found.items()})
        extra = {
            name: one.variable
            for name, one in beside.coords.items()
            if name not in left.variables and name not in self._names(used).values() and name != KNOWN_AT
        }
        variables: dict[str, xr.Variable] = {str(name): one for name, one in left.data_vars.variables.items()}
        variables.update({new: beside.variables[old] for old, new in self._names(used).items()})
        made = xr.Dataset(dict(variables), {**left.coords.variables, **extra}, cube.attrs)
        return known_with(outline_of(made), other, found)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """What has the labels of the region, on both sides."""
        beside = self.seen[self.source]
        mine = {
            str(dim): span_of(beside.found[str(dim)].here, region[str(dim)])
            if str(dim) in beside.found
            else region[str(dim)]
            for dim in cube.sizes
        }
        return Needs(mine, {self.source: beside.region_of(region)})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Values as they are."""
        found = self.seen[self.source].found
        cuts = [dim for dim, one in found.items() if not one.whole]
        whole = block.within({dim: span for dim, span in region.items() if dim not in cuts})
        mine = taken_from(Block(whole, block.region), made, region, cuts)
        beside = taken_from(block.others[self.source], made, region, found)
        names = self._names(beside if self.variables is None else beside[list(self.variables)])
        arrays = {new: beside.variables[old].transpose(*made[new].dims).values for old, new in names.items()}
        return result(made, region, arrays, mine)

    def _names(self, used: xr.Dataset) -> dict[str, str]:
        return {str(name): f"{self.prefix}{name}" for name in used.data_vars}
