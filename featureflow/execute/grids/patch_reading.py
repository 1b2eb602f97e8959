"""Reading patches of grids: which are read together, and their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.cube import Cube, Region
from featureflow.execute.grids.kept_memory import KeptMemory
from featureflow.execute.grids.stored import GridCube
from featureflow.execute.grids.values import read_values
from featureflow.kernels.patches import cut_overlaps, cut_patches
from featureflow.library.cubes.zarr_chunks import ZarrChunks
from featureflow.plan.patches import PatchField, PatchLayout
from featureflow.tables.arrays_chunks import read_chunks, stored_chunks

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Box:
    """Patches that are read together: a half-open range of places on the lattice along each dimension."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    def numbers(self, layout: PatchLayout) -> Longs:
        """Numbers of its patches, rising."""
        ranges = [np.arange(a, b) for a, b in zip(self.low, self.high, strict=True)]
        places = np.stack([grid.reshape(-1) for grid in np.meshgrid(*ranges, indexing="ij")])
        return layout.numbers(places)


def cut_boxes(
    layout: PatchLayout, chunks: Mapping[str, Sequence[int]], patch_bytes: int, target: int
) -> list[Box]:
    """Divide patches into boxes: about ``target`` bytes of patches each, at the borders of chunks where that fits.

    Notes
    -----
    Cost: a chunk is read by each box that has a patch in it: by one if no patch lies across chunks.
    """
    lengths = box_lengths(layout, chunks, patch_bytes, target)
    edges = []
    for length, stride, count in zip(lengths, layout.stride, layout.counts, strict=True):
        firsts = (
            -(-np.arange(0, (count - 1) * stride + 1, length) // stride) if count else np.zeros(0, np.int64)
        )
        places = np.unique(np.append(firsts[firsts < count], count))
        edges.append([(int(a), int(b)) for a, b in pairwise(places)])
    return [Box(tuple(a for a, _ in ranges), tuple(b for _, b in ranges)) for ranges in product(*edges)]


def box_lengths(
    layout: PatchLayout, chunks: Mapping[str, Sequence[int]], patch_bytes: int, target: int
) -> list[int]:
    """Cells along each dimension in which the patches of a box begin."""
    lengths = [
        min(max((*chunks.get(dim, ()), 1)), size) for dim, size in zip(layout.dims, layout.sizes, strict=True)
    ]
    cell = max(patch_bytes // max(prod(layout.patch), 1), 1)

    def size_of(given: list[int]) -> int:
        each = list(zip(given, layout.patch, layout.stride, strict=True))
        n = prod(max(1, length // stride) for length, _, stride in each)
        return max(n * patch_bytes, cell * prod(length + patch - stride for length, patch, stride in each))

    while size_of(lengths) > target:
        places = [length // stride for length, stride in zip(lengths, layout.stride, strict=True)]
        widest = int(np.argmax(places)) if places else 0
        if not places or places[widest] <= 1:
            break
        lengths[widest] = max(layout.stride[widest], lengths[widest] // 2)
    growing = [d for d, size in enumerate(layout.sizes) if lengths[d] < size]
    while growing:
        narrow = min(growing, key=lambda d: (lengths[d] / layout.patch[d], d))
        wider = list(lengths)
        wider[narrow] = min(2 * lengths[narrow], layout.sizes[narrow])
        if size_of(wider) > target:
            growing.remove(narrow)
            continue
        lengths = wider
        if lengths[narrow] >= layout.sizes[narrow]:
            growing.remove(narrow)
    return lengths


def owners(layout: PatchLayout, boxes: Sequence[Box], numbers: Longs) -> Longs:
    """Position of the box that each patch is in, among all boxes of `cut_boxes`."""
    places = layout.starts(numbers) // np.array(layout.stride, np.int64)[:, None]
    owner = np.zeros(len(numbers), np.int64)
    for d, place in enumerate(places):
        edges = np.array(sorted({box.low[d] for box in boxes}), np.int64)
        owner = owner * len(edges) + np.searchsorted(edges, place, side="right") - 1
    return owner


def region_of(layout: PatchLayout, starts: Longs) -> Region:
    """The smallest region that has all of these patches."""
    return {
        dim: (int(first.min()), int(first.max()) + size)
        for dim, first, size in zip(layout.dims, starts, layout.patch, strict=True)
    }


def read_patches(
    cubes: Mapping[str, Cube],
    fields: Sequence[PatchField],
    layout: PatchLayout,
    starts: Longs,
    memory: KeptMemory | None = None,
) -> Iterator[tuple[PatchField, NDArray[Any]]]:
    """Give the values of each field, ``(n, *field.shape)``, one field after the other.

    Parameters
    ----------
    memory
        Where values go; they are overwritten by the next call with the same memory. None for memory of their own.

    Notes
    -----
    Cost: one read of the smallest region that has all of the patches, from each source. A grid of this project is cut
    chunk by chunk as it is decoded; of other sources the region is in memory at once.
    """
    kept = KeptMemory() if memory is None else memory
    for source in dict.fromkeys(field.source for field in fields):
        mine = [field for field in fields if field.source == source]
        if not starts.shape[1]:
            for field in mine:
                yield field, np.zeros((0, *field.shape), field.dtype)
            continue
        cube, region = cubes[source], region_of(layout, starts)
        if isinstance(cube, GridCube):
            chunks = [found for field in mine if (found := _chunks_of(cube, field)) is not None]
            if len(chunks) == len(mine):
                for field, stored in zip(mine, chunks, strict=True):
                    yield field, _from_chunks(cube, field, stored, layout, starts, kept)
                continue
        data = read_region(cube, [field.variable for field in mine], region)
        for field, values in zip(mine, data, strict=True):
            yield field, cut(values, field, layout, starts)
            del values


def _chunks_of(cube: GridCube, field: PatchField) -> ZarrChunks | None:
    """Chunks of a field that can be decoded here: objects of their own, of values as the field has them."""
    if not cube.snapshot or cube.zones or not field.dims:
        return None
    outline = cube.outline[field.variable]
    if tuple(map(str, outline.dims)) != field.dims or outline.dtype != np.dtype(field.dtype):
        return None
    found = stored_chunks(cube.url, cube.snapshot, field.variable)
    return found if found is not None and found.dtype == outline.dtype and not found.in_shards else None


def _from_chunks(
    cube: GridCube,
    field: PatchField,
    stored: ZarrChunks,
    layout: PatchLayout,
    starts: Longs,
    kept: KeptMemory,
) -> NDArray[Any]:
    """Patches of a variable, cut out of its chunks while they are in the processor's cache."""
    region = region_of(layout, starts)
    sizes = cube.outline[field.variable].sizes
    bounds = [region.get(dim, (0, int(sizes[dim]))) for dim in field.dims]
    first = np.zeros((len(field.dims), starts.shape[1]), np.int64)
    for d, dim in enumerate(field.dims):
        if dim in layout.dims:
            first[d] = starts[layout.dims.index(dim)]
    dtype = np.dtype(field.dtype)
    out = kept.array(f"patches {field.name}", (starts.shape[1], *field.shape), dtype)
    chunks = read_chunks(cube.url, field.variable, stored, bounds, partial(kept.array, "chunk"))
    for origin, values in chunks:
        cut_overlaps(values, first - np.array(origin, np.int64)[:, None], out)
    return out


def read_region(cube: Cube, variables: Sequence[str], region: Region) -> list[NDArray[Any]]:
    """Values of variables in a region; whole along the dimensions that it does not name."""
    return [np.ascontiguousarray(values) for values in read_values(cube, region, variables)]


def cut(values: NDArray[Any], field: PatchField, layout: PatchLayout, starts: Longs) -> NDArray[Any]:
    """Patches of a variable from the region that has them all."""
    n = starts.shape[1]
    places = np.zeros((len(field.dims), n), np.int64)
    for d, dim in enumerate(field.dims):
        if dim in layout.dims:
            first = starts[layout.dims.index(dim)]
            places[d] = first - first.min()
    values = values.astype(field.dtype, copy=False)
    return cut_patches(values, places, field.shape)
