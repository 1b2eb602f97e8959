"""However a grid is cut into tasks, it has the same bytes, and those of plain xarray; tasks read what they must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.execute.grids.fake_grids import (
    Centred,
    FakeCube,
    Keep,
    Pairs,
    Trailing,
    budget,
    compiled,
    plain,
    values,
)

from featureflow.contracts.cube import slices_of
from featureflow.contracts.grid_step import Block, GridStep
from featureflow.core.errors import ComputeError, PlanError
from featureflow.execute.grids import footprint
from featureflow.execute.grids.evaluate import check_made, source_box
from featureflow.execute.grids.fits import FitGoal, Fits, FitWork, combine_fit, run_fit
from featureflow.execute.grids.known_fits import fit_path
from featureflow.execute.grids.naming import Naming, fit_box
from featureflow.execute.grids.region_task import GridJob, evaluate_box
from featureflow.execute.grids.tasks import Cut, cut_grid, fit_runs, fits_under
from featureflow.execute.grids.units import Lattice
from featureflow.plan.grid_nodes import CompiledGrid

LARGE = 1 << 40


def lattice_of(grid: CompiledGrid) -> Lattice:
    return Lattice.of({str(d): int(n) for d, n in grid.outline.sizes.items()}, grid.unit)


def cut(
    grid: CompiledGrid, cube: FakeCube, *, memory: int = LARGE, slots: int = 1, missing: Any = None
) -> Cut:
    lattice = lattice_of(grid)
    naming = Naming(grid, {"fake": cube})
    return cut_grid(grid, lattice, missing or list(lattice), naming, set(), budget(memory), slots)


def run(
    grid: CompiledGrid, cube: FakeCube, made: Cut, folder: Path, *, split_fits: bool = False
) -> xr.Dataset:
    """Do everything that tasks do, and put the boxes together."""
    naming = Naming(grid, {"fake": cube})
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    for (link, tile), name in made.fits:
        names = fits_under(grid, naming, fit_box(grid, link, tile), link)
        runs = fit_runs(grid, link, tile, LARGE)
        fits = Fits(grid, {"fake": cube}, names, str(folder))
        goal = FitGoal((link, tile), str(folder), name)
        if not split_fits:
            run_fit(FitWork(goal.tile, tuple(runs), (), goal), fits)
            continue
        cells = [cell for one in runs for cell in one]
        paths = []
        for k, cell in enumerate(cells):
            part = str(folder / "parts" / f"{name}-{k}")
            run_fit(FitWork(goal.tile, ((cell,),), (), path=part), fits)
            paths.append(f"{part}-0.npz")
        combine_fit(grid, goal, tuple(paths))
    job = GridJob(grid, lattice_of(grid), {"fake": cube}, b"", str(folder))
    out = {name: np.full(v.shape, 77, v.dtype) for name, v in grid.outline.data_vars.items()}
    for box in made.boxes:
        data = evaluate_box(job, box)
        for name, array in out.items():
            place = tuple(slice(*box.region[str(d)]) for d in grid.outline[name].dims)
            array[place] = data[name].values
    return xr.Dataset({n: (grid.outline[n].dims, a) for n, a in out.items()}, grid.outline.coords)


STEPS = st.lists(
    st.one_of(
        st.builds(Keep, st.sampled_from(["time", "lat"]), st.integers(0, 2), st.integers(7, 9)),
        st.builds(Trailing, st.sampled_from(["time", "lon"]), st.integers(1, 5)),
        st.builds(Pairs, st.sampled_from(["lat", "lon"])),
        st.builds(Centred, st.sampled_from(["time", "lat"]), st.integers(3, 30)),
    ),
    max_size=4,
)


def check_cuts(
    folder: Path,
    steps: list[GridStep],
    shape: dict[str, int],
    stored: Any,
    chunks: Any,
    slots: int,
    seed: int,
) -> None:
    dims = ("time", "lat", "lon")
    cube = FakeCube(values(shape, seed=seed), dict(zip(dims, stored, strict=True)))
    kept, taken = [], cube.outline
    for step in steps:  # steps that would leave nothing are left out
        if taken.sizes[getattr(step, "dim", "time")] >= 9:
            kept.append(step)
            taken = step.outline(taken, {})
    grid = compiled(cube, kept, dict(zip(dims, chunks, strict=True)))
    one = run(grid, cube, cut(grid, cube), folder / "one")
    many = run(grid, cube, cut(grid, cube, slots=slots), folder / "many", split_fits=True)
    xr.testing.assert_identical(one, many)
    for name in one.data_vars:
        assert one[name].values.tobytes() == many[name].values.tobytes()
    expected = plain(cube.data, kept)
    for name in one.data_vars:
        np.testing.assert_allclose(one[name], expected[name].transpose(*one[name].dims), rtol=2e-5, atol=2e-4)
        assert one[name].dtype == np.dtype("f4")
    for name, coordinate in expected.coords.items():
        assert coordinate.equals(one[name])


@pytest.mark.parametrize(
    ("steps", "slots"),
    [
        ([], 3),
        ([Keep("time", 2, 13), Trailing("time", 4), Pairs("lat")], 4),
        ([Centred("time", 7), Pairs("lon")], 3),
        ([Trailing("lon", 3), Centred("time", 12), Centred("lat", 5)], 2),
    ],
)
def test_any_cut_gives_the_bytes_of_one_and_the_values_of_xarray(
    tmp_path: Path, steps: list[GridStep], slots: int
) -> None:
    check_cuts(tmp_path, steps, {"time": 14, "lat": 10, "lon": 9}, (5, 3, 9), (4, 3, 5), slots, 1)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    steps=STEPS,
    shape=st.fixed_dictionaries(
        {"time": st.integers(12, 26), "lat": st.integers(9, 13), "lon": st.integers(9, 12)}
    ),
    stored=st.tuples(st.integers(2, 9), st.integers(2, 6), st.integers(2, 13)),
    chunks=st.tuples(st.integers(1, 11), st.integers(1, 6), st.integers(1, 6)),
    slots=st.integers(1, 20),
    seed=st.integers(0, 9),
)
def test_random_cuts_of_random_grids(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[GridStep],
    shape: dict[str, int],
    stored: Any,
    chunks: Any,
    slots: int,
    seed: int,
) -> None:
    check_cuts(tmp_path_factory.mktemp("fits"), steps, shape, stored, chunks, slots, seed)


def world(
    steps: list[GridStep], *, chunks: dict[str, int], stored: dict[str, int]
) -> tuple[CompiledGrid, FakeCube]:
    cube = FakeCube(values({"time": 240, "lat": 32, "lon": 48})[["sst"]], stored)
    return compiled(cube, steps, chunks), cube


def test_tasks_follow_the_chunks_of_the_source():
    stored = {"time": 240, "lat": 8, "lon": 8}
    grid, cube = world([Trailing("time", 9)], chunks={"time": 10, "lat": 4, "lon": 4}, stored=stored)
    made = cut(grid, cube, slots=4)
    index = Naming(grid, {"fake": cube}).pieces["fake"]
    read = sum(index.bytes_of(source_box(grid, box.region)) for box in made.boxes)
    assert read == index.bytes  # each stored chunk once, although each holds 96 chunks of the grid
    assert len(made.boxes) >= 8


def test_chunks_that_are_not_missing_are_in_no_task():
    grid, cube = world([], chunks={"time": 10, "lat": 8, "lon": 8}, stored={"time": 10, "lat": 32, "lon": 48})
    missing = [(23, i, j) for i in range(4) for j in range(6)] + [(2, 1, 1)]
    made = cut(grid, cube, missing=missing)
    assert sorted(cell for box in made.boxes for cell in box.cells) == sorted(missing)


def test_what_is_learned_is_learned_from_a_block_that_is_there_anyway(tmp_path):
    stored = {"time": 60, "lat": 8, "lon": 8}
    grid, cube = world([Centred("time", 240)], chunks={"time": 40, "lat": 8, "lon": 8}, stored=stored)
    made = cut(grid, cube, slots=2)
    assert made.fits == ()
    run(grid, cube, made, tmp_path)
    read = sum(cube.data.sst.isel(slices_of(region)).nbytes for region in cube.reads)
    assert read == cube.data.sst.nbytes  # the source was read once
    names = {fit_path(str(tmp_path), name) for box in made.boxes for _, name in box.fits}
    assert {str(path) for path in tmp_path.glob("*.npz")} == names  # kept for the next build


def test_what_is_learned_from_more_than_a_task_may_hold_has_a_stage_of_its_own(tmp_path):
    stored = {"time": 20, "lat": 32, "lon": 48}
    grid, cube = world([Centred("time", 240)], chunks={"time": 20, "lat": 16, "lon": 24}, stored=stored)
    whole = cut(grid, cube)
    small = cut(grid, cube, memory=48 << 20)
    assert {box.memory <= 48 << 20 for box in small.boxes} == {True}
    xr.testing.assert_identical(
        run(grid, cube, whole, tmp_path / "a"), run(grid, cube, small, tmp_path / "b")
    )


def test_a_chunk_that_no_task_can_hold_is_refused_with_the_numbers():
    cube = FakeCube(values({"time": 40_000, "lat": 9, "lon": 40})[["sst"]], {"time": 40_000})
    grid = compiled(cube, [Trailing("time", 4000)], {"time": 39_000})
    with pytest.raises(PlanError, match=r"features\.g: a task for one chunk .* needs .*MB.* are allowed"):
        cut(grid, cube, memory=48 << 20)


def test_a_step_that_makes_something_else_is_found_out():
    grid, cube = world([Trailing("time", 3)], chunks={"time": 10}, stored={"time": 10})
    link, region = grid.links[0], {"time": (0, 10), "lat": (0, 32), "lon": (0, 48)}
    good = link.step.apply(Block(cube.data.isel(time=slice(0, 10)), region), region, link.made)
    check_made(link, good, region)
    for bad in (
        good.astype("f8"),
        good.isel(time=slice(1, None)),
        good.transpose("lon", ...),
        good.rename(sst="sta"),
        good.assign_coords(lat=good.lat + 1),
    ):
        with pytest.raises(ComputeError, match="made something else than it said"):
            check_made(link, bad, region)


def test_predicted_memory_covers_what_is_used(tmp_path):
    import tracemalloc

    steps: list[GridStep] = [Centred("time", 100), Trailing("time", 3), Pairs("lat")]
    cube = FakeCube(values({"time": 100, "lat": 64, "lon": 64})[["sst"]], {"time": 100, "lat": 64, "lon": 64})
    grid = compiled(cube, steps, {"time": 50, "lat": 32, "lon": 64})
    made = cut(grid, cube)
    job = GridJob(grid, lattice_of(grid), {"fake": cube}, b"", str(tmp_path))
    tracemalloc.start()
    try:
        for box in made.boxes:
            evaluate_box(job, box)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= made.memory
    assert made.memory <= 5 * peak
    assert footprint.task_bytes(grid, made.boxes[0].region) == made.boxes[0].memory
