"""How often each value occurs in two sets of rows, in the order of the values, in bounded memory.

Numbers and times become unsigned 64-bit integers of the same order. If all of them fit into memory they are sorted
there; otherwise a first pass counts the values by their upper 16 bits, and one pass for each range of about
``LIMIT`` values sorts what lies in it. Both ways give the same counts, whatever files the rows lie in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

#: Values of both sides together that are sorted in memory at once: 128 MiB.
LIMIT = 1 << 24
_SIGN = np.uint64(1 << 63)
_SHIFT = np.uint64(48)

Keys = NDArray[np.uint64]
#: Reads one side: arrays of keys in any order, the same ones every time.
Side = Callable[[], Iterator[Keys]]
#: Ascending keys, and how often each occurs in the reference and in the new rows.
Counted = tuple[Keys, NDArray[np.int64], NDArray[np.int64]]


def ordered_keys(values: pl.Series) -> Keys:
    """Turn the values that are not null into integers of the same order; -0.0 is 0.0."""
    present = values.drop_nulls()
    if present.dtype.is_float():
        bits = (present.cast(pl.Float64).to_numpy() + 0.0).view(np.uint64)
        negative = (bits & _SIGN) != 0
        return np.where(negative, ~bits, bits | _SIGN)
    return present.to_physical().cast(pl.Int64).to_numpy().view(np.uint64) ^ _SIGN


def key_values(keys: Keys, *, is_float: bool) -> NDArray[np.float64]:
    """Turn keys back into numbers."""
    if not is_float:
        return (keys ^ _SIGN).view(np.int64).astype(np.float64)
    positive = (keys & _SIGN) != 0
    return np.where(positive, keys ^ _SIGN, ~keys).view(np.float64)


def sorted_counts(reference: Side, new: Side, limit: int = LIMIT) -> tuple[int, int, Iterator[Counted]]:
    """Count the values of both sides.

    Returns
    -------
    tuple
        Number of values of the reference, of the new rows, and the counts in batches of ascending keys.

    Notes
    -----
    Cost: reads both sides once if they have at most ``limit`` values, else 1 + values / limit times. Memory: ``limit``
    values, or the different values that share their upper 16 bits if these are more.
    """
    held = _all(reference, new, limit)
    if held is not None:
        return len(held[0]), len(held[1]), iter([_merged(_tally([held[0]]), _tally([held[1]]))])
    first, second = _histogram(reference), _histogram(new)
    ranges = _ranges(first + second, limit)
    batches = (_merged(_tally(_within(reference, *ends)), _tally(_within(new, *ends))) for ends in ranges)
    return int(first.sum()), int(second.sum()), batches


def _all(reference: Side, new: Side, limit: int) -> tuple[Keys, Keys] | None:
    """All keys of both sides, or None if they are more than ``limit``."""
    total = 0
    found: list[Keys] = []
    for side in (reference, new):
        parts = [np.empty(0, np.uint64)]
        for keys in side():
            total += len(keys)
            if total > limit:
                return None
            parts.append(keys)
        found.append(np.concatenate(parts))
    return found[0], found[1]


def _histogram(side: Side) -> NDArray[np.int64]:
    counts = np.zeros(1 << 16, np.int64)
    for keys in side():
        counts += np.bincount((keys >> _SHIFT).astype(np.int64), minlength=1 << 16)
    return counts


def _ranges(counts: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Cut the upper bits into closed ranges of at most ``limit`` values; one of them alone may have more."""
    start, held = 0, 0
    for prefix, count in enumerate(counts.tolist()):
        if held and held + count > limit:
            yield start, prefix - 1
            start, held = prefix, 0
        held += count
    yield start, len(counts) - 1


def _within(side: Side, first: int, last: int) -> Iterator[Keys]:
    for keys in side():
        upper = keys >> _SHIFT
        yield keys[(upper >= np.uint64(first)) & (upper <= np.uint64(last))]


def _tally(parts: Iterator[Keys] | list[Keys]) -> tuple[Keys, NDArray[np.int64]]:
    """Different keys, ascending, and their counts; each part is made smaller before the next one is read."""
    keys, counts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for part in parts:
        distinct, found = np.unique(part, return_counts=True)
        keys.append(distinct)
        counts.append(found.astype(np.int64))
    distinct, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.zeros(len(distinct), np.int64)
    np.add.at(total, place, np.concatenate(counts))
    return distinct, total


def _merged(reference: tuple[Keys, NDArray[np.int64]], new: tuple[Keys, NDArray[np.int64]]) -> Counted:
    keys = np.union1d(reference[0], new[0])
    first, second = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
    first[np.searchsorted(keys, reference[0])] = reference[1]
    second[np.searchsorted(keys, new[0])] = new[1]
    return keys, first, second
