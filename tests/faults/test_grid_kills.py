"""Workers that are killed again and again while a grid is built, and what a killed build left with flipped bits."""

from __future__ import annotations

import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
from distributed import Client
from faults.conftest import Figure
from faults.deadly import slowly
from faults.drivers import Drivers
from faults.grid_builds import TABLE, check, digests_at, one_chunk_a_task, put_source, version_of, write_spec
from faults.test_random_kills import Killer, two_workers, workers_of

import featureflow as ff
from featureflow.execute.clusters.dask_executor import DaskExecutor

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("default")]
BUILD = "faults.grid_builds:build"


def test_a_random_worker_of_a_grid_every_few_seconds(tmp_path: Path, figure: Figure) -> None:
    put_source(str(tmp_path / "sst.zarr"), tmp_path)
    spec = write_spec(tmp_path, str(tmp_path / "sst.zarr"))
    real, began = DaskExecutor.submit, tmp_path / "began"
    began.mkdir()

    def submit(self: Any, tasks: Any) -> None:
        real(
            self,
            [
                replace(task, function=slowly, arguments=(str(began), 0.6, task.function, *task.arguments))
                for task in tasks
            ],
        )

    def build(name: str) -> tuple[float, str]:
        begun = time.monotonic()
        with (
            mock.patch.object(DaskExecutor, "submit", submit),
            one_chunk_a_task(),
            Client(cluster) as client,
        ):
            scratch = tmp_path / f"{name}-scratch"
            made = ff.Project(spec, store=str(tmp_path / name), client=client, scratch=scratch)
            report = made.build()
        return time.monotonic() - begun, report.status

    others = workers_of(psutil.Process())
    with two_workers(tmp_path / "dask") as cluster:
        calm, _ = build("calm")
        mean = max(2.0, calm / 8)
        with Killer(cluster, began, mean, seed=11) as killer:
            disturbed, _ = build("killed")
        assert killer.kills >= 3, "the build was too short to be disturbed"
        check(str(tmp_path / "killed"), digests_at(str(tmp_path / "calm")), 1)
        assert build("killed")[1] == "nothing to do"
    assert set(workers_of(psutil.Process())) <= set(others)
    figure(
        "G2",
        f"grid: a random one of two workers killed every {mean:.1f} s on average, {killer.kills} times: the same "
        f"digests after {disturbed:.0f} s ({calm:.0f} s undisturbed); no process left",
    )


def test_flipped_bits_in_what_a_killed_build_left(tmp_path: Path, figure: Figure) -> None:
    """Lists of finished chunks, and what steps have learned: the next build is right, or names the file."""
    put_source(str(tmp_path / "sst.zarr"), tmp_path)
    spec = write_spec(tmp_path, str(tmp_path / "sst.zarr"))
    rng, ended = random.Random(2), {"right": 0, "refused": 0}
    with Drivers(tmp_path / "drivers") as drivers:
        drivers.run(BUILD, [spec, str(tmp_path / "calm"), str(tmp_path / "scratch-calm")])
        right = digests_at(str(tmp_path / "calm"))
        left = tmp_path / "left"
        assert (
            drivers.start(BUILD, [spec, str(left), str(tmp_path / "scratch"), "", 9]).wait()
            == -signal.SIGKILL
        )
        files = [
            path.relative_to(left)
            for folder in ("progress", "fits")
            for path in sorted((left / TABLE / "_ff" / folder).rglob("*"))
            if path.is_file()
        ]
        assert {path.parts[3] for path in files} == {"progress", "fits"}
        for i in range(12):
            store = tmp_path / f"store{i}"
            shutil.copytree(left, store)
            path = store / files[i % len(files)]
            data = bytearray(path.read_bytes())
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            driver = drivers.start(BUILD, [spec, str(store), str(tmp_path / f"scratch{i}")])
            if driver.wait():
                assert str(path) in driver.said, driver.said
                assert version_of(str(store)) == 0
                path.unlink(missing_ok=True)  # as the message says, if the build did not
                drivers.run(BUILD, [spec, str(store), str(tmp_path / f"scratch{i}")])
                ended["refused"] += 1
            else:
                ended["right"] += 1
            check(str(store), right, 1)
    figure("G4", f"grid: a flipped bit in each of 12 files that a killed build left: {ended}, 0 silent")
