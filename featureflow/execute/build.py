"""Plan a project and build it: the same stages, once printed and once run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from featureflow.core.errors import CorruptionError, PlanError, TableError
from featureflow.core.storage import join
from featureflow.execute.checking import BoundCheck, bind, notes_folder
from featureflow.execute.driver import Task, run_tasks
from featureflow.execute.exchange import Rekey, bucket_rows, rekey
from featureflow.execute.executors import Executor
from featureflow.execute.inputs import Readable, readable_source, readable_table
from featureflow.execute.manifest import write_manifest
from featureflow.execute.publish import slice_label
from featureflow.execute.required import columns_needed
from featureflow.execute.resume import drop_old_states, with_states
from featureflow.execute.sizing import (
    Budget,
    Footprint,
    RunSizes,
    check_budget,
    choose_buckets,
    footprint,
    lookup_bytes,
)
from featureflow.execute.stages import Base, Current, Piece, TablePlan, clipped, needed_pieces, plan_table
from featureflow.execute.uniqueness import drop_duplicates, put_aside_repeated
from featureflow.execute.window_task import Run, Side, Unit, Written, compute_run, note_path, unit_path
from featureflow.observe.plans import describe_build, plan_html
from featureflow.observe.progress import Progress
from featureflow.plan.compile import as_input
from featureflow.plan.nodes import CompiledTable, Input, Lookup
from featureflow.plan.scan import ScannedSource
from featureflow.plan.slices import NULL_SLICE, Slice
from featureflow.spec.load import LoadedProject
from featureflow.tables.parquet_files import StagedFile, find_staged
from featureflow.tables.state import TableState, current_state


@dataclass(slots=True)
class Site:
    """Where a build happens: store, scratch, executor, memory."""

    store_url: str
    scratch: str
    executor: Executor
    budget: Budget
    progress: Progress

    def table_url(self, name: str) -> str:
        """Root of a feature table."""
        return join(self.store_url, "features", name)


@dataclass(slots=True)
class BuildPlan:
    """The stages of a build, table by table in the order in which they run."""

    project: str
    tables: list[TablePlan]
    site: Site
    sources: dict[str, Readable]
    compiled: dict[str, CompiledTable]
    states: dict[str, TableState | None]
    source_checks: dict[str, tuple[BoundCheck, ...]]
    table_checks: dict[str, tuple[BoundCheck, ...]]
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return describe_build(self)

    def published_output(self, name: str) -> Readable:
        """The files of a table that this build does not touch."""
        table, state = self.compiled[name], self.states[name]
        if state is None:
            raise PlanError(f"features.{name} has no version yet. Select it too: --select +NAME.")
        files = [
            (Slice.from_label(slice_label(label, table.partition), table.partition), staged)
            for (label, _), staged in state.units.items()
        ]
        return readable_table(table, self.site.table_url(name), as_input(table), files)

    def _repr_html_(self) -> str:
        """The plan as a table."""
        return plan_html(self.summary())


class Planner:
    """Works out a build plan; asks the store what is there, reads footers, runs nothing but duplicate searches."""

    def __init__(
        self,
        loaded: LoadedProject,
        compiled: dict[str, CompiledTable],
        scanned: dict[str, ScannedSource],
        site: Site,
    ) -> None:
        self._project, self._compiled, self._site = loaded.project, compiled, site
        self._source_checks = {
            name: bind(self._project.sources[name].each_check, f"sources.{name}") for name in scanned
        }
        self._table_checks = {
            name: bind(table.checks, f"features.{name}") for name, table in compiled.items()
        }
        self._sources = {name: self._readable(name, found) for name, found in scanned.items()}
        self._pieces: dict[str, list[Piece]] = {name: found.pieces() for name, found in self._sources.items()}
        self._states: dict[str, TableState | None] = {}

    def _readable(self, name: str, found: ScannedSource) -> Readable:
        readable = readable_source(found, self._source_checks[name])
        unique = self._project.sources[name].deduplicate
        site = self._site
        if unique:
            readable = drop_duplicates(site.executor, readable, unique, site.scratch, site.progress)
        for check in self._source_checks[name]:
            if check.quarantines and check.spec.kind == "unique":
                readable = put_aside_repeated(site.executor, readable, check, site.scratch, site.progress)
        return readable

    def plan(self, names: list[str], *, full: bool, only: tuple[int, int] | None) -> BuildPlan:
        """Plan the named tables; tables that they build on but that are not named are taken as published.

        Raises
        ------
        PlanError
            If a task would need more memory than it may use, or a table that is needed has no version.
        """
        plans = []
        for name, table in self._compiled.items():
            if name in names:
                plan = self._plan_table(table, full=full, only=only)
                plans.append(plan)
                self._pieces[name] = plan.pieces()
            elif any(name in _upstream(self._compiled[other]) for other in names):
                self._pieces[name] = self._published_pieces(table)
        return BuildPlan(
            self._project.project,
            plans,
            self._site,
            self._sources,
            self._compiled,
            self._states,
            self._source_checks,
            self._table_checks,
            self._warnings(),
        )

    def _warnings(self) -> list[str]:
        found = []
        for name, source in self._sources.items():
            reader = getattr(source.reader, "source", None)
            naive = (
                [
                    column.name
                    for column in reader.schema.columns
                    if column.name == source.input.time and is_naive(column.stored)
                ]
                if reader
                else []
            )
            if naive:
                found.append(
                    f"sources.{name}: times of {naive[0]!r} have no zone and are taken as "
                    f"{self._project.sources[name].timezone}."
                )
        return found

    def _state(self, name: str) -> TableState | None:
        if name not in self._states:
            self._states[name] = current_state(self._site.table_url(name))
        return self._states[name]

    def _published_pieces(self, table: CompiledTable) -> list[Piece]:
        state = self._state(table.name)
        if state is None:
            raise PlanError(
                f"features.{table.name} has no version yet, and is not selected. Select it too: --select +NAME."
            )
        if state.definition_hash != table.definition_hash:
            raise PlanError(
                f"features.{table.name} has changed since version {state.version}, and is not selected. "
                "Select it too: --select +NAME."
            )
        return _slices_as_pieces(table, state)

    def _plan_table(self, table: CompiledTable, *, full: bool, only: tuple[int, int] | None) -> TablePlan:
        events = self._pieces[table.source.name]
        rights = [self._pieces[lookup.right.name] for lookup in table.lookups]
        state = self._state(table.name)
        current = (
            None
            if state is None
            else Current(
                state.version,
                state.definition_hash,
                int(state.record["buckets"]),
                dict(state.record["slices"]),
            )
        )
        foot = self._footprint(table, rights, 1)
        buckets = choose_buckets(table, events, foot, self._site.budget, self._site.executor.slots)
        plan = plan_table(table, events, rights, current, n_buckets=buckets, full=full, only=only)
        plan = with_states(plan, events, self._site.table_url(table.name))
        foot = self._footprint(table, rights, plan.n_buckets)
        return replace(plan, estimate=self._estimate(plan, events, rights, foot))

    def _footprint(self, table: CompiledTable, rights: list[list[Piece]], n_buckets: int) -> Footprint:
        size = sum(
            lookup_bytes(lookup, pieces) // (n_buckets if is_bucketed(table, lookup) else 1)
            for lookup, pieces in zip(table.lookups, rights, strict=True)
        )
        return footprint(table, columns_needed(table), size)

    def _estimate(
        self, plan: TablePlan, events: list[Piece], rights: list[list[Piece]], foot: Footprint
    ) -> dict[str, int]:
        sizes = RunSizes.of(
            plan.table, events, foot, plan.missing, plan.n_buckets, self._site.budget, base=plan.base
        )
        memory = check_budget(sizes, plan.missing, plan.n_buckets, self._site.budget) if plan.missing else 0
        runs = sizes.runs(plan.missing, 1 / plan.n_buckets)
        memory = max([memory, *(sizes.task_bytes(run[0], run[-1], 1 / plan.n_buckets) for run in runs)])
        read = needed_pieces(plan, events, plan.table.lookback_us, plan.base)
        looked_up = [
            needed_pieces(plan, pieces, lookup.reach_us)
            for lookup, pieces in zip(plan.table.lookups, rights, strict=True)
        ]
        total = sum(piece.rows for piece in events)
        computed = sum(
            sizes.estimate.between(part.start_us, part.end_us) for part in plan.missing if part != NULL_SLICE
        )
        return {
            "rows": total,
            "rows_computed": min(computed, total),
            "bytes_read": sum(piece.size for piece in read)
            + sum(p.size for pieces in looked_up for p in pieces),
            "bytes_total": sum(piece.size for piece in events)
            + sum(p.size for pieces in rights for p in pieces),
            "chunks_read": len(read) + sum(len(pieces) for pieces in looked_up),
            "tasks": len(runs) * plan.n_buckets,
            "task_bytes": memory,
            "budget_bytes": self._site.budget.task_bytes,
            "output_row_bytes": foot.per_row // 2,
            "state_bytes": 0 if plan.base is None else plan.base.bytes,
        }


def is_naive(kind: str) -> bool:
    """Whether a stored type is a time without a zone."""
    return kind == "date" or (kind.startswith("timestamp[") and "," not in kind)


def is_bucketed(table: CompiledTable, lookup: Lookup) -> bool:
    """Whether the right side can have the table's buckets: it is looked up by the table's own keys."""
    return lookup.left_keys == table.keys and _same_types(table.source, lookup)


def _same_types(source: Input, lookup: Lookup) -> bool:
    # integers hash by value, so that widths may differ; compilation refuses other differences
    return all(
        source.columns[a].is_integer() == lookup.right.columns[b].is_integer()
        for a, b in zip(lookup.left_keys, lookup.right_keys, strict=True)
    )


def _upstream(table: CompiledTable) -> set[str]:
    return {
        found.name
        for found in (table.source, *(lookup.right for lookup in table.lookups))
        if found.kind == "table"
    }


def _slices_as_pieces(table: CompiledTable, state: TableState) -> list[Piece]:
    found = []
    rows = state.info.rows // max(1, len(state.record["slices"]))
    for label, mark in state.record["slices"].items():
        part = Slice.from_label(label, table.partition)
        timed = part != NULL_SLICE
        first, last = clipped(part, state.record.get("reach")) if timed else (None, None)
        found.append(Piece(f"{table.name}:{mark}", first, last, int(part.holds_timeless), rows, 0))
    return found


class TableBuild:
    """Runs the stages of one table: re-key, compute, collect."""

    def __init__(
        self,
        plan: TablePlan,
        source: Readable,
        rights: list[Readable],
        site: Site,
        checks: tuple[BoundCheck, ...],
    ) -> None:
        self.plan, self.table, self.site, self.checks = plan, plan.table, site, checks
        self.source, self.rights = source, rights
        self.notes = notes_folder(site.scratch, checks)
        self._computed: set[str] = set()
        self.url = site.table_url(plan.table.name)
        self.rows_written = self.quarantined = 0

    def run(self) -> list[tuple[Slice, StagedFile]]:
        """Compute what is missing; returns all files of the computed slices."""
        if self.plan.missing:
            todo = {bucket: self._unfinished(bucket) for bucket in range(self.plan.n_buckets)}
            if any(todo.values()):
                self._compute(todo)
        return self._collect()

    def _unit(self, part: Slice) -> Unit:
        return Unit(part, self.plan.slices[part])

    def _unfinished(self, bucket: int) -> tuple[Slice, ...]:
        """Missing slices without a finished file from a build that was stopped; all of them for a full rebuild."""
        if self.plan.full:
            return self.plan.missing
        return tuple(
            part
            for part in self.plan.missing
            if self._finished(part, bucket) is None
            or (self.checks and not os.path.exists(note_path(self.notes, self._unit(part), bucket)))
        )

    def _finished(self, part: Slice, bucket: int) -> StagedFile | None:
        """The finished file of a unit; one that a power cut damaged is as good as none, and is written again."""
        try:
            return find_staged(self.url, unit_path(self.table, self._unit(part), bucket))
        except CorruptionError:
            return None

    def _compute(self, todo: dict[int, tuple[Slice, ...]]) -> None:
        events, counts = self._rekey(
            self.source,
            self.table.source,
            columns_needed(self.table),
            self.table.keys,
            self.plan.n_buckets,
            self.table.lookback_us,
            self.plan.base,
        )
        sides = []
        for lookup, right in zip(self.table.lookups, self.rights, strict=True):
            bucketed = is_bucketed(self.table, lookup)
            keys, buckets = (lookup.right_keys, self.plan.n_buckets) if bucketed else (lookup.right_keys, 1)
            manifest, _ = self._rekey(right, lookup.right, lookup.needed, keys, buckets, lookup.reach_us)
            sides.append(Side(manifest, bucketed))
        tasks = list(self._run_tasks(todo, events, tuple(sides), counts))
        self._computed = {
            unit_path(self.table, self._unit(part), bucket)
            for bucket, parts in todo.items()
            for part in parts
        }
        stage = f"{self.table.name}: compute"
        self.site.progress.stage(stage, len(tasks))

        def done(_: Task, written: Written) -> None:
            self.rows_written += written.rows
            self.quarantined += written.quarantined
            self.site.progress.advance(stage, rows=written.rows, bytes=written.size)

        run_tasks(self.site.executor, tasks, done)
        drop_old_states(self.plan, self.source.pieces(), self.url)

    def _rekey(
        self,
        readable: Readable,
        found: Input,
        columns: tuple[str, ...],
        keys: tuple[str, ...],
        n_buckets: int,
        reach: int | None,
        base: Base | None = None,
    ) -> tuple[str, list[int]]:
        """Make sure that the exchange files of what is needed are there; returns their manifest and rows by bucket."""
        job = Rekey(
            readable.reader, columns, keys, n_buckets, os.path.join(self.site.scratch, "exchange"), found.time
        )
        needed = {piece.id for piece in needed_pieces(self.plan, readable.pieces(), reach, base)}
        chunks = [chunk for chunk in readable.chunks if readable.drop_name(chunk) in needed]
        paths = {chunk.id: job.path(chunk, readable.drops.get(chunk.id, "")) for chunk in chunks}
        stage = f"{self.table.name}: re-key {found.name}"
        self.site.progress.stage(stage, len(chunks))
        tasks = [
            Task(
                os.path.basename(paths[chunk.id]),
                rekey,
                (job, chunk, paths[chunk.id], readable.drops.get(chunk.id)),
                f"{stage}, {_file_of(chunk)}",
            )
            for chunk in chunks
        ]
        counts = [0] * n_buckets
        run_tasks(
            self.site.executor,
            tasks,
            lambda _, handle: self.site.progress.advance(stage, rows=handle.rows, bytes=handle.size),
        )
        for chunk in chunks:
            for bucket, rows in enumerate(bucket_rows(paths[chunk.id]).tolist()):
                counts[bucket] += rows
        entries = sorted((paths[c.id], c.min_us, c.max_us, c.null_times > 0) for c in chunks)
        return write_manifest(self.site.scratch, [(e[0], e[1], e[2], e[3]) for e in entries]), counts

    def _run_tasks(
        self, todo: dict[int, tuple[Slice, ...]], events: str, sides: tuple[Side, ...], counts: list[int]
    ) -> Iterator[Task]:
        sizes = RunSizes.of(
            self.table,
            self.source.pieces(),
            self._footprint(),
            self.plan.missing,
            self.plan.n_buckets,
            self.site.budget,
            base=self.plan.base,
        )
        total = max(1, sum(counts))
        for bucket, parts in todo.items():
            for run in sizes.runs(parts, counts[bucket] / total):
                units = tuple(self._unit(part) for part in run)
                job = Run(
                    self.table,
                    self.url,
                    bucket,
                    units,
                    events,
                    sides,
                    self.plan.first_tick,
                    self.plan.last_tick,
                    self.checks,
                    self.notes,
                    self.plan.base,
                    self.plan.states,
                )
                label = f"{self.table.name}, bucket {bucket}, {run[0].label} … {run[-1].label}"
                yield Task(f"{units[0].fingerprint}-{bucket}-{len(units)}", compute_run, (job,), label)

    def _footprint(self) -> Footprint:
        size = 0
        for lookup, right in zip(self.table.lookups, self.rights, strict=True):
            share = self.plan.n_buckets if is_bucketed(self.table, lookup) else 1
            size += lookup_bytes(lookup, right.pieces()) // share
        return footprint(self.table, columns_needed(self.table), size)

    def _collect(self) -> list[tuple[Slice, StagedFile]]:
        found = []
        for part in self.plan.missing:
            for bucket in range(self.plan.n_buckets):
                staged = find_staged(self.url, unit_path(self.table, self._unit(part), bucket))
                if staged is not None:
                    found.append((part, staged))
        seen = sum(staged.rows for _, staged in found if staged.path in self._computed)
        if seen != self.rows_written:
            raise TableError(
                f"{self.url}: tasks wrote {self.rows_written} rows, but {seen} are there. Nothing was published. "
                "Do all workers and this process see the same store? A path must be a disk that they share."
            )
        return found


def _file_of(chunk: Any) -> str:
    return str(getattr(chunk.file, "path", chunk.file))


def table_output(
    plan: TablePlan, state: TableState | None, new: list[tuple[Slice, StagedFile]], site: Site, found: Input
) -> Readable:
    """All files of a table after its build, as the input of others."""
    kept = set(plan.reused)
    files = list(new)
    if state is not None:
        for (label, _), staged in state.units.items():
            name = slice_label(label, plan.table.partition)
            if name in kept:
                files.append((Slice.from_label(name, plan.table.partition), staged))
    return readable_table(plan.table, site.table_url(plan.table.name), found, files)
