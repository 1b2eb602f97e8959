"""The steps of a task, over pieces of its box that stay in a processor's cache.

A task reads a box of some hundred megabytes, so that stored chunks are decoded once. Steps over all of it would write
and read arrays of that size one after the other, each of fresh pages: half of the time of a chain. A value does not
depend on how a grid is cut, so the steps run piece by piece, wherever pieces need nothing of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Cube, Region, slices_of
from featureflow.contracts.grid_step import Block
from featureflow.execute.grids.evaluate import apply_links
from featureflow.execute.grids.fits import Fits
from featureflow.execute.grids.piecewise import pieces_of
from featureflow.plan.grid_nodes import CompiledGrid


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
