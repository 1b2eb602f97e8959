"""Where boxes are cut into pieces that stay in a processor's cache; `featureflow.execute.grids.tiling` says why."""

from __future__ import annotations

from itertools import pairwise, product

from featureflow.contracts.cube import Region, Span
from featureflow.execute.grids.units import n_cells
from featureflow.execute.grids.volume import bytes_in
from featureflow.plan.grid_nodes import CompiledGrid

#: Bytes of the input of a piece, about: with what steps make of it, it fits the second or third cache.
PIECE_BYTES = 4 << 20


def pieces_of(grid: CompiledGrid, region: Region, since: int, until: int) -> list[Region]:
    """Cut a box of what link ``until`` takes, so that no two pieces need the same of what link ``since`` takes.

    The outermost dimensions are cut first: values of a piece that lie side by side stay so. A step that reads other
    sources reads them for all of the box.
    """
    spans = piece_spans(grid, region, since, until)
    return [dict(zip(spans, one, strict=True)) for one in product(*spans.values())]


def piece_spans(grid: CompiledGrid, region: Region, since: int, until: int) -> dict[str, list[Span]]:
    """Where a box is cut along each dimension."""
    taken, others = _taken(grid, region, since, until)
    outline = grid.links[since].taken
    n = -(-bytes_in(outline, taken) // PIECE_BYTES)
    spans: dict[str, list[Span]] = {dim: [span] for dim, span in region.items()}
    if n < 2 or others:
        return spans
    for dim, (low, high) in region.items():
        if n < 2 or high - low < 2:
            continue
        middle = (low + high) // 2
        halves = [
            _taken(grid, {**region, dim: span}, since, until)[0] for span in ((low, middle), (middle, high))
        ]
        if sum(n_cells(half) for half in halves) != n_cells(taken):
            continue
        k = min(n, high - low)
        spans[dim] = list(pairwise(low + (high - low) * i // k for i in range(k + 1)))
        n = -(-n // k)
    return spans


def _taken(grid: CompiledGrid, region: Region, since: int, until: int) -> tuple[Region, bool]:
    """Box that link ``since`` takes for a box that link ``until`` takes; whether other sources are read for it."""
    others = False
    for i, needs in grid.walk_back(region, until):
        if i < since:
            break
        region, others = needs.region, others or bool(needs.others)
    return region, others
