"""Work out what a build will do, table by table: the plan that is printed is the one that runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from featureflow.core.errors import PlanError
from featureflow.execute.build_plan import BuildPlan, PlannedGrids
from featureflow.execute.checks.checking import bind
from featureflow.execute.checks.uniqueness import drop_duplicates, put_aside_repeated
from featureflow.execute.exchange.rekeying import rekey_job, say_what_is_whole
from featureflow.execute.inputs import Readable, readable_source
from featureflow.execute.resume import with_states
from featureflow.execute.site import Site
from featureflow.execute.sizing import (
    Footprint,
    RunSizes,
    choose_buckets,
    footprint,
    largest_unit,
    lookup_bytes,
    refuse_small_budget,
)
from featureflow.execute.stages import Current, Piece, TablePlan, clipped, needed_pieces, plan_table
from featureflow.execute.table_build import is_bucketed
from featureflow.plan.compile_dataset import spine_name
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import CompiledTable, Lookup
from featureflow.plan.required import columns_needed
from featureflow.plan.scan import ScannedSource
from featureflow.plan.slices import NULL_SLICE, Slice
from featureflow.spec.load import LoadedProject
from featureflow.spec.models import Project, Source
from featureflow.tables.state import TableState, current_state


class Planner:
    """Works out a build plan; asks the store what is there, reads footers, runs nothing but duplicate searches.

    Grids are planned before: tables can build on grids of zones.
    """

    def __init__(
        self,
        loaded: LoadedProject,
        compiled: dict[str, CompiledTable],
        scanned: dict[str, ScannedSource],
        site: Site,
        grids: PlannedGrids | None = None,
    ) -> None:
        self._project, self._compiled, self._site = loaded.project, compiled, site
        self._grids = PlannedGrids() if grids is None else grids
        self._specs = source_specs(loaded.project)
        self._source_checks = {
            name: bind(self._specs[name].each_check, f"sources.{name}") for name in scanned
        }
        self._table_checks = {
            name: bind(table.checks, f"features.{name}") for name, table in compiled.items()
        }
        self._sources = {name: self._readable(name, found) for name, found in scanned.items()}
        self._pieces: dict[str, list[Piece]] = {name: found.pieces() for name, found in self._sources.items()}
        self._pieces |= self._grids.pieces
        self._states: dict[str, TableState | None] = {}
        self._whole: list[str] = []  # what was said of parts that are read as a whole

    def _readable(self, name: str, found: ScannedSource) -> Readable:
        readable = readable_source(found, self._source_checks[name])
        unique = self._specs[name].deduplicate
        site = self._site
        if unique:
            readable = drop_duplicates(site, readable, unique)
        for check in self._source_checks[name]:
            if check.quarantines and check.spec.kind == "unique":
                readable = put_aside_repeated(site, readable, check)
        return readable

    def plan(
        self,
        names: list[str],
        *,
        full: bool,
        only: tuple[int, int] | None,
        read: Collection[str] = (),
    ) -> BuildPlan:
        """Plan the named tables; tables that they build on but that are not named are taken as published.

        So are those in ``read``, whose rows something else of the build reads.

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
            elif name in read or any(name in _upstream(self._compiled[other]) for other in names):
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
            [*self._warnings(), *self._grids.warnings],
            self._pieces,
            grids=self._grids.builds,
            cubes=self._grids.cubes,
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
                    f"{self._specs[name].timezone}."
                )
        return [*found, *self._whole]

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
        rights = [self._right(lookup) for lookup in table.lookups]
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
        buckets = choose_buckets(table, events, foot, self._site.budget, self._site.executor.capacity)
        plan = plan_table(table, events, rights, current, n_buckets=buckets, full=full, only=only)
        plan = with_states(plan, events, self._site.table_url(table.name))
        foot = self._footprint(table, rights, plan.n_buckets)
        self._look_for_whole_parts(plan)
        return replace(plan, estimate=self._estimate(plan, events, rights, foot))

    def _right(self, lookup: Lookup | GridLookup) -> list[Piece]:
        """Pieces of what a table looks up; of a grid those that this look-up can see, by the times of rows."""
        if isinstance(lookup, Lookup):
            return self._pieces[lookup.right.name]
        from featureflow.execute.grids.sampling import sampled_pieces

        return sampled_pieces(self._grids.cube(lookup.right.name), lookup)

    def _look_for_whole_parts(self, plan: TablePlan) -> None:
        """Warn of what a task must read as a whole and may be too large for it; refuse what surely is."""
        table = plan.table
        inputs = [
            (table.source, columns_needed(table), table.keys, table.lookback_us, plan.base),
            *(
                (each.right, each.needed, each.right_keys, each.reach_us, None)
                for each in table.lookups
                if isinstance(each, Lookup)
            ),
        ]
        for found, columns, keys, reach, base in inputs:
            readable = self._sources.get(found.name) if plan.missing else None
            if readable is None:
                continue
            needed = {piece.id for piece in needed_pieces(plan, self._pieces[found.name], reach, base)}
            chunks = [chunk for chunk in readable.chunks if readable.drop_name(chunk) in needed]
            job = rekey_job(self._site, readable, found, columns, keys, plan.n_buckets)
            said = say_what_is_whole(self._site, job, readable, found, chunks)
            if said and said not in self._whole:
                self._whole.append(said)

    def _footprint(self, table: CompiledTable, rights: list[list[Piece]], n_buckets: int) -> Footprint:
        size = sum(
            lookup_bytes(lookup, pieces) // (n_buckets if is_bucketed(table, lookup) else 1)
            for lookup, pieces in zip(table.lookups, rights, strict=True)
            if isinstance(lookup, Lookup)
        )
        return footprint(table, columns_needed(table), size)

    def _estimate(
        self, plan: TablePlan, events: list[Piece], rights: list[list[Piece]], foot: Footprint
    ) -> dict[str, int]:
        sizes = RunSizes.of(
            plan.table, events, foot, plan.missing, plan.n_buckets, self._site.budget, base=plan.base
        )
        if plan.missing:
            refuse_small_budget(self._site.budget)
        memory = largest_unit(sizes, plan.missing, plan.n_buckets) if plan.missing else 0
        runs = sizes.runs(plan.missing, 1 / plan.n_buckets)
        each = [sizes.task_bytes(run[0], run[-1], 1 / plan.n_buckets) for run in runs]
        allowed = self._site.budget.task_bytes
        spilled = sum(size for size in each if size > allowed) * plan.n_buckets
        memory = min(max([memory, *each]), allowed)
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
            "budget_bytes": allowed,
            "spilled_bytes": spilled,
            "output_row_bytes": foot.output,
            "state_bytes": 0 if plan.base is None else plan.base.bytes,
        }


def source_specs(project: Project) -> dict[str, Source]:
    """Every source of a project, and the spines that are files, by the name of the input behind them."""
    spines = {
        spine_name(name): dataset.spine.files
        for name, dataset in project.datasets.items()
        if dataset.spine.files is not None
    }
    return {**project.sources, **spines}


def is_naive(kind: str) -> bool:
    """Whether a stored type is a time without a zone."""
    return kind == "date" or (kind.startswith("timestamp[") and "," not in kind)


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
