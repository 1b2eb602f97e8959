"""Scratch stays within its budget: what was used longest ago goes first, what was used lately stays."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featureflow.execute.exchange.scratch import evict


def put(scratch: Path, name: str, size: int, age_hours: float) -> Path:
    path = scratch / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    then = time.time() - age_hours * 3600
    os.utime(path, (then, then))
    return path


@pytest.mark.parametrize(
    ("limit", "left"), [(300, {"a", "b", "c"}), (299, {"b", "c"}), (100, {"c"}), (0, set())]
)
def test_the_oldest_go_first(tmp_path: Path, limit: int, left: set[str]) -> None:
    for name, age in (("a", 90), ("b", 60), ("c", 30)):
        put(tmp_path, f"exchange/00/{name}", 100, age)
    removed = evict(tmp_path.as_posix(), limit)
    assert {path.name for path in (tmp_path / "exchange/00").iterdir()} == left
    assert removed == 300 - 100 * len(left)


def test_what_was_used_within_a_day_stays(tmp_path: Path) -> None:
    lately = put(tmp_path, "exchange/00/lately", 100, 1)
    old = put(tmp_path, "checks/old.json", 100, 48)
    assert evict(tmp_path.as_posix(), 0) == 100
    assert lately.exists() and not old.exists()


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    foreign = put(tmp_path, "mine/file", 100, 1000)
    facts = put(tmp_path, "facts/source.json", 100, 1000)
    assert evict(tmp_path.as_posix(), 0) == 0
    assert foreign.exists() and facts.exists()


def test_no_folder_is_no_error(tmp_path: Path) -> None:
    assert evict((tmp_path / "not there").as_posix()) == 0


def test_spills_of_killed_processes_go_at_once(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    names = {
        f"{host}-{gone.pid}-ab": False,
        f"{host}-{os.getpid()}-ab": True,
        f"elsewhere-x-{gone.pid}-ab": True,
    }
    for name in names:
        put(tmp_path, f"spill/{name}/run-0.arrow", 100, 0)
    assert evict(tmp_path.as_posix()) == 100
    assert {path.name for path in (tmp_path / "spill").iterdir()} == {
        n for n, stays in names.items() if stays
    }
    for name, stays in names.items():
        if stays:
            os.utime(tmp_path / "spill" / name, (0, 0))
    assert evict(tmp_path.as_posix()) == 200
