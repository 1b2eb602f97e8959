"""What a build of one dataset will do, worked out before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from featureflow.core.errors import PlanError
from featureflow.core.fingerprints import fingerprint
from featureflow.datasets.patch_record import input_mark
from featureflow.datasets.patches import BOX_BYTES
from featureflow.execute.site import Site
from featureflow.execute.sizing import (
    SCRATCH_BYTES,
    WORTH_SPLITTING_ROWS,
    frame_row_bytes,
    row_bytes,
)
from featureflow.execute.stages import Change, Current, Piece, TablePlan
from featureflow.plan.dataset_nodes import CompiledDataset, WindowJoin
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import CompiledTable, Lookup
from featureflow.plan.slices import Slice, slice_at
from featureflow.tables.state import TableState

#: Part of every dataset's name: raise it when the same definition and input give other rows than before.
ENGINE = 1
#: A piece of a dataset, which becomes one file, has about this many bytes in memory. A constant, because a rebuild
#: on another machine must give the same files.
PIECE_BYTES = 32 << 20
MAX_PIECE_ROWS = 262_144
MIN_PIECE_ROWS = 4_096
#: A join is cut by time above this, which is counted with all columns at once: about twice what a task takes.
TASK_BYTES = 1100 << 20
#: The one slice of a dataset, which is not cut by time: its rows are in the spine's order.
ALL: Slice = slice_at(0, "none")


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """One join: how many buckets both sides get, and what a task holds in memory."""

    join: WindowJoin | Lookup | GridLookup
    n_buckets: int
    event_bytes: int
    row_bytes: int
    fixed_bytes: int = 0

    def task_bytes(self, events: int, rows: int) -> int:
        """Peak of a task with so many rows of the other side and of the spine."""
        return events * self.event_bytes + rows * self.row_bytes + self.fixed_bytes


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """What will happen to one dataset. ``mark`` is the fingerprint of everything that its rows come from."""

    dataset: CompiledDataset
    mark: str
    change: Change
    reason: str
    joins: tuple[JoinPlan, ...]
    piece_rows: int
    state: TableState | None
    inputs: dict[str, str]
    estimate: dict[str, int] = field(default_factory=dict)

    @property
    def does_something(self) -> bool:
        """Whether a new version will be published."""
        return self.change != "unchanged"

    def as_table(self, schema: pa.Schema | None = None, n_pieces: int = 1) -> TablePlan:
        """The same as the plan of a table in one slice, for what treats both alike: publishing, checks, display."""
        dataset, state = self.dataset, self.state
        table = CompiledTable(
            name=dataset.name,
            source=dataset.spine,
            keys=dataset.keys,
            time=dataset.time,
            grid=None,
            keep=(),
            features=(),
            lookups=(),
            derived=(),
            partition="none",
            checks=dataset.spec.each_check,
            schema=dataset.schema if schema is None else schema,
            lineage=dataset.lineage,
            definition=dataset.definition,
            definition_hash=dataset.definition_hash,
        )
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
        changed = self.does_something
        return TablePlan(
            table=table,
            change=self.change,
            reason=self.reason,
            n_buckets=n_pieces,
            slices={ALL: self.mark},
            missing=(ALL,) if changed else (),
            reused=() if changed else (ALL.label,),
            dropped=(),
            current=current,
            first_tick=None,
            last_tick=None,
            estimate=dict(self.estimate),
        )


def plan_dataset(
    dataset: CompiledDataset,
    pieces: Mapping[str, list[Piece]],
    buckets: Mapping[str, int],
    state: TableState | None,
    site: Site,
    *,
    full: bool = False,
) -> DatasetPlan:
    """Decide whether a dataset has to be made again, and how its joins are cut.

    Parameters
    ----------
    pieces
        Named parts of every input that the dataset reads, by the input's name.
    buckets
        Buckets of the feature tables, by name: a dataset that takes the same ones finds their exchange files.
    state
        The published version; None if there is none.

    Raises
    ------
    PlanError
        If a task would need more memory than it may use.
    """
    spine, patches = pieces[dataset.spine.name], dataset.patches
    inputs = {dataset.spine.name: fingerprint([piece.id for piece in spine])}  # its order is the dataset's
    for join in dataset.joins:
        found = fingerprint(sorted(piece.id for piece in pieces[join.right.name]))
        inputs.setdefault(join.right.name, found)
    for name in patches.inputs if patches else ():
        if patches and patches.label_input is not None and name == patches.label_input.name:
            inputs[name] = input_mark(patches.label_input)
        else:
            inputs[name] = fingerprint(sorted(piece.id for piece in pieces[name]))
    mark = fingerprint(
        {
            "engine": ENGINE,
            "definition": dataset.definition_hash,
            "schema": [[f.name, str(f.type)] for f in dataset.schema],
            "inputs": inputs,
        }
    )
    change, reason = _explain(dataset, state, mark, full=full)
    rows = patches.layout.n_patches if patches else sum(piece.rows for piece in spine)
    joins = tuple(
        _plan_join(dataset, use, join, pieces, rows, buckets, site) for use, join in _owned(dataset)
    )
    piece_rows = rows_of_piece(dataset.schema)
    estimate = _estimate(joins, pieces, dataset, rows, piece_rows, site)
    return DatasetPlan(dataset, mark, change, reason, joins, piece_rows, state, inputs, estimate)


def tables_read(dataset: CompiledDataset) -> set[str]:
    """Feature tables whose rows the dataset reads; those evaluated at its own times are not among them."""
    return {one.name for one in (dataset.spine, *(j.right for j in dataset.joins)) if one.kind == "table"}


def rows_of_piece(schema: pa.Schema) -> int:
    """Rows of one file of a dataset: a function of its columns alone."""
    width = sum(row_bytes(column.type) for column in schema)
    return max(MIN_PIECE_ROWS, min(MAX_PIECE_ROWS, PIECE_BYTES // max(1, width)))


def _explain(
    dataset: CompiledDataset, state: TableState | None, mark: str, *, full: bool
) -> tuple[Change, str]:
    if state is None:
        return "new", "no version yet"
    if state.definition_hash != dataset.definition_hash:
        return (
            "definition changed",
            f"definition {state.definition_hash[:8]} of version {state.version} is another",
        )
    if full:
        return "full rebuild", "--full was given"
    if state.record["slices"] == {ALL.label: mark}:
        return "unchanged", f"version {state.version} has it all"
    return "new data", f"its inputs changed since version {state.version}"


def _owned(dataset: CompiledDataset) -> list[tuple[str | None, WindowJoin | Lookup | GridLookup]]:
    """Each join of the dataset, with the table whose windows it evaluates."""
    found: list[tuple[str | None, WindowJoin | Lookup | GridLookup]] = []
    for use in dataset.uses:
        found += [(use.table, use.windows)] if use.windows else []
        found += [(None, lookup) for lookup in use.lookups]
    found += [(None, lookup) for lookup in dataset.lookups]
    found += [(None, label.windows) for label in dataset.labels if label.windows]
    return found


def _plan_join(
    dataset: CompiledDataset,
    table: str | None,
    join: WindowJoin | Lookup | GridLookup,
    pieces: Mapping[str, list[Piece]],
    rows: int,
    buckets: Mapping[str, int],
    site: Site,
) -> JoinPlan:
    if isinstance(join, GridLookup):
        return _plan_points(dataset, join, rows, site)
    events = sum(piece.rows for piece in pieces[join.right.name])
    if isinstance(join, WindowJoin):
        series = {f.series for f in join.features if f.series.column is not None}
        per_event = 3 * frame_row_bytes(join.right.columns, join.needed) + 40 + SCRATCH_BYTES * len(series)
        output = sum(row_bytes(feature.type) for feature in join.features)
    else:
        per_event = 3 * frame_row_bytes(join.right.columns, join.needed) + 40
        output = frame_row_bytes(join.right.columns, tuple(name for name, _ in join.columns))
    per_row = 3 * frame_row_bytes(dataset.spine.columns, join.left_keys) + 64 + 2 * output
    plan = JoinPlan(join, 1, per_event, per_row)
    limit = min(TASK_BYTES, site.budget.task_bytes)
    shared = buckets.get(table or "")
    if shared and plan.task_bytes(events // shared, rows // shared) <= limit:
        return replace(plan, n_buckets=shared)
    slots = site.executor.capacity
    wanted = -(-plan.task_bytes(events, rows) // limit)
    if events + rows > WORTH_SPLITTING_ROWS:
        wanted = max(wanted, slots)
    return replace(plan, n_buckets=int(-(-wanted // slots) * slots) if wanted > 1 else 1)


def _plan_points(dataset: CompiledDataset, join: GridLookup, rows: int, site: Site) -> JoinPlan:
    """Buckets of a look-up in a grid: a row takes its positions and values at every corner, a task one chunk."""
    per_row = 3 * frame_row_bytes(dataset.spine.columns, join.left_keys) + 64 + join.row_bytes
    plan = JoinPlan(join, 1, 0, per_row, 3 * join.chunk_bytes)
    limit = max(min(TASK_BYTES, site.budget.task_bytes) - plan.fixed_bytes, 1)
    wanted = -(-rows * per_row // limit)
    if rows > WORTH_SPLITTING_ROWS:
        wanted = max(wanted, site.executor.capacity)
    return replace(plan, n_buckets=min(wanted, max(rows, 1)) if wanted > 1 else 1)


def _spine_tasks(dataset: CompiledDataset, pieces: Mapping[str, list[Piece]]) -> int:
    """Tasks that read the spine: one for each of its pieces; of patches one for each box, and one for their index."""
    patches = dataset.patches
    if patches is None:
        return len(pieces[dataset.spine.name])
    return 1 + -(-patches.layout.n_patches * patches.bytes // BOX_BYTES)


def _estimate(
    joins: tuple[JoinPlan, ...],
    pieces: Mapping[str, list[Piece]],
    dataset: CompiledDataset,
    rows: int,
    piece_rows: int,
    site: Site,
) -> dict[str, int]:
    width = sum(row_bytes(column.type) for column in dataset.schema)
    needed = 6 * min(rows, piece_rows) * width
    read = list(pieces[dataset.spine.name])
    for plan in joins:
        events = pieces[plan.join.right.name]
        read += events
        n_events = 0 if isinstance(plan.join, GridLookup) else sum(piece.rows for piece in events)
        needed = max(needed, plan.task_bytes(n_events // plan.n_buckets, rows // plan.n_buckets))
    if needed > site.budget.task_bytes:
        raise PlanError(
            f"datasets.{dataset.name}: a task needs {needed / 1e9:.2f} GB; its budget is "
            f"{site.budget.task_bytes / 1e9:.2f} GB ({site.budget.limit_bytes / 1e9:.1f} GB for "
            f"{site.budget.threads} threads). Raise --memory or lower --workers."
        )
    unique = {piece.id: piece for piece in read}.values()
    return {
        "rows": rows,
        "rows_computed": rows,
        "bytes_read": sum(piece.size for piece in unique),
        "bytes_total": sum(piece.size for piece in unique),
        "chunks_read": len(unique),
        "tasks": _spine_tasks(dataset, pieces)
        + sum(plan.n_buckets for plan in joins)
        + 2 * max(1, -(-rows // piece_rows)),
        "task_bytes": needed,
        "budget_bytes": site.budget.task_bytes,
        "output_row_bytes": width,
        "state_bytes": 0,
    }
