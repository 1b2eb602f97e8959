"""SIGKILL of the driver at requests of a build on S3: readers see whole versions, and the next build ends the same."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from faults import small_build
from faults.conftest import Figure
from faults.drivers import Drivers
from faults.small_build import TABLES, Sight, sight
from faults.stores import objects, put, remove
from servers.fault_proxy import FaultProxy, Rule, Seen

from featureflow.core import storage
from featureflow.tables import delta_log, versions
from featureflow.tables.collect import gc

pytestmark = pytest.mark.faults

BUILD = "faults.small_build:build"
#: Reads change nothing, so a kill at every fourth of them is enough by default; 1 takes each.
EVERY_READ = int(os.environ.get("FEATUREFLOW_SWEEP_READS", "4"))


@dataclass(frozen=True)
class Base:
    """A store with one version of everything, and what the second build makes of it."""

    spec: str
    before: dict[str, bytes]
    old: Sight
    new: Sight
    after: int
    requests: list[Seen]


@pytest.fixture
def base(bucket: str, drivers: Drivers, proxy: FaultProxy, tmp_path: Path) -> Base:
    raw, store = f"{bucket}/raw", f"{bucket}/store"
    spec = str(small_build.write_spec(tmp_path, raw))
    small_build.write_raw(raw, 0)
    drivers.run(BUILD, [spec, store, str(tmp_path / "scratch0")])
    old, before = sight(store), objects(store)
    small_build.write_raw(raw, 1)
    proxy.clear()
    drivers.run(BUILD, [spec, store, str(tmp_path / "scratch1")])
    new, requests = sight(store), list(proxy.log)
    assert old != new
    assert None not in (*old.tables, old.export, *new.tables, new.export)
    clean(store)
    return Base(spec, before, old, new, len(tables_of(store)), requests)


def clean(store: str) -> None:
    for name in TABLES:
        gc(storage.join(store, name), name, margin=timedelta(0))


def tables_of(store: str) -> list[str]:
    """Objects that a store should have, but for its reports."""
    return [name for name in objects(store) if not name.startswith("runs/")]


def points(requests: list[Seen]) -> list[tuple[int, str]]:
    """Before and after everything that changes something; before, or after, some of the rest."""
    found = []
    reads = 0
    for place, seen in enumerate(requests):
        if seen.method in ("GET", "HEAD"):
            reads += 1
            if EVERY_READ == 1:
                found += [(place, "kill before"), (place, "kill after")]
            elif reads % EVERY_READ == 0:
                found.append((place, "kill after" if reads % (2 * EVERY_READ) else "kill before"))
        else:
            found += [(place, "kill before"), (place, "kill after")]
    return found


def whole(found: Sight, base: Base) -> bool:
    """Whether each table is the old or the new one, with a whole export of it, or none yet."""
    tables = all(
        now in (old, new)
        for now, old, new in zip(found.tables, base.old.tables, base.new.tables, strict=True)
    )
    exported = (
        found.export == base.old.export
        if found.tables[1] == base.old.tables[1]
        else found.export in (None, base.new.export)
    )
    return tables and exported


def test_sweep(
    base: Base, bucket: str, drivers: Drivers, proxy: FaultProxy, tmp_path: Path, figure: Figure
) -> None:
    begun, killed, states = time.monotonic(), 0, []
    for place, action in points(base.requests):
        store, scratch = f"{bucket}/at{place}{action[5]}", tmp_path / "scratch"
        put(store, base.before)
        proxy.clear()
        pid: Future[int] = Future()
        proxy.add(Rule(action, skip=place, count=1, victim=pid.result))
        driver = drivers.start(BUILD, [base.spec, store, str(scratch)])
        pid.set_result(driver.pid)
        assert driver.wait() == -9, (place, action, driver.said)
        killed += 1
        found = sight(store)
        assert whole(found, base), (place, action, proxy.log[-1], found)
        states.append(
            sum(now == new for now, new in zip(found.tables, base.new.tables, strict=True))
            + (found.export == base.new.export)
        )
        proxy.clear()
        drivers.run(BUILD, [base.spec, store, str(scratch)])
        assert sight(store) == base.new, (place, action)
        for name in TABLES:
            assert versions.list_versions(f"{store}/{name}") == [1, 2]
            assert delta_log.numbers(f"{store}/{name}") == [0, 1]
        clean(store)
        assert len(tables_of(store)) == base.after, (place, action)
        shutil.rmtree(scratch)
        remove(store)
    assert killed >= 50
    assert set(states) == {0, 1, 2, 3}
    figure(
        "R1",
        f"{killed} kills at {len(base.requests)} requests of a build on S3: 0 torn reads, 0 re-runs that failed "
        f"or differ; {states.count(0)} left the old versions, {states.count(1) + states.count(2)} some of the new, "
        f"{states.count(3)} all of the new; {(time.monotonic() - begun) / killed:.1f} s a kill",
    )
