"""What a task's steps hold at one moment lies within what the plan predicts, and not far below it."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest
import yaml
from unit.execute.grids.fake_grids import FakeCube, budget, compiled, values

from featureflow.execute.grids import footprint
from featureflow.execute.grids.naming import Naming
from featureflow.execute.grids.region_task import GridJob, evaluate_box
from featureflow.execute.grids.tasks import cut_grid
from featureflow.execute.grids.units import Lattice
from featureflow.library.grid_steps.registry import make_step
from featureflow.spec.grid_steps import read_step

CHAINS = [
    "[{rolling: {dim: time, window: 30, op: mean}}, {coarsen: {lat: 2, lon: 2, op: mean}}]",
    "[{percentile: {dims: time, q: [5, 50]}}]",
    "[{regrid: {to: {lat: {start: -50, stop: 50, step: 2}}}}]",
    "[{resample: {dim: time, every: 7d, op: mean}}]",
    "[{groupby: {dim: time, by: month, op: mean}}]",
    "[{gradient: {dim: lat}}]",
    "[{fill: {method: linear, dim: time}}]",
    "[{lag: {dim: time, n: [1, 7]}}]",
]


@pytest.mark.parametrize("written", CHAINS)
def test_steps_hold_no_more_than_predicted(written: str, tmp_path: Path) -> None:
    cube = FakeCube(
        values({"time": 730, "lat": 90, "lon": 100}, missing=0.1)[["sst"]], {"time": 73, "lat": 45}
    )
    steps = [make_step(*read_step(one)) for one in yaml.safe_load(written)]
    grid = compiled(cube, steps, {})
    lattice = Lattice.of({str(d): int(n) for d, n in grid.outline.sizes.items()}, grid.unit)
    made = cut_grid(grid, lattice, list(lattice), Naming(grid, {"fake": cube}), set(), budget(1 << 32), 1)
    job = GridJob(grid, lattice, {"fake": cube}, b"", str(tmp_path))
    evaluate_box(job, made.boxes[0])  # compiles kernels
    gc.collect()
    tracemalloc.start()
    try:
        evaluate_box(job, made.boxes[0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= made.boxes[0].memory
    assert made.boxes[0].memory <= 3 * peak + footprint.FIXED_BYTES
