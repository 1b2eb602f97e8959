"""Run the stages of one table: re-key, compute, collect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from featureflow.contracts.cube import Cube
from featureflow.core.errors import TableError
from featureflow.core.storage import is_local
from featureflow.execute.checks.checking import BoundCheck, notes_folder
from featureflow.execute.exchange.rekeying import rekey_chunks
from featureflow.execute.inputs import Readable, readable_table
from featureflow.execute.publish import slice_label
from featureflow.execute.resume import drop_old_states
from featureflow.execute.site import Site
from featureflow.execute.sizing import (
    Footprint,
    RunSizes,
    footprint,
    lookup_bytes,
)
from featureflow.execute.stages import Base, TablePlan, needed_pieces
from featureflow.execute.task import Task
from featureflow.execute.windows.run import (
    GridSide,
    Room,
    Run,
    Side,
    Unit,
    Written,
)
from featureflow.execute.windows.window_task import compute_run, note_name, unit_path
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import CompiledTable, Input, Lookup
from featureflow.plan.required import columns_needed
from featureflow.plan.slices import Slice
from featureflow.tables.parquet_files import StagedFile
from featureflow.tables.staged import find_finished, sizes_of
from featureflow.tables.state import TableState


class TableBuild:
    """Runs the stages of one table: re-key, compute, collect."""

    def __init__(
        self,
        plan: TablePlan,
        source: Readable,
        rights: list[Readable | Cube],
        site: Site,
        checks: tuple[BoundCheck, ...],
    ) -> None:
        self.plan, self.table, self.site, self.checks = plan, plan.table, site, checks
        self.source, self.rights = source, rights
        self.notes = notes_folder(site.board, checks)
        self._files: dict[tuple[Slice, int], StagedFile] = {}
        self.url = site.table_url(plan.table.name)
        self.rows_written = self.quarantined = 0

    def run(self) -> list[tuple[Slice, StagedFile]]:
        """Compute what is missing; returns all files of the computed slices."""
        if self.plan.missing:
            todo = self._todo()
            if any(todo.values()):
                self._compute(todo)
        return self._collect()

    def _unit(self, part: Slice) -> Unit:
        return Unit(part, self.plan.slices[part])

    def _path(self, part: Slice, bucket: int) -> str:
        return unit_path(self.table, self._unit(part), bucket)

    def _todo(self) -> dict[int, tuple[Slice, ...]]:
        """Missing slices by bucket, without what a build that was stopped has finished; all for a full rebuild."""
        buckets, missing = range(self.plan.n_buckets), self.plan.missing
        if self.plan.full:
            return dict.fromkeys(buckets, missing)
        paths = {(part, bucket): self._path(part, bucket) for part in missing for bucket in buckets}
        finished = find_finished(self.url, paths.values())
        noted = self._noted(unit for unit, path in paths.items() if path in finished)
        for unit, path in paths.items():
            if path in finished and (not self.checks or unit in noted):
                self._files[unit] = finished[path]
        return {
            bucket: tuple(part for part in missing if (part, bucket) not in self._files) for bucket in buckets
        }

    def _noted(self, units: Iterable[tuple[Slice, int]]) -> set[tuple[Slice, int]]:
        """Which units have a note of what their checks found."""
        if not self.checks:
            return set()
        names = {note_name(self._unit(part), bucket): (part, bucket) for part, bucket in units}
        return {names[name] for name in sizes_of(self.notes, names)}

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
        pairs = zip(self.table.lookups, self.rights, strict=True)
        sides = tuple(self._side(lookup, right) for lookup, right in pairs)
        tasks = list(self._run_tasks(todo, events, sides, counts))
        stage = f"{self.table.name}: compute"
        self.site.progress.stage(stage, len(tasks))

        def done(task: Task, written: Written) -> None:
            run: Run = task.arguments[0]
            slices = {unit.fingerprint: unit.slice for unit in run.units}
            self._files.update(((slices[file.fingerprint], run.bucket), file) for file in written.files)
            self.rows_written += written.rows
            self.quarantined += written.quarantined
            self.site.progress.advance(stage, rows=written.rows, bytes=written.size)

        self.site.run(tasks, done)
        drop_old_states(self.plan, self.source.pieces(), self.url)

    def _side(self, lookup: Lookup | GridLookup, right: Readable | Cube) -> Side | GridSide:
        if isinstance(lookup, Lookup) and isinstance(right, Readable):
            bucketed = is_bucketed(self.table, lookup)
            n_buckets = self.plan.n_buckets if bucketed else 1
            manifest, _ = self._rekey(
                right, lookup.right, lookup.needed, lookup.right_keys, n_buckets, lookup.reach_us
            )
            return Side(manifest, bucketed)
        from featureflow.execute.grids.zone_rows import gridded

        return GridSide(gridded(right))

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
        needed = {piece.id for piece in needed_pieces(self.plan, readable.pieces(), reach, base)}
        chunks = [chunk for chunk in readable.chunks if readable.drop_name(chunk) in needed]
        return rekey_chunks(self.site, self.table.name, readable, found, columns, keys, n_buckets, chunks)

    def _run_tasks(
        self,
        todo: dict[int, tuple[Slice, ...]],
        events: str,
        sides: tuple[Side | GridSide, ...],
        counts: list[int],
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
                    self._room(sizes, run, counts[bucket], total),
                )
                label = f"{self.table.name}: compute, bucket {bucket}, {run[0].label} … {run[-1].label}"
                yield Task(f"{units[0].fingerprint}-{bucket}-{len(units)}", compute_run, (job,), label)

    def _room(self, sizes: RunSizes, run: tuple[Slice, ...], rows: int, total: int) -> Room:
        """What a run of a bucket with so many of all rows may use."""
        may = self.site.budget.task_bytes
        foot = replace(
            sizes.foot, fixed=min(sizes.foot.fixed, may // 2)
        )  # a piece looks up its own keys only
        kept = 0 if self.plan.base is None else self.plan.base.rows
        # of many buckets only the largest are known, the others about
        expected = sizes.task_bytes(run[0], run[-1], rows / total)
        return Room(may, foot, int(rows * 1.2) + kept, expected, self.site.scratch)

    def _footprint(self) -> Footprint:
        size = 0
        for lookup, right in zip(self.table.lookups, self.rights, strict=True):
            if isinstance(lookup, Lookup) and isinstance(right, Readable):
                share = self.plan.n_buckets if is_bucketed(self.table, lookup) else 1
                size += lookup_bytes(lookup, right.pieces()) // share
        return footprint(self.table, columns_needed(self.table), size)

    def _collect(self) -> list[tuple[Slice, StagedFile]]:
        found = [
            (part, staged)
            for part in self.plan.missing
            for bucket in range(self.plan.n_buckets)
            if (staged := self._files.get((part, bucket))) is not None
        ]
        if not is_local(self.url):  # all see the same object store
            return found
        there = sizes_of(self.url, (staged.path for _, staged in found))
        if len(there) < len(found):
            raise TableError(
                f"{self.url}: tasks wrote {len(found)} files, but {len(there)} are there. Nothing was published. "
                "Do all workers and this process see the same store? A path must be a disk that they share."
            )
        return found


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


def is_bucketed(table: CompiledTable, lookup: Lookup) -> bool:
    """Whether the right side can have the table's buckets: it is looked up by the table's own keys."""
    return lookup.left_keys == table.keys and _same_types(table.source, lookup)


def _same_types(source: Input, lookup: Lookup) -> bool:
    # integers hash by value, so that widths may differ; compilation refuses other differences
    return all(
        source.columns[a].is_integer() == lookup.right.columns[b].is_integer()
        for a, b in zip(lookup.left_keys, lookup.right_keys, strict=True)
    )
