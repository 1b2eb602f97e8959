"""An executor that measures: each task says where it ran, when, and where its time went.

It goes around any other executor. A task's function runs on the worker under the meter and sends a `Record` of a few
hundred bytes back with its result; the driver's side takes it off again, so that nobody else sees a difference.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from featureflow.core.meter import Spent, metering, spent
from featureflow.execute.executors import Executor
from featureflow.execute.task import Task

#: What the driver's own meter calls the time in which it waits for tasks.
WAITING = "tasks"
_MARK = "_featureflow_record"


class Record(NamedTuple):
    """What became of one run of a task, by the clock of the host where it ran.

    ``clock`` names the clock (one for each boot of a machine, whatever the number of processes or containers);
    ``begun`` is its time. ``cpu`` are seconds of the task's thread on a processor. ``peak_bytes`` is the most memory
    that its process has ever had.
    """

    clock: str
    host: str
    worker: str
    process: int
    thread: int
    begun: float
    seconds: float
    cpu: float
    peak_bytes: int
    spent: dict[str, float]
    bytes: dict[str, int]
    counts: dict[str, int]
    beside: dict[str, float]


class Collector(Protocol):
    """Takes what a `MeteredExecutor` sees, on the driver's side."""

    def submitted(self, tasks: list[Task], slots: int) -> None:
        """Tasks were started; so many can run at the same moment."""

    def returned(self, done: list[tuple[str, Record | None, BaseException | None]], slots: int) -> None:
        """Tasks have ended, or have been lost: then there is no record."""

    def cancelled(self) -> None:
        """Nothing that was submitted will return."""


@dataclass(frozen=True, slots=True)
class Metered:
    """A task's function under the meter; equal functions stay equal, and keep their name."""

    function: Callable[..., Any]

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, *arguments: Any) -> tuple[Any, Record]:
        """Run the function.

        Returns
        -------
        tuple
            Its result, and the record. An error carries the record with it.
        """
        begun, cpu = time.monotonic(), time.thread_time()
        with metering() as found:
            try:
                result = self.function(*arguments)
            except BaseException as error:
                with suppress(Exception):  # an error without a place for attributes goes without
                    setattr(error, _MARK, _record(begun, cpu, found))
                raise
        return result, _record(begun, cpu, found)


class MeteredExecutor:
    """An `Executor` around another one, whose tasks are measured."""

    def __init__(self, inner: Executor, collector: Collector) -> None:
        self._inner, self._collector = inner, collector

    def __getattr__(self, name: str) -> Any:
        """Everything else is the inner one's, such as ``client`` or ``dashboard``."""
        return getattr(self._inner, name)

    @property
    def slots(self) -> int:
        """See `Executor`."""
        return self._inner.slots

    @property
    def capacity(self) -> int:
        """See `Executor`."""
        return self._inner.capacity

    @property
    def threads(self) -> int:
        """See `Executor`."""
        return self._inner.threads

    @property
    def memory_bytes(self) -> int | None:
        """See `Executor`."""
        return self._inner.memory_bytes

    @property
    def dashboard(self) -> str | None:
        """See `Executor`."""
        return self._inner.dashboard

    @property
    def description(self) -> str:
        """See `Executor`."""
        return self._inner.description

    def submit(self, tasks: list[Task]) -> None:
        """See `Executor`."""
        self._collector.submitted(tasks, self._inner.slots)
        # one call for each function: an executor may send tasks of one function together
        by_function: dict[Callable[..., Any], list[Task]] = {}
        for task in tasks:
            by_function.setdefault(task.function, []).append(task)
        for function, batch in by_function.items():
            metered = Metered(function)
            self._inner.submit([replace(task, function=metered) for task in batch])

    def next_done(self) -> Iterable[tuple[str, Any, BaseException | None]]:
        """See `Executor`."""
        with spent(WAITING):
            done = list(self._inner.next_done())
        plain: list[tuple[str, Any, BaseException | None]] = []
        records: list[tuple[str, Record | None, BaseException | None]] = []
        for key, result, error in done:
            if error is None:
                value, record = result
                plain.append((key, value, None))
            else:
                record = _taken_off(error)
                plain.append((key, None, error))
            records.append((key, record, error))
        self._collector.returned(records, self._inner.slots)
        return plain

    def cancel(self) -> None:
        """See `Executor`."""
        with spent(WAITING):
            self._inner.cancel()
        self._collector.cancelled()

    def close(self) -> None:
        """See `Executor`."""
        self._inner.close()


def _taken_off(error: BaseException) -> Record | None:
    found = getattr(error, _MARK, None)
    with suppress(Exception):
        delattr(error, _MARK)
    return found if isinstance(found, Record) else None


def _record(begun: float, cpu: float, found: Spent) -> Record:
    ended = time.monotonic()
    return Record(
        clock=clock_name(),
        host=_host(),
        worker=_worker(),
        process=os.getpid(),
        thread=found.thread,
        begun=begun,
        seconds=ended - begun,
        cpu=max(0.0, time.thread_time() - cpu),
        peak_bytes=_peak_bytes(),
        spent={kind: round(seconds, 6) for kind, seconds in found.seconds.items()},
        bytes=found.bytes,
        counts=found.counts,
        beside={kind: round(seconds, 6) for kind, seconds in found.beside.items()},
    )


@lru_cache(maxsize=1)
def clock_name() -> str:
    """Name the clock behind ``time.monotonic``: processes of one boot of a machine share it."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read(13)
    return f"{socket.gethostname()}:{os.getpid()}"


@lru_cache(maxsize=1)
def _host() -> str:
    return socket.gethostname()


def _worker() -> str:
    """Name of the Dask worker that runs this thread; empty in a process without one."""
    distributed = sys.modules.get("distributed")
    if distributed is not None:
        with suppress(ValueError):  # there is none
            return str(distributed.get_worker().name)
    return ""


def _peak_bytes() -> int:
    # not getrusage: its figure begins with that of the process that forked this one
    with suppress(OSError, ValueError), open("/proc/self/status", "rb") as file:
        status = file.read()
        at = status.index(b"VmHWM:") + 6
        return int(status[at : status.index(b"kB", at)]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
