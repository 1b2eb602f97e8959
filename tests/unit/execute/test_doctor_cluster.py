"""What `doctor` says of a cluster: a real one in this process, and workers that differ from here."""

from __future__ import annotations

import time

import pytest

from featureflow.execute import doctor


@pytest.fixture(autouse=True)
def small_disk_test(monkeypatch):
    monkeypatch.setattr(doctor, "_SPEED_BYTES", 1 << 20)


def test_a_running_scheduler_is_looked_at(tmp_path):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address="127.0.0.1:0",
        protocol="tcp",
        host="127.0.0.1",
    ) as cluster:
        found = list(
            doctor.examine(
                store_url=str(tmp_path),
                scratch=str(tmp_path / "scratch"),
                scheduler=cluster.scheduler_address,
            )
        )
    cluster_says = {finding.name: finding for finding in found if finding.area == "cluster"}
    assert {name: finding.status for name, finding in cluster_says.items()} == dict.fromkeys(
        ("scheduler", "versions", "store", "clock"), "ok"
    )
    assert cluster_says["scheduler"].facts["threads"] == 2
    assert doctor.summary(found)["ok"]


def test_a_scheduler_that_does_not_answer_is_a_finding(tmp_path, monkeypatch):
    from featureflow.core.errors import Unreachable
    from featureflow.execute import executors

    def nobody(*_args, **_more):
        raise Unreachable("No Dask scheduler answers at tcp://127.0.0.1:9.")

    monkeypatch.setattr(executors, "open_executor", nobody)
    (found,) = doctor._cluster("tcp://127.0.0.1:9", None, None, str(tmp_path))
    assert (found.status, found.name) == ("failed", "scheduler")
    assert not doctor.summary([found])["ok"]


def test_workers_that_differ_are_named():
    now = time.time()
    ours = doctor.versions()
    seen = {
        "tcp://a": {"versions": ours, "time": now, "store": "", "host": "a"},
        "tcp://b": {
            "versions": {**ours, "polars": "0.1"},
            "time": now + 60,
            "store": "s3://x: permission denied",
            "host": "b",
        },
    }
    versions, store, clock = doctor._compared(seen, now, now)
    assert versions.status == "failed"
    assert "tcp://b: polars 0.1 (here" in versions.text
    assert "tcp://a" not in versions.text
    assert (store.status, clock.status) == ("failed", "warning")
    assert "tcp://b: s3://x: permission denied" in store.text
    assert clock.facts["seconds"] == pytest.approx(60)
