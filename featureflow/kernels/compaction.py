"""Which rows of a key's history are enough for windows without a start.

A window that begins with the key's first row never loses one. So for many aggregations a few of the rows before an
instant stand for all of them in every window that ends after it. The functions here find these rows; their input is
the rows that count, with never decreasing key codes, in the order of the events.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FIRST_42 = np.uint64(2**42 - 1)
_FIRST_20 = np.uint64(2**20 - 1)


def _starts(changes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions where a run begins, given for each row but the first whether it differs from the one before."""
    return np.concatenate(([0], np.flatnonzero(changes) + 1)).astype(np.int64)


def edge_rows(codes: NDArray[np.int64], *, k: int = 1, newest: bool = False) -> NDArray[np.int64]:
    """Positions of each key's first (or last) k rows, ascending.

    Examples
    --------
    >>> edge_rows(np.array([0, 0, 0, 4]), k=2).tolist()
    [0, 1, 3]
    """
    if codes.size == 0:
        return np.empty(0, np.int64)
    starts = _starts(codes[1:] != codes[:-1])
    lengths = np.diff(np.append(starts, codes.size))
    if newest:
        rank = np.repeat(starts + lengths - 1, lengths) - np.arange(codes.size)
    else:
        rank = np.arange(codes.size) - np.repeat(starts, lengths)
    return np.flatnonzero(rank < k)


def extreme_rows(
    codes: NDArray[np.int64], keys: NDArray[np.int64], *, largest: bool, k: int = 1
) -> NDArray[np.int64]:
    """Positions of each key's k largest (or smallest) rows by their order keys, ascending; of equal ones the earliest.

    Notes
    -----
    Cost: O(n) for one row a key, O(n log n) for more.
    """
    if codes.size == 0:
        return np.empty(0, np.int64)
    ordered = ~keys if largest else keys  # all bits flipped, the order of integers is reversed
    if k == 1:
        starts = _starts(codes[1:] != codes[:-1])
        best = np.repeat(np.minimum.reduceat(ordered, starts), np.diff(np.append(starts, codes.size)))
        found = np.flatnonzero(ordered == best)
        return found[edge_rows(codes[found])]
    order = np.lexsort((ordered, codes))
    return np.sort(order[edge_rows(codes[order], k=k)])


def distinct_rows(
    codes: NDArray[np.int64], keys: NDArray[np.int64], *, newest: bool = False, k: int | None = None
) -> NDArray[np.int64]:
    """Positions of the first (or last) row of each value of each key, ascending; with ``k``, of its k first (last)."""
    if codes.size == 0:
        return np.empty(0, np.int64)
    order = np.lexsort((keys, codes))
    sorted_codes, sorted_keys = codes[order], keys[order]
    starts = _starts((sorted_codes[1:] != sorted_codes[:-1]) | (sorted_keys[1:] != sorted_keys[:-1]))
    chosen = np.append(starts[1:], codes.size) - 1 if newest else starts
    rows = np.sort(order[chosen])
    return rows if k is None else rows[edge_rows(codes[rows], k=k, newest=newest)]


def split_sums(
    prefix: NDArray[np.uint64], lo: NDArray[np.int64], hi: NDArray[np.int64], exponent: int
) -> list[NDArray[np.float64]] | None:
    """Three doubles for each window whose exact sum is the window's exact sum; None if one is beyond all doubles.

    Parameters
    ----------
    prefix
        128-bit prefix sums, two limbs a row (:func:`featureflow.kernels.exact_sums.prefix_sums`).
    exponent
        Power of two that the integers stand for multiples of.
    """
    low, high = _sums(prefix, lo, hi)
    negative = (high >> np.uint64(63)) != 0
    low = np.where(negative, ~low + np.uint64(1), low)
    high = np.where(negative, ~high + (low == 0).astype(np.uint64), high)
    middle = (low >> np.uint64(42)) | ((high & _FIRST_20) << np.uint64(22))
    sign = np.where(negative, -1.0, 1.0)
    with np.errstate(over="ignore"):
        parts = [
            sign * np.ldexp(chunk.astype(np.float64), exponent + 42 * place)
            for place, chunk in enumerate((low & _FIRST_42, middle, high >> np.uint64(20)))
        ]
    return parts if all(np.isfinite(part).all() for part in parts) else None


def whole_sums(
    prefix: NDArray[np.uint64], lo: NDArray[np.int64], hi: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Sum of each window of integers; None if one does not fit 64 bits."""
    low, high = _sums(prefix, lo, hi)
    found = low.view(np.int64)
    return found if bool((high.view(np.int64) == found >> 63).all()) else None


def _sums(
    prefix: NDArray[np.uint64], lo: NDArray[np.int64], hi: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    left, right = prefix[lo], prefix[hi]
    borrow = (right[:, 0] < left[:, 0]).astype(np.uint64)
    return right[:, 0] - left[:, 0], right[:, 1] - left[:, 1] - borrow
