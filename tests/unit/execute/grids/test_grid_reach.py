"""What all chunks reach is worked out by rows of chunks, and is what each chunk by itself reaches."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.execute.grids.fake_grids import Centred, FakeCube, Keep, Pairs, Trailing, compiled, values

from featureflow.contracts.cube import CubePiece
from featureflow.contracts.grid_step import GridStep
from featureflow.contracts.outlines import outline_of
from featureflow.execute.grids.naming import Naming
from featureflow.execute.grids.piece_index import PieceIndex
from featureflow.execute.grids.reach import columns_of, reach
from featureflow.execute.grids.units import Lattice
from featureflow.library.grid_steps.registry import STEPS, make_step
from featureflow.spec.grid_steps import read_step

#: As a spec has them; of steps that have several ways, each.
WRITTEN = [
    "{select: {lat: [-40, 50], time: ['2000-01-10', '2000-02-20']}}",
    "{isel: {lon: [7, -2, 0]}}",
    "{isel: {lon: 3}}",
    "{where: sst > 3}",
    "{derive: {double: sst * 2}}",
    "{cast: float64}",
    "{fill: {method: ffill, dim: time, limit: 4}}",
    "{fill: {method: linear, dim: time}}",
    "{mask: {source: other}}",
    "{reduce: {dims: lat, op: mean}}",
    "{percentile: {dims: time, q: [5, 50]}}",
    "{groupby: {dim: time, by: month, op: mean}}",
    "{groupby: {dim: time, by: month, op: mean, variables: sst}}",
    "{cumulative: {dim: time, op: sum}}",
    "{lag: {dim: time, n: [1, 5]}}",
    "{diff: {dim: lon}}",
    "{gradient: {dim: lat}}",
    "{concat: {source: [later], dim: time}}",
    "{merge: {source: other, prefix: o_}}",
    "{rolling: {dim: time, window: 7, op: mean}}",
    "{resample: {dim: time, every: 7d, op: mean}}",
    "{coarsen: {lat: 2, lon: 3, op: mean}}",
    "{anomaly: {over: time, by: month, period: ['2000-01-05', '2000-02-05']}}",
    "{normalize: {dims: [lat]}}",
    "{standardize: {dims: [time], period: ['2000-01-05', '2000-02-05']}}",
    "{clip: {min: 0}}",
    "{regrid: {to: {lat: [-50.0, 0.0, 30.0, 55.0]}}}",
    "{regrid: {to: {lat: {start: -50, stop: 50, step: 20}}, method: conservative}}",
    "{zonal: {polygons: {one: [[0, 0], [200, 0], [200, 50]]}, ops: [mean]}}",
]


def test_names_of_all_chunks_are_those_of_each():
    cube = FakeCube(values({"time": 40, "lat": 16, "lon": 9}), {"time": 7, "lat": 5, "lon": 9})
    for steps in ([], [Trailing("time", 9), Pairs("lat")], [Keep("lat", 2, 13), Centred("time", 20)]):
        check_names(cube, steps, {"time": 6, "lat": 4, "lon": 4})


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(Keep, st.sampled_from(["time", "lat"]), st.integers(0, 2), st.integers(7, 9)),
            st.builds(Trailing, st.sampled_from(["time", "lon"]), st.integers(1, 5)),
            st.builds(Pairs, st.just("lon")),
            st.builds(Centred, st.sampled_from(["time", "lat"]), st.integers(3, 30)),
        ),
        max_size=2,
    ),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
)
def test_names_of_all_chunks_are_those_of_each_however_they_are_cut(steps, stored, chunks):
    dims = ("time", "lat", "lon")
    cube = FakeCube(values({"time": 12, "lat": 11, "lon": 8}), dict(zip(dims, stored, strict=True)))
    check_names(cube, steps, dict(zip(dims, chunks, strict=True)))


def check_names(cube: FakeCube, steps: list[GridStep], chunks: dict[str, int]) -> None:
    taken, kept = cube.outline, []
    for step in steps:
        if taken.sizes[getattr(step, "dim", "time")] >= 9:
            kept.append(step)
            taken = step.outline(taken, {})
    grid = compiled(cube, kept, chunks)
    lattice = Lattice.of({str(d): int(n) for d, n in grid.outline.sizes.items()}, grid.unit)
    naming = Naming(grid, {"fake": cube})
    columns = columns_of(grid, lattice)
    assert columns is not None
    for cell in lattice:
        found = reach(grid, lattice.region(cell), len(grid.links))
        assert {(c.slot, c.dim): c.at(cell) for c in columns} == {
            (slot, dim): span for slot, region in found.items() for dim, span in region.items()
        }
    names = naming.chunks(lattice)
    assert list(names) == list(lattice)
    assert names == {cell: naming.chunk(lattice.region(cell)) for cell in lattice}
    assert len(set(names.values())) == len(names)


def test_every_step_is_looked_at():
    assert {next(iter(yaml.safe_load(one))) for one in WRITTEN} == set(STEPS)


@pytest.mark.parametrize("written", WRITTEN)
def test_a_range_that_a_step_needs_follows_from_one_range_of_what_it_makes(written):
    step, cube, made = step_of(written)
    ranges = {str(dim): spans_of(int(n)) for dim, n in made.sizes.items()}
    seen: dict[tuple[str, str], list[tuple[dict[str, Any], Any]]] = {}
    for one in product(*ranges.values()):
        region = dict(zip(ranges, one, strict=True))
        needs = step.needs(region, cube, made)
        boxes = {"": needs.region, "fitted": needs.fitted, **needs.others}
        for where, box in boxes.items():
            for dim, span in box.items():
                seen.setdefault((where, dim), []).append((region, tuple(map(int, span))))
    separable = all(follows_from_one(rows) for rows in seen.values())
    assert separable == step.is_separable(cube, made)


def follows_from_one(rows: list[tuple[dict[str, Any], Any]]) -> bool:
    """Whether there is a dimension by whose range alone the result is known."""
    if len({span for _, span in rows}) == 1:
        return True
    return any(
        all(
            len({span for region, span in rows if region[dim] == at}) == 1 for at in {r[dim] for r, _ in rows}
        )
        for dim in rows[0][0]
    )


def spans_of(n: int) -> list[tuple[int, int]]:
    return sorted({(0, 1), (0, n), (n // 2, n // 2 + 1), (n - 1, n), (n // 3, max(n // 3 + 1, n - 1))})


def step_of(written: str) -> tuple[GridStep, xr.Dataset, xr.Dataset]:
    cube = cube_of_days()
    later = cube.assign_coords(time=cube.time + np.timedelta64(60, "D"))
    others = {"other": outline_of(cube[["sst"]]), "later": outline_of(later)}
    step = make_step(*read_step(yaml.safe_load(written)))
    made = step.outline(outline_of(cube), {name: others[name] for name in step.others})
    return step, outline_of(cube), made


def cube_of_days() -> xr.Dataset:
    return xr.Dataset(
        {
            "sst": (("time", "lat", "lon"), np.zeros((60, 8, 9), "f4")),
            "wind": (("time", "lat"), np.zeros((60, 8), "f4")),
        },
        {
            "time": pd.date_range("2000-01-01", periods=60, freq="D").as_unit("ns"),
            "lat": np.linspace(-60, 60, 8),
            "lon": np.linspace(0, 350, 9),
        },
    )


def test_pieces_that_are_cut_in_different_ways_are_found():
    rng = np.random.default_rng(3)
    pieces = []
    for i in range(60):
        low, y = int(rng.integers(0, 90)), int(rng.integers(0, 20))
        region = {"time": (low, low + int(rng.integers(1, 20))), "lat": (y, y + int(rng.integers(1, 9)))}
        pieces.append(CubePiece(f"p{i}", region if i % 5 else {"lat": region["lat"]}, i))
    pieces += [
        CubePiece(f"q{t}{y}", {"time": (t, t + 5), "lat": (y, y + 10)}, 1)
        for t in range(0, 50, 5)
        for y in (0, 10)
    ]
    index = PieceIndex(pieces, ["time", "lat"])
    regular = PieceIndex(pieces[60:], ["time", "lat"])
    for _ in range(200):
        t, y = int(rng.integers(0, 100)), int(rng.integers(0, 25))
        region = {"time": (t, t + int(rng.integers(1, 30))), "lat": (y, y + int(rng.integers(1, 9)))}
        for made, some in ((index, pieces), (regular, pieces[60:])):
            expected = [
                piece
                for piece in some
                if all(
                    low < region[dim][1] and high > region[dim][0]
                    for dim, (low, high) in piece.region.items()
                )
            ]
            assert made.touching(region) == expected
            assert made.bytes_of(region) == sum(piece.size for piece in expected)
