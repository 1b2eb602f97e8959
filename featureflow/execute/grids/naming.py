"""Names of chunks and of what steps learn, from everything that their values depend on, worked out without any value.

A chunk is named by the definition of its grid, by the stored pieces that its needs reach, by what was learned, and by
the coordinates all the way. So a chunk keeps its name when days are appended that it does not look at, and takes
another one when anything changes that could show in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Cube, Region
from featureflow.core.fingerprints import fingerprint
from featureflow.execute.grids.piece_index import PieceIndex
from featureflow.execute.grids.units import Cell, Lattice, overlap
from featureflow.plan.compile_grid import ENGINE
from featureflow.plan.grid_nodes import CompiledGrid, Link


class Naming:
    """Gives the names of a grid's chunks and fits.

    Parameters
    ----------
    cubes
        What the grid reads, by name.
    """

    def __init__(self, grid: CompiledGrid, cubes: Mapping[str, Cube]) -> None:
        self.grid = grid
        used = {grid.source.name: [str(name) for name in grid.start.data_vars]}
        self.pieces = {
            name: PieceIndex(cube.pieces(used.get(name)), [str(dim) for dim in cube.outline.sizes])
            for name, cube in cubes.items()
        }
        self._outlines = [grid.start, *(link.made for link in grid.links)]
        self._others = {name: found.outline for name, found in grid.others.items()}
        self._axis = lru_cache(maxsize=1 << 16)(self._digest_axis)
        self._fits: dict[tuple[int, Cell], str] = {}
        made = grid.outline.data_vars.items()
        self._kind = [f"{name} {variable.dims} {variable.dtype}" for name, variable in made]

    def chunk(self, region: Region) -> str:
        """Name of the values in a box of the grid."""
        last = self.grid.prefixes[-1] if self.grid.prefixes else fingerprint([self.grid.definition["source"]])
        return fingerprint([ENGINE, last, self._kind, *self._reached(region, len(self.grid.links))])

    def tiles(self, link: int, region: Region) -> list[tuple[Cell, str]]:
        """Parts of what a fitted step learns that a box of its kept dimensions touches, with their names."""
        return [(tile, self._fit(link, tile)) for tile in kept_lattice(self.grid, link).touching(region)]

    def _fit(self, link: int, tile: Cell) -> str:
        if (link, tile) not in self._fits:
            found = self._reached(fit_box(self.grid, link, tile), link)
            self._fits[link, tile] = fingerprint([ENGINE, self.grid.prefixes[link], "fit", *found])
        return self._fits[link, tile]

    def _reached(self, region: Region, until: int) -> list[str]:
        """Everything that a box of the outline before link ``until`` depends on."""
        found = [self._coordinates(until, region)]
        for i, needs in self.grid.walk_back(region, until):
            region = needs.region
            found.append(self._coordinates(i, region))
            for name, part in needs.others.items():
                found.append(self._coordinates(name, part))
                found += self._touched(name, part)
            if self.grid.links[i].fitted is not None:
                found += [name for _, name in self.tiles(i, needs.fitted)]
        return found + self._touched(self.grid.source.name, region)

    def _touched(self, name: str, region: Region) -> list[str]:
        starts = {dim: low for dim, (low, _) in region.items()}
        found = []
        for piece in self.pieces[name].touching(region):
            at = [
                f"{dim}={low - starts.get(dim, 0)}:{high - starts.get(dim, 0)}"
                for dim, (low, high) in sorted(piece.region.items())
            ]
            found.append(" ".join((piece.id, *at)))
        return found

    def _coordinates(self, where: int | str, region: Region) -> str:
        found = [
            f"{dim}={high - low}:{self._axis(where, dim, low, high)}" for dim, (low, high) in region.items()
        ]
        outline = self._others[where] if isinstance(where, str) else self._outlines[where]
        for name, coordinate in outline.coords.items():
            if coordinate.ndim > 1 and is_in_memory(coordinate):
                part = coordinate.isel(
                    {d: slice(*region[str(d)]) for d in coordinate.dims if str(d) in region}
                )
                found.append(f"{name}={digest(part.values)}")
        return " ".join(found)

    def _digest_axis(self, where: int | str, dim: str, low: int, high: int) -> str:
        outline = self._others[where] if isinstance(where, str) else self._outlines[where]
        parts = [
            f"{name}={digest(coordinate.values[low:high])}"
            for name, coordinate in sorted(outline.coords.items(), key=lambda one: str(one[0]))
            if coordinate.dims == (dim,) and is_in_memory(coordinate)
        ]
        return fingerprint(parts, length=16)


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
