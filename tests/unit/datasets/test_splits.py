"""Splits, folds, weights: shares, edges, and that no row moves when data is cut or added."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.core.errors import PlanError, SourceError
from featureflow.datasets.sampling import sample_weights
from featureflow.datasets.splits import (
    ClassCounts,
    SplitColumns,
    SplitCounts,
    assign_splits,
    count_classes,
    needs_class_counts,
)
from featureflow.datasets.thresholds import Thresholds
from featureflow.kernels.draws import draws, even_draws
from featureflow.spec.datasets import Sample
from featureflow.spec.splits import Split

DAY = 86_400_000_000
UTC = pa.timestamp("us", "UTC")
SHARES = {"train": 0.8, "valid": 0.1, "test": "rest"}


def split_of(**given: Any) -> Split:
    """A split as YAML would give it."""
    fields = {k: given.pop(k) for k in ("by", "column", "embargo", "stratify", "folds", "seed") if k in given}
    return Split.model_validate({**fields, **given})


def rows(n: int, *, entities: int = 100) -> pa.Table:
    chance = np.random.default_rng(0)
    label = chance.random(n) < 0.03
    return pa.table(
        {
            "k": pa.array(chance.integers(0, entities, n)),
            "j": pa.array([f"s{i}" for i in chance.integers(0, 3, n)]),
            "t": pa.array(chance.integers(0, 100 * DAY, n), pa.int64()).cast(UTC),
            "label": pa.array(label),
        }
    )


def assign(table: pa.Table, split: Split, first_row: int = 0, **more: Any) -> SplitColumns:
    ids = np.arange(first_row, first_row + table.num_rows)
    return assign_splits(table, split, keys=("k",), time="t", row_ids=ids, **more)


def in_chunks(table: pa.Table, split: Split, cuts: list[int]) -> tuple[list[Any], list[Any], SplitCounts]:
    edges = [0, *sorted(min(cut, table.num_rows) for cut in cuts), table.num_rows]
    before, counts, splits, folds = ClassCounts(), SplitCounts(), [], []
    for low, high in pairwise(edges):
        chunk = table.slice(low, high - low)
        found = assign(chunk, split, low, before=before)
        splits += found.split.to_pylist()
        folds += [] if found.fold is None else found.fold.to_pylist()
        counts += found.counts
        if needs_class_counts(split):
            before += count_classes(chunk, split)
    return splits, folds, counts


EVERY = {
    "time": split_of(by="time", train="< 1970-02-01", valid="< 1970-03-01", test="rest", embargo="5d"),
    "keys": split_of(by="keys", **SHARES),
    "group": split_of(by="group", column="j", **SHARES),
    "random": split_of(by="random", **SHARES),
    "stratified": split_of(by="random", stratify="label", folds=5, **SHARES),
    "folds": split_of(by="keys", folds=5, train=0.8, test="rest"),
}


# ------------------------------------------------------------------ by time


def at(*moments: int | None) -> pa.Table:
    return pa.table({"k": pa.array([1] * len(moments)), "t": pa.array(moments, pa.int64()).cast(UTC)})


def test_a_time_is_before_a_threshold_or_not():
    split = split_of(by="time", train="< 1970-01-11", valid="< 1970-01-21", test="rest")
    found = assign(at(-(2**60), 10 * DAY - 1, 10 * DAY, 20 * DAY - 1, 20 * DAY, 2**60, None), split)
    assert found.split.to_pylist() == ["train", "train", "valid", "valid", "test", "test", "embargoed"]
    assert found.fold is None
    assert found.counts == SplitCounts({"train": 2, "valid": 2, "test": 2, "embargoed": 1}, no_time=1)


def test_an_embargo_leaves_out_rows_whose_label_crosses_the_threshold():
    split = split_of(by="time", train="< 1970-01-11", valid="< 1970-01-21", test="rest", embargo="3d")
    moments = (7 * DAY, 7 * DAY + 1, 10 * DAY - 1, 10 * DAY, 17 * DAY, 17 * DAY + 1, 20 * DAY)
    found = assign(at(*moments), split)
    expected = ["train", "embargoed", "embargoed", "valid", "valid", "embargoed", "test"]
    assert found.split.to_pylist() == expected
    assert found.counts.embargo == 3


def test_rows_behind_the_last_threshold_are_reported():
    split = split_of(by="time", train="< 1970-01-11", test="< 1970-01-21")
    found = assign(at(0, 20 * DAY - 1, 20 * DAY), split)
    assert found.split.to_pylist() == ["train", "test", "embargoed"]
    assert found.counts.to_json() == {
        "rows": {"train": 1, "test": 1, "embargoed": 1},
        "embargoed": {"outside": 1},
    }


def test_a_split_by_time_needs_a_time():
    with pytest.raises(PlanError, match="needs a time"):
        assign_splits(at(0), EVERY["time"], keys=("k",), time=None, row_ids=np.arange(1))


# ------------------------------------------------------------------ by shares


def test_an_entity_is_in_one_split_and_one_fold():
    table = rows(5_000)
    found = assign(table, EVERY["folds"])
    places = {}
    for k, *where in zip(
        table["k"].to_pylist(), found.split.to_pylist(), found.fold.to_pylist(), strict=True
    ):
        assert places.setdefault(k, where) == where
        assert (where[1] is None) == (where[0] == "test")
    assert {fold for _, fold in places.values()} == {0, 1, 2, 3, 4, None}


def test_shares_of_entities_are_about_as_asked():
    table = pa.table({"k": np.arange(20_000), "t": pa.array(np.zeros(20_000, "i8")).cast(UTC)})
    counts = assign(table, split_of(by="keys", train=0.7, valid=0.2, test=0.1)).counts.rows
    assert abs(counts["train"] - 14_000) < 300
    assert abs(counts["valid"] - 4_000) < 250
    assert sum(counts.values()) == 20_000


def test_shares_of_0_7_0_2_and_0_1_leave_nobody_out():
    split = split_of(by="random", train=0.7, valid=0.2, test=0.1)
    assert 0.7 + 0.2 + 0.1 < 1.0
    assert Thresholds.of(split).shares[-1] == 1.0
    assert assign(rows(30_000), split).counts.outside == 0


def test_folds_are_even_wherever_test_stands():
    split = split_of(by="random", train=0.3, test=0.4, valid="rest", folds=4)
    found = assign(rows(20_000), split)
    assert all(abs(n - 3_000) <= 8 for n in found.counts.folds.values()), found.counts.folds
    pairs = Counter(zip(found.split.to_pylist(), found.fold.to_pylist(), strict=True))
    assert pairs["test", None] == found.counts.rows["test"]


def test_missing_shares_are_outside():
    found = assign(rows(10_000), split_of(by="random", train=0.5, test=0.25))
    assert abs(found.counts.outside - 2_500) < 5
    assert found.counts.rows["embargoed"] == found.counts.outside


@pytest.mark.parametrize("n", [10, 500, 5_000, 50_000])
def test_a_random_split_meets_its_shares_within_a_few_rows(n):
    counts = assign(rows(n), EVERY["random"]).counts.rows
    assert abs(counts["train"] - 0.8 * n) <= 4
    assert abs(counts["valid"] - 0.1 * n) <= 4


@pytest.mark.parametrize("seed", range(5))
def test_stratify_meets_the_shares_of_rare_classes_and_folds(seed):
    table = rows(20_000)
    found = assign(table, EVERY["stratified"].model_copy(update={"seed": seed}))
    positive = found.counts.classes["true"]
    n = sum(positive.values())
    assert n < 700
    assert abs(positive["train"] - 0.8 * n) <= 4
    assert abs(positive["valid"] - 0.1 * n) <= 4
    pairs = Counter(
        (fold, label)
        for fold, label in zip(found.fold.to_pylist(), table["label"].to_pylist(), strict=True)
        if fold is not None
    )
    assert all(abs(pairs[fold, True] - 0.9 * n / 5) <= 4 for fold in range(5)), pairs
    assert found.counts.folds.keys() == set(range(5))


def test_a_pattern_in_the_rows_is_in_every_split():
    kinds = pa.array(np.arange(6_400) % 2)
    split = split_of(by="random", train=0.5, test="rest")
    found = assign(rows(6_400).append_column("kind", kinds), split)
    pairs = Counter(zip(found.split.to_pylist(), kinds.to_pylist(), strict=True))
    assert all(abs(n - 1_600) < 120 for n in pairs.values()), pairs


def test_stratify_beside_keys_moves_nobody_and_counts():
    table = rows(1_000)
    plain = assign(table, EVERY["keys"])
    counted = assign(table, split_of(by="keys", stratify="label", **SHARES))
    assert counted.split == plain.split
    assert sum(sum(rows.values()) for rows in counted.counts.classes.values()) == 1_000


def test_rows_without_a_key_are_one_entity():
    table = pa.table({"k": pa.array([None] * 50, pa.int64()), "t": pa.array([0] * 50).cast(UTC)})
    assert len(set(assign(table, EVERY["keys"]).split.to_pylist())) == 1


def test_groups_are_not_torn():
    table = rows(300)
    found = assign(table, EVERY["group"]).split.to_pylist()
    assert len(set(zip(table["j"].to_pylist(), found, strict=True))) == 3


def test_seeds_and_purposes_are_independent():
    hashes = np.arange(10_000, dtype=np.uint64)
    one, two, three = (
        draws(hashes, seed=seed, purpose=purpose) < 0.5 for seed, purpose in ((0, 1), (1, 1), (0, 2))
    )
    assert abs((one & two).mean() - 0.25) < 0.02
    assert abs((one & three).mean() - 0.25) < 0.02


# ------------------------------------------------------------------ by column


def test_a_column_names_the_splits():
    values = ["train", "test", "embargoed", "valid"]
    table = at(0, 0, 0, 0).append_column("part", pa.array(values).dictionary_encode())
    split = split_of(by="column", column="part", train="train", valid="valid", test="test")
    assert assign(table, split).split.to_pylist() == values


def test_values_of_a_column_go_to_the_split_that_lists_them():
    table = at(0, 0, 0, 0, 0).append_column("year", pa.array([2019, 2020, 2021, None, 2022]))
    split = split_of(by="column", column="year", train=[2019, 2020], test="rest")
    assert assign(table, split).split.to_pylist() == ["train", "train", "test", "test", "test"]


def test_a_value_that_is_no_split_is_an_error():
    table = at(0, 0, 0).append_column("part", pa.array(["train", "dev", None]))
    split = split_of(by="column", column="part", train="train", test="test")
    with pytest.raises(SourceError, match=r"None \(1 rows\), 'dev' \(1 rows\).*train, test"):
        assign(table, split)


# ------------------------------------------------------------------ functions of the row


@pytest.mark.parametrize("name", EVERY)
@given(cuts=st.lists(st.integers(0, 400), max_size=3))
def test_chunks_change_nothing(name, cuts):
    table = rows(400)
    whole = assign(table, EVERY[name])
    splits, folds, counts = in_chunks(table, EVERY[name], cuts)
    assert splits == whole.split.to_pylist()
    assert folds == ([] if whole.fold is None else whole.fold.to_pylist())
    assert counts == whole.counts


@pytest.mark.parametrize("name", EVERY)
def test_rows_added_at_the_end_move_nobody(name):
    table = rows(3_000)
    few, many = assign(table.slice(0, 1_000), EVERY[name]), assign(table, EVERY[name])
    assert many.split.slice(0, 1_000) == few.split
    assert few.fold is None or many.fold.slice(0, 1_000) == few.fold


@pytest.mark.parametrize("name", ["time", "keys", "group", "folds"])
def test_rows_added_anywhere_move_nobody(name):
    table = rows(1_000)
    order = np.random.default_rng(1).permutation(1_000)
    mixed = assign(table.take(order), EVERY[name])
    assert mixed.split.to_pylist() == assign(table, EVERY[name]).split.take(pa.array(order)).to_pylist()


def test_a_larger_first_share_only_takes():
    table = rows(2_000, entities=2_000)
    small = assign(table, split_of(by="keys", train=0.5, test="rest")).split.to_pylist()
    large = assign(table, split_of(by="keys", train=0.6, test="rest")).split.to_pylist()
    assert all(new == "train" for old, new in zip(small, large, strict=True) if old == "train")
    assert small != large


def test_a_chunk_in_the_middle_needs_the_classes_before():
    with pytest.raises(PlanError, match="begins with row 7"):
        assign(rows(10), EVERY["stratified"], 7)


def test_too_many_classes_are_refused():
    with pytest.raises(PlanError, match="more than 1,000 different values"):
        assign(rows(2_000), split_of(by="random", stratify="t", **SHARES))


def test_no_rows():
    for split in EVERY.values():
        found = assign(rows(0), split)
        assert len(found.split) == 0
        assert found.split.type == pa.string()
        assert sum(found.counts.rows.values()) == 0


def test_golden():
    """Which split a row is in is part of the product: these never change."""
    hashes = np.array([0, 1, 2**64 - 1], np.uint64)
    assert draws(hashes, seed=0, purpose=1).tolist() == GOLDEN_DRAWS
    assert even_draws(np.array([0, 1, 64]), hashes, seed=7, purpose=1).tolist() == GOLDEN_EVEN
    table = pa.table({"k": ["a", "b", "c", "d", None], "t": pa.array([0] * 5).cast(UTC)})
    assert assign(table, split_of(by="keys", train=0.5, test="rest")).split.to_pylist() == GOLDEN_KEYS
    assert weights(pa.array([0] * 8), {0: 0.5}) == GOLDEN_WEIGHTS
    assert draws(hashes, seed=-1, purpose=1).tolist() == draws(hashes, seed=2**64 - 1, purpose=1).tolist()


GOLDEN_DRAWS = [0.6102510166233571, 0.7238167180159293, 0.866854215005959]
GOLDEN_EVEN = [0.10180000648408082, 0.8210243537363896, 0.5959089385208143]
GOLDEN_WEIGHTS = [2.0, 0.0, 2.0, 2.0, 2.0, 0.0, 2.0, 0.0]
GOLDEN_KEYS = ["test", "train", "test", "train", "test"]


# ------------------------------------------------------------------ weights


NONE = 1e-12  # a share that no draw of these tests is below


def weights(values: pa.Array, keep: dict[Any, float], split: list[str] | None = None) -> list[float]:
    sample = Sample(column="label", keep=keep)
    given = None if split is None else pa.array(split)
    return sample_weights(values, sample, row_ids=np.arange(len(values)), split=given).to_pylist()


def test_kept_rows_weigh_one_over_their_share():
    n = 20_000
    found = Counter(weights(pa.array([0] * n), {0: 0.25}))
    assert found.keys() == {0.0, 4.0}
    assert abs(found[4.0] - 5_000) < 200


def test_only_train_rows_are_left_out():
    found = weights(pa.array([0, 0, 0]), {0: NONE}, ["train", "test", "embargoed"])
    assert found == [0.0, 1.0, 1.0]


def test_other_values_and_nulls_are_kept_whole():
    assert weights(pa.array([1, None, 0]), {0: NONE}) == [1.0, 1.0, 0.0]
    assert weights(pa.array([1, None, 0]), {None: NONE}) == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        (pa.array([True, False]), False),
        (pa.array([True, False]), 0),
        (pa.array([1.0, 0.0]), 0),
        (pa.array([1, 0], pa.int8()), 0),
        (pa.array(["b", "a"]).dictionary_encode(), "a"),
        (pa.array(["0", "1"]), 1),
        (pa.array([dt.date(2020, 1, 1), dt.date(2021, 1, 1)]), dt.date(2021, 1, 1)),
    ],
    ids=str,
)
def test_values_of_every_type(values, key):
    assert weights(values, {key: NONE}) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("values", "key"),
    [(pa.array([1, 0]), "web"), (pa.array([True]), 2), (pa.array([1, 0]), 0.5)],
    ids=str,
)
def test_a_value_that_the_column_cannot_have_is_an_error(values, key):
    with pytest.raises(PlanError, match="can't be a value of 'label'"):
        weights(values, {key: 0.5})


def test_a_larger_share_keeps_all_that_a_smaller_kept():
    values = pa.array([0] * 2_000)
    few, many = weights(values, {0: 0.3}), weights(values, {0: 0.6})
    assert all(two > 0 for one, two in zip(few, many, strict=True) if one > 0)
