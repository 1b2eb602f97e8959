"""What a target's cluster is called with, who may name which class, what is refused; no cluster is started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
from distributed.comm import CommClosedError

from featureflow.core.errors import PlanError, Unreachable
from featureflow.execute.clusters import environment, workers
from featureflow.execute.clusters import opening as clusters
from featureflow.execute.clusters.classes import complete
from featureflow.execute.clusters.opening import (
    Wish,
    _environment_of_workers,
    allowed_classes,
    security_of,
)
from featureflow.execute.clusters.workers import (
    EnvironmentPlugin,
    WorkerReport,
    WorkerSettings,
    refuse_other_versions,
    run_prepared,
)
from featureflow.execute.executors import ThreadExecutor, open_executor
from featureflow.execute.placement import host
from featureflow.spec.load import load_text
from featureflow.spec.targets import Target, Tls, written_secrets

WISH = Wish("/scratch", workers=3, threads=4, memory_bytes=8 * 2**30)
SETTINGS = WorkerSettings("/scratch")


def target(text: str) -> Target:
    spec = f"sources: {{e: {{path: e.parquet, time: t}}}}\ntargets: {{it: {text}}}"
    return load_text(spec, env={"TOKEN": "s3cr3t-value"}).project.targets["it"]


def nothing(_text: str) -> None:
    """People get no notes here."""


class Recorded:
    """A cluster class that writes down how it was called, and fails."""

    called: ClassVar[dict[str, Any]] = {}
    fail: ClassVar[Exception] = RuntimeError("no service")

    def __init__(self, **keywords: Any) -> None:
        Recorded.called = keywords
        raise Recorded.fail


@pytest.fixture
def own_class(monkeypatch: pytest.MonkeyPatch) -> str:
    module = types.ModuleType("own_clusters")
    module.Own = Recorded  # type: ignore[attr-defined]
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "own_clusters", module)
    monkeypatch.setattr(Recorded, "fail", RuntimeError("no service"))
    return "own_clusters.Own"


# ---------------------------------------------------------------- who may name which class


def test_a_class_has_to_be_allowed(own_class: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = target(f"{{cluster: {{class: {own_class}, size: 3}}}}")
    with pytest.raises(PlanError, match=r"is not allowed.*FEATUREFLOW_ALLOW_CLUSTERS=own_clusters\.Own"):
        clusters.start_cluster(given, Wish("/scratch"), SETTINGS, nothing)
    monkeypatch.setenv("FEATUREFLOW_ALLOW_CLUSTERS", f"a.B, {own_class}")
    with pytest.raises(Unreachable, match="could not be started: RuntimeError: no service"):
        clusters.start_cluster(given, Wish("/scratch"), SETTINGS, nothing)
    assert Recorded.called == {"size": 3}


def test_dasks_configuration_allows_classes() -> None:
    import dask

    assert "mine.Cluster" not in allowed_classes()
    with dask.config.set({"featureflow.allow_clusters": ["mine.Cluster"]}):
        assert "mine.Cluster" in allowed_classes()
    with dask.config.set({"featureflow.allow_clusters": "mine.Cluster,yours.Cluster"}):
        assert {"mine.Cluster", "yours.Cluster"} <= allowed_classes()


def test_a_spec_can_not_allow_a_class() -> None:
    from featureflow.core.errors import SpecError

    with pytest.raises(SpecError, match="unknown field 'allow_clusters'"):
        target("{allow_clusters: [os.system], cluster: {class: os.system}}")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "find_spec", lambda _: None)
    given = target("{cluster: {class: dask_jobqueue.SLURMCluster}}")
    with pytest.raises(PlanError, match="pip install dask-jobqueue"):
        clusters.start_cluster(given, Wish("/scratch"), SETTINGS, nothing)


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_secrets_are_not_in_errors(
    own_class: str, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setenv("FEATUREFLOW_ALLOW_CLUSTERS", own_class)
    given = target(
        f"{{cluster: {{class: {own_class}, api_token: '${{TOKEN}}', env: [{{token: '${{TOKEN}}'}}]}}}}"
    )
    monkeypatch.setattr(Recorded, "fail", error("bad token s3cr3t-value"))
    with pytest.raises(PlanError, match=r"refuses its keywords: \w+: bad token \*\*\*") as caught:
        clusters.start_cluster(given, Wish("/scratch"), SETTINGS, nothing)
    assert "s3cr3t" not in str(caught.value)
    assert Recorded.called["api_token"] == "s3cr3t-value"


def test_places_of_secrets() -> None:
    raw = {
        "targets": {
            "it": {
                "store": "s3://lake",
                "cluster": {
                    "class": "a.B",
                    "token": "abc",
                    "env": {"KEY_ID": "x", "API_KEY": "${K}", "DB": "pg://u:p@h"},
                },
            }
        }
    }
    found = [place[3:] for place, _ in written_secrets(raw)]
    assert found == [("token",), ("env", "DB")]


# ---------------------------------------------------------------- what a class is called with


def test_batch_jobs() -> None:
    own = {"queue": "batch", "job_script_prologue": ["module load python"]}
    wish = Wish("/scratch", workers=3, threads=4, memory_bytes=8 * 2**30, insecure=True)
    keywords, _ = complete("dask_jobqueue.SLURMCluster", own, wish)
    assert own == {
        "queue": "batch",
        "job_script_prologue": ["module load python"],
    }  # the target's stay as they are
    assert (keywords["cores"], keywords["memory"], keywords["processes"]) == (4, "8.000 GiB", 1)
    assert keywords["scheduler_options"] == {"dashboard_address": "127.0.0.1:0"}
    *exports, last = keywords["job_script_prologue"]
    assert last == "module load python"  # the author's comes after ours, so that it wins
    assert "export ARROW_DEFAULT_MEMORY_POOL=system" in exports
    assert "protocol" not in keywords


def test_batch_jobs_speak_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("featureflow.execute.clusters.classes.find_spec", lambda _: object())
    keywords, _ = complete("dask_jobqueue.PBSCluster", {}, WISH)
    assert (keywords["protocol"], keywords["security"]) == ("tls://", True)
    folder = Path(keywords["shared_temp_directory"])
    assert folder.stat().st_mode & 0o077 == 0  # private keys of the jobs
    monkeypatch.setattr("featureflow.execute.clusters.classes.find_spec", lambda _: None)
    with pytest.raises(PlanError, match="pip install cryptography"):
        complete("dask_jobqueue.PBSCluster", {}, WISH)


def test_several_processes_in_a_job() -> None:
    wish = Wish("/s", threads=2, memory_bytes=4 * 2**30, insecure=True)
    keywords, _ = complete("dask_jobqueue.SGECluster", {"processes": 3}, wish)
    assert (keywords["cores"], keywords["memory"]) == (6, "12.000 GiB")


def test_a_local_cluster_is_open_to_nobody() -> None:
    keywords, configuration = complete("distributed.LocalCluster", {}, WISH)
    assert keywords["host"] == "127.0.0.1"
    assert keywords["dashboard_address"] == keywords["worker_dashboard_address"] == "127.0.0.1:0"
    assert (keywords["n_workers"], keywords["threads_per_worker"]) == (3, 4)
    assert configuration["distributed.nanny.pre-spawn-environ"]["FEATUREFLOW_SCRATCH"] == "/scratch"


def test_coiled() -> None:
    keywords, _ = complete("coiled.Cluster", {"region": "eu", "environ": {"OMP_NUM_THREADS": "2"}}, WISH)
    assert keywords["worker_cpu"] == 4
    assert keywords["worker_memory"] == "8.000 GiB"
    assert keywords["environ"]["OMP_NUM_THREADS"] == "2"
    assert keywords["environ"]["POLARS_MAX_THREADS"] == "1"


@pytest.mark.parametrize("wish", [Wish("/s", threads=2), Wish("/s", memory_bytes=5)])
def test_words_that_a_class_does_not_have(wish: Wish) -> None:
    with pytest.raises(PlanError, match="has its own words"):
        complete("dask_gateway.GatewayCluster", {}, wish)


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "tcp://scheduler.example:8786", "tcp://[2001:db8::1]:8786"]
)
def test_another_host_without_tls_is_refused(address: str) -> None:
    with pytest.raises(PlanError, match=r"not encrypted.*insecure: true"):
        open_executor(address, scratch="/scratch")


def test_tls_files_have_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    with pytest.raises(PlanError, match=r"tls: cert: .*me\.pem is not there"):
        security_of(Tls(ca=str(tmp_path / "ca.pem"), cert=str(tmp_path / "me.pem"), key="x"))
    security = security_of(Tls(ca=str(tmp_path / "ca.pem")))
    assert security.require_encryption
    assert security_of(None) is None


def test_threads_need_no_cluster() -> None:
    executor = open_executor("threads", target=Target(threads=3), scratch="/scratch")
    assert isinstance(executor, ThreadExecutor)
    assert (executor.slots, executor.capacity, executor.dashboard) == (3, 3, None)
    executor.close()


def test_a_plan_starts_no_cluster() -> None:
    """If the target says how large it is; else only the cluster knows."""
    text = "{cluster: {class: dask_jobqueue.SLURMCluster}, adaptive: {maximum: 40}, threads: 4, memory: 16GB}"
    given = {"target": target(text), "memory_bytes": 16 * 10**9, "scratch": "/scratch", "planning": True}
    executor = open_executor(None, **given)
    assert isinstance(executor, ThreadExecutor)
    assert (executor.capacity, executor.threads) == (160, 4)
    assert executor.memory_bytes is not None
    assert executor.memory_bytes < 16 * 10**9
    executor.close()
    given["target"] = target("{cluster: {class: not.allowed}, adaptive: {maximum: 40}}")
    with pytest.raises(PlanError, match="is not allowed"):
        open_executor(None, **given)


def test_an_unknown_name() -> None:
    with pytest.raises(PlanError, match="'slurm' is unknown"):
        open_executor("slurm", scratch="/scratch")


# ---------------------------------------------------------------- waiting


class Client:
    """As much of a client as waiting needs: workers come after so many questions."""

    def __init__(self, after: int) -> None:
        self.left = after

    def nthreads(self) -> dict[str, int]:
        self.left -= 1
        return {"tcp://10.0.0.1:1": 2} if self.left < 0 else {}


def test_waiting_for_workers() -> None:
    said: list[str] = []
    clusters.wait_for_workers(Client(1), "It", 30, said.append, "Start some.")
    assert said == ["It has no workers yet; waiting 30 s more."]
    with pytest.raises(Unreachable, match=r"It has no workers after 0 s\. Start some\."):
        clusters.wait_for_workers(Client(10**9), "It", 0, said.append, "Start some.")


# ---------------------------------------------------------------- versions


def versions(**other: str | None) -> dict[str, Any]:
    packages = dict.fromkeys(("featureflow", "pyarrow", "polars", "numpy", "numba"), "1.0")
    return {"packages": {**packages, **other}, "host": {"python": "3.11.7.final.0"}}


class Versions:
    """A client that knows versions."""

    def __init__(self, *workers: dict[str, Any], scheduler: dict[str, Any] | None = None) -> None:
        self.workers = {f"tcp://10.0.0.{i}:1": worker for i, worker in enumerate(workers, 1)}
        self.scheduler = scheduler or versions()

    def get_versions(self, packages: list[str]) -> dict[str, Any]:
        assert set(packages) <= set(versions()["packages"])
        return {"client": versions(), "scheduler": self.scheduler, "workers": self.workers}


def test_other_versions_are_refused_with_a_table() -> None:
    refuse_other_versions(Versions(versions(), versions()))  # type: ignore[arg-type]
    newer = versions(polars="1.1", featureflow=None)
    newer["host"] = {"python": "3.12.1.final.0"}
    with pytest.raises(PlanError) as caught:
        refuse_other_versions(Versions(versions(), newer))  # type: ignore[arg-type]
    rows = [line.split() for line in str(caught.value).splitlines()[1:]]
    assert rows == [
        ["where", "library", "there", "here"],
        ["tcp://10.0.0.2:1", "python", "3.12", "3.11"],
        ["tcp://10.0.0.2:1", "featureflow", "missing", "1.0"],
        ["tcp://10.0.0.2:1", "polars", "1.1", "1.0"],
    ]
    with pytest.raises(PlanError, match=r"the scheduler +pyarrow"):
        refuse_other_versions(Versions(versions(), scheduler=versions(pyarrow="9")))  # type: ignore[arg-type]


def test_a_worker_that_joins_later_with_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the plugin from Dask, and refuses every task."""
    monkeypatch.setattr(host, "_this", type(host._this)())
    monkeypatch.setattr(workers, "_report", [])
    mine = tuple((name, "0.1" if name == "polars" else version) for name, version in workers.own_versions())
    settings = WorkerSettings("/scratch", driver=("elsewhere", 1), versions=mine)
    worker: Any = types.SimpleNamespace(address="tcp://10.0.0.7:1", local_directory="/tmp/dask")
    asyncio.run(EnvironmentPlugin(settings).setup(worker))
    with pytest.raises(Unreachable, match=r"worker 10\.0\.0\.7: its libraries differ.*polars .*, not 0\.1"):
        run_prepared(abs, -1)
    monkeypatch.setattr(workers, "_report", [])
    assert run_prepared(abs, -1) == 1


# ---------------------------------------------------------------- a worker's process


def test_where_a_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_this", type(host._this)())
    assert (host.own_scratch("/driver"), host.own_host()) == ("/driver", None)
    host.settle("10.0.0.7", None)
    assert (host.own_scratch("/driver"), host.own_host()) == ("/driver", "10.0.0.7")
    host.settle("10.0.0.7", "/nvme")
    assert host.own_scratch("/driver") == "/nvme"
    assert [host.host_of(a) for a in ("tls://[::1]:80", "tcp://h:1", "inproc://10.0.0.1/2/3")] == [
        "::1",
        "h",
        "10.0.0.1",
    ]


def test_settings_are_plain() -> None:
    import pickle

    given = WorkerSettings("/s", "s3://lake", 10, "local")
    assert pickle.loads(pickle.dumps(given)) == given
    assert given.is_here
    assert not WorkerSettings("/s", driver=("elsewhere", 1)).is_here


def test_a_scratch_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "FEATUREFLOW_SCRATCH" in environment._problem_of_scratch(str(tmp_path / "file" / "below"))
    assert environment._problem_of_scratch(str(tmp_path / "new" / "folder")) == ""


def test_spilling_to_memory() -> None:
    assert environment._in_memory("/dev/shm/dask")
    assert not environment._in_memory("/usr")


def test_what_comes_too_late_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", types.ModuleType("polars"))
    monkeypatch.delenv("POLARS_MAX_THREADS", raising=False)
    for name in environment.WORKER_ENVIRONMENT:
        monkeypatch.setenv(name, "1") if name != "POLARS_MAX_THREADS" else None
    assert environment._set_environment() == [
        "polars was loaded on workers before we could set POLARS_MAX_THREADS=1. Set it where they start."
    ]


def test_all_the_usual_kernels_are_warmed() -> None:
    from featureflow.execute.clusters.warming import OPS, load_modules, warm_kernels

    load_modules()
    assert warm_kernels() == 2 * len(
        OPS
    )  # one that fails is left to the task that needs it, and is not counted


def test_variables_of_workers_do_not_stay_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's nanny sets them here, and what is set here wins over what the next cluster is given."""
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", "/of/this/process")
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    given = {"FEATUREFLOW_SCRATCH": "/of/the/workers", "MALLOC_ARENA_MAX": "2"}
    with _environment_of_workers({"distributed.nanny.pre-spawn-environ": given}):
        assert "FEATUREFLOW_SCRATCH" not in os.environ
        os.environ.update(given)  # as the nanny does
    assert os.environ["FEATUREFLOW_SCRATCH"] == "/of/this/process"
    assert "MALLOC_ARENA_MAX" not in os.environ


_ALLOCATOR = """
import resource, sys
import numpy as np
from featureflow.execute.clusters.environment import give_back, prepare_process

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()

prepare_process(sys.argv[1], sys.argv[1])
for _ in range(10):
    np.ones(1 << 20)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    np.ones(1 << 20)  # 8 MB: 2048 pages each
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
before = resident()
kept = [np.ones(1 << 17) for _ in range(300)]  # 1 MB each
held = resident() - before
kept.clear()
give_back()
print(held, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc of glibc")
def test_arrays_of_a_task_use_the_same_pages_and_the_end_of_the_task_gives_them_back(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-c", _ALLOCATOR, str(tmp_path)], capture_output=True, text=True, check=True
    )
    faults, held, left = map(int, made.stdout.split())
    assert faults < 2048 * 10  # of 100 arrays, each of which would fault 2048 pages in
    assert held > 250_000_000
    assert left < 50_000_000


def test_a_worker_that_dies_while_all_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others, and the one in its place, are asked again; a scheduler that is gone is told."""
    monkeypatch.setattr(workers, "_PAUSE_SECONDS", 0.0)
    client: Any = types.SimpleNamespace(status="running")
    asked: list[int] = []

    def ask() -> dict[str, WorkerReport]:
        asked.append(1)
        if len(asked) < 3:
            raise CommClosedError("connection reset by peer")
        return {"tcp://10.0.0.1:1": WorkerReport("")}

    assert workers._within_patience(client, ask) == {"tcp://10.0.0.1:1": WorkerReport("")}
    assert len(asked) == 3

    def gone() -> dict[str, WorkerReport]:
        client.status = "closed"
        raise CommClosedError("connection reset by peer")

    with pytest.raises(Unreachable, match="scheduler is gone"):
        workers._within_patience(client, gone)
