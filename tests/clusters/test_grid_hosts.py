"""Grids on clusters make the chunks that threads make: processes, hosts that share S3 only, killed workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from clusters.hosts import start_hosts
from distributed import Client, LocalCluster
from faults import grid_builds
from faults.deadly import Plan, deadly
from faults.grid_builds import check, digests_at, one_chunk_a_task, put_source, write_spec
from servers.s3_fixtures import bucket, s3, s3_server
from servers.seaweedfs import S3Server

import featureflow as ff
from featureflow.execute.clusters.dask_executor import DaskExecutor
from featureflow.execute.clusters.environment import WORKER_ENVIRONMENT

__all__ = ["bucket", "s3", "s3_server"]

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]
TESTS = str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> grid_builds.Digests:
    """What threads make."""
    folder = tmp_path_factory.mktemp("calm")
    put_source(str(folder / "sst.zarr"), folder)
    spec = write_spec(folder, str(folder / "sst.zarr"))
    grid_builds.build(spec, str(folder / "store"), str(folder / "scratch"))
    grid_builds.check_values(str(folder / "store"))
    return digests_at(str(folder / "store"))


def build(spec: str, store: str, scratch: Path, client: Client) -> str:
    with one_chunk_a_task():
        return str(ff.Project(spec, store=store, scratch=scratch, client=client).build().status)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of two processes whose tasks may be told to die."""
    import dask

    environment = {**WORKER_ENVIRONMENT, "PYTHONPATH": TESTS}
    settings = {
        "distributed.nanny.pre-spawn-environ": environment,
        "distributed.deploy.lost-worker-timeout": "120s",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            host="127.0.0.1",
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as cluster,
        Client(cluster) as made,
    ):
        yield made


def test_processes_and_killed_workers(client: Client, right: grid_builds.Digests, tmp_path: Path) -> None:
    """First undisturbed, then a worker is killed in each kind of task, before and after its work."""
    put_source(str(tmp_path / "sst.zarr"), tmp_path)
    spec = write_spec(tmp_path, str(tmp_path / "sst.zarr"))
    real, names = DaskExecutor.submit, list[str]()

    def noted(self: Any, tasks: Any) -> None:
        names.extend(task.function.__name__ for task in tasks)
        real(self, tasks)

    with mock.patch.object(DaskExecutor, "submit", noted):
        assert build(spec, str(tmp_path / "store"), tmp_path / "scratch", client) == "done"
    check(str(tmp_path / "store"), right, 1)
    functions = sorted(set(names))
    assert {"compute_box", "compute_fit"} <= set(functions), functions
    for function in functions:
        for when in ("before", "after"):
            name = f"{function}-{when}"
            plan = Plan(function, "SIGKILL", when, str(tmp_path / f"{name}.mark"))

            def submit(self: Any, tasks: Any, plan: Plan = plan) -> None:
                real(self, [deadly(task, plan) for task in tasks])

            with mock.patch.object(DaskExecutor, "submit", submit):
                assert build(spec, str(tmp_path / name), tmp_path / f"{name}-scratch", client) == "done"
            assert Path(plan.mark).exists(), name
            check(str(tmp_path / name), right, 1)
            client.wait_for_workers(2, timeout=60)
    print(
        f"\ngrid: a worker killed before and after a task of {', '.join(functions)}: the digests of threads"
    )


def test_hosts_that_share_a_store_only(
    bucket: str, s3: S3Server, right: grid_builds.Digests, tmp_path: Path
) -> None:
    """Three hosts with disks of their own; then one is lost in the middle."""
    put_source(f"{bucket}/sst.zarr", tmp_path / "source")
    spec = write_spec(tmp_path, f"{bucket}/sst.zarr")
    with start_hosts(3, tmp_path / "hosts", environment={**s3.env, "PYTHONPATH": TESTS}) as hosts:
        assert build(spec, f"{bucket}/store", tmp_path / "driver", hosts.client) == "done"
        check(f"{bucket}/store", right, 1)
        real, left = DaskExecutor.next_done, [8]

        def next_done(self: Any) -> Any:
            found = real(self)
            left[0] -= len(found)
            if left[0] <= 0 and 0 in hosts.running:
                for process in hosts.running[0]:
                    os.kill(process.pid, signal.SIGKILL)
                hosts.kill(0)
            return found

        with mock.patch.object(DaskExecutor, "next_done", next_done):
            assert build(spec, f"{bucket}/again", tmp_path / "driver", hosts.client) == "done"
        assert 0 not in hosts.running
        check(f"{bucket}/again", right, 1)
    print("\ngrid: three hosts that share a store only, and two after one was killed: the digests of threads")
