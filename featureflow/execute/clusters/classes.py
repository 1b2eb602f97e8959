"""What the cluster classes of the field are called with, beside the keywords of the target.

The author's keywords always win. What is added: the environment of workers, `workers`, `threads` and `memory` of the
target in each class's own words, and ports that are not open to everybody.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from featureflow.core.errors import PlanError
from featureflow.execute.clusters.environment import WORKER_ENVIRONMENT

if TYPE_CHECKING:
    from featureflow.execute.clusters.opening import Wish

Keywords = dict[str, Any]

#: Where workers of Kubernetes have their disk.
POD_SCRATCH = "/scratch"
#: Dask's dashboard, and the port that it shares with the health check, for this machine alone.
_OWN_DASHBOARD = "127.0.0.1:0"
#: Keywords of KubeCluster that describe its manifest.
_OF_MANIFEST = (
    *("name", "image", "n_workers", "resources", "env", "worker_command"),
    *("scheduler_service_type", "idle_timeout", "jupyter"),
)


def complete(name: str, keywords: Keywords, wish: Wish) -> tuple[Keywords, Keywords]:
    """Keywords to call a cluster class with, and Dask configuration to do it under.

    Parameters
    ----------
    name
        Full name of the class.
    keywords
        The author's; not changed.

    Raises
    ------
    PlanError
        If the target says something that this class has no general word for.
    """
    keywords = copy.deepcopy(keywords)
    package = name.split(".", maxsplit=1)[0]
    if name == "distributed.LocalCluster":
        return _local(keywords, wish)
    if package == "dask_jobqueue":
        return _batch(keywords, wish), {}
    if name == "dask_kubernetes.operator.KubeCluster":
        return _kubernetes(keywords, wish), {}
    if name == "coiled.Cluster":
        return _coiled(keywords, wish), {}
    for word, given in (("threads", wish.threads), ("memory", wish.memory_bytes)):
        if given is not None:
            raise PlanError(
                f"{word}: {name} has its own words for this. Write them beside class:, and leave {word} (and "
                f"--{word}) out."
            )
    if wish.security is not None:
        keywords.setdefault("security", wish.security)
    return keywords, {}


def _defaults(keywords: Keywords, **values: Any) -> None:
    for key, value in values.items():
        if value is not None:
            keywords.setdefault(key, value)


def _local(keywords: Keywords, wish: Wish) -> tuple[Keywords, Keywords]:
    _defaults(
        keywords,
        n_workers=1 if wish.workers is None else wish.workers,
        threads_per_worker=wish.threads,
        memory_limit=wish.memory_bytes or "auto",
        host="127.0.0.1",
        local_directory=os.path.join(wish.scratch, "dask"),
        security=wish.security,
    )
    # also without a dashboard there is a page for health checks: by default on every interface
    keywords.setdefault("dashboard_address", _OWN_DASHBOARD)
    keywords.setdefault("worker_dashboard_address", _OWN_DASHBOARD)
    environment = {**WORKER_ENVIRONMENT, "FEATUREFLOW_SCRATCH": wish.scratch}
    return keywords, {"distributed.nanny.pre-spawn-environ": environment}


def _batch(keywords: Keywords, wish: Wish) -> Keywords:
    """Batch systems: a job is a worker, its scheduler runs here and speaks TLS."""
    processes = keywords.setdefault("processes", 1)
    _defaults(
        keywords,
        cores=None if wish.threads is None else wish.threads * processes,
        memory=None if wish.memory_bytes is None else f"{wish.memory_bytes * processes / 2**30:.3f} GiB",
    )
    exports = [f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()]
    keywords["job_script_prologue"] = [*exports, *keywords.get("job_script_prologue", ())]
    options = keywords.setdefault("scheduler_options", {})
    options.setdefault("dashboard_address", _OWN_DASHBOARD)
    if wish.security is not None:
        _defaults(keywords, security=wish.security, protocol="tls://")
    elif not wish.insecure and "security" not in keywords and "protocol" not in keywords:
        if find_spec("cryptography") is None:
            raise PlanError(
                "The scheduler that batch jobs talk to listens on the network, so it wants TLS, and making "
                "certificates needs a package: pip install cryptography. Or give tls: with your own, or "
                "insecure: true if the network is yours alone."
            )
        folder = os.path.join(os.path.expanduser("~"), ".featureflow", "certificates")
        os.makedirs(folder, mode=0o700, exist_ok=True)  # jobs read them: home is shared on such machines
        _defaults(keywords, security=True, protocol="tls://", shared_temp_directory=folder)
    return keywords


def _coiled(keywords: Keywords, wish: Wish) -> Keywords:
    memory = None if wish.memory_bytes is None else f"{wish.memory_bytes / 2**30:.3f} GiB"
    _defaults(keywords, n_workers=wish.workers, worker_cpu=wish.threads, worker_memory=memory)
    keywords["environ"] = {**WORKER_ENVIRONMENT, **keywords.get("environ", {})}
    return keywords


def _kubernetes(keywords: Keywords, wish: Wish) -> Keywords:
    if "custom_cluster_spec" in keywords:
        return keywords
    described = {key: keywords.pop(key) for key in _OF_MANIFEST if key in keywords}
    if "name" not in described:
        described["name"] = f"featureflow-{os.getpid()}"
    keywords["custom_cluster_spec"] = kubernetes_manifest(described, wish)
    return keywords


def kubernetes_manifest(described: Keywords, wish: Wish) -> Keywords:
    """A ``DaskCluster`` resource of dask-kubernetes' operator.

    Parameters
    ----------
    described
        Keywords of ``KubeCluster`` that say what is in it: ``name``, ``image``, ``n_workers``, ``resources``, ``env``.

    Notes
    -----
    Two things differ from what ``KubeCluster`` makes by itself: the commands ``dask-scheduler`` and ``dask-worker``,
    which Dask no longer has, are ``dask scheduler`` and ``dask worker``; and a worker has a volume on the node's disk
    for scratch and spill.
    """
    make_cluster_spec: Callable[..., Keywords] = _from_dask_kubernetes()
    described = dict(described)
    given = described.get("env") or {}
    environment = [{"name": name, "value": value} for name, value in WORKER_ENVIRONMENT.items()]
    environment.append({"name": "FEATUREFLOW_SCRATCH", "value": POD_SCRATCH})
    own = (
        [{"name": name, "value": str(value)} for name, value in given.items()]
        if isinstance(given, dict)
        else given
    )
    named = {entry["name"] for entry in own}
    described["env"] = [*(entry for entry in environment if entry["name"] not in named), *own]
    described.setdefault("worker_command", "dask worker --local-directory " + POD_SCRATCH)
    _defaults(described, n_workers=wish.workers or 1, resources=_resources(wish))
    manifest = make_cluster_spec(**described)
    worker, scheduler = (manifest["spec"][role]["spec"] for role in ("worker", "scheduler"))
    command = scheduler["containers"][0]["args"]
    if command[0] == "dask-scheduler":
        scheduler["containers"][0]["args"] = ["dask", "scheduler", *command[1:]]
    _add_volume(worker)
    if wish.threads is not None:
        worker["containers"][0]["args"] += ["--nthreads", str(wish.threads)]
    return manifest


def _add_volume(pod: Keywords) -> None:
    pod.setdefault("volumes", []).append({"name": "scratch", "emptyDir": {}})
    pod["containers"][0].setdefault("volumeMounts", []).append({"name": "scratch", "mountPath": POD_SCRATCH})


def _resources(wish: Wish) -> Keywords | None:
    amounts = {}
    if wish.threads is not None:
        amounts["cpu"] = str(wish.threads)
    if wish.memory_bytes is not None:
        amounts["memory"] = str(wish.memory_bytes)
    return {"requests": dict(amounts), "limits": dict(amounts)} if amounts else None


def _from_dask_kubernetes() -> Callable[..., Keywords]:
    from dask_kubernetes.operator import make_cluster_spec

    found: Callable[..., Keywords] = make_cluster_spec
    return found
