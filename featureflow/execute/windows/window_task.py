"""The task of a feature table: one bucket, a run of adjacent time slices, in one pass.

Reads the bucket's batches of the exchange files with the look-back of the longest window, sorts once, evaluates all
windows together, looks up, derives, and writes one file for each slice of the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featureflow.core.meter import spending
from featureflow.core.storage import join, write_atomic
from featureflow.execute.checks.checking import failing_rows, findings
from featureflow.execute.exchange.bucket import load_bucket
from featureflow.execute.sizing import WIDE_TEXT_BYTES
from featureflow.execute.windows.arrays import as_stored, booleans, integers
from featureflow.execute.windows.derive import derive_columns
from featureflow.execute.windows.evaluate import Evaluator, Queries
from featureflow.execute.windows.grid import ticks_between
from featureflow.execute.windows.lifetime import (
    Columns,
    History,
    groups_of,
    make_state,
    read_state,
    sort_with_history,
    state_url,
    write_state,
)
from featureflow.execute.windows.lookups import look_up
from featureflow.execute.windows.run import (
    GridSide,
    Room,
    Run,
    Side,
    Unit,
    Written,
    event_range,
    own_states,
    right_range,
    starting_state,
)
from featureflow.execute.windows.sorted_rows import NO_TIME, SortedRows, column, microseconds, sort_rows
from featureflow.kernels.gather import split_rows, take_rows
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import CompiledTable, Lookup
from featureflow.plan.required import columns_needed
from featureflow.plan.slices import NULL_SLICE
from featureflow.tables.layout import file_path, partition_column
from featureflow.tables.parquet_files import write_file


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a run's rows, all from one stretch of times, and what a computation of them needs and leaves.

    Rows with ``first_us <= time < end_us`` are answered; look-ups get their right side from ``right``; ``states`` gets
    the rows and their columns, to make the states of lifetime windows.
    """

    right: Callable[[Lookup, Side, list[pa.Array]], pa.Table]
    states: Callable[[SortedRows, Columns], None]
    first_us: int = NO_TIME
    end_us: int = np.iinfo(np.int64).max

    def holds(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which times are in the part."""
        return (times >= self.first_us) & (times < self.end_us)

    @property
    def is_all(self) -> bool:
        """Whether no time is outside."""
        return self.first_us == NO_TIME and self.end_us == np.iinfo(np.int64).max


def compute_run(run: Run) -> Written:
    """Compute the rows of a run and write them; see the module's text."""
    if run.room is not None and not _surely_fits(run, run.room):
        from featureflow.execute.windows.pieces import compute_tight

        return compute_tight(run)
    return compute_whole(run, lambda: _load_events(run))


def compute_whole(run: Run, load: Callable[[], tuple[SortedRows, History | None]]) -> Written:
    """Compute the rows of a run from all of its events, and write them."""
    rows, history = load()  # loaded here, so that nobody else holds them when the files are written
    found = part_rows(run, rows, history, whole(run))
    del rows, history
    return _write_slices(run, *stored_columns(run, found))


def whole(run: Run) -> Part:
    """All rows of a run."""
    return Part(
        lambda lookup, side, _: _load_right(run, lookup, side),
        lambda rows, columns: _write_states(run, rows, columns),
    )


@spending("compute:rows")
def part_rows(run: Run, rows: SortedRows, history: History | None, part: Part) -> pa.Table:
    """Output rows of a part of a run: by keys and times, those without first."""
    answer = _grid_rows if run.table.grid else _event_rows
    return answer(run, rows, history, part)


@spending("compute:rows")
def stored_columns(run: Run, found: pa.Table) -> tuple[list[pa.Array], NDArray[np.int64]]:
    """Columns of the output as they are stored, and the times that decide on their slices."""
    table = run.table
    times = microseconds(column(found, table.time)) if table.time else np.zeros(found.num_rows, np.int64)
    return [as_stored(column(found, field.name), field) for field in table.schema], times


def _surely_fits(run: Run, room: Room) -> bool:
    """Whether the run fits whatever its rows are: the plan's projection takes them for evenly spread."""
    rows = room.rows
    if run.table.grid is not None:
        rows *= max(1, len(ticks_of(run)))
    foot = room.foot.widened(room.foot.row + WIDE_TEXT_BYTES * room.foot.texts)
    return foot.task_bytes(room.rows, rows) <= room.task_bytes


def _load_events(run: Run) -> tuple[SortedRows, History | None]:
    table, base = run.table, starting_state(run)
    rows = load_bucket(run.events, run.bucket, table.source, columns_needed(table), *event_range(run))
    if base is None:
        return sort_rows(rows, table.keys, table.source.time, table.source.order), None
    state = read_state(state_url(run.table_url, base.mark, run.bucket))
    return sort_with_history(table, rows, state, base.before_us)


def _event_rows(run: Run, rows: SortedRows, history: History | None, part: Part) -> pa.Table:
    """One output row per event of the run's slices, and those without a key or a time."""
    table = run.table
    inside = _within(run.units, rows.times)
    chosen = np.flatnonzero(inside if part.is_all else inside & part.holds(rows.times))
    apart_times = np.empty(0, np.int64)
    if rows.n_apart:
        name = table.source.time
        apart_times = microseconds(column(rows.apart, name)) if name else np.zeros(rows.n_apart, np.int64)
    apart = np.flatnonzero(_within(run.units, apart_times))
    queries = Queries(np.searchsorted(chosen, rows.offsets).astype(np.int64), rows.times[chosen])
    carried = take_rows(rows.table, np.concatenate((apart, chosen + rows.n_apart)))
    times = np.concatenate((apart_times[apart], queries.times))
    return _finish(run, rows, history, queries, carried, times, len(apart), part)


def ticks_of(run: Run) -> NDArray[np.int64]:
    """Ticks of the grid in a run's slices, ascending; none for a table of events."""
    grid = run.table.grid
    if grid is None or run.first_tick is None or run.last_tick is None:
        return np.empty(0, np.int64)
    first = max(run.first_tick, run.units[0].slice.start_us)
    ticks = ticks_between(grid, first, min(run.last_tick, run.units[-1].slice.end_us - 1))
    return ticks[_within(run.units, ticks)]


def _grid_rows(run: Run, rows: SortedRows, history: History | None, part: Part) -> pa.Table:
    """One output row per tick and key that has an event in a window of that tick."""
    table, ticks = run.table, ticks_of(run)
    if len(ticks) == 0:
        return pa.Table.from_batches([], table.schema)
    ticks = ticks if part.is_all else ticks[part.holds(ticks)]
    n_keys = len(rows.offsets) - 1
    every = Queries(np.arange(n_keys + 1, dtype=np.int64) * len(ticks), np.tile(ticks, n_keys))
    probe = Evaluator(rows, every)
    alive = np.zeros(len(every.times), np.bool_)
    for window in table.windows:
        bounds = probe.windows(window)
        alive |= bounds.hi > bounds.lo
    chosen = np.flatnonzero(alive)
    queries = Queries(np.searchsorted(chosen, every.offsets).astype(np.int64), every.times[chosen])
    owners = np.repeat(rows.offsets[:-1], np.diff(queries.offsets)) + rows.n_apart
    carried = take_rows(rows.table.select(list(table.keys)), owners)
    if table.time is not None and table.time not in table.keys:
        carried = carried.append_column(table.time, integers(queries.times, pa.timestamp("us", "UTC")))
    return _finish(run, rows, history, queries, carried, queries.times, 0, part)


def _unit_of(units: tuple[Unit, ...], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each time among the units, which ascend; -1 for a time in none of them."""
    starts = np.array(
        [NO_TIME if unit.slice.holds_timeless else unit.slice.start_us for unit in units], np.int64
    )
    ends = np.array(
        [NO_TIME + 1 if unit.slice == NULL_SLICE else unit.slice.end_us for unit in units], np.int64
    )
    place = np.searchsorted(starts, times, side="right") - 1
    place[times >= ends[np.maximum(place, 0)]] = -1
    return place


def _within(units: tuple[Unit, ...], times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which times are in one of the slices."""
    return _unit_of(units, times) >= 0


def _finish(
    run: Run,
    rows: SortedRows,
    history: History | None,
    queries: Queries,
    carried: pa.Table,
    times: NDArray[np.int64],
    n_apart: int,
    part: Part,
) -> pa.Table:
    """Put aggregates, look-ups and derived columns beside the carried columns; all of the same rows."""
    table = run.table
    names = [
        name
        for name in dict.fromkeys((*table.keys, table.time or "", *table.keep))
        if name in carried.schema.names
    ]
    arrays: list[pa.Array] = [column(carried, name) for name in names]
    evaluator = Evaluator(rows, queries, history, groups_of(table))
    for name, values in evaluator.features(table.features).items():
        names.append(name)
        arrays.append(pa.concat_arrays([pa.nulls(n_apart, values.type), values]) if n_apart else values)
    part.states(rows, evaluator.events)
    for lookup, side in zip(table.lookups, run.rights, strict=True):
        left = [column(carried, key) for key in lookup.left_keys]
        names.extend(name for _, name in lookup.columns)
        arrays.extend(_looked_up(lookup, side, left, times, part))
    return derive_columns(pa.table(arrays, names=names), table.derived)


def _looked_up(
    lookup: Lookup | GridLookup,
    side: Side | GridSide,
    left: list[pa.Array],
    times: NDArray[np.int64],
    part: Part,
) -> list[pa.Array]:
    """Answers of one look-up; see `look_up` and `look_up_points`."""
    if isinstance(lookup, Lookup) and isinstance(side, Side):
        return look_up(lookup, left, times, part.right(lookup, side, left))
    if not isinstance(lookup, GridLookup) or not isinstance(side, GridSide):
        raise TypeError(f"{lookup.place}: a look-up of a table needs rows, one of a grid a cube")
    from featureflow.execute.grids.points import look_up_points

    return look_up_points(lookup, side.cube, dict(zip(lookup.left_keys, left, strict=True)), times)


def _write_states(run: Run, rows: SortedRows, columns: Columns) -> None:
    """Write the states for the ends of this run's slices that a later build can begin at."""
    for _, before, mark in own_states(run):
        state = make_state(run.table, rows, columns, before)
        if state is not None:
            write_state(state, state_url(run.table_url, mark, run.bucket))


def _load_right(run: Run, lookup: Lookup, side: Side) -> pa.Table:
    first, last = right_range(run, lookup)
    return load_bucket(
        side.manifest, run.bucket if side.bucketed else 0, lookup.right, lookup.needed, first, last, False
    )


def _checked(run: Run, unit: Unit, output: pa.Table) -> tuple[pa.Table, int]:
    """Note what the checks find, and move rows that fail a ``quarantine`` check to the unit's side file."""
    # Polars has no maps, and no check looks at one
    plain = [field.name for field in output.schema if not pa.types.is_map(field.type)]
    frame = pl.DataFrame(output.select(plain))
    failing = failing_rows(run.checks, frame)
    found = findings(run.checks, frame, failing, run.table.time)
    write_atomic(note_path(run.notes, unit, run.bucket), json.dumps(found).encode(), durable=False)
    if not failing.any():
        return output, 0
    chosen = failing.to_numpy()
    write_quarantine(output.filter(booleans(chosen)), quarantine_url(run.table_url, unit, run.bucket))
    return output.filter(booleans(~chosen)), int(chosen.sum())


def quarantine_url(table_url: str, unit: Unit, bucket: int) -> str:
    """Where the quarantined rows of a unit are."""
    return join(
        table_url, "_ff", "quarantine", f"{unit.slice.label}-b{bucket:03d}-{unit.fingerprint}.parquet"
    )


@spending("write")
def write_quarantine(rows: pa.Table, url: str) -> None:
    """Write quarantined rows to a Parquet file beside the table; complete or not there."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
    write_atomic(url, sink.getvalue().to_pybytes())


def _write_slices(run: Run, columns: list[pa.Array], times: NDArray[np.int64]) -> Written:
    """Write one file a slice; ``columns`` are the output's, and are emptied."""
    # within a slice the rows stay in the order of keys and times
    parts = split_units(run, columns, times)
    return sum_of([write_unit(run, unit, made) for unit, made in zip(run.units, parts, strict=True)])


def write_unit(run: Run, unit: Unit, made: pa.Table) -> Written:
    """Check the rows of a unit and write its file."""
    table = run.table
    rows, quarantined = _checked(run, unit, made) if run.checks else (made, 0)
    if not rows.num_rows:
        return Written(0, quarantined)
    path = unit_path(table, unit, run.bucket)
    file = write_file(rows, run.table_url, path, keys=list(table.keys), time=table.time)
    return Written(rows.num_rows, quarantined, (file,))


def sum_of(written: list[Written]) -> Written:
    """Handle of a run, from those of its units."""
    return Written(
        sum(one.rows for one in written),
        sum(one.quarantined for one in written),
        tuple(file for one in written for file in one.files),
    )


@spending("compute:rows")
def split_units(run: Run, columns: list[pa.Array], times: NDArray[np.int64]) -> list[pa.Table]:
    """Rows of each unit, in their order; ``columns`` are the output's, and are emptied."""
    return split_rows(columns, run.table.schema, _unit_of(run.units, times), len(run.units))


def unit_path(table: CompiledTable, unit: Unit, bucket: int) -> str:
    """Where a unit's file is, relative to its table."""
    label = None if unit.slice == NULL_SLICE else unit.slice.label
    return file_path(partition_column(table.partition, table.schema.names), label, bucket, unit.fingerprint)


def note_path(folder: str, unit: Unit, bucket: int) -> str:
    """Where the findings of a unit's checks are."""
    return join(folder, note_name(unit, bucket))


def note_name(unit: Unit, bucket: int) -> str:
    """Name of the note of a unit's checks within its folder."""
    return f"{unit.fingerprint}-{bucket}.json"
