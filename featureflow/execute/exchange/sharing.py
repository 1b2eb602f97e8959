"""What the hosts of a build share, found out before anything starts: the scratch folder, the store.

The driver leaves a file, and each worker looks for it where it would read and write itself.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

from featureflow.core.errors import FeatureflowError, PlanError, Unreachable
from featureflow.core.storage import exists, is_local, join, local_path
from featureflow.execute.clusters.hosts import has_hosts, known_hosts, on_workers
from featureflow.execute.exchange.places import here, scratch_on_worker
from featureflow.execute.exchange.scratch import evict, evict_work
from featureflow.execute.executors import Executor
from featureflow.execute.site import Site

MODES = ("auto", "local", "shared", "store")
#: Folder of the store for what driver and workers of several hosts share during a build.
WORK = "work"


@dataclass(frozen=True, slots=True)
class Look:
    """What a worker is asked to look at: the driver's scratch and store, with the files that the driver left there."""

    scratch: str
    scratch_file: str
    store_url: str
    store_file: str
    driver: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What it saw: the driver's scratch, and what keeps it from the store."""

    scratch: bool
    problem: str


def settle_exchange(site: Site) -> None:
    """Choose how slices get from host to host, and where small files are that all share.

    In ``auto`` mode slices go through the scratch folder if the driver and all workers see the same one, else they stay
    on their host's disk until somebody asks for them (``local``). Threads of this process share everything.

    Raises
    ------
    PlanError
        For an unknown mode, or ``shared`` where a worker does not see the scratch folder.
    Unreachable
        If a worker does not see the store.

    Notes
    -----
    Cost: one message to each worker, one more in local mode; no request to a remote store but one by each worker.
    """
    site.exchange, site.board = choose_exchange(site.executor, site.scratch, site.store_url, site.exchange)


def choose_exchange(executor: Executor, scratch: str, store_url: str, mode: str) -> tuple[str, str]:
    """Choose as `settle_exchange` does; gives the mode, and the folder or URL that the driver and all workers see."""
    if mode not in MODES:
        raise PlanError(f"exchange: {mode!r} is unknown. Give {', '.join(MODES)}.")
    if not has_hosts(executor):
        mode = "store" if mode == "store" else "shared"
    else:
        mode = _checked(mode, _look(executor, scratch, store_url), scratch)
        if mode == "local":
            _install(executor, scratch)
    return mode, scratch if mode == "shared" else join(store_url, WORK)


def _checked(mode: str, seen: dict[str, Seen], scratch: str) -> str:
    """The mode, if it fits what the workers saw."""
    blind = {address: one.problem for address, one in seen.items() if one.problem}
    if blind:
        raise Unreachable("\n".join(f"worker {address}: {text}" for address, text in sorted(blind.items())))
    elsewhere = sorted(address for address, one in seen.items() if not one.scratch)
    if mode == "shared" and elsewhere:
        raise PlanError(
            f"exchange: shared needs a scratch folder that all hosts share, but {len(elsewhere)} of {len(seen)} "
            f"workers ({', '.join(elsewhere[:3])}) don't see {scratch}. Give a --scratch that they share, or "
            "exchange: local."
        )
    if mode == "auto":
        return "shared" if seen and not elsewhere else "local"
    return mode


def clean_up(site: Site) -> None:
    """Remove what is old from scratch, from that of all hosts, and from the store's work folder.

    What can't be removed now is no reason to fail a build: `gc` and later builds try again.
    """
    evict(site.scratch)
    if site.exchange == "shared":
        return
    with suppress(FeatureflowError, OSError):
        evict_work(site.board)
    if site.exchange == "local":
        one_each = [min(addresses) for addresses in known_hosts(site.executor).values()]
        on_workers(site.executor, evict_here, addresses=one_each)


def evict_here() -> int:
    """Remove what is old from the scratch of the host that this runs on."""
    own = here()
    return 0 if own is None else evict(own.scratch)


def _install(executor: Executor, scratch: str) -> None:
    client = getattr(executor, "client", None)
    if client is not None:
        from featureflow.execute.exchange.slice_server import install_servers

        install_servers(client, scratch)


def _look(executor: Executor, scratch: str, store_url: str) -> dict[str, Seen]:
    with _left_in(scratch, make=True) as scratch_file, _left_near(store_url) as store_file:
        driver = (socket.gethostname(), os.getpid())
        return on_workers(executor, look_around, Look(scratch, scratch_file, store_url, store_file, driver))


@contextmanager
def _left_in(folder: str, *, make: bool = False) -> Iterator[str]:
    """Leave an empty file of a random name in a folder, and take it away again; gives the name."""
    if make:
        os.makedirs(folder, exist_ok=True)
    name = f"probe-{uuid4().hex}"
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii"):
        pass
    try:
        yield name
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


@contextmanager
def _left_near(store_url: str) -> Iterator[str]:
    """Leave a file in a store that is a path, or in the folder where it will be; gives its path. Nothing elsewhere."""
    if not is_local(store_url):
        yield ""
        return
    folder = local_path(store_url)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        with _left_in(folder) as name:
            yield os.path.join(folder, name)
    except PermissionError:  # whoever only plans need not be able to write
        yield ""


def look_around(look: Look) -> Seen:
    """Look for what the driver left; runs on workers."""
    own = here()
    scratch = scratch_on_worker(look.scratch, look.driver) if own is None else own.scratch
    shared = os.path.exists(os.path.join(scratch, look.scratch_file))
    return Seen(shared, _problem_of_store(look))


def _problem_of_store(look: Look) -> str:
    if is_local(look.store_url):
        if not look.store_file or os.path.exists(look.store_file):
            return ""
        return (
            f"can't see the store {local_path(look.store_url)} that the driver sees: the hosts do not share that "
            "folder. Put the store on a file system that all of them mount, or give a URL such as s3://bucket/store."
        )
    try:
        exists(look.store_url)
    except FeatureflowError as error:
        return f"can't reach the store: {error}"
    return ""
