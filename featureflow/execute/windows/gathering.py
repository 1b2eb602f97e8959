"""The events of a run, gathered file by file: in memory if that holds them, else in sorted runs on scratch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from featureflow.core.meter import spent
from featureflow.execute.exchange.bucket import in_range, load_bucket
from featureflow.execute.exchange.fetching import read_slices
from featureflow.execute.exchange.manifest import touching
from featureflow.execute.sizing import MARGIN, Footprint
from featureflow.execute.windows.lifetime import History, read_state, sort_with_history, state_url
from featureflow.execute.windows.run import Room, Run, event_range, starting_state
from featureflow.execute.windows.sorted_rows import SortedRows, microseconds, sort_rows
from featureflow.execute.windows.sorted_runs import SortedRuns
from featureflow.execute.windows.window_task import ticks_of
from featureflow.plan.required import columns_needed


def room_of(run: Run) -> Room:
    """What the run may hold."""
    if run.room is None:
        raise ValueError("a run without a limit is computed in one go")
    return run.room


@dataclass(slots=True)
class InMemory:
    """All events of a run, and the state before them if there is one."""

    events: pa.Table
    state: pa.Table | None


def gather(run: Run, folder: str) -> tuple[InMemory | SortedRuns, Footprint]:
    """The run's events and the state before them, in memory if that holds them; and what they turned out to weigh."""
    room, base = room_of(run), starting_state(run)
    state = None if base is None else read_state(state_url(run.table_url, base.mark, run.bucket))
    marks = {} if state is None else _marks(run, state)
    runs = SortedRuns(folder, run.table.keys, run.table.source.time, tuple(marks))
    loaded: list[pa.Table] = []
    n = n_bytes = widest = 0
    for table in _events(run):
        if table.num_rows == 0:
            continue
        width = -(-table.nbytes // table.num_rows)
        widest = max(widest, width)
        most = max(1, int((room.task_bytes - room.foot.fixed) / MARGIN / (3 * width + 48)))
        for start in range(0, table.num_rows, most):
            part = table.slice(start, most)
            if (
                n
                and MARGIN * (3 * (n_bytes + part.nbytes) + 48 * (n + part.num_rows))
                > room.task_bytes - room.foot.fixed
            ):
                runs.add(_with_marks(loaded, marks))
                loaded, n, n_bytes = [], 0, 0
            loaded.append(part)
            n, n_bytes = n + part.num_rows, n_bytes + part.nbytes
    foot = room.foot.widened(widest)
    loaded = loaded or [_empty(run)]
    total = n + (0 if state is None else state.num_rows)
    if runs.is_empty and _fits(run, loaded, total, foot):
        return InMemory(pa.concat_tables(loaded).combine_chunks(), state), foot
    last = _with_marks(loaded, marks)
    del loaded
    runs.add(last)
    if state is not None:
        runs.add(state.cast(last.schema))
    return runs, foot


def _events(run: Run) -> Iterator[pa.Table]:
    """Events of a run, file by file; copied from what is mapped."""
    room = room_of(run)
    first, last, with_null = event_range(run)
    names = touching(run.events, first, last, with_null=with_null)
    # slices of other hosts come into memory: in one request a host only if there is room for all of them
    at_once = max(1, len(names)) if room.expected <= room.task_bytes else 1
    wanted = list(columns_needed(run.table))
    for start in range(0, len(names), at_once):
        batches = read_slices(run.events, names[start : start + at_once], run.bucket)
        while batches:
            batch = batches.pop(0)
            table = pa.Table.from_batches([batch.replace_schema_metadata(None)]).select(wanted)
            del batch
            with spent("exchange"):
                yield in_range(table, run.table.source.time, first, last, with_null)


def _empty(run: Run) -> pa.Table:
    table = run.table
    return load_bucket(run.events, run.bucket, table.source, columns_needed(table), 0, -1, False).slice(0, 0)


def _marks(run: Run, state: pa.Table) -> dict[str, pa.DataType]:
    names = state.column_names[len(columns_needed(run.table)) :]
    return {name: state.schema.field(name).type for name in names}


def _with_marks(tables: list[pa.Table], marks: dict[str, pa.DataType]) -> pa.Table:
    found = pa.concat_tables(tables).combine_chunks()
    for name, kind in marks.items():
        found = found.append_column(name, pa.nulls(found.num_rows, kind))
    return found


def _fits(run: Run, tables: list[pa.Table], n: int, foot: Footprint) -> bool:
    """Whether the run can be computed in one go: of a grid only if each row had a key of its own it could not."""
    room, name = room_of(run), run.table.source.time
    if run.table.grid is not None:
        keys = pa.concat_tables([table.select(list(run.table.keys)) for table in tables])
        rows = keys.group_by(keys.column_names).aggregate([]).num_rows * len(ticks_of(run))
    elif name is None:
        rows = n
    else:
        first = min(u.slice.start_us for u in run.units)
        rows = sum(int((microseconds(t.column(name).combine_chunks()) >= first).sum()) for t in tables)
    return foot.task_bytes(n, rows) <= room.task_bytes


def sorted_events(run: Run, found: InMemory) -> tuple[SortedRows, History | None]:
    """The events in order, with the state before them."""
    base = starting_state(run)
    if found.state is not None and base is not None:
        return sort_with_history(run.table, found.events, found.state, base.before_us)
    source = run.table.source
    return sort_rows(found.events, run.table.keys, source.time, source.order), None
