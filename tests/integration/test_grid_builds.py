"""A spec of a grid becomes versions that plain xarray agrees with; what has not changed is not computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from integration.grid_projects import SPEC, append, digests, expected, project, sea, stored, write

from featureflow.core.errors import ComputeError, PlanError, SpecError
from featureflow.execute.grids import piecewise, progress, region_task, tiling
from featureflow.observe.plans import plan_text

ANOMALY = '      - {anomaly: {over: time, by: month, period: ["2000-01-11", "2000-06-30"]}}\n'


def check(found: xr.Dataset, want: xr.Dataset) -> None:
    for name, variable in want.data_vars.items():
        assert found[name].dtype == variable.dtype
        np.testing.assert_allclose(found[name].values, variable.values, rtol=1e-5, atol=1e-4)
    for name in want.indexes:
        assert found.indexes[name].equals(want.indexes[name])


def test_a_build_equals_xarray_and_a_second_one_does_nothing(tmp_path: Path) -> None:
    data = sea(200)
    write(tmp_path, data)
    made = project(tmp_path)
    text = plan_text(made.plan().summary())
    assert "1 of 1 grid to build" in text
    assert "16 chunks of time 50 × lat 4 × lon 6" in text
    report = made.build()
    assert report.status == "done"
    table = made.table("calm")
    found = stored(table)
    check(found, expected(data))
    assert found.sst.attrs["units"] == "K"
    assert found.lat.attrs["units"] == "degrees_north"
    record = table.record["arrays"]
    assert record["variables"]["sst"]["units"] == "K"
    assert record["sizes"] == {"time": 190, "lat": 5, "lon": 12}
    assert table.lineage("sst") == ["sst.sst"]
    again = made.build()
    assert again.status == "nothing to do"
    assert made.table("calm").version == 1


def test_an_appended_month_is_all_that_is_computed_and_equals_a_full_build(tmp_path: Path) -> None:
    write(tmp_path, sea(240))
    made = project(tmp_path)
    made.build()
    before = digests(made.table("calm"))
    append(tmp_path, sea(270), 240)
    plan = made.plan().grids[0].plan
    assert plan.change == "new data"
    assert 0 < len(plan.missing) < len(plan.chunks) / 2
    assert {cell[0] for cell in plan.missing} == {4, 5}  # the last chunk was not full
    made.build()
    grown = digests(made.table("calm"))
    assert {key: value for key, value in grown.items() if key[1][0] < 4} == {
        key: value for key, value in before.items() if key[1][0] < 4
    }
    check(stored(made.table("calm")), expected(sea(270)))
    made.build(full=True)
    assert digests(made.table("calm")) == grown
    other = tmp_path / "other"
    other.mkdir()
    write(
        other, sea(270), stored={"time": 31, "lat": 16, "lon": 5}
    )  # other pieces, other tasks, the same bytes
    fresh = project(other, workers=1)
    fresh.build()
    assert digests(fresh.table("calm")) == grown


def test_a_changed_piece_touches_the_chunks_that_look_at_it(tmp_path: Path) -> None:
    data = sea(200)
    write(tmp_path, data)
    made = project(tmp_path, SPEC.replace(ANOMALY, ""))
    made.build()
    array = zarr.open_array(tmp_path / "sst.zarr" / "sst", mode="r+")
    array[190, 4, 3] = 1.0  # in the piece of the last days, the southern and the western half
    plan = made.plan().grids[0].plan
    assert plan.change == "late data"
    assert {cell[0] for cell in plan.missing} == {3}
    assert {cell[2] for cell in plan.missing} == {0}
    made.build()
    changed = data.copy(deep=True)
    changed.sst[190, 4, 3] = 1.0
    want = changed.sel(time=slice("2000-01-11", None), lat=slice(-45, 45)).rolling(time=7).mean()
    check(stored(made.table("calm")), want.coarsen(lat=2, lon=2).mean())


def test_another_definition_is_computed_anew(tmp_path: Path) -> None:
    write(tmp_path, sea(100))
    project(tmp_path).build()
    made = project(tmp_path, SPEC.replace("window: 7", "window: 3"))
    assert made.plan().grids[0].plan.change == "definition changed"
    made.build()
    assert made.table("calm").version == 2
    restored = project(tmp_path, SPEC.replace("A week's mean", "Seven days' mean"))
    assert (
        restored.plan().grids[0].plan.change == "definition changed"
    )  # back to the first one, not its words


def test_mistakes_have_their_place_in_the_text(tmp_path: Path) -> None:
    write(tmp_path, sea(30))
    wrong = SPEC.replace("lat: 2, lon: 2", "lat: 2, depth: 2").replace("variables: [sst]", "variables: [sst]")
    with pytest.raises(SpecError) as caught:
        project(tmp_path, wrong).compile_grids()
    (problem,) = caught.value.problems
    assert problem.path.startswith("features.calm.steps[3].coarsen")
    assert (problem.line, "depth" in problem.message) == (14, True)
    with pytest.raises(SpecError, match=r"no variable 'sss'.*sst"):
        project(tmp_path, SPEC.replace("variables: [sst]", "variables: [sss]")).compile_grids()
    with pytest.raises(SpecError, match="no dimension 'lta'"):
        project(tmp_path, SPEC.replace("lat: 4, lon: 6", "lta: 4, lon: 6")).compile_grids()


def test_a_plan_over_the_memory_is_refused_before_anything_runs(tmp_path: Path) -> None:
    big = xr.Dataset(
        {"sst": (("time", "lat", "lon"), np.zeros((2000, 40, 50), "f4"))},
        {"time": sea(2000).time, "lat": np.linspace(-44, 44, 40), "lon": np.arange(50.0)},
    )
    write(tmp_path, big, stored={"time": 2000, "lat": 40, "lon": 50})
    made = project(
        tmp_path,
        SPEC.replace("chunks: {time: 50, lat: 4, lon: 6}", "chunks: {time: 2000, lat: 20, lon: 25}"),
        memory="500MB",
    )
    with pytest.raises(PlanError, match=r"features\.calm: a task for one chunk .*needs .*are allowed"):
        made.plan()
    assert not (tmp_path / "store" / "features").exists()


def test_a_grid_on_a_grid_is_built_with_it_and_after_it(tmp_path: Path) -> None:
    write(tmp_path, sea(120))
    more = (
        SPEC
        + """
  warm:
    source: calm
    steps: [{reduce: {dims: [lon], op: max}}]
    chunks: {time: 40}
"""
    )
    made = project(tmp_path, more)
    made.build()
    both = stored(made.table("warm")).sst
    want = stored(made.table("calm")).sst.max("lon")
    np.testing.assert_array_equal(both.values, want.values)
    assert made.build().status == "nothing to do"
    assert made.plan(["warm"]).grids[0].plan.change == "unchanged"
    append(tmp_path, sea(150), 120)
    with pytest.raises(PlanError, match="Build it too"):
        made.plan(["warm"])
    made.build()
    assert stored(made.table("warm")).sizes["time"] == 140


def test_a_build_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, sea(200), stored={"time": 50, "lat": 8, "lon": 12})
    made = project(tmp_path, SPEC.replace(ANOMALY, ""), workers=1)
    computed: list[tuple[int, ...]] = []
    plain = region_task.evaluate_box

    def dying(job: Any, box: Any) -> xr.Dataset:
        if len(computed) >= limit:
            raise ComputeError("the machine is gone")
        computed.extend(box.cells)
        return plain(job, box)

    monkeypatch.setattr(region_task, "evaluate_box", dying)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    chunks = len(made.plan().grids[0].plan.chunks)
    limit = chunks // 2
    with pytest.raises(ComputeError, match="the machine is gone"):
        made.build()
    before, limit = len(computed), chunks * 2
    assert 0 < before < chunks
    assert made.plan().grids[0].plan.estimate["chunks_computed"] == chunks - before
    made.build()
    assert sorted(computed) == sorted(
        made.plan().grids[0].plan.chunks
    )  # each chunk once, by one build or the other
    resumed = digests(made.table("calm"))
    assert made.build().status == "nothing to do"
    made.build(full=True)
    assert digests(made.table("calm")) == resumed


def test_the_pieces_that_steps_run_over_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit in the middle of the chain is learned from all of the block, pieces or not."""
    spec = SPEC.replace("    chunks:", "      - {standardize: {dims: [time], period: all}}\n    chunks:")
    found: dict[int, Any] = {}
    counts: list[int] = []
    cut = tiling.pieces_of

    def counted(*given: Any) -> list[Any]:
        counts.append(len(parts := cut(*given)))
        return parts

    monkeypatch.setattr(tiling, "pieces_of", counted)
    for size in (1 << 30, 1 << 12):
        counts.clear()
        monkeypatch.setattr(piecewise, "PIECE_BYTES", size)
        folder = tmp_path / str(size)
        folder.mkdir()
        write(folder, sea(200))
        made = project(folder, spec, workers=1)
        made.build()
        found[size] = digests(made.table("calm"))
        assert (max(counts) > 4) == (size == 1 << 12)
    assert found[1 << 30] == found[1 << 12]
