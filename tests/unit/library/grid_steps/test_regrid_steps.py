"""`regrid` against xarray's ``interp`` and against overlaps written out, whole and in any boxes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracle.grid_conformance import check_step, cubes, run_step

from featureflow.contracts.grid_step import StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.registry import make_step

# a failing cube is small as it is, and shrinking takes minutes
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


def values(*numbers: float) -> dict[str, object]:
    return {"kind": "values", "values": list(numbers)}


@pytest.mark.parametrize("method", ["linear", "nearest"])
@settings(max_examples=12, deadline=None, phases=PHASES)
@given(
    cube=cubes(dtypes=("float32", "float64", "int16"), least={"lat": 2, "lon": 2}, extra=False),
    data=st.data(),
)
def test_points_between_labels(method, cube, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    new = {}
    for dim in data.draw(st.sampled_from([["lat"], ["lon"], ["lat", "lon"]])):
        old = cube[dim].values
        middles = (old[1:] + old[:-1]) / 2
        points = np.concatenate(
            [rng.uniform(old.min() - 9, old.max() + 9, 5), rng.choice(old, 2), middles[:2]]
        )
        new[dim] = np.unique(points)[:: data.draw(st.sampled_from([1, -1]))]
    step = make_step(
        "regrid", {"to": {d: values(*v.tolist()) for d, v in new.items()}, "like": None, "method": method}
    )
    touched = [n for n in cube.data_vars if set(cube[n].dims) & set(new)]
    expected = cube[touched].astype("f8").interp(new, method=method)
    full = check_step(step, cube, None, data.draw)
    for name in touched:
        wanted = expected[name].transpose(*cube[name].dims).values
        np.testing.assert_allclose(full[name].values, wanted, 1e-6 if cube.a.dtype == "f4" else 1e-10, 1e-8)
        assert full[name].dtype == ("f4" if cube.a.dtype == "f4" else "f8")
        assert full[name].attrs == cube[name].attrs
    for dim, labels in new.items():
        assert full[dim].values.tolist() == labels.tolist()
        assert full[dim].attrs == cube[dim].attrs


def edges(axis: np.ndarray, sine: bool) -> np.ndarray:
    middle = [(a + b) / 2 for a, b in itertools.pairwise(axis)]
    found = np.array([axis[0] - (middle[0] - axis[0]), *middle, axis[-1] + (axis[-1] - middle[-1])])
    return np.sin(np.radians(found.clip(-90, 90))) if sine else found


@settings(max_examples=12, deadline=None, phases=PHASES)
@given(cube=cubes(dtypes=("float32", "float64"), least={"lat": 2, "lon": 2}, extra=False), data=st.data())
def test_means_over_cells(cube, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    new = {
        "lat": np.sort(rng.uniform(-80, 80, 3))[:: data.draw(st.sampled_from([1, -1]))],
        "lon": np.sort(rng.uniform(-10, 40, 4)),
    }
    step = make_step("regrid", {"to": {d: values(*v) for d, v in new.items()}, "method": "conservative"})
    full = check_step(step, cube, None, data.draw)
    source = {d: edges(cube[d].values, d == "lat") for d in new}
    target = {d: edges(v, d == "lat") for d, v in new.items()}

    def overlap(d: str, i: int, j: int, turn: float) -> float:
        low = max(min(target[d][i : i + 2]), min(source[d][j : j + 2]) + turn)
        return max(0.0, min(max(target[d][i : i + 2]), max(source[d][j : j + 2]) + turn) - low)

    a = cube.a.values.astype("f8")
    for i in range(3):
        for k in range(4):
            total, weight = np.zeros(len(a)), np.zeros(len(a))
            for j in range(cube.sizes["lat"]):
                for m in range(cube.sizes["lon"]):
                    w = overlap("lat", i, j, 0) * sum(overlap("lon", k, m, turn) for turn in (-360, 0, 360))
                    total += np.where(np.isnan(a[:, j, m]), 0, w * a[:, j, m])
                    weight += np.where(np.isnan(a[:, j, m]), 0, w)
            with np.errstate(all="ignore"):
                wanted = np.where(weight > 1e-9, total / weight, np.nan)
            sure = (weight > 1e-6) | (weight == 0)
            np.testing.assert_allclose(full.a.values[sure, i, k], wanted[sure], 2e-6, 1e-5)


def test_means_over_cells_keep_the_area_mean_and_constants_and_go_around_the_globe():
    rng = np.random.default_rng(0)
    lat, lon = np.arange(-85.0, 90, 10), np.arange(5.0, 360, 10)
    cube = xr.Dataset({"a": (("lat", "lon"), rng.normal(size=(18, 36)))}, {"lat": lat, "lon": lon})
    new = {"lat": values(*np.arange(75.0, -90, -30)), "lon": values(*np.arange(-165.0, 180, 30))}
    made = run_step(make_step("regrid", {"to": new, "method": "conservative"}), cube)
    area = [np.diff(np.sin(np.radians(np.arange(-90, 91, n)))) for n in (10, 30)]
    before, after = (one.a.mean("lon").values for one in (cube, made))
    np.testing.assert_allclose((before * area[0]).sum(), (after[::-1] * area[1]).sum(), rtol=1e-12)
    inside = cube.a.sel(lat=slice(60, 90), lon=slice(180, 210))
    weights = area[0][-3:, None] / area[0][-3:].sum() / 3
    np.testing.assert_allclose(made.a.sel(lat=75, lon=-165), (inside.values * weights).sum(), rtol=1e-12)
    ones = run_step(make_step("regrid", {"to": new, "method": "conservative"}), cube * 0 + 7)
    np.testing.assert_allclose(ones.a, 7.0, rtol=1e-14)


def test_a_cell_takes_what_is_there_and_nothing_from_a_neighbour_that_it_touches():
    x = np.arange(12) * 0.1
    cube = xr.Dataset({"a": ("x", np.arange(12.0))}, {"x": x})
    cube.a[3:6] = np.nan
    cube.a[9] = np.nan
    made = run_step(
        make_step("regrid", {"to": {"x": values(*(0.1 + 0.3 * np.arange(5)))}, "method": "conservative"}),
        cube,
    )
    np.testing.assert_allclose(made.a, [1, np.nan, 7, 10.5, np.nan])


def test_labels_of_another_grid():
    cube = xr.Dataset({"a": (("level", "x"), [[1.0, np.nan, 3.0]])}, {"level": [5], "x": [0, 1, 2]})
    other = xr.Dataset({"b": (("x", "y"), np.zeros((2, 2)))}, {"x": [0.5, 2.0], "y": [7, 8]})
    step = make_step("regrid", {"to": None, "like": "other", "method": "nearest"})
    assert step.others == ("other",)
    made = step.outline(outline_of(cube), {"other": outline_of(other)})
    assert dict(made.sizes) == {"level": 1, "x": 2}
    assert run_step(step, cube, others={"other": other}).a.values.tolist() == [[1.0, 3.0]]
    one = make_step("regrid", {"to": {"x": {"kind": "like", "source": "other"}}, "method": "nearest"})
    assert run_step(one, cube, others={"other": other}).a.values.tolist() == [[1.0, 3.0]]
    ramp = make_step(
        "regrid", {"to": {"x": {"kind": "range", "start": 0, "step": 1, "count": 2}}, "method": "nearest"}
    )
    assert run_step(ramp, cube).x.values.tolist() == [0.0, 1.0]


def test_what_regrid_refuses():
    cube = outline_of(xr.Dataset({"a": (("x", "y"), np.zeros((3, 1)))}, {"x": [0, 2, 1], "y": [1]}))
    with pytest.raises(StepMistake, match="'x' neither rise nor fall") as error:
        make_step("regrid", {"to": {"x": values(1, 2)}, "method": "linear"}).outline(cube, {})
    assert error.value.place == ("x",)
    with pytest.raises(StepMistake, match="one label of 'y' has no cell"):
        make_step("regrid", {"to": {"y": values(1, 2)}, "method": "conservative"}).outline(cube, {})
    with pytest.raises(StepMistake, match="unknown dimension 'z'"):
        make_step("regrid", {"to": {"z": values(1, 2)}, "method": "linear"}).outline(cube, {})
    with pytest.raises(StepMistake, match="new labels of 'y' neither"):
        make_step("regrid", {"to": {"y": values(1, 3, 2)}, "method": "linear"}).outline(cube, {})
