"""Loading a dataset from memory: roles, splits, types, nulls, down-sampling, one permutation of all rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from featureflow.core.errors import ComputeError, TableError
from featureflow.core.roles import Roles
from featureflow.loaders.shards import memory_shards

ROLES = Roles(
    keys=("card",),
    time="t",
    features=("amount", "count", "bank__encoded"),
    labels=("late",),
    split="split",
    fold="fold",
    weight="w",
)
SPLITS = ["test", "train", "embargoed", "train", "valid", "train"] * 5


def table(**changed):
    rows = np.arange(30)
    columns = {
        "card": pa.array([f"c{row}" for row in rows]),
        "t": pa.array(rows * 1_000_000, pa.timestamp("us", "UTC")),
        "note": pa.array([None] * 30, pa.string()),
        "amount": pa.array([None if row == 3 else row / 3 for row in rows], pa.float64()),
        "count": pa.array(rows, pa.int64()),
        "bank__encoded": pa.array(rows * 1.5, pa.float32()),
        "late": pa.array(rows / 7, pa.float64()),
        "split": pa.array(SPLITS),
        "fold": pa.array(rows % 3, pa.int8()),
        "w": pa.array([0.0 if row in (5, 7) else 2.0 for row in rows]),
    }
    return pa.table({**columns, **changed})


def rows_of(batches):
    return [int(card[1:]) for batch in batches for card in batch["card"]]


def expected(split):
    return [row for row in range(30) if SPLITS[row] == split and row not in (5, 7)]


def test_columns_with_a_role_are_loaded_and_floats_narrowed():
    shards = memory_shards(table(), ROLES, name="late@1")
    assert shards.splits == ("train", "valid", "test")
    (batch,) = list(shards.numpy(100, shuffle=False))
    assert list(batch) == ["card", "t", "amount", "count", "bank__encoded", "late", "fold", "w"]
    rows = expected("train")
    assert rows_of([batch]) == rows
    assert {n: v.dtype.name for n, v in batch.items() if n != "card"} == {
        "t": "int64",
        "amount": "float32",
        "count": "int64",
        "bank__encoded": "float32",
        "late": "float32",
        "fold": "int8",
        "w": "float32",
    }
    assert batch["t"].tolist() == [row * 1_000_000 for row in rows]
    np.testing.assert_array_equal(
        batch["amount"], np.float32([np.nan if row == 3 else row / 3 for row in rows])
    )
    unchanged = memory_shards(table(), ROLES, dtype=None)
    assert next(iter(unchanged.numpy(1)))["late"].dtype == np.float64
    with pytest.raises(ComputeError, match="dtype='int8': give"):
        memory_shards(table(), ROLES, dtype="int8")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("world", [1, 3])
def test_a_split_has_its_rows_once(split, world):
    shards = memory_shards(table(), ROLES)
    assert shards.rows(split) == len(expected(split))
    found = []
    for rank in range(world):
        found += rows_of(shards.numpy(2, split, tail="partial", rank=rank, world=world))
    assert sorted(found) == expected(split)


def test_sampled_out_rows_can_be_kept_and_splits_named():
    shards = memory_shards(table(), ROLES, keep_sampled_out=True, splits=["test", "nothing"])
    assert shards.splits == ("test", "nothing")
    assert shards.rows("nothing") == 0
    assert list(shards.numpy(2, "nothing")) == []
    train = memory_shards(table(), ROLES, keep_sampled_out=True)
    assert sorted(rows_of(train.numpy(3))) == [row for row in range(30) if SPLITS[row] == "train"]


def test_a_dataset_without_splits_is_one():
    plain = Roles(keys=("count",), features=("late",))
    shards = memory_shards(table(), plain)
    assert shards.splits == ("all",)
    assert sorted(batch["count"][0].item() for batch in shards.numpy(1)) == list(range(30))


def test_nulls_are_nan_in_floats_and_an_error_elsewhere():
    counts = pa.array([None, *range(29)], pa.int64())
    shards = memory_shards(table(count=counts, split=pa.array(["train"] * 30)), ROLES)
    for prefetch in (0, 2):
        for shuffle in (True, False):
            with pytest.raises(ComputeError, match=r"column 'count' has 1 nulls in"):
                list(shards.numpy(4, prefetch=prefetch, shuffle=shuffle))
    found = np.concatenate([batch["amount"] for batch in shards.numpy(1, columns=["amount"])])
    assert np.isnan(found).sum() == 1
    cards = pa.array([None] + ["c"] * 29)
    shards = memory_shards(table(card=cards), ROLES)
    with pytest.raises(ComputeError, match="column 'card' has 1 nulls"):
        list(shards.numpy(30, split="test", tail="partial"))
    weights = pa.array([None] + [1.0] * 29)
    with pytest.raises(ComputeError, match="'w' has 1 nulls; a weight is a number"):
        memory_shards(table(w=weights), ROLES)


def test_features_as_one_matrix():
    shards = memory_shards(table(), ROLES, matrix="x", normalization={"count": {"mean": 1.0, "scale": 2.0}})
    (batch,) = list(shards.numpy(100, shuffle=False))
    assert list(batch) == ["card", "t", "x", "late", "fold", "w"]
    rows = np.array(expected("train"))
    amounts = [np.nan if row == 3 else row / 3 for row in rows]
    np.testing.assert_array_equal(
        batch["x"], np.stack([amounts, (rows - 1) / 2, rows * 1.5], axis=1).astype(np.float32)
    )
    assert shards.manifest is None
    with pytest.raises(ComputeError, match="feature 'card' is string, not a number"):
        memory_shards(table(), Roles(features=("late", "card")), matrix="x")
    with pytest.raises(ComputeError, match="there is a column of that name"):
        memory_shards(table(), ROLES, matrix="w")


def test_rows_side_by_side_are_not_copied():
    one = table(split=pa.array(["train"] * 20 + ["test"] * 10), w=pa.array(np.ones(30)))
    shards = memory_shards(one, ROLES, dtype=None)
    first = shards.to_arrow("test", ["count"])["count"].chunk(0).buffers()[1]
    assert first.address == one["count"].chunk(0).buffers()[1].address


def test_a_state_knows_the_rows_it_is_of():
    state = memory_shards(table(), ROLES).numpy(2).state_dict()
    same = memory_shards(table(), ROLES).numpy(2)
    same.load_state_dict(state)
    other = memory_shards(table(late=pa.array(np.arange(30.0))), ROLES).numpy(2)
    with pytest.raises(TableError, match="taken with manifest="):
        other.load_state_dict(state)


def test_every_row_is_equally_often_in_the_first_batch():
    """Over 600 epochs, each of 13 rows is about equally often among the first 4."""
    batches = memory_shards(table(), ROLES).numpy(4, columns=["card"])
    counts = dict.fromkeys(expected("train"), 0)
    for epoch in range(600):
        batches.set_epoch(epoch)
        for row in rows_of([next(iter(batches))]):
            counts[row] += 1
    mean = 600 * 4 / len(counts)
    assert max(abs(count - mean) for count in counts.values()) < 4 * mean**0.5
