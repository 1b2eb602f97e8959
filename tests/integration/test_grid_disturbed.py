"""Sources that change while a grid is built from them, and builds that lose a race: errors, and no value is wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr
from integration.grid_projects import SPEC, digests, project, sea, write

from featureflow.core import storage
from featureflow.core.errors import CommitConflict, SourceError
from featureflow.execute.grids import build as grid_build
from featureflow.execute.grids import progress, region_task, tasks
from featureflow.library.cubes import handles
from featureflow.tables.verify import verify

STORED = {"time": 50, "lat": 8, "lon": 12}
ANOMALY = '      - {anomaly: {over: time, by: month, period: ["2000-01-11", "2000-06-30"]}}\n'
SMALL = SPEC.replace("lat: 4, lon: 6", "lat: 4, lon: 12")
LEVEL = SMALL.replace(ANOMALY, "")


@pytest.fixture(autouse=True)
def _many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One chunk in each."""
    monkeypatch.setattr(tasks, "_choose", lambda _grid, lattice, *_: (1,) * len(lattice.dims))


def between(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> list[Any]:
    """Do something after so many tasks of grids; gives the cells that are computed."""
    plain, seen = region_task.evaluate_box, list[Any]()

    def evaluate(job: Any, box: Any) -> Any:
        if len(seen) == number:
            act()
        seen.extend(box.cells)
        return plain(job, box)

    monkeypatch.setattr(region_task, "evaluate_box", evaluate)
    return seen


def calm(folder: Path, spec: str, data: Any) -> dict[Any, str]:
    """Digests of an undisturbed build."""
    folder.mkdir()
    write(folder, data, stored=STORED)
    made = project(folder, spec)
    made.build()
    return digests(made.table("calm"))


def piece(folder: Path) -> Path:
    """The file of the last days, in the south-west."""
    return folder / "sst.zarr/sst/c/3/0/0"


@pytest.mark.parametrize("how", ["written again", "removed"])
def test_a_piece_that_changes_while_it_is_read(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sea(200)
    right = calm(tmp_path / "calm", LEVEL, data)
    here = tmp_path / "here"
    here.mkdir()
    write(here, data, stored=STORED)
    shutil.copy2(piece(here), tmp_path / "piece")

    def change() -> None:
        if how == "removed":
            piece(here).unlink()
        else:
            zarr.open_array(here / "sst.zarr/sst", mode="r+")[190, 4, 3] = 1.0

    seen = between(monkeypatch, 3, change)
    made = project(here, LEVEL, workers=1)
    with pytest.raises(
        SourceError, match=r"features\.calm: sources\.sst was changed at time 150:200, lat 0:8"
    ):
        made.build()
    assert not (here / "store/features/calm/_delta_log").exists()
    assert len(seen) == len(right)
    shutil.copy2(tmp_path / "piece", piece(here))  # as if nothing had been
    made = project(here, LEVEL)
    again = made.plan().grids[0].plan
    assert set(again.missing) == {(2, 0, 0), (3, 0, 0)}  # of days 110 to 200, and the six before
    made.build()
    assert digests(made.table("calm")) == right
    assert made.build().status == "nothing to do"


def test_a_change_that_is_found_when_finished_chunks_are_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the end: hours are not lost on what can't be published."""
    write(tmp_path, sea(200), stored=STORED)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    seen = between(
        monkeypatch,
        2,
        lambda: zarr.open_array(tmp_path / "sst.zarr/sst", mode="r+").__setitem__((0, 4, 3), 1.0),
    )
    made = project(tmp_path, SMALL, workers=1)
    with pytest.raises(SourceError, match="was changed at time 0:50"):
        made.build()
    assert len(seen) < len(made.plan().grids[0].plan.chunks)


def test_what_was_learned_from_a_changed_piece_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sea(200)
    right = calm(tmp_path / "calm", SMALL, data)
    here = tmp_path / "here"
    here.mkdir()
    write(here, data, stored=STORED)
    first = here / "sst.zarr/sst/c/0/0/0"
    shutil.copy2(first, tmp_path / "piece")
    real = grid_build.GridBuild._make_fits

    def late(build: Any) -> None:
        zarr.open_array(here / "sst.zarr/sst", mode="r+")[15, 4:8, :12] = 1e6
        real(build)

    with monkeypatch.context() as patch:
        patch.setattr(grid_build.GridBuild, "_make_fits", late)
        with pytest.raises(SourceError, match="was changed at time 0:50"):
            project(here, SMALL).build()
    shutil.copy2(tmp_path / "piece", first)
    made = project(here, SMALL)
    made.build()
    assert digests(made.table("calm")) == right


@pytest.mark.parametrize("how", ["replaced", "gone"])
def test_a_file_that_changes_between_plan_and_task(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, days in enumerate((slice(0, 100), slice(100, 200))):
        sea(200).isel(time=days).to_netcdf(tmp_path / f"{i}.nc")
    spec = LEVEL.replace("{path: sst.zarr, format: zarr}", '{path: "*.nc", format: netcdf}')
    real = grid_build.GridBuild._make_chunks

    def late(*given: Any) -> None:
        handles.close_all()
        if how == "gone":
            os.unlink(tmp_path / "1.nc")
        else:
            os.utime(tmp_path / "1.nc", ns=(0, 0))
        real(*given)

    monkeypatch.setattr(grid_build.GridBuild, "_make_chunks", late)
    with pytest.raises(SourceError, match=rf"source 'sst': .*1\.nc: (was|is) {how}"):
        project(tmp_path, spec).build()
    assert not (tmp_path / "store/features/calm/_delta_log").exists()


def test_the_loser_of_a_race_does_not_compute_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sea(200)
    right = calm(tmp_path / "calm", SMALL, data)
    here = tmp_path / "here"
    here.mkdir()
    write(here, data, stored=STORED)
    real, raced = grid_build.publish, list[int]()

    def publish(*given: Any, **options: Any) -> Any:
        if not raced:
            raced.append(1)  # another process, which has planned before the days since were there
            os.rename(here / "sst.zarr", here / "all.zarr")
            write(here, sea(150), stored=STORED)
            project(here, SMALL).build()
            shutil.rmtree(here / "sst.zarr")
            os.rename(here / "all.zarr", here / "sst.zarr")
        return real(*given, **options)

    monkeypatch.setattr(grid_build, "publish", publish)
    made = project(here, SMALL)
    with pytest.raises(CommitConflict, match="was planned against no table, but there is version 1 now"):
        made.build()
    assert digests(made.table("calm")) != right
    seen = between(monkeypatch, -1, lambda: None)
    made.build()
    assert (made.table("calm").version, len(seen)) == (2, 0)
    assert digests(made.table("calm")) == right
    assert not storage.list_names(str(here / "store/features/calm/_ff/progress"))
    assert verify(str(here / "store/features/calm"), "calm", deep=True).problems == ()
