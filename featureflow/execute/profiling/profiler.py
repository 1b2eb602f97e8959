"""What the driver sees of a build while it runs: stages, phases of its own, and one record for each run of a task.

The build's time is cut into segments: stages, in which tasks are under way, and phases of the driver, in which none are
and all workers wait for it. `featureflow.execute.profiling.sums` makes the profile of them.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar, cast

from featureflow.core.meter import KINDS, Spent, metering, spent_so_far
from featureflow.execute.clusters.counts import ClusterCounts
from featureflow.execute.executors import Executor
from featureflow.execute.profiling.metered import MeteredExecutor, Record
from featureflow.execute.task import Task

Number = TypeVar("Number", int, float)


@dataclass(slots=True)
class Segment:
    """A stretch of the build by the driver's clock: tasks of a stage were under way, or none were.

    ``slots`` are the changes in how many tasks could run at once. ``driver`` is what the driver itself did in it, by
    kind; while the segment is open, what it had done before.
    """

    name: str
    is_stage: bool
    begun: float
    ended: float
    slots: list[tuple[float, int]]
    driver: dict[str, float]

    @property
    def length(self) -> float:
        """Seconds."""
        return self.ended - self.begun


@dataclass(slots=True)
class StageSums:
    """What the tasks of a stage did. ``lost`` ones left no record: their worker died."""

    place: int
    tasks: int = 0
    failed: int = 0
    lost: int = 0
    busy: float = 0.0
    cpu: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    beside: dict[str, float] = field(default_factory=dict)
    longest: float = 0.0
    longest_label: str = ""


@dataclass(slots=True)
class WorkerSums:
    """What one process did; ``threads`` numbers its threads."""

    name: str
    host: str
    process: int
    clock: str
    tasks: int = 0
    busy: float = 0.0
    peak_bytes: int = 0
    threads: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Runs:
    """All runs of tasks, a column each; ``begun`` is by the worker's clock, ``kinds`` seconds in the order of KINDS."""

    stage: array[int] = field(default_factory=lambda: array("i"))
    worker: array[int] = field(default_factory=lambda: array("i"))
    thread: array[int] = field(default_factory=lambda: array("i"))
    begun: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    failed: array[int] = field(default_factory=lambda: array("b"))
    kinds: array[float] = field(default_factory=lambda: array("f"))


class Profiler:
    """Collects what a build's tasks and its driver report; a `featureflow.execute.profiling.metered.Collector`.

    As a context manager it measures this thread, the driver's. Its methods are called from this thread only, and cost
    some ten microseconds a task.
    """

    def __init__(self) -> None:
        self._metering: AbstractContextManager[Spent] = metering()
        self.driver = Spent()
        self.begun = time.monotonic()
        self.segments: list[Segment] = []
        self.stages: dict[str, StageSums] = {}
        self.workers: list[WorkerSums] = []
        #: By clock: the driver's time minus the clock's, at most.
        self.clocks: dict[str, float] = {}
        self.runs = Runs()
        self.executor: Executor | None = None
        self.cluster = ClusterCounts(None)
        self._phase = "start"
        self._running: dict[str, tuple[str, str]] = {}
        self._quiet_since, self._quiet_driver = self.begun, dict[str, float]()
        self._current = Segment(self._phase, False, self.begun, self.begun, [], {})
        self._places: dict[tuple[str, str, int], int] = {}

    def __enter__(self) -> Self:
        self.driver = self._metering.__enter__()
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        self._metering.__exit__(kind, error, traceback)

    def watch(self, executor: Executor) -> Executor:
        """Measure an executor's tasks; what the driver does from here on is planning until it says otherwise."""
        self.executor, self.cluster = executor, ClusterCounts(executor)
        self.enter("plan")
        # the protocol's fields can be set; here they are the other one's, and nobody sets them
        return cast("Executor", MeteredExecutor(executor, self))

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Name what the driver does in a block, as far as no tasks run."""
        before = self._phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def enter(self, phase: str) -> None:
        """Name what the driver does from here on."""
        if phase != self._phase:
            if not self._running:
                self._leave_stage()
                self._turn(phase, time.monotonic(), is_stage=False)
            self._phase = phase

    def finish(self) -> None:
        """Close the last segment: the build's own time ends here."""
        self._leave_stage()
        self._turn(self._phase, time.monotonic(), is_stage=False)

    def submitted(self, tasks: list[Task], slots: int) -> None:
        """See `Collector`."""
        now = time.monotonic()
        for task in tasks:
            stage = task.label.partition(", ")[0]
            if not (self._current.is_stage and self._current.name == stage):
                if not self._running:
                    self._leave_stage()
                self._turn(stage, now, is_stage=True)
            self._running[task.key] = stage, task.label
        self._note_slots(now, slots)

    def returned(self, done: list[tuple[str, Record | None, BaseException | None]], slots: int) -> None:
        """See `Collector`."""
        now = time.monotonic()
        for key, record, error in done:
            stage, label = self._running.pop(key, (self._current.name, key))
            sums = self.stages.setdefault(stage, StageSums(len(self.stages)))
            sums.failed += error is not None
            if record is None:
                sums.lost += 1
                continue
            _add_to_stage(sums, label, record)
            self._add_run(sums.place, record, now, failed=error is not None)
        self._note_slots(now, slots)
        self._mark_quiet(now)

    def cancelled(self) -> None:
        """See `Collector`."""
        self._running.clear()
        self._mark_quiet(time.monotonic())

    def _mark_quiet(self, now: float) -> None:
        if not self._running:
            self._quiet_since, self._quiet_driver = now, spent_so_far()

    def _leave_stage(self) -> None:
        """End a stage at its last result; what came after it was the driver's phase."""
        if self._current.is_stage:
            since = self._quiet_since if not self._running else time.monotonic()
            self._turn(self._phase, since, is_stage=False, driver=self._quiet_driver)

    def _turn(self, name: str, now: float, *, is_stage: bool, driver: dict[str, float] | None = None) -> None:
        """End the current segment and begin another."""
        seen = spent_so_far() if driver is None else driver
        ended, ended.ended = self._current, now
        ended.driver = {kind: seconds - ended.driver.get(kind, 0.0) for kind, seconds in seen.items()}
        if ended.ended > ended.begun:
            self.segments.append(ended)
        self._current = Segment(name, is_stage, now, now, [(now, n) for _, n in ended.slots[-1:]], seen)
        if is_stage:
            self.stages.setdefault(name, StageSums(len(self.stages)))

    def _note_slots(self, now: float, slots: int) -> None:
        known = self._current.slots
        if not known or known[-1][1] != slots:
            known.append((now, slots))

    def _add_run(self, stage: int, record: Record, now: float, *, failed: bool) -> None:
        place = record.host, record.worker, record.process
        if place not in self._places:
            self._places[place] = len(self.workers)
            self.workers.append(WorkerSums(record.worker, record.host, record.process, record.clock))
        worker = self.workers[self._places[place]]
        worker.tasks += 1
        worker.busy += record.seconds
        worker.peak_bytes = max(worker.peak_bytes, record.peak_bytes)
        # no task ends after its result is there: the quickest of all results tells the difference of the clocks
        lag = now - (record.begun + record.seconds)
        self.clocks[record.clock] = min(lag, self.clocks.get(record.clock, lag))
        runs = self.runs
        runs.stage.append(stage)
        runs.worker.append(self._places[place])
        runs.thread.append(worker.threads.setdefault(record.thread, len(worker.threads)))
        runs.begun.append(record.begun)
        runs.seconds.append(record.seconds)
        runs.failed.append(failed)
        runs.kinds.extend(_by_kind(record))


_current: ContextVar[Profiler | None] = ContextVar("featureflow_profiler", default=None)


def current_profiler() -> Profiler | None:
    """Give the profiler that this thread is the driver of."""
    return _current.get()


def during(phase: str) -> AbstractContextManager[None]:
    """Name what the driver does in a block, as far as no tasks run: ``plan``, ``check``, ``commit``."""
    profiler = _current.get()
    return nullcontext() if profiler is None else profiler.during(phase)


def _by_kind(record: Record) -> list[float]:
    """Seconds of a run in the order of KINDS; what no block covers is compute."""
    found = dict.fromkeys(KINDS, 0.0)
    for kind, seconds in record.spent.items():
        found[kind.partition(":")[0]] += seconds
    found["compute"] += max(0.0, record.seconds - sum(record.spent.values()))
    return list(found.values())


def _add_to_stage(sums: StageSums, label: str, record: Record) -> None:
    sums.tasks += 1
    sums.busy += record.seconds
    sums.cpu += record.cpu
    if record.seconds > sums.longest:
        sums.longest, sums.longest_label = record.seconds, label
    add_up(sums.seconds, record.spent)
    add_up(sums.bytes, record.bytes)
    add_up(sums.counts, record.counts)
    add_up(sums.beside, record.beside)


def add_up(into: dict[str, Number], found: dict[str, Number]) -> None:
    """Add amounts by name."""
    for name, amount in found.items():
        into[name] = into[name] + amount if name in into else amount
