"""A grid's store, or the folder of what its steps learn, on a full disk: an error that says so, and nothing visible."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from faults import grid_builds
from faults.conftest import Figure
from faults.drivers import Drivers
from faults.grid_builds import TABLE, check, digests_at, put_source, version_of, write_spec
from faults.test_full_disks import disk, fill

from featureflow.tables.collect import gc

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts small disks"),
]
BUILD = "faults.grid_builds:build"


@pytest.fixture
def calm(tmp_path: Path) -> tuple[str, grid_builds.Digests]:
    """The spec, and what an undisturbed build makes."""
    put_source(str(tmp_path / "sst.zarr"), tmp_path)
    spec = write_spec(tmp_path, str(tmp_path / "sst.zarr"))
    grid_builds.build(spec, str(tmp_path / "calm"), str(tmp_path / "calm-scratch"))
    return spec, digests_at(str(tmp_path / "calm"))


def test_full_stores(calm: tuple[str, grid_builds.Digests], tmp_path: Path, figure: Figure) -> None:
    """With 96 KiB more each time, until it is enough."""
    spec, right = calm
    ended: list[str] = []
    with disk(tmp_path / "disk", "48m") as small, Drivers(tmp_path / "drivers") as drivers:
        for pages in range(2, 400, 24):
            store = small / f"store{pages}"
            fill(small, 4096 * pages)
            driver = drivers.start(BUILD, [spec, str(store), str(tmp_path / f"scratch{pages}")])
            code = driver.wait()
            if code == 0:
                check(str(store), right, 1)
                break
            said = driver.said
            assert code in (1, 3), said
            assert "No space left" in said, said
            assert str(store) in said, said
            assert re.search(r"[\d,]+ of [\d,]+ bytes are free", said), said
            assert version_of(str(store)) == 0
            ended.append(said.split()[2])
            (small / "filler").unlink()
            drivers.run(BUILD, [spec, str(store), str(tmp_path / f"scratch{pages}")])
            check(str(store), right, 1)
            gc(str(store / TABLE), "calm", margin=timedelta(0))
            check(str(store), right, 1)
            assert not [p for p in store.rglob("*") if ".tmp" in p.name]
            assert not list((store / TABLE / "_ff").glob("progress/*"))
        assert code == 0
    assert len(ended) >= 2
    figure(
        "G5",
        f"grid: store full at {len(ended)} places ({ended}): nothing visible, next build right, clean after gc",
    )


def test_full_folder_of_fits(calm: tuple[str, grid_builds.Digests], tmp_path: Path, figure: Figure) -> None:
    spec, right = calm
    store = tmp_path / "store"
    with Drivers(tmp_path / "drivers") as drivers:
        with disk(store / TABLE / "_ff/fits", "1m") as fits:
            fill(fits, 0)
            driver = drivers.start(BUILD, [spec, str(store), str(tmp_path / "scratch")])
            assert driver.wait() in (1, 3), driver.said
            assert "No space left" in driver.said, driver.said
            assert "_ff/fits" in driver.said, driver.said
            assert version_of(str(store)) == 0
        drivers.run(BUILD, [spec, str(store), str(tmp_path / "scratch")])
    check(str(store), right, 1)
    figure(
        "G5", "grid: folder of fits full: an error with the path, nothing visible, the next build is right"
    )
