"""Sizes of a grid's chunks where the spec names none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

#: Bytes of a chunk in memory: a reader of a point decodes all of it, a reader of everything pays for each one.
TARGET_BYTES = 16 << 20
#: Chunks along time are not made shorter than this for the sake of other dimensions: a series would be many files.
SHORTEST_TIME = 32


def time_dimension(outline: xr.Dataset, named: str | None = None) -> str | None:
    """Name of the dimension of times: the one that the source names, else the first whose coordinate holds times."""
    found = time_dimensions(outline)
    return named if named in found else next(iter(found), None)


def time_dimensions(outline: xr.Dataset) -> list[str]:
    """Names of the dimensions whose coordinate holds times."""
    return [str(dim) for dim in outline.dims if dim in outline.coords and _holds_times(outline[dim])]


def _holds_times(index: xr.DataArray) -> bool:
    return index.dtype.kind == "M" or is_calendar(index)


def is_calendar(index: xr.DataArray) -> bool:
    """Whether a coordinate holds times of a calendar that NumPy does not have."""
    return index.dtype.kind == "O" and index.size > 0 and hasattr(index.values.flat[0], "calendar")


def choose_chunks(
    outline: xr.Dataset,
    given: Mapping[str, int],
    near: Mapping[str, int],
    target: int = TARGET_BYTES,
    *,
    time: str | None = None,
) -> dict[str, int]:
    """Choose sizes of chunks along all dimensions of a grid.

    Parameters
    ----------
    given
        Sizes that the spec names; they are taken as they are, but for the end of the dimension.
    near
        Sizes to begin with: those of the source, where a dimension has kept its name.
    time
        The dimension of times that the source names.

    Returns
    -------
    dict
        By dimension. Sizes that are not given are doubled or halved until a chunk of the largest variable has about
        ``target`` bytes: time grows first, since series are what most readers want, and shrinks last.
    """
    sizes = {str(dim): max(1, int(n)) for dim, n in outline.sizes.items()}
    chunks = {dim: min(given.get(dim, near.get(dim, n)), n) for dim, n in sizes.items()}
    free = [dim for dim in sizes if dim not in given]
    if not free:
        return chunks
    time = time_dimension(outline, time)
    largest = max(outline.data_vars.values(), key=lambda v: int(v.dtype.itemsize) * int(v.size), default=None)
    width = 1 if largest is None else int(largest.dtype.itemsize)
    dims = [] if largest is None else [str(dim) for dim in largest.dims]

    def size() -> int:
        return width * int(np.prod([chunks[dim] for dim in dims], dtype=np.int64))

    while size() > target:
        can = [dim for dim in free if dim in dims and chunks[dim] > (SHORTEST_TIME if dim == time else 1)]
        if not can:
            break
        longest = max(can, key=lambda dim: (dim != time, chunks[dim]))
        chunks[longest] = -(-chunks[longest] // 2)
    while 2 * size() <= target:
        can = [dim for dim in free if dim in dims and chunks[dim] < sizes[dim]]
        if not can:
            break
        shortest = min(can, key=lambda dim: (dim != time, chunks[dim]))
        chunks[shortest] = min(sizes[shortest], 2 * chunks[shortest])
    return chunks
