"""Where exchange files are: on a disk that all see, on the scratch disk of one host, or in the store.

A place is a text. A path or URL means the same everywhere. ``scratch:exchange/ab/….arrow`` is relative to the scratch
folder of whichever host reads or writes it: so a task can be given one name for all hosts. Who holds such a file is
said by the manifest (`featureflow.execute.exchange.manifest`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import uuid4

import pyarrow as pa

from featureflow.core.errors import ComputeError
from featureflow.execute.placement.host import own_scratch

#: Prefix of a place on the own scratch disk.
SCRATCH = "scratch:"
#: File in a scratch folder that names the disk: processes that see the same folder read the same name.
DISK_NAME = "disk-name"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Slices that a host is asked for: one bucket of some files of its scratch.

    ``addresses`` are those of its workers: the first that answers is enough.
    """

    addresses: tuple[str, ...]
    names: tuple[str, ...]
    bucket: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What a host has of them: batches by name, and their bytes; ``reason`` says why some, or all, are not there."""

    batches: dict[str, pa.RecordBatch] = field(default_factory=dict)
    bytes: int = 0
    reason: str = ""


#: Ask hosts for slices, one request each; an answer for each, also from a host that can't be reached.
Ask = Callable[[Sequence[Wanted]], list[Sent]]


@dataclass(frozen=True, slots=True)
class Here:
    """Where a task of several hosts runs: the scratch folder, name of its disk, the worker's address."""

    scratch: str
    disk: str
    address: str
    ask: Ask


_here: ContextVar[Here | None] = ContextVar("featureflow_here", default=None)
#: Finds out where this is, if nobody said so; set by the module that knows the cluster's workers.
_finders: list[Callable[[], Here | None]] = []


@contextmanager
def being(here: Here) -> Iterator[None]:
    """Run a block as on that host."""
    token = _here.set(here)
    try:
        yield
    finally:
        _here.reset(token)


def on_finding(finder: Callable[[], Here | None]) -> None:
    """Have `here` ask this function, too."""
    if finder not in _finders:
        _finders.append(finder)


def here() -> Here | None:
    """Where this task runs, if hosts have scratch disks of their own and slices move between them."""
    found = _here.get()
    if found is not None:
        return found
    for finder in _finders:
        found = finder()
        if found is not None:
            return found
    return None


def on_disk(place: str) -> str:
    """Path of a place on this host; other places stay as they are.

    Raises
    ------
    ComputeError
        For a place on scratch where no worker of ours runs.
    """
    if not place.startswith(SCRATCH):
        return place
    found = here()
    if found is None:
        raise ComputeError(
            f"{place} is on the scratch disk of a worker, but this task does not run on one that was prepared. "
            "This is a mistake in featureflow; `exchange: store` does without such files."
        )
    return os.path.join(found.scratch, place.removeprefix(SCRATCH))


def scratch_on_worker(given: str, driver: tuple[str, int]) -> str:
    """Scratch folder of the worker that this is: ``FEATUREFLOW_SCRATCH`` of its own host, else the driver's.

    Parameters
    ----------
    given
        The driver's folder.
    driver
        Host name and process of the driver; workers in that process have its folder.
    """
    if driver != (socket.gethostname(), os.getpid()):
        given = os.environ.get("FEATUREFLOW_SCRATCH") or given
    return own_scratch(given)


def disk_name(scratch: str) -> str:
    """Name of the disk of a scratch folder, made if it has none; all processes that see the folder get the same.

    Raises
    ------
    OSError
        If the folder can't be written.
    """
    os.makedirs(scratch, exist_ok=True)
    path = os.path.join(scratch, DISK_NAME)
    temporary = f"{path}.{uuid4().hex}.tmp"
    with suppress(FileNotFoundError):
        return _name_in(path)
    with open(temporary, "w", encoding="ascii") as sink:
        sink.write(uuid4().hex[:16])
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)  # of several that start at once, one names it
    finally:
        os.unlink(temporary)
    return _name_in(path)


def _name_in(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
