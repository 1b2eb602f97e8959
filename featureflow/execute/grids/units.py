"""Cells of a lattice over dimensions: chunks of a grid, cells of a step's input, and those that a box touches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod

from featureflow.contracts.cube import Region, Span

#: Position of a cell: one number for each dimension of its lattice, in order.
Cell = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lattice:
    """Boxes of one size, the last ones of each dimension smaller, that together cover everything."""

    dims: tuple[str, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Mapping[str, int], steps: Mapping[str, int]) -> Lattice:
        """Of dimensions in the order of ``sizes``; a dimension without a step is one cell."""
        dims = tuple(str(dim) for dim in sizes)
        lengths = tuple(int(sizes[dim]) for dim in dims)
        return cls(
            dims, lengths, tuple(max(1, int(steps.get(dim, n))) for dim, n in zip(dims, lengths, strict=True))
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """How many cells there are along each dimension."""
        return tuple(-(-size // step) for size, step in zip(self.sizes, self.steps, strict=True))

    def __len__(self) -> int:
        """How many cells there are."""
        return prod(self.counts)

    def __iter__(self) -> Iterator[Cell]:
        """All cells; the last dimension runs fastest."""
        return product(*(range(n) for n in self.counts))

    def region(self, cell: Cell) -> Region:
        """Positions that a cell has."""
        return {
            dim: (i * step, min(size, (i + 1) * step))
            for dim, i, step, size in zip(self.dims, cell, self.steps, self.sizes, strict=True)
        }

    def hull(self, cells: Collection[Cell]) -> Region:
        """The smallest box around some cells."""
        found: Region = {}
        for dim, step, size, axis in zip(
            self.dims, self.steps, self.sizes, zip(*cells, strict=True), strict=True
        ):
            found[dim] = min(axis) * step, min(size, (max(axis) + 1) * step)
        return found

    def touching(self, region: Mapping[str, Span]) -> Iterator[Cell]:
        """Cells that have a position in a box; a dimension that the box does not have is taken whole."""
        spans = []
        for dim, step, size in zip(self.dims, self.steps, self.sizes, strict=True):
            low, high = region.get(dim, (0, size))
            spans.append(range(low // step, -(-high // step)) if high > low else range(0))
        return product(*spans)


def hull(regions: Iterator[Region]) -> Region:
    """The smallest box around some."""
    found: Region = {}
    for region in regions:
        for dim, (low, high) in region.items():
            at = found.get(dim, (low, high))
            found[dim] = (min(low, at[0]), max(high, at[1]))
    return found


def contains(outer: Mapping[str, Span], inner: Mapping[str, Span]) -> bool:
    """Whether a box has all of another one; an empty one is in every box."""
    if any(high <= low for low, high in inner.values()):
        return True
    return all(
        dim in outer and outer[dim][0] <= low and high <= outer[dim][1] for dim, (low, high) in inner.items()
    )


def overlap(one: Mapping[str, Span], other: Mapping[str, Span]) -> Region:
    """What two boxes share; along dimensions that only one has, as that has it."""
    found = dict(one)
    for dim, (low, high) in other.items():
        at = found.get(dim, (low, high))
        found[dim] = (max(low, at[0]), max(low, at[0], min(high, at[1])))
    return found


def n_cells(region: Mapping[str, Span]) -> int:
    """How many values a variable with all of the box's dimensions has in it."""
    return prod(high - low for low, high in region.values())
