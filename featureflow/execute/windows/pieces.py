"""A run whose rows memory can't hold at once: gathered into sorted runs on scratch, computed in pieces.

Pieces are cut between keys; a key that alone is too much is cut by time, and each of its pieces reads the look-back of
the longest window again, or begins with a state of the lifetime windows. The output of the pieces goes to scratch, too,
until the file of a unit can be written from front to back. Rows and their order are those of a computation in one go.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError
from featureflow.execute.exchange.bucket import in_range
from featureflow.execute.exchange.disk_space import write_error
from featureflow.execute.exchange.fetching import read_slices
from featureflow.execute.exchange.manifest import touching
from featureflow.execute.resume import finite_reach_us
from featureflow.execute.windows.arrays import booleans
from featureflow.execute.windows.gathering import gather, room_of, sorted_events
from featureflow.execute.windows.keycodes import encode_pair
from featureflow.execute.windows.lifetime import (
    Columns,
    History,
    make_state,
    needs_all,
    sort_with_history,
    state_url,
    write_state,
)
from featureflow.execute.windows.run import (
    Run,
    Side,
    Written,
    own_states,
    right_range,
    starting_state,
)
from featureflow.execute.windows.sorted_rows import NO_TIME, SortedRows, microseconds, sort_rows
from featureflow.execute.windows.sorted_runs import SortedRuns, Stretch
from featureflow.execute.windows.spilling import spill_folder
from featureflow.execute.windows.spooling import Spool
from featureflow.execute.windows.window_task import (
    Part,
    compute_whole,
    part_rows,
    stored_columns,
    ticks_of,
)
from featureflow.plan.nodes import Lookup
from featureflow.plan.required import columns_needed

_FOREVER = int(np.iinfo(np.int64).max)


def compute_tight(run: Run) -> Written:
    """Compute a run that may be more than its task's memory.

    Raises
    ------
    ComputeError
        If the scratch disk is full, or one window of one key is more than the memory.
    """
    room = room_of(run)
    folder = spill_folder(room.scratch)
    try:
        _make(folder)
        found, foot = gather(run, folder)
        if isinstance(found, SortedRuns):
            return _Pieces(replace(run, room=replace(room, foot=foot)), found, folder).compute()
        box = [found]
        del found
        return compute_whole(run, lambda: sorted_events(run, box.pop()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: str) -> None:
    try:
        os.makedirs(folder)
    except OSError as error:
        raise write_error(folder, error) from error


# ---------------------------------------------------------------- pieces


@dataclass(slots=True)
class _Carry:
    """State that stands for the events of one key before an instant."""

    before_us: int
    rows: pa.Table


@dataclass(slots=True)
class _Wish:
    """A state to make from a piece, for the one that follows: at which instant, and what was made."""

    before_us: int
    made: _Carry | None = None


class _Pieces:
    """Computes a run piece by piece."""

    def __init__(self, run: Run, runs: SortedRuns, folder: str) -> None:
        self._run, self._runs = run, runs
        self._room = room_of(run)
        self._spool = Spool(run, folder)
        self._base = starting_state(run)
        self._ticks = ticks_of(run)
        self._states: dict[str, list[pa.Table] | None] = {mark: [] for _, _, mark in own_states(run)}

    def compute(self) -> Written:
        """Compute all pieces; write the files of the units and the states."""
        if self._run.table.grid is None:
            self._by_time(self._runs.apart, reach=0)
        waiting: Stretch | None = None
        for stretch in self._runs.by_key(self._rows_of_a_piece()):
            joined = stretch if waiting is None else _joined(waiting, stretch)
            if self._fits(joined):
                waiting = joined
                continue
            if waiting is not None:
                self._piece(waiting)
            waiting = stretch
            if not self._fits(stretch):
                if not stretch.one_key:
                    raise self._too_much(stretch.rows, self._bytes(stretch), "keys that can't be parted")
                self._by_time(stretch, self._run.table.lookback_us)
                waiting = None
        if waiting is not None:
            self._piece(waiting)
        self._write_states()
        return self._spool.write()

    def _rows_of_a_piece(self) -> int:
        return self._room.foot.rows_in(self._room.task_bytes)

    def _bytes(self, stretch: Stretch) -> int:
        rows = stretch.keys * len(self._ticks) if self._run.table.grid else stretch.rows
        return self._room.foot.task_bytes(stretch.rows, rows)

    def _fits(self, stretch: Stretch) -> bool:
        return self._bytes(stretch) <= self._room.task_bytes

    def _piece(self, stretch: Stretch) -> None:
        """All events of some keys."""
        self._compute(self._sort(self._runs.read(stretch)))

    def _sort(self, table: pa.Table) -> tuple[SortedRows, History | None]:
        source, n_plain = self._run.table.source, len(columns_needed(self._run.table))
        marks = table.column_names[n_plain:]
        rows = sort_rows(table, self._run.table.keys, source.time, source.order, aside=tuple(marks))
        if not marks or self._base is None:
            return rows, None
        history = History(self._base.before_us, rows.events.select(marks))
        rows.table = rows.table.drop_columns(marks)
        return rows, history

    def _compute(
        self,
        found: tuple[SortedRows, History | None],
        first_us: int = NO_TIME,
        end_us: int = _FOREVER,
        wish: _Wish | None = None,
    ) -> None:
        part = Part(
            lambda lookup, side, left: self._right(lookup, side, left, first_us, end_us),
            lambda rows, columns: self._note_states(rows, columns, first_us, end_us, wish),
            first_us,
            end_us,
        )
        rows, history = found
        del found
        output = part_rows(self._run, rows, history, part)
        del rows, history
        self._spool.add(*stored_columns(self._run, output))

    # ------------------------------------------------------------ one key, by time

    def _by_time(self, stretch: Stretch, reach: int | None) -> None:
        """Rows of one key (or of none), some stretch of time after the other."""
        if stretch.rows == 0 and len(self._ticks) == 0:
            return
        if stretch.rows == 0 or (self._fits(stretch) and reach == 0):
            if stretch.rows:
                self._piece(stretch)
            return
        size = self._rows_of_a_piece()
        cuts, parts = self._runs.by_time(stretch, size, self._ticks[:: max(1, size // 8)])
        if reach is None:
            self._with_state(cuts, parts)
            return
        at = 0
        while at < len(parts):
            first = NO_TIME if at == 0 else int(cuts[at - 1])
            since = 0 if at == 0 else _part_at(cuts, first - reach)
            end = at
            while (
                end < len(parts)
                and self._time_bytes(cuts, parts, since, at, end + 1) <= self._room.task_bytes
            ):
                end += 1
            if end == at:
                need = self._time_bytes(cuts, parts, since, at, at + 1)
                raise self._too_much(
                    sum(p.rows for p in parts[since : at + 1]), need, "one window of one key"
                )
            last = _FOREVER if end == len(parts) else int(cuts[end - 1])
            self._compute(self._sort(self._runs.read(_joined(*parts[since:end]))), first, last)
            at = end

    def _time_bytes(
        self, cuts: NDArray[np.int64], parts: list[Stretch], since: int, at: int, end: int, kept: int = 0
    ) -> int:
        rows = sum(part.rows for part in parts[at:end])
        events = kept + rows + sum(part.rows for part in parts[since:at])
        if self._run.table.grid is not None:
            rows = self._n_ticks(cuts, at, end)
        return self._room.foot.task_bytes(events, rows)

    def _n_ticks(self, cuts: NDArray[np.int64], at: int, end: int) -> int:
        low = 0 if at == 0 else int(np.searchsorted(self._ticks, cuts[at - 1]))
        high = len(self._ticks) if end > len(cuts) else int(np.searchsorted(self._ticks, cuts[end - 1]))
        return high - low

    def _with_state(self, cuts: NDArray[np.int64], parts: list[Stretch]) -> None:
        """Lifetime windows: each piece begins with a state of the key instead of all events before it."""
        table = self._run.table
        if needs_all(table):
            names = ", ".join(needs_all(table))
            rows = sum(part.rows for part in parts)
            need = self._room.foot.task_bytes(rows, rows)
            raise self._too_much(rows, need, f"all history of one key, which {names} must see at once,")
        reach = finite_reach_us(table)
        carry: _Carry | None = None
        at = 0
        while at < len(parts):
            first = NO_TIME if at == 0 else int(cuts[at - 1])
            since = 0 if carry is None else _part_at(cuts, carry.before_us)
            kept = 0 if carry is None else carry.rows.num_rows
            end = at
            while (
                end < len(parts)
                and self._time_bytes(cuts, parts, since, at, end + 1, kept) <= self._room.task_bytes
            ):
                end += 1
            if end == at:
                need = self._time_bytes(cuts, parts, since, at, at + 1)
                raise self._too_much(
                    sum(p.rows for p in parts[since : at + 1]), need, "one window of one key"
                )
            last = _FOREVER if end == len(parts) else int(cuts[end - 1])
            wish = None if end == len(parts) else self._wish(last - reach, carry)
            self._compute(
                self._with_carry(self._runs.read(_joined(*parts[since:end])), carry), first, last, wish
            )
            carry = carry if wish is None else wish.made
            at = end

    def _wish(self, before_us: int, carry: _Carry | None) -> _Wish | None:
        """A state is of use if it stands for more than the one that this piece begins with."""
        known = NO_TIME if carry is None else carry.before_us
        if self._base is not None:
            known = max(known, self._base.before_us)
        return _Wish(before_us) if before_us > known else None

    def _with_carry(self, table: pa.Table, carry: _Carry | None) -> tuple[SortedRows, History | None]:
        if carry is None:
            return self._sort(table)
        source = self._run.table.source
        times = microseconds(table.column(source.time).combine_chunks())
        plain = table.select(list(columns_needed(self._run.table)))
        events = plain.filter(booleans(times >= carry.before_us))
        return sort_with_history(self._run.table, events, carry.rows, carry.before_us)

    def _note_states(
        self, rows: SortedRows, columns: Columns, first_us: int, end_us: int, wish: _Wish | None
    ) -> None:
        """Make the states that this piece has all events of: those to write, and the one to go on with."""
        for end, before, mark in own_states(self._run):
            held = self._states[mark]
            if held is None or not (first_us < end <= end_us):
                continue
            state = make_state(self._run.table, rows, columns, before)
            if state is None:
                self._states[mark] = None
            else:
                held.append(state)
        if wish is not None:
            state = make_state(self._run.table, rows, columns, wish.before_us)
            if state is None:
                need = self._room.foot.task_bytes(len(rows.times), 0)
                raise self._too_much(len(rows.times), need, "one key, whose sums no doubles can carry,")
            wish.made = _Carry(wish.before_us, state)

    def _write_states(self) -> None:
        for mark, parts in self._states.items():
            if parts:
                write_state(pa.concat_tables(parts), state_url(self._run.table_url, mark, self._run.bucket))

    # ------------------------------------------------------------ look-ups

    def _right(
        self, lookup: Lookup, side: Side, left: list[pa.Array], first_us: int, end_us: int
    ) -> pa.Table:
        """Right rows of the keys of a piece, file by file."""
        run = self._run
        first, last = right_range(run, lookup)
        last = min(last, end_us - 1)
        if lookup.reach_us is not None and first_us > NO_TIME:
            first = max(first if first is not None else NO_TIME, first_us - lookup.reach_us)
        bucket = run.bucket if side.bucketed else 0
        keys = pa.table(left, names=[str(i) for i in range(len(left))])
        keys = keys.group_by(keys.column_names).aggregate([])
        wanted = [keys.column(name).combine_chunks() for name in keys.column_names]
        found = []
        for name in touching(side.manifest, first, last):
            for batch in read_slices(side.manifest, [name], bucket):
                table = pa.Table.from_batches([batch.replace_schema_metadata(None)])
                table = in_range(table.select(list(lookup.needed)), lookup.right.time, first, last, False)
                if table.num_rows:
                    found.append(table.filter(booleans(_known(table, lookup.right_keys, wanted))))
        if not found:
            return _no_rights(lookup, side, bucket)
        return pa.concat_tables(found).combine_chunks()

    # ------------------------------------------------------------ what can't be done

    def _too_much(self, rows: int, need: int, what: str) -> ComputeError:
        room = self._room
        return ComputeError(
            f"features.{self._run.table.name}: {what} has {rows:,} rows and needs {need / 1e9:.2f} GB; a task may use "
            f"{room.task_bytes / 1e9:.2f} GB. Raise --memory, lower the number of threads a worker, or use shorter "
            "windows."
        )


def _no_rights(lookup: Lookup, side: Side, bucket: int) -> pa.Table:
    from featureflow.execute.exchange.bucket import load_bucket

    return load_bucket(side.manifest, bucket, lookup.right, lookup.needed, 0, -1, False).slice(0, 0)


def _known(table: pa.Table, keys: tuple[str, ...], wanted: list[pa.Array]) -> NDArray[np.bool_]:
    """Rows whose key is among those wanted."""
    from featureflow.execute.windows.sorted_rows import column

    if len(keys) == 1 and table.column(keys[0]).type == wanted[0].type:
        found = pc.is_in(column(table, keys[0]), value_set=wanted[0].drop_null())
        return np.asarray(found)
    left, right, _ = encode_pair(wanted, [column(table, key) for key in keys])
    known: NDArray[np.bool_] = np.isin(right, left[left >= 0])
    return known


def _joined(*stretches: Stretch) -> Stretch:
    """One stretch of several that follow each other."""
    first, last = stretches[0], stretches[-1]
    return replace(
        first,
        end=last.end,
        keys=sum(s.keys for s in stretches),
        one_key=all(s.one_key for s in stretches),
    )


def _part_at(cuts: NDArray[np.int64], us: int) -> int:
    """The part in which an instant lies: part i begins at ``cuts[i - 1]``."""
    return int(np.searchsorted(cuts, us, side="right"))
