"""What fitted steps learn: sums over cells of their input, combined in the cells' order, kept by name.

A task whose block has everything that a tile is learned from makes the sums itself; else tasks of an own stage do. Both
go over the same cells, so that nobody can tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import xarray as xr

from featureflow.contracts.cube import Cube, Region, slices_of
from featureflow.contracts.grid_step import Block, FittedStep
from featureflow.core.errors import ComputeError, CorruptionError
from featureflow.core.meter import spent
from featureflow.core.storage import delete, read_bytes, write_atomic
from featureflow.execute.grids.evaluate import apply_links, read_block, source_box
from featureflow.execute.grids.known_fits import KnownFits, fit_path, same_path, sums_path
from featureflow.execute.grids.naming import fit_box, kept_lattice, learned_outline, settled_end
from featureflow.execute.grids.packing import joined, pack, unpack
from featureflow.execute.grids.units import Cell, Lattice, contains, hull, overlap
from featureflow.execute.grids.volume import bytes_in
from featureflow.plan.grid_nodes import CompiledGrid, Link

#: A tile of what a link's step learns.
Tile = tuple[int, Cell]
#: Sums of first cells are kept if they are smaller than what they are made of by this factor.
WORTH_KEEPING = 4


def over_lattice(link: Link) -> Lattice:
    """The cells of a fitted step's input along the dimensions that it sums up."""
    step = _fitted(link)
    return Lattice.of({str(d): int(link.taken.sizes[d]) for d in step.over}, link.cells)


def fit_cells(grid: CompiledGrid, link: int, tile: Cell) -> list[Region]:
    """Boxes whose sums are made one by one for a tile, in the order in which they are combined."""
    box = fit_box(grid, link, tile)
    lattice = over_lattice(grid.links[link])
    return [overlap(box, lattice.region(cell)) for cell in lattice.touching(box)]


@dataclass(slots=True)
class Fits:
    """Learned tiles for the tasks of a grid.

    Parameters
    ----------
    names
        Name of every tile that the task may ask for.
    folder
        Where tiles are kept.
    """

    grid: CompiledGrid
    cubes: Mapping[str, Cube]
    names: Mapping[Tile, str]
    folder: str
    fused: frozenset[Tile] = frozenset()
    _learned: dict[Tile, xr.Dataset] = field(default_factory=dict)

    def __call__(self, link: int, region: Region, block: Block) -> xr.Dataset:
        """Give what a step learned, cut to a box of the dimensions that it keeps."""
        found = self.grid.links[link]
        kept = kept_lattice(self.grid, link)
        parts = []
        box = {dim: region.get(dim, (0, size)) for dim, size in zip(kept.dims, kept.sizes, strict=True)}
        for tile in kept.touching(box):
            place = kept.region(tile)
            if (link, tile) not in self._learned:
                self._learned[link, tile] = self._tile(link, tile, block)
            learned = self._learned[link, tile]
            cut = {d: (max(low, box[d][0]), min(high, box[d][1])) for d, (low, high) in place.items()}
            learned = learned.isel(slices_of(cut, place), missing_dims="ignore")
            parts.append((slices_of(cut, box), learned))
        outline = learned_outline(found).isel(slices_of(box), missing_dims="ignore")
        made = joined(outline, parts)
        return made.assign_coords(outline.coords)

    def _tile(self, link: int, tile: Cell, block: Block) -> xr.Dataset:
        name = self.names[link, tile]
        path = fit_path(self.folder, name)
        if (link, tile) not in self.fused:
            try:
                return unpack(read_bytes(path), path)
            except (FileNotFoundError, CorruptionError) as error:
                if isinstance(error, CorruptionError):
                    delete(path)  # the next build makes it again
                if not contains(block.region, fit_box(self.grid, link, tile)):
                    raise ComputeError(
                        f"{path}: what step {self.grid.links[link].name!r} learned is gone or damaged. Build again."
                    ) from None
        parts = [partial_of(self.grid, link, one, block) for one in fit_cells(self.grid, link, tile)]
        learned = finished(
            self.grid, link, with_kept_sums(self.grid, (link, tile), parts, sums_path(self.folder, name))
        )
        write_atomic(path, pack(learned), durable=False)
        return learned


def partial_of(grid: CompiledGrid, link: int, cell: Region, block: Block) -> xr.Dataset:
    """Sums of one cell, from a block that has it."""
    found = grid.links[link]
    data = block.data if cell == block.region else block.data.isel(slices_of(cell, block.region))
    with spent(f"compute:{found.name}"):
        return _fitted(found).partial(Block(data, cell), found.taken)


def finished(grid: CompiledGrid, link: int, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """What a step learns from sums."""
    step = _fitted(grid.links[link])
    return step.finish(step.combine(parts))


def settled_cells(grid: CompiledGrid, tile: Tile) -> list[Region]:
    """The first cells of a fit: those that a longer source leaves as they are."""
    end = settled_end(grid, *tile)
    dim = _fitted(grid.links[tile[0]]).over[0]
    return [] if end is None else [cell for cell in fit_cells(grid, *tile) if cell[dim][1] <= end]


def with_kept_sums(
    grid: CompiledGrid, tile: Tile, parts: Sequence[xr.Dataset], path: str
) -> list[xr.Dataset]:
    """Put the sums of the first cells together and keep them, if they are small; the others as they are."""
    first = settled_cells(grid, tile)
    if not first:
        return list(parts)
    sums = _fitted(grid.links[tile[0]]).combine(parts[: len(first)])
    if WORTH_KEEPING * sums.nbytes <= bytes_in(grid.links[tile[0]].taken, hull(iter(first))):
        write_atomic(path, pack(sums), durable=False)
    return [sums, *parts[len(first) :]]


@dataclass(frozen=True, slots=True)
class FitGoal:
    """A tile to learn, and where what is learned goes.

    Parameters
    ----------
    begun
        Whether the sums of the first cells are there already.
    like
        Name of what was learned before: if it is the same, only that is written down.
    """

    tile: Tile
    folder: str
    name: str
    begun: bool = False
    like: str = ""


def learn_tile(grid: CompiledGrid, goal: FitGoal, parts: Sequence[xr.Dataset]) -> None:
    """Put the sums of all cells, but for those that are there already, together; write what is learned from them."""
    path = sums_path(goal.folder, goal.name)
    parts = [_kept(path), *parts] if goal.begun else with_kept_sums(grid, goal.tile, parts, path)
    data = pack(finished(grid, goal.tile[0], parts))
    if goal.like and _bytes_of(fit_path(goal.folder, goal.like)) == data:
        write_atomic(same_path(goal.folder, goal.name, goal.like), b"", durable=False)
    else:
        write_atomic(fit_path(goal.folder, goal.name), data, durable=False)


def _kept(path: str) -> xr.Dataset:
    try:
        return unpack(read_bytes(path), path)
    except (FileNotFoundError, CorruptionError):
        delete(path)
        raise ComputeError(
            f"{path}: sums of what a step learns from are gone or damaged. Build again."
        ) from None


def _bytes_of(path: str) -> bytes:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        return b""


@dataclass(frozen=True, slots=True)
class FitWork:
    """Sums of some cells of a tile: ``runs`` of cells that are read together.

    ``goal`` if these are all; else ``path`` is where the sums go.
    """

    tile: Tile
    runs: tuple[tuple[Region, ...], ...]
    names: tuple[tuple[Tile, str], ...]
    goal: FitGoal | None = None
    path: str = ""


def run_fit(work: FitWork, fits: Fits) -> None:
    """Read the cells of a fit, run by run, and write their sums, or what is learned from them."""
    parts, link = [], work.tile[0]
    for run in work.runs:
        box = hull(iter(run))
        read = read_block(fits.grid, fits.cubes, source_box(fits.grid, box, link))
        block = Block(apply_links(fits.grid, fits.cubes, read, box, fits, link), box)
        del read
        parts += [partial_of(fits.grid, link, cell, block) for cell in run]
    if work.goal is not None:
        learn_tile(fits.grid, work.goal, parts)
        return
    for i, part in enumerate(parts):
        write_atomic(f"{work.path}-{i}.npz", pack(part), durable=False)


def combine_fit(grid: CompiledGrid, goal: FitGoal, paths: tuple[str, ...]) -> None:
    """Put sums together that several tasks made, in the cells' order, and write what is learned from them.

    Sums that are gone were put together already: by this task, whose worker then died, or by another build's.
    """
    try:
        parts = [unpack(read_bytes(one), one) for one in paths]
    except FileNotFoundError:
        if not KnownFits.of(goal.folder).knows(goal.name):
            raise
        return
    learn_tile(grid, goal, parts)
    for one in paths:
        delete(one)


def _fitted(link: Link) -> FittedStep:
    step = link.fitted
    if step is None:
        raise TypeError(f"{link.name} learns nothing")
    return step
