"""A store, or the log of a table, on a disk that is full: an error that says where and how much, and no version."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from faults import small_build
from faults.conftest import Figure
from faults.drivers import Drivers
from faults.small_build import TABLES, Sight, sight

from featureflow.tables.collect import gc

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts small disks"),
]

BUILD = "faults.small_build:build"


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, free: int) -> None:
    """Leave so many bytes."""
    found = os.statvfs(folder)
    with open(folder / "filler", "wb") as file:
        file.write(bytes(found.f_bavail * found.f_frsize - free))


@pytest.fixture
def calm(tmp_path: Path) -> tuple[str, Sight]:
    """The spec, and what an undisturbed build makes."""
    spec = str(small_build.write_spec(tmp_path, str(tmp_path / "raw")))
    for day in (0, 1):
        small_build.write_raw(str(tmp_path / "raw"), day)
    small_build.build(spec, str(tmp_path / "calm"), str(tmp_path / "calm-scratch"))
    return spec, sight(str(tmp_path / "calm"))


def test_full_stores(calm: tuple[str, Sight], tmp_path: Path, figure: Figure) -> None:
    """With 8 KiB more each time, until it is enough: the disk is full at every kind of file once."""
    spec, whole = calm
    ended: Counter[str] = Counter()
    where: Counter[str] = Counter()
    with disk(tmp_path / "disk", "48m") as small, Drivers(tmp_path / "drivers") as drivers:
        for pages in range(0, 200, 2):
            store = small / f"store{pages}"
            fill(small, 4096 * pages)
            driver = drivers.start(BUILD, [spec, str(store), str(tmp_path / f"scratch{pages}")])
            code = driver.wait()
            if code == 0:
                assert sight(str(store)) == whole
                break
            said = driver.said
            assert code in (1, 3), said
            assert "No space left" in said, said
            found = re.search(re.escape(str(store)) + r"[\w./=-]*", said)
            assert found, said
            assert re.search(r"[\d,]+ of [\d,]+ bytes are free", said), said
            ended[said.split()[2]] += 1
            where[kind_of(found[0])] += 1
            seen = sight(str(store))
            assert all(now in (None, then) for now, then in zip(seen.tables, whole.tables, strict=True))
            assert seen.export in (None, whole.export)
            (small / "filler").unlink()
            drivers.run(BUILD, [spec, str(store), str(tmp_path / f"scratch{pages}")])
            assert sight(str(store)) == whole
            for name in TABLES:
                gc(str(store / name), name, margin=timedelta(0))
            assert not [p for p in store.rglob("*") if ".tmp" in p.name or p.name == ".exporting"]
            subprocess.run(["rm", "-r", str(store)], check=True)
        assert code == 0
    assert ended.total() >= 8
    figure(
        "R9",
        f"store full at {ended.total()} places {dict(where)}: {dict(ended)}, no half version, clean after gc",
    )


def kind_of(path: str) -> str:
    """What sort of file it is."""
    for kind in ("_delta_log", "records", "versions", "state", "exports", "runs", "datasets", "features"):
        if kind in path:
            return kind
    return "other"


def test_full_logs(calm: tuple[str, Sight], tmp_path: Path, figure: Figure) -> None:
    spec, whole = calm
    store = tmp_path / "store"
    with Drivers(tmp_path / "drivers") as drivers:
        with disk(store / "features/spend/_delta_log", "48m") as log:
            fill(log, 0)
            driver = drivers.start(BUILD, [spec, str(store), str(tmp_path / "scratch")])
            code = driver.wait()
            assert code == 3, driver.said
            assert "_delta_log/00000000000000000000.json" in driver.said
            assert re.search(r"[\d,]+ bytes", driver.said), driver.said
            assert "nothing was published" in driver.said
            assert sight(str(store)) == Sight((None, None), None)
        drivers.run(BUILD, [spec, str(store), str(tmp_path / "scratch")])
    assert sight(str(store)) == whole
    figure(
        "R9",
        "log of a table full: exit code 3 with path and bytes, nothing published, the next build is right",
    )
