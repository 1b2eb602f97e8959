"""The order of rows: every row once, the same global batches for any number of ranks, found without walking to it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.loaders.order import (
    GlobalOrder,
    LaneOrder,
    permutation,
    rank_residue,
    rows_between,
    stripe_rows,
    tracks_of,
)


def rows_of(order, shard_rows):
    """This rank's rows, in order, as numbers in the shards laid end to end."""
    starts = np.concatenate([[0], np.cumsum(shard_rows)])
    found, number = [], 0
    while (one := order.round(number)) is not None:
        assert one.first == len(found)
        read = np.concatenate(
            [np.arange(s.start, s.stop) + starts[s.shard] for s in one.segments] or [np.zeros(0, int)]
        )
        assert len(read) == one.rows
        assert len(one.index) == 0 or (order.at(len(found)), order.at(len(found) + len(one.index) - 1)) == (
            number,
            number,
        )
        found.extend(read[one.index].tolist())
        number += 1
    return found


sizes = st.lists(st.integers(0, 60), max_size=7)


@given(n=st.integers(0, 300), seed=st.integers(0, 2**63), word=st.integers(0, 5))
def test_a_permutation_has_every_number_once(n, seed, word):
    assert sorted(permutation(n, seed, word).tolist()) == list(range(n))


def test_permutations_do_not_change():
    """A resumed run goes on in the same order: these may never change."""
    assert permutation(10, 7, 1).tolist() == PERMUTATION
    order = LaneOrder((9, 4, 7), lanes=4, stripe=2, seed=3, epoch=1)
    assert rows_of(order, (9, 4, 7)) == ORDER


def test_a_permutation_is_fair():
    """Every number is equally often at every place (chi-square of 5 x 5 counts, 16 degrees of freedom)."""
    counts = np.zeros((5, 5))
    for seed in range(4000):
        counts[np.arange(5), permutation(5, seed)] += 1
    assert ((counts - 800) ** 2 / 800).sum() < 40


@given(
    shard_rows=sizes,
    lanes=st.sampled_from([1, 2, 3, 4, 6, 8, 64]),
    stripe=st.sampled_from([1, 4, 8, 16]),
    world=st.sampled_from([1, 2, 3, 4, 5, 8, 16, 64]),
    seed=st.integers(0, 99),
)
def test_ranks_read_every_row_once_and_the_order_of_the_job_is_the_same(
    shard_rows, lanes, stripe, world, seed
):
    alone = rows_of(LaneOrder(tuple(shard_rows), lanes, stripe, seed, 0), shard_rows)
    assert sorted(alone) == list(range(sum(shard_rows)))
    dealt = [None] * len(alone)
    for rank in range(world):
        order = LaneOrder(tuple(shard_rows), lanes, stripe, seed, 0, rank, world)
        dealt[rank_residue(rank, world, tracks_of(lanes)) :: world] = rows_of(order, shard_rows)
    assert dealt == alone


@given(n=st.integers(0, 200), world=st.integers(1, 9), seed=st.integers(0, 9))
def test_rows_in_memory_are_permuted_as_one(n, world, seed):
    alone = rows_of(GlobalOrder((n,), seed, 0), (n,))
    assert sorted(alone) == list(range(n))
    dealt = [None] * n
    for rank in range(world):
        dealt[rank::world] = rows_of(GlobalOrder((n,), seed, 0, rank, world), (n,))
    assert dealt == alone


def test_seed_and_epoch_change_the_places():
    shard_rows = (500,) * 4
    orders = [
        np.array(rows_of(LaneOrder(shard_rows, 8, 32, seed, epoch), shard_rows))
        for seed, epoch in [(0, 0), (0, 1), (1, 0)]
    ]
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert (orders[a] == orders[b]).mean() < 0.01


def test_a_rank_reads_only_its_own_rows_and_a_node_its_own_shards():
    """64 ranks on 4 nodes: no row is read in vain, and a shard by one node, but for those that a cut goes through."""
    shard_rows = (4096,) * 32
    readers: dict[int, set[int]] = {shard: set() for shard in range(32)}
    for rank in range(64):
        order = LaneOrder(shard_rows, 64, 256, 5, 0, rank, 64)
        number, read = 0, 0
        while (one := order.round(number)) is not None:
            assert one.rows == len(one.index)
            read += one.rows
            for segment in one.segments:
                readers[segment.shard].add(rank // 16)
            number += 1
        assert read == 32 * 4096 // 64
    assert sum(len(nodes) for nodes in readers.values()) <= 32 + 3


def test_one_process_has_few_shards_open():
    shard_rows = (62_500,) * 32
    order = LaneOrder(shard_rows, 64, 2048, 0, 0)
    number = 0
    while (one := order.round(number)) is not None:
        assert len({segment.shard for segment in one.segments}) <= 12
        number += 1


def test_upcoming_shards_are_those_that_are_read_next():
    shard_rows = (1000,) * 40
    order = LaneOrder(shard_rows, 64, 16, 1, 0)
    number = 0
    while (one := order.round(number)) is not None:
        upcoming = order.upcoming(number, 2)
        assert {segment.shard for segment in one.segments} <= set(order.upcoming(number, 3))
        following = order.round(number + 1)
        if following is not None:
            assert {segment.shard for segment in following.segments} <= set(order.upcoming(number, 3))
        assert len(upcoming) <= 8
        number += 1


def test_a_place_in_a_hundred_million_rows_is_found_at_once():
    shard_rows = (62_500,) * 1600
    order = LaneOrder(shard_rows, 64, 2048, 0, 3)
    begun = time.process_time()
    one = order.round(order.at(77_777_777))
    seconds = time.process_time() - begun
    assert one is not None
    assert one.first <= 77_777_777 < one.first + len(one.index)
    assert seconds < 0.5  # 20 ms on a quiet machine


@pytest.mark.parametrize(
    ("row_bytes", "rows"), [(0, 4096), (8, 4096), (272, 2048), (131_072, 8), (1 << 30, 4)]
)
def test_stripes_are_shorter_where_rows_are_large(row_bytes, rows):
    assert stripe_rows(row_bytes, 64) == rows


@given(shard_rows=sizes, data=st.data())
def test_rows_between_two_numbers(shard_rows, data):
    total = sum(shard_rows)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    starts = np.concatenate([[0], np.cumsum(shard_rows)]).astype(np.int64)
    found = [starts[s.shard] + i for s in rows_between(starts, start, stop) for i in range(s.start, s.stop)]
    assert found == list(range(start, stop))


PERMUTATION = [2, 6, 5, 4, 3, 7, 1, 9, 0, 8]
ORDER = [9, 16, 14, 5, 10, 17, 2, 6, 12, 18, 3, 7, 11, 19, 8, 0, 15, 13, 4, 1]
