"""What a task of a grid holds in memory, worked out from boxes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featureflow.contracts.cube import Region, Span
from featureflow.contracts.grid_step import GridStep
from featureflow.execute.grids.naming import learned_outline
from featureflow.plan.grid_nodes import CompiledGrid

#: What a step may use beside its input and output, in bytes for each value of the largest variable of the two, where
#: the step does not say: three arrays of float64 at a time.
SCRATCH_BYTES = 24
#: Decoding holds stored values beside the decoded ones, one variable at a time.
DECODE_SHARE = 1.0
#: What a task really takes above what is counted.
MARGIN = 1.1


def bytes_in(outline: xr.Dataset, region: Mapping[str, Span]) -> int:
    """Bytes of all variables of a box."""
    return sum(_variable_bytes(variable, region) for variable in outline.data_vars.values())


def values_in(outline: xr.Dataset, region: Mapping[str, Span]) -> int:
    """Values of the largest variable of a box."""
    return max((_values(variable, region) for variable in outline.data_vars.values()), default=0)


def _values(variable: xr.DataArray, region: Mapping[str, Span]) -> int:
    return prod(
        region[str(dim)][1] - region[str(dim)][0] if str(dim) in region else int(n)
        for dim, n in variable.sizes.items()
    )


def _variable_bytes(variable: xr.DataArray, region: Mapping[str, Span]) -> int:
    return int(variable.dtype.itemsize) * _values(variable, region)


def scratch_of(step: GridStep) -> int:
    """Bytes for each value that a step uses while it works."""
    return int(getattr(step, "scratch_bytes", SCRATCH_BYTES))


def task_bytes(grid: CompiledGrid, region: Region, until: int | None = None, *, written: bool = True) -> int:
    """Most that computing a box of the grid (of the input of link ``until``) holds at one moment.

    Parameters
    ----------
    written
        Whether what comes out is compressed and written, which holds a part of it once more.
    """
    last = len(grid.links) if until is None else until
    outlines = [grid.start, *(link.made for link in grid.links)]
    made, peak = bytes_in(outlines[last], region), 0
    after = made
    if written:
        peak = 2 * made
    for i, needs in grid.walk_back(region, until):
        taken = bytes_in(outlines[i], needs.region)
        beside = sum(bytes_in(grid.others[name].outline, part) for name, part in needs.others.items())
        work = scratch_of(grid.links[i].step) * max(
            values_in(outlines[i], needs.region), values_in(outlines[i + 1], region)
        )
        learned = _learned_bytes(grid, i, needs.fitted)
        peak = max(peak, taken + after + beside + learned + work)
        region, after = needs.region, taken
    read = bytes_in(grid.start, region)
    largest = max((_variable_bytes(v, region) for v in grid.start.data_vars.values()), default=0)
    return int(MARGIN * max(peak, read + DECODE_SHARE * largest))


def _learned_bytes(grid: CompiledGrid, link: int, region: Region) -> int:
    found = grid.links[link]
    return 0 if found.fitted is None else 3 * bytes_in(learned_outline(found), region)


def read_bytes(grid: CompiledGrid, region: Region, until: int | None = None) -> int:
    """Bytes in memory of the whole stored chunks of the source that a box is made from."""
    for _, needs in grid.walk_back(region, until):
        region = needs.region
    widened = {dim: _widened(grid.source.chunks.get(dim), span) for dim, span in region.items()}
    return bytes_in(grid.start, widened)


def _widened(chunks: tuple[int, ...] | None, span: Span) -> Span:
    """The smallest range of whole chunks around a range."""
    low, high = span
    if not chunks or high <= low:
        return span
    ends = _ends(chunks)
    first, last = int(np.searchsorted(ends, low, "right")), int(np.searchsorted(ends, high, "left"))
    return int(ends[first - 1]) if first else 0, int(ends[min(last, len(ends) - 1)])


@lru_cache(maxsize=64)
def _ends(chunks: tuple[int, ...]) -> NDArray[np.int64]:
    return np.cumsum(np.array(chunks, np.int64))
