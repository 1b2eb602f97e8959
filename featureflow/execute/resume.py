"""Where a table with ``lifetime`` windows can go on from: which states a build looks for, writes and throws away.

A state is named by everything that it depends on: the table's definition and buckets, and the names of all pieces of
the source that can have an event before its instant. A late file, or one that changed, gives another name, so that no
state of the past is ever used for a history that is no longer the same.
"""

from __future__ import annotations

from dataclasses import replace

from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import delete, join, list_names
from featureflow.execute.stages import Base, Piece, PieceIndex, TablePlan, identity_of
from featureflow.execute.windows.lifetime import needs_all, sound_state, state_name, state_url
from featureflow.plan.nodes import CompiledTable
from featureflow.plan.slices import NULL_SLICE, Slice

#: Part of every state's name: raise it when the content of states changes.
LAYOUT = 1
#: States are written for the ends of the newest two slices: the newest one often grows with the next files, and is
#: then computed again from the end of the one before it.
N_WRITTEN = 2
#: States are looked for, and kept, at the ends of so many slices.
N_KEPT = 4


def carries_state(table: CompiledTable) -> bool:
    """Whether a state can stand for the history of all of the table's lifetime windows."""
    return table.lookback_us is None and table.partition != "none" and not needs_all(table)


def finite_reach_us(table: CompiledTable) -> int:
    """How far before its row's time any finite window, or the end of a lifetime window, can lie."""
    return max((w.delay_us if w.reach_us is None else w.reach_us for w in table.windows), default=0)


def with_states(plan: TablePlan, events: list[Piece], table_url: str) -> TablePlan:
    """Add to a plan the state to begin with, if there is a sound one, and the states to write."""
    timed = [part for part in plan.missing if part != NULL_SLICE]
    if not timed or not carries_state(plan.table):
        return plan
    index = PieceIndex(events)
    states = {part.end_us: _at(plan, index, part.end_us) for part in timed[-N_WRITTEN:]}
    written = tuple((end, *found) for end, found in states.items() if found is not None)
    base = None if plan.full else _base(plan, index, timed[0], table_url)
    return replace(plan, base=base, states=written)


def _at(plan: TablePlan, index: PieceIndex, end_us: int) -> tuple[int, str] | None:
    """Instant and name of the state for runs that begin at or after an instant; None if nothing lies behind it."""
    before = end_us - finite_reach_us(plan.table)
    if not index.touching(None, before - 1):
        return None
    content = {
        "lifetime": LAYOUT,
        "table": identity_of(plan.table, plan.n_buckets),
        "before": before,
        "events": index.names(None, before - 1),
    }
    return before, fingerprint(content)


def _base(plan: TablePlan, index: PieceIndex, first: Slice, table_url: str) -> Base | None:
    ends = [part.end_us for part in plan.slices if part != NULL_SLICE and part.end_us <= first.start_us]
    there = set(list_names(join(table_url, "_ff", "state")))
    for end in reversed(ends[-N_KEPT:]):
        found = _at(plan, index, end)
        if found is None:
            continue
        before, mark = found
        if not there.issuperset(state_name(mark, bucket) for bucket in range(plan.n_buckets)):
            continue
        sound = [sound_state(state_url(table_url, mark, bucket)) for bucket in range(plan.n_buckets)]
        sizes = [(len(state[0]), state[1]) for state in sound if state is not None]
        if len(sizes) == plan.n_buckets:
            return Base(before, mark, sum(size for size, _ in sizes), max(rows for _, rows in sizes))
    return None


def drop_old_states(plan: TablePlan, events: list[Piece], table_url: str) -> None:
    """Delete states that no later build of the same history would begin with."""
    folder = join(table_url, "_ff", "state")
    names = list_names(folder)
    if not names:
        return
    index = PieceIndex(events)
    ends = [part.end_us for part in plan.slices if part != NULL_SLICE][-N_KEPT:]
    marks = {found[1] for end in ends if (found := _at(plan, index, end)) is not None}
    marks.update(mark for _, _, mark in plan.states)
    if plan.base is not None:
        marks.add(plan.base.mark)
    for name in names:
        if name.partition("-")[0] not in marks:
            delete(join(folder, name))
