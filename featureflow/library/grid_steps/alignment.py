"""Where the labels of one cube are in another one: sources beside a step's input, aligned by their coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from featureflow.contracts.cube import Region, Span
from featureflow.contracts.grid_step import KNOWN_AT, Block, StepMistake
from featureflow.library.grid_steps.axes import is_time, known, with_known

Array = np.ndarray[Any, Any]
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Aligned:
    """Positions along one dimension that two cubes have in common, in the first one's order.

    Parameters
    ----------
    here, there
        Positions in the step's input and in the other cube.
    whole
        Whether these are all of the input's.
    """

    here: Array
    there: Array
    whole: bool


def aligned(
    cube: xr.Dataset, other: xr.Dataset, name: str, place: Place, *, shrink: bool
) -> dict[str, Aligned]:
    """Align every dimension that both have: each label of the input must be in the other cube.

    Parameters
    ----------
    shrink
        Whether it is also right if all of the other's labels are in the input: then these are left.

    Raises
    ------
    StepMistake
        Names the dimension and the first label that is not there.
    """
    found = {}
    for dim in cube.sizes:
        if dim in other.sizes:
            found[str(dim)] = _aligned(cube, other, str(dim), name, place, shrink)
    return found


def _aligned(cube: xr.Dataset, other: xr.Dataset, dim: str, name: str, place: Place, shrink: bool) -> Aligned:
    size, others = int(cube.sizes[dim]), int(other.sizes[dim])
    if dim not in cube.indexes or dim not in other.indexes:
        if size != others:
            text = f"{dim!r} has {size} positions here and {others} in {name!r}, and no coordinate to align them by."
            raise StepMistake(place, text)
        return Aligned(np.arange(size), np.arange(size), whole=True)
    mine, theirs = cube.indexes[dim], other.indexes[dim]
    for index, owner in ((mine, "here"), (theirs, f"in {name!r}")):
        if not index.is_unique:
            raise StepMistake(
                place, f"labels of {dim!r} are there more than once {owner}: nothing can be aligned."
            )
    there = _places(mine, theirs)
    if (there >= 0).all():
        return Aligned(np.arange(size), there, whole=True)
    if shrink and (_places(theirs, mine) >= 0).all():
        here = np.flatnonzero(there >= 0)
        return Aligned(here, there[here], whole=False)
    first = int(np.flatnonzero(there < 0)[0])
    beside = f" (there: {theirs[first]})" if size == others else ""
    count = int((there < 0).sum())
    raise StepMistake(
        place,
        f"{dim!r} does not align with {name!r}: label {mine[first]} at position {first} is not there{beside}; "
        f"{count} of {size} are not. Select what both have, or use regrid before.",
    )


def _places(labels: pd.Index[Any], within: pd.Index[Any]) -> Array:
    """Positions of labels, -1 for those that are not there, as for labels of another kind."""
    if labels.equals(within):
        return np.arange(len(labels))
    if (labels.dtype.kind in "iuf") != (within.dtype.kind in "iuf"):
        return np.full(len(labels), -1)
    return np.asarray(within.get_indexer(labels), np.int64)


@dataclass(frozen=True)
class Beside:
    """What a step remembers of a source beside its input, from its outline to its needs.

    Parameters
    ----------
    sizes
        Of the source's dimensions: all of those, and only those, that its variables have.
    found
        Of the dimensions that both have.
    """

    sizes: dict[str, int]
    found: dict[str, Aligned]

    def region_of(self, region: Region) -> Region:
        """Part of the source that goes with a region of the output; along dimensions of its own what is asked for."""
        return {
            dim: span_of(self.found[dim].there, region[dim])
            if dim in self.found
            else region.get(dim, (0, size))
            for dim, size in self.sizes.items()
        }


def sizes_of(used: xr.Dataset, other: xr.Dataset) -> dict[str, int]:
    """Sizes of a source's dimensions; one position is enough along those that nothing in use has."""
    return {str(dim): int(used.sizes.get(dim, min(1, size))) for dim, size in other.sizes.items()}


def span_of(places: Array, span: Span) -> Span:
    """From the first to the last of some positions."""
    wanted = places[span[0] : span[1]]
    return (int(wanted.min()), int(wanted.max()) + 1)


def taken_from(block: Block, made: xr.Dataset, region: Region, dims: Iterable[str]) -> xr.Dataset:
    """Cut the other cube's block along some dimensions to the labels of a region of the output, in its order.

    Without a coordinate positions are the same on both sides.
    """
    taken: dict[Any, Any] = {}
    for dim in dims:
        low, high = region[dim]
        start = block.region[dim][0]
        if dim in made.indexes and dim in block.data.indexes:
            places = _places(made.indexes[dim][low:high], block.data.indexes[dim])
            aside = places.size > 0 and bool((np.diff(places) == 1).all())
            taken[dim] = slice(int(places[0]), int(places[-1]) + 1) if aside else places
        else:
            taken[dim] = slice(low - start, high - start)
    return block.data.isel(taken)


def known_with(made: xr.Dataset, other: xr.Dataset, found: Mapping[str, Aligned]) -> xr.Dataset:
    """Values that come from two cubes are known when both are."""
    for dim in made.sizes:
        if KNOWN_AT in other.coords and str(dim) in found and is_time(made, dim) and is_time(other, dim):
            later = np.maximum(known(made, dim), known(other, dim)[found[str(dim)].there])
            return with_known(made, dim, later)
    return made
