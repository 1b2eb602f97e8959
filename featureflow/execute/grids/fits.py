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
from featureflow.core.storage import delete, exists, join, read_bytes, write_atomic
from featureflow.execute.grids.evaluate import apply_links, read_block, source_box
from featureflow.execute.grids.naming import fit_box, kept_lattice, learned_outline
from featureflow.execute.grids.packing import joined, pack, unpack
from featureflow.execute.grids.units import Cell, Lattice, contains, hull, overlap
from featureflow.plan.grid_nodes import CompiledGrid, Link

#: A tile of what a link's step learns.
Tile = tuple[int, Cell]


def fit_path(folder: str, name: str) -> str:
    """Where what was learned is kept."""
    return join(folder, f"{name}.npz")


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
        learned = finished(
            self.grid,
            link,
            [partial_of(self.grid, link, one, block) for one in fit_cells(self.grid, link, tile)],
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


@dataclass(frozen=True, slots=True)
class FitWork:
    """Sums of some cells of a tile: ``runs`` of cells that are read together; ``whole`` if these are all.

    ``path`` is where the result goes: what was learned if ``whole``, else the sums.
    """

    link: int
    tile: Cell
    runs: tuple[tuple[Region, ...], ...]
    names: tuple[tuple[Tile, str], ...]
    path: str
    whole: bool


def run_fit(work: FitWork, fits: Fits) -> None:
    """Read the cells of a fit, run by run, and write their sums, or what is learned from them."""
    parts = []
    for run in work.runs:
        box = hull(iter(run))
        read = read_block(fits.grid, fits.cubes, source_box(fits.grid, box, work.link))
        block = Block(apply_links(fits.grid, fits.cubes, read, box, fits, work.link), box)
        del read
        parts += [partial_of(fits.grid, work.link, cell, block) for cell in run]
    if work.whole:
        write_atomic(work.path, pack(finished(fits.grid, work.link, parts)), durable=False)
    else:
        for i, part in enumerate(parts):
            write_atomic(f"{work.path}-{i}.npz", pack(part), durable=False)


def combine_fit(grid: CompiledGrid, link: int, paths: tuple[str, ...], path: str) -> None:
    """Put sums together that several tasks made, in the cells' order, and write what is learned from them.

    Sums that are gone were put together already: by this task, whose worker then died, or by another build's.
    """
    try:
        parts = [unpack(read_bytes(one), one) for one in paths]
    except FileNotFoundError:
        if not exists(path):
            raise
        return
    write_atomic(path, pack(finished(grid, link, parts)), durable=False)
    for one in paths:
        delete(one)


def _fitted(link: Link) -> FittedStep:
    step = link.fitted
    if step is None:
        raise TypeError(f"{link.name} learns nothing")
    return step
