"""The rows of a rank in order: rounds are read while batches are gathered from the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from featureflow.loaders.gather import Buffers, Layout, OpenShard
from featureflow.loaders.order import Order, Round, Segment

_KEPT = 2  # shards of a track that are fetched ahead


class Shelf:
    """The open shards: those that the last two calls needed."""

    def __init__(self, open_shard: Callable[[int], OpenShard]) -> None:
        self._open = open_shard
        self._shards: dict[int, OpenShard] = {}
        self._before: set[int] = set()

    def fill(self, layout: Layout, buffers: Buffers, segments: Iterable[Segment]) -> int:
        """Copy rows of shards into buffers, in order; says how many."""
        segments = list(segments)
        needed = {segment.shard for segment in segments}
        for done in set(self._shards) - needed - self._before:
            del self._shards[done]
        at = 0
        for segment in segments:
            shard = self._shards.get(segment.shard)
            if shard is None:
                shard = self._shards[segment.shard] = self._open(segment.shard)
            layout.fill(buffers, at, shard, segment.start, segment.stop)
            at += segment.stop - segment.start
        self._before = needed
        return at


class Rounds:
    """The rows of one rank in one epoch, by number.

    Parameters
    ----------
    order
        The rows' order.
    layout, shelf
        Which columns; the shards.
    fetch_ahead
        Told which shards come next.
    threaded
        Read the next round in a thread, while batches are gathered from this one.
    resident
        Buffers that hold all rows already, for rows in memory.
    """

    def __init__(
        self,
        order: Order,
        layout: Layout,
        shelf: Shelf,
        *,
        fetch_ahead: Callable[[list[int]], None],
        threaded: bool,
        resident: Buffers | None = None,
    ) -> None:
        self._order, self._layout, self._shelf = order, layout, shelf
        self._fetch_ahead, self._resident = fetch_ahead, resident
        self._pool = ThreadPoolExecutor(1, "featureflow-rounds") if threaded and resident is None else None
        self._spare: list[Buffers] = []
        self._number = -1
        self._round: Round | None = None
        self._rows: Buffers = []
        self._next: tuple[int, Future[tuple[Round | None, Buffers]]] | None = None

    def take(self, first: int, last: int, out: Buffers, at: int = 0) -> None:
        """Copy this rank's rows ``first`` to ``last`` into the buffers of a batch."""
        while first < last:
            found = self._holding(first)
            skip = first - found.first
            index = found.index[skip : skip + last - first]
            if not len(index):
                raise IndexError(f"round {self._number} has no row {first} of this rank")
            self._layout.gather(self._rows, index, out, at)
            first, at = first + len(index), at + len(index)

    def close(self) -> None:
        """Wait for the reading thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _holding(self, row: int) -> Round:
        number = self._order.at(row)
        if self._round is None or number != self._number:
            if self._round is not None and self._resident is None:
                self._spare.append(self._rows)
            if self._next is not None and self._next[0] == number:
                found, self._rows = self._next[1].result()
            else:
                if self._next is not None:
                    self._spare.append(self._next[1].result()[1])
                found, self._rows = self._read(number)
            self._next = None
            if found is None:
                raise IndexError(f"row {row} is not this rank's")
            self._number, self._round = number, found
            if self._pool is not None:
                self._next = number + 1, self._pool.submit(self._read, number + 1)
        return self._round

    def _read(self, number: int) -> tuple[Round | None, Buffers]:
        found = self._order.round(number)
        if self._resident is not None:
            return found, self._resident
        buffers = self._spare.pop() if self._spare else []
        if found is None:
            return None, buffers
        self._fetch_ahead(self._order.upcoming(number, _KEPT))
        if not buffers or self._layout.capacity(buffers) < found.rows:
            buffers = self._layout.allocate(found.rows)
        self._layout.clear(buffers)
        self._shelf.fill(self._layout, buffers, found.segments)
        self._layout.join(buffers)
        return found, buffers
