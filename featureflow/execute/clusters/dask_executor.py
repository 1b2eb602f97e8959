"""Tasks on the workers of a Dask cluster: sent in batches, awaited with an eye on the cluster itself.

Workers may come and go; the executor's `slots` follow. When the scheduler dies, or no worker is left for too long,
the build ends with an error that says so: what is on disk stays, and the next build goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future as PlainFuture
from concurrent.futures import wait
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from dask.base import annotate
from dask.task_spec import Task as DaskTask
from dask.task_spec import TaskRef

from featureflow.core.errors import PlanError, Unreachable
from featureflow.execute.placement.host import host_of
from featureflow.execute.sizing import WORKER_SHARE
from featureflow.execute.task import Shared, Task, WorkerDied

#: How often it is asked which workers there are.
LOOK_EVERY_SECONDS = 2.0
#: A scheduler that does not answer for so long is taken as dead. A busy one answers within seconds.
SILENCE_SECONDS = 60.0
#: How long to wait for a result before looking whether the cluster is still there.
_PATIENCE_SECONDS = 0.5
#: And after the first one, so that others are taken with it: (tasks in flight for each thread, seconds). A batch of
#: results, and of the tasks that follow them, costs the scheduler much less than one after the other. Few threads give
#: it little to do: a millisecond for each is the most.
_GATHERING = ((2, 0.1), (1, 0.02))
_GATHERING_FOR_EACH = 0.001
#: People get a line this often while there are no workers.
_NOTE_EVERY_SECONDS = 30.0
#: How often lost workers are asked for again.
_REFILL_EVERY_SECONDS = 10.0
#: Dask's word for it, in the errors of what was asked for.
_LOST = "scheduler-connection-lost"


class DaskExecutor:
    """Workers of a Dask cluster, through its client.

    Parameters
    ----------
    client
        A connected ``distributed.Client``.
    owned
        Things to close with the executor (a cluster that was started for it); none for a client of the user's.
    settings
        `WorkerSettings` for the plugins that workers get; None installs none.
    note
        Gets lines for people.
    wait_seconds
        How long there may be no worker before the build gives up.
    capacity
        How many threads there are meant to be, where not all workers are there from the start; 0: those that are.
    refill
        Called every ten seconds while there are fewer threads than there have been: starts what was lost again.
    """

    def __init__(
        self,
        client: Any,
        owned: tuple[Any, ...] = (),
        description: str = "",
        *,
        settings: Any = None,
        note: Callable[[str], None] = lambda _: None,
        wait_seconds: float = 60.0,
        refill: Callable[[], None] = lambda: None,
        capacity: int = 0,
    ) -> None:
        from featureflow.execute.clusters.opening import dashboard_of, wait_for_workers

        if client.asynchronous:
            raise PlanError("client: it is asynchronous. Give one that was made without asynchronous=True.")
        self.client = client
        self._locality: Any = None
        if settings is not None:
            from featureflow.execute.clusters.workers import install_plugins

            wait_for_workers(client, "The cluster", wait_seconds, note, "Start some.")
            self._find_locality(installed=True)  # it listens before workers say what they have
            install_plugins(client, settings, note)
        found = client.scheduler_info(n_workers=-1)["workers"]
        self._threads_by_host = _by_host({address: worker["nthreads"] for address, worker in found.items()})
        workers = found.values()
        self.slots = max(1, sum(worker["nthreads"] for worker in workers))
        self.capacity = capacity or self.slots
        self.threads = max((worker["nthreads"] for worker in workers), default=1)
        limits = [int(worker["memory_limit"]) for worker in workers if worker.get("memory_limit")]
        self.memory_bytes: int | None = int(WORKER_SHARE * min(limits)) if limits else None
        self.description = description or f"Dask at {client.scheduler.address}, {self.slots} threads"
        self.dashboard = dashboard_of(client)
        self._owned = owned
        self._note, self._wait_seconds, self._refill = note, wait_seconds, refill
        self._most, self._refilled = self.slots, time.monotonic()
        # keys are names of content within one build; on a shared scheduler another build may go into another store
        self._name = uuid4().hex[:8]
        # and a task that failed is started under a new one: the client forgets the old result some time later
        self._starts = count(1)
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._futures: dict[Any, str] = {}
        self._held: dict[str, Any] = {}
        self._looked = time.monotonic()
        self._looking: PlainFuture[dict[str, int]] | None = None
        self._deserted: float | None = None
        self._noted = 0.0
        from featureflow.execute.clusters.telling import Told

        self._told = Told(client, self._name)

    def submit(self, tasks: list[Task]) -> None:
        """See `Executor`. One message to the scheduler for a batch: a third of the cost of one each."""
        if self.client.status != "running":
            raise self._lost()
        placed: dict[bool, list[Task]] = {}
        for task in tasks:
            placed.setdefault(bool(task.host), []).append(task)
        for some in placed.values():
            self._send(some)

    def _send(self, tasks: list[Task]) -> None:
        """Tasks that all have a host, or all have none."""
        graph: dict[str, Any] = {}
        keys: dict[str, Task] = {}
        for task in tasks:
            key = f"ff-{name_of(task.function)}-{self._name}-{task.key}-{next(self._starts)}"
            given = [self._shared(one) if isinstance(one, Shared) else one for one in task.arguments]
            graph[key] = _Named(key, self._told.running(task.function, key), *given)
            keys[key] = task
        # a host's name, not its workers' addresses: one that comes back under another port counts
        hosts = {key: [task.host] for key, task in keys.items() if task.host}
        # by key: a message for each host instead, most with one task, costs the scheduler four times the CPU
        where = {"workers": hosts.get, "allow_other_workers": True} if hosts else {}
        with annotate(**where):
            futures = self.client.get(graph, list(graph), sync=False)
        for future in futures:
            self._futures[future] = keys[future.key].key
            future.add_done_callback(self._done.put)

    def _shared(self, argument: Shared) -> TaskRef:
        """Reference to a value that the cluster holds: the result of a task, which is run again if it gets lost."""
        key = f"ff-shared-{self._name}-{argument.key}"
        if key not in self._held:
            self._held[key] = self.client.submit(_itself, argument.value, key=key, pure=False)
        return TaskRef(key)

    def next_done(self) -> Iterable[tuple[str, Any, BaseException | None]]:
        """See `Executor`.

        Raises
        ------
        Unreachable
            If the scheduler is gone, or there are no workers for too long.
        """
        done: list[tuple[str, Any, BaseException | None]] = []
        while not done:
            self._watch()
            found = [
                future for future in self._finished() if future in self._futures
            ]  # else it was cancelled
            for future, outcome in zip(found, self._outcomes(found), strict=True):
                done.append((self._futures.pop(future), *outcome))
                future.release()
        return done

    def _outcomes(self, futures: list[Any]) -> list[tuple[Any, BaseException | None]]:
        """Results and errors of futures that are done: what workers told, the others are asked for."""
        told = self._told.take([future.key for future in futures])
        asked = [future for future in futures if future.key not in told or future.status != "finished"]
        answers = iter(self._asked_for(asked))
        left = {future.key for future in asked}
        return [next(answers) if f.key in left else (told[f.key], None) for f in futures]

    def _asked_for(self, futures: list[Any]) -> list[tuple[Any, BaseException | None]]:
        """Outcomes from the cluster; results in one message, since each costs a round trip."""
        if len(futures) > 1 and all(future.status == "finished" for future in futures):
            with suppress(Exception, asyncio.CancelledError):  # one is lost: which, they say themselves
                return [(result, None) for result in self._fetched(futures)]
        return [self._outcome(future) for future in futures]

    def _fetched(self, futures: list[Any]) -> list[Any]:
        """Results that are on workers; given up once the scheduler is lost, while Dask would try for 10 s more."""

        async def fetch() -> list[Any]:
            found: list[Any] = await self.client.gather(futures, asynchronous=True)
            return found

        fetching = asyncio.run_coroutine_threadsafe(fetch(), self.client.loop.asyncio_loop)
        while not fetching.done():
            wait([fetching], _PATIENCE_SECONDS)
            if self.client.status != "running":
                fetching.cancel()
                raise self._lost()
        return fetching.result()

    def _outcome(self, future: Any) -> tuple[Any, BaseException | None]:
        """Result and error of a future that is done."""
        try:
            error = future.exception()
            result = None if error is not None else self._fetched([future])[0]
        except (Exception, asyncio.CancelledError) as failed:  # noqa: BLE001  lost between the two: it is told below
            error, result = failed, None
        if error is not None and (self.client.status != "running" or getattr(error, "reason", "") == _LOST):
            raise self._lost() from None
        if type(error).__name__ == "KilledWorker":
            error = WorkerDied(str(error))
        return result, error

    def _finished(self) -> list[Any]:
        """Futures that are done; waits a little for the first."""
        found: list[Any] = []
        with suppress(Empty):
            found.append(self._done.get(timeout=_PATIENCE_SECONDS))
            for in_flight, seconds in _GATHERING:  # every thread has something to do meanwhile
                if len(self._futures) > in_flight * self.slots:
                    time.sleep(min(seconds, self.slots * _GATHERING_FOR_EACH))
                    break
            while True:
                found.append(self._done.get_nowait())
        return found

    def _watch(self) -> None:
        """See whether the scheduler is there, and which workers; never waits for an answer."""
        if self.client.status != "running":
            raise self._lost()
        now = time.monotonic()
        if self._looking is not None and self._looking.done():
            failed = self._looking.exception()  # it is gone, which the client notices as well
            if failed is None:
                self._threads_by_host = _by_host(self._looking.result())
                self._counted(sum(self._threads_by_host.values()), now)
            self._looking = None
        if self._looking is None and now - self._looked >= LOOK_EVERY_SECONDS:
            self._looked = now
            self._looking = asyncio.run_coroutine_threadsafe(
                self.client.scheduler.ncores(), self.client.loop.asyncio_loop
            )
        elif now - self._looked > SILENCE_SECONDS:
            raise self._lost(f"has not answered for {SILENCE_SECONDS:.0f} s")

    def _counted(self, threads: int, now: float) -> None:
        self.slots = max(1, threads)
        self._most = max(self._most, threads)
        if threads < self._most and now - self._refilled > _REFILL_EVERY_SECONDS:
            self._refilled = now
            self._refill()
        if threads:
            self._deserted = None
            return
        self._deserted = self._deserted or now
        if now - self._deserted > self._wait_seconds:
            raise Unreachable(
                f"{self.description}: there have been no workers for {self._wait_seconds:.0f} s. Start some and "
                "build again: what was computed is on disk and counts."
            )
        if now - self._noted > _NOTE_EVERY_SECONDS:
            self._noted = now
            self._note(f"{self.description}: all workers are gone; waiting for new ones.")

    def _lost(self, what: str = "is gone") -> Unreachable:
        return lost(f"The Dask scheduler {what} ({self.description})")

    def hosts(self) -> dict[str, int]:
        """Threads by host, now; a worker's address begins with its host."""
        return self._threads_by_host

    def holdings(self, names: Iterable[str]) -> Mapping[str, Mapping[str, int]]:
        """Bytes by host, by name of what hosts have on their disks (`featureflow.execute.placement.locality`)."""
        found: Mapping[str, Mapping[str, int]] = self._find_locality().holdings(names)
        return found

    @property
    def warnings(self) -> list[str]:
        """What hosts have to say about their disks."""
        said = {} if self._locality is None else self._locality.warnings
        return [f"{host}: {text}" for host, text in sorted(said.items())]

    def _find_locality(self, *, installed: bool = False) -> Any:
        if self._locality is None:
            from featureflow.execute.placement.locality import Locality

            self._locality = Locality(self.client, installed=installed)
        return self._locality

    def cancel(self) -> None:
        """See `Executor`."""
        futures = list(self._futures)
        self._futures.clear()
        self._told.forget()
        if self.client.status == "running":
            with suppress(Exception):  # the scheduler may be gone; the error that led here is the one to tell
                self.client.cancel(futures, force=True)

    def close(self) -> None:
        """See `Executor`."""
        gone = self.client.status != "running"
        self._told.close()
        for thing in self._owned:
            with suppress(Exception):  # closing twice, or after the scheduler: nothing is left to be done
                thing.close(**({"timeout": 1} if gone and thing is self.client else {}))


class _Named(DaskTask):
    """A task whose key says all: Dask hashes what is in a graph's tasks, which takes half of the driver's time."""

    __slots__ = ()

    def __dask_tokenize__(self) -> Any:
        return self.key


def _itself(value: Any) -> Any:
    return value


def _by_host(threads: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for address, n in threads.items():
        found[host_of(address)] = found.get(host_of(address), 0) + n
    return found


def lost(what: str) -> Unreachable:
    """The error for a cluster that is gone, which says all: the client is kept from logging that it can't connect."""
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    return Unreachable(f"{what}. Start it again and build again: what was computed is on disk and counts.")


def name_of(function: Callable[..., Any]) -> str:
    """Name of a task's function, for the dashboard."""
    return str(getattr(function, "__name__", type(function).__name__))
