"""`select` and `isel` against plain xarray, whole and in any boxes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.grid_conformance import check_step, cubes, run_step

from featureflow.contracts.grid_step import StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.registry import make_step


def select(variables=None, **labels):
    return make_step("select", {"labels": labels, "variables": variables})


def between(low, high):
    return {"kind": "range", "from": low, "to": high}


@settings(max_examples=8, deadline=None)
@given(cubes(), st.data())
def test_select_a_range_of_any_coordinate(cube, data):
    ends = sorted(data.draw(st.lists(st.integers(0, cube.sizes["lat"] - 1), min_size=2, max_size=2)))
    low, high = sorted(float(cube.lat[i]) for i in ends)
    first, last = (str(cube.indexes["time"][i])[:10] for i in (0, cube.sizes["time"] // 2))
    steps = slice(low, high) if cube.sizes["lat"] < 2 or cube.lat[0] < cube.lat[-1] else slice(high, low)
    expected = cube.sel(lat=steps, time=slice(first, last))
    check_step(select(lat=between(low, high), time=between(first, last)), cube, expected, data.draw)


@settings(max_examples=8, deadline=None)
@given(cubes(), st.data())
def test_select_labels_and_nearest_ones(cube, data):
    places = data.draw(st.lists(st.integers(0, cube.sizes["lon"] - 1), min_size=1, max_size=5))
    lons = [float(cube.lon[i]) for i in places]
    step = select(
        lon={"kind": "values", "values": lons, "method": "exact"},
        lat={"kind": "value", "value": 11.3, "method": "nearest"},
    )
    expected = cube.sel(lon=lons).sel(lat=11.3, method="nearest")
    check_step(step, cube, expected, data.draw)


@settings(max_examples=8, deadline=None)
@given(cubes(), st.data())
def test_isel(cube, data):
    n = cube.sizes["time"]
    part = data.draw(st.slices(n).filter(lambda s: len(range(n)[s])))
    lats = data.draw(st.lists(st.integers(-cube.sizes["lat"], cube.sizes["lat"] - 1), min_size=1, max_size=6))
    step = make_step(
        "isel",
        {
            "positions": {
                "time": {"kind": "range", "start": part.start, "stop": part.stop, "step": part.step},
                "lat": {"kind": "values", "indices": lats},
                "lon": {"kind": "value", "index": -1},
            },
            "variables": ["a"],
        },
    )
    check_step(step, cube, cube[["a"]].isel(time=part, lat=lats, lon=-1), data.draw)


def test_a_month_is_all_of_its_days():
    cube = xr.Dataset({"a": ("time", np.arange(60.0))}, {"time": pd.date_range("2020-12-01", periods=60)})
    result = run_step(select(time=between("2020-12-15", "2020-12")), cube)
    assert str(result.time[-1].values)[:10] == "2020-12-31" and result.sizes["time"] == 17
    assert (
        run_step(select(time={"kind": "value", "value": "2021-01", "method": "exact"}), cube).sizes["time"]
        == 29
    )


def test_only_some_variables_and_their_coordinates_are_left():
    cube = xr.Dataset({"a": ("x", [1.0]), "b": ("y", [2.0])}, {"x": [1], "y": [2]}, {"title": "t"})
    result = run_step(select(variables=["a"]), cube)
    assert list(result.variables) == ["x", "a"] or set(result.variables) == {"x", "a"}
    assert result.attrs == {"title": "t"}


def test_float32_coordinates_have_the_labels_that_they_show():
    cube = xr.Dataset({"a": ("x", [1.0, 2.0])}, {"x": np.array([0.1, 0.2], "f4")})
    assert run_step(select(x=between(0.1, 0.1)), cube).a.values.tolist() == [1.0]
    assert run_step(select(x={"kind": "value", "value": 0.2, "method": "exact"}), cube).a.item() == 2.0


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"lot": between(0, 1)}, "unknown dimension 'lot'. Did you mean 'lat'?"),
        ({"lat": {"kind": "value", "value": 3, "method": "exact"}}, "no label 3: 'lat' has 0, 10, 20"),
        ({"lat": between(30, 40)}, "no label is from 30 to 40"),
        ({"lat": between("2020", "2021")}, "'lat' holds numbers; got the text '2020'"),
        ({"time": between(1, 2)}, "no label 1: 'time' has 2 labels|'time' has 2000-01-01"),
        ({"mixed": between(0, 1)}, "neither rises nor falls"),
        ({"bare": between(0, 1)}, "has no coordinate"),
    ],
)
def test_labels_that_are_not_there(labels, text):
    cube = xr.Dataset(
        {"a": (("lat", "time", "mixed", "bare"), np.zeros((3, 2, 3, 2)))},
        {"lat": [0, 10, 20], "time": pd.date_range("2000", periods=2), "mixed": [0, 2, 1]},
    )
    with pytest.raises(StepMistake, match=text) as caught:
        select(**labels).outline(outline_of(cube), {})
    assert caught.value.place == tuple(labels)


def test_unknown_steps_are_named():
    with pytest.raises(StepMistake, match="Did you mean 'select'"):
        make_step("selct", {})
