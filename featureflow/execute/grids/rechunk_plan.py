"""Whether the source of a grid goes through scratch before its boxes are computed, decided before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from featureflow.contracts.cube import Cube, Region
from featureflow.execute.exchange.disk_space import free_bytes
from featureflow.execute.grids import footprint
from featureflow.execute.grids.evaluate import source_box
from featureflow.execute.grids.naming import is_in_memory
from featureflow.execute.grids.piece_index import PieceIndex
from featureflow.execute.grids.rechunking import Rechunk, slabs_of
from featureflow.execute.grids.stored import GridCube
from featureflow.execute.grids.tasks import Box
from featureflow.execute.grids.volume import bytes_in
from featureflow.execute.site import Site
from featureflow.observe.units import size
from featureflow.plan.grid_nodes import CompiledGrid

#: Boxes that would decode each stored chunk more often than this are given a source that is cut anew: to write it once
#: and to read it again takes about two thirds of what decoding it takes.
TIMES = 3.0
#: Less than this, saved in decoding, is not worth a stage and files.
WORTH_BYTES = 256 << 20
#: A slab in memory is about as large.
SLAB_BYTES = 96 << 20
#: What a task for a slab holds, for each byte of it: values, as they are stored, a piece in another order.
SLAB_SHARE = 2.5
#: Pieces of a file, on average, are at least as large: smaller ones cost more to find than chunks to decode.
PIECE_BYTES = 32 << 10
#: Stored bytes that are not below this share of those in memory are not compressed: a part of them can be read.
COMPRESSED = 0.95
#: Free bytes of scratch, for each byte that is written there.
ROOM = 1.2


def plan_rechunk(
    grid: CompiledGrid, cube: Cube, index: PieceIndex, boxes: Sequence[Box], site: Site
) -> tuple[Rechunk | None, tuple[str, ...]]:
    """Decide how a source goes through scratch; None, and maybe why, if its boxes read it as it is stored.

    Parameters
    ----------
    cube, index
        The grid's source, and its stored pieces. Another grid is read as it is stored.

    Notes
    -----
    Cost: what boxes need, once each. The answer depends on metadata, boxes, memory, free scratch and what is shared.
    """
    if isinstance(cube, GridCube) or len(boxes) <= TIMES or not _is_plain(grid):
        return None, ()
    whole = {str(dim): (0, int(n)) for dim, n in cube.outline.sizes.items()}
    if index.bytes >= COMPRESSED * bytes_in(grid.start, whole):
        return None, ()
    found = _cut(grid, cube, [source_box(grid, box.region) for box in boxes], site.budget.task_bytes)
    decoded = sum(footprint.read_bytes(grid, box.region) for box in boxes)
    once = sum(bytes_in(grid.start, slab) for slab in found.slabs)
    times = decoded / max(1, once)
    if times <= TIMES or decoded - 2 * once < WORTH_BYTES:
        return None, ()
    n_pieces = sum(len(found.pieces(slab)) for slab in found.slabs)
    if found.bytes < PIECE_BYTES * n_pieces:
        return None, ()
    said = f"boxes decode each stored chunk of {grid.source.name} {times:.1f} times; it could be cut anew once, but "
    if site.exchange not in ("auto", "shared"):
        return None, (f"{said}that needs a scratch folder that all workers share (--scratch).",)
    if found.memory > site.budget.task_bytes:
        return None, (f"{said}{size(found.memory)} of memory for one stored chunk are too much (--memory).",)
    free = free_bytes(site.scratch)
    if free < ROOM * found.bytes:
        needed = (
            f"{size(int(ROOM * found.bytes))} are needed in scratch and {size(free)} are free (--scratch)"
        )
        return None, (f"{said}{needed}.",)
    return replace(found, times=times), ()


def _is_plain(grid: CompiledGrid) -> bool:
    """Whether values are numbers or times, and coordinates known, so that raw bytes are all that is to be kept."""
    start = grid.start
    return all(is_in_memory(one) for one in start.coords.values()) and all(
        one.dtype.kind in "biufcmM" and set(one.dims) == set(start.sizes) for one in start.data_vars.values()
    )


def _cut(grid: CompiledGrid, cube: Cube, regions: list[Region], task_bytes: int) -> Rechunk:
    """Tiles between the boundaries of all boxes, and slabs that have some of them."""
    start = grid.start
    sizes = {str(dim): int(n) for dim, n in cube.outline.sizes.items()}
    edges = {dim: tuple(sorted({end for region in regions for end in region[dim]})) for dim in sizes}
    value_bytes = sum(int(one.dtype.itemsize) for one in start.data_vars.values())
    most = min(SLAB_BYTES, int((task_bytes - footprint.FIXED_BYTES) / SLAB_SHARE))
    variables = {str(name): (tuple(map(str, one.dims)), one.dtype) for name, one in start.data_vars.items()}
    found = Rechunk(variables, edges, frozenset(), (), 0, 1.0, 0)
    tiles = frozenset(cell for region in regions for cell in found.touching(region))
    slabs = slabs_of(cube.chunks, sizes, value_bytes, most)
    needed = tuple(slab for slab in slabs if not tiles.isdisjoint(found.touching(slab)))
    return Rechunk(
        variables,
        edges,
        tiles,
        needed,
        sum(bytes_in(start, found.tile(cell)) for cell in tiles),
        1.0,
        footprint.FIXED_BYTES + int(SLAB_SHARE * max((bytes_in(start, slab) for slab in needed), default=0)),
    )
