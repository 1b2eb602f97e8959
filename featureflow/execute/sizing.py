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
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import CompiledTable, Lookup
from featureflow.plan.slices import NULL_SLICE, Slice

#: A slice's files are not made smaller than this (bytes in memory) by more buckets.
CRUMB_BYTES = 1 << 20
#: A task is not made larger than this even if memory allows: it would leave the other threads idle at the end,
#: and win nothing: 4M rows of 20 aggregates take the same CPU seconds with 600 MB and with 1,100.
TASK_BYTES = 600 << 20
#: Interpreter, libraries, compiled kernels: an idle Dask worker with all of them holds 337 MiB, 153 of them shared.
BASELINE_BYTES = 340 << 20
#: Share of a worker's limit that its process may use: above it Dask begins to spill. Projections are bounds.
WORKER_SHARE = 0.7
MAX_BUCKETS = 4096
#: A run of slices should be so many times longer than the look-back that it reads again.
RUN_LOOKBACKS = 3
_DAYS = {"day": 1, "month": 31, "year": 366}
#: A task with less than this to work with cuts its rows into pieces of no use.
MIN_TASK_BYTES = 48 << 20
#: Where memory asks for more buckets, a slice's files may be so many times smaller than crumbs.
SMALLER_CRUMBS = 4
#: Below this a second task costs more than it wins.
WORTH_SPLITTING_ROWS = 100_000
_BIN_BYTES = 16  # one (lo, hi) pair
SERIES_BYTES = 64  # per event and numeric column: values, validity and exact prefix sums
SCRATCH_BYTES = 112  # the same where all columns of a join are there at once
HELD_BYTES = 32  # per event: code, time, and what sorting leaves
#: What a task really takes above what is counted: pages that the allocator holds, pages of mapped files.
MARGIN = 1.25
#: Of a text before it was seen, where too little would be a mistake.
WIDE_TEXT_BYTES = 400


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory that the tasks of one worker process share.

    ``limit_bytes`` is what they and the process itself may use, ``share`` what part that is of the worker's own limit.
    """

    limit_bytes: int
    threads: int
    share: float = 1.0

    @property
    def task_bytes(self) -> int:
        """What one task may use; a budget with less than `MIN_TASK_BYTES` is refused by `refuse_small_budget`."""
        return max(MIN_TASK_BYTES, (self.limit_bytes - BASELINE_BYTES) // self.threads)

    @property
    def smallest_limit(self) -> int:
        """The least memory with which so many threads can work."""
        return BASELINE_BYTES + self.threads * MIN_TASK_BYTES


def refuse_small_budget(budget: Budget) -> None:
    """Refuse memory in which the process itself hardly fits.

    Raises
    ------
    PlanError
        With the numbers, and the least that would do.
    """
    if budget.limit_bytes < budget.smallest_limit:
        share = f" ({budget.share:.0%} of each worker's limit)" if budget.share < 1 else ""
        needed = -(-int(budget.smallest_limit / budget.share) // 1_000_000)
        raise PlanError(
            f"{budget.limit_bytes / 1e6:.0f} MB of memory{share} are too little: the process takes "
            f"{BASELINE_BYTES / 1e6:.0f} MB, and each of {budget.threads} threads needs {MIN_TASK_BYTES / 1e6:.0f} MB "
            f"to work with. Set --memory to at least {needed}MB, or use fewer threads."
        )


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


def is_wide(kind: pa.DataType) -> bool:
    """Whether a value may have any number of bytes."""
    try:
        return int(kind.bit_width) < 1
    except ValueError:
        return True


def frame_row_bytes(columns: dict[str, pl.DataType], names: tuple[str, ...]) -> int:
    """Estimate the bytes of a row of these columns in memory."""
    empty = pl.DataFrame(schema={name: columns[name] for name in names}).to_arrow()
    return sum(row_bytes(field.type) for field in empty.schema)


def least_row_bytes(columns: dict[str, pl.DataType], names: tuple[str, ...]) -> int:
    """Bytes of a row of these columns if all texts are empty."""
    types = pl.DataFrame(schema={name: columns[name] for name in names}).to_arrow().schema.types
    return sum(8 if is_wide(kind) else row_bytes(kind) for kind in types)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a table's task holds in memory, in bytes.

    Parameters
    ----------
    row
        An event as it is loaded.
    held
        What is kept of each event beside it: codes, times, values, validity, sums.
    bins
        What is kept of each output row until its features are there: bounds of the windows, places on grids.
    output
        An output row.
    fixed
        Right sides of look-ups; the chunks of a grid that are read together.
    texts
        How many columns of variable length there are: their width is a guess until they are loaded.
    """

    row: int
    held: int
    bins: int
    output: int
    fixed: int
    texts: int = 0

    def task_bytes(self, events: int, rows: int) -> int:
        """Peak of a task with so many events (look-back included) and output rows.

        The largest of three: while events are loaded and sorted, while the last feature is computed, while the output
        is split into slices. Measured peaks of eight kinds of tables were 0.5 to 0.95 of it.
        """
        loading = events * self.loading
        computing = events * (self.row + self.held) + rows * (self.bins + self.output)
        return self.fixed + int(MARGIN * max(loading, computing, 2 * rows * self.output))

    @property
    def loading(self) -> int:
        """Bytes of an event while it is loaded and sorted."""
        return 3 * self.row + 48

    def rows_in(self, n_bytes: int) -> int:
        """How many events, each with an output row, fit."""
        return max(1, (n_bytes - self.fixed) * 1000 // max(1, self.task_bytes(1000, 1000) - self.fixed))

    def widened(self, row: int) -> Footprint:
        """The same for rows that turned out to be wider."""
        more = max(0, row - self.row)
        return replace(self, row=self.row + more, output=self.output + more, texts=0)


def footprint(table: CompiledTable, columns: tuple[str, ...], rights_bytes: int) -> Footprint:
    """Estimate a task's memory; ``rights_bytes`` is the decoded size of the look-ups' right sides in one task."""
    numeric = {feature.series for feature in table.features if feature.series.column is not None}
    types = (
        pl.DataFrame(schema={name: table.source.columns[name] for name in columns}).to_arrow().schema.types
    )
    grids = [lookup for lookup in table.lookups if isinstance(lookup, GridLookup)]
    return Footprint(
        row=sum(row_bytes(kind) for kind in types),
        held=HELD_BYTES + SERIES_BYTES * len(numeric),
        bins=2 * _BIN_BYTES + max((lookup.row_bytes for lookup in grids), default=0),
        output=sum(row_bytes(field.type) for field in table.schema),
        fixed=3 * (rights_bytes + max((lookup.chunk_bytes for lookup in grids), default=0)),
        texts=sum(is_wide(kind) for kind in types),
    )


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
    by_memory = -(-_rows_at_once(table, events, rows) // foot.rows_in(target))
    by_crumbs = rows * output // n_slices // CRUMB_BYTES
    wanted = max(by_memory, slots if rows > WORTH_SPLITTING_ROWS else 1)
    # small files cost less than reading the look-back again for each few slices
    most = max(by_crumbs, min(by_memory, SMALLER_CRUMBS * by_crumbs))
    chosen = max(1, min(wanted, max(1, most), MAX_BUCKETS))
    return int(-(-chosen // slots) * slots if chosen > 1 else 1)  # a last task alone would leave threads idle


def _rows_at_once(table: CompiledTable, events: list[Piece], rows: int) -> int:
    """Rows that the tasks of all buckets together should be able to hold: the whole history only where it is short.

    With more, a bucket is cut into runs, each of which reads its look-back again. Years of history in one run would
    need so many buckets that the table has millions of small files.
    """
    timed = [(p.min_us, p.max_us) for p in events if p.min_us is not None and p.max_us is not None]
    if table.lookback_us is None or table.partition == "none" or not timed:
        return rows
    first, last = min(low for low, _ in timed), max(high for _, high in timed)
    width = RUN_LOOKBACKS * max(table.lookback_us, _DAYS[table.partition] * 86_400_000_000)
    if width >= last - first:
        return rows
    newest = RowEstimate(events).between(last + 1 - width, last + 1)  # of what grows, the newest is the most
    return max(newest, rows * width // (last - first))


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

    def _is_short(self, first: Slice, last: Slice) -> bool:
        """Whether most of what a run reads is not its own."""
        reach = self.table.lookback_us
        since = None if reach is None else first.start_us - reach
        if reach is None and self.base is not None:
            since = self.base.before_us
        return self.estimate.between(since, last.end_us) > 2 * self.estimate.between(
            first.start_us, last.end_us
        )

    def runs(self, missing: tuple[Slice, ...], share: float) -> list[tuple[Slice, ...]]:
        """Cut where the memory would be exceeded, or where the gap is longer than the look-back.

        A run is longer than memory allows where a short one would read more rows of its look-back than of its own: its
        task then goes through its bucket in pieces, and sorts each row twice instead of reading it many times.
        """
        reach = self.table.lookback_us
        runs: list[list[Slice]] = []
        for part in sorted(missing):
            last = runs[-1] if runs else None
            fits = (
                last is not None
                and NULL_SLICE not in (part, last[0])
                and (reach is None or part.start_us - last[-1].end_us <= reach)
                and (
                    self.task_bytes(last[0], part, share) <= self.limit_bytes
                    or self._is_short(last[0], last[-1])
                )
            )
            if fits and last is not None:
                last.append(part)
            else:
                runs.append([part])
        return [tuple(run) for run in runs]


def largest_unit(sizes: RunSizes, missing: tuple[Slice, ...], n_buckets: int) -> int:
    """Project the bytes of one slice of one bucket with its look-back, the largest there is."""
    parts = [part for part in missing if part != NULL_SLICE]
    return max([sizes.foot.fixed, *(sizes.task_bytes(part, part, 1 / n_buckets) for part in parts)])
