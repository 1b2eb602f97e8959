"""Rows that stand for all of a key's rows, against plain loops."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from featureflow.contracts.aggregation import EventColumn, Windows
from featureflow.kernels.columns import dense, order_keys
from featureflow.kernels.compaction import distinct_rows, edge_rows, extreme_rows, split_sums, whole_sums
from featureflow.kernels.exact_sums import banded_prefix_sums, decoded, prefix_sums

CODES = np.array([0, 0, 0, 0, 2, 2, 2, 7], np.int64)
VALUES = np.array([3.0, 1.0, 3.0, 1.0, -0.0, 0.0, 5.0, 2.0])


def by_key(k: int, *, best: Any, newest: bool = False, distinct: bool = False) -> list[int]:
    found = []
    for code in dict.fromkeys(CODES.tolist()):
        rows = [i for i in range(len(CODES)) if CODES[i] == code]
        rows = sorted(reversed(rows) if newest else rows, key=best)
        if distinct:
            rows = [row for n, row in enumerate(rows) if VALUES[row] not in [VALUES[r] for r in rows[:n]]]
        found += rows[:k]
    return sorted(found)


@pytest.mark.parametrize("k", [1, 2, 3, 9])
@pytest.mark.parametrize("flag", [False, True])
def test_rows_equal_a_plain_loop(k: int, flag: bool) -> None:
    keys = order_keys(VALUES)
    assert edge_rows(CODES, k=k, newest=flag).tolist() == by_key(k, best=lambda _: 0, newest=flag)
    expected = by_key(k, best=lambda i: -VALUES[i] if flag else VALUES[i])
    assert extreme_rows(CODES, keys, largest=flag, k=k).tolist() == expected
    expected = by_key(k, best=lambda _: 0, newest=flag, distinct=True)
    assert distinct_rows(CODES, keys, newest=flag, k=k).tolist() == expected
    assert distinct_rows(CODES, keys, newest=flag).tolist() == by_key(
        99, best=lambda _: 0, newest=flag, distinct=True
    )


def test_no_rows() -> None:
    none = np.empty(0, np.int64)
    assert [
        f.size for f in (edge_rows(none), distinct_rows(none, none), extreme_rows(none, none, largest=True))
    ] == [0] * 3


def column(values: Any) -> tuple[EventColumn, Any]:
    times = np.arange(len(values), dtype=np.int64)
    events = EventColumn(values, np.ones(len(values), np.bool_), times, None)
    lo, hi = np.array([0, 0, 2]), np.array([len(values), 2, len(values)])
    return events, dense(events, Windows(lo, hi, times[:3]))


@pytest.mark.parametrize(
    "values", [[0.1, 0.2, 0.3, -7.0], [1e16, 1.0, -1e16, 0.3], [-5e-324, 5e-324, -5e-324, 1e-300]]
)
def test_split_sums_are_exact(values: list[float]) -> None:
    events, selected = column(np.array(values))
    held = decoded(events, selected)
    prefix = prefix_sums(events, held)
    assert prefix is not None
    for bands in ([(prefix, held.low)], list(banded_prefix_sums(held))):
        parts = [
            part for band, low in bands for part in split_sums(band, selected.lo, selected.hi, low) or []
        ]
        for i in range(3):
            expected = sum(Fraction(value) for value in values[selected.lo[i] : selected.hi[i]])
            assert sum(Fraction(part[i].item()) for part in parts) == expected


def test_sums_beyond_all_doubles_are_refused() -> None:
    events, selected = column(np.array([1.7e308, 1.7e308, 1.0, 5e-324]))
    split = [
        split_sums(band, selected.lo, selected.hi, low)
        for band, low in banded_prefix_sums(decoded(events, selected))
    ]
    assert any(part is None for part in split)


def test_whole_sums() -> None:
    events, selected = column(np.array([2**62, -5, 2**62, -(2**62)], np.int64))
    prefix = prefix_sums(events, decoded(events, selected))
    assert prefix is not None
    found = whole_sums(prefix, selected.lo, selected.hi)
    assert found is not None
    assert found.tolist() == [2**62 - 5, 2**62 - 5, 0]
    events, selected = column(np.array([2**62, 2**62, 1, 1], np.int64))
    prefix = prefix_sums(events, decoded(events, selected))
    assert prefix is not None
    assert whole_sums(prefix, selected.lo, selected.hi) is None
