"""What every worker of a cluster needs before it may run a task, also one that joins later.

`install_plugins` is called once for each connection to a cluster. It refuses workers whose libraries differ from the
driver's, registers the plugins of `PLUGINS` (Dask gives them to workers that join later as well) and asks each
worker how it went. In a task, `featureflow.execute.placement.host` says where it runs.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from distributed import Client, SchedulerPlugin, Worker, WorkerPlugin

from featureflow.core.errors import PlanError, Unreachable
from featureflow.execute.clusters.dask_executor import lost
from featureflow.execute.clusters.environment import WorkerReport, give_back, prepare_process
from featureflow.execute.clusters.warming import load_modules, warm_kernels
from featureflow.execute.placement.host import host_of, own_host, own_scratch, settle

#: Functions that make plugins, as ``module:function``; each takes the `WorkerSettings` and gives plugins of Dask's
#: classes. They are installed in this order, and a worker has them all before it gets its first task.
PLUGINS: list[str] = [
    "featureflow.execute.clusters.workers:environment_plugins",
    "featureflow.execute.placement.locality:cache_plugins",
]

#: Libraries of which driver and workers must have the same version, since files would differ with it.
SAME_VERSIONS = ("featureflow", "pyarrow", "polars", "numpy", "numba")


#: Preparing workers takes seconds; one that does not answer for so long hangs.
PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.5


def own_versions() -> tuple[tuple[str, str | None], ...]:
    """Libraries of this process that have to be the same everywhere; of Python the first two numbers."""
    found: list[tuple[str, str | None]] = [("python", "{}.{}".format(*sys.version_info))]
    for name in SAME_VERSIONS:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append((name, None))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What the driver tells all workers; plain data, small, without secrets.

    Parameters
    ----------
    scratch
        The driver's folder for temporary files. On a worker ``FEATUREFLOW_SCRATCH`` comes before it, since hosts
        have different disks: use `own_scratch`.
    store_url
        Where tables are; empty where there is no store yet.
    cache_bytes
        Budget of the chunk cache of a host; None for the default, 0 for none.
    exchange
        How slices get from the task that wrote them to the one that reads them; None: chosen by the build.
    driver
        Host name and process of the driver: a worker in that very process changes nothing there.
    versions
        The driver's libraries, which a worker that joins later compares with its own.
    """

    scratch: str
    store_url: str = ""
    cache_bytes: int | None = None
    exchange: Literal["local", "shared", "store"] | None = None
    driver: tuple[str, int] = field(default_factory=lambda: (socket.gethostname(), os.getpid()))
    versions: tuple[tuple[str, str | None], ...] = field(default_factory=own_versions)

    @property
    def is_here(self) -> bool:
        """Whether this process is the driver's."""
        return self.driver == (socket.gethostname(), os.getpid())


#: What became of this worker's preparation; empty where no worker runs.
_report: list[WorkerReport] = []
#: Whether the allocator of this process is set by us.
_prepared: list[bool] = []


class EnvironmentPlugin(WorkerPlugin):
    """Allocator, native pools, sizes, scratch: see `featureflow.execute.clusters.environment`."""

    name = "featureflow-environment"

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    async def setup(self, worker: Worker) -> None:
        """Prepare the process; problems are kept, and told when somebody asks or a task comes."""
        settings = self.settings
        if settings.is_here:  # the driver's process has its own settings
            settle(host_of(worker.address), None)
            _report[:] = [WorkerReport(settings.scratch)]
            return
        settle(host_of(worker.address), os.environ.get("FEATUREFLOW_SCRATCH"))
        scratch = own_scratch(settings.scratch)
        differences = other_versions(settings)
        if differences:
            _report[:] = [WorkerReport(scratch, problem=differences)]
            return
        limit = worker.memory_manager.memory_limit
        _report[:] = [prepare_process(scratch, str(worker.local_directory), limit)]
        _prepared[:] = [True]
        await asyncio.to_thread(load_modules)
        # nobody waits for machine code: where it has to be compiled that takes a while, and few tasks need all of it
        threading.Thread(target=warm_kernels, name="featureflow-warm", daemon=True).start()


def other_versions(settings: WorkerSettings) -> str:
    """What is wrong with this worker's libraries; empty if nothing is."""
    pairs = zip(own_versions(), settings.versions, strict=True)
    differ = [f"{name} {here}, not {there}" for (name, here), (_, there) in pairs if here != there]
    if not differ:
        return ""
    return (
        f"its libraries differ from the driver's ({'; '.join(differ)}). End it, or install the same versions."
    )


def environment_plugins(settings: WorkerSettings) -> list[WorkerPlugin]:
    """The plugin that prepares a worker's process."""
    return [EnvironmentPlugin(settings)]


def install_plugins(
    client: Client, settings: WorkerSettings, note: Callable[[str], None] = lambda _: None
) -> None:
    """Make the workers of a cluster fit for our tasks: those that are there, and those that join later.

    Parameters
    ----------
    note
        Gets a line for people about what could not be set on workers that ran already.

    Raises
    ------
    PlanError
        If libraries of a worker differ from the driver's; holds a table of the differences.
    Unreachable
        If a worker can't write to its scratch folder.

    Notes
    -----
    Installing again replaces the plugins. Cost: one message to each worker for each plugin.
    """
    reports = _within_patience(client, lambda: _install(client, settings))
    problems = {
        f"{host_of(address)}: {report.problem}" for address, report in reports.items() if report.problem
    }
    if problems:
        raise Unreachable("\n".join(sorted(problems)))
    for warning in sorted({warning for report in reports.values() for warning in report.warnings}):
        note(warning)


def _install(client: Client, settings: WorkerSettings) -> dict[str, WorkerReport]:
    refuse_other_versions(client)
    for plugin in _made(settings):
        client.register_plugin(plugin)
    reports: dict[str, WorkerReport] = client.run(report_of_process)
    return reports


def _within_patience(client: Client, ask: Callable[[], dict[str, WorkerReport]]) -> dict[str, WorkerReport]:
    """Ask all workers something; again if one dies meanwhile, as long as the scheduler is there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = _answer(client, ask, deadline)
        if not isinstance(answer, OSError):
            return answer
        time.sleep(_PAUSE_SECONDS)  # the client notices within it if it is the scheduler that is gone
        if client.status != "running" or time.monotonic() > deadline:
            raise lost("The Dask scheduler is gone, or one of its workers")


def _answer(
    client: Client, ask: Callable[[], dict[str, WorkerReport]], deadline: float
) -> dict[str, WorkerReport] | OSError:
    """What came back, in a thread that nobody waits for at the end: Dask's calls have no limit of time."""
    answers: list[dict[str, WorkerReport] | BaseException] = []

    def call() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001  it is raised in the thread that asks
            answers.append(error)

    thread = threading.Thread(target=call, name="featureflow-install", daemon=True)
    thread.start()
    while thread.is_alive() and time.monotonic() < deadline and client.status == "running":
        thread.join(0.2)
    if client.status != "running":
        raise lost("The Dask scheduler is gone, or one of its workers")
    if not answers:
        raise Unreachable(
            f"Some worker of {', '.join(sorted(client.nthreads()))} has not answered for {PATIENCE_SECONDS:.0f} s. "
            "End it (a stopped process still holds its connection), and build again."
        )
    answer = answers[0]
    if isinstance(answer, BaseException) and not isinstance(answer, OSError):
        raise answer
    return answer


def _made(settings: WorkerSettings) -> Iterable[WorkerPlugin | SchedulerPlugin]:
    for place in PLUGINS:
        module, _, function = place.partition(":")
        yield from getattr(importlib.import_module(module), function)(settings)


def report_of_process() -> WorkerReport:
    """What became of this worker's preparation; runs on workers."""
    if not _report:
        return WorkerReport("", problem="featureflow's plugin is not installed on this worker.")
    return _report[0]


def run_prepared(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task, unless this worker joined with something that made its preparation fail; then free its memory.

    Raises
    ------
    Unreachable
        If it did.
    """
    if _report and _report[0].problem:
        raise Unreachable(f"worker {own_host()}: {_report[0].problem}")
    try:
        return function(*arguments)
    finally:
        if _prepared:
            give_back()


def refuse_other_versions(client: Client) -> None:
    """Compare the libraries of the scheduler and all workers with the driver's.

    Raises
    ------
    PlanError
        With a table of what differs.
    """
    found: Any = client.get_versions(packages=list(SAME_VERSIONS))
    mine = _versions(found["client"])
    rows = []
    # Dask's scheduler unpickles tasks, too
    for address, worker in [("the scheduler", found["scheduler"]), *sorted(found["workers"].items())]:
        theirs = _versions(worker)
        rows += [
            f"  {address:<32} {name:<12} {theirs[name] or 'missing':<16} {mine[name]}"
            for name in mine
            if theirs[name] != mine[name]
        ]
    if rows:
        title = f"  {'where':<32} {'library':<12} {'there':<16} here"
        raise PlanError(
            "The libraries of these processes differ from the driver's, so their files could, too. Install the same "
            "versions (one image or lock file for both):\n" + "\n".join([title, *rows])
        )


def _versions(found: Any) -> dict[str, str | None]:
    """Versions that have to be equal; of Python the first two numbers."""
    packages = found["packages"]
    python = ".".join(str(found["host"]["python"]).split(".")[:2])
    return {"python": python, **{name: packages.get(name) for name in SAME_VERSIONS}}
