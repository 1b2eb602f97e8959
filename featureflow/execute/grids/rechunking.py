"""The source of a grid, cut anew through scratch: each stored chunk is read and decoded once, whatever the boxes are.

Where stored chunks lie across the boxes (a chunk for each day, boxes of all days), each box decodes all chunks that it
touches. Instead a stage before reads slabs, which are whole stored chunks, and writes a raw file for each, in which the
values of every tile lie together; tiles are what the boundaries of all boxes cut the source into. A box then reads its
tiles out of all slabs: the same values, bit by bit.
"""

from __future__ import annotations

import os
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featureflow.contracts.cube import Cube, CubePiece, Region, Span, slices_of
from featureflow.core.errors import ComputeError
from featureflow.core.meter import spent
from featureflow.execute.exchange.disk_space import write_error
from featureflow.execute.grids.evaluate import read_block
from featureflow.execute.grids.units import Cell, overlap
from featureflow.execute.site import Site
from featureflow.execute.task import Shared, Task
from featureflow.execute.windows.spilling import spill_folder
from featureflow.plan.grid_nodes import CompiledGrid

#: A piece of a slab file: variable, tile, where it begins, what it has.
_Piece = tuple[str, Cell, int, Region]


@dataclass(frozen=True, slots=True)
class Rechunk:
    """How a source goes through scratch.

    Parameters
    ----------
    variables
        Those that do, with dimensions and dtype; each has all dimensions of the source.
    edges
        Boundaries of tiles along each dimension.
    tiles
        Those that boxes need.
    slabs
        Boxes of whole stored chunks: a task and a file each.
    bytes
        Of all files together.
    times
        How many times boxes would decode each chunk without it.
    memory
        What a task for a slab holds.
    """

    variables: Mapping[str, tuple[tuple[str, ...], np.dtype[Any]]]
    edges: Mapping[str, tuple[int, ...]]
    tiles: frozenset[Cell]
    slabs: tuple[Region, ...]
    bytes: int
    times: float
    memory: int

    def touching(self, region: Mapping[str, Span]) -> list[Cell]:
        """Tiles that a box has a part of."""
        return list(product(*(range(*span_of(self.edges[dim], region[dim])) for dim in self.edges)))

    def tile(self, cell: Cell) -> Region:
        """Positions of a tile."""
        return {
            dim: (edges[i], edges[i + 1]) for i, (dim, edges) in zip(cell, self.edges.items(), strict=True)
        }

    def holds(self, region: Mapping[str, Span]) -> bool:
        """Whether all values of a box are in the files."""
        return all(
            dim in region and edges[0] <= region[dim][0] and region[dim][1] <= edges[-1]
            for dim, edges in self.edges.items()
        ) and self.tiles.issuperset(self.touching(region))

    def pieces(self, slab: Region) -> list[_Piece]:
        """What the file of a slab has, in its order."""
        found, at = list[_Piece](), 0
        cells = [cell for cell in self.touching(slab) if cell in self.tiles]
        parts = [overlap(self.tile(cell), slab) for cell in cells]
        for name, (dims, dtype) in self.variables.items():
            for cell, part in zip(cells, parts, strict=True):
                found.append((name, cell, at, part))
                at += int(dtype.itemsize) * prod(part[dim][1] - part[dim][0] for dim in dims)
        return found


def span_of(edges: Sequence[int], span: Span) -> Span:
    """Numbers of the parts between edges that a range touches, half-open."""
    low, high = max(span[0], edges[0]), min(span[1], edges[-1])
    return (bisect_right(edges, low) - 1, bisect_left(edges, high)) if low < high else (0, 0)


class SpilledCube:
    """A cube whose values were cut anew; it reads from the source what did not go through scratch."""

    def __init__(self, cube: Cube, rechunk: Rechunk, folder: str) -> None:
        self.cube, self.rechunk, self.folder = cube, rechunk, folder
        self._pieces: dict[int, dict[tuple[str, Cell], tuple[int, Region]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Where it arrives it looks where pieces are when they are read."""
        return {**self.__dict__, "_pieces": {}}

    @property
    def outline(self) -> xr.Dataset:
        """That of the source."""
        return self.cube.outline

    @property
    def chunks(self) -> dict[str, tuple[int, ...]]:
        """Those of the source."""
        return self.cube.chunks

    def pieces(self, variables: Sequence[str] | None = None) -> list[CubePiece]:
        """Those of the source."""
        return self.cube.pieces(variables)

    def read(self, region: Region, variables: Sequence[str]) -> xr.Dataset:
        """Read a box, as the source gives it, without coordinates where nothing is read from the source.

        Raises
        ------
        ComputeError
            If a file is gone or too short.
        """
        names = [name for name in variables if name in self.rechunk.variables]
        if not names or not self.rechunk.holds(region):
            return self.cube.read(region, variables)
        rest = [name for name in variables if name not in names]
        base = self.cube.read(region, rest) if rest else xr.Dataset(attrs=self.outline.attrs)
        values = {}
        for name in names:
            dims, dtype = self.rechunk.variables[name]
            values[name] = np.empty([region[dim][1] - region[dim][0] for dim in dims], dtype)
        tiles = self.rechunk.touching(region)
        for number, slab in enumerate(self.rechunk.slabs):
            if all(low < high for low, high in overlap(slab, region).values()):
                self._read_slab(number, region, tiles, values)
        return base.assign(
            {
                name: xr.Variable(self.rechunk.variables[name][0], values[name], self.outline[name].attrs)
                for name in names
            }
        )

    def _read_slab(
        self, number: int, region: Region, tiles: list[Cell], values: dict[str, NDArray[Any]]
    ) -> None:
        """Fill in what a file has of a box."""
        where, path = self._places(number), slab_path(self.folder, number)
        with _opened(path) as file:
            for name, out in values.items():
                dims = self.rechunk.variables[name][0]
                for cell in tiles:
                    if (name, cell) not in where:
                        continue
                    at, part = where[name, cell]
                    both = overlap(part, region)
                    if any(low >= high for low, high in both.values()):
                        continue
                    place = slices_of(both, region)
                    target = out[tuple(place[dim] for dim in dims)]
                    file.seek(at)
                    if both == part and target.flags.c_contiguous:
                        _fill(file, target, path)
                        continue
                    whole = np.empty([part[dim][1] - part[dim][0] for dim in dims], out.dtype)
                    _fill(file, whole, path)
                    inside = slices_of(both, part)
                    target[...] = whole[tuple(inside[dim] for dim in dims)]

    def _places(self, number: int) -> dict[tuple[str, Cell], tuple[int, Region]]:
        if number not in self._pieces:
            pieces = self.rechunk.pieces(self.rechunk.slabs[number])
            self._pieces[number] = {(name, cell): (at, part) for name, cell, at, part in pieces}
        return self._pieces[number]


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError as error:
        raise ComputeError(
            f"{path} is gone: it was written by this build. Does something empty the scratch folder? Build again."
        ) from error
    with file:
        yield file


def _fill(file: Any, target: NDArray[Any], path: str) -> None:
    raw = target.reshape(-1).view(np.uint8)
    with spent("spill"):
        n = file.readinto(raw.data)
    if n != raw.size:
        raise ComputeError(
            f"{path} is shorter than what this build wrote. Is the scratch disk sound? Build again."
        )


def slab_path(folder: str, number: int) -> str:
    """File of a slab."""
    return os.path.join(folder, f"slab-{number}.raw")


@dataclass(frozen=True, slots=True)
class SpillJob:
    """What tasks that write slabs share."""

    grid: CompiledGrid
    cubes: dict[str, Cube]
    rechunk: Rechunk
    folder: str


def spill_slab(job: SpillJob, number: int) -> int:
    """Read a slab of the source and write its file; returns the bytes. A second attempt writes the same again."""
    pieces = job.rechunk.pieces(job.rechunk.slabs[number])
    region: Region = {}
    for dim in job.rechunk.edges:
        spans = [part[dim] for *_, part in pieces]
        region[dim] = min(low for low, _ in spans), max(high for _, high in spans)
    data = read_block(job.grid, job.cubes, region).within(region)
    path, written = slab_path(job.folder, number), 0
    temporary = f"{path}.{uuid4().hex}"
    try:
        with spent("spill"), open(temporary, "wb") as file:
            for name, _, _, part in pieces:
                place = slices_of(part, region)
                values = data[name].values[tuple(place[dim] for dim in job.rechunk.variables[name][0])]
                written += file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error, job.rechunk.bytes) from error
    return written


@contextmanager
def rechunked(
    rechunk: Rechunk | None, grid: CompiledGrid, cubes: dict[str, Cube], site: Site
) -> Iterator[dict[str, Cube]]:
    """Run the stage, if there is one; gives what boxes read, and removes the files in any case.

    What a killed process leaves goes at the end of the next build, by its name.
    """
    if rechunk is None:
        yield cubes
        return
    folder = spill_folder(site.scratch)
    stage = f"{grid.name}: rechunk"
    try:
        try:
            os.makedirs(folder)
        except OSError as error:
            raise write_error(folder, error, rechunk.bytes) from error
        site.progress.stage(stage, len(rechunk.slabs))
        job = Shared(f"{grid.name}-rechunk", SpillJob(grid, cubes, rechunk, folder))
        tasks = [
            Task(f"{grid.name}-slab-{i}", spill_slab, (job, i), f"{stage}, slab {i}")
            for i, slab in enumerate(rechunk.slabs)
        ]
        site.run(tasks, lambda _, n: site.progress.advance(stage, bytes=n))
        name = grid.source.name
        yield {**cubes, name: SpilledCube(cubes[name], rechunk, folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def slabs_of(
    chunks: Mapping[str, Sequence[int]], sizes: Mapping[str, int], value_bytes: int, most: int
) -> list[Region]:
    """Boxes of whole stored chunks, as large as ``most`` bytes allow, the last dimensions made long first."""
    cuts: dict[str, list[int]] = {}
    for dim, size in sizes.items():
        ends = np.minimum(np.cumsum([0, *(chunks.get(dim) or (size,))]), size)
        cuts[dim] = sorted({0, size, *map(int, ends)})
    longest = {dim: max(high - low for low, high in pairwise(edges)) for dim, edges in cuts.items()}
    for dim in reversed(cuts):
        others = prod(n for other, n in longest.items() if other != dim) * value_bytes
        k = max(1, min(len(cuts[dim]) - 1, most // max(1, others * longest[dim])))
        cuts[dim] = [*cuts[dim][:-1:k], cuts[dim][-1]]
        longest[dim] = max(high - low for low, high in pairwise(cuts[dim]))
    return [
        dict(zip(cuts, spans, strict=True))
        for spans in product(*(pairwise(edges) for edges in cuts.values()))
    ]
