"""What a step of a grid must implement (spec section 10).

A grid is computed in regions: boxes of whole chunks of the output. To compute a region of its output, a step says
which region of its input it needs (a rolling mean needs the days before), is given that region in memory, and returns
exactly what was asked for. A value may depend on the values it needs, never on how the output is cut into regions: two
plans must give the same bytes. Steps see neither files nor Dask.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featureflow.contracts.cube import Region, slices_of

if TYPE_CHECKING:
    import xarray as xr

#: coordinate along the time dimension: when a value is known, where that is later than its label. Steps that take
#: several times together (a month's mean is labelled with its first day) give it; look-ups as of a time obey it.
KNOWN_AT = "known_at"


class StepMistake(ValueError):
    """A step does not fit its input: where in the step, and what to do."""

    def __init__(self, place: Sequence[str | int], message: str) -> None:
        super().__init__(message)
        self.place, self.message = tuple(place), message


@dataclass(frozen=True, slots=True)
class Needs:
    """What a step needs for a region of its output: of its input, of other sources, and of what was fitted."""

    region: Region
    others: dict[str, Region] = field(default_factory=dict)
    fitted: Region = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Block:
    """What a step's `Needs` asked for, in memory.

    Parameters
    ----------
    data, region
        Part of the step's input; ``region`` counts from the start of the whole input.
    others
        Blocks of other sources.
    fitted
        Of a `FittedStep`: what was fitted, cut to the region of `Needs.fitted`.
    """

    data: xr.Dataset
    region: Region
    others: Mapping[str, Block] = field(default_factory=dict)
    fitted: xr.Dataset | None = None

    def within(self, region: Region) -> xr.Dataset:
        """Give the data of a region of the same input, a view; what it does not name is whole."""
        there = {dim: region[dim] for dim in self.region if dim in region and dim in self.data.sizes}
        if all(self.region[dim] == span for dim, span in there.items()):
            return self.data
        return self.data.isel(slices_of(there, self.region))


class GridStep(ABC):
    """One step with its parameters; can be pickled. The spec's own values decide, so ``repr`` must show them all."""

    #: sources and grids beside the step's input that it reads
    others: tuple[str, ...] = ()
    #: of those, source -> variable (None: its only one) whose values decide the outline, as labels of zones do:
    #: whoever calls `outline` reads that variable first and gives it in memory
    loaded: Mapping[str, str | None] = {}

    @abstractmethod
    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Dimensions, coordinates, dtypes and attributes of the output, from those of the input; nothing is computed.

        Raises
        ------
        StepMistake
            If the step does not fit.
        """

    def needs(
        self,
        region: Region,
        cube: xr.Dataset,  # noqa: ARG002  outlines of the input and of the output
        made: xr.Dataset,  # noqa: ARG002
    ) -> Needs:
        """Which part of the input a region of the output is computed from; the same region unless a step says so."""
        return Needs(dict(region))

    def is_separable(
        self,
        cube: xr.Dataset,  # noqa: ARG002  outlines of the input and of the output
        made: xr.Dataset,  # noqa: ARG002
    ) -> bool:
        """Whether each range in what `needs` gives follows from the region's range along one dimension, whatever the
        others are. Then needs are worked out for each row of chunks, not for each chunk.
        """  # noqa: D205
        return True

    @abstractmethod
    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Compute a region of the output from the block that `needs` asked for.

        Parameters
        ----------
        made
            Outline of the whole output; the result has its dtypes, and its coordinates within the region.
        """


class FittedStep(GridStep):
    """A step that learns something small from a stated part of its input: a climatology, a mean, a scale.

    Sums are made cell by cell, where cells are the input's chunks, and combined in the cells' order, so that neither
    workers nor memory show in the result.
    """

    @abstractmethod
    def fit_region(self, cube: xr.Dataset) -> Region:
        """Part of the input that is learned from."""

    @property
    @abstractmethod
    def over(self) -> tuple[str, ...]:
        """Dimensions that are summed up; the others are kept."""

    @abstractmethod
    def fitted_outline(self, cube: xr.Dataset) -> xr.Dataset:
        """Outline of what `finish` returns."""

    @abstractmethod
    def partial(self, block: Block, cube: xr.Dataset) -> xr.Dataset:
        """Sums of one cell, or of the part of it that is learned from."""

    @abstractmethod
    def combine(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        """Sums of several cells that differ along `over` only, in their order."""

    @abstractmethod
    def finish(self, sums: xr.Dataset) -> xr.Dataset:
        """What `apply` is given."""
