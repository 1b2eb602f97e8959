"""Opening what a target names: a local cluster, a scheduler that runs, or a cluster class of the field.

What is started here is closed with the executor, and nothing else. Workers of clusters that we start get their
environment before they begin; those that ran already get what can still be set, from `install_plugins`.
"""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from featureflow.core.errors import PlanError, Unreachable
from featureflow.execute.clusters.classes import complete
from featureflow.execute.clusters.dask_executor import DaskExecutor, lost
from featureflow.execute.clusters.workers import WorkerSettings
from featureflow.spec.rules.targets import is_loopback, unencrypted
from featureflow.spec.targets import Cluster, Target, Tls, is_secret

#: Cluster classes that a spec may name. Others are allowed by the machine: `allowed_classes`.
KNOWN_CLASSES = (
    "coiled.Cluster",
    "dask_gateway.GatewayCluster",
    *(f"dask_jobqueue.{kind}Cluster" for kind in ("HTCondor", "LSF", "Moab", "OAR", "PBS", "SGE", "SLURM")),
    "dask_kubernetes.operator.KubeCluster",
    "distributed.LocalCluster",
    "distributed.SSHCluster",
)
#: What to install for a class, where it is not the module's own name.
_PACKAGES = {
    "dask_kubernetes": "dask-kubernetes",
    "dask_jobqueue": "dask-jobqueue",
    "dask_gateway": "dask-gateway",
}

_WAIT_ADDRESS_SECONDS = 30.0
_WAIT_CLUSTER_SECONDS = 600.0
#: People get a line this often while there are no workers.
NOTE_EVERY_SECONDS = 10.0

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the target and the command line ask of a cluster; None where they say nothing."""

    scratch: str
    workers: int | None = None
    threads: int | None = None
    memory_bytes: int | None = None
    insecure: bool = False
    security: Any = None


def allowed_classes() -> frozenset[str]:
    """Cluster classes that may be named: ours, and those of the user's or the site's configuration.

    ``FEATUREFLOW_ALLOW_CLUSTERS`` (names with commas between them), or ``featureflow: {allow_clusters: [...]}`` in
    Dask's configuration (``~/.config/dask/*.yaml``, ``/etc/dask/*.yaml``). Never the spec: whoever may write that
    must not choose which code runs.
    """
    import dask

    configured = dask.config.get("featureflow.allow_clusters", [])
    named = configured.split(",") if isinstance(configured, str) else [str(name) for name in configured]
    named += os.environ.get("FEATUREFLOW_ALLOW_CLUSTERS", "").split(",")
    return frozenset((*KNOWN_CLASSES, *(name.strip() for name in named if name.strip())))


def security_of(tls: Tls | None) -> Any:
    """Dask's security object for a target's ``tls:``; None where Dask's own configuration holds.

    Raises
    ------
    PlanError
        If a file is missing.
    """
    if tls is None:
        return None
    from distributed import Security

    files = {name: os.path.expanduser(path) for name, path in tls.model_dump(exclude_none=True).items()}
    for name, path in files.items():
        if not os.path.isfile(path):
            raise PlanError(f"tls: {name}: {path} is not there. Give the path of a PEM file on this machine.")
    ours = {
        f"tls_{role}_{name}": files[name]
        for role in ("client", "scheduler", "worker")
        for name in ("cert", "key")
        if name in files
    }
    return Security(tls_ca_file=files["ca"], require_encryption=True, **ours)


def connect(address: str, target: Target, settings: WorkerSettings, note: Note) -> DaskExecutor:
    """Connect to a scheduler that runs.

    Raises
    ------
    PlanError
        If it is on another host and not encrypted, without ``insecure: true``; or if libraries differ.
    Unreachable
        If nothing answers within 10 s, or no worker comes in time.
    """
    from distributed import Client

    if address.startswith("tcp://") and not target.insecure and not is_loopback(address):
        raise PlanError(f"The scheduler {unencrypted(address)}")
    security = security_of(target.tls)
    try:
        client = Client(address, timeout="10s", set_as_default=False, security=security)
    except (OSError, TimeoutError) as error:
        hint = "Is it running, and is the address right?"
        if address.startswith("tls://"):
            hint += " If it is, do its certificates and ours come from one authority?"
        raise Unreachable(f"No Dask scheduler answers at {address}: {error}. {hint}") from error
    except (
        TypeError,
        ValueError,
    ) as error:  # what Dask says where TLS is asked for and no certificate is named
        raise PlanError(
            f"{address}: {error}. Name the certificates: tls: {{ca: …, cert: …, key: …}} in the target, or "
            "distributed.comm.tls in Dask's configuration."
        ) from error
    seconds = (
        target.wait.microseconds / 1e6 if target.wait and target.wait.microseconds else _WAIT_ADDRESS_SECONDS
    )
    try:
        what = f"The Dask scheduler at {address}"
        wait_for_workers(client, what, seconds, note, f"Start some: dask worker {address}")
        return DaskExecutor(client, (client,), settings=settings, note=note, wait_seconds=seconds)
    except BaseException as error:
        with suppress(Exception):  # the scheduler may be gone; the error that led here is the one to tell
            client.close(timeout=5)
        if isinstance(error, OSError):
            raise lost(f"The Dask scheduler at {address} is gone") from error
        raise


def local_cluster(wish: Wish, settings: WorkerSettings, note: Note) -> DaskExecutor:
    """Start processes of this machine: a quarter as many as cores with four threads each, if nothing is asked for."""
    from featureflow.execute.executors import usable_cores

    cores = usable_cores()
    # one memory limit, cache and event loop for four threads; two processes would hold 275 MB of libraries each
    n_workers = wish.workers or max(1, cores // 4)
    threads = wish.threads or max(1, cores // n_workers)
    wish = replace(wish, workers=n_workers, threads=threads)
    cluster = Cluster.model_validate({"class": "distributed.LocalCluster"})
    description = f"local Dask cluster, {n_workers} processes of {threads} threads"
    return _start(cluster, Target(), wish, settings, note, description)


def start_cluster(target: Target, wish: Wish, settings: WorkerSettings, note: Note) -> DaskExecutor:
    """Start the cluster of a target, scale it, wait for its first worker.

    Raises
    ------
    PlanError
        If its class is not allowed or does not take what it is given; if libraries differ.
    Unreachable
        If it can't be started, or no worker comes in time.
    """
    if target.cluster is None:
        raise ValueError("the target has no cluster")
    name = target.cluster.class_
    if name not in allowed_classes():
        raise PlanError(
            f"cluster class {name!r} is not allowed. Known: {', '.join(KNOWN_CLASSES)}. Whoever owns this machine "
            f"can allow it: export FEATUREFLOW_ALLOW_CLUSTERS={name}, or featureflow: {{allow_clusters: [{name}]}} "
            "in ~/.config/dask/featureflow.yaml. A spec can't."
        )
    wish = replace(wish, insecure=target.insecure, security=security_of(target.tls))
    return _start(target.cluster, target, wish, settings, note, "")


def _start(
    spec: Cluster, target: Target, wish: Wish, settings: WorkerSettings, note: Note, description: str
) -> DaskExecutor:
    from distributed import Client

    name = spec.class_
    began = time.monotonic()
    cluster = _construct(spec, wish)
    client = None
    try:
        _scale(cluster, target, wish, name)
        client = Client(cluster, set_as_default=False)
        seconds = (
            target.wait.microseconds / 1e6
            if target.wait and target.wait.microseconds
            else _WAIT_CLUSTER_SECONDS
        )
        wait_for_workers(client, name, seconds, note, "Does its queue or quota let them start? See its logs.")
        if not description:
            n = len(client.nthreads())
            description = f"{name} with {n} worker{'s' * (n != 1)} so far"
            note(f"{name}: first worker after {time.monotonic() - began:.0f} s.")
        return DaskExecutor(
            client,
            (client, cluster),
            description,
            settings=settings,
            note=note,
            wait_seconds=seconds,
            refill=partial(_refill, cluster),
            capacity=_capacity(client, target, wish),
        )
    except BaseException as error:
        if client is not None:
            client.close()
        cluster.close()
        if isinstance(error, OSError | TimeoutError):
            raise Unreachable(f"{name} was started, but can't be reached: {_plain(error, spec)}") from error
        raise


def _construct(spec: Cluster, wish: Wish) -> Any:
    """Call the class, with its own keywords first and what we add where it is silent."""
    module_name, _, attribute = spec.class_.rpartition(".")
    package = module_name.split(".", maxsplit=1)[0]
    if find_spec(package) is None:
        raise PlanError(
            f"{spec.class_} needs the package {_PACKAGES.get(package, package)}, which is not installed here: "
            f"pip install {_PACKAGES.get(package, package)}"
        )
    make = getattr(importlib.import_module(module_name), attribute, None)
    if make is None:
        raise PlanError(f"{module_name} has no {attribute!r}. Which class starts the cluster?")
    keywords, configuration = complete(spec.class_, spec.keywords, wish)
    import dask

    try:
        with dask.config.set(configuration), _environment_of_workers(configuration):
            return make(**keywords)
    except (TypeError, ValueError, ImportError, AssertionError) as error:
        raise PlanError(f"{spec.class_} refuses its keywords: {_plain(error, spec)}") from error
    except Exception as error:
        raise Unreachable(
            f"{spec.class_} could not be started: {_plain(error, spec)}. Is its service up, and may you use it?"
        ) from error


@contextmanager
def _environment_of_workers(configuration: Mapping[str, Any]) -> Iterator[None]:
    """Dask passes workers' variables through this process, leaves them there, and lets them win the next time."""
    before = {
        name: os.environ.get(name) for name in configuration.get("distributed.nanny.pre-spawn-environ", ())
    }
    if (
        "FEATUREFLOW_SCRATCH" in before
    ):  # what is given for these workers wins over what this process was given
        os.environ.pop("FEATUREFLOW_SCRATCH", None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _plain(error: BaseException, spec: Cluster) -> str:
    """An error's text without the values of secrets."""
    text = f"{type(error).__name__}: {error}"
    for secret in _secrets(spec.keywords):
        text = text.replace(secret, "***")
    return text


def _secrets(value: Any, key: str = "") -> Iterable[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _secrets(below, str(name))
    elif isinstance(value, list):
        for below in value:
            yield from _secrets(below, key)
    elif isinstance(value, str) and len(value) > 3 and is_secret(key, value):
        yield value
        yield from re.findall(r"://([^/\s@]+)@", value)


def _scale(cluster: Any, target: Target, wish: Wish, name: str) -> None:
    """At least one worker from the start: a build can't be planned without knowing its memory."""
    if target.adaptive is not None:
        cluster.adapt(minimum=max(1, target.adaptive.minimum), maximum=target.adaptive.maximum)
    elif name != "distributed.LocalCluster" and wish.workers is not None:
        cluster.scale(wish.workers)


def _capacity(client: Any, target: Target, wish: Wish) -> int:
    """How many threads there are when all workers have come; 0 if only the cluster class knows."""
    workers = target.adaptive.maximum if target.adaptive else wish.workers
    return (workers or 0) * max(client.nthreads().values(), default=0)


def _refill(cluster: Any) -> None:
    """Start workers again that were lost, as many as the cluster means to have: a batch job can be ended any time.

    Only for clusters whose workers are known here; the others are looked after by their own service.
    """
    wanted = len(getattr(cluster, "worker_spec", ()))
    if not wanted:
        return
    if type(cluster).__module__.startswith("dask_jobqueue"):
        cluster.scale(jobs=wanted)  # a job can be several workers
    else:
        cluster.scale(wanted)


def wait_for_workers(client: Any, what: str, seconds: float, note: Note, advice: str) -> None:
    """Wait until there is a worker, with a line for people every ten seconds.

    Raises
    ------
    Unreachable
        If none comes in time.
    """
    began = told = time.monotonic()
    while not client.nthreads():
        now = time.monotonic()
        if now - began > seconds:
            raise Unreachable(f"{what} has no workers after {seconds:.0f} s. {advice}")
        if told == began or now - told >= NOTE_EVERY_SECONDS:
            note(f"{what} has no workers yet; waiting {seconds - (now - began):.0f} s more.")
            told = now
        time.sleep(0.2)


def dashboard_of(client: Any) -> str | None:
    """Link to Dask's dashboard; None where there is none."""
    with suppress(Exception):  # each cluster class has its own idea of a link, and it is only a link
        link = client.dashboard_link
        if link and not link.endswith(":None/status") and find_spec("bokeh") is not None:
            return _with_own_host(str(link), client.cluster)
    return None


def _with_own_host(link: str, cluster: Any) -> str:
    """The link with the host that the page really listens on: Dask takes the scheduler's, whatever was asked for."""
    options = getattr(cluster, "scheduler_spec", {}).get("options", {})
    if str(options.get("dashboard_address", "")).startswith("127.0.0.1:"):
        return re.sub(r"//[^/:]+:", "//127.0.0.1:", link, count=1)
    return link


__all__ = [
    "KNOWN_CLASSES",
    "Wish",
    "allowed_classes",
    "connect",
    "dashboard_of",
    "local_cluster",
    "security_of",
    "start_cluster",
    "wait_for_workers",
]
