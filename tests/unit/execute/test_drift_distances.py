"""Distances of distributions against plain Python, written from their definitions."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.execute.checks.distances import binned_distance, category_distance, numeric_distance
from featureflow.execute.checks.value_counts import key_values, ordered_keys, sorted_counts

MEASURES = ["psi", "js", "ks", "mean_shift"]
floats = st.floats(allow_nan=False, width=64)
few = st.sampled_from([-1.5, -0.0, 0.0, 2.0, 3.25, 1e300])
finite = st.integers(-(10**6), 10**6).map(lambda i: i / 64)


def side(values: list[Any], parts: int = 1) -> Any:
    """A side that reads its values in several parts."""
    size = max(1, math.ceil(len(values) / parts))
    series = [pl.Series(values[i : i + size]) for i in range(0, len(values), size)]
    return lambda: iter([ordered_keys(each) for each in series])


def ks(old: list[float], new: list[float]) -> float:
    def share(values: list[float], x: float) -> Fraction:
        return Fraction(sum(value <= x for value in values), len(values))

    return float(max(abs(share(old, x) - share(new, x)) for x in {*old, *new}))


def bins(old: list[float], new: list[float]) -> tuple[list[int], list[int]]:
    if len(set(old)) <= 10:
        known = sorted(set(old))
        return (
            [*(old.count(x) for x in known), 0],
            [*(new.count(x) for x in known), sum(x not in known for x in new)],
        )
    ordered = sorted(old)
    cuts = sorted({ordered[math.ceil(Fraction(k * len(old), 10)) - 1] for k in range(1, 10)})
    found = []
    for values in (old, new):
        places = Counter(sum(cut < value for cut in cuts) for value in values)
        found.append([places[i] for i in range(len(cuts) + 1)])
    return found[0], found[1]


def psi(old: list[int], new: list[int]) -> float:
    total = 0.0
    for a, b in zip(old, new, strict=True):
        p = (a + 0.5) / (sum(old) + len(old) / 2)
        q = (b + 0.5) / (sum(new) + len(new) / 2)
        total += (q - p) * math.log(q / p)
    return total


def js(old: list[int], new: list[int]) -> float:
    total = 0.0
    for a, b in zip(old, new, strict=True):
        p, q = a / sum(old), b / sum(new)
        for share in (p, q):
            if share:
                total += share * math.log2(share / ((p + q) / 2)) / 2
    return total


def mean_shift(old: list[float], new: list[float]) -> float:
    exact = [sum(map(Fraction, values)) / len(values) for values in (old, new)]
    if exact[0] == exact[1]:
        return 0.0
    squares = sum((Fraction(value) - exact[0]) ** 2 for value in old)
    if not squares:
        return math.inf
    return float(abs(exact[1] - exact[0])) / math.sqrt(squares / (len(old) - 1))


def oracle(measure: str, old: list[float], new: list[float]) -> float:
    if measure == "ks":
        return ks(old, new)
    if measure == "mean_shift":
        return mean_shift(old, new)
    return {"psi": psi, "js": js}[measure](*bins(old, new))


@pytest.mark.parametrize("measure", ["psi", "js", "ks"])
@given(
    old=st.lists(st.one_of(floats, few), min_size=1, max_size=60),
    new=st.lists(st.one_of(floats, few), min_size=1, max_size=60),
)
def test_distances_of_numbers(measure: str, old: list[float], new: list[float]) -> None:
    found = numeric_distance(measure, side(old, 3), side(new, 2), is_float=True)
    assert found == pytest.approx(oracle(measure, old, new), rel=1e-9, abs=1e-12)


@given(old=st.lists(finite, min_size=2, max_size=40), new=st.lists(finite, min_size=1, max_size=40))
def test_mean_shift(old: list[float], new: list[float]) -> None:
    found = numeric_distance("mean_shift", side(old), side(new, 2), is_float=True)
    wanted = mean_shift(old, new)
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ([1.0, 1.0], [1.0], 0.0),
        ([1.0, 1.0], [2.0], math.inf),
        ([1.0], [2.0], math.inf),
        ([math.inf, 1.0], [math.inf], 0.0),
        ([1.0, 2.0], [math.inf], math.inf),
        ([math.inf, -math.inf], [1.0], math.inf),
        ([0.0, 2.0], [3.0], math.sqrt(2)),
    ],
)
def test_mean_shift_at_the_edges(old: list[float], new: list[float], wanted: float) -> None:
    assert numeric_distance("mean_shift", side(old), side(new), is_float=True) == pytest.approx(wanted)


@given(values=st.lists(floats, min_size=1, max_size=50))
def test_keys_order_floats_as_numbers(values: list[float]) -> None:
    keys = ordered_keys(pl.Series(values))
    order = np.argsort(keys, kind="stable")
    assert [values[i] for i in order] == sorted(values)
    assert key_values(keys, is_float=True).tolist() == [value + 0.0 for value in values]


@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50))
def test_keys_order_integers_as_numbers(values: list[int]) -> None:
    keys = ordered_keys(pl.Series(values, dtype=pl.Int64))
    assert [values[i] for i in np.argsort(keys, kind="stable")] == sorted(values)


@given(
    old=st.lists(st.one_of(floats, few), max_size=60),
    new=st.lists(st.one_of(floats, few), max_size=60),
    limit=st.integers(1, 40),
)
def test_counts_in_ranges_are_those_in_memory(old: list[float], new: list[float], limit: int) -> None:
    sides = side(old, 4) if old else (lambda: iter(())), side(new, 3) if new else (lambda: iter(()))
    found = []
    for bound in (1000, limit):
        n, m, batches = sorted_counts(sides[0], sides[1], bound)
        assert (n, m) == (len(old), len(new))
        counted = [row for batch in batches for row in zip(*(part.tolist() for part in batch), strict=True)]
        assert [key for key, _, _ in counted] == sorted({key for key, _, _ in counted})
        found.append(counted)
    assert found[0] == found[1]
    assert sum(a for _, a, _ in found[0]) == len(old)


@pytest.mark.parametrize("measure", ["psi", "js"])
@given(data=st.data())
def test_distances_of_categories(measure: str, data: st.DataObject) -> None:
    words = st.one_of(st.sampled_from("abc"), st.text("xyz", max_size=3))
    old, new = (data.draw(st.lists(words, min_size=1, max_size=200)) for _ in range(2))
    frames = [pl.Series("value", each).to_frame().group_by("value").len("count") for each in (old, new)]
    chosen = sorted(Counter(old).items(), key=lambda pair: (-pair[1], pair[0]))[:100]
    names = [name for name, _ in chosen]
    counts = [
        [*(each.count(name) for name in names), sum(x not in names for x in each)] for each in (old, new)
    ]
    wanted = {"psi": psi, "js": js}[measure](*counts)
    assert category_distance(measure, *frames) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_rare_categories_are_one() -> None:
    old = pl.DataFrame({"value": [f"{i:03d}" for i in range(150)], "count": [2] * 100 + [1] * 50})
    new = pl.DataFrame({"value": ["120", "new"], "count": [30, 20]})
    assert category_distance("psi", old, new) == pytest.approx(psi([2] * 100 + [50], [0] * 100 + [50]))


def test_known_values() -> None:
    assert binned_distance("js", np.array([1, 0]), np.array([0, 1])) == 1.0
    assert binned_distance("psi", np.array([5, 5]), np.array([5, 5])) == 0.0
    assert numeric_distance("ks", side([1.0, 2.0]), side([3.0, 4.0]), is_float=True) == 1.0
