"""The check of a split sees a leak that was planted, for any partition of the rows."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featureflow.core.durations import Duration
from featureflow.core.errors import CheckFailed
from featureflow.datasets import leaks
from featureflow.datasets.leaks import LeakSummary, check_leaks, leak_summary
from featureflow.datasets.splits import assign_splits
from featureflow.spec.splits import Split

DAY = 86_400_000_000
UTC = pa.timestamp("us", "UTC")
NONE = Duration(0, "0s")
BY_KEYS = Split.model_validate({"by": "keys", "train": 0.5, "test": "rest"})
BY_RANDOM = Split.model_validate({"by": "random", "train": 0.5, "test": "rest"})
BY_TIME = Split.model_validate({"by": "time", "train": "< 1970-01-11", "test": "rest", "embargo": "2d"})
BY_GROUP = Split.model_validate({"by": "group", "column": "g", "train": 0.5, "test": "rest"})


def rows(n: int) -> pa.Table:
    chance = np.random.default_rng(3)
    return pa.table(
        {
            "k": chance.integers(0, 50, n),
            "j": chance.integers(0, 2, n),
            "g": chance.integers(0, 9, n),
            "t": pa.array(chance.integers(0, 20 * DAY, n)).cast(UTC),
        }
    )


def assigned(table: pa.Table, split: Split) -> pa.Array:
    return assign_splits(table, split, keys=("k", "j"), time="t", row_ids=np.arange(table.num_rows)).split


def summary(
    table: pa.Table, names: Any, split: Split, reach: Duration = NONE, pieces: int = 4
) -> LeakSummary:
    edges = np.linspace(0, table.num_rows, pieces + 1).astype(int)
    parts = [
        leak_summary(
            table.slice(low, high - low),
            names[low:high],
            split,
            keys=("k", "j"),
            time="t",
            reach=reach,
        )
        for low, high in pairwise(edges)
    ]
    return reduce(add, reversed(parts))


@pytest.mark.parametrize("split", [BY_KEYS, BY_GROUP, BY_TIME], ids=["keys", "group", "time"])
def test_our_own_splits_do_not_leak(split):
    table = rows(500)
    assert check_leaks(summary(table, assigned(table, split), split), split, reach=NONE, where="d") == ()


@pytest.mark.parametrize("split", [BY_KEYS, BY_GROUP, BY_TIME], ids=["keys", "group", "time"])
def test_one_row_in_the_wrong_split_is_seen(split):
    table = rows(500)
    names = assigned(table, split).to_pylist()
    for row in (0, 250, 499):
        if names[row] == "embargoed":
            continue
        wrong = [*names[:row], {"train": "test", "test": "train"}[names[row]], *names[row + 1 :]]
        with pytest.raises(CheckFailed, match=r"d\.split: .*Nothing was published"):
            check_leaks(summary(table, pa.array(wrong), split), split, reach=NONE, where="d.split")


def test_an_embargo_that_was_not_kept_is_seen():
    table = pa.table({"k": [1, 1], "j": [1, 1], "t": pa.array([8 * DAY + 1, 10 * DAY]).cast(UTC)})
    with pytest.raises(CheckFailed, match="embargo of 2d"):
        check_leaks(
            summary(table, pa.array(["train", "test"]), BY_TIME, pieces=1), BY_TIME, reach=NONE, where="d"
        )


def test_labels_that_look_into_the_next_split_are_a_warning():
    table = pa.table(
        {"k": [1] * 4, "j": [1] * 4, "t": pa.array([0, 7 * DAY, 7 * DAY + 1, 8 * DAY]).cast(UTC)}
    )
    reach = Duration.parse("3d")
    found = summary(table, pa.array(["train"] * 4), BY_TIME, reach)
    (warning,) = check_leaks(found, BY_TIME, reach=reach, where="datasets.d.split")
    assert "the labels of 2 train rows look up to 3d ahead" in warning
    assert "embargo: 3d" in warning


def test_an_embargo_as_long_as_the_labels_reach_is_silent():
    table, reach = rows(500), Duration.parse("2d")
    found = summary(table, assigned(table, BY_TIME), BY_TIME, reach)
    assert found.reaching == {"train": 0}
    assert check_leaks(found, BY_TIME, reach=reach, where="d") == ()


def test_a_random_split_says_how_many_entities_it_tears():
    table = pa.table({"k": [1, 1, 2], "j": [1, 1, 1], "g": [0, 0, 0], "t": pa.array([0, 0, 0]).cast(UTC)})
    (warning,) = check_leaks(
        summary(table, pa.array(["train", "test", "test"]), BY_RANDOM), BY_RANDOM, reach=NONE, where="d"
    )
    assert "1 entities of 2 have rows in more than one split" in warning


def test_embargoed_rows_are_in_no_split():
    table = rows(100)
    names = pa.array(["train"] * 50 + ["embargoed"] * 50)
    assert check_leaks(summary(table, names, BY_KEYS), BY_KEYS, reach=NONE, where="d") == ()


def test_of_too_many_entities_the_same_are_looked_at_in_any_order(monkeypatch):
    monkeypatch.setattr(leaks, "MOST_ENTITIES", 20)
    table = rows(400)
    names = pa.array(["train", "test"] * 200)
    found = [summary(table, names, BY_KEYS, pieces=pieces) for pieces in (1, 3, 50)]
    assert [len(each.entities) for each in found] == [20, 20, 20]
    assert all((each.entities == found[0].entities).all() for each in found)
    assert all((each.splits == found[0].splits).all() for each in found)
    known = LeakSummary(entities=found[0].entities[:1], splits=found[0].splits[:1])
    assert (known + found[0]).limit == (found[0] + known).limit == found[0].limit
    with pytest.raises(CheckFailed, match="of 20 looked at"):
        check_leaks(found[0], BY_KEYS, reach=NONE, where="d")


def test_an_empty_chunk_says_nothing():
    table = rows(10)
    names = assigned(table, BY_KEYS)
    whole = summary(table, names, BY_KEYS, pieces=1)
    with_empty = whole + summary(table.slice(0, 0), names[:0], BY_KEYS, pieces=1)
    assert (with_empty.entities == whole.entities).all()
