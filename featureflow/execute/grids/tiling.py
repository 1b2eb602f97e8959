"""The steps of a task, over pieces of its box that stay in a processor's cache.

A task reads a box of some hundred megabytes, so that stored chunks are decoded once. Steps over all of it would write
and read arrays of that size one after the other, each of fresh pages: half of the time of a chain. A value does not
depend on how a grid is cut, so the steps run piece by piece, wherever pieces need nothing of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, product
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Cube, Region, Span, slices_of
from featureflow.contracts.grid_step import Block
from featureflow.execute.grids.evaluate import apply_links
from featureflow.execute.grids.fits import Fits
from featureflow.execute.grids.footprint import bytes_in
from featureflow.execute.grids.units import n_cells
from featureflow.plan.grid_nodes import CompiledGrid

#: Bytes of the input of a piece, about: with what steps make of it, it fits the second or third cache.
PIECE_BYTES = 4 << 20


def compute_tiled(
    grid: CompiledGrid, cubes: Mapping[str, Cube], block: Block, region: Region, fits: Fits
) -> xr.Dataset:
    """Compute a box of the grid from a block of the source that has all it needs, as `apply_links` does.

    What a step learns from the block itself it learns from all of it, before its own pieces.
    """
    own = {link for link, _ in fits.fused}
    since = 0
    for link, needs in list(grid.walk_back(region))[::-1]:
        if link in own:
            block = Block(_pieces(grid, cubes, block, needs.region, fits, since, link), needs.region)
            fits(link, needs.fitted, block)
            since = link
    return _pieces(grid, cubes, block, region, fits, since, len(grid.links))


def _pieces(
    grid: CompiledGrid,
    cubes: Mapping[str, Cube],
    block: Block,
    region: Region,
    fits: Fits,
    since: int,
    until: int,
) -> xr.Dataset:
    """What link ``until`` takes, from what link ``since`` takes."""
    if since == until:
        return block.within(region)
    whole: dict[str, tuple[tuple[str, ...], Any, dict[Any, Any]]] = {}
    coordinates: set[str] = set()
    parts = pieces_of(grid, region, since, until)
    for part in parts:
        data = apply_links(grid, cubes, block, part, fits, until, since)
        if len(parts) == 1:
            return data
        for key, variable in data.variables.items():
            name, dims = str(key), tuple(map(str, variable.dims))
            if name not in whole:
                shape = tuple(region[dim][1] - region[dim][0] for dim in dims)
                whole[name] = (dims, np.empty(shape, variable.dtype), dict(variable.attrs))
            place = slices_of({dim: part[dim] for dim in dims}, region)
            whole[name][1][tuple(place[dim] for dim in dims)] = variable.values
        coordinates = set(map(str, data.coords))
    return xr.Dataset(
        {name: one for name, one in whole.items() if name not in coordinates},
        {name: one for name, one in whole.items() if name in coordinates},
        data.attrs,
    )


def pieces_of(grid: CompiledGrid, region: Region, since: int, until: int) -> list[Region]:
    """Cut a box of what link ``until`` takes, so that no two pieces need the same of what link ``since`` takes.

    The outermost dimensions are cut first: values of a piece that lie side by side stay so. A step that reads other
    sources reads them for all of the box.
    """
    taken, others = _taken(grid, region, since, until)
    outline = grid.links[since].taken
    n = -(-bytes_in(outline, taken) // PIECE_BYTES)
    if n < 2 or others:
        return [region]
    spans: dict[str, list[Span]] = {dim: [span] for dim, span in region.items()}
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
    return [dict(zip(spans, one, strict=True)) for one in product(*spans.values())]


def _taken(grid: CompiledGrid, region: Region, since: int, until: int) -> tuple[Region, bool]:
    """Box that link ``since`` takes for a box that link ``until`` takes; whether other sources are read for it."""
    others = False
    for i, needs in grid.walk_back(region, until):
        if i < since:
            break
        region, others = needs.region, others or bool(needs.others)
    return region, others
