"""Values of a box of a grid: read what it needs, apply the steps one after the other, check what each one made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Cube, Region, slices_of
from featureflow.contracts.grid_step import Block, Needs
from featureflow.core.errors import ComputeError, SourceError
from featureflow.core.meter import spent
from featureflow.plan.grid_nodes import CompiledGrid, Link

#: Gives what a fitted step learned: link, its box of kept dimensions, the block that is being worked on.
Fitted = Callable[[int, Region, Block], "xr.Dataset | None"]


def source_box(grid: CompiledGrid, region: Region, until: int | None = None) -> Region:
    """Box of the source that a box of the grid (of the input of link ``until``) is made from."""
    for _, needs in grid.walk_back(region, until):
        region = needs.region
    return region


def read_block(grid: CompiledGrid, cubes: Mapping[str, Cube], region: Region) -> Block:
    """Read a box of the source, with exactly the variables and coordinates of the chain's start."""
    return Block(_read(cubes[grid.source.name], grid.source.name, grid.start, region), region)


def _read(cube: Cube, name: str, outline: xr.Dataset, region: Region) -> xr.Dataset:
    wanted = [str(one) for one in outline.data_vars]
    with spent("decode"):
        data = cube.read(region, wanted)
    data = data[wanted].drop_vars([c for c in data.coords if c not in outline.coords and c not in wanted])
    for one in wanted:
        if data[one].dtype != outline[one].dtype:
            raise SourceError(
                f"sources.{name}: {one} is {data[one].dtype} in {_shown(region)}, but {outline[one].dtype} by the "
                "metadata. Do all files have one dtype? Use cast in the spec if they don't."
            )
    missing = [c for c in outline.coords if c not in data.coords]
    return data.assign_coords(
        {c: outline.coords[c].isel(slices_of(region), missing_dims="ignore") for c in missing}
    )


def apply_links(
    grid: CompiledGrid,
    cubes: Mapping[str, Cube],
    block: Block,
    region: Region,
    fitted: Fitted,
    until: int | None = None,
    since: int = 0,
) -> xr.Dataset:
    """Compute a box of the grid (of the input of link ``until``) from a block that has all it needs.

    The block is of the source, or of the input of link ``since``. Nothing is kept longer than the next step needs it.
    """
    steps: list[tuple[int, Needs]] = [one for one in grid.walk_back(region, until) if one[0] >= since][::-1]
    targets = [*(needs.region for _, needs in steps[1:]), *([region] if steps else [])]
    first = steps[0][1].region if steps else region
    data = block.within(first)
    for (i, needs), target in zip(steps, targets, strict=True):
        link = grid.links[i]
        others = {
            name: Block(_read(cubes[name], name, grid.others[name].outline, part), part)
            for name, part in needs.others.items()
        }
        taken = Block(data, needs.region, others)
        del data
        if link.fitted is not None:
            taken = replace(taken, fitted=fitted(i, needs.fitted, taken))
        with spent(f"compute:{link.name}"):
            data = link.step.apply(taken, target, link.made)
        check_made(link, data, target)
    return data


def check_made(link: Link, data: xr.Dataset, region: Region) -> None:
    """Compare what a step made with what it said that it would make.

    Raises
    ------
    ComputeError
        If dimensions, coordinates, variables or dtypes differ.
    """
    wrong = _difference(link.made, data, region)
    if wrong:
        raise ComputeError(
            f"step {link.name!r} made something else than it said, in {_shown(region)}: {wrong}. This is a bug of the "
            "step; please report it with the spec."
        )


def _difference(made: xr.Dataset, data: xr.Dataset, region: Region) -> str:
    if set(data.data_vars) != set(made.data_vars):
        return f"variables {sorted(map(str, data.data_vars))}, not {sorted(map(str, made.data_vars))}"
    for name, variable in made.data_vars.items():
        found = data[name]
        if found.dtype != variable.dtype:
            return f"{name} is {found.dtype}, not {variable.dtype}"
        if found.dims != variable.dims:
            return f"{name} has the dimensions {found.dims}, not {variable.dims}"
        shape = tuple(region[str(dim)][1] - region[str(dim)][0] for dim in variable.dims)
        if found.shape != shape:
            return f"{name} has the shape {found.shape}, not {shape}"
    for name, index in made.indexes.items():
        expected = index[slice(*region[str(name)])] if str(name) in region else index
        if name not in data.coords or not np.array_equal(data.indexes[name].values, expected.values):
            return f"coordinate {name} differs"
    return ""


def _shown(region: Region) -> str:
    return ", ".join(f"{dim} {low}:{high}" for dim, (low, high) in region.items()) or "all"
