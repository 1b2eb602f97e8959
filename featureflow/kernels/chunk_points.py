"""Values of a chunked array at many points: points by chunk, so that each chunk is read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

#: int32 where that is enough: new memory is what grouping costs most.
Positions = NDArray[np.signedinteger[Any]]


def chunk_bounds(sizes: Sequence[int]) -> NDArray[np.int64]:
    """First position of each chunk along a dimension, and the end of the last."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(sizes, np.int64))])


def count_chunks(bounds: Sequence[NDArray[np.int64]]) -> int:
    """How many chunks there are."""
    return prod(len(edges) - 1 for edges in bounds)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Of each point the number of its chunk, -1 for none, and its place in the chunk; both in C order.

    Parameters
    ----------
    bounds
        Of the chunks along each dimension, as `chunk_bounds`.
    """

    bounds: Sequence[NDArray[np.int64]]
    numbers: Positions
    places: Positions

    @classmethod
    def of(cls, bounds: Sequence[NDArray[np.int64]], n: int) -> Addresses:
        """Room for n points."""
        widest = prod(int(np.diff(edges).max(initial=0)) for edges in bounds)
        return cls(bounds, np.empty(n, _narrow(count_chunks(bounds))), np.empty(n, _narrow(widest)))

    def put(self, start: int, points: Sequence[NDArray[np.int64]]) -> None:
        """Set those of some points, of which the first is number ``start``, from positions along each dimension."""
        mine = slice(start, start + len(points[0]))
        numbers, places = self.numbers[mine], self.places[mine]
        numbers[:] = 0
        places[:] = 0
        for along, edges in zip(points, self.bounds, strict=True):
            _add_chunk(np.ascontiguousarray(along), edges, _regular(edges), numbers, places)


def _narrow(most: int) -> np.dtype[np.signedinteger[Any]]:
    """What holds numbers up to the most."""
    return np.dtype(np.int32 if most <= np.iinfo(np.int32).max else np.int64)


@dataclass(frozen=True, slots=True)
class PointGroups:
    """Points by the chunk that they are in.

    Parameters
    ----------
    shape
        Number of chunks along each dimension.
    found
        Numbers, in C order, of the chunks that have a point, rising.
    rows
        The points, by chunk and in their order.
    places
        Of each of ``rows``, its position in its chunk, in C order.
    starts
        Where in ``rows`` each chunk's begin, and the end of the last.
    """

    shape: tuple[int, ...]
    found: NDArray[np.int64]
    rows: Positions
    places: Positions
    starts: NDArray[np.int64]

    def cells(self, low: int, high: int) -> list[tuple[int, ...]]:
        """Positions along the dimensions of some of the chunks that have points."""
        index = np.unravel_index(self.found[low:high], self.shape)
        return list(zip(*(each.tolist() for each in index), strict=True))

    def take(self, k: int, values: NDArray[Any], out: NDArray[Any]) -> None:
        """Take the values at the points of the k-th chunk that has some; ``values`` are the chunk's, flat."""
        mine = slice(int(self.starts[k]), int(self.starts[k + 1]))
        _take(values, self.places[mine], self.rows[mine], out)

    def fill(self, k: int, value: NDArray[Any], out: NDArray[Any]) -> None:
        """Give all points of the k-th chunk that has some the one value."""
        out[self.rows[int(self.starts[k]) : int(self.starts[k + 1])]] = value


def group_points(points: Addresses) -> PointGroups:
    """Order points by their chunk; those without one are left out.

    Notes
    -----
    Cost: O(points), and O(chunks) where they are not many more than the points. Memory: 8 bytes a point.
    """
    shape = tuple(len(edges) - 1 for edges in points.bounds)
    return PointGroups(shape, *_grouped(points.numbers, points.places, count_chunks(points.bounds)))


def gather_points(
    points: Addresses,
    read: Callable[[tuple[slice, ...]], list[NDArray[Any]]],
    dtypes: Sequence[np.dtype[Any]],
    run: Callable[[Callable[[int], None], Sequence[int]], Any],
    *,
    together: int = 1,
) -> list[NDArray[Any]]:
    """Take the values at points; of those in no chunk it is 0.

    Parameters
    ----------
    points
        In the chunks that are read.
    read
        Gives one array for each dtype of a box of chunks.
    run
        Calls a function for each number, in any order, also several at once.
    together
        At most so many chunks that lie side by side along the last dimension are read at once.

    Notes
    -----
    Cost: one read of each chunk that has a point, and of no other; O(points) beside it. Memory: 8 bytes a point, the
    result and the chunks in work.
    """
    groups, bounds = group_points(points), points.bounds
    out = [np.zeros(len(points.numbers), dtype) for dtype in dtypes]
    firsts = _runs(groups.found, groups.shape[-1], together)

    def take(k: int) -> None:
        low, high = int(firsts[k]), int(firsts[k + 1])
        (index,) = groups.cells(low, low + 1)
        last = index[-1]
        box = [slice(int(edges[i]), int(edges[i + 1])) for i, edges in zip(index, bounds, strict=True)]
        across = bounds[-1][last : last + high - low + 1]
        box[-1] = slice(int(across[0]), int(across[-1]))
        for values, into in zip(read(tuple(box)), out, strict=True):
            for j in range(low, high):
                part = values[..., across[j - low] - across[0] : across[j - low + 1] - across[0]]
                groups.take(j, np.ascontiguousarray(part).reshape(-1), into)

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
    numbers: Positions, offsets: Positions, n_chunks: int
) -> tuple[NDArray[np.int64], Positions, Positions, NDArray[np.int64]]:
    """Chunks that have points; points by chunk, in their order; their places in it; where each chunk's begin."""
    if n_chunks > 4 * len(numbers) + 1024:  # few points in a large array: no counter for each chunk
        inside = np.flatnonzero(numbers >= 0)
        order = inside[np.argsort(numbers[inside], kind="stable")]
        found, starts = np.unique(numbers[order], return_index=True)
        return found.astype(np.int64), order, offsets[order], np.append(starts, len(order)).astype(np.int64)
    counts = np.zeros(n_chunks + 1, np.int64)
    order = np.empty(len(numbers), _narrow(len(numbers)))
    places = np.empty(len(numbers), offsets.dtype)
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


def weigh_corners(corners: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the values around points by their weights, in float64 and in the order of the corners.

    Parameters
    ----------
    corners
        ``(2**k, n)``; in corner c, bit d says whether it is on the upper side of dimension d.
    weights
        Of the upper side of each dimension, ``(k, n)``. A corner of weight 0 does not count, whatever its value.
    """
    out = np.empty(corners.shape[1], np.float64)
    _weigh(corners, weights, out)
    return out


@kernel
def _weigh(corners: NDArray[Any], weights: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for i in range(out.size):
        total = 0.0
        for corner in range(corners.shape[0]):
            weight = 1.0
            for d in range(weights.shape[0]):
                weight *= weights[d, i] if (corner >> d) & 1 else 1.0 - weights[d, i]
            if weight != 0.0:
                total += float(corners[corner, i]) * weight
        out[i] = total


@kernel
def _add_chunk(
    places: NDArray[np.int64],
    edges: NDArray[np.int64],
    regular: int,
    numbers: Positions,
    offsets: Positions,
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
    numbers: Positions,
    offsets: Positions,
    counts: NDArray[np.int64],
    order: Positions,
    places: Positions,
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
def _take(values: NDArray[Any], places: Positions, rows: Positions, out: NDArray[Any]) -> None:
    for k in range(rows.size):
        out[rows[k]] = values[places[k]]
