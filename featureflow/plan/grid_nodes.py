"""What a compiled grid is: a source of N-d data, and a chain of steps that say what they make and what they need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from featureflow.contracts.cube import Cube, Region
from featureflow.contracts.grid_step import FittedStep, GridStep, Needs

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, slots=True)
class GridInput:
    """N-d data that a grid reads: a raw source, or another grid of the project.

    Parameters
    ----------
    kind, name
        ``("source", "sst")`` or ``("table", "sst_anomaly")``.
    outline
        What it has: dimensions, coordinates, dtypes, attributes.
    chunks
        Sizes of what is read together, along each dimension.
    identity
        Names everything about how its values are made, but not where they are.
    cube
        Where it is read from; None for another grid, which is opened when the build knows its version.
    """

    kind: Literal["source", "table"]
    name: str
    outline: xr.Dataset
    chunks: dict[str, tuple[int, ...]]
    identity: str
    cube: Cube | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A step in a chain: ``cells`` are the chunks of its input, by which fitted steps make their sums.

    It equals nothing but itself: so what is worked out from it can be kept.
    """

    name: str
    step: GridStep
    taken: xr.Dataset = field(repr=False)
    made: xr.Dataset = field(repr=False)
    cells: dict[str, int]

    @property
    def fitted(self) -> FittedStep | None:
        """The step, if it learns something."""
        return self.step if isinstance(self.step, FittedStep) else None


@dataclass(frozen=True, slots=True)
class CompiledGrid:
    """A grid, typed and checked: everything that decides its values, given those of its inputs.

    Parameters
    ----------
    start
        The variables of the source that the first step takes.
    others
        What steps read beside their input, by name.
    chunks, shards
        Of what is stored; ``given`` are the sizes that the spec names, the others were chosen.
    tables
        Whether it makes rows for a tabular feature table (`zonal`) instead of arrays: the names of its keys and time.
    prefixes
        For each link a name of everything before and in it that decides its values.
    time
        The dimension of times that the source at the beginning names; None if it does not say.
    """

    name: str
    source: GridInput
    others: dict[str, GridInput]
    start: xr.Dataset = field(repr=False)
    links: tuple[Link, ...] = field(repr=False)
    chunks: dict[str, int]
    shards: dict[str, int] | None
    given: dict[str, int]
    definition: dict[str, Any] = field(repr=False)
    definition_hash: str
    prefixes: tuple[str, ...] = field(repr=False)
    lineage: dict[str, tuple[str, ...]] = field(repr=False)
    rows: RowShape | None = None
    notes: tuple[str, ...] = ()
    time: str | None = None

    @property
    def outline(self) -> xr.Dataset:
        """What the grid has: dimensions, coordinates, dtypes and attributes."""
        return self.links[-1].made if self.links else self.start

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of its variables."""
        return tuple(str(name) for name in self.outline.data_vars)

    @property
    def unit(self) -> dict[str, int]:
        """Sizes of what is written at once: a shard where there are shards, else a chunk."""
        return self.shards or self.chunks

    @property
    def inputs(self) -> dict[str, GridInput]:
        """Everything that it reads."""
        return {self.source.name: self.source, **self.others}

    def walk_back(self, region: Region, until: int | None = None) -> Iterator[tuple[int, Needs]]:
        """What each link needs, from the last one (or the one before ``until``) to the first, for a region it makes."""
        for i in reversed(range(len(self.links) if until is None else until)):
            link = self.links[i]
            needs = link.step.needs(region, link.taken, link.made)
            yield i, needs
            region = needs.region


@dataclass(frozen=True, slots=True)
class RowShape:
    """How a grid becomes rows of a tabular feature table: one for each cell of these dimensions."""

    keys: tuple[str, ...]
    time: str | None
