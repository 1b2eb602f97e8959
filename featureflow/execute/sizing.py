"""How many buckets, how long a run, how much memory: decided from bytes before anything starts.

The number of buckets follows the bytes: enough that a task fits its share of the memory, few enough that the files of
a slice do not become crumbs. Where both can't be had, a task takes a shorter run of slices and reads its look-back
again.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

from featureflow.core.errors import PlanError
from featureflow.execute.stages import Base, Piece, PieceIndex
from featureflow.plan.nodes import CompiledTable, Lookup
from featureflow.plan.slices import NULL_SLICE, Slice

#: A slice's files are not made smaller than this (bytes in memory) by more buckets.
CRUMB_BYTES = 1 << 20
#: A task is not made larger than this even if memory allows: it would leave the other threads idle at the end.
TASK_BYTES = 1100 << 20
#: Interpreter, libraries and allocator slack of a process: one that finds nothing to build peaks at 243 MiB.
BASELINE_BYTES = 300 << 20
MAX_BUCKETS = 4096
#: Below this a second task costs more than it wins.
WORTH_SPLITTING_ROWS = 100_000
_BIN_BYTES = 16  # one (lo, hi) pair
SCRATCH_BYTES = 112  # per event and numeric column: values, validity and exact prefix sums


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory that the tasks of one worker process share."""

    limit_bytes: int
    threads: int

    @property
    def task_bytes(self) -> int:
        """What one task may use."""
        return max(64 << 20, (self.limit_bytes - BASELINE_BYTES) // self.threads)


def default_memory_bytes() -> int:
    """Give the memory that a build may use: 60 % of what this machine (or its control group) has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                total = min(total, int(file.read()))
        except (OSError, ValueError):
            continue
    return int(total * 0.6)


def row_bytes(kind: pa.DataType) -> int:
    """Estimate the bytes of a value in memory; variable-length ones are taken for 24 bytes."""
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:
        return 24


def frame_row_bytes(columns: dict[str, pl.DataType], names: tuple[str, ...]) -> int:
    """Estimate the bytes of a row of these columns in memory."""
    empty = pl.DataFrame(schema={name: columns[name] for name in names}).to_arrow()
    return sum(row_bytes(field.type) for field in empty.schema)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a table's task holds in memory, by row."""

    per_event: int
    per_row: int
    fixed: int

    def task_bytes(self, events: int, rows: int) -> int:
        """Peak of a task with so many events (look-back included) and output rows."""
        return self.fixed + events * self.per_event + rows * self.per_row


def footprint(table: CompiledTable, columns: tuple[str, ...], rights_bytes: int) -> Footprint:
    """Estimate a task's memory; ``rights_bytes`` is the decoded size of the look-ups' right sides in one task."""
    numeric = {feature.series for feature in table.features if feature.series.column is not None}
    events = 3 * frame_row_bytes(table.source.columns, columns) + 40 + SCRATCH_BYTES * len(numeric)
    output = sum(row_bytes(field.type) for field in table.schema)
    rows = _BIN_BYTES * (len(table.windows) + 1) + 2 * output
    return Footprint(events, rows, 3 * rights_bytes)


def lookup_bytes(lookup: Lookup, pieces: list[Piece]) -> int:
    """Decoded size of a look-up's right side."""
    return sum(piece.rows for piece in pieces) * frame_row_bytes(lookup.right.columns, lookup.needed)


def choose_buckets(
    table: CompiledTable, events: list[Piece], foot: Footprint, budget: Budget, slots: int
) -> int:
    """Choose the number of buckets for a table's first version."""
    rows = sum(piece.rows for piece in events)
    index = PieceIndex(events)
    n_slices = max(1, _n_slices(table, index))
    output = sum(row_bytes(field.type) for field in table.schema)
    target = min(TASK_BYTES, budget.task_bytes)
    by_memory = -(-(rows * (foot.per_event + foot.per_row)) // target)
    by_crumbs = rows * output // n_slices // CRUMB_BYTES
    wanted = max(by_memory, slots if rows > WORTH_SPLITTING_ROWS else 1)
    chosen = max(1, min(wanted, max(1, by_crumbs), MAX_BUCKETS))
    return int(-(-chosen // slots) * slots if chosen > 1 else 1)  # a last task alone would leave threads idle


def _n_slices(table: CompiledTable, index: PieceIndex) -> int:
    if not index.timed:
        return 1
    days = ((index.latest_us or 0) - (index.timed[0].min_us or 0)) / 86_400_000_000 + 1
    return int({"day": days, "month": days / 30, "year": days / 365, "none": 1}[table.partition]) or 1


class RowEstimate:
    """Estimated rows of an input before any instant, as if a piece's rows were spread evenly over its time."""

    def __init__(self, pieces: list[Piece]) -> None:
        timed = [
            (p.min_us, p.max_us + 1, p.rows) for p in pieces if p.min_us is not None and p.max_us is not None
        ]
        starts, ends, rows = (
            (np.array(column, np.int64) for column in zip(*timed, strict=True))
            if timed
            else (np.empty(0, np.int64),) * 3
        )
        rates = rows / (ends - starts)  # of int64: as floats two instants of the year 9999 are one
        points = np.concatenate((starts, ends))
        order = np.argsort(points, kind="stable")
        sorted_points = points[order]
        slope = np.cumsum(np.concatenate((rates, -rates))[order])
        # lists: one lookup in an array costs its whole conversion, and there is one for each slice
        self._points: list[int] = sorted_points.tolist()
        self._rows: list[float] = (
            [0.0, *np.cumsum(slope[:-1] * np.diff(sorted_points)).tolist()] if timed else []
        )

    def between(self, first_us: int | None, end_us: int) -> int:
        """Rows with ``first <= time < end``."""
        if len(self._points) == 0:
            return 0
        low = 0.0 if first_us is None else self._before(first_us)
        return max(0, round(self._before(end_us) - low))

    def _before(self, us: int) -> float:
        points, rows = self._points, self._rows
        after = bisect_right(points, us)
        if after == 0:
            return 0.0
        if after == len(points):
            return rows[-1]
        share = (us - points[after - 1]) / (points[after] - points[after - 1])
        return rows[after - 1] + share * (rows[after] - rows[after - 1])


@dataclass(frozen=True, slots=True)
class RunSizes:
    """Cuts a bucket's missing slices into runs that fit a task."""

    table: CompiledTable
    estimate: RowEstimate
    foot: Footprint
    limit_bytes: int
    base: Base | None = None

    def task_bytes(self, first: Slice, last: Slice, share: float) -> int:
        """Projected memory of a run of one bucket that holds ``share`` of all rows."""
        reach = self.table.lookback_us
        since = None if reach is None else first.start_us - reach
        kept = 0
        if reach is None and self.base is not None:
            since, kept = self.base.before_us, self.base.rows
        events = self.estimate.between(since, last.end_us)
        rows = self.estimate.between(first.start_us, last.end_us)
        return self.foot.task_bytes(int(events * share) + kept, int(rows * share))

    @classmethod
    def of(
        cls,
        table: CompiledTable,
        events: list[Piece],
        foot: Footprint,
        missing: tuple[Slice, ...],
        n_buckets: int,
        budget: Budget,
        *,
        base: Base | None = None,
    ) -> RunSizes:
        """Sizes that fit the memory, and give every thread something to do where buckets alone do not."""
        sizes = cls(table, RowEstimate(events), foot, min(TASK_BYTES, budget.task_bytes), base)
        timed = sorted(part for part in missing if part != NULL_SLICE)
        pieces = -(-budget.threads // n_buckets)
        reach = table.lookback_us
        if pieces < 2 or not timed or reach is None:
            return sizes
        first, last = timed[0], timed[-1]
        # a run reads its look-back again: worth it while that is shorter than the run
        enough = sizes.estimate.between(first.start_us, last.end_us) > WORTH_SPLITTING_ROWS
        if not enough or (last.end_us - first.start_us) // pieces < reach:
            return sizes
        whole = sizes.task_bytes(first, last, 1 / n_buckets)
        return replace(sizes, limit_bytes=min(sizes.limit_bytes, int(whole / pieces * 1.1)))

    def runs(self, missing: tuple[Slice, ...], share: float) -> list[tuple[Slice, ...]]:
        """Cut where the memory would be exceeded, or where the gap is longer than the look-back."""
        reach = self.table.lookback_us
        runs: list[list[Slice]] = []
        for part in sorted(missing):
            last = runs[-1] if runs else None
            fits = (
                last is not None
                and NULL_SLICE not in (part, last[0])
                and (reach is None or part.start_us - last[-1].end_us <= reach)
                and self.task_bytes(last[0], part, share) <= self.limit_bytes
            )
            if fits and last is not None:
                last.append(part)
            else:
                runs.append([part])
        return [tuple(run) for run in runs]


def check_budget(sizes: RunSizes, missing: tuple[Slice, ...], n_buckets: int, budget: Budget) -> int:
    """Project the memory of the largest task that can't be made smaller: one slice of one bucket with its look-back.

    Raises
    ------
    PlanError
        If it is over the budget; carries the numbers and what to change.
    """
    worst, where = sizes.foot.fixed, "its look-ups"
    for part in missing:
        size = sizes.task_bytes(part, part, 1 / n_buckets)
        if part != NULL_SLICE and size > worst:
            worst, where = size, f"slice {part.label}"
    if worst > budget.task_bytes:
        raise PlanError(
            f"features.{sizes.table.name}: a task needs {worst / 1e9:.2f} GB for {where} in {n_buckets} buckets; "
            f"its budget is {budget.task_bytes / 1e9:.2f} GB ({budget.limit_bytes / 1e9:.1f} GB for "
            f"{budget.threads} threads). "
            "Raise --memory, lower --workers, use a smaller `partition:`, shorter windows or a ttl on the look-ups."
        )
    return worst
