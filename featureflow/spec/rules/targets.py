"""Rules about targets: settings that exclude or need each other."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from featureflow.spec.messages import Finding
from featureflow.spec.paths import Path
from featureflow.spec.rules.scope import Scope
from featureflow.spec.targets import Target


def target_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about `targets:`."""
    for name, target in scope.project.targets.items():
        if scope.complete("targets", name):
            yield from _target(("targets", name), target)


def _target(path: Path, target: Target) -> Iterator[Finding]:
    scheduler, adaptive = target.scheduler, target.adaptive
    if scheduler is not None and target.cluster is not None:
        message = "a target has a scheduler that runs, or a cluster to start. Leave one out."
        yield Finding((*path, "scheduler"), message, at_key=True)
    elif scheduler is not None:
        yield from _scheduler(path, target, scheduler)
    if adaptive is not None:
        if target.cluster is None:
            message = "only a cluster that we start can be scaled. Add cluster:, or leave adaptive out."
            yield Finding((*path, "adaptive"), message, at_key=True)
        if target.workers is not None:
            message = "adaptive says how many workers there are. Leave workers or adaptive out."
            yield Finding((*path, "workers"), message, at_key=True)
        if adaptive.minimum > adaptive.maximum:
            message = f"minimum is {adaptive.minimum}, which is more than maximum, {adaptive.maximum}."
            yield Finding((*path, "adaptive"), message)
    if target.tls is not None and (target.tls.cert is None) != (target.tls.key is None):
        message = "a certificate and its private key belong together. Give cert: and key:."
        yield Finding((*path, "tls"), message)


def _scheduler(path: Path, target: Target, scheduler: str) -> Iterator[Finding]:
    place = (*path, "scheduler")
    if scheduler not in ("threads", "local") and "://" not in scheduler:
        message = f"must be threads, local or an address such as tls://host:8786; got {scheduler!r}."
        yield Finding(place, message)
    elif scheduler.startswith("tcp://"):
        if target.tls is not None:
            message = f"{scheduler!r} is not encrypted, though tls: is given. Write tls://{scheduler[6:]}."
            yield Finding(place, message)
        elif not target.insecure and not is_loopback(scheduler):
            yield Finding(place, unencrypted(scheduler))


def is_loopback(address: str) -> bool:
    """Whether an address is one of this machine alone."""
    host = (urlsplit(address).hostname or "").strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def unencrypted(address: str) -> str:
    """What to say about a scheduler on another host that is talked to in the clear."""
    return (
        f"{address!r} is on another host and not encrypted: whoever can reach it can run code as you. "
        f"Start it with TLS and write tls://{address.removeprefix('tcp://')}, or set insecure: true in the target "
        "if the network is yours alone."
    )
