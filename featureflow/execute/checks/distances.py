"""Distances between the distribution of a column and that of a reference: what ``drift`` measures.

``p_i`` is the reference's share of values in bin ``i``, ``q_i`` the new one's; ``n``, ``m`` not null; ``B`` bins.

``psi``
    Population stability index, ``sum (q_i - p_i) ln(q_i / p_i)``. An empty bin would make it infinite, so half a row
    is added to each bin on both sides: ``p_i = (count_i + 1/2) / (n + B/2)`` (the estimator of Krichevsky and
    Trofimov, 1981). Below 0.1 is commonly read as stable, over 0.25 as another distribution (Siddiqi, Credit Risk
    Scorecards, 2006).
``js``
    Jensen-Shannon divergence with base 2, from 0 to 1: ``(sum p_i log2(p_i / m_i) + sum q_i log2(q_i / m_i)) / 2`` with
    ``m_i = (p_i + q_i) / 2``, over the same bins without the half rows (Lin 1991, doi:10.1109/18.61115). It is not the
    square root, which is the distance of that name.
``ks``
    Statistic of the two-sample Kolmogorov-Smirnov test, ``max_x |F(x) - G(x)|`` over all values: exact, without bins.
``null_rate``
    ``|share of nulls - share of nulls of the reference|``.
``mean_shift``
    ``|mean - mean_ref| / std_ref`` with ``n - 1`` in the standard deviation. If that is 0: 0 for equal means, else
    infinite. A mean that is infinite is at distance 0 from itself and infinitely far from everything else.

Bins of numbers and times: deciles of the reference, ``(c_{k-1}, c_k]`` where ``c_k`` is its least value with at least
``k n / 10`` values at or below it; equal ones are one; the outer bins have no end. If the reference has at most ten
different values each of them is a bin, and all others together are one more. Bins of text and booleans: the reference's
hundred most frequent values (of equally frequent ones the smaller), and all others together.

Nulls are not values: only ``null_rate`` looks at them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featureflow.execute.checks.value_counts import Counted, Side, key_values, sorted_counts

_BINS = 10
_CATEGORIES = 100

Counts = NDArray[np.int64]


def numeric_distance(measure: str, reference: Side, new: Side, *, is_float: bool) -> float:
    """Measure ``psi``, ``js``, ``ks`` or ``mean_shift`` between two sides that both have values."""
    n, m, batches = sorted_counts(reference, new)
    if measure == "ks":
        return _ks(n, m, batches)
    if measure == "mean_shift":
        return _mean_shift(batches, is_float=is_float)
    first, second = _bins(n, batches)
    return binned_distance(measure, first, second)


def category_distance(measure: str, reference: pl.DataFrame, new: pl.DataFrame) -> float:
    """Measure ``psi`` or ``js`` between counts of categories: frames of ``value`` and ``count``, without nulls."""
    chosen = reference.sort(["count", "value"], descending=[True, False]).head(_CATEGORIES)
    pairs = chosen.join(new, on="value", how="left", suffix="_new", maintain_order="left")
    first, second = pairs["count"].to_list(), pairs["count_new"].fill_null(0).to_list()
    rest = int(reference["count"].sum()) - sum(first), int(new["count"].sum()) - sum(second)
    return binned_distance(
        measure, np.array([*first, rest[0]], np.int64), np.array([*second, rest[1]], np.int64)
    )


def binned_distance(measure: str, first: Counts, second: Counts) -> float:
    """``psi`` or ``js`` of counts by bin."""
    if measure == "psi":
        p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (first, second))
        return float(((q - p) * np.log(q / p)).sum())
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    return float((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    there = p > 0
    return float((p[there] * np.log2(p[there] / q[there])).sum())


def _ks(n: int, m: int, batches: Iterator[Counted]) -> float:
    below = above = 0
    greatest = 0.0
    for _, first, second in batches:
        if not len(first):
            continue
        before, after = below + np.cumsum(first), above + np.cumsum(second)
        greatest = max(greatest, float(np.abs(before / n - after / m).max()))
        below, above = int(before[-1]), int(after[-1])
    return greatest


def _bins(n: int, batches: Iterator[Counted]) -> tuple[Counts, Counts]:
    """Counts by decile of the reference, or by value if it has few."""
    deciles = np.zeros((2, _BINS), np.int64)
    exists = np.zeros(_BINS, np.bool_)
    exists[0] = True
    few: list[tuple[int, int]] = []
    others = below = distinct = 0
    for _, first, second in batches:
        before = below + np.concatenate(([0], np.cumsum(first)))
        place = np.minimum(_BINS - 1, _BINS * before // n)
        for side, counts in enumerate((first, second)):
            np.add.at(deciles[side], place[:-1], counts)
        known = first > 0
        exists[place[1:][known]] = True
        distinct += int(known.sum())
        if distinct <= _BINS:
            few += list(zip(first[known].tolist(), second[known].tolist(), strict=True))
            others += int(second[~known].sum())
        below = int(before[-1])
    if distinct <= _BINS:
        return np.array([*(a for a, _ in few), 0], np.int64), np.array(
            [*(b for _, b in few), others], np.int64
        )
    return deciles[0][exists], deciles[1][exists]


def _mean_shift(batches: Iterator[Counted], *, is_float: bool) -> float:
    sides = ([0, 0.0, 0.0], [0, 0.0, 0.0])
    with np.errstate(invalid="ignore"):
        for keys, first, second in batches:
            values = key_values(keys, is_float=is_float)
            for moments, counts in zip(sides, (first, second), strict=True):
                _add(moments, values[counts > 0], counts[counts > 0])
    (n, mean, squares), (_, other, _) = sides
    if other == mean:
        return 0.0
    spread = np.sqrt(squares / (n - 1)) if n > 1 else 0.0
    if not np.isfinite([mean, other, spread]).all() or spread == 0.0:
        return float("inf")
    return float(abs(other - mean) / spread)


def _add(moments: list[float], values: NDArray[np.float64], counts: Counts) -> None:
    """Merge counted values into (number, mean, sum of squared deviations); Chan, Golub and LeVeque 1983."""
    if not len(values):
        return
    size = int(counts.sum())
    mean = float((values * (counts / size)).sum())
    squares = float((counts * (values - mean) ** 2).sum())
    total, delta = moments[0] + size, mean - moments[1]
    if moments[0] == 0:
        moments[:] = [size, mean, squares]
        return
    moments[2] += squares + delta**2 * moments[0] * size / total
    moments[1] += delta * size / total
    moments[0] = total
