"""Workers that are killed or stand still in every stage, drivers at half of the work, a scheduler that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from distributed import Client, LocalCluster
from faults import small_build
from faults.conftest import Figure
from faults.deadly import Plan, deadly
from faults.drivers import TESTS, Drivers
from faults.small_build import Sight, sight

import featureflow as ff
from featureflow.execute.clusters.dask_executor import DaskExecutor
from featureflow.execute.clusters.environment import WORKER_ENVIRONMENT

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("default")]


COUNTED = """
import sys
from dataclasses import replace
from faults.deadly import counted
from featureflow.cli import main
from featureflow.execute.clusters.dask_executor import DaskExecutor

real = DaskExecutor.submit

def submit(self, tasks):
    real(self, [replace(t, function=counted, arguments=({log!r}, None, t.function, t.arguments)) for t in tasks])

DaskExecutor.submit = submit
sys.exit(main())
"""


@dataclass
class World:
    """A project, a cluster, and what an undisturbed build made."""

    folder: Path
    spec: str
    client: Client
    calm: Sight
    seconds: float
    functions: list[str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("workers")
    spec = str(small_build.write_spec(folder, str(folder / "raw")))
    for day in range(3):
        small_build.write_raw(str(folder / "raw"), day, 200)
    import dask

    environment = {**WORKER_ENVIRONMENT, "PYTHONPATH": str(TESTS)}
    with (
        # a worker takes longer to start on a busy machine than the cluster waits for it by default
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": environment,
                "distributed.deploy.lost-worker-timeout": "120s",
            }
        ),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            host="127.0.0.1",
            local_directory=str(folder / "dask"),
        ) as cluster,
        Client(cluster) as client,
    ):
        made = World(folder, spec, client, Sight((), None), 0, [])
        names: list[str] = []
        real = DaskExecutor.submit

        def noted(self: Any, tasks: Any) -> None:
            names.extend(task.function.__name__ for task in tasks)
            real(self, tasks)

        with mock.patch.object(DaskExecutor, "submit", noted):
            build(made, "calm0")
            begun = time.monotonic()
            build(made, "calm")
        made.calm, made.seconds = sight(str(folder / "calm")), time.monotonic() - begun
        made.functions = list(dict.fromkeys(names))
        yield made


def build(world: World, name: str) -> None:
    with (
        mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: 3),
        mock.patch("featureflow.datasets.planning.rows_of_piece", lambda _: 200),
    ):
        ff.Project(
            world.spec,
            store=str(world.folder / name),
            client=world.client,
            scratch=world.folder / f"{name}-scratch",
        ).build()


def disturbed(world: World, name: str, plan: Plan) -> float:
    """Seconds of a build whose tasks act on a plan."""
    real = DaskExecutor.submit

    def submit(self: Any, tasks: Any) -> None:
        real(self, [deadly(task, plan) for task in tasks])

    begun = time.monotonic()
    with mock.patch.object(DaskExecutor, "submit", submit):
        build(world, name)
    return time.monotonic() - begun


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_worker_in_every_stage(how: str, world: World, figure: Figure) -> None:
    took = {}
    assert len(world.functions) >= 8, world.functions
    for place, function in enumerate(world.functions):
        when = "before" if place % 2 else "after"
        name = f"{how}-{function}"
        mark = world.folder / f"{name}.mark"
        took[function] = disturbed(world, name, Plan(function, how, when, str(mark)))
        assert mark.exists(), function
        assert sight(str(world.folder / name)) == world.calm, (function, when)
        world.client.wait_for_workers(2, timeout=60)
    slowest = max(took, key=lambda name: took[name])
    figure(
        "R6",
        f"{how} of a worker in {len(took)} stages ({', '.join(took)}): the same bytes in all; undisturbed "
        f"{world.seconds:.1f} s, disturbed {min(took.values()):.1f} to {took[slowest]:.1f} s ({slowest})",
    )


def test_all_workers_before_the_commit(world: World, figure: Figure) -> None:
    """Nothing of a finished computation is in their memory."""
    from featureflow.execute import session

    real, killed = session.publish_table, []

    def publish(*arguments: Any) -> Any:
        if not killed:
            killed.extend(world.client.run(os.getpid).values())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        return real(*arguments)

    with mock.patch.object(session, "publish_table", publish):
        build(world, "commit")
    assert len(killed) == 2
    assert sight(str(world.folder / "commit")) == world.calm
    figure("R6", "all workers gone before the commit: the same bytes")


def test_a_driver_killed_at_half(tmp_path: Path, figure: Figure) -> None:
    """Counted in files that are written: what was finished is not done again."""
    spec = str(small_build.write_spec(tmp_path, str(tmp_path / "raw")))
    for day in range(12):
        small_build.write_raw(str(tmp_path / "raw"), day, 200)

    def log(name: str) -> int:
        path = tmp_path / f"{name}.log"
        return path.stat().st_size if path.exists() else 0

    with Drivers(tmp_path / "drivers") as drivers:

        def run(name: str, store: str, limit: int | None = None) -> tuple[int, float]:
            begun = time.monotonic()
            arguments = [
                spec,
                str(tmp_path / store),
                str(tmp_path / f"{store}-scratch"),
                str(tmp_path / f"{name}.log"),
                limit,
            ]
            code = drivers.start("faults.small_build:build_counted", arguments).wait()
            return code, time.monotonic() - begun

        code, _ = run("warm", "warm")
        assert code == 0, (tmp_path / "drivers/driver1.log").read_text()
        code, whole = run("whole", "whole")
        assert code == 0
        total = log("whole")
        assert total >= 40
        assert run("half", "half", total // 2)[0] == -9
        done = log("half")
        code, rest = run("rest", "half")
        assert code == 0
        again = log("rest")
        assert again <= 0.6 * total
        assert sight(str(tmp_path / "half")) == sight(str(tmp_path / "whole"))
    figure(
        "R7",
        f"driver killed after {done} of {total} data files: the re-run wrote {again} ({again / total:.0%}) "
        f"in {rest:.1f} s "
        f"({rest / whole:.0%} of {whole:.1f} s), the same bytes",
    )


def test_a_scheduler_that_is_gone(tmp_path: Path, figure: Figure) -> None:
    """The command says so soon, with exit code 3; the next build goes on."""
    spec = str(small_build.write_spec(tmp_path, str(tmp_path / "raw")))
    for day in range(6):
        small_build.write_raw(str(tmp_path / "raw"), day, 200)
    store, scratch = str(tmp_path / "store"), str(tmp_path / "scratch")
    env = {
        **os.environ,
        "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}",
        "FEATUREFLOW_SCRATCH": scratch,
    }
    port = free_port()
    quiet: dict[str, Any] = {"env": env, "stderr": subprocess.DEVNULL}
    command = ["--port", str(port), "--host", "127.0.0.1", "--no-dashboard"]
    scheduler = subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_scheduler", *command], **quiet)
    command = [
        f"tcp://127.0.0.1:{port}",
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
        "--host",
        "127.0.0.1",
    ]
    command += ["--local-directory", str(tmp_path / "dask"), "--death-timeout", "30"]
    worker = subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_worker", *command], **quiet)
    try:
        mark = tmp_path / "mark"
        code = COUNTED.format(log=str(mark))
        command = ["build", spec, "--store", store, "--scratch", scratch, "--quiet"]
        building = subprocess.Popen(
            [sys.executable, "-c", code, *command, "--scheduler", f"tcp://127.0.0.1:{port}"],
            env=env, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until = time.monotonic() + 120
        while time.monotonic() < until and not (mark.exists() and mark.stat().st_size >= 2):
            assert building.poll() is None, building.communicate()
            time.sleep(0.01)
        scheduler.kill()
        begun = time.monotonic()
        said = building.communicate(timeout=60)[1]
        seconds = time.monotonic() - begun
        assert building.returncode == 3, said
        assert "Traceback" not in said
        assert "scheduler" in said
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    small_build.build(spec, store, scratch)
    small_build.build(spec, str(tmp_path / "calm"), str(tmp_path / "calm-scratch"))
    assert sight(store) == sight(str(tmp_path / "calm"))
    figure(
        "R8",
        f"scheduler killed in a build: exit code 3 after {seconds:.1f} s, the next build made the same bytes",
    )


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
