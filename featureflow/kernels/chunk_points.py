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


def chunk_numbers(points: NDArray[np.int64], bounds: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Number of the chunk that each point is in, in C order; -1 for a point with a negative position.

    Parameters
    ----------
    points
        ``(dimensions, n)``: positions along each dimension.
    bounds
        Of each dimension, as `chunk_bounds`.
    """
    numbers = np.zeros(points.shape[1], np.int64)
    for places, edges in zip(points, bounds, strict=True):
        _add_chunk(np.ascontiguousarray(places), edges, _regular(edges), numbers)
    return numbers


def gather_points(
    points: NDArray[np.int64],
    bounds: Sequence[NDArray[np.int64]],
    read: Callable[[tuple[slice, ...]], list[NDArray[Any]]],
    dtypes: Sequence[np.dtype[Any]],
    run: Callable[[Callable[[int], None], Sequence[int]], Any] | None = None,
) -> list[NDArray[Any]]:
    """Take the values at points; what lies outside (a negative position) is left 0.

    Parameters
    ----------
    read
        Gives one array for each dtype of a box of one chunk.
    run
        Calls a function for each number, in any order, also several at once; one after the other if None.

    Notes
    -----
    Cost: one read of each chunk that has a point, O(points) beside it; memory of the result and the chunks in work.
    """
    numbers = chunk_numbers(points, bounds)
    shape = tuple(len(edges) - 1 for edges in bounds)
    found, order, starts = _grouped(numbers, int(np.prod(shape, dtype=np.int64)))
    out = [np.zeros(points.shape[1], dtype) for dtype in dtypes]
    points = np.ascontiguousarray(points)

    def take(k: int) -> None:
        index = np.unravel_index(int(found[k]), shape)
        box = tuple(slice(int(edges[i]), int(edges[i + 1])) for i, edges in zip(index, bounds, strict=True))
        first = np.array([part.start for part in box], np.int64)
        size = np.array([part.stop - part.start for part in box], np.int64)
        rows = order[starts[k] : starts[k + 1]]
        for values, into in zip(read(box), out, strict=True):
            _take(np.ascontiguousarray(values).reshape(-1), points, first, size, rows, into)

    if run is None:
        for k in range(len(found)):
            take(k)
    else:
        run(take, range(len(found)))
    return out


def _grouped(
    numbers: NDArray[np.int64], n_chunks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Chunks that have points, points by chunk in their order, where each chunk's begin."""
    if n_chunks > 4 * len(numbers) + 1024:  # few points in a large array: no counter for each chunk
        inside = np.flatnonzero(numbers >= 0)
        order = inside[np.argsort(numbers[inside], kind="stable")]
        found, starts = np.unique(numbers[order], return_index=True)
        return found, order, np.append(starts, len(order)).astype(np.int64)
    counts = np.zeros(n_chunks + 1, np.int64)
    order = np.empty(len(numbers), np.int64)
    n_inside = _count_and_sort(numbers, counts, order)
    found = np.flatnonzero(np.diff(counts))
    starts = np.append(counts[found], n_inside)
    return found, order[:n_inside], starts


def _regular(edges: NDArray[np.int64]) -> int:
    """Size of chunks that all have the same, but for the last; 0 if they do not."""
    sizes = np.diff(edges)
    if len(sizes) == 0:
        return 0
    same = bool((sizes[:-1] == sizes[0]).all()) and sizes[-1] <= sizes[0]
    return int(sizes[0]) if same else 0


@kernel
def _add_chunk(
    places: NDArray[np.int64], edges: NDArray[np.int64], regular: int, numbers: NDArray[np.int64]
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


@kernel
def _count_and_sort(numbers: NDArray[np.int64], counts: NDArray[np.int64], order: NDArray[np.int64]) -> int:
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
            order[counts[numbers[i]]] = i
            counts[numbers[i]] += 1
    for c in range(counts.size - 1, 0, -1):
        counts[c] = counts[c - 1]
    counts[0] = 0
    return total


@kernel
def _take(
    values: NDArray[Any],
    points: NDArray[np.int64],
    first: NDArray[np.int64],
    size: NDArray[np.int64],
    rows: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    for k in range(rows.size):
        row = rows[k]
        place = 0
        for d in range(first.size):
            place = place * size[d] + points[d, row] - first[d]
        out[row] = values[place]
