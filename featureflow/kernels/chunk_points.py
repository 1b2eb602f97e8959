"""Values of a chunked array at many points: points by chunk, so that each chunk is read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel


def chunk_bounds(sizes: Sequence[int]) -> NDArray[np.int64]:
    """First position of each chunk along a dimension, and the end of the last."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(sizes, np.int64))])


def chunk_numbers(
    points: Sequence[NDArray[np.int64]], bounds: Sequence[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Number of the chunk that each point is in, in C order; -1 for a point with a negative position.

    Parameters
    ----------
    points
        Positions along each dimension.
    bounds
        Of each dimension, as `chunk_bounds`.
    """
    return _chunks_and_offsets(points, bounds)[0]


def _chunks_and_offsets(
    points: Sequence[NDArray[np.int64]], bounds: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of each point's chunk, and its place in the chunk, both in C order."""
    numbers = np.zeros(len(points[0]), np.int64)
    offsets = np.zeros(len(points[0]), np.int64)
    for places, edges in zip(points, bounds, strict=True):
        _add_chunk(np.ascontiguousarray(places), edges, _regular(edges), numbers, offsets)
    return numbers, offsets


def gather_points(
    points: Sequence[NDArray[np.int64]],
    bounds: Sequence[NDArray[np.int64]],
    read: Callable[[tuple[slice, ...]], list[NDArray[Any]]],
    dtypes: Sequence[np.dtype[Any]],
    run: Callable[[Callable[[int], None], Sequence[int]], Any] | None = None,
    *,
    together: int = 1,
) -> list[NDArray[Any]]:
    """Take the values at points; what lies outside (a negative position) is left 0.

    Parameters
    ----------
    points
        Positions along each dimension, one at least.
    read
        Gives one array for each dtype of a box of chunks.
    run
        Calls a function for each number, in any order, also several at once; one after the other if None.
    together
        At most so many chunks that lie side by side along the last dimension are read at once.

    Notes
    -----
    Cost: one read of each chunk that has a point, and of no other; O(points) beside it. Memory: 24 bytes a point, the
    result and the chunks in work.
    """
    numbers, offsets = _chunks_and_offsets(points, bounds)
    shape = tuple(len(edges) - 1 for edges in bounds)
    found, order, offsets, starts = _grouped(numbers, offsets, int(np.prod(shape, dtype=np.int64)))
    del numbers
    out = [np.zeros(len(points[0]), dtype) for dtype in dtypes]
    firsts = _runs(found, shape[-1], together)

    def take(k: int) -> None:
        low, high = int(firsts[k]), int(firsts[k + 1])
        index = np.unravel_index(int(found[low]), shape)
        last = int(index[-1])
        box = [slice(int(edges[i]), int(edges[i + 1])) for i, edges in zip(index, bounds, strict=True)]
        across = bounds[-1][last : last + high - low + 1]
        box[-1] = slice(int(across[0]), int(across[-1]))
        for values, into in zip(read(tuple(box)), out, strict=True):
            for j in range(low, high):
                mine = slice(int(starts[j]), int(starts[j + 1]))
                part = values[..., across[j - low] - across[0] : across[j - low + 1] - across[0]]
                _take(np.ascontiguousarray(part).reshape(-1), offsets[mine], order[mine], into)

    if run is None:
        for k in range(len(firsts) - 1):
            take(k)
    else:
        run(take, range(len(firsts) - 1))
    return out


def _runs(found: NDArray[np.int64], width: int, together: int) -> NDArray[np.int64]:
    """Where each run of neighbours begins in the rising numbers of chunks, and the end of the last."""
    firsts: list[int] = []
    for k, number in enumerate(found.tolist()):
        goes_on = firsts and number % width and number == int(found[k - 1]) + 1 and k - firsts[-1] < together
        if not goes_on:
            firsts.append(k)
    return np.array([*firsts, len(found)], np.int64)


def _grouped(
    numbers: NDArray[np.int64], offsets: NDArray[np.int64], n_chunks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Chunks that have points; points by chunk, in their order; their places in it; where each chunk's begin."""
    if n_chunks > 4 * len(numbers) + 1024:  # few points in a large array: no counter for each chunk
        inside = np.flatnonzero(numbers >= 0)
        order = inside[np.argsort(numbers[inside], kind="stable")]
        found, starts = np.unique(numbers[order], return_index=True)
        return found, order, offsets[order], np.append(starts, len(order)).astype(np.int64)
    counts = np.zeros(n_chunks + 1, np.int64)
    order = np.empty(len(numbers), np.int64)
    places = np.empty(len(numbers), np.int64)
    n_inside = _count_and_sort(numbers, offsets, counts, order, places)
    found = np.flatnonzero(np.diff(counts))
    starts = np.append(counts[found], n_inside)
    return found, order[:n_inside], places[:n_inside], starts


def _regular(edges: NDArray[np.int64]) -> int:
    """Size of chunks that all have the same, but for the last; 0 if they do not."""
    sizes = np.diff(edges)
    if len(sizes) == 0:
        return 0
    same = bool((sizes[:-1] == sizes[0]).all()) and sizes[-1] <= sizes[0]
    return int(sizes[0]) if same else 0


@kernel
def _add_chunk(
    places: NDArray[np.int64],
    edges: NDArray[np.int64],
    regular: int,
    numbers: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> None:
    n_chunks = edges.size - 1
    for i in range(places.size):
        if numbers[i] < 0 or places[i] < 0:
            numbers[i] = -1
            continue
        if regular > 0:
            chunk = places[i] // regular
        else:
            low, high = 0, n_chunks
            while high - low > 1:
                middle = (low + high) // 2
                if edges[middle] <= places[i]:
                    low = middle
                else:
                    high = middle
            chunk = low
        numbers[i] = numbers[i] * n_chunks + chunk
        offsets[i] = offsets[i] * (edges[chunk + 1] - edges[chunk]) + places[i] - edges[chunk]


@kernel
def _count_and_sort(
    numbers: NDArray[np.int64],
    offsets: NDArray[np.int64],
    counts: NDArray[np.int64],
    order: NDArray[np.int64],
    places: NDArray[np.int64],
) -> int:
    for i in range(numbers.size):
        if numbers[i] >= 0:
            counts[numbers[i]] += 1
    total = 0
    for c in range(counts.size):
        n = counts[c]
        counts[c] = total
        total += n
    for i in range(numbers.size):
        if numbers[i] >= 0:
            at = counts[numbers[i]]
            order[at] = i
            places[at] = offsets[i]
            counts[numbers[i]] = at + 1
    for c in range(counts.size - 1, 0, -1):
        counts[c] = counts[c - 1]
    counts[0] = 0
    return total


@kernel
def _take(
    values: NDArray[Any], places: NDArray[np.int64], rows: NDArray[np.int64], out: NDArray[Any]
) -> None:
    for k in range(rows.size):
        out[rows[k]] = values[places[k]]
