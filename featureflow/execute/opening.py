"""Open the place of a build: executor, cache, budget, profile; and close what was opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from featureflow.execute.exchange.sharing import settle_exchange
from featureflow.execute.executors import Executor, known_executor, open_executor
from featureflow.execute.placement.caching import caching
from featureflow.execute.profiling.profiler import Profiler
from featureflow.execute.profiling.recorder import Recorder
from featureflow.execute.site import Site
from featureflow.execute.sizing import WORKER_SHARE, Budget, default_memory_bytes
from featureflow.observe.progress import Progress, QuietProgress
from featureflow.spec.models import Target


@dataclass(frozen=True, slots=True)
class Where:
    """Where somebody wants to build.

    ``scheduler``, ``workers``, ``memory_bytes`` and ``scratch`` are what the command line or a notebook say, else the
    target; ``client`` is a ``distributed.Client`` of the user's. ``planning``: nothing is going to be built.
    """

    store_url: str
    scratch: str
    scheduler: str | None = None
    client: Any = None
    workers: int | None = None
    memory_bytes: int | None = None
    target: Target = field(default_factory=Target)
    planning: bool = False


def known_budget(where: Where) -> Budget | None:
    """Memory of the tasks of a build; None where a cluster would have to be asked or started."""
    if where.client is not None:
        return None
    executor = known_executor(where.scheduler, where.workers, where.memory_bytes, where.target)
    return None if executor is None else _budget(executor, where)


def _budget(executor: Executor, where: Where) -> Budget:
    return Budget(
        executor.memory_bytes or where.memory_bytes or default_memory_bytes(),
        executor.threads,
        WORKER_SHARE if executor.memory_bytes else 1.0,
    )


@contextmanager
def open_site(where: Where, progress: Progress | None = None) -> Iterator[Site]:
    """Open it.

    Raises
    ------
    Unreachable
        If a scheduler, its workers or the store do not answer.
    PlanError
        If they can't be used: other versions, a store that not all of them see.
    """
    shown = progress or QuietProgress()
    with Profiler() as profiler, caching(where.scratch, where.target.cache):
        executor = open_executor(
            where.scheduler,
            client=where.client,
            workers=where.workers,
            memory_bytes=where.memory_bytes,
            scratch=where.scratch,
            target=where.target,
            store_url=where.store_url,
            note=shown.note,
            planning=where.planning,
        )
        if executor.dashboard:
            shown.note(f"Dask's dashboard: {executor.dashboard}")
        budget = _budget(executor, where)
        try:
            site = Site(where.store_url, where.scratch, profiler.watch(executor), budget, Recorder(shown))
            site.exchange = where.target.exchange or "auto"
            settle_exchange(site)
            yield site
        finally:
            executor.close()
