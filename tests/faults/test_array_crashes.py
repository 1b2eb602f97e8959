"""Builds of grids that are killed, and that run at once: versions are whole, none is lost, what is left over goes."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import xarray as xr
from faults.array_builds import COMMITTED, PHASES
from faults.drivers import Drivers
from servers.fault_proxy import FaultProxy, Rule
from servers.seaweedfs import environment_of, variables
from unit.tables.array_world import cube

from featureflow.core import storage
from featureflow.tables import versions
from featureflow.tables.arrays import open_arrays
from featureflow.tables.arrays_repository import arrays_url, open_repository
from featureflow.tables.collect import gc
from featureflow.tables.state import current_state
from featureflow.tables.store import open_table
from featureflow.tables.verify import verify

CALL = "faults.array_builds:build"


def check_after(url: str, number: int, times: int) -> None:
    """The version is there, whole, and projected by whoever looks."""
    state = current_state(url)
    assert (state.version if state else 0) == number
    if number:
        table = open_table(url, "sea")
        xr.testing.assert_identical(table.to_xarray().load(), cube(times))
        assert verify(url, "sea", deep=True).problems == ()
        assert open_repository(url).lookup_tag(f"v{number}") == table.record["arrays"]["snapshot"]
        assert open_repository(url).lookup_branch("main") == table.record["arrays"]["snapshot"]


def sweep(root: str, drivers: Drivers, phases: tuple[str, ...]) -> None:
    """Kill the first build and an appending one at each phase, then build again."""
    for phase in phases:
        there = PHASES.index(phase) >= COMMITTED
        url = f"{root}/{phase.replace(' ', '-')}/features/sea"
        first = drivers.start(CALL, [url, 8, 0, "one", phase])
        assert first.wait() == -signal.SIGKILL, (phase, first.said)
        check_after(url, int(there), 8)
        again = drivers.start(CALL, [url, 8, 0, "two"])
        assert again.wait() == 0, again.said
        number = int(there) + 1
        check_after(url, number, 8)
        appending = drivers.start(CALL, [url, 12, 8, "three", phase])
        assert appending.wait() == -signal.SIGKILL, (phase, appending.said)
        check_after(url, number + there, 12 if there else 8)
        last = drivers.start(CALL, [url, 12, 0 if there else 8, "four"])
        assert last.wait() == 0, last.said
        check_after(url, number + there + 1, 12)
        gc(url, "sea", now=datetime.now(UTC) + timedelta(days=30))
        assert open_repository(url).list_branches() == {"main"}
        for version in versions.list_versions(url):
            assert verify(url, "sea", str(version), deep=True).problems == ()


@pytest.mark.faults
def test_killed_around_the_commit(tmp_path: Path) -> None:
    with Drivers(tmp_path / "drivers") as drivers:
        sweep(str(tmp_path / "stores"), drivers, ("committed",))


@pytest.mark.faults
def test_killed_at_every_phase_on_a_local_disk(tmp_path: Path) -> None:
    with Drivers(tmp_path / "drivers") as drivers:
        sweep(str(tmp_path / "stores"), drivers, PHASES)


@pytest.mark.faults
def test_killed_at_every_phase_on_s3(bucket: str, drivers: Drivers) -> None:
    sweep(bucket, drivers, PHASES)


@pytest.mark.faults
def test_local_disks_lose_no_acknowledged_change(tmp_path: Path) -> None:
    """Three processes build and project at once."""
    url = str(tmp_path / "features" / "sea")
    made: dict[str, list[str]] = {}

    def run(who: str) -> None:
        with Drivers(tmp_path / f"drivers{who}") as drivers:
            driver = drivers.start("faults.array_builds:commit_often", [url, who, 4])
            assert driver.wait() == 0, driver.said
            made[who] = driver.result

    threads = [threading.Thread(target=run, args=(who,)) for who in "123"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3
    repository = open_repository(url)
    expected = {
        f"v{int(who) * 100 + i}": snapshot
        for who, all_of in made.items()
        for i, snapshot in enumerate(all_of)
    }
    assert {tag: repository.lookup_tag(tag) for tag in repository.list_tags()} == expected
    assert repository.lookup_branch("main") == made["3"][-1]
    assert repository.list_branches() == {"main"}
    for who, all_of in made.items():
        for i, snapshot in enumerate(all_of):
            xr.testing.assert_identical(open_arrays(url, snapshot).load(), cube(4, seed=i)), who


@pytest.mark.faults
@pytest.mark.parametrize("action", ["drop", "status after"])
def test_every_lost_reply_of_a_build(action: str, bucket: str, proxy: FaultProxy) -> None:
    """The store does what it was asked and the client is told otherwise: one version, whole, for each build."""
    from faults.array_builds import build

    done, last, changes = 0, -1, None
    while changes is None or last < changes:
        url = f"{bucket}/lost{last}/features/sea"
        proxy.clear()
        before = proxy.count("PUT|POST|DELETE")
        rule = proxy.add(
            Rule(action, method="PUT|POST|DELETE", skip=max(last, 0), count=int(last >= 0), status=500)
        )
        with variables(environment_of(proxy.url)):
            assert build(url, 8, 0, "one") == 1
        if changes is None:
            changes = proxy.count("PUT|POST|DELETE") - before
        else:
            assert rule.hits == 1 or last >= changes - 2
        done += rule.hits
        proxy.clear()
        check_after(url, 1, 8)
        assert open_repository(url).list_branches() == {"main"}
        last += 1
    assert done > 10
    assert storage.list_names(arrays_url(f"{bucket}/lost0/features/sea"))
