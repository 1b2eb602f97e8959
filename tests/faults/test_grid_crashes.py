"""Builds of grids that are killed anywhere: the next one goes on, makes the same bytes, and one version more."""

from __future__ import annotations

import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults import grid_builds
from faults.conftest import Figure
from faults.drivers import Drivers
from faults.grid_builds import CHUNKS, TABLE, check, digests_at, put_source, version_of, write_spec
from servers.fault_proxy import FaultProxy, Rule

from featureflow.core import storage
from featureflow.execute.placement.lanes import IN_FLIGHT_PER_SLOT
from featureflow.tables.arrays_repository import open_repository
from featureflow.tables.collect import gc

pytestmark = pytest.mark.faults
BUILD = "faults.grid_builds:build"


def prepared(folder: Path, root: str) -> tuple[str, grid_builds.Digests]:
    """The spec, and what an undisturbed build makes; values are those of xarray."""
    put_source(f"{root}/sst.zarr", folder / "source")
    spec = write_spec(folder, f"{root}/sst.zarr")
    grid_builds.build(spec, str(folder / "calm"), str(folder / "calm-scratch"))
    grid_builds.check_values(str(folder / "calm"))
    return spec, digests_at(str(folder / "calm"))


def left_over(store: str) -> list[str]:
    """What killed builds left and gc should have taken."""
    url = storage.join(store, TABLE)
    gc(url, "calm", now=datetime.now(UTC) + timedelta(days=30))
    found = [
        path for path, _, _ in storage.walk(f"{url}/_ff") if path.startswith(("progress/", "fits/parts/"))
    ]
    assert open_repository(url).list_branches() == {"main"}
    return found


@pytest.mark.parametrize("where", ["local disk", "S3"])
def test_killed_between_two_chunks(
    where: str, tmp_path: Path, request: pytest.FixtureRequest, figure: Figure
) -> None:
    """At each chunk; what was finished and written down is not computed again."""
    root = str(tmp_path / "root") if where == "local disk" else request.getfixturevalue("bucket")
    spec, right = prepared(tmp_path, root)
    again = []
    with Drivers(tmp_path / "drivers") as drivers:
        for limit in (0, 5, 10, 15):
            store, log = f"{root}/store{limit}", tmp_path / f"{limit}.log"
            scratch = str(tmp_path / f"scratch{limit}")
            killed = drivers.start(BUILD, [spec, store, scratch, str(log), limit])
            assert killed.wait() == -signal.SIGKILL, killed.said
            assert version_of(store) == 0
            drivers.run(BUILD, [spec, store, scratch, str(log)])
            check(store, right, 1)
            again.append(log.stat().st_size - CHUNKS)
            assert left_over(store) == []
            check(store, right, 1)
            assert drivers.run(BUILD, [spec, store, scratch]).result["status"] == "nothing to do"
    # those in flight, and those that ended while the ones before were written down
    assert max(again) <= 2 * IN_FLIGHT_PER_SLOT * 2, again
    figure(
        "G2",
        f"grid, {where}: driver killed at {len(again)} places of {CHUNKS} chunks; computed twice: {again}",
    )


def test_killed_twice_and_resumed_twice(tmp_path: Path, figure: Figure) -> None:
    spec, right = prepared(tmp_path, str(tmp_path / "root"))
    store, scratch, log = str(tmp_path / "store"), str(tmp_path / "scratch"), tmp_path / "log"
    with Drivers(tmp_path / "drivers") as drivers:
        for _ in range(3):
            assert drivers.start(BUILD, [spec, store, scratch, str(log), 5]).wait() == -signal.SIGKILL
        drivers.run(BUILD, [spec, store, scratch, str(log)])
    check(store, right, 1)
    again = log.stat().st_size - CHUNKS
    assert again <= 3 * 2 * IN_FLIGHT_PER_SLOT * 2
    figure(
        "G2", f"grid: killed three times in a row, each goes on from the one before; computed twice: {again}"
    )


def test_killed_at_requests_to_s3(
    bucket: str, drivers: Drivers, proxy: FaultProxy, tmp_path: Path, figure: Figure
) -> None:
    """Before and after what changes the store, at places drawn by a seed, of a first build and of one that appends."""
    spec, right = prepared(tmp_path, bucket)
    drivers.run(BUILD, [spec, f"{bucket}/whole", str(tmp_path / "scratch-whole")])
    changes = proxy.count("PUT|POST|DELETE")
    rng, seen = random.Random(5), 0
    places = sorted(rng.sample(range(changes), 4))
    for place in places:
        store, scratch = f"{bucket}/at{place}", str(tmp_path / f"scratch{place}")
        proxy.clear()
        victim: list[int] = []
        rule = Rule(
            rng.choice(["kill before", "kill after"]),
            method="PUT|POST|DELETE",
            skip=place,
            count=1,
            victim=lambda victim=victim: victim[0],
        )
        proxy.add(rule)
        driver = drivers.start(BUILD, [spec, store, scratch])
        victim.append(driver.pid)
        code = driver.wait()
        proxy.clear()
        assert code in (-signal.SIGKILL, 0), driver.said
        seen += code != 0
        there = version_of(store)
        last = drivers.run(BUILD, [spec, store, scratch])
        assert last.result["status"] == ("nothing to do" if there else "done")
        check(store, right, 1)
        assert left_over(store) == []
    assert seen >= 3
    figure(
        "G2",
        f"grid, S3: driver killed at {seen} of {changes} changes of the store: the same digests, one version",
    )
