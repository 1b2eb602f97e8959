"""`lag`, `diff`, `gradient` and `cumulative` against plain xarray, whole and in any boxes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.grid_conformance import check_step, cubes, run_step

from featureflow.contracts.grid_step import KNOWN_AT, StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.registry import make_step


def bare(cube: xr.Dataset) -> xr.Dataset:
    return cube.drop_attrs()


@settings(max_examples=6, deadline=None)
@given(cube=cubes(dtypes=("float32", "float64", "int16", "int32")), data=st.data())
def test_lag_replaces_values(cube, data):
    n, dim = data.draw(st.integers(1, 30)), data.draw(st.sampled_from(["time", "lat"]))
    step = make_step("lag", {"dim": dim, "n": [n], "scalar": True, "variables": None})
    check_step(step, cube, cube.shift({dim: n}), data.draw)


@settings(max_examples=6, deadline=None)
@given(cube=cubes(), data=st.data())
def test_lags_beside_the_values(cube, data):
    lags = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=3, unique=True))
    step = make_step("lag", {"dim": "time", "n": lags, "scalar": False, "variables": ["a"]})
    expected = cube.assign({f"a_lag{n}": cube.a.shift(time=n) for n in lags})
    check_step(step, cube, expected, data.draw)


@settings(max_examples=6, deadline=None)
@given(cube=cubes(dtypes=("float32", "float64", "int16"), least={"time": 4}, inf=True), data=st.data())
def test_diff(cube, data):
    n = data.draw(st.integers(1, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = cube.diff("time", n)
    if cube.a.dtype == "int16":
        expected = cube.astype("int64").diff("time", n).assign(fixed=cube.fixed)
    check_step(make_step("diff", {"dim": "time", "n": n}), cube, expected, data.draw)


def test_differences_of_unsigned_numbers_do_not_wrap():
    cube = xr.Dataset({"a": ("z", np.array([200, 10, 255], "uint8"))})
    result = run_step(make_step("diff", {"dim": "z", "n": 1}), cube)
    assert result.a.values.tolist() == [-190, 245] and result.a.dtype == "int64"


def without_the_middle(cube: xr.Dataset, expected: xr.Dataset, dim: str, unit: str) -> xr.Dataset:
    """Between neighbours that are equally far the middle value does not count, even if it is NaN."""
    found = expected.copy()
    x = cube[dim].values
    if dim == "time":
        index = cube.indexes[dim]
        seconds = {"s": 1.0, "h": 3600.0, "D": 86400.0}[unit]
        x = np.array([(one - index[0]).total_seconds() / seconds for one in index])
    for name in cube.data_vars:
        if dim not in cube[name].dims:
            continue
        axis = cube[name].dims.index(dim)
        rows, out = (
            np.moveaxis(cube[name].values, axis, 0),
            np.moveaxis(expected[name].values.copy(), axis, 0),
        )
        for i in range(1, len(x) - 1):
            if x[i + 1] - x[i] == x[i] - x[i - 1]:
                out[i] = (rows[i + 1] - rows[i - 1]) / (x[i + 1] - x[i - 1])
        found[name] = (cube[name].dims, np.moveaxis(out, 0, axis), cube[name].attrs)
    return found


def test_a_label_that_is_appended_changes_no_gradient_before_its_neighbour():
    long = daily(8).assign_coords(time=[*pd.date_range("2020-01-01", periods=7), pd.Timestamp("2020-02-01")])
    long["a"][3] = np.nan
    step = make_step("gradient", {"dim": "time", "unit": "D"})
    before, after = run_step(step, long.isel(time=slice(0, 7))), run_step(step, long)
    assert before.a.values[:6].tobytes() == after.a.values[:6].tobytes()


@settings(max_examples=12, deadline=None)
@given(
    cube=cubes(dtypes=("float32", "float64", "int16"), least={"time": 3, "lat": 3, "lon": 3}, inf=True),
    data=st.data(),
)
def test_gradient(cube, data):
    dim, order = data.draw(st.sampled_from(["time", "lat", "lon"])), data.draw(st.integers(1, 2))
    unit = data.draw(st.sampled_from(["s", "h", "D"]))
    step = make_step("gradient", {"dim": dim, "edge_order": order, "unit": unit, "variables": None})
    wide = cube.astype("f8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = wide.differentiate(dim, order, unit if dim == "time" else None)
        expected = without_the_middle(wide, expected, dim, unit)
    kind = cube.a.dtype if cube.a.dtype.kind == "f" else np.dtype("f8")
    expected = expected.astype(kind).assign(
        {n: one for n, one in cube.data_vars.items() if dim not in one.dims}
    )
    scale = float(np.abs(wide.a.where(np.isfinite(wide.a))).max().fillna(1.0))
    check_step(step, cube, expected, data.draw, rtol=1e-6 if kind == "f4" else 1e-9, atol=scale * 1e-14)


@pytest.mark.parametrize("op", ["sum", "mean", "min", "max"])
@settings(max_examples=4, deadline=None)
@given(cube=cubes(dtypes=("float32", "float64", "int16")), data=st.data())
def test_cumulative(op, cube, data):
    dim = data.draw(st.sampled_from(["time", "lon"]))
    step = make_step("cumulative", {"dim": dim, "op": op, "variables": ["a", "b"]})
    frame = cube[["a", "b"]].astype("f8") if cube.a.dtype == "f4" else cube[["a", "b"]]
    rolled = frame.rolling({dim: cube.sizes[dim]}, min_periods=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        plain = frame.cumsum(dim) if op == "sum" else getattr(rolled, op)()
    if op in ("min", "max") and cube.a.dtype.kind == "i":
        plain = plain.astype(cube.a.dtype)
    if cube.a.dtype == "f4":
        plain = plain.astype("f4")
    expected = cube.assign(plain.data_vars)
    check_step(step, cube, expected, data.draw, rtol=1e-6 if cube.a.dtype == "f4" else 1e-11, atol=1e-9)


def daily(n: int = 5) -> xr.Dataset:
    return xr.Dataset(
        {"a": ("time", np.arange(float(n)) ** 2, {"units": "K"})},
        {"time": pd.date_range("2020-01-01", periods=n)},
    )


def test_values_that_read_the_future_say_when_they_are_known():
    cube = daily()
    days = cube.time.values
    slope = run_step(make_step("gradient", {"dim": "time", "unit": "D"}), cube)
    np.testing.assert_array_equal(slope[KNOWN_AT], [*days[1:], days[-1]])
    for name, params in [
        ("lag", {"n": [2], "scalar": True}),
        ("diff", {"n": 1}),
        ("cumulative", {"op": "sum"}),
    ]:
        assert KNOWN_AT not in run_step(make_step(name, {"dim": "time", **params}), cube).coords


def test_values_that_were_known_late_stay_so():
    cube = run_step(make_step("gradient", {"dim": "time", "unit": "D"}), daily())
    days = cube.time.values
    beside = run_step(make_step("lag", {"dim": "time", "n": [1], "scalar": False}), cube)
    np.testing.assert_array_equal(beside[KNOWN_AT], [*days[1:], days[-1]])
    alone = run_step(make_step("lag", {"dim": "time", "n": [1], "scalar": True}), cube)
    assert KNOWN_AT not in alone.coords  # yesterday's slope is known today
    differences = run_step(make_step("diff", {"dim": "time", "n": 1}), cube)
    np.testing.assert_array_equal(differences[KNOWN_AT], [*days[2:], days[-1]])


def test_what_was_known_late_is_in_all_totals_after_it():
    cube = daily()
    late = cube.time.values.copy()
    late[1] += np.timedelta64(2, "D")
    total = run_step(
        make_step("cumulative", {"dim": "time", "op": "sum"}), cube.assign_coords(known_at=("time", late))
    )
    np.testing.assert_array_equal(total[KNOWN_AT], [late[0], late[1], late[1], late[3], late[4]])


def test_a_gradient_has_units_per_units():
    cube = (
        daily().expand_dims(lat=[0.0, 1.0]).assign_coords(lat=("lat", [0.0, 1.0], {"units": "degrees_north"}))
    )
    made = make_step("gradient", {"dim": "lat"}).outline(outline_of(cube), {})
    assert made.a.attrs["units"] == "K degrees_north-1"
    made = make_step("gradient", {"dim": "time", "unit": "D"}).outline(outline_of(cube), {})
    assert made.a.attrs["units"] == "K day-1"


@pytest.mark.parametrize(
    ("name", "params", "place", "text"),
    [
        ("lag", {"dim": "tim", "n": [1]}, ("dim",), "Did you mean 'time'"),
        ("diff", {"dim": "time", "n": 5}, ("n",), "has only 5"),
        ("gradient", {"dim": "x"}, ("dim",), "no coordinate"),
        ("gradient", {"dim": "same"}, ("dim",), "no distance"),
        ("cumulative", {"dim": "x", "op": "sum", "variables": ["a"]}, ("variables",), "Leave it out"),
    ],
)
def test_mistakes(name, params, place, text):
    cube = daily().assign(b=(("x", "same"), np.zeros((2, 2)))).assign_coords(same=[1, 1])
    with pytest.raises(StepMistake, match=text) as caught:
        make_step(name, params).outline(outline_of(cube), {})
    assert caught.value.place == place
