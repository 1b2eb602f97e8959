"""Where tasks run: threads of this process, a local cluster that we start and stop, or a running one.

A task is a picklable function of plain arguments that goes from storage to storage and returns a handle of under
1 kB. The driver never has more than a few tasks per thread in flight, so that a build of any size holds a bounded
graph, and a task that kills its worker takes no innocent ones with it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from featureflow.core.errors import PlanError
from featureflow.execute.task import Shared, Task
from featureflow.spec.targets import Target


class Executor(Protocol):
    """Runs tasks by key; results come back in the order in which they finish."""

    #: How many tasks can run at the same moment.
    slots: int
    #: How many are meant to be at most: what sizes of files follow, so that they don't depend on who came first.
    capacity: int
    #: How many of them share the memory of one process, and how much it has; None: as much as this machine gives.
    threads: int
    memory_bytes: int | None
    #: One line for people: what it is and where.
    description: str
    #: Link to a page that shows the workers; None if there is none.
    dashboard: str | None

    def submit(self, tasks: list[Task]) -> None:
        """Start tasks."""

    def next_done(self) -> Iterable[tuple[str, Any, BaseException | None]]:
        """Block until at least one task is done; give (key, result, error) of those that are."""

    def cancel(self) -> None:
        """Forget all tasks that have not started; wait for the running ones of this process."""

    def close(self) -> None:
        """Stop what this executor has started, and nothing else."""


class ThreadExecutor:
    """Threads of this process: nothing to start, no import of a cluster library."""

    #: Tasks see the very files and objects of the driver; other executors do not say so.
    in_process = True

    def __init__(self, n_threads: int) -> None:
        self.slots = self.threads = self.capacity = n_threads
        self.memory_bytes: int | None = None
        self.dashboard: str | None = None
        self.description = f"{n_threads} threads in this process"
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="featureflow")
        self._keys: dict[Future[Any], str] = {}

    def submit(self, tasks: list[Task]) -> None:
        """See `Executor`."""
        for task in tasks:
            given = [one.value if isinstance(one, Shared) else one for one in task.arguments]
            self._keys[self._pool.submit(task.function, *given)] = task.key

    def next_done(self) -> Iterable[tuple[str, Any, BaseException | None]]:
        """See `Executor`."""
        done, _ = wait(self._keys, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            yield self._keys.pop(future), None if error else future.result(), error

    def cancel(self) -> None:
        """See `Executor`."""
        for future in list(self._keys):
            future.cancel()
        wait([future for future in self._keys if not future.cancelled()])
        self._keys.clear()

    def close(self) -> None:
        """See `Executor`."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def keep_freed_memory() -> None:
    """Let this process reuse the arrays that it frees, instead of asking the system for zeroed pages again.

    Tasks make and drop arrays of 10 MB all the time; by default each is mapped and unmapped. Measured on 20M rows of
    windows: system time 12.2 to 6.5 s, wall 46 to 33 s, peak memory the same. For processes that do nothing else: the
    command line. Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3  # from malloc.h
        mallopt(m_mmap_threshold, 32 << 20)
        mallopt(m_trim_threshold, 1 << 30)
        mallopt(m_top_pad, 64 << 20)


def usable_cores() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_executor(
    scheduler: str | None,
    *,
    client: Any = None,
    workers: int | None = None,
    memory_bytes: int | None = None,
    scratch: str,
    target: Target | None = None,
    store_url: str = "",
    note: Callable[[str], None] = lambda _: None,
    planning: bool = False,
) -> Executor:
    """Open what ``--scheduler`` or a target names.

    Without a name: threads where at most four cores are usable (a second process would cost more memory and start-up
    than it wins, since kernels, readers and writers run without the GIL), else a local cluster.

    Parameters
    ----------
    scheduler
        ``threads``, ``local`` or an address such as ``tls://10.0.0.1:8786``; comes before the target's ``cluster``.
    client
        A client of the user's, which comes before everything else and is not closed.
    workers, memory_bytes
        Number of workers (of threads for ``threads``), memory of each.
    scratch
        The driver's folder for temporary files.
    target
        The rest: ``cluster``, ``adaptive``, ``threads``, ``tls``, ``insecure``, ``wait``, ``exchange``, ``cache``.
    store_url
        What workers must be able to see; empty for nothing.
    note
        Gets lines for people while something takes long.
    planning
        Whether only a plan is made: then a cluster that would have to be started is not, if the target says how large
        it is (``workers`` or ``adaptive``, ``threads``, ``memory``).

    Raises
    ------
    Unreachable
        If nothing answers at the address within 10 s, no worker comes in time, or a worker can't see the store.
    PlanError
        For an unknown name, a class that is not allowed, an unencrypted scheduler on another host, other libraries.
    """
    target = target or Target()
    if client is None:
        scheduler = _scheduler(scheduler, target)
        known = known_executor(scheduler, workers, memory_bytes, target)
        if known is not None and (planning or scheduler == "threads"):
            return known

    from featureflow.execute.clusters import opening as clusters
    from featureflow.execute.clusters.dask_executor import DaskExecutor
    from featureflow.execute.clusters.workers import WorkerSettings

    settings = WorkerSettings(scratch, store_url, target.cache, target.exchange)
    if client is not None:
        return DaskExecutor(client, settings=settings, note=note)
    wish = clusters.Wish(scratch, workers, target.threads, memory_bytes)
    if scheduler is None:
        return clusters.start_cluster(target, wish, settings, note)
    if scheduler == "local":
        return clusters.local_cluster(wish, settings, note)
    if "://" in scheduler:
        return clusters.connect(scheduler, target, settings, note)
    raise PlanError(
        f"--scheduler {scheduler!r} is unknown. Give threads, local or an address such as tcp://host:8786."
    )


def _scheduler(named: str | None, target: Target) -> str | None:
    """What a build runs on that names nothing; None for the target's cluster."""
    if named is None and target.cluster is None:
        return "threads" if usable_cores() <= 4 else "local"
    return named


def known_executor(
    scheduler: str | None, workers: int | None, memory_bytes: int | None, target: Target
) -> Executor | None:
    """Threads of this process, or what plans as the target's cluster would; None where a cluster has to be asked."""
    scheduler = _scheduler(scheduler, target)
    if scheduler == "threads":
        return ThreadExecutor(workers or target.threads or usable_cores())
    return _as_large_as(target, workers, memory_bytes) if scheduler is None else None


def _as_large_as(target: Target, workers: int | None, memory_bytes: int | None) -> Executor | None:
    """Threads of this process that plan as the target's cluster would; None if the target does not say how large."""
    from featureflow.execute.sizing import WORKER_SHARE

    n_workers = target.adaptive.maximum if target.adaptive else workers
    if n_workers is None or target.threads is None or memory_bytes is None:
        return None
    executor = ThreadExecutor(usable_cores())
    executor.capacity, executor.threads = n_workers * target.threads, target.threads
    executor.memory_bytes = int(WORKER_SHARE * memory_bytes)
    return executor
