"""Whatever the sizes, ranks, tails and lanes: every row once, batches of one length, and the same for all ranks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow.contracts.shard_manifest import ShardColumn
from featureflow.loaders.batches import Batches, Reading
from featureflow.loaders.source import SplitInfo


class Numbered:
    """Shards whose only column is the row's number; pieces of a few rows, so that all borders are met."""

    name = "numbered"
    columns = (ShardColumn("key", "int64"),)
    schema = pa.schema([("key", pa.int64())])

    def __init__(self, sizes, *, row_bytes, in_memory):
        self.in_memory = in_memory
        self.normalization = {}
        self.identity = str(sizes)
        self.splits = {"train": SplitInfo(tuple(sizes), row_bytes)}
        starts = np.cumsum([0, *sizes])
        self._tables = [
            pa.table({"key": np.arange(start, start + n)}) for start, n in zip(starts, sizes, strict=False)
        ]

    def table(self, split, shard, columns):
        return self._tables[shard]

    def fetch_ahead(self, split, shards):
        assert list(shards)
        assert max(shards) < len(self._tables)


@st.composite
def loads(draw):
    return {
        "sizes": draw(st.lists(st.integers(0, 70), max_size=6)),
        # a row of 8 MiB makes stripes of 4 or 8 rows: many rounds
        "row_bytes": draw(st.sampled_from([1.0, float(1 << 23)])),
        "in_memory": draw(st.booleans()),
        "shuffle": draw(st.booleans()),
        "lanes": draw(st.sampled_from([1, 2, 4, 6, 64])),
        "seed": draw(st.integers(0, 5)),
        "tail": draw(st.sampled_from(["drop", "partial", "pad"])),
        "prefetch": draw(st.sampled_from([0, 0, 0, 2])),
    }


def make(load, *, rank, world, batch_size):
    source = Numbered(load["sizes"], row_bytes=load["row_bytes"], in_memory=load["in_memory"])
    reading = Reading(
        split="train",
        columns=None,
        normalize=True,
        rank=rank,
        world=world,
        batch_size=batch_size,
        **{name: load[name] for name in ("shuffle", "lanes", "seed", "tail", "prefetch")},
    )
    return Batches(source, reading, epoch=load["seed"] % 3)


def real(batch):
    keys = batch["key"]
    return (keys[batch["mask"]] if "mask" in batch else keys).tolist()


def global_batches(load, *, world, batch_size, state=None):
    """Rows of each global batch, and that all ranks have as many batches as they say."""
    ranks = []
    for rank in range(world):
        batches = make(load, rank=rank, world=world, batch_size=batch_size)
        if state is not None:
            batches.load_state_dict(state)
        found = list(batches)
        assert state is not None or len(found) == len(batches)
        ranks.append(found)
        sizes = [len(batch["key"]) for batch in found]
        if load["tail"] == "partial":
            sizes = sizes[:-1]
        assert set(sizes) <= {batch_size}
    assert len({len(found) for found in ranks}) == 1
    return [[key for batch in parts for key in real(batch)] for parts in zip(*ranks, strict=True)]


@given(load=loads(), world=st.sampled_from([1, 2, 3, 4, 8, 16]), batch_size=st.integers(1, 40))
def test_every_row_once_in_batches_of_one_length(load, world, batch_size):
    found = sorted(key for batch in global_batches(load, world=world, batch_size=batch_size) for key in batch)
    rows = sum(load["sizes"])
    if load["tail"] == "drop":
        assert len(found) == rows - rows % (world * batch_size)
        assert len(set(found)) == len(found)
        assert set(found) <= set(range(rows))
    else:
        assert found == list(range(rows))


@given(load=loads(), world=st.sampled_from([1, 2, 4, 8, 16, 64]), each=st.integers(1, 2))
def test_global_batches_do_not_depend_on_the_number_of_ranks(load, world, each):
    alone = global_batches(load, world=1, batch_size=64 * each)
    shared = global_batches(load, world=world, batch_size=64 // world * each)
    assert [set(batch) for batch in shared] == [set(batch) for batch in alone]


@settings(max_examples=30)
@given(load=loads(), worlds=st.sampled_from([(4, 16), (16, 4), (1, 2), (8, 1), (3, 5)]), data=st.data())
def test_another_number_of_ranks_goes_on_where_these_stopped(load, worlds, data):
    before, after = worlds
    size = data.draw(st.integers(1, 9))
    one = make(load, rank=before - 1, world=before, batch_size=size)
    taken = data.draw(st.integers(0, len(one)))
    running = iter(one)
    for _ in range(taken):
        next(running)
    state = one.state_dict()
    running.close()
    consumed = global_batches(load, world=before, batch_size=size)[:taken]
    rest = global_batches({**load, "tail": "partial"}, world=after, batch_size=size, state=state)
    both = [key for batch in consumed + rest for key in batch]
    assert sorted(both) == list(range(sum(load["sizes"])))


@given(load=loads(), workers=st.integers(1, 4), batch_size=st.integers(1, 40))
def test_workers_share_the_batches(load, workers, batch_size):
    batches = make(load, rank=0, world=1, batch_size=batch_size)
    start = batches.start()
    alone = [real(batch) for _, batch in batches.batches(start)]
    for worker in range(workers):
        own = [real(batch) for _, batch in batches.batches(start, first=worker, step=workers)]
        assert own == alone[worker::workers]
