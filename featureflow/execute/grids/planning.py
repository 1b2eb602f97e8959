"""What a build of one grid will do, worked out before anything runs: which chunks, in which tasks, for which bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featureflow.contracts.cube import Cube
from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import join, list_names
from featureflow.execute.checks.stored_rows import read_rows
from featureflow.execute.grids.chunk_rows import ChunkRow, Owners, rows_of
from featureflow.execute.grids.evaluate import source_box
from featureflow.execute.grids.known_fits import KnownFits
from featureflow.execute.grids.naming import Naming, digest, fit_box, is_in_memory
from featureflow.execute.grids.progress import find_progress, is_there
from featureflow.execute.grids.rechunk_plan import plan_rechunk
from featureflow.execute.grids.rechunking import Rechunk
from featureflow.execute.grids.relearning import learn_again
from featureflow.execute.grids.stored import ZONES, GridCube
from featureflow.execute.grids.tasks import Cut, cut_grid
from featureflow.execute.grids.units import Cell, Lattice
from featureflow.execute.site import Site
from featureflow.execute.sizing import refuse_small_budget
from featureflow.execute.stages import Change
from featureflow.observe.units import plural
from featureflow.plan.compile_grid import with_chunks
from featureflow.plan.grid_nodes import CompiledGrid
from featureflow.tables.state import TableState, current_state

#: Folder of what steps have learned, below a table.
FITS = "_ff/fits"


@dataclass(frozen=True, slots=True)
class GridPlan:
    """What will happen to one grid.

    Parameters
    ----------
    chunks
        Fingerprint of every chunk of the new version.
    missing
        Chunks to compute.
    kept
        Rows that stay: of the current version, and of a build that was stopped.
    mark
        Name of the coordinates and attributes: they can change where no value does.
    naming
        What gave the names, with the pieces of what is read.
    fits
        What was learned before.
    base
        Snapshot to begin on: of the current version, or of a build that was stopped.
    rechunk
        How the source goes through scratch before; None if boxes read it as it is stored.
    notes
        What whoever reads the plan should know.
    """

    grid: CompiledGrid
    change: Change
    reason: str
    lattice: Lattice
    chunks: dict[Cell, str] = field(repr=False)
    missing: tuple[Cell, ...] = field(repr=False)
    kept: tuple[ChunkRow, ...] = field(repr=False)
    cut: Cut = field(repr=False)
    state: TableState | None = field(repr=False)
    cubes: dict[str, Cube] = field(repr=False)
    mark: str
    estimate: dict[str, int]
    naming: Naming = field(repr=False)
    fits: KnownFits = field(repr=False)
    base: str | None
    rechunk: Rechunk | None = field(repr=False)
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the grid."""
        return self.grid.name

    @property
    def does_something(self) -> bool:
        """Whether a new version will be published."""
        return self.change != "unchanged"

    def input_of(self, name: str) -> dict[str, Any]:
        """What there is of an input: pieces, bytes, and a name of all of it, for records."""
        pieces = self.naming.pieces[name]
        ids = sorted(f"{piece.id} {sorted(piece.region.items())}" for piece in pieces.pieces)
        return {"pieces": len(pieces.pieces), "bytes": pieces.bytes, "fingerprint": fingerprint(ids)}

    def cube(self, url: str) -> GridCube:
        """The grid as the input of another one."""
        arrays = (self.state.record.get("arrays") or {}) if self.state else {}
        snapshot = "" if self.does_something else str(arrays.get("snapshot", ""))
        return GridCube.of(self.grid, url, self.chunks, snapshot)


def plan_grid(
    grid: CompiledGrid, cubes: Mapping[str, Cube], site: Site, *, full: bool = False, learn: bool = False
) -> GridPlan:
    """Decide which chunks of a grid have to be computed, and in which tasks.

    Parameters
    ----------
    cubes
        What it reads, by name: sources, and other grids as they are planned or published.
    learn
        Learn again what may be the same as before, though pieces that it was learned from are others: so that the
        plan knows. Else they count as another fit, and the plan may have chunks that a build needs not compute.

    Raises
    ------
    PlanError
        If a task would need more memory than it may use; with the numbers.
    """
    url = site.table_url(grid.name)
    state = current_state(url)
    grid = _with_chunks_of(grid, state)
    sizes = {str(dim): int(n) for dim, n in grid.outline.sizes.items()}
    lattice = Lattice.of(sizes, grid.unit)
    known = _known_rows(grid, state, url)
    fresh = state is None or state.definition_hash != grid.definition_hash
    base = None if state is None else (state.record.get("arrays") or {}).get("snapshot")
    known = {} if full or fresh else known
    there = set() if full or grid.rows is None else set(list_names(join(url, ZONES)))
    names = {row.fingerprint for row in known.values()} | {name.removesuffix(".npz") for name in there}
    naming, fits = _naming(grid, lattice, cubes, site, names if learn else set())
    chunks = naming.chunks(lattice)
    mark = mark_of(grid)
    if grid.rows is not None:
        missing = [cell for cell, name in chunks.items() if f"{name}.npz" not in there]
        kept = list[ChunkRow]()
    else:
        missing, kept = _split(grid, lattice, chunks, known)
        for found in find_progress(url, grid) if missing and not full else ():
            unfinished, rows = _split(
                grid, lattice, chunks, {(row.variable, row.chunk): row for row in found.rows}
            )
            if len(unfinished) < len(missing) and is_there(url, found):
                missing, kept, base = unfinished, rows, found.snapshot
    change, reason = _explain(grid, state, mark, missing, chunks, full=full)
    if missing:
        refuse_small_budget(site.budget)
    learned = set() if full else set(fits.files)
    cut = cut_grid(grid, lattice, missing, naming, learned, site.budget, site.executor.capacity)
    rechunk = plan_rechunk(grid, cubes[grid.source.name], naming.pieces[grid.source.name], cut.boxes, site)
    estimate = _estimate(grid, lattice, naming, cut, missing, site, rechunk[0])
    return GridPlan(
        grid,
        change,
        reason,
        lattice,
        chunks,
        tuple(missing),
        tuple(kept),
        cut,
        state,
        dict(cubes),
        mark,
        estimate,
        naming,
        fits,
        base,
        *rechunk,
    )


def _naming(
    grid: CompiledGrid, lattice: Lattice, cubes: Mapping[str, Cube], site: Site, kept: Collection[str]
) -> tuple[Naming, KnownFits]:
    """What gives names, and what was learned before; that is learned again if some of the chunks may stay by it."""
    naming = Naming(grid, cubes)
    if not any(link.fitted for link in grid.links):
        return naming, KnownFits()
    folder = join(site.table_url(grid.name), FITS)
    fits = KnownFits.of(folder)
    naming = naming.knowing(fits.same)
    return learn_again(naming, lattice, cubes, site, folder, fits, kept) if kept else (naming, fits)


def mark_of(grid: CompiledGrid) -> str:
    """Name of everything that readers see beside values: coordinates, attributes, dtypes, dimensions, chunks."""
    outline = grid.outline
    found: list[Any] = [
        sorted(grid.chunks.items()),
        sorted((grid.shards or {}).items()),
        _plain(outline.attrs),
    ]
    for name, variable in outline.variables.items():
        there = name in outline.coords and is_in_memory(outline[name])
        values = digest(variable.values) if there else ""
        found.append(
            [str(name), [str(d) for d in variable.dims], str(variable.dtype), _plain(variable.attrs), values]
        )
    return fingerprint([repr(found)])


def name_of_all(mark: str, chunks: Mapping[Cell, str]) -> str:
    """Name of all that a version has."""
    return fingerprint([mark, *chunks.values()])


def _plain(attrs: Mapping[Any, Any]) -> list[tuple[str, str]]:
    return sorted((str(name), repr(value)) for name, value in attrs.items())


def _with_chunks_of(grid: CompiledGrid, state: TableState | None) -> CompiledGrid:
    """Take the chunk sizes of the current version where the spec leaves them open: a longer cube keeps its chunks."""
    if state is None or state.definition_hash != grid.definition_hash:
        return grid
    stored = (state.record.get("arrays") or state.record.get("zones") or {}).get("chunks") or {}
    sizes = {str(dim): int(n) for dim, n in grid.outline.sizes.items()}
    if set(stored) != set(sizes) or any(grid.shards or {}):
        return grid
    return with_chunks(grid, {dim: min(grid.given.get(dim, int(stored[dim])), n) for dim, n in sizes.items()})


def _known_rows(grid: CompiledGrid, state: TableState | None, url: str) -> dict[tuple[str, Cell], ChunkRow]:
    """Rows of the current version by variable and chunk; none if its arrays are cut otherwise: they begin anew."""
    if state is None or "arrays" not in state.record:
        return {}
    dims = [str(dim) for dim in grid.outline.sizes]
    arrays = state.record["arrays"]
    shards = None if grid.shards is None else dict(grid.shards)
    if [list(arrays["dims"]), arrays["chunks"], arrays["shards"]] != [dims, dict(grid.chunks), shards]:
        return {}
    tables = [read_rows(join(url, staged.path)).to_arrow() for staged in state.files]
    return {(row.variable, row.chunk): row for table in tables for row in rows_of(table, dims)}


def _split(
    grid: CompiledGrid,
    lattice: Lattice,
    chunks: Mapping[Cell, str],
    known: Mapping[tuple[str, Cell], ChunkRow],
) -> tuple[list[Cell], list[ChunkRow]]:
    """Chunks to compute, and rows to keep."""
    owners = Owners(grid.outline, lattice.dims)
    missing, kept = [], []
    for cell, name in chunks.items():
        rows = [known.get((variable, own)) for variable, _, own in owners.of(cell)]
        found = [row for row in rows if row is not None and row.fingerprint == name]
        if len(found) == len(rows) and rows:
            kept += found
        elif rows:
            missing.append(cell)
    return missing, kept


def _explain(
    grid: CompiledGrid,
    state: TableState | None,
    mark: str,
    missing: list[Cell],
    chunks: Mapping[Cell, str],
    *,
    full: bool,
) -> tuple[Change, str]:
    if state is None:
        return "new", "no version yet"
    if state.definition_hash != grid.definition_hash:
        return (
            "definition changed",
            f"definition {state.definition_hash[:8]} of version {state.version} is another",
        )
    if full:
        return "full rebuild", "--full was given"
    arrays = state.record.get("arrays") or state.record.get("zones") or {}
    if state.record["slices"] == {"all": name_of_all(mark, chunks)} and not missing:
        return "unchanged", f"version {state.version} has it all"
    sizes = {str(dim): int(n) for dim, n in grid.outline.sizes.items()}
    before = dict(arrays.get("sizes") or {})
    grown = [f"{dim} {before[dim]} → {n}" for dim, n in sizes.items() if before.get(dim, n) != n]
    if grown:
        return "new data", f"{', '.join(grown)} since version {state.version}"
    if missing:
        return (
            "late data",
            f"the input of {plural(len(missing), 'chunk')} changed since version {state.version}",
        )
    return "new data", f"coordinates or attributes changed since version {state.version}"


def _estimate(
    grid: CompiledGrid,
    lattice: Lattice,
    naming: Naming,
    cut: Cut,
    missing: list[Cell],
    site: Site,
    rechunk: Rechunk | None,
) -> dict[str, int]:
    """Numbers of a plan: bytes as they are stored for what is read, in memory for what is written."""
    index = naming.pieces[grid.source.name]
    times = np.zeros(len(index.pieces), np.int64)
    regions = rechunk.slabs if rechunk else [source_box(grid, box.region) for box in cut.boxes]
    for region in regions:
        times[index.numbers(region)] += 1
    for (link, cell), _ in cut.fits:
        times[index.numbers(source_box(grid, fit_box(grid, link, cell), link))] += 1
    return {
        "chunks": len(lattice),
        "chunks_computed": len(missing),
        "chunks_reused": len(lattice) - len(missing),
        "tasks": len(cut.boxes),
        "fits": len(cut.fits),
        "bytes_read": int((times * index.sizes).sum()),
        "bytes_touched": int(index.sizes[times > 0].sum()),
        "bytes_total": index.bytes,
        "bytes_written": _bytes_written(grid, lattice, missing),
        "bytes_rechunked": rechunk.bytes if rechunk else 0,
        "rechunk_tasks": len(rechunk.slabs) if rechunk else 0,
        "task_bytes": max(cut.memory, rechunk.memory if rechunk else 0),
        "budget_bytes": site.budget.task_bytes,
    }


def _bytes_written(grid: CompiledGrid, lattice: Lattice, missing: list[Cell]) -> int:
    """Bytes in memory of some chunks."""
    if not missing:
        return 0
    cells = np.array(missing, np.int64).reshape(-1, len(lattice.dims))
    steps = np.array(lattice.steps, np.int64)
    lengths = np.minimum((cells + 1) * steps, lattice.sizes) - cells * steps
    found = 0
    for variable in grid.outline.data_vars.values():
        axes = [lattice.dims.index(str(dim)) for dim in variable.dims]
        found += int(lengths[:, axes].prod(axis=1).sum()) * int(variable.dtype.itemsize)
    return found
