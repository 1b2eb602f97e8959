"""A store that refuses, breaks, cuts, falsifies, or is gone for a while: the same bytes, or an error that says why."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from faults import small_build
from faults.conftest import Figure
from faults.drivers import Drivers
from faults.small_build import Sight, sight
from faults.stores import objects
from servers.fault_proxy import FaultProxy, Rule
from servers.seaweedfs import S3Server, environment_of, variables

import featureflow as ff

pytestmark = pytest.mark.faults

BUILD = "faults.small_build:build"
SHARE = 0.2
#: Raw files of others have no checksums of ours, and listings have none at all.
PROTECTED = r"^/test/t\d+/(?!raw/)"
STORMS = {
    "503": [Rule("status", status=503, probability=SHARE)],
    "500": [Rule("status", status=500, probability=SHARE)],
    "reset": [Rule("reset", probability=SHARE)],
    "truncate": [Rule("truncate", probability=SHARE)],
    "corrupt": [Rule("corrupt", method="GET", path=PROTECTED, probability=SHARE)],
    "all of them": [
        Rule("status", status=503, probability=SHARE / 5),
        Rule("status after", status=500, probability=SHARE / 5),
        Rule("reset", probability=SHARE / 5),
        Rule("truncate", probability=SHARE / 5),
        Rule("corrupt", method="GET", path=PROTECTED, probability=SHARE / 5),
    ],
}


@pytest.fixture
def expected(bucket: str, drivers: Drivers, tmp_path: Path) -> tuple[str, Sight, float]:
    """The spec, what an undisturbed build makes, and how long it takes."""
    spec = str(small_build.write_spec(tmp_path, f"{bucket}/raw"))
    for day in (0, 1):
        small_build.write_raw(f"{bucket}/raw", day)
    drivers.run(
        BUILD, [spec, f"{bucket}/first", str(tmp_path / "scratch-first")]
    )  # compiles what is not compiled
    begun = time.monotonic()
    drivers.run(BUILD, [spec, f"{bucket}/calm", str(tmp_path / "scratch-calm")])
    return spec, sight(f"{bucket}/calm"), time.monotonic() - begun


@pytest.mark.parametrize("storm", STORMS)
def test_storm(
    storm: str,
    expected: tuple[str, Sight, float],
    bucket: str,
    s3: S3Server,
    drivers: Drivers,
    tmp_path: Path,
    figure: Figure,
) -> None:
    spec, calm, calm_seconds = expected
    assert re.match(PROTECTED, f"/{bucket.removeprefix('s3://')}/any0/features/spend/_ff/a.json")
    ended: Counter[str] = Counter()
    seconds, hits = [], 0
    for seed in range(4):
        store, scratch = f"{bucket}/{storm[:3]}{seed}", str(tmp_path / f"scratch{seed}")
        with FaultProxy(s3.endpoint, seed=seed) as proxy:
            for rule in STORMS[storm]:
                proxy.add(replace(rule))
            begun = time.monotonic()
            driver = drivers.start(BUILD, [spec, store, scratch], environment_of(proxy.url))
            code = driver.wait()
            seconds.append(time.monotonic() - begun)
            hits += sum(proxy.faults.values())
        assert code in (0, 1, 3, 4), driver.said
        found = sight(store)
        if code == 0:
            ended["the same bytes"] += 1
            assert found == calm
        else:
            assert re.search(r"^exit \d \w+ .*s3://", driver.said, re.MULTILINE), driver.said
            ended[driver.said.split()[2]] += 1
            tables = zip(found.tables, calm.tables, strict=True)
            assert all(now in (None, new) for now, new in tables)
            assert found.export in (None, calm.export)
            drivers.run(BUILD, [spec, store, scratch])
            assert sight(store) == calm
    assert hits
    if storm != "corrupt":
        assert ended["the same bytes"] >= 3
    figure(
        "R4",
        f"{SHARE:.0%} of requests {storm}: {dict(ended)} of 4 builds, {hits} faults, 0 other digests; "
        f"{sum(seconds) / 4 / calm_seconds:.1f} x the time ({calm_seconds:.1f} s)",
    )


def test_falsified_answers_to_readers(
    expected: tuple[str, Sight, float], bucket: str, proxy: FaultProxy, figure: Figure
) -> None:
    """What tables, datasets and shards load is right, or is refused."""
    store = f"{bucket}/calm"
    wanted = {
        "table": ff.open(store).table("spend").to_polars(),
        "dataset": ff.open(store).dataset("train").to_polars(),
        "shards": ff.load_shards(f"{store}/exports/train/1").to_polars(),
    }
    ended: Counter[str] = Counter()
    with variables(environment_of(proxy.url)):
        for seed in range(60):
            proxy.clear()
            proxy._seed = seed
            rule = proxy.add(Rule("corrupt", method="GET", probability=0.15))
            for name, right in wanted.items():
                try:
                    if name == "shards":
                        found = ff.load_shards(f"{store}/exports/train/1").to_polars()
                    elif name == "table":
                        found = ff.open(store).table("spend").to_polars()
                    else:
                        found = ff.open(store).dataset("train").to_polars()
                except ff.FeatureflowError:
                    ended["refused"] += 1
                else:
                    assert found.equals(right), (name, seed)
                    ended["right"] += 1
            assert rule.matched
    assert ended["refused"] > 20
    figure("R4", f"reads with 15 % of GET bodies falsified by one bit: {dict(ended)}, 0 silent")


class Outage:
    """`kill -9` of the server, and its restart 15 s later."""

    def __init__(self, server: S3Server) -> None:
        self.server, self.seconds, self.down = server, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def begin(self) -> None:
        self.thread.start()
        self.down.wait()

    def run(self) -> None:
        self.server.kill()
        self.down.set()
        begun = time.monotonic()
        time.sleep(15)
        self.server.restart()
        self.seconds = time.monotonic() - begun


def test_a_server_that_is_killed(
    bucket: str, s3: S3Server, proxy: FaultProxy, drivers: Drivers, tmp_path: Path, figure: Figure
) -> None:
    """`kill -9` in the middle, back after 15 s: the build goes on by itself, and nothing acknowledged is lost."""
    spec = str(small_build.write_spec(tmp_path, f"{bucket}/raw"))
    for day in range(6):
        small_build.write_raw(f"{bucket}/raw", day)
    drivers.run(BUILD, [spec, f"{bucket}/first", str(tmp_path / "scratch-first")])
    proxy.clear()
    begun = time.monotonic()
    drivers.run(BUILD, [spec, f"{bucket}/calm", str(tmp_path / "scratch-calm")])
    calm_seconds, requests = time.monotonic() - begun, len(proxy.log)
    calm = sight(f"{bucket}/calm")
    figures = []
    for share in (0.25, 0.6, 0.85):
        proxy.clear()
        store = f"{bucket}/at{share}"
        outage = Outage(s3)
        proxy.add(Rule("call", skip=int(requests * share), count=1, function=outage.begin))
        begun = time.monotonic()
        driver = drivers.start(BUILD, [spec, store, str(tmp_path / f"scratch{share}")])
        code = driver.wait()
        took = time.monotonic() - begun
        outage.thread.join()
        assert code == 0, driver.said
        assert sight(store) == calm
        there = objects(store)
        deleted = {s.path for s in proxy.log if s.method in ("DELETE", "POST")}
        key = store.removeprefix("s3://")
        acknowledged = {
            s.path.removeprefix(f"/{key}/").replace("%3D", "=")
            for s in proxy.log
            if s.method == "PUT" and s.status == 200 and s.path.startswith(f"/{key}/")
        }
        lost = {path for path in acknowledged - there.keys() if not path.endswith("/.exporting")}
        assert not lost, (lost, deleted)
        figures.append((outage.seconds, took - calm_seconds - (outage.seconds), len(acknowledged)))
    figure(
        "R5",
        "S3 server killed for 15 s at a quarter, 60 % and 85 % of the requests: builds ended unattended, "
        + "; ".join(
            f"outage {a:.0f} s, {b:+.1f} s beyond it, 0 of {n} acknowledged objects lost"
            for a, b, n in figures
        ),
    )
