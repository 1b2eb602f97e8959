"""Names of chunks and of what steps learn, from everything that their values depend on, worked out without any value.

A chunk is named by the definition of its grid, by the stored pieces that its needs reach, by what was learned, and by
the coordinates all the way. So a chunk keeps its name when days are appended that it does not look at, and takes
another one when anything changes that could show in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Cube, Region, Span
from featureflow.core.fingerprints import fingerprint
from featureflow.execute.grids.piece_index import PieceIndex
from featureflow.execute.grids.reach import Slot, columns_of, other_slot, reach
from featureflow.execute.grids.units import Cell, Lattice, overlap
from featureflow.plan.compile_grid import ENGINE
from featureflow.plan.grid_nodes import CompiledGrid, Link


class Naming:
    """Gives the names of a grid's chunks and fits.

    Parameters
    ----------
    cubes
        What the grid reads, by name.
    same
        What was learned from other pieces and is the same as something else, with the name of that: it goes by it.
    pieces
        Of the cubes, if they have been asked for.
    """

    def __init__(
        self,
        grid: CompiledGrid,
        cubes: Mapping[str, Cube],
        same: Mapping[str, str] | None = None,
        pieces: Mapping[str, PieceIndex] | None = None,
    ) -> None:
        self.grid, self.same = grid, dict(same or {})
        used = {grid.source.name: [str(name) for name in grid.start.data_vars]}
        self.pieces: Mapping[str, PieceIndex] = pieces or {
            name: PieceIndex(cube.pieces(used.get(name)), [str(dim) for dim in cube.outline.sizes])
            for name, cube in cubes.items()
        }
        self._named: dict[Slot, str] = {
            other_slot(name, i): name for i, link in enumerate(grid.links) for name in link.step.others
        }
        slots: list[Slot] = [*(("at", i) for i in range(len(grid.links) + 1)), *self._named]
        self._planes: dict[Slot, list[str]] = {slot: _planes(self._outline(slot)) for slot in slots}
        self._lines: dict[tuple[Slot, str], list[tuple[str, np.ndarray]]] = {}
        self._axis = lru_cache(maxsize=1 << 18)(self._digest_axis)
        self._plane = lru_cache(maxsize=1 << 12)(self._digest_plane)
        self._learned = lru_cache(maxsize=1 << 16)(self._digest_learned)
        self._fits: dict[tuple[int, Cell], str] = {}
        self._from: dict[tuple[int, Cell], str] = {}
        self._ends: dict[int, int | None] = {}
        made = grid.outline.data_vars.items()
        kind = [f"{name} {variable.dims} {variable.dtype}" for name, variable in made]
        last = grid.prefixes[-1] if grid.prefixes else fingerprint([grid.definition["source"]])
        self._head = fingerprint([ENGINE, last, kind])

    def chunk(self, region: Region) -> str:
        """Name of the values in a box of the grid."""
        found = reach(self.grid, region, len(self.grid.links))
        return self._name(self._head, self._along(found), self._beside(found))

    def chunks(self, lattice: Lattice) -> dict[Cell, str]:
        """Names of all chunks; what a row of chunks along a dimension has in common is looked at once."""
        columns = columns_of(self.grid, lattice)
        if columns is None:
            return {cell: self.chunk(lattice.region(cell)) for cell in lattice}
        digests = [
            (column.axis, [self._axis(column.slot, column.dim, span) for span in column.spans])
            for column in columns
        ]
        first = reach(self.grid, lattice.region((0,) * len(lattice.dims)), len(self.grid.links))
        wide = [slot for slot in first if self._has_beside(slot)]
        beside = [column for column in columns if column.slot in wide]
        found = {}
        for cell in lattice:
            along = [one[0 if axis is None else cell[axis]] for axis, one in digests]
            boxes: dict[Slot, Region] = {slot: {} for slot in wide}
            for column in beside:
                boxes[column.slot][column.dim] = column.at(cell)
            found[cell] = self._name(self._head, along, self._beside(boxes))
        return found

    def tiles(self, link: int, region: Region) -> list[tuple[Cell, str]]:
        """Parts of what a fitted step learns that a box of its kept dimensions touches, with their names."""
        return [(tile, self._fit(link, tile)) for tile in kept_lattice(self.grid, link).touching(region)]

    def knowing(self, same: Mapping[str, str]) -> Naming:
        """The same pieces, knowing of other things that are the same."""
        return Naming(self.grid, {}, same, self.pieces)

    def _fit(self, link: int, tile: Cell) -> str:
        if (link, tile) not in self._fits:
            name = self.learned_from(link, tile)
            self._fits[link, tile] = self.same.get(name, name)
        return self._fits[link, tile]

    def learned_from(self, link: int, tile: Cell) -> str:
        """Name of what a tile is learned from: step and tile, what its first cells are made from, what all are."""
        if (link, tile) in self._from:
            return self._from[link, tile]
        prefix, box = self.grid.prefixes[link], fit_box(self.grid, link, tile)
        if link not in self._ends:
            self._ends[link] = settled_end(self.grid, link, tile)
        slot, first, end = fingerprint([ENGINE, prefix, list(tile)], length=16), "none", self._ends[link]
        if end is not None:
            dim = _over(self.grid.links[link])[0]
            first = self._inputs("sums", {**box, dim: (box[dim][0], end)}, link)[:16]
        self._from[link, tile] = f"{slot}-{first}-{self._inputs('fit', box, link)}"
        return self._from[link, tile]

    def _inputs(self, what: str, region: Region, link: int) -> str:
        found = reach(self.grid, region, link)
        head = fingerprint([ENGINE, self.grid.prefixes[link], what])
        return self._name(head, self._along(found), self._beside(found))

    def _name(self, head: str, along: Iterable[bytes], beside: Iterable[bytes]) -> str:
        parts = (head.encode(), *along, *beside)
        return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()

    def _along(self, found: Mapping[Slot, Region]) -> Iterator[bytes]:
        """What boxes have along each dimension by itself: lengths, labels, and where stored pieces begin."""
        for slot, region in found.items():
            for dim, span in region.items():
                yield self._axis(slot, dim, span)

    def _has_beside(self, slot: Slot) -> bool:
        return slot[0] == "fit" or self._source_of(slot) is not None or bool(self._planes.get(slot))

    def _beside(self, found: Mapping[Slot, Region]) -> Iterator[bytes]:
        """What boxes have beyond that: the names of stored pieces and of what was learned, coordinates of planes."""
        for slot, region in found.items():
            if slot[0] == "fit":
                yield self._learned(slot[1], tuple(region.items()))
            for name in self._planes.get(slot, ()):
                dims = [dim for dim in map(str, self._outline(slot)[name].dims) if dim in region]
                yield self._plane(slot, name, tuple((dim, region[dim]) for dim in dims))
            source = self._source_of(slot)
            if source is not None:
                yield hashlib.blake2b(b"|".join(self.pieces[source].named(region)), digest_size=16).digest()

    def _source_of(self, slot: Slot) -> str | None:
        """Name of the source that a slot is a box of."""
        return self.grid.source.name if slot == ("at", 0) else self._named.get(slot)

    def _outline(self, slot: Slot) -> xr.Dataset:
        if slot in self._named:
            return self.grid.others[self._named[slot]].outline
        return self.grid.links[slot[1] - 1].made if slot[1] else self.grid.start

    def _digest_learned(self, link: int, region: tuple[tuple[str, Span], ...]) -> bytes:
        names = fingerprint([name for _, name in self.tiles(link, dict(region))])
        return bytes.fromhex(names)

    def _digest_plane(self, slot: Slot, name: str, region: tuple[tuple[str, Span], ...]) -> bytes:
        """Digest of a coordinate of several dimensions, within a box."""
        part = self._outline(slot)[name].isel({dim: slice(*span) for dim, span in region})
        return digest(part.values).encode()

    def _digest_axis(self, slot: Slot, dim: str, span: Span) -> bytes:
        low, high = span
        parts = [f"{slot} {dim}={high - low}".encode()]
        if slot[0] != "fit":
            lines = self._lines.get((slot, dim))
            if lines is None:
                lines = self._lines[slot, dim] = [
                    (str(name), coordinate.values)
                    for name, coordinate in sorted(
                        self._outline(slot).coords.items(), key=lambda one: str(one[0])
                    )
                    if coordinate.dims == (dim,) and is_in_memory(coordinate)
                ]
            parts += [f"{name}={digest(values[low:high])}".encode() for name, values in lines]
        source = self._source_of(slot)
        if source is not None:
            parts.append(self.pieces[source].layout(dim, span))
        return hashlib.blake2b(b"\n".join(parts), digest_size=16).digest()


def kept_lattice(grid: CompiledGrid, link: int) -> Lattice:
    """Tiles of what a fitted step learns: the cells of its input along the dimensions that it keeps."""
    return _learned(grid.links[link])[1]


def learned_outline(link: Link) -> xr.Dataset:
    """Outline of what a step learns."""
    return _learned(link)[2]


@lru_cache(maxsize=256)
def _learned(link: Link) -> tuple[Region, Lattice, xr.Dataset]:
    """What a step learns from, in which tiles, and the outline of it; steps look at coordinates to tell."""
    if link.fitted is None:
        raise TypeError(f"{link.name} learns nothing")
    over = set(link.fitted.over)
    kept = {str(dim): int(n) for dim, n in link.taken.sizes.items() if dim not in over}
    outline = link.fitted.fitted_outline(link.taken)
    return link.fitted.fit_region(link.taken), Lattice.of(kept, link.cells), outline


def fit_box(grid: CompiledGrid, link: int, tile: Cell) -> Region:
    """Part of a fitted step's input that a tile is learned from."""
    return overlap(_learned(grid.links[link])[0], kept_lattice(grid, link).region(tile))


def _planes(outline: xr.Dataset) -> list[str]:
    """Coordinates of several dimensions, in memory."""
    return [str(name) for name, one in outline.coords.items() if one.ndim > 1 and is_in_memory(one)]


def settled_end(grid: CompiledGrid, link: int, tile: Cell) -> int | None:
    """How far along the first dimension that it sums up a fit's cells stay as they are when the source gets longer.

    None if all of them do, or none, as far as can be told: of chunks of one size, the last one may be filled up.
    """
    dim, box = _over(grid.links[link])[0], fit_box(grid, link, tile)
    stored = grid.source.chunks.get(dim, ())
    if len(stored) < 2 or stored[-1] == max(stored):
        return None
    whole, (low, high) = sum(stored[:-1]), box[dim]
    size = grid.links[link].cells.get(dim, high)
    end = high
    while end > low:
        region: Region = {**box, dim: (low, end)}
        for _, needs in grid.walk_back(region, link):
            region = needs.region
        if dim not in region:
            return None
        if region[dim][1] <= whole:
            return end if end < high else None
        end = (end - 1) // size * size
    return None


def _over(link: Link) -> tuple[str, ...]:
    if link.fitted is None:
        raise TypeError(f"{link.name} learns nothing")
    return link.fitted.over


def is_in_memory(coordinate: xr.DataArray) -> bool:
    """Whether the values of a coordinate are there without reading a file."""
    return isinstance(coordinate.variable, xr.IndexVariable) or isinstance(
        getattr(coordinate.variable, "_data", None), np.ndarray
    )


def digest(values: np.ndarray) -> str:
    """Digest of some values of a coordinate, with their dtype."""
    if values.dtype.kind == "O":
        data = repr([str(value) for value in values.ravel()]).encode()
    else:
        data = np.ascontiguousarray(values).tobytes()
    return hashlib.blake2b(data + str((values.dtype.str, values.shape)).encode(), digest_size=8).hexdigest()
