"""Distinct values of windows, by counts that slide along."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.columns import Dense
from featureflow.kernels.elementary import natural_log
from featureflow.kernels.jit import kernel, trailing_zeros
from featureflow.kernels.ranks import Chains

_FRACTION_BITS = 52
_ONE = 1 << _FRACTION_BITS
#: counts above, codes below, in one integer
_COUNT = 1 << 32
_0 = np.uint64(0)
_1 = np.uint64(1)


@kernel
def _distinct(
    codes: NDArray[np.int32],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    counts: NDArray[np.int32],
    out: NDArray[np.int64],
) -> None:
    left = right = distinct = 0
    for i in range(lo.size):
        if lo[i] >= right:
            for j in range(left, right):
                counts[codes[j]] = 0
            left = right = lo[i]
            distinct = 0
        for j in range(right, hi[i]):
            counts[codes[j]] += 1
            if counts[codes[j]] == 1:
                distinct += 1
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            counts[codes[j]] -= 1
            if counts[codes[j]] == 0:
                distinct -= 1
        left = lo[i]
        out[i] = distinct


def window_distinct(codes: NDArray[np.int32], size: int, selected: Dense) -> NDArray[np.int64]:
    """Number of distinct codes in each window.

    Notes
    -----
    Cost: O(n + m); 4 bytes for each of the ``size`` codes.
    """
    out = np.empty(selected.lo.size, np.int64)
    _distinct(codes, selected.lo, selected.hi, np.zeros(size, np.int32), out)
    return out


@kernel
def _entropy(
    codes: NDArray[np.int32],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    counts: NDArray[np.int32],
    whole: NDArray[np.int64],
    part: NDArray[np.int64],
    logs: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    left = right = distinct = total = fraction = 0
    for i in range(lo.size):
        if lo[i] >= right:
            for j in range(left, right):
                counts[codes[j]] = 0
            left = right = lo[i]
            distinct = total = fraction = 0
        for j in range(right, hi[i]):
            c = counts[codes[j]]
            counts[codes[j]] = c + 1
            distinct += 1 if c == 0 else 0
            total += whole[c + 1] - whole[c]
            fraction += part[c + 1] - part[c]
            total += fraction >> _FRACTION_BITS
            fraction &= _ONE - 1
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            c = counts[codes[j]]
            counts[codes[j]] = c - 1
            distinct -= 1 if c == 1 else 0
            total -= whole[c] - whole[c - 1]
            fraction -= part[c] - part[c - 1]
            total += fraction >> _FRACTION_BITS
            fraction &= _ONE - 1
        left = lo[i]
        out[i] = 0.0
        if distinct > 1:
            n = hi[i] - lo[i]
            out[i] = max(0.0, logs[n] - (total + fraction / float(_ONE)) / n)


def window_entropy(codes: NDArray[np.int32], size: int, selected: Dense) -> NDArray[np.float64]:
    """Entropy of each window's values in nats: ``ln n - sum(c ln c) / n`` over the counts ``c``.

    Notes
    -----
    Determinism: the sum is kept in fixed point, so what leaves takes back exactly what it brought.
    Cost: O(n + m), plus a table as long as the longest window.
    """
    longest = int(selected.counts.max()) if selected.lo.size else 0
    # while events enter before others leave, two neighbouring windows are in the counts together
    limit = min(selected.size, 2 * longest)
    count = np.arange(limit + 2, dtype=np.float64)
    logs = natural_log(np.maximum(count, 1.0))
    # c ln c as fixed point, a whole part and 52 fraction bits, which hold the double exactly
    term = count * logs
    whole = np.floor(term).astype(np.int64)
    part = ((term - np.floor(term)) * _ONE).astype(np.int64)
    out = np.empty(selected.lo.size, np.float64)
    _entropy(codes, selected.lo, selected.hi, np.zeros(size, np.int32), whole, part, logs, out)
    return out


@kernel
def _raise_leaf(tree: NDArray[np.int64], base: int, leaf: int, delta: int) -> None:
    tree[base + leaf] += delta
    while leaf > 1:
        best = max(tree[base + leaf], tree[base + (leaf ^ 1)])
        leaf >>= 1
        if tree[base + leaf] == best:
            return
        tree[base + leaf] = best


@kernel
def _modes(
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    code: NDArray[np.int32],
    leader: NDArray[np.int32],
    width: NDArray[np.int32],
    tree: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    # a node holds count * 2**32 - code of its best leaf: the largest count, and of equal counts the smallest value
    base = size = left = right = 0
    for i in range(lo.size):
        if lo[i] >= hi[i]:
            continue
        if lo[i] >= right:
            base = left = right = lo[i]
            size = width[base]
            for c in range(size):
                tree[2 * base + size + c] = -c
            for node in range(size - 1, 0, -1):
                tree[2 * base + node] = max(tree[2 * base + 2 * node], tree[2 * base + 2 * node + 1])
        for j in range(right, hi[i]):
            _raise_leaf(tree, 2 * base, size + code[j], _COUNT)
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            _raise_leaf(tree, 2 * base, size + code[j], -_COUNT)
        left = lo[i]
        out[i] = leader[base + (-tree[2 * base + 1] & (_COUNT - 1))]


def window_modes(chained: Chains, selected: Dense) -> NDArray[np.int64]:
    """Position of a row with the most frequent value of each window, the smallest of equally frequent ones; or -1.

    Notes
    -----
    Cost: O((n + m) log u) for u distinct values in a chain of windows (a tournament tree); 16 bytes a row.
    """
    out = np.full(selected.lo.size, -1, np.int64)
    tree = np.zeros(2 * selected.size, np.int64)
    _modes(selected.lo, selected.hi, chained.code, chained.leader, chained.width, tree, out)
    return out


@kernel
def _histograms(
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    code: NDArray[np.int32],
    leader: NDArray[np.int32],
    counts: NDArray[np.int32],
    words: NDArray[np.uint64],
    groups: NDArray[np.uint64],
    width: NDArray[np.int32],
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    found: NDArray[np.int64],
) -> None:
    # a bit for each value that is present, and a bit for each word that is not empty: values come out in order
    base = left = right = 0
    for i in range(lo.size):
        if lo[i] >= hi[i]:
            continue
        if lo[i] >= right:
            for j in range(left, right):
                counts[code[j]] = 0
                words[code[j] >> 6] = _0
                groups[code[j] >> 12] = _0
            base = left = right = lo[i]
        for j in range(right, hi[i]):
            c = code[j]
            counts[c] += 1
            words[c >> 6] |= _1 << np.uint64(c & 63)
            groups[c >> 12] |= _1 << np.uint64((c >> 6) & 63)
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            c = code[j]
            counts[c] -= 1
            if counts[c] == 0:
                words[c >> 6] &= ~(_1 << np.uint64(c & 63))
                if words[c >> 6] == _0:
                    groups[c >> 12] &= ~(_1 << np.uint64((c >> 6) & 63))
        left = lo[i]
        at = offsets[i]
        for g in range((width[base] >> 12) + 1):
            group = groups[g]
            while group != _0:
                w = (g << 6) + trailing_zeros(group)
                group &= group - _1
                word = words[w]
                while word != _0:
                    c = (w << 6) + trailing_zeros(word)
                    word &= word - _1
                    rows[at] = leader[base + c]
                    found[at] = counts[c]
                    at += 1


def window_histograms(
    chained: Chains, selected: Dense, distinct: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Offsets, rows with each distinct value (ascending) and counts, of each window.

    Parameters
    ----------
    chained, selected
        Ranks and windows.
    distinct
        Distinct values in each window.

    Notes
    -----
    Cost: O(n + m + output) and one step for every 4,096 distinct values of a chain and window.
    """
    offsets = np.zeros(distinct.size + 1, np.int64)
    np.cumsum(distinct, out=offsets[1:])
    rows, found = np.empty(int(offsets[-1]), np.int64), np.empty(int(offsets[-1]), np.int64)
    widest = int(chained.width.max()) if selected.size else 0
    counts = np.zeros(widest + 1, np.int32)
    words, groups = np.zeros((widest >> 6) + 1, np.uint64), np.zeros((widest >> 12) + 1, np.uint64)
    _histograms(
        selected.lo,
        selected.hi,
        chained.code,
        chained.leader,
        counts,
        words,
        groups,
        chained.width,
        offsets,
        rows,
        found,
    )
    return offsets, rows, found
