"""The grids of a build, planned in the order in which they build on each other; and what others see of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from featureflow.contracts.cube import Cube
from featureflow.core.errors import PlanError
from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import join
from featureflow.execute.build_plan import PlannedGrids
from featureflow.execute.checks.stored_rows import read_rows
from featureflow.execute.grids.build import GridBuild
from featureflow.execute.grids.chunk_rows import rows_of
from featureflow.execute.grids.planning import mark_of, plan_grid
from featureflow.execute.grids.stored import GridCube
from featureflow.execute.grids.units import Cell, Lattice
from featureflow.execute.grids.zone_rows import zone_pieces, zone_rows
from featureflow.execute.site import Site
from featureflow.execute.stages import Piece
from featureflow.plan.grid_nodes import CompiledGrid, RowShape
from featureflow.tables.state import TableState, current_state


def plan_grids(
    grids: Mapping[str, CompiledGrid],
    names: list[str],
    site: Site,
    *,
    full: bool = False,
    learn: bool = False,
) -> PlannedGrids:
    """Plan the named grids; take the others as they are published.

    Parameters
    ----------
    grids
        All that take part, each after what it builds on.
    names
        Those that are built.
    learn
        Whether they are going to be built; see `plan_grid`.

    Raises
    ------
    PlanError
        If a task would need more memory than it may use, or a grid that is needed has no version of this definition.
    """
    builds: list[GridBuild] = []
    cubes: dict[str, GridCube] = {}
    for name, grid in grids.items():
        if name not in names:
            cubes[name] = published_cube(grid, site)
            continue
        taken: dict[str, Cube] = {}
        for other, found in grid.inputs.items():
            if found.cube is not None:
                taken[other] = found.cube
            else:
                _refuse_other_shape(name, grids[other], cubes[other])
                taken[other] = cubes[other]
        plan = plan_grid(grid, taken, site, full=full, learn=learn)
        builds.append(GridBuild(plan, site))
        cubes[name] = plan.cube(site.table_url(name))
    published = {name: cube for name, cube in cubes.items() if name not in names}
    pieces = {name: pieces_of(cube, grids[name].rows) for name, cube in published.items()}
    pieces |= {build.name: pieces_of(build.cube(), build.grid.rows) for build in builds}
    return PlannedGrids(builds, published, pieces)


def published_cube(grid: CompiledGrid, site: Site) -> GridCube:
    """A grid that this build does not make, as its latest version has it.

    Raises
    ------
    PlanError
        If there is none, or its definition is another.
    """
    url = site.table_url(grid.name)
    state = current_state(url)
    if state is None:
        raise PlanError(
            f"features.{grid.name} has no version yet, and is not selected. Select it too: --select +NAME."
        )
    if state.definition_hash != grid.definition_hash:
        raise PlanError(
            f"features.{grid.name} has changed since version {state.version}, and is not selected. Select it too: "
            "--select +NAME."
        )
    return stored_cube(grid, url, state)


def stored_cube(grid: CompiledGrid, url: str, state: TableState) -> GridCube:
    """A version of a grid as a cube; its outline is that of the version."""
    if grid.rows is not None:
        return _stored_zones(grid, url, state)
    arrays = state.record["arrays"]
    outline = grid.outline
    if arrays["mark"] != mark_of(grid):
        from featureflow.tables.arrays import open_arrays

        outline = open_arrays(url, arrays["snapshot"])
    chunks = {dim: int(n) for dim, n in arrays["chunks"].items()}
    link = [replace(grid.links[-1], made=outline)] if grid.links else []
    as_stored = replace(
        grid,
        links=(*grid.links[:-1], *link),
        start=grid.start if grid.links else outline,
        chunks=chunks,
    )
    dims = [str(dim) for dim in outline.sizes]
    named: dict[Cell, str] = {}
    for staged in state.files:
        for row in rows_of(read_rows(join(url, staged.path)).to_arrow(), dims):
            # by place: a stored outline may have its dimensions in another order
            if len(row.spans) == len(dims):
                named[tuple(row.spans[dim][0] // as_stored.unit[dim] for dim in dims)] = row.fingerprint
    return GridCube.of(as_stored, url, named, str(arrays["snapshot"]))


def _stored_zones(grid: CompiledGrid, url: str, state: TableState) -> GridCube:
    """A version of a grid of zones; one whose sources have changed since can't be told from its coordinates."""
    found = state.record["zones"]
    if found["mark"] != mark_of(grid):
        raise PlanError(
            f"features.{grid.name}: its sources have grown since its version. Build it too: --select +NAME."
        )
    sizes = {str(dim): int(n) for dim, n in grid.outline.sizes.items()}
    lattice = Lattice.of(sizes, {dim: int(n) for dim, n in found["chunks"].items()})
    cube = GridCube.of(
        replace(grid, chunks=dict(found["chunks"])),
        url,
        dict(zip(lattice, found["names"], strict=True)),
        str(state.record["slices"]["all"]),
    )
    cube.table = None if grid.rows is None else zone_rows(grid, grid.rows, url, state.files)
    return cube


def input_of(build: GridBuild) -> GridCube:
    """A grid of a build as the input of others, with its rows if it is one of zones and computed."""
    cube, shape = build.cube(), build.grid.rows
    if shape is not None:
        state = build.plan.state
        files = build.staged or (() if state is None else state.files)
        cube.table = zone_rows(build.plan.grid, shape, build.url, files)
    return cube


def _refuse_other_shape(name: str, upstream: CompiledGrid, cube: GridCube) -> None:
    sizes = {str(dim): int(n) for dim, n in upstream.outline.sizes.items()}
    if {str(dim): int(n) for dim, n in cube.outline.sizes.items()} != sizes:
        raise PlanError(
            f"features.{name} reads {upstream.name}, whose sources have grown since its version. Build it too: "
            "--select +NAME."
        )


def pieces_of(cube: GridCube, shape: RowShape | None = None) -> list[Piece]:
    """Chunks of a grid as the pieces of what reads them: by name, without times; parts of zones with their times."""
    if shape is not None:
        return zone_pieces(cube, shape)
    return [Piece(fingerprint([piece.id]), None, None, 0, 0, piece.size) for piece in cube.pieces()]
