"""Workers that are killed again and again while a build runs: it ends, with the same bytes, and leaves nobody."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from unittest import mock

import psutil
import pytest
from distributed import Client, LocalCluster
from faults import small_build
from faults.conftest import Figure
from faults.drivers import TESTS
from faults.small_build import TABLES, sight

import featureflow as ff
from featureflow.execute.clusters.dask_executor import DaskExecutor
from featureflow.execute.clusters.environment import WORKER_ENVIRONMENT
from featureflow.tables.collect import gc

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("default")]

MEAN_SECONDS = 4.0
#: On a busy machine everything takes longer, and a worker that never gets to the end of a task proves nothing: then
#: this part of an undisturbed build.
MEAN_SHARE = 1 / 15
#: Tasks of a build take so much longer than their work, half of it before and half of it after.
IDLE_SECONDS = 0.6
DAYS = 12


def slowly(began: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Do the work, with time enough to be killed before and after it; ``began`` is a folder of who does."""
    Path(began, str(os.getpid())).touch()
    time.sleep(IDLE_SECONDS / 2)
    result = function(*arguments)
    time.sleep(IDLE_SECONDS / 2)
    return result


class Killer:
    """Kills a random worker that has begun a task, again and again, at random times."""

    def __init__(self, cluster: LocalCluster, began: Path, mean: float, seed: int) -> None:
        self._cluster, self._began, self._mean = cluster, began, mean
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.kills = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._random.expovariate(1 / self._mean)):
            begun = {int(path.name) for path in self._began.iterdir()}
            alive = [pid for pid in running(self._cluster) if pid in begun]
            if alive:
                os.kill(self._random.choice(alive), signal.SIGKILL)
                self.kills += 1


def running(cluster: LocalCluster) -> list[int]:
    """Processes of the workers that the scheduler has now; nannies live in this process."""
    known = set(cluster.scheduler.workers)
    return sorted(n.pid for n in cluster.workers.values() if n.worker_address in known and n.pid is not None)


@contextmanager
def two_workers(folder: Path) -> Iterator[LocalCluster]:
    """A cluster whose killed workers are started again."""
    import dask

    settings = {
        "distributed.nanny.pre-spawn-environ": {**WORKER_ENVIRONMENT, "PYTHONPATH": str(TESTS)},
        # a worker takes longer to start on a busy machine than the cluster waits for it by default
        "distributed.deploy.lost-worker-timeout": "120s",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            host="127.0.0.1",
            local_directory=str(folder),
        ) as made,
    ):
        yield made


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Processes that were spawned for workers by this one and have not ended."""
    found = []
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_a_random_worker_every_few_seconds(tmp_path: Path, figure: Figure) -> None:
    spec = str(small_build.write_spec(tmp_path, str(tmp_path / "raw")))
    for day in range(DAYS):
        small_build.write_raw(str(tmp_path / "raw"), day, 200)
    real, began, sent, slow = DaskExecutor.submit, tmp_path / "began", 0, True
    began.mkdir()

    def submit(self: Any, tasks: Any) -> None:
        nonlocal sent
        sent += len(tasks)
        if slow:
            given = [(str(began), task.function, task.arguments) for task in tasks]
            tasks = [replace(t, function=slowly, arguments=a) for t, a in zip(tasks, given, strict=True)]
        real(self, tasks)

    def build(name: str) -> tuple[float, int]:
        nonlocal sent
        begun, sent = time.monotonic(), 0
        with (
            mock.patch.object(DaskExecutor, "submit", submit),
            mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: 4),
            mock.patch("featureflow.datasets.planning.rows_of_piece", lambda _: 200),
            Client(cluster) as client,
        ):
            scratch = tmp_path / f"{name}-scratch"
            ff.Project(spec, store=str(tmp_path / name), client=client, scratch=scratch).build()
        return time.monotonic() - begun, sent

    others = workers_of(psutil.Process())
    with two_workers(tmp_path / "dask") as cluster:
        calm, tasks = build("calm")
        mean = max(MEAN_SECONDS, calm * MEAN_SHARE)
        with Killer(cluster, began, mean, seed=7) as killer:
            disturbed, _ = build("killed")
        assert killer.kills >= 5, "the build was too short to be disturbed"
        assert sight(str(tmp_path / "killed")) == sight(str(tmp_path / "calm"))

        small_build.write_raw(str(tmp_path / "raw"), DAYS, 200)
        slow = False
        for name in ("calm", "killed"):
            build(name)
        assert sight(str(tmp_path / "killed")) == sight(str(tmp_path / "calm"))
        assert set(workers_of(psutil.Process())) > set(others)
    assert set(workers_of(psutil.Process())) <= set(others)
    assert list((tmp_path / "killed-scratch" / "spill").glob("*")) == []
    for name in TABLES:
        url = str(tmp_path / "killed" / name)
        gc(url, name, margin=timedelta(0))
        assert list(Path(url).rglob(".tmp-*")) == []

    figure(
        "R6",
        f"a random one of two workers killed every {mean:.1f} s on average, {killer.kills} times: the same "
        f"bytes after {disturbed:.0f} s ({calm:.0f} s undisturbed), {tasks} tasks; no process left",
    )
