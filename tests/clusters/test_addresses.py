"""Schedulers that run already: several hosts, TLS, workers that come and go, a scheduler that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clusters.builds import Watcher, contents, make_project
from clusters.certificates import make_certificates
from clusters.hosts import free_port, start_hosts

import featureflow as ff
from featureflow.spec.targets import Tls

pytestmark = [
    pytest.mark.clusters,
    pytest.mark.filterwarnings("default"),  # Dask and Tornado warn about their own closing
]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture
def expected(spec: Path, tmp_path: Path) -> dict[str, str]:
    store = tmp_path / "expected"
    ff.Project(str(spec), store=str(store), scheduler="threads", workers=3, scratch=tmp_path / "own").build()
    return contents(store)


def test_hosts_with_disks_of_their_own(spec: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    with start_hosts(3, tmp_path / "hosts") as hosts:
        project = ff.Project(
            str(spec), store=str(tmp_path / "store"), scheduler=hosts.address, scratch=tmp_path / "own"
        )
        project.build()
        assert contents(tmp_path / "store") == expected
        assert [any(hosts.scratch(i).iterdir()) for i in range(3)] == [True] * 3


def test_tls(spec: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    """With the right certificates a build; without, or with those of another authority, an error."""
    from featureflow.execute.clusters.opening import security_of

    files = make_certificates(tmp_path / "tls")
    strangers = make_certificates(tmp_path / "strangers")
    with start_hosts(3, tmp_path / "hosts", security=security_of(Tls(**files))) as hosts:
        targets = {
            "right": {"scheduler": hosts.address, "tls": files},
            "wrong": {"scheduler": hosts.address, "tls": strangers},
            "none": {"scheduler": hosts.address},
            "plain": {"scheduler": hosts.address.replace("tls://", "tcp://")},
        }
        spec.write_text(spec.read_text() + f"targets: {json.dumps(targets)}\n")

        def build(target: str) -> None:
            ff.Project(
                str(spec), store=str(tmp_path / "store"), target=target, scratch=tmp_path / "own"
            ).build()

        with pytest.raises(ff.Unreachable, match="certificates"):
            build("wrong")
        with pytest.raises(ff.PlanError, match="Name the certificates"):
            build("none")
        with pytest.raises(ff.Unreachable, match="No Dask scheduler answers"):
            build("plain")
        build("right")
        assert contents(tmp_path / "store") == expected


def test_a_scheduler_that_dies(spec: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    """An error with exit code 3 at once; the next build goes on from what is on disk."""
    store = tmp_path / "store"
    died: list[float] = []
    with start_hosts(3, tmp_path / "hosts") as hosts:

        def kill() -> None:
            hosts.scheduler.kill()
            died.append(time.monotonic())

        project = ff.Project(str(spec), store=str(store), scheduler=hosts.address, scratch=tmp_path / "own")
        with pytest.raises(ff.Unreachable, match="scheduler is gone") as caught:
            project.build(progress=Watcher(4, kill))
        noticed = time.monotonic() - died[0]
    print(f"noticed after {noticed:.2f} s")
    assert caught.value.exit_code == 3
    assert noticed < 30  # measured 0.3 s
    with start_hosts(3, tmp_path / "hosts2") as hosts:
        ff.Project(str(spec), store=str(store), scheduler=hosts.address, scratch=tmp_path / "own").build()
    assert contents(store) == expected


def test_the_command_line_when_a_scheduler_dies(spec: Path, tmp_path: Path) -> None:
    with start_hosts(2, tmp_path / "hosts") as hosts:
        command = [
            sys.executable,
            "-m",
            "featureflow.cli",
            "build",
            str(spec),
            "--store",
            str(tmp_path / "store"),
        ]
        command += ["--scheduler", hosts.address, "--scratch", str(tmp_path / "own")]
        for i in range(2):
            hosts.send(i, signal.SIGSTOP)  # so that the build can't be done before
        build = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        time.sleep(15)  # it has loaded its libraries, and waits for the stopped workers
        assert build.poll() is None
        hosts.scheduler.kill()
        hosts.scheduler.wait(10)
        begun = time.monotonic()
        _, said = build.communicate(timeout=30)
        took = time.monotonic() - begun
        for i in range(2):
            hosts.send(i, signal.SIGCONT)
    print(f"ended after {took:.2f} s, saying: {said}")
    assert build.returncode == 3, said
    assert "scheduler" in said and "Traceback" not in said


def test_workers_come_later(spec: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    """None at first, then one, then three; and the window of tasks in flight grows."""
    from threading import Thread

    said = Watcher(3)
    with start_hosts(0, tmp_path / "hosts") as hosts:
        project = ff.Project(
            str(spec), store=str(tmp_path / "store"), scheduler=hosts.address, scratch=tmp_path / "own"
        )
        late = Thread(target=lambda: (time.sleep(2), hosts.start(0)))
        late.start()
        said._act = lambda: (hosts.start(1), hosts.start(2))
        project.build(progress=said)
        late.join()
    assert any("has no workers yet" in note for note in said.notes)


def test_no_worker_ever(spec: Path, tmp_path: Path) -> None:
    with start_hosts(0, tmp_path / "hosts") as hosts:
        targets = {"empty": {"scheduler": hosts.address, "wait": "2s"}}
        spec.write_text(spec.read_text() + f"targets: {json.dumps(targets)}\n")
        with pytest.raises(ff.Unreachable, match=r"has no workers after 2 s\. Start some: dask worker"):
            ff.Project(
                str(spec), store=str(tmp_path / "store"), target="empty", scratch=tmp_path / "own"
            ).build()


def test_all_workers_leave(spec: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    """Killed in the middle, and new ones come: the build waits for them."""
    with start_hosts(3, tmp_path / "hosts") as hosts:

        def leave() -> None:
            for i in range(3):
                hosts.kill(i)
            for i in range(3):
                hosts.start(i)

        said = Watcher(4, leave)
        ff.Project(
            str(spec), store=str(tmp_path / "store"), scheduler=hosts.address, scratch=tmp_path / "own"
        ).build(progress=said)
        assert said.acted
    assert contents(tmp_path / "store") == expected


def test_another_version_on_a_worker(spec: Path, tmp_path: Path) -> None:
    """A table of what differs, before anything runs."""
    fake = tmp_path / "fake"
    (fake / "pyarrow-1.2.3.dist-info").mkdir(parents=True)
    (fake / "pyarrow-1.2.3.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: pyarrow\nVersion: 1.2.3\n"
    )
    with start_hosts(1, tmp_path / "hosts", environment={"PYTHONPATH": str(fake)}) as hosts:
        project = ff.Project(
            str(spec), store=str(tmp_path / "store"), scheduler=hosts.address, scratch=tmp_path / "own"
        )
        with pytest.raises(ff.PlanError, match=r"127\.0\.0\.2.*pyarrow +1\.2\.3"):
            project.build()


def test_nothing_answers(spec: Path, tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(ff.Unreachable, match="No Dask scheduler answers"):
        ff.Project(
            str(spec), store=str(tmp_path / "store"), scheduler=address, scratch=tmp_path / "own"
        ).build()
