"""Batches of one split as NumPy arrays, in an order that can be resumed exactly."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from featureflow.core.errors import ComputeError, TableError
from featureflow.loaders.ahead import make_ahead
from featureflow.loaders.columns import Column, choose, describe, normalized
from featureflow.loaders.gather import Batch, Buffers, Layout, OpenShard
from featureflow.loaders.order import (
    GlobalOrder,
    LaneOrder,
    Segment,
    rank_residue,
    rows_between,
    stripe_rows,
    tracks_of,
)
from featureflow.loaders.rounds import Rounds, Shelf
from featureflow.loaders.source import Source

Tail = Literal["drop", "partial", "pad"]

#: Says which rows of a batch are rows, with `tail="pad"`.
MASK = "mask"
_STATE_FORMAT = 1
_HANDED_OVER = 4096  # rows, in batches that are smaller

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a split is read: the arguments of `Shards.numpy`, checked."""

    split: str
    batch_size: int
    shuffle: bool
    seed: int
    columns: tuple[str, ...] | None
    lanes: int
    rank: int
    world: int
    prefetch: int
    tail: Tail
    normalize: bool

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("lanes", 1), ("prefetch", 0), ("world", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ComputeError(f"{name}={getattr(self, name)}: give {least} or more.")
        if not 0 <= self.rank < self.world:
            raise ComputeError(f"rank={self.rank}: of {self.world} ranks, give 0 to {self.world - 1}.")
        if self.tail not in get_args(Tail):
            raise ComputeError(f"tail={self.tail!r}: give one of {', '.join(get_args(Tail))}.")


@dataclass(frozen=True, slots=True)
class Position:
    """Where an iteration starts: rows of the epoch that all ranks together have consumed."""

    epoch: int
    samples: int = 0


class Batches:
    """The batches of one rank, as dicts from column to array. Iterate over it once for each epoch.

    Notes
    -----
    Order: a function of the shards, ``seed`` and the epoch. The rows of one global batch (a batch of every rank)
    do not depend on the number of ranks, only on ``batch_size`` times ranks.
    Every rank has the same number of batches. With ``tail="drop"`` rows that do not fill a global batch are left out;
    with ``"partial"`` the last batch of a rank is shorter, with fewer rows left than ranks even empty; with ``"pad"``
    it is filled up with zeros, and every batch has a column ``mask``.
    An iteration that ended is followed by the next epoch; one that was left early by the same epoch, from its start.
    """

    def __init__(self, source: Source, reading: Reading, *, epoch: int = 0) -> None:
        self.source, self.reading = source, reading
        self._position = Position(epoch)
        self._pending = False  # the position was set, and no iteration has started from it
        self._resident: Buffers | None = None
        info = source.splits[reading.split]
        self._shard_rows, self._row_bytes = info.shard_rows, info.row_bytes
        self.rows = sum(info.shard_rows)
        if reading.tail == "pad" and MASK in self.layout_columns:
            raise ComputeError(
                f"tail='pad' adds a column {MASK!r}, and there is one. Leave it out by `columns`."
            )
        if not len(self):
            _log.warning(
                "%s: split %r has %d rows, less than one global batch of %d: there is no batch",
                *(source.name, reading.split, self.rows, self.global_batch),
            )

    # ------------------------------------------------------------ what is read

    @property
    def global_batch(self) -> int:
        """Rows of one batch of all ranks together."""
        return self.reading.batch_size * self.reading.world

    @property
    def epoch(self) -> int:
        """The epoch of the running iteration, or of the next."""
        return self._position.epoch

    @property
    def position(self) -> Position:
        """Where it is."""
        return self._position

    @property
    def layout_columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        known = [column.name for column in self.source.columns]
        return tuple(choose(known, self.reading.columns))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns as they are given."""
        known = {column.name: column for column in self.source.columns}
        given = [describe(self.source.schema.field(name)) for name in self.layout_columns]
        if not self.reading.normalize:
            return tuple(given)
        return tuple(normalized(c, known[c.name].names, self.source.normalization) for c in given)

    def __len__(self) -> int:
        """Batches of a whole epoch; the same for every rank."""
        return self._count(self.rows)

    def _count(self, rows: int) -> int:
        full, rest = divmod(rows, self.global_batch)
        return full + (rest > 0 and self.reading.tail != "drop")

    # ------------------------------------------------------------ position

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; a position that was loaded for this very epoch is kept."""
        if not (self._pending and self._position.epoch == epoch):
            self._position, self._pending = Position(epoch), True

    def state_dict(self, *, batches: int | None = None) -> dict[str, Any]:
        """Say where it is, as JSON values; any rank's state serves all ranks, and another number of them.

        Parameters
        ----------
        batches
            How many batches of the epoch were taken since it was started or resumed. Only needed where workers of a
            DataLoader iterate over copies: this object does not see what they give.
        """
        taken = 0 if batches is None else batches * self.global_batch
        return self.state_at(replace(self._position, samples=self._position.samples + taken))

    def state_at(self, position: Position) -> dict[str, Any]:
        """Say a position as JSON values."""
        return {
            "format": _STATE_FORMAT,
            **self._order_facts(),
            "seed": self.reading.seed,
            "epoch": position.epoch,
            "samples": min(position.samples, self.rows),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` was taken; the next iteration starts there. The seed is the state's.

        Raises
        ------
        TableError
            If the state is of other shards, another split or another kind of order; nothing is changed then.
        """
        if state.get("format") != _STATE_FORMAT:
            raise TableError(f"{self.source.name}: this is no state of a loader: {state!r}.")
        for name, here in self._order_facts().items():
            if state.get(name) != here:
                raise TableError(
                    f"{self.source.name}: the state was taken with {name}={state.get(name)!r}, and here it is "
                    f"{here!r}: its position means nothing in this order. Load the shards and options of the "
                    "state, or start from the beginning."
                )
        self.reading = replace(self.reading, seed=state["seed"])
        self._position, self._pending = Position(state["epoch"], state["samples"]), True

    def _order_facts(self) -> dict[str, Any]:
        """What, with seed and epoch, decides the order."""
        lanes = self.reading.lanes if self.reading.shuffle and not self.source.in_memory else 0
        return {
            "manifest": self.source.identity,
            "split": self.reading.split,
            "rows": self.rows,
            "shuffle": self.reading.shuffle,
            "lanes": lanes,
        }

    # ------------------------------------------------------------ iteration

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches of this epoch, or the rest of it after `load_state_dict`."""
        start = self.start()
        for samples, batch in self.batches(start):
            self._position = Position(start.epoch, samples)
            yield batch
        self._position = Position(start.epoch + 1)

    def start(self) -> Position:
        """Where an iteration that starts now starts."""
        if not self._pending:
            self._position = Position(self._position.epoch)
        self._pending = False
        return self._position

    def batches(
        self, start: Position, *, first: int = 0, step: int = 1, prefetch: int | None = None
    ) -> Iterator[tuple[int, Batch]]:
        """Give every ``step``-th batch from number ``first``, each with the position after it."""
        depth = self.reading.prefetch if prefetch is None else prefetch
        made = self._made(start, first, step, threaded=depth > 0)
        if not depth:
            return made
        return make_ahead(made, depth, max(_HANDED_OVER // self.reading.batch_size, 1))

    def _made(
        self, start: Position, first: int, step: int, *, threaded: bool
    ) -> Generator[tuple[int, Batch], None, None]:
        left = max(self.rows - start.samples, 0)
        layout = Layout(self.columns)
        taker = self._shuffled if self.reading.shuffle else self._in_order
        take = taker(layout, start.epoch, threaded=threaded)
        next(take)
        try:
            for number in range(first, self._count(left), step):
                begin = start.samples + number * self.global_batch
                end = min(begin + self.global_batch, self.rows)
                out, rows = take.send((begin, end))
                batch = layout.finish(out, rows)
                if self.reading.tail == "pad":
                    batch[MASK] = np.arange(self.reading.batch_size) < rows
                    batch = self._padded(batch, rows)
                yield end, batch
        finally:
            take.close()

    def _padded(self, batch: Batch, rows: int) -> Batch:
        """Fill lists of Python values up; arrays have their full length already."""
        missing = self.reading.batch_size - rows
        if missing:
            for column in self.columns:
                if column.dtype is None:
                    values = batch[column.name]
                    values += [_nothing(self.source.schema.field(column.name).type)] * missing
        return batch

    def _allocate(self, layout: Layout, rows: int) -> Buffers:
        return layout.allocate(self.reading.batch_size if self.reading.tail == "pad" else rows)

    def _open(self, number: int) -> OpenShard:
        table = self.source.table(self.reading.split, number, [c.name for c in self.columns])
        return OpenShard(table, self.columns)

    def _fetch_ahead(self, shards: Sequence[int]) -> None:
        self.source.fetch_ahead(self.reading.split, shards)

    def _shuffled(
        self, layout: Layout, epoch: int, *, threaded: bool
    ) -> Generator[tuple[Buffers, int], tuple[int, int], None]:
        """Take this rank's rows of global batches: those whose number leaves its remainder."""
        reading = self.reading
        rank, world = reading.rank, reading.world
        order: GlobalOrder | LaneOrder
        if self.source.in_memory:
            residue = rank
            order = GlobalOrder(self._shard_rows, reading.seed, epoch, rank, world)
        else:
            residue = rank_residue(rank, world, tracks_of(reading.lanes))
            stripe = stripe_rows(self._row_bytes, reading.lanes)
            order = LaneOrder(self._shard_rows, reading.lanes, stripe, reading.seed, epoch, rank, world)
        rounds = Rounds(
            order,
            layout,
            Shelf(self._open),
            fetch_ahead=self._fetch_ahead,
            threaded=threaded,
            resident=self._all_rows(layout) if self.source.in_memory else None,
        )
        try:
            begin, end = yield [], 0
            while True:
                first, last = -((residue - begin) // world), -((residue - end) // world)
                out = self._allocate(layout, last - first)
                rounds.take(first, last, out)
                begin, end = yield out, last - first
        finally:
            rounds.close()

    def _all_rows(self, layout: Layout) -> Buffers:
        """Rows in memory, laid out for gathering; made once."""
        if self._resident is None:
            buffers = layout.allocate(self.rows)
            every = [Segment(n, 0, rows) for n, rows in enumerate(self._shard_rows) if rows]
            Shelf(self._open).fill(layout, buffers, every)
            layout.join(buffers)
            self._resident = buffers
        return self._resident

    def _in_order(
        self, layout: Layout, epoch: int, *, threaded: bool
    ) -> Generator[tuple[Buffers, int], tuple[int, int], None]:
        """Take this rank's rows of global batches in the order of the shards: neighbours stay together."""
        del epoch, threaded  # the same rows in every epoch, read as they are copied
        rank, world, size = self.reading.rank, self.reading.world, self.reading.batch_size
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(self._shard_rows, np.int64))])
        shelf = Shelf(self._open)
        begin, end = yield [], 0
        while True:
            rows = end - begin
            whole = rows == size * world
            first = begin + (rank * size if whole else rows * rank // world)
            last = begin + ((rank + 1) * size if whole else rows * (rank + 1) // world)
            segments = rows_between(starts, first, last)
            if segments:
                shard = segments[-1].shard
                self._fetch_ahead(range(shard, min(shard + 3, len(self._shard_rows))))
            out = self._allocate(layout, last - first)
            shelf.fill(layout, out, segments)
            begin, end = yield out, last - first


def _nothing(kind: Any) -> Any:
    """The value that stands in padded rows of a column of Python values."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = describe(pa.field("inner", kind.value_type))
        return [] if inner.dtype is None else np.empty((0, *inner.shape), inner.dtype)
    return b"" if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else ""
