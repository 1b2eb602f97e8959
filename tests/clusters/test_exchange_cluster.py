"""Real workers on addresses of their own, each with a disk of its own: same bytes in all modes, killed workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clusters.hosts import Hosts, start_hosts
from exchange.exchange_world import add_events, contents, make_world, many_buckets
from parity.dataset_world import DatasetWorld

import featureflow as ff

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(600)]
N = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> DatasetWorld:
    return make_world(tmp_path_factory.mktemp("world"), days=6)


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    many_buckets(monkeypatch)


@pytest.fixture(scope="module")
def reference(world: DatasetWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patched:
        many_buckets(patched)
        store = tmp_path_factory.mktemp("reference") / "store"
        world.project(store, scheduler="threads", workers=N).build()
    return contents(store)


def open_on(world: DatasetWorld, hosts: Hosts, store: Path, mode: str | None = None) -> ff.Project:
    project = world.project(store, scratch=store.with_name("driver"), client=hosts.client)
    project.target = project.target.model_copy(update={"exchange": mode})
    return project


def slices(hosts: Hosts) -> list[set[str]]:
    """Names of the exchange files on each host's disk."""
    return [{path.name for path in hosts.scratch(i).rglob("exchange/*/*.arrow")} for i in range(N)]


@contextmanager
def when(condition: Callable[[], bool], action: Callable[[], Any]) -> Iterator[list[float]]:
    """Do something once as soon as something is so, while the block runs; gives when it was done."""
    done: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if condition():
                action()
                done.append(time.monotonic())
                return
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("mode", [None, "local", "store"])
def test_bytes_are_those_of_a_build_in_threads(
    world: DatasetWorld, reference: dict[str, str], tmp_path: Path, mode: str | None
) -> None:
    with start_hosts(N, tmp_path / "hosts") as hosts:
        assert open_on(world, hosts, tmp_path / "store", mode).build().status == "done"
        assert contents(tmp_path / "store") == reference
        found = slices(hosts)
        if mode == "store":
            assert found == [set()] * N
            return
        assert all(found)
        # the same again into another store: only what comes from its tables is new
        assert open_on(world, hosts, tmp_path / "again", mode).build().status == "done"
        assert contents(tmp_path / "again") == reference
        after = slices(hosts)
    assert all(one <= two for one, two in zip(found, after, strict=True))
    assert sum(map(len, after)) == len(set.union(*after))
    assert sum(map(len, after)) - sum(map(len, found)) < sum(map(len, found)) / 2


def test_slices_are_found_after_workers_came_back(world: DatasetWorld, tmp_path: Path) -> None:
    own = make_world(tmp_path / "own")
    with start_hosts(N, tmp_path / "hosts") as hosts:
        open_on(own, hosts, tmp_path / "store").build()
        before = slices(hosts)
        for i in range(N):
            hosts.kill(i)
            hosts.start(i)
        hosts.wait()
        add_events(own, 7)
        open_on(own, hosts, tmp_path / "store").build()
        after = slices(hosts)
    assert sum(map(len, after)) == len(set.union(*after))  # nothing lies on two hosts
    assert all(one <= two for one, two in zip(before, after, strict=True))
    assert after != before


@pytest.mark.parametrize("stage", ["map", "reduce"])
def test_a_killed_worker_costs_its_own_maps_only(
    world: DatasetWorld, reference: dict[str, str], tmp_path: Path, stage: str
) -> None:
    store = tmp_path / "store"
    with start_hosts(N, tmp_path / "hosts") as hosts:
        conditions: dict[str, Callable[[], bool]] = {
            "map": lambda: len(slices(hosts)[1]) >= 2,
            "reduce": lambda: any((store / "features" / "spend").glob("day=*/*.parquet")),
        }
        with when(conditions[stage], lambda: hosts.kill(1)) as killed:
            report = open_on(world, hosts, store).build()
        assert killed
        assert report.status == "done"
        assert contents(store) == reference
        first, dead, third = slices(hosts)
    assert not first & third  # nothing of the living was made twice
    assert dead
    if stage == "reduce":
        assert dead & (first | third)


def test_a_worker_that_stops_answering(
    world: DatasetWorld, reference: dict[str, str], tmp_path: Path
) -> None:
    """It still accepts connections, but says nothing: it counts as lost, and its slices are made again."""
    import signal

    store = tmp_path / "store"
    with start_hosts(
        N,
        tmp_path / "hosts",
        environment={"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s"},
    ) as hosts:
        condition = lambda: any((store / "features" / "spend").glob("day=*/*.parquet"))  # noqa: E731
        with when(condition, lambda: hosts.send(1, signal.SIGSTOP)) as stopped:
            report = open_on(world, hosts, store).build()
        assert stopped
        assert report.status == "done"
        assert contents(store) == reference
