"""Builds on hosts that share nothing but the store, simulated in one process: same bytes, lost hosts, second builds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exchange.exchange_world import (
    Host,
    Hosts,
    add_events,
    building_on,
    contents,
    make_world,
    many_buckets,
    maps_on,
)
from parity.dataset_world import DatasetWorld

import featureflow as ff
from featureflow.core.errors import ComputeError, FetchFailed, PlanError, Unreachable
from featureflow.execute.exchange.places import DISK_NAME
from featureflow.execute.task import Task


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> DatasetWorld:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def reference(world: DatasetWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of a build in threads."""
    with pytest.MonkeyPatch.context() as patched:
        many_buckets(patched)
        store = tmp_path_factory.mktemp("reference") / "store"
        world.project(store, scheduler="threads", workers=2).build()
    found = contents(store)
    assert len([name for name in found if name.startswith("exports/")]) > 3
    assert any("_ff/quarantine/events" in name for name in found)
    assert any("spend/_ff/quarantine" in name for name in found)
    return found


def build(world: DatasetWorld, hosts: Hosts, store: Path, mode: str | None, monkeypatch: Any) -> Any:
    with building_on(monkeypatch, hosts):
        project = world.project(store, scratch=store.with_name("driver"))
        project.target = project.target.model_copy(update={"exchange": mode})
        return project.build()


@pytest.mark.parametrize("mode", [None, "store"])
def test_hosts_without_a_common_disk_make_the_same_files(
    world: DatasetWorld,
    reference: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str | None,
) -> None:
    hosts = Hosts(tmp_path, 3)
    report = build(world, hosts, tmp_path / "store", mode, monkeypatch)
    assert report.status == "done"
    assert contents(tmp_path / "store") == reference
    assert all(maps_on(host) for host in hosts.all)
    here = [path for host in hosts.all for path in Path(host.scratch).rglob("*.arrow")]
    if mode == "store":
        assert not here
        assert not hosts.requests
    else:
        assert len(here) == sum(len(maps_on(host)) for host in hosts.all)
        assert hosts.requests
    # what the driver has for itself alone are the facts of the sources
    driver = {path.relative_to(tmp_path / "driver").parts[0] for path in (tmp_path / "driver").rglob("*")}
    assert driver <= {"facts", "exchange", "export"}


def test_a_scratch_folder_that_all_see_is_used_as_it_is(
    world: DatasetWorld, reference: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = Hosts(tmp_path, 2, same_disk=True)
    with building_on(monkeypatch, hosts):
        report = world.project(tmp_path / "store", scratch=tmp_path / "shared").build()
    assert report.status == "done"
    assert contents(tmp_path / "store") == reference
    assert not hosts.requests
    assert not (tmp_path / "store" / "work").exists()


def test_a_second_build_reuses_slices_wherever_they_are(
    world: DatasetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_world(tmp_path / "own")
    hosts = Hosts(tmp_path, 3)
    build(own, hosts, tmp_path / "store", "local", monkeypatch)
    before = [maps_on(host) for host in hosts.all]
    for host in hosts.all:
        host.tasks.clear()
    add_events(own, 7)
    build(own, hosts, tmp_path / "store", "local", monkeypatch)
    again = [name for host in hosts.all for name in maps_on(host)]
    assert again
    assert not {name for names in before for name in names} & set(again)
    with pytest.MonkeyPatch.context() as patched:
        many_buckets(patched)
        own.project(tmp_path / "threads", scheduler="threads", workers=2).build()
    mine, theirs = contents(tmp_path / "store"), contents(tmp_path / "threads")
    exported = "exports/train/"  # here the version is the first, there the second
    theirs = {name.replace(f"{exported}1/", f"{exported}2/"): content for name, content in theirs.items()}
    assert theirs.items() <= mine.items()


def _kill_at(hosts: Hosts, victim: int, kind: str, after: int) -> None:
    """Kill a host when so many tasks of a function have begun."""
    seen = 0

    def on_task(task: Task, _: Host) -> None:
        nonlocal seen
        name = getattr(task.function, "__name__", "")
        if name == kind:
            seen += 1
            if seen == after and hosts.all[victim].alive:
                hosts.kill(victim)

    hosts.on_task = on_task


@pytest.mark.parametrize(("kind", "after"), [("rekey", 3), ("compute_run", 2), ("run_join", 3)])
def test_a_lost_host_costs_its_own_maps_only(
    world: DatasetWorld,
    reference: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    after: int,
) -> None:
    hosts = Hosts(tmp_path, 3)
    _kill_at(hosts, 1, kind, after)
    build(world, hosts, tmp_path / "store", "local", monkeypatch)
    assert not hosts.all[1].alive
    assert contents(tmp_path / "store") == reference
    of_the_dead = set(maps_on(hosts.all[1]))
    made = [name for host in (hosts.all[0], hosts.all[2]) for name in maps_on(host)]
    assert {name for name in made if made.count(name) > 1} == set()  # nothing of the living was made twice
    assert of_the_dead & set(made)


def test_a_host_that_comes_back_with_an_empty_disk(
    world: DatasetWorld, reference: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = Hosts(tmp_path, 2)
    killed = False

    def on_task(task: Task, _: Host) -> None:
        nonlocal killed
        if not killed and getattr(task.function, "__name__", "") == "compute_run":
            killed = True
            hosts.kill(0)
            hosts.restart(0)

    hosts.on_task = on_task
    build(world, hosts, tmp_path / "store", "local", monkeypatch)
    assert killed
    assert contents(tmp_path / "store") == reference


def test_a_worker_that_comes_back_to_its_disk_costs_nothing(
    world: DatasetWorld, reference: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = Hosts(tmp_path, 2)
    moved = False

    def on_task(task: Task, _: Host) -> None:
        nonlocal moved
        if not moved and getattr(task.function, "__name__", "") == "compute_run":
            moved = True
            hosts.all[0].address += "1"  # a nanny has started it anew

    hosts.on_task = on_task
    build(world, hosts, tmp_path / "store", "local", monkeypatch)
    assert contents(tmp_path / "store") == reference
    made = [name for host in hosts.all for name in maps_on(host)]
    assert len(made) == len(set(made))


def test_files_that_vanish_again_and_again_end_the_build(
    world: DatasetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = Hosts(tmp_path, 2)

    def on_task(task: Task, _: Host) -> None:
        if getattr(task.function, "__name__", "") == "compute_run":
            for host in hosts.all:
                for path in Path(host.scratch).rglob("*.arrow"):
                    path.unlink()

    hosts.on_task = on_task
    with pytest.raises(FetchFailed, match="exchange files can't be read"):
        build(world, hosts, tmp_path / "store", "local", monkeypatch)
    assert not list((tmp_path / "store").rglob("*.json.checkpoint"))
    assert ff.open(str(tmp_path / "store")).tables() == []


@pytest.mark.parametrize("mode", ["shared", "store"])
def test_a_file_that_is_lost_where_all_see_it_is_made_again(
    world: DatasetWorld,
    reference: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    hosts = Hosts(tmp_path, 2, same_disk=True)
    root = tmp_path / "shared" if mode == "shared" else tmp_path / "store" / "work"
    lost: list[str] = []

    def on_task(task: Task, _: Host) -> None:
        if not lost and getattr(task.function, "__name__", "") == "compute_run":
            found = sorted((root / "exchange").rglob("*.arrow"))[:2]
            lost.extend(path.name for path in found)
            for path in found:
                path.unlink()

    hosts.on_task = on_task
    with building_on(monkeypatch, hosts):
        project = world.project(tmp_path / "store", scratch=tmp_path / "shared")
        project.target = project.target.model_copy(update={"exchange": mode})
        project.build()
    assert len(lost) == 2
    assert contents(tmp_path / "store") == reference


# ---------------------------------------------------------------- what is refused at once


def test_shared_is_refused_where_a_host_does_not_see_the_folder(
    world: DatasetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = Hosts(tmp_path, 2)
    with pytest.raises(PlanError, match=r"2 of 2 workers .*don't see .*driver"):
        build(world, hosts, tmp_path / "store", "shared", monkeypatch)
    assert not [task for host in hosts.all for task in host.tasks]


def test_a_store_that_a_host_does_not_see_is_refused_before_anything_runs(
    world: DatasetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import featureflow.execute.exchange.sharing as sharing

    hosts = Hosts(tmp_path, 2)
    exists = sharing.os.path.exists
    # the second host has a folder of the same path that is another one
    looked = iter([True, False])

    def seen(path: Any) -> bool:
        if "probe-" in str(path) and Path(path).parent == tmp_path:
            return exists(path) and next(looked)
        return exists(path)

    monkeypatch.setattr(sharing.os.path, "exists", seen)
    with pytest.raises(Unreachable, match=r"worker fake://host1:1: can't see the store .*s3://"):
        build(world, hosts, tmp_path / "store", None, monkeypatch)
    assert not [task for host in hosts.all for task in host.tasks]
    assert not (tmp_path / "store").exists()


def test_probes_leave_nothing_behind(
    world: DatasetWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = Hosts(tmp_path, 2)
    with building_on(monkeypatch, hosts):
        world.project(tmp_path / "store", scratch=tmp_path / "driver").plan(["daily"])
    assert not list(tmp_path.rglob("probe-*"))
    assert {path.name for host in hosts.all for path in Path(host.scratch).iterdir()} == {
        DISK_NAME,
        "exchange",
    }


def test_a_task_of_no_host_says_so(tmp_path: Path) -> None:
    from featureflow.execute.exchange.places import on_disk

    assert on_disk(str(tmp_path)) == str(tmp_path)
    with pytest.raises(ComputeError, match="does not run on one that was prepared"):
        on_disk("scratch:exchange/x.arrow")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Manifests that this process has read: tests have other hosts under the same addresses."""
    from featureflow.execute.exchange import manifest

    manifest._read.cache_clear()
    yield
