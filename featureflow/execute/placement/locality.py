"""Who has what: workers open their host's chunk cache and say what is in it; the scheduler keeps the list; drivers ask.

Only public parts of Dask are used: plugins, events, and host names as ``workers=`` of a task (they are looked up when
the task is given to a worker, not before, so a worker that came back under another port counts). What is relied on is
tested in ``tests/clusters/test_dask_contract.py``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any
from uuid import uuid4

from distributed import Client, Scheduler, SchedulerPlugin, Worker, WorkerPlugin
from tornado.ioloop import PeriodicCallback

from featureflow.core.chunk_cache import ChunkCache
from featureflow.core.remote import use_cache
from featureflow.execute.clusters.workers import WorkerSettings
from featureflow.execute.placement.caching import open_cache
from featureflow.execute.placement.host import host_of, own_scratch
from featureflow.execute.placement.placement import Directory

log = logging.getLogger(__name__)

#: Topic of the events in which workers say what their hosts have.
TOPIC = "featureflow-held"
#: Name of the scheduler's plugin.
DIRECTORY = "featureflow-directory"
#: How often a worker says what has changed, in milliseconds; and names in one event.
SAY_EVERY_MS, _NAMES = 500, 5_000
#: A fifth of a second each: how long a subscription may take.
_HELLOS = 25
#: How long the first question waits for hosts that have not spoken yet.
_SPEAK_SECONDS = 5.0


class CachePlugin(WorkerPlugin):
    """Opens the host's chunk cache in a worker, and says what is in it: all at first, then what changes.

    A worker that is started again says what is on its disk still.
    """

    name = "featureflow-chunk-cache"

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._saying: PeriodicCallback | None = None
        self._cache: ChunkCache | None = None

    async def setup(self, worker: Worker) -> None:
        """Open the cache. Whatever is wrong with its disk, the worker works without."""
        settings = self.settings
        self._cache = open_cache(own_scratch(settings.scratch), settings.cache_bytes)
        if self._cache is None:
            _say(worker, host_of(worker.address), {}, whole=True)
            return
        host, cache = host_of(worker.address), self._cache
        held = await _in_thread(cache.holdings)
        cache.changes()  # are in it
        _say(worker, host, held, whole=True)
        told = False

        def say() -> None:
            nonlocal told
            changes = cache.changes()
            if changes:
                _say(worker, host, changes)
            if cache.warning and not told:
                told = True
                worker.log_event(TOPIC, {"host": host, "warning": cache.warning})

        self._saying = PeriodicCallback(say, SAY_EVERY_MS)
        self._saying.start()

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Say no more; a worker within a process that goes on leaves it as it was."""
        if self._saying is not None:
            self._saying.stop()
        used = use_cache(None)
        if used is not self._cache:
            use_cache(used)


async def _in_thread(function: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(function)


def _say(worker: Worker, host: str, held: Mapping[str, int], *, whole: bool = False) -> None:
    names = iter(held.items())
    while True:
        part = dict(islice(names, _NAMES))
        if not part and not whole:
            return
        worker.log_event(TOPIC, {"host": host, "whole": whole, "held": part})
        whole = False


def _hear(directory: Directory, said: Any) -> None:
    """Take in what a worker has said."""
    if "held" in said:
        (directory.replace if said["whole"] else directory.change)(said["host"], said["held"])


class DirectoryPlugin(SchedulerPlugin):
    """Keeps the directory on the scheduler, for all drivers."""

    name = DIRECTORY
    idempotent = True  # the first driver's stays: it has heard everything

    def __init__(self) -> None:
        self.directory = Directory()
        self._scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Take in what workers said before."""
        self._scheduler = scheduler
        hosts = {host_of(address) for address in scheduler.workers}
        for _, said in scheduler.get_events(TOPIC):
            if said.get("host") in hosts:
                _hear(self.directory, said)

    def log_event(self, topic: str, msg: Any) -> None:
        """A worker says something."""
        if topic == TOPIC:
            _hear(self.directory, msg)

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """With the last worker of a host its disk is gone."""
        host = host_of(worker)
        if not any(host_of(address) == host for address in scheduler.workers if address != worker):
            self.directory.remove(host)


def _ask_directory(
    names: list[str], dask_scheduler: Any
) -> tuple[dict[str, dict[str, int]], dict[str, bool]]:
    """What the scheduler's plugin knows of these names, and which hosts have spoken; runs on the scheduler."""
    directory = dask_scheduler.plugins[DIRECTORY].directory
    hosts = {host_of(address) for address in dask_scheduler.workers}
    return directory.of(names), {host: host in directory.known for host in hosts}


class Locality:
    """A driver's view of who has what.

    It asks the scheduler's plugin. A scheduler that can't have one (featureflow is not installed there) only passes on
    what workers say, and the list is kept here.

    Parameters
    ----------
    installed
        Whether workers have our plugins: then the first question waits until all hosts have spoken.
    """

    def __init__(self, client: Client, *, installed: bool = False) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._own: Directory | None = None
        self._subscribed, self._live = threading.Event(), False
        self._early: list[tuple[float, Any]] = []  # heard before the past is taken in
        self.warnings: dict[str, str] = {}
        try:
            client.register_plugin(DirectoryPlugin())
            self._ask(["nothing"])
        except Exception as error:  # noqa: BLE001  whatever a foreign scheduler says to it
            log.info("the scheduler keeps no directory (%r); this process does", error)
            self._own = Directory()
        self._subscribe()
        self._patience = _SPEAK_SECONDS if installed else 0.0

    @property
    def kept_here(self) -> bool:
        """Whether the list is in this process, since the scheduler can't keep it."""
        return self._own is not None

    def _subscribe(self) -> None:
        """Hear what workers say from now on, and what they have said."""
        token = uuid4().hex
        self._client.subscribe_topic(TOPIC, self._heard)
        for _ in range(_HELLOS):  # a subscription takes effect at some time; then we hear ourselves
            self._client.log_event(TOPIC, {"hello": token})
            if self._subscribed.wait(0.2):
                break
        past = self._client.get_events(TOPIC)
        until = past[-1][0] if past else 0.0
        with self._lock:
            later = [event for event in self._early if event[0] > until]
            for event in (*past, *later):
                self._take(event[1])
            self._live = True

    def _heard(self, event: tuple[float, Any]) -> None:
        self._subscribed.set()
        with self._lock:
            if self._live:
                self._take(event[1])
            else:
                self._early.append(event)

    def _take(self, said: Any) -> None:
        if "warning" in said:
            self.warnings[said["host"]] = said["warning"]
        if self._own is not None:
            _hear(self._own, said)

    def holdings(self, names: Iterable[str]) -> dict[str, dict[str, int]]:
        """Bytes by host for each of the names that anybody has. One message to the scheduler."""
        wanted = list(names)
        until, self._patience = time.monotonic() + self._patience, 0.0
        found, spoken = self._ask(wanted)
        while not all(spoken.values()) and time.monotonic() < until:
            time.sleep(0.05)
            found, spoken = self._ask(wanted)
        return found

    def _ask(self, names: list[str]) -> tuple[dict[str, dict[str, int]], dict[str, bool]]:
        if self._own is None:
            answer: tuple[dict[str, dict[str, int]], dict[str, bool]] = self._client.run_on_scheduler(
                _ask_directory, names=names
            )
            return answer
        hosts = {host_of(address) for address in self._client.nthreads()}
        with self._lock:
            return self._own.of(names), {host: host in self._own.known for host in hosts}


def cache_plugins(settings: WorkerSettings) -> list[WorkerPlugin]:
    """The plugin that opens a host's cache; see `featureflow.execute.clusters.workers.PLUGINS`."""
    return [CachePlugin(settings)]
