"""Windowed dispatch: keep a few tasks per thread in flight, where their bytes are; retry; stop at a final error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from featureflow.core.errors import ComputeError, FeatureflowError, FetchFailed
from featureflow.execute.executors import Executor
from featureflow.execute.placement.lanes import IN_FLIGHT_PER_SLOT, Cluster, Lanes
from featureflow.execute.placement.placement import Holdings
from featureflow.execute.task import Task, WorkerDied

__all__ = ["ATTEMPTS", "FETCHES", "IN_FLIGHT_PER_SLOT", "run_tasks"]

log = logging.getLogger(__name__)

#: How often a task is started at most. Errors of our own classes are final at once: data does not get better.
ATTEMPTS = 3
#: How often a task is started at most if exchange files are gone: so many hosts can be lost one after the other.
FETCHES = 6
#: Poison tasks that an error names in full.
_NAMED = 5


def run_tasks(
    executor: Executor,
    tasks: Iterable[Task],
    on_done: Callable[[Task, Any], None],
    remake: Callable[[list[FetchFailed]], None] | None = None,
) -> None:
    """Run all tasks; call ``on_done(task, result)`` in this thread as they finish.

    Parameters
    ----------
    executor
        One with several hosts has ``hosts()`` (threads by host, now) and may have ``holdings(names)`` (bytes by host,
        by name); then tasks that say what they read are given the host that has it.
    remake
        Makes exchange files again that tasks could not read, while nothing else runs; then these tasks are started
        again. Without it such a failure is final.

    Raises
    ------
    FeatureflowError
        The first final error; tasks that have not started are dropped, their finished work stays on disk. Tasks that
        kill their workers are told when all others are done.
    """
    run = _Run(executor, tasks, on_done, remake)
    try:
        run.to_the_end()
    except BaseException:
        executor.cancel()
        raise


class _Run:
    """The tasks of one call."""

    def __init__(
        self,
        executor: Executor,
        tasks: Iterable[Task],
        on_done: Callable[[Task, Any], None],
        remake: Callable[[list[FetchFailed]], None] | None,
    ) -> None:
        self.executor, self.on_done, self.remake = executor, on_done, remake
        self.lanes = Lanes(tasks, _cluster(executor))
        self.attempts: dict[str, int] = {}
        self.unfetched: list[tuple[Task, FetchFailed]] = []
        self.suspects: list[Task] = []  # their workers died: they, or what ran beside them, may be the reason

    def to_the_end(self) -> None:
        """Run what there is, then the suspects one by one."""
        poison: list[Task] = []
        while True:
            self._run_lanes()
            if not self.suspects:
                break
            task = self.suspects.pop(0)
            log.info("%s: its workers died; it is started again, alone", task.label)
            self.executor.submit([self.lanes.alone(task)])
            while self.lanes.in_flight:
                self._take_done()
            if any(suspect.key == task.key for suspect in self.suspects):
                self.suspects = [suspect for suspect in self.suspects if suspect.key != task.key]
                poison.append(task)
        if poison:
            raise ComputeError(_poison_text(poison))

    def _run_lanes(self) -> None:
        """Run until nothing waits and nothing is in flight."""
        while True:
            if self.unfetched and not self.lanes.in_flight and self.remake is not None:
                unfetched, self.unfetched = self.unfetched, []
                self.remake([error for _, error in unfetched])
                self.lanes.add(task for task, _ in unfetched)
            if not self.unfetched:  # else what runs comes to its end: most of it misses the same files
                batch = self.lanes.next_batch()
                if batch:
                    self.executor.submit(batch)
            if not self.lanes.in_flight:
                return
            self._take_done()

    def _take_done(self) -> None:
        # results first: an error may end the build, and what is finished counts
        for key, result, error in sorted(self.executor.next_done(), key=lambda one: one[2] is not None):
            task = self.lanes.done(key)
            if error is None:
                self.on_done(task, result)
            else:
                self._failed(task, error)

    def _failed(self, task: Task, error: BaseException) -> None:
        if isinstance(error, WorkerDied):
            self.suspects.append(task)
            return
        attempts = self.attempts[task.key] = self.attempts.get(task.key, 0) + 1
        if isinstance(error, FetchFailed) and self.remake is not None and attempts < FETCHES:
            self.unfetched.append((task, error))
            return
        if isinstance(error, FeatureflowError) or attempts >= ATTEMPTS:
            raise _explained(error, task)
        log.debug("%s failed with %r, attempt %d of %d", task.label, error, attempts, ATTEMPTS)
        self.lanes.retry(task)


def _cluster(executor: Executor) -> Cluster:
    """What an executor says about hosts; one that says nothing is one host."""
    hosts: Callable[[], Mapping[str, int]] = getattr(executor, "hosts", dict)
    holdings: Callable[[Iterable[str]], Holdings] = getattr(executor, "holdings", lambda _: {})
    return Cluster(hosts, lambda: executor.slots, holdings)


def _poison_text(poison: list[Task]) -> str:
    lines = [f"  {task.label}" for task in poison[:_NAMED]]
    if len(poison) > _NAMED:
        lines.append(f"  … and {len(poison) - _NAMED} more")
    found = "A task kills" if len(poison) == 1 else f"{len(poison)} tasks kill"
    return (
        f"{found} the worker that runs it, also alone in the cluster:\n"
        + "\n".join(lines)
        + "\nAll other tasks of the stage are done, and a new build does not repeat them. Look into the worker's log "
        "for the reason. Most often it needs more memory than its worker has: give workers more (--memory), or fewer "
        "threads. If a file is named above, try to read it by itself: a library may crash on it."
    )


def _explained(error: BaseException, task: Task) -> BaseException:
    if not isinstance(error, FeatureflowError):
        cause = error
        error = ComputeError(f"{task.label} failed {ATTEMPTS} times: {type(cause).__name__}: {cause}")
        error.__cause__ = cause
    error.add_note(f"while running: {task.label}")
    return error
