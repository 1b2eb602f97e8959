"""Windowed dispatch: keep a few tasks per thread in flight, retry, stop at the first error that is final."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from featureflow.core.errors import ComputeError, FeatureflowError
from featureflow.execute.executors import Executor
from featureflow.execute.task import Task

log = logging.getLogger(__name__)

#: Tasks in flight for each thread: enough to hide the round trip, few enough that one poison task fails alone.
IN_FLIGHT_PER_SLOT = 3
#: How often a task is started at most. Errors of our own classes are final at once: data does not get better.
ATTEMPTS = 3


def run_tasks(executor: Executor, tasks: Iterable[Task], on_done: Callable[[Task, Any], None]) -> None:
    """Run all tasks; call ``on_done(task, result)`` in this thread as they finish.

    Raises
    ------
    FeatureflowError
        The first final error; tasks that have not started are dropped, their finished work stays on disk.
    """
    waiting = iter(tasks)
    running: dict[str, Task] = {}
    attempts: dict[str, int] = {}
    limit = executor.slots * IN_FLIGHT_PER_SLOT
    try:
        while True:
            _refill(executor, waiting, running, limit)
            if not running:
                return
            for key, result, error in executor.next_done():
                task = running.pop(key)
                if error is None:
                    on_done(task, result)
                    continue
                attempts[key] = attempts.get(key, 1) + 1
                if isinstance(error, FeatureflowError) or attempts[key] > ATTEMPTS:
                    raise _explained(error, task)
                log.debug("%s failed with %r, attempt %d of %d", task.label, error, attempts[key], ATTEMPTS)
                running[key] = task
                executor.submit([task])
    except BaseException:
        executor.cancel()
        raise


def _refill(executor: Executor, waiting: Any, running: dict[str, Task], limit: int) -> None:
    batch = []
    while len(running) < limit:
        task = next(waiting, None)
        if task is None:
            break
        running[task.key] = task
        batch.append(task)
    if batch:
        executor.submit(batch)


def _explained(error: BaseException, task: Task) -> BaseException:
    if not isinstance(error, FeatureflowError):
        cause = error
        error = ComputeError(f"{task.label} failed {ATTEMPTS} times: {type(cause).__name__}: {cause}")
        error.__cause__ = cause
    error.add_note(f"while running: {task.label}")
    return error
