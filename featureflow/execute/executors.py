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
from uuid import uuid4

from featureflow.core.errors import PlanError, Unreachable
from featureflow.execute.task import Task

#: What worker processes need: native pools of one thread (a task is the unit of parallelism), an allocator that
#: gives memory back (Dask counts what it holds as the task's), trimming.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


class Executor(Protocol):
    """Runs tasks by key; results come back in the order in which they finish."""

    #: How many tasks can run at the same moment.
    slots: int
    #: How many of them share the memory of one process, and how much it has; None: as much as this machine gives.
    threads: int
    memory_bytes: int | None
    #: One line for people: what it is and where.
    description: str

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

    def __init__(self, n_threads: int) -> None:
        self.slots = self.threads = n_threads
        self.memory_bytes: int | None = None
        self.description = f"{n_threads} threads in this process"
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="featureflow")
        self._keys: dict[Future[Any], str] = {}

    def submit(self, tasks: list[Task]) -> None:
        """See `Executor`."""
        for task in tasks:
            self._keys[self._pool.submit(task.function, *task.arguments)] = task.key

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


class DaskExecutor:
    """Workers of a Dask cluster, through its client.

    Parameters
    ----------
    client
        A connected ``distributed.Client``.
    owned
        Things to close with the executor (a cluster that was started for it); none for a client of the user's.
    """

    def __init__(self, client: Any, owned: tuple[Any, ...] = (), description: str = "") -> None:
        from distributed import as_completed

        self.client = client
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        self.slots = max(1, sum(worker["nthreads"] for worker in workers))
        self.threads = max((worker["nthreads"] for worker in workers), default=1)
        limits = [int(worker["memory_limit"]) for worker in workers if worker.get("memory_limit")]
        # the net under the tasks (Dask's spill) begins at 60 % of a worker's limit: stay above it
        self.memory_bytes: int | None = int(0.6 * min(limits)) if limits else None
        self.description = description or f"Dask at {client.scheduler.address}, {self.slots} threads"
        self._owned = owned
        # keys are names of content within one build; on a shared scheduler another build may go into another store
        self._name = uuid4().hex[:8]
        self._pending = as_completed(loop=client.loop)
        self._futures: dict[Any, str] = {}

    def submit(self, tasks: list[Task]) -> None:
        """See `Executor`. One message to the scheduler for a batch: a third of the cost of one each."""
        by_function: dict[Callable[..., Any], list[Task]] = {}
        for task in tasks:
            by_function.setdefault(task.function, []).append(task)
        for function, batch in by_function.items():
            futures = self.client.map(
                function,
                *zip(*(task.arguments for task in batch), strict=True),
                key=[f"ff-{function.__name__}-{self._name}-{task.key}" for task in batch],
                pure=False,
            )
            for future, task in zip(futures, batch, strict=True):
                self._futures[future] = task.key
                self._pending.add(future)

    def next_done(self) -> Iterable[tuple[str, Any, BaseException | None]]:
        """See `Executor`."""
        done = []
        for future in self._pending.next_batch(block=True):
            error = future.exception()
            done.append((self._futures.pop(future), None if error is not None else future.result(), error))
            future.release()  # before the driver can submit the same key again, else it would get this result
        return done

    def cancel(self) -> None:
        """See `Executor`."""
        self.client.cancel(list(self._futures), force=True)
        self._futures.clear()

    def close(self) -> None:
        """See `Executor`."""
        for thing in self._owned:
            thing.close()


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
) -> Executor:
    """Open what ``--scheduler`` names: ``threads``, ``local`` or an address such as ``tcp://10.0.0.1:8786``.

    Without a name: threads where at most four cores are usable (a second process would cost more memory and start-up
    than it wins, since kernels, readers and writers run without the GIL), else a local cluster.

    Raises
    ------
    Unreachable
        If nothing answers at the address within 10 s.
    PlanError
        For any other name.
    """
    if client is not None:
        return DaskExecutor(client)
    cores = usable_cores()
    if scheduler is None:
        scheduler = "threads" if cores <= 4 else "local"
    if scheduler == "threads":
        return ThreadExecutor(workers or cores)
    if scheduler == "local":
        return _local_cluster(workers, memory_bytes, cores, scratch)
    if "://" in scheduler:
        return _connect(scheduler)
    raise PlanError(
        f"--scheduler {scheduler!r} is unknown. Give threads, local or an address such as tcp://host:8786."
    )


def _local_cluster(workers: int | None, memory_bytes: int | None, cores: int, scratch: str) -> Executor:
    import dask
    from distributed import Client, LocalCluster

    # processes = cores / 4 with four threads each: one memory limit and cache per process, few connections
    n_workers = workers or max(1, cores // 4)
    with dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT}):
        cluster = LocalCluster(
            n_workers=n_workers,
            threads_per_worker=max(1, cores // n_workers),
            memory_limit=memory_bytes or "auto",
            host="127.0.0.1",
            dashboard_address=None,  # its default listens on every interface
            local_directory=os.path.join(scratch, "dask"),
        )
    client = Client(cluster)
    return DaskExecutor(client, (client, cluster), f"local Dask cluster, {n_workers} processes")


def _connect(address: str) -> Executor:
    from distributed import Client

    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise Unreachable(
            f"No Dask scheduler answers at {address}: {error}. Is it running, and is the address right?"
        ) from error
    if not client.scheduler_info(n_workers=-1)["workers"]:
        client.close()
        raise Unreachable(
            f"The Dask scheduler at {address} has no workers. Start some: dask worker {address}"
        )
    return DaskExecutor(client, (client,))
