"""Ask the workers of a cluster something, each where it is: which disk do you see, which files do you have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from featureflow.execute.exchange.exchange_file import Rekeyed, held
from featureflow.execute.exchange.places import here
from featureflow.execute.executors import Executor

#: A worker that does not answer for so long is taken as lost; a stopped process accepts connections and says nothing.
PATIENCE_SECONDS = 10.0
#: For looking at many files on a disk.
LOOK_SECONDS = 120.0


def has_hosts(executor: Executor) -> bool:
    """Whether tasks run in other processes, which may be on other hosts."""
    return hasattr(executor, "on_workers") or getattr(executor, "client", None) is not None


def on_workers(
    executor: Executor,
    function: Callable[..., Any],
    *arguments: Any,
    addresses: Sequence[str] | None = None,
    patience: float = PATIENCE_SECONDS,
) -> dict[str, Any]:
    """Call a function on workers (all, if no addresses are given), outside of any task; results by address.

    Workers that can't be reached, do not answer for ``patience`` seconds, or where it failed are left out.
    """
    if addresses is not None and not addresses:
        return {}
    ask: Callable[..., dict[str, Any]] | None = getattr(executor, "on_workers", None)
    if ask is not None:
        return ask(function, *arguments, addresses=addresses)
    from featureflow.execute.exchange.slice_server import call_on_workers

    client: Any = getattr(executor, "client", None)
    if getattr(client, "status", "running") != "running":
        return {}  # what it would be asked through is gone
    with suppress(
        OSError, TimeoutError
    ):  # the scheduler is gone: who sends it the next task finds out, and says so
        return call_on_workers(client, function, arguments, addresses, patience)
    return {}


def known_hosts(executor: Executor) -> dict[str, tuple[str, ...]]:
    """Addresses of workers by the name of the scratch disk that they see."""
    found: dict[str, list[str]] = {}
    for address, disk in sorted(on_workers(executor, disk_here).items()):
        if disk:
            found.setdefault(disk, []).append(address)
    return {disk: tuple(addresses) for disk, addresses in found.items()}


def disk_here() -> str:
    """Name of this worker's scratch disk; empty if it is not prepared."""
    own = here()
    return "" if own is None else own.disk


def ask_hosts(
    executor: Executor, hosts: Mapping[str, Sequence[str] | set[str]], paths: Sequence[str]
) -> list[list[Rekeyed]]:
    """Ask one worker of each host which of these files it has."""
    one_each = [min(addresses) for addresses in hosts.values() if addresses]
    answers = on_workers(executor, held_here, tuple(paths), addresses=one_each, patience=LOOK_SECONDS)
    return [answers[address] for address in sorted(answers)]


def held_here(paths: Sequence[str]) -> list[Rekeyed]:
    """Handles of those of these files that are on this host."""
    return [handle for path in paths if (handle := held(path)) is not None]
