"""What a build of one table will do, worked out before anything runs: the list that `plan` prints and `build` walks.

Everything is decided by names. A slice's fingerprint is the hash of the table's definition and of the names of the
inputs that can reach its rows; a slice whose fingerprint the current version already has is kept as it is. The
fingerprints of a table's slices are, in turn, the names by which the tables that build on it see their input, so that
a whole project can be planned without computing anything.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from featureflow.core.fingerprints import fingerprint
from featureflow.execute.windows.grid import last_tick, tick_bounds
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import CompiledTable
from featureflow.plan.slices import NULL_SLICE, Slice, merge_ranges, slice_at, slices_of_ranges

#: Part of every fingerprint: raise it when the same definition and input give other rows than before.
ENGINE = 1

Change = Literal["new", "definition changed", "new data", "late data", "unchanged", "full rebuild"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A named part of an input and the closed range of its times: a raw chunk, or a slice of a feature table."""

    id: str
    min_us: int | None
    max_us: int | None
    null_times: int
    rows: int
    size: int

    @property
    def has_times(self) -> bool:
        """Whether any row has a time."""
        return self.min_us is not None


@dataclass(frozen=True, slots=True)
class Current:
    """What the published version of a table has: its definition, buckets, and slice fingerprints."""

    version: int
    definition_hash: str
    n_buckets: int
    slices: dict[str, str]


@dataclass(frozen=True, slots=True)
class Base:
    """State of lifetime windows that a build begins with, instead of all events before ``before_us``.

    ``bytes`` is the size of its files together, ``rows`` the rows of the largest bucket.
    """

    before_us: int
    mark: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What will happen to one table.

    ``slices`` are all slices of the new version with their fingerprints; ``missing`` those to compute; ``reused`` are
    the labels kept from the current version, ``dropped`` those of it that go away. ``reach`` is the closed range of
    times that rows can have, as far as the source's files tell. ``base`` stands for the history of lifetime windows;
    ``states`` are those to write: the end of a missing slice, the instant, the name.
    """

    table: CompiledTable
    change: Change
    reason: str
    n_buckets: int
    slices: dict[Slice, str]
    missing: tuple[Slice, ...]
    reused: tuple[str, ...]
    dropped: tuple[str, ...]
    current: Current | None
    first_tick: int | None
    last_tick: int | None
    full: bool = False
    reach: tuple[int, int] | None = None
    estimate: dict[str, int] = field(default_factory=dict)
    base: Base | None = None
    states: tuple[tuple[int, int, str], ...] = ()

    @property
    def does_something(self) -> bool:
        """Whether a new version will be published."""
        return bool(self.missing or self.dropped) or self.current is None

    def pieces(self) -> list[Piece]:
        """Give the slices as the input of another table."""
        rows = self.estimate.get("rows", 0) // max(1, len(self.slices))
        width = self.estimate.get("output_row_bytes", 0)
        return [
            Piece(f"{self.table.name}:{mark}", None, None, 1, rows, rows * width)
            if part == NULL_SLICE
            else Piece(
                f"{self.table.name}:{mark}",
                *clipped(part, self.reach),
                int(part.holds_timeless),
                rows,
                rows * width,
            )
            for part, mark in self.slices.items()
        ]


def clipped(part: Slice, reach: tuple[int, int] | None) -> tuple[int, int]:
    """Closed range of times that a slice's rows can have: ``partition: none`` must not look like ten thousand years."""
    low, high = part.start_us, part.end_us - 1
    if reach is None or max(low, reach[0]) > min(high, reach[1]):
        return low, high
    return max(low, reach[0]), min(high, reach[1])


class PieceIndex:
    """Finds the pieces that touch a range of time."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        every = list(pieces)
        self.timed = sorted((p for p in every if p.min_us is not None), key=lambda p: (p.min_us, p.id))
        self.without_time = [p for p in every if p.null_times]
        self._starts = [p.min_us or 0 for p in self.timed]
        self._digests: list[str] = []
        self._ends = np.array([p.max_us for p in self.timed], np.int64)

    def touching(self, first: int | None, last: int) -> list[Piece]:
        """Pieces with a time in the closed range; ``first`` None means from the beginning."""
        stop = bisect_left(self._starts, last + 1)
        if first is None:
            return self.timed[:stop]
        return [self.timed[i] for i in np.flatnonzero(self._ends[:stop] >= first)]

    def names(self, first: int | None, last: int) -> str:
        """Digest of the names of the pieces that touch a range.

        Cost: what `touching` costs, but O(1) from the beginning of time: a lifetime window over n files and n slices
        would otherwise hash n * n / 2 names.
        """
        if first is not None:
            return fingerprint(sorted(p.id for p in self.touching(first, last)))
        if not self._digests:
            state = hashlib.blake2b(digest_size=16)
            self._digests.append(state.hexdigest())
            for piece in self.timed:
                state.update(f"{piece.id}\n".encode())
                self._digests.append(state.hexdigest())
        return self._digests[bisect_left(self._starts, last + 1)]

    @property
    def latest_us(self) -> int | None:
        """Largest time of all pieces."""
        return int(self._ends.max()) if len(self._ends) else None


def needed_pieces(
    plan: TablePlan, pieces: list[Piece], reach: int | None, base: Base | None = None
) -> list[Piece]:
    """Pieces of an input that a row of the plan's missing slices can see, less those that ``base`` stands for."""
    index = PieceIndex(pieces)
    timed = [part for part in plan.missing if part != NULL_SLICE]
    found: dict[str, Piece] = {}
    if any(part.holds_timeless for part in plan.missing):
        found.update((piece.id, piece) for piece in index.without_time)
    if reach is None:
        since = None if base is None else base.before_us
        ranges: list[tuple[int | None, int]] = (
            [(since, max(part.end_us for part in timed) - 1)] if timed else []
        )
    else:
        ranges = [*merge_ranges((part.start_us - reach, part.end_us - 1) for part in timed)]
    for first, last in ranges:
        found.update((piece.id, piece) for piece in index.touching(first, last))
    return list(found.values())


def plan_table(
    table: CompiledTable,
    events: list[Piece],
    rights: list[list[Piece]],
    current: Current | None,
    *,
    n_buckets: int,
    full: bool = False,
    only: tuple[int, int] | None = None,
) -> TablePlan:
    """Decide which slices of a table have to be computed.

    Parameters
    ----------
    events, rights
        Pieces of the table's source, and of each look-up's right side.
    current
        The published version; None if there is none.
    n_buckets
        Number of buckets for a first version or a new definition.
    full
        Compute every slice again.
    only
        Half-open range of time: slices outside of it stay as they are.
    """
    source = PieceIndex(events)
    indexes = [PieceIndex(pieces) for pieces in rights]
    first_tick, final_tick = _tick_range(table, source)
    same = current is not None and current.definition_hash == table.definition_hash
    buckets = current.n_buckets if current is not None and same else n_buckets
    known = current.slices if current is not None and same else {}
    identity, reach = identity_of(table, buckets), table.lookback_us
    slices: dict[Slice, str] = {}
    for part in _slices(table, source, first_tick, final_tick):
        slices[part] = _mark(table, part, identity, source, indexes, reach, first_tick, final_tick)
    missing: list[Slice] = []
    kept = {} if only is None else _outside(known, table, only)
    for part, mark in slices.items():
        if not _is_inside(part, only):
            continue
        kept[part] = mark
        if full or known.get(part.label) != mark:
            missing.append(part)
    chosen = set(missing)
    labels = {part.label for part in kept}
    dropped = tuple(sorted(set(current.slices) - labels)) if current is not None else ()
    change, reason = _explain(current, same, full, missing, dropped, known)
    kept = dict(sorted(kept.items()))
    reused = tuple(part.label for part in kept if part not in chosen)
    return TablePlan(
        table,
        change,
        reason,
        buckets,
        kept,
        tuple(missing),
        reused,
        dropped,
        current,
        first_tick,
        final_tick,
        full,
        _reach(source, first_tick, final_tick),
    )


def _is_inside(part: Slice, only: tuple[int, int] | None) -> bool:
    return only is None or (part.start_us < only[1] and part.end_us > only[0])


def _outside(known: dict[str, str], table: CompiledTable, only: tuple[int, int]) -> dict[Slice, str]:
    """Slices that a build of a range leaves as they are, also those whose input is gone."""
    parts = {Slice.from_label(label, table.partition): mark for label, mark in known.items()}
    return {part: mark for part, mark in parts.items() if not _is_inside(part, only)}


def _reach(source: PieceIndex, first_tick: int | None, final_tick: int | None) -> tuple[int, int] | None:
    if first_tick is not None and final_tick is not None:
        return first_tick, final_tick
    latest = source.latest_us
    return None if latest is None or source.timed[0].min_us is None else (source.timed[0].min_us, latest)


def _slices(
    table: CompiledTable, source: PieceIndex, first_tick: int | None, final_tick: int | None
) -> list[Slice]:
    if table.grid is not None:
        if first_tick is None or final_tick is None or final_tick < first_tick:
            return []
        return slices_of_ranges([(first_tick, final_tick)], table.partition)
    if table.partition == "none":
        return [slice_at(0, "none")] if source.timed or source.without_time else []
    found = slices_of_ranges(
        [(p.min_us, p.max_us) for p in source.timed if p.min_us is not None and p.max_us is not None],
        table.partition,
    )
    return [NULL_SLICE, *found] if source.without_time else found


def _tick_range(table: CompiledTable, source: PieceIndex) -> tuple[int | None, int | None]:
    """First and last tick of the grid, both included."""
    grid = table.grid
    if grid is None or not source.timed:
        return None, None
    earliest, latest = source.timed[0].min_us or 0, source.latest_us or 0
    first = earliest if grid.start_us is None else max(grid.start_us, earliest)
    if grid.end_us is None:
        last = last_tick(grid, latest)
    else:
        reach = table.lookback_us
        last = grid.end_us - 1 if reach is None else min(grid.end_us - 1, latest + reach + grid.every_us)
    return tick_bounds(grid, first, last) or (None, None)


def identity_of(table: CompiledTable, n_buckets: int) -> str:
    """What all slices of a table have in common."""
    content = {
        "engine": ENGINE,
        "definition": table.definition_hash,
        "schema": [[f.name, str(f.type)] for f in table.schema],
        "buckets": n_buckets,
    }
    return fingerprint(content)


def _mark(
    table: CompiledTable,
    part: Slice,
    identity: str,
    source: PieceIndex,
    rights: list[PieceIndex],
    reach: int | None,
    first_tick: int | None,
    final_tick: int | None,
) -> str:
    """Fingerprint of a slice: everything that can change one of its values."""
    content: dict[str, Any] = {"table": identity, "slice": part.label}
    if part == NULL_SLICE:
        content["events"] = sorted(p.id for p in source.without_time)
        looked_up = [sorted(p.id for p in index.without_time) for _, index in _of_grids(table, rights)]
        if any(looked_up):  # a grid without times is the same for rows without one
            content["rights"] = looked_up
        return fingerprint(content)
    first = None if reach is None else part.start_us - reach
    content["events"] = source.names(first, part.end_us - 1)
    if part.holds_timeless:
        content["without time"] = sorted(p.id for p in source.without_time)
    content["rights"] = [
        index.names(None if lookup.reach_us is None else part.start_us - lookup.reach_us, part.end_us - 1)
        for lookup, index in zip(table.lookups, rights, strict=True)
    ]
    if table.grid is not None and first_tick is not None and final_tick is not None:
        content["ticks"] = [max(first_tick, part.start_us), min(final_tick, part.end_us - 1)]
    return fingerprint(content)


def _of_grids(table: CompiledTable, rights: list[PieceIndex]) -> list[tuple[GridLookup, PieceIndex]]:
    pairs = zip(table.lookups, rights, strict=True)
    return [(lookup, index) for lookup, index in pairs if isinstance(lookup, GridLookup)]


def _explain(
    current: Current | None,
    same: bool,
    full: bool,
    missing: list[Slice],
    dropped: tuple[str, ...],
    known: dict[str, str],
) -> tuple[Change, str]:
    if current is None:
        return "new", "no version yet"
    if not same:
        return (
            "definition changed",
            f"definition {current.definition_hash[:8]} of version {current.version} is another",
        )
    if full:
        return "full rebuild", "--full was given"
    if not missing and not dropped:
        return "unchanged", f"version {current.version} has it all"
    changed = [part.label for part in missing if part.label in known]
    added = [part.label for part in missing if part.label not in known]
    # rows without a time are neither early nor late
    last_known = max((label for label in known if label != NULL_SLICE.label), default="")
    early = any(label < last_known for label in (*changed, *added) if label != NULL_SLICE.label)
    if early or dropped:
        text = f"{len(changed)} slices changed ({_few(changed)}), {len(added)} new, {len(dropped)} gone"
        return "late data", text
    return "new data", f"{len(added)} new slices ({_few(added)}), {len(changed)} grew"


def _few(labels: list[str]) -> str:
    return ", ".join(labels) if len(labels) <= 3 else f"{labels[0]} … {labels[-1]}"
