"""The order in which an epoch gives the rows: a pure function of the shards' sizes, the seed and the epoch.

Rows are dealt to lanes, and ``Q``, the order of the whole job, takes one row of each lane in turn. A global batch
is a piece of ``Q``, so that it holds the same rows for any number of ranks, and ``samples``, how much of ``Q`` is
consumed, says all about a position. Each of W ranks reads every W-th row of ``Q``: if W divides the lanes, a rank reads
only its own lanes.

Lanes belong to tracks, each of which goes through shards of its own one after another. With as many nodes as
tracks, no two nodes read the same shard; a single process has a few shards open at a time, not one for each lane.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Longs = NDArray[np.int64]
Words = NDArray[np.uint64]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_ROUND_BYTES = 64 << 20  # of all lanes together: small enough for caches, large enough for long reads
_SHORTEST, _LONGEST = 4, 4096  # rows of a stripe


def mix64(words: Words) -> Words:
    """Mix 64-bit words; one to one, so that distinct words stay distinct (the finalizer of SplitMix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = words ^ (words >> np.uint64(31))
    return mixed


def key_of(*words: int) -> int:
    """One 64-bit key of several integers, in order."""
    key = 0
    for word in words:
        mixed = mix64(np.array([(key + _GOLDEN * (word + 1)) & _MASK], np.uint64))
        key = int(mixed[0])
    return key


def permutations(keys: Words, n: int) -> Longs:
    """Permute 0 … n-1 for each key: an array of shape ``(len(keys), n)``.

    Notes
    -----
    Order: random words with the number in their low bits are sorted. It is our own, since NumPy does not promise
    that its ``permutation`` stays the same from release to release, and a resumed run must go on in the same order.
    """
    low = np.uint64((1 << max(n - 1, 0).bit_length()) - 1)
    numbers = np.arange(n, dtype=np.uint64)
    words = mix64(keys[:, None] + numbers * np.uint64(_GOLDEN)) & ~low
    words |= numbers
    words.sort(axis=1)
    words &= low
    return words.view(np.int64)


def permutation(n: int, *words: int) -> Longs:
    """Permute 0 … n-1 by a key of several integers."""
    mixed: Longs = permutations(np.array([key_of(*words)], np.uint64), n)[0]
    return mixed


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows ``start`` to ``stop`` of a shard."""

    shard: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Round:
    """Rows that are read together.

    Parameters
    ----------
    first
        Number of the first of them among this rank's rows of the epoch.
    segments
        What to read, in order.
    rows
        How many rows the segments have.
    index
        For each row of this rank, in the epoch's order, which of the read rows it is.
    """

    first: int
    segments: tuple[Segment, ...]
    rows: int
    index: Longs


class Order(Protocol):
    """The rows of one rank in one epoch, round by round."""

    def at(self, number: int) -> int:
        """Which round holds this rank's row of that number."""

    def round(self, number: int) -> Round | None:
        """Give the round, or None after the last."""

    def upcoming(self, number: int, count: int) -> list[int]:
        """Shards that the round and those after it read, the next ``count`` of each track, soonest first."""


def rank_residue(rank: int, world: int, tracks: int) -> int:
    """Which rows of the epoch's order are the rank's: those whose number leaves this remainder divided by ``world``.

    Neighbouring ranks, which mostly share a node and its disk, share a track.
    """
    if world % tracks:
        return rank
    return rank // (world // tracks) + tracks * (rank % (world // tracks))


def stripe_rows(row_bytes: float, lanes: int) -> int:
    """Rows that a lane reads at a time: a power of two, fewer if rows are large."""
    rows = int(_ROUND_BYTES / max(lanes * row_bytes, 1))
    return min(max(1 << max(rows.bit_length() - 1, 0), _SHORTEST), _LONGEST)


def tracks_of(lanes: int) -> int:
    """How many tracks the lanes have: 4, or what divides their number."""
    return next(tracks for tracks in (4, 3, 2, 1) if lanes % tracks == 0)


@dataclass(frozen=True)
class LaneOrder:
    """The shuffled order of shards: shards, pieces in them and rows in stripes are permuted, lanes interleaved.

    Parameters
    ----------
    shard_rows
        Rows of each shard.
    lanes, stripe
        Number of lanes; rows that each reads at a time. A shard's pieces are as long.
    seed, epoch
        Say which order.
    rank, world
        Whose rows.

    Notes
    -----
    Cost: a position is found without going through those before it, in time linear in the number of shards.
    """

    shard_rows: tuple[int, ...]
    lanes: int
    stripe: int
    seed: int
    epoch: int
    rank: int = 0
    world: int = 1
    _pieces: dict[int, tuple[Longs, Longs]] = field(default_factory=dict, repr=False)

    @cached_property
    def _total(self) -> int:
        return sum(self.shard_rows)

    @cached_property
    def _residue(self) -> int:
        return rank_residue(self.rank, self.world, tracks_of(self.lanes))

    @cached_property
    def _shards(self) -> Longs:
        return permutation(len(self.shard_rows), self.seed, self.epoch, 1)

    @cached_property
    def _starts(self) -> Longs:
        """Where each shard starts in the order of shards, and where the last ends."""
        rows = np.array(self.shard_rows, np.int64)[self._shards]
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(rows)])

    @cached_property
    def _lane_rows(self) -> Longs:
        return self._total // self.lanes + (np.arange(self.lanes) < self._total % self.lanes)

    @cached_property
    def _by_track(self) -> Longs:
        """Lanes in the order in which the tracks lie: lane l is of track l mod T."""
        return np.argsort(np.arange(self.lanes) % tracks_of(self.lanes), kind="stable")

    @cached_property
    def _own(self) -> Longs:
        """The lanes that this rank's rows come from."""
        lanes = np.arange(self.lanes)
        return lanes[lanes % self.world == self._residue] if self.lanes % self.world == 0 else lanes

    def at(self, number: int) -> int:
        """Which round holds this rank's row of that number."""
        return (number * self.world + self._residue) // (self.lanes * self.stripe)

    def round(self, number: int) -> Round | None:
        """Give the round, or None after the last."""
        begin = number * self.stripe
        counts = np.clip(self._lane_rows - begin, 0, self.stripe)
        if not counts.any():
            return None
        starts = self._lane_starts(begin, counts)
        segments = [
            segment
            for lane in self._own.tolist()
            for segment in self._segments(int(starts[lane]), int(counts[lane]))
        ]
        index = self._index(number, counts[self._own])
        first = begin * self.lanes  # in Q
        if len(self._own) == self.lanes:
            index = np.ascontiguousarray(index[(self._residue - first) % self.world :: self.world])
        return Round(
            -((self._residue - first) // self.world), tuple(segments), int(counts[self._own].sum()), index
        )

    def _lane_starts(self, begin: int, counts: Longs) -> Longs:
        """Where the round's rows of each lane start in the order of shards."""
        order, tracks = self._by_track, tracks_of(self.lanes)
        per_track = self.lanes // tracks
        sizes = self._lane_rows[order].reshape(tracks, per_track)
        consumed = np.minimum(sizes, begin).sum(axis=1)
        track_starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes.sum(axis=1))[:-1]])
        within = counts[order].reshape(tracks, per_track)
        offsets = np.cumsum(within, axis=1) - within
        starts = np.empty(self.lanes, np.int64)
        starts[order] = ((track_starts + consumed)[:, None] + offsets).reshape(-1)
        return starts

    def _index(self, number: int, counts: Longs) -> Longs:
        """Rows of the round in the order Q: one of each lane in turn, permuted within each lane's stripe."""
        longest = int(counts.max(initial=0))
        offsets = np.cumsum(counts) - counts
        base = np.uint64(key_of(self.seed, self.epoch, 2, number))
        keys = mix64(base + self._own.astype(np.uint64) * np.uint64(_GOLDEN))
        if (counts == longest).all():
            rows = permutations(keys, longest) + offsets[:, None]
            return np.ascontiguousarray(rows.T).reshape(-1)
        grid = np.full((len(counts), longest), -1, np.int64)
        for count in np.unique(counts[counts > 0]).tolist():
            lanes = counts == count
            grid[lanes, :count] = permutations(keys[lanes], count) + offsets[lanes, None]
        flat: Longs = grid.T.reshape(-1)
        return flat[flat >= 0]

    def _segments(self, start: int, count: int) -> list[Segment]:
        """Rows of the shards at a place in the order of shards."""
        found: list[Segment] = []
        while count:
            place = int(np.searchsorted(self._starts, start, side="right")) - 1
            shard, within = int(self._shards[place]), start - int(self._starts[place])
            firsts, bounds = self._pieces_of(shard)
            piece = int(np.searchsorted(bounds, within, side="right")) - 1
            skip = within - int(bounds[piece])
            taken = min(count, int(bounds[piece + 1]) - within)
            row = int(firsts[piece]) + skip
            found.append(Segment(shard, row, row + taken))
            start, count = start + taken, count - taken
        return found

    def _pieces_of(self, shard: int) -> tuple[Longs, Longs]:
        """First row of each piece of a shard, permuted, and the bounds of the pieces laid end to end."""
        if shard not in self._pieces:
            if len(self._pieces) > 64:
                self._pieces.clear()
            rows = self.shard_rows[shard]
            firsts = permutation(-(-rows // self.stripe), self.seed, self.epoch, 3, shard) * self.stripe
            sizes = np.minimum(firsts + self.stripe, rows) - firsts
            self._pieces[shard] = firsts, np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        return self._pieces[shard]

    def upcoming(self, number: int, count: int) -> list[int]:
        """Shards that the round and those after it read, the next ``count`` of each track, soonest first."""
        begin = number * self.stripe
        counts = np.clip(self._lane_rows - begin, 0, self.stripe)
        starts = self._lane_starts(begin, counts)
        tracks = tracks_of(self.lanes)
        places = []
        for track in sorted(set((self._own % tracks).tolist())):
            lanes = self._own[self._own % tracks == track]
            at = int(np.searchsorted(self._starts, starts[lanes].min(), side="right")) - 1
            places.append(range(at, min(at + count, len(self._shards))))
        seen: dict[int, None] = {}
        for step in range(count):
            seen.update((int(self._shards[p[step]]), None) for p in places if step < len(p))
        return list(seen)


@dataclass(frozen=True)
class GlobalOrder:
    """The shuffled order of rows in memory: one permutation of all, one round."""

    shard_rows: tuple[int, ...]
    seed: int
    epoch: int
    rank: int = 0
    world: int = 1

    def at(self, number: int) -> int:  # noqa: ARG002  (there is but one round)
        """Which round holds this rank's row of that number: the first."""
        return 0

    @cached_property
    def _only(self) -> Round:
        rows = sum(self.shard_rows)
        index = np.ascontiguousarray(permutation(rows, self.seed, self.epoch, 0)[self.rank :: self.world])
        segments = tuple(Segment(shard, 0, n) for shard, n in enumerate(self.shard_rows) if n)
        return Round(0, segments, rows, index)

    def round(self, number: int) -> Round | None:
        """All rows, or None after them."""
        return None if number or not sum(self.shard_rows) else self._only

    def upcoming(self, number: int, count: int) -> list[int]:  # noqa: ARG002
        """All there is."""
        return list(range(len(self.shard_rows)))


def rows_between(shard_starts: Longs, start: int, stop: int) -> list[Segment]:
    """Rows of shards laid end to end, ``shard_starts`` being where each starts and the last ends."""
    found: list[Segment] = []
    place = max(int(np.searchsorted(shard_starts, start, side="right")) - 1, 0)
    while start < stop:
        end = min(stop, int(shard_starts[place + 1]))
        if end > start:
            base = int(shard_starts[place])
            found.append(Segment(place, start - base, end - base))
            start = end
        place += 1
    return found
