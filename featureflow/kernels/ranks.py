"""Order statistics of windows: ranks by value, and a tree that finds the k-th smallest.

Windows that overlap form a *chain*; between chains nothing is shared. Ranks are made per chain, so that the trees of
small groups stay in the first-level cache however large the partition is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.aggregation import EventColumn, Windows
from featureflow.kernels.columns import Dense, dense_keys, dense_values
from featureflow.kernels.jit import kernel
from featureflow.kernels.ordering import group_order, sort_order


@dataclass(slots=True)
class Chains:
    """Ranks of events within the chain of overlapping windows that holds them; all int32, shape (n,).

    Parameters
    ----------
    stop
        At the first event of a chain: where the chain ends.
    rank
        Rank by value in the chain, ties by position.
    by_rank
        The events of the chain ``[a, b)`` by rank are ``by_rank[a:b]``.
    code
        Rank among the distinct values of the chain.
    leader
        One event for each distinct value: ``leader[a + code]``.
    width
        At the first event of a chain: its number of distinct values.
    """

    stop: NDArray[np.int32]
    rank: NDArray[np.int32]
    by_rank: NDArray[np.int32]
    code: NDArray[np.int32]
    leader: NDArray[np.int32]
    width: NDArray[np.int32]


@kernel
def _chain_ranks(
    order: NDArray[np.int64],
    codes: NDArray[np.int32],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    rank: NDArray[np.int32],
    by_rank: NDArray[np.int32],
    code: NDArray[np.int32],
    leader: NDArray[np.int32],
    width: NDArray[np.int32],
) -> None:
    start[:] = -1
    first = -1
    right = 0
    for i in range(lo.size):
        if lo[i] >= hi[i]:
            continue
        if first < 0 or lo[i] >= right:
            first = right = lo[i]
        for j in range(right, hi[i]):
            start[j] = first
        right = max(right, hi[i])
        stop[first] = right
    seen = np.zeros(codes.size, np.int32)
    for j in order:
        first = start[j]
        if first < 0:
            continue
        r = seen[first]
        seen[first] = r + 1
        c = 0
        if r > 0:
            before = by_rank[first + r - 1]
            c = code[before] + (1 if codes[before] != codes[j] else 0)
        rank[j] = r
        by_rank[first + r] = j
        code[j] = c
        leader[first + c] = j
        width[first] = c + 1


@kernel
def _insert(tree: NDArray[np.int32], base: int, size: int, rank: int, delta: int) -> None:
    """Add to a count in a Fenwick tree of ``size`` counts that starts at ``base``."""
    i = rank + 1
    while i <= size:
        tree[base + i - 1] += delta
        i += i & -i


@kernel
def _select(tree: NDArray[np.int32], base: int, size: int, step: int, k: int) -> int:
    """Rank of the k-th smallest member (from 0); ``step`` is the largest power of two up to ``size``."""
    at = 0
    rest = k + 1
    while step > 0:
        to = at + step
        if to <= size and tree[base + to - 1] < rest:
            at = to
            rest -= tree[base + to - 1]
        step >>= 1
    return at


@kernel
def _quantiles(
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    stop: NDArray[np.int32],
    rank: NDArray[np.int32],
    by_rank: NDArray[np.int32],
    q: float,
    tree: NDArray[np.int32],
    below: NDArray[np.int64],
    above: NDArray[np.int64],
) -> None:
    base = size = step = left = right = 0
    for i in range(lo.size):
        if lo[i] >= hi[i]:
            continue
        if lo[i] >= right:
            base = left = right = lo[i]
            size = stop[base] - base
            step = 1
            while step * 2 <= size:
                step *= 2
        for j in range(right, hi[i]):
            _insert(tree, base, size, rank[j], 1)
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            _insert(tree, base, size, rank[j], -1)
        left = lo[i]
        last = hi[i] - lo[i] - 1
        position = q * last
        k = int(position)
        below[i] = by_rank[base + _select(tree, base, size, step, k)]
        if position > k and k < last:
            above[i] = by_rank[base + _select(tree, base, size, step, k + 1)]
        else:
            above[i] = below[i]


@kernel
def _best(
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    stop: NDArray[np.int32],
    rank: NDArray[np.int32],
    by_rank: NDArray[np.int32],
    offsets: NDArray[np.int64],
    largest: bool,
    tree: NDArray[np.int32],
    out: NDArray[np.int64],
) -> None:
    base = size = step = left = right = 0
    for i in range(lo.size):
        if lo[i] >= hi[i]:
            continue
        if lo[i] >= right:
            base = left = right = lo[i]
            size = stop[base] - base
            step = 1
            while step * 2 <= size:
                step *= 2
        for j in range(right, hi[i]):
            _insert(tree, base, size, rank[j], 1)
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            _insert(tree, base, size, rank[j], -1)
        left = lo[i]
        count = hi[i] - lo[i]
        for r in range(offsets[i + 1] - offsets[i]):
            k = count - 1 - r if largest else r
            out[offsets[i] + r] = by_rank[base + _select(tree, base, size, step, k)]


@kernel
def _codes_at(
    codes: NDArray[np.int32],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    ranks: NDArray[np.int64],
    tree: NDArray[np.int32],
    out: NDArray[np.int64],
) -> None:
    size = tree.size
    step = 1
    while step * 2 <= size:
        step *= 2
    left = right = 0
    for i in range(lo.size):
        if lo[i] >= hi[i]:
            continue
        stay = min(right, lo[i])
        for j in range(left, stay):
            _insert(tree, 0, size, codes[j], -1)
        left = lo[i]
        for j in range(max(right, lo[i]), hi[i]):
            _insert(tree, 0, size, codes[j], 1)
        right = max(right, hi[i])
        out[i] = _select(tree, 0, size, step, ranks[i])


def value_order(events: EventColumn, selected: Dense) -> NDArray[np.int64]:
    """Stable permutation of the rows that count, by value; shared through the cache."""
    if "order" not in events.cache:
        keys = dense_keys(events, selected)
        # codes of strings are small and need no more than a counting sort
        coded = events.categories is not None
        events.cache["order"] = group_order(keys, np.zeros_like(keys)) if coded else sort_order(keys)
    result: NDArray[np.int64] = events.cache["order"]
    return result


def value_codes(events: EventColumn, selected: Dense) -> tuple[NDArray[np.int32], int]:
    """Small integers that are equal where values are, in their order, and how many there can be."""
    if "codes" not in events.cache:
        if events.categories is not None:
            codes = dense_values(events, selected).astype(np.int32, copy=False)
            events.cache["codes"] = codes, len(events.categories)
        else:
            order, keys = value_order(events, selected), dense_keys(events, selected)
            codes = np.empty(keys.size, np.int32)
            ordered = keys[order]
            fresh = np.zeros(keys.size, np.int32)
            fresh[1:] = ordered[1:] != ordered[:-1]
            codes[order] = np.cumsum(fresh, dtype=np.int32)
            events.cache["codes"] = codes, int(fresh.sum()) + (1 if keys.size else 0)
    result: tuple[NDArray[np.int32], int] = events.cache["codes"]
    return result


def chains(events: EventColumn, windows: Windows, selected: Dense) -> Chains:
    """Ranks within each chain of overlapping windows; the last windows' are kept in the cache."""
    held = events.cache.get("chains")
    if held is None or held[0] is not windows:
        start, stop, rank, by_rank, code, leader, width = (
            np.zeros(selected.size, np.int32) for _ in range(7)
        )
        codes, _ = value_codes(events, selected)
        order = value_order(events, selected)
        _chain_ranks(order, codes, selected.lo, selected.hi, start, stop, rank, by_rank, code, leader, width)
        held = (windows, Chains(stop, rank, by_rank, code, leader, width))
        events.cache["chains"] = held
    result: Chains = held[1]
    return result


def window_quantile_neighbours(
    chained: Chains, selected: Dense, *, q: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the values below and above ``q * (n - 1)`` in the sorted window; -1 for an empty one.

    Notes
    -----
    Cost: O((n + m) log c) for chains of c events; 4 bytes a row for the tree.
    """
    below, above = (np.full(selected.lo.size, -1, np.int64) for _ in range(2))
    tree = np.zeros(selected.size, np.int32)
    ranks = (chained.stop, chained.rank, chained.by_rank)
    _quantiles(selected.lo, selected.hi, *ranks, q, tree, below, above)
    return below, above


def window_best(
    chained: Chains, selected: Dense, *, k: int, largest: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and positions of the ``k`` best values of each window, best first.

    Notes
    -----
    Cost: O((n + m k) log c) for chains of c events.
    """
    offsets = np.zeros(selected.lo.size + 1, np.int64)
    np.cumsum(np.minimum(selected.counts, k), out=offsets[1:])
    out = np.empty(int(offsets[-1]), np.int64)
    tree = np.zeros(selected.size, np.int32)
    ranks = (chained.stop, chained.rank, chained.by_rank)
    _best(selected.lo, selected.hi, *ranks, offsets, largest, tree, out)
    return offsets, out


def window_codes_at(
    codes: NDArray[np.int32], size: int, selected: Dense, ranks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Code with this rank (from 0) in each window, for few codes: ``size`` of them; 0 for an empty window."""
    out = np.zeros(selected.lo.size, np.int64)
    _codes_at(codes, selected.lo, selected.hi, ranks, np.zeros(max(size, 1), np.int32), out)
    return out


def interpolate(
    below: NDArray[Any], above: NDArray[Any], fraction: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values at ``fraction`` of the way between two, without NaN where one is infinite.

    Between -inf and +inf nothing is right: NaN.
    """
    a, b = below.astype(np.float64), above.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        step = (b - a) * fraction
        # b - a may overflow where neither does: 1e308 and -1e308
        wide = np.isinf(b - a) & np.isfinite(a) & np.isfinite(b)
        result = np.where(wide, a * (1.0 - fraction) + b * fraction, np.minimum(a + step, b))
        mixed = np.where(np.isinf(a) & np.isinf(b), np.nan, np.where(np.isinf(a), a, b))
    result = np.where(np.isinf(a) | np.isinf(b), mixed, result)
    return np.where((a == b) | (fraction == 0.0), a, result)
