"""What a task of a grid holds in memory, worked out from boxes and dtypes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.cube import Region, Span
from featureflow.contracts.grid_step import GridStep
from featureflow.execute.grids.naming import learned_outline
from featureflow.execute.grids.piecewise import piece_spans
from featureflow.execute.grids.volume import bytes_in, values_in, variable_bytes
from featureflow.plan.grid_nodes import CompiledGrid

#: What a step may use beside its input and output, in bytes for each value of the largest variable of the two, where
#: the step does not say: three arrays of float64 at a time.
SCRATCH_BYTES = 24
#: Numbers as they are stored, such as int16 for float32, beside the decoded ones: share of a variable.
DECODE_SHARE = 0.5
#: So many chunks are decoded or compressed at once.
AT_ONCE = 10
#: What is being written is there again in the order of the chunk, and compressed, at worst to its own size.
WRITE_SHARE = 2.0
#: What a task really takes above what is counted, as a share and in bytes: pages that the allocator keeps, metadata.
MARGIN = 1.1
FIXED_BYTES = 8 << 20


def _scratch(step: GridStep, kind: str) -> int:
    """Bytes for each value that a step uses while it works."""
    return int(getattr(step, kind, SCRATCH_BYTES))


def task_bytes(grid: CompiledGrid, region: Region) -> int:
    """Most that a task that computes a box of the grid, and writes it, holds at one moment.

    Its block of the source is there until everything is made of it, piece by piece; what is made, until it is written.
    """
    until = len(grid.links)
    made = bytes_in(grid.outline, region)
    peak = max(_reading(grid, region, until), _writing(grid, region))
    block = begun = 0
    since = 0
    walk = [(i, needs) for i, needs in grid.walk_back(region)][::-1]
    first = walk[0][1].region if walk else region
    block = bytes_in(grid.start, first)
    for i, needs in walk:
        if grid.links[i].fitted is None:
            continue
        # what it learns from may be all of its input, which is made before
        begun = bytes_in(grid.links[i].taken, needs.region) if i > since else 0
        cell = {
            dim: (low, min(high, low + grid.links[i].cells.get(dim, high)))
            for dim, (low, high) in needs.region.items()
        }
        learning = _scratch(grid.links[i].step, "fit_scratch_bytes") * values_in(grid.links[i].taken, cell)
        peak = max(
            peak, block + begun + _in_pieces(grid, needs.region, since, i), (begun or block) + learning
        )
        block, since = begun or block, i
    peak = max(peak, block + made + _in_pieces(grid, region, since, until))
    return int(MARGIN * peak) + FIXED_BYTES


def _in_pieces(grid: CompiledGrid, region: Region, since: int, until: int) -> int:
    """Most that steps hold for a piece, beside the block that pieces are cut from and what is made of all of them."""
    if since == until:
        return 0
    spans = piece_spans(grid, region, since, until)
    piece = {dim: max(found, key=lambda span: span[1] - span[0]) for dim, found in spans.items()}
    return _steps(grid, piece, since, until)


def _steps(grid: CompiledGrid, region: Region, since: int, until: int) -> int:
    """Most that the links from ``since`` on hold at one moment for a box, one after the other."""
    outlines = [grid.start, *(link.made for link in grid.links)]
    after, peak = bytes_in(outlines[until], region), 0
    for i, needs in grid.walk_back(region, until):
        if i < since:
            break
        taken = bytes_in(outlines[i], needs.region)
        beside = sum(bytes_in(grid.others[name].outline, part) for name, part in needs.others.items())
        work = _scratch(grid.links[i].step, "scratch_bytes") * max(
            values_in(outlines[i], needs.region), values_in(outlines[i + 1], region)
        )
        peak = max(peak, taken + after + beside + _learned_bytes(grid, i, needs.fitted) + work)
        region, after = needs.region, taken
    return peak


def _reading(grid: CompiledGrid, region: Region, until: int) -> int:
    """Most that reading the block of the source holds: values as stored beside the decoded ones of a variable."""
    for _, needs in grid.walk_back(region, until):
        region = needs.region
    chunk = {dim: (0, max(sizes, default=0)) for dim, sizes in grid.source.chunks.items()}
    beside = 0
    for variable in grid.start.data_vars.values():
        whole = variable_bytes(variable, region)
        beside = max(
            beside, min(whole, int(DECODE_SHARE * whole) + AT_ONCE * variable_bytes(variable, chunk))
        )
    return bytes_in(grid.start, region) + beside


def _writing(grid: CompiledGrid, region: Region) -> int:
    """Most that writing holds: what was made, and some chunks of a variable once more, as they are and compressed."""
    beside = 0
    for variable in grid.outline.data_vars.values():
        unit = {str(dim): (0, grid.unit[str(dim)]) for dim in variable.dims}
        beside = max(beside, min(variable_bytes(variable, region), AT_ONCE * variable_bytes(variable, unit)))
    return bytes_in(grid.outline, region) + int(WRITE_SHARE * beside)


def fit_bytes(grid: CompiledGrid, region: Region, link: int) -> int:
    """Most that a task holds that learns from a box of the input of a link."""
    block = bytes_in(grid.links[link].taken, region)
    learning = _scratch(grid.links[link].step, "fit_scratch_bytes") * values_in(
        grid.links[link].taken, region
    )
    peak = max(_reading(grid, region, link), _steps(grid, region, 0, link), block + learning)
    return int(MARGIN * peak) + FIXED_BYTES


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
