"""What the task of a feature table is given, which times it can see, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

from featureflow.contracts.cube import Cube
from featureflow.execute.checks.checking import BoundCheck
from featureflow.execute.sizing import Footprint
from featureflow.execute.stages import Base
from featureflow.plan.nodes import CompiledTable, Lookup
from featureflow.plan.slices import NULL_SLICE, Slice
from featureflow.tables.parquet_files import StagedFile


@dataclass(frozen=True, slots=True)
class Unit:
    """One slice of one bucket: the file that it becomes is named by its fingerprint."""

    slice: Slice
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Side:
    """Exchange files of a look-up's right side.

    ``manifest`` lists them; ``bucketed`` says whether they have the table's buckets (else they have one).
    """

    manifest: str
    bucketed: bool


@dataclass(frozen=True, slots=True)
class GridSide:
    """A grid that rows are looked up in: a task reads the chunks that its rows lie in."""

    cube: Cube = field(repr=False)


@dataclass(frozen=True, slots=True)
class Run:
    """Adjacent units of one bucket that one task computes.

    ``events`` is the manifest of the source's exchange files. ``first_tick`` and ``last_tick`` bound the grid of
    ``at: {every: …}``. ``notes`` is the folder for what the checks found, one small file a unit. ``base`` stands for
    the history of lifetime windows; ``states`` are those to write: the end of a slice, the instant, the name.
    """

    table: CompiledTable
    table_url: str
    bucket: int
    units: tuple[Unit, ...]
    events: str
    rights: tuple[Side | GridSide, ...]
    first_tick: int | None
    last_tick: int | None
    checks: tuple[BoundCheck, ...]
    notes: str
    base: Base | None = None
    states: tuple[tuple[int, int, str], ...] = ()
    room: Room | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """What a run may hold in memory, and where it puts what is more.

    ``rows`` is the most that its bucket can hold, ``expected`` the bytes that the plan projects. ``scratch`` is the
    driver's scratch folder; a worker of another host has its own.
    """

    task_bytes: int
    foot: Footprint
    rows: int
    expected: int
    scratch: str


@dataclass(frozen=True, slots=True)
class Written:
    """Handle of a finished run, with what a commit has to know of its files: nobody has to open them again."""

    rows: int
    quarantined: int
    files: tuple[StagedFile, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(file.size for file in self.files)


def starting_state(run: Run) -> Base | None:
    """The state that stands for what lies before the events of a run, if one does."""
    first, _, _ = time_range(run, run.table.lookback_us)
    return run.base if first is None else None


def event_range(run: Run) -> tuple[int | None, int, bool]:
    """Closed range of times of the events that a run reads, and whether those without a time are among them."""
    first, last, with_null = time_range(run, run.table.lookback_us)
    base = starting_state(run)
    return (first if base is None else base.before_us), last, with_null


def time_range(run: Run, reach: int | None) -> tuple[int | None, int, bool]:
    """Closed range of times that the run's rows can see, and whether rows without a time belong to the run."""
    timed = [unit.slice for unit in run.units if unit.slice != NULL_SLICE]
    with_null = any(unit.slice.holds_timeless for unit in run.units)
    if not timed:
        return 0, -1, with_null
    return None if reach is None else timed[0].start_us - reach, timed[-1].end_us - 1, with_null


def own_states(run: Run) -> list[tuple[int, int, str]]:
    """States at the ends of the run's slices: the end, the instant, the name."""
    ends = {unit.slice.end_us for unit in run.units if unit.slice != NULL_SLICE}
    return [state for state in run.states if state[0] in ends]


def right_range(run: Run, lookup: Lookup) -> tuple[int | None, int]:
    """Closed range of times of a look-up's right rows that a run can see."""
    first, last, _ = time_range(run, lookup.reach_us)
    return first, last
