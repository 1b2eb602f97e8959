"""`zonal` against plain loops and xarray's ``groupby``; points in polygons against a count of angles."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracle.grid_conformance import block, check_step, cubes

from featureflow.contracts.cube import whole
from featureflow.contracts.grid_step import StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.polygons import inside
from featureflow.library.grid_steps.registry import make_step

# a failing cube is small as it is, and shrinking takes minutes
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
OPS = ["mean", "sum", "min", "max", "std", "var", "median", "count"]


@settings(max_examples=8, deadline=None, phases=PHASES)
@given(cube=cubes(dtypes=("float32", "float64", "int16"), least={"lat": 2}, extra=False), data=st.data())
def test_zones_of_an_array(cube, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (cube.sizes["lon"], cube.sizes["lat"])
    labels = rng.choice([1.0, 2.0, 7.0, np.nan], shape)
    labels[0, 0] = 7.0
    other = xr.Dataset({"zones": (("lon", "lat"), labels)}, {"lat": cube.lat, "lon": cube.lon})
    step = make_step("zonal", {"labels": {"source": "areas", "variable": None}, "ops": OPS, "ddof": 0})
    assert step.others == ("areas",) and step.loaded == {"areas": None}
    made = step.outline(outline_of(cube), {"areas": other})
    assert made.zone.values.tolist() == sorted({int(x) for x in labels[~np.isnan(labels)]})
    blocks = {"areas": block(other, step.needs(whole(made), outline_of(cube), made).others["areas"])}
    full = step.apply(replace(block(cube, whole(cube)), others=blocks), whole(made), made)
    assert full.a_mean.dims == ("zone", "time") and full.fixed_mean.dims == ("zone",)
    assert not [name for name in full if str(name).startswith("b_")]
    for k, zone in enumerate(made.zone.values):
        cells = np.argwhere(labels == zone)
        for name in ("a", "fixed"):
            values = np.stack([cube[name].values[..., j, i] for i, j in cells], axis=-1).astype("f8")
            values = values.reshape(-1, len(cells))
            for op in OPS:
                got = np.atleast_1d(full[f"{name}_{op}"].values[k])
                for row, found in zip(values, got, strict=True):
                    there = row[~np.isnan(row)]
                    empty = {"sum": 0, "count": 0}.get(op, np.nan)
                    wanted = (
                        (len(there) if op == "count" else getattr(np, op)(there)) if len(there) else empty
                    )
                    np.testing.assert_allclose(found, wanted, 2e-6, 1e-6)
    some = {"zone": (0, 1), "time": (0, 1)}
    needs = step.needs(some, outline_of(cube), made)
    part = step.apply(replace(block(cube, needs.region), others=blocks), some, made)
    for name in full.data_vars:
        wanted = full[name].isel({d: slice(*s) for d, s in some.items() if d in full[name].dims})
        assert part[name].values.tobytes() == np.ascontiguousarray(wanted.values).tobytes()


SQUARES = {
    "west": [[0, -50], [10, -50], [10, 50], [0, 50]],
    "east": [[10, -50], [30, -50], [30, 50], [10, 50]],
}


@settings(max_examples=8, deadline=None, phases=PHASES)
@given(cube=cubes(least={"lat": 2}), data=st.data())
def test_zones_of_polygons_share_no_cell_and_miss_none(cube, data):
    params = {"polygons": SQUARES, "x": "lon", "y": "lat", "ops": ["count", "sum"], "ddof": 0}
    full = check_step(make_step("zonal", params), cube, None, data.draw)
    assert full.zone.values.tolist() == ["west", "east"]
    box = cube.a.where((abs(cube.lat) < 50) & (cube.lon >= 0) & (cube.lon < 30))
    assert full.a_count.sum("zone").values.tolist() == box.count(["lat", "lon"]).values.tolist()
    np.testing.assert_allclose(
        full.a_sum.sum("zone").values, box.astype("f8").sum(["lat", "lon"]).values, 1e-5, 1e-2
    )


def test_cells_weigh_what_their_area_is_if_asked():
    cube = xr.Dataset(
        {"a": (("lat", "lon"), [[1.0, 1.0], [4.0, np.nan]])}, {"lat": [0.0, 60.0], "lon": [1.0, 2.0]}
    )
    square = {"all": [[0, -9], [9, -9], [9, 89], [0, 89]]}
    params = {"polygons": square, "x": "lon", "y": "lat", "ops": ["mean"], "weights": "area"}
    step = make_step("zonal", params)
    made = step.outline(outline_of(cube), {})
    found = step.apply(block(cube, whole(cube)), whole(made), made)
    assert found.a_mean.values.tolist() == pytest.approx([(1 + 1 + 4 * 0.5) / 2.5])


def winding(ring: list[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a line goes around a point: the sum of the angles under which its edges are seen."""
    total = 0.0
    for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
        angle = math.atan2(y1 - y, x1 - x) - math.atan2(y0 - y, x0 - x)
        total += (angle + math.pi) % (2 * math.pi) - math.pi
    return abs(total) > math.pi


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(seed=st.integers(0, 10_000), corners=st.integers(3, 9))
def test_points_in_a_star(seed, corners):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
    ring = [
        (float(r * math.cos(t)), float(r * math.sin(t)))
        for t, r in zip(angles, rng.uniform(1, 5, corners), strict=True)
    ]
    x, y = rng.uniform(-5, 5, 12), rng.uniform(-5, 5, 9)
    wanted = [[winding(ring, a, b) for a in x] for b in y]
    assert inside((tuple(ring),), x, y).tolist() == wanted


def test_a_polygon_across_the_meridian_has_its_cells_by_either_count_of_longitude():
    ring = ((-10.0, 0.0), (10.0, 0.0), (10.0, 10.0), (-10.0, 10.0))
    east, signed = np.arange(0.5, 360), np.arange(-179.5, 180)
    for x in (east, signed):
        found = x[inside((ring,), x, np.array([5.0]), 360.0)[0]]
        assert sorted((found + 180) % 360 - 180) == list(np.arange(-9.5, 10))


def test_polygons_of_a_file_have_holes_and_islands(tmp_path):
    hole = [[[0, 0], [6, 0], [6, 6], [0, 6]], [[2, 2], [4, 2], [4, 4], [2, 4]]]
    island = [[[8, 0], [9, 0], [9, 1], [8, 1]]]
    features = [
        {"properties": {"id": "a"}, "geometry": {"type": "MultiPolygon", "coordinates": [hole, island]}}
    ]
    path = tmp_path / "zones.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    cube = xr.Dataset(
        {"a": (("y", "x"), np.ones((10, 10)))}, {"x": np.arange(10) + 0.5, "y": np.arange(10) + 0.5}
    )
    params = {"file": str(path), "property": "id", "x": "x", "y": "y", "ops": ["count"]}
    step = make_step("zonal", params)
    made = step.outline(outline_of(cube), {})
    assert step.apply(block(cube, whole(cube)), whole(made), made).a_count.values.tolist() == [36 - 4 + 1]
    with pytest.raises(StepMistake, match="has no property 'name'"):
        make_step("zonal", {**params, "property": "name"})
    with pytest.raises(StepMistake, match="can't be read as GeoJSON"):
        make_step("zonal", {**params, "file": str(tmp_path / "none")})


def test_what_zones_refuse():
    cube = outline_of(xr.Dataset({"a": (("y", "x"), np.ones((2, 2)))}, {"x": [1, 2], "y": [1, 2]}))
    step = make_step("zonal", {"labels": {"source": "areas", "variable": "z"}, "ops": ["mean"]})
    moved = xr.Dataset({"z": (("y", "x"), np.ones((2, 2)))}, {"x": [1, 3], "y": [1, 2]})
    with pytest.raises(StepMistake, match="labels of 'x' are not those of the grid") as error:
        step.outline(cube, {"areas": moved})
    assert error.value.place == ("labels",)
    with pytest.raises(StepMistake, match="Did you mean 'zz'"):
        step.outline(cube, {"areas": moved.rename(z="zz")})
    with pytest.raises(StepMistake, match="known from its values alone"):
        step.outline(cube, {"areas": outline_of(moved.assign_coords(x=[1, 2]))})
    with pytest.raises(StepMistake, match="everything is missing"):
        step.outline(cube, {"areas": moved.assign_coords(x=[1, 2]) * np.nan})
    listed = outline_of(moved.assign_coords(x=[1, 2]))
    listed["z"].attrs["flag_values"] = [3, 1]
    assert step.outline(cube, {"areas": listed}).zone.values.tolist() == [1, 3]
