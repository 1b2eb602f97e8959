"""What boxes of a grid reach, link by link: for all chunks of a lattice at once, since a range mostly follows from one.

A grid of a year of days and a hundred tiles has 36,500 chunks, but what they need are products of 365 ranges of days
and a hundred of places. So the links are asked once for each row of chunks along a dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

from featureflow.contracts.cube import Region, Span
from featureflow.execute.grids.units import Cell, Lattice
from featureflow.plan.grid_nodes import CompiledGrid

#: Where a box lies: ``("at", i)`` of what link i takes, ``("fit", i)`` of what it has learned, or
#: ``("source:name", i)`` of another source that it reads.
Slot = tuple[str, int]
#: Range along a dimension of a slot.
Axis = tuple[Slot, str]


def other_slot(name: str, link: int) -> Slot:
    """Slot of another source that a link reads."""
    return f"source:{name}", link


def reach(grid: CompiledGrid, region: Region, until: int) -> dict[Slot, Region]:
    """Every box that a box of what link ``until`` takes is made from, itself included; the source's is the last."""
    found: dict[Slot, Region] = {("at", until): region}
    for i, needs in grid.walk_back(region, until):
        found.update((other_slot(name, i), part) for name, part in needs.others.items())
        if grid.links[i].fitted is not None:
            found["fit", i] = needs.fitted
        found["at", i] = needs.region
    return found


@dataclass(frozen=True, slots=True)
class Column:
    """Ranges of a slot along a dimension: one for each row of chunks along ``axis`` of the lattice, or one for all."""

    slot: Slot
    dim: str
    axis: int | None
    spans: tuple[Span, ...]

    def at(self, cell: Cell) -> Span:
        """That of a chunk."""
        return self.spans[0 if self.axis is None else cell[self.axis]]


def columns_of(grid: CompiledGrid, lattice: Lattice) -> list[Column] | None:
    """What each chunk of a lattice over the grid reaches, by dimension, in the order of `reach`.

    Returns
    -------
    list of Column or None
        None if a step's needs along one dimension depend on several (`GridStep.is_separable`).
    """
    if not all(link.step.is_separable(link.taken, link.made) for link in grid.links) or not len(lattice):
        return None
    until, first = len(grid.links), (0,) * len(lattice.dims)
    base = _axes(reach(grid, lattice.region(first), until))
    found: dict[Axis, tuple[int | None, tuple[Span, ...]]] = {
        key: (None, (one,)) for key, one in base.items()
    }
    for axis, count in enumerate(lattice.counts):
        rows = [base]
        for i in range(1, count):
            cell = (*first[:axis], i, *first[axis + 1 :])
            rows.append(_axes(reach(grid, lattice.region(cell), until)))
            if rows[-1].keys() != base.keys():
                return None
        for key, one in base.items():
            spans = tuple(row[key] for row in rows)
            if any(span != one for span in spans):
                found[key] = axis, spans
    return [Column(slot, dim, axis, spans) for (slot, dim), (axis, spans) in found.items()]


def _axes(found: dict[Slot, Region]) -> dict[Axis, Span]:
    return {(slot, dim): span for slot, region in found.items() for dim, span in region.items()}
