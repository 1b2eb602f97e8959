"""Values at points, chunk by chunk: each chunk with a point is read and decoded once.

Where a cube can give a variable's stored chunks, no boxes are made of them, and what conventions do to numbers (scale,
offset, fill values) is done to the points after they are gathered. Else boxes of chunks are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.cube import Cube
from featureflow.core.meter import moved
from featureflow.execute.grids.kept_memory import KeptMemory
from featureflow.execute.grids.values import HasChunks, read_values
from featureflow.kernels.chunk_points import (
    Addresses,
    PointGroups,
    chunk_bounds,
    gather_points,
    group_points,
)

if TYPE_CHECKING:
    from featureflow.library.cubes.zarr_chunks import Cell, PointChunks

Bounds = tuple[NDArray[np.int64], ...]
#: Calls a function for each number, in any order, also several at once.
Run = Callable[[Callable[[int], None], Sequence[int]], Any]

#: Chunks are read together up to so many decoded bytes: a store that is far away answers several at once.
READ_BYTES = 8 << 20


class PointReader:
    """Variables of a cube on the same dimensions, to take values at points of.

    Parameters
    ----------
    names, dims
        The variables, and the dimensions that all of them have, in their order; one at least.
    """

    def __init__(self, cube: Cube, names: Sequence[str], dims: Sequence[str]) -> None:
        self._cube, self._names, self._dims = cube, tuple(names), tuple(dims)
        self._stored: dict[str, PointChunks] = {}
        for name in names if isinstance(cube, HasChunks) else ():
            found = cube.chunks_of(name)  # type: ignore[attr-defined]  # HasChunks
            if found is not None:
                self._stored[name] = found
        self._boxed = [name for name in names if name not in self._stored]

    def frames(self) -> dict[str, Bounds]:
        """Of each variable, where its chunks begin along each dimension; equal ones are one object."""
        shapes: dict[tuple[int, ...], Bounds] = {}
        sizes = [int(self._cube.outline.sizes[dim]) for dim in self._dims]
        for each in self._stored.values():
            shape = each.chunks.shape
            if shape not in shapes:
                shapes[shape] = tuple(
                    np.arange(-(-size // part) + 1, dtype=np.int64) * part
                    for size, part in zip(sizes, shape, strict=True)
                )
        boxes = tuple(chunk_bounds(self._cube.chunks[dim]) for dim in self._dims)
        return {
            name: shapes[self._stored[name].chunks.shape] if name in self._stored else boxes
            for name in self._names
        }

    def gather(self, addresses: Mapping[str, Addresses], run: Run) -> dict[str, NDArray[Any]]:
        """Take the values of all variables at points; of those in no chunk it is any value.

        Parameters
        ----------
        addresses
            Of the points in the chunks of each variable; variables with the same frame have one object.

        Notes
        -----
        Cost: a read of each chunk that has a point, and of no other; O(points) beside it. Memory: 8 bytes a point, the
        values as stored and finished, and the chunks in work.
        """
        found: dict[str, NDArray[Any]] = {}
        for points in {id(each): each for each in addresses.values()}.values():
            mine = [name for name in self._stored if addresses[name] is points]
            groups = group_points(points) if mine else None
            for name in mine:
                assert groups is not None  # noqa: S101  as there are names
                found[name] = plain(_gathered(groups, self._stored[name], len(points.numbers), run))
        if self._boxed:
            values = self._from_boxes(addresses[self._boxed[0]], run)
            found.update(zip(self._boxed, values, strict=True))
        return found

    def _from_boxes(self, points: Addresses, run: Run) -> list[NDArray[Any]]:
        dtypes = [_carried(self._cube.outline[name].dtype) for name in self._boxed]
        width = sum(dtype.itemsize for dtype in dtypes) * prod(max(self._cube.chunks[d]) for d in self._dims)
        read = partial(read_box, self._cube, self._boxed, self._dims)
        return gather_points(points, read, dtypes, run, together=max(1, READ_BYTES // max(width, 1)))


def _gathered(groups: PointGroups, stored: PointChunks, n_points: int, run: Run) -> NDArray[Any]:
    chunks = stored.chunks
    # moved as they are, whatever they mean
    same = np.dtype(f"u{chunks.dtype.itemsize}")
    out = np.zeros(n_points, same)
    fill = chunks.fill.view(same)
    together = max(1, READ_BYTES // max(chunks.nbytes, 1))
    n_found, kept = len(groups.found), KeptMemory()
    firsts = range(0, n_found, together)

    def take(k: int) -> None:
        low = firsts[k]
        cells = groups.cells(low, min(low + together, n_found))
        packed = stored.guard(cells[0], lambda: chunks.fetch(cells))
        for i, cell in enumerate(cells):
            data, packed[i] = packed[i], None
            if data is None:
                groups.fill(low + i, fill, out)
            else:
                memory = kept.array("chunk", (chunks.nbytes,), np.dtype(np.uint8))
                groups.take(low + i, _decoded(stored, cell, data, memory).view(same), out)

    run(take, range(len(firsts)))
    return stored.finish(out.view(chunks.dtype))


def _decoded(stored: PointChunks, cell: Cell, data: Any, memory: NDArray[np.uint8]) -> NDArray[Any]:
    values: NDArray[Any] = stored.guard(cell, lambda: stored.chunks.decode(data, memory))
    moved("decode", values.nbytes)
    return values


def read_box(
    cube: Cube, names: Sequence[str], dims: Sequence[str], box: tuple[slice, ...]
) -> list[NDArray[Any]]:
    """Values of variables in a box, as they are carried."""
    region = {dim: (part.start, part.stop) for dim, part in zip(dims, box, strict=True)}
    return [plain(values) for values in read_values(cube, region, list(names))]


def _carried(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What the values of an array are carried as."""
    return np.dtype(np.int64) if dtype.kind == "M" else np.dtype(np.float32) if dtype == np.float16 else dtype


def plain(values: NDArray[Any]) -> NDArray[Any]:
    """Values as they are carried: times in microseconds, float16 as float32."""
    if values.dtype.kind == "M":
        micro = values.astype("datetime64[us]").astype(np.int64)
        return np.asarray(micro)
    return values.astype(_carried(values.dtype.newbyteorder("=")), copy=False)
