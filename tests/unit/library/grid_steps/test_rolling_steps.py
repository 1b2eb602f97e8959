"""`rolling`, `resample` and `coarsen` against plain xarray, whole and in any boxes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from oracle.grid_conformance import check_step, cubes, run_step

from featureflow.contracts.grid_step import KNOWN_AT, StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.registry import make_step

# a failing cube is small as it is, and shrinking takes minutes
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
OPS = ["mean", "sum", "min", "max", "std", "var", "median", "count"]
ROLLING = {
    "window": None,
    "window_us": None,
    "min_periods": None,
    "center": False,
    "ddof": 0,
    "variables": None,
}


def exact(compute, data: xr.Dataset, op: str) -> xr.Dataset:
    """Plain xarray in float64, rounded once: it adds float32 in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with xr.set_options(use_bottleneck=False, use_numbagg=False, use_flox=False):
            wide = compute(data.astype("f8"))
    if op == "count":
        return wide
    return wide.astype({n: "f4" if data[n].dtype == "f4" else "f8" for n in wide.data_vars})


def tolerance(data: xr.Dataset) -> dict[str, float]:
    # a deviation of 1e3 in float64 squares to 1e6 times 1e-16
    return {"rtol": 1e-6, "atol": 1e-9} if data.a.dtype == "f4" else {"rtol": 1e-11, "atol": 1e-9}


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=5, deadline=None, phases=PHASES)
@given(cube=cubes(dtypes=("float32", "float64", "int16"), inf=True), data=st.data())
def test_rolling(op, cube, data):
    dim = data.draw(st.sampled_from(["time", "lat", "lon"]))
    window = data.draw(st.integers(1, 9))
    periods = data.draw(st.sampled_from([None, 1, max(1, window - 1)]))
    center = data.draw(st.booleans())
    params = {**ROLLING, "dim": dim, "window": window, "op": op, "min_periods": periods, "center": center}
    touched = [n for n in cube.data_vars if dim in cube[n].dims]

    def plainly(one):
        # a window longer than the dimension is refused by xarray, so it gets a longer one
        longer = one[touched].pad({dim: (0, window)})
        rolled = getattr(longer.rolling({dim: window}, periods, center=center), op)()
        return rolled.isel({dim: slice(one.sizes[dim])}).drop_vars(list(rolled.coords))

    expected = exact(plainly, cube, op)
    full = check_step(make_step("rolling", params), cube, None, data.draw)
    for name in touched:
        np.testing.assert_allclose(full[name].values, expected[name].values, **tolerance(cube), err_msg=name)
        assert full[name].dtype == expected[name].dtype
    for name in set(cube.data_vars) - set(touched):
        assert full[name].identical(cube[name])
    assert set(full.coords) - {KNOWN_AT} == set(cube.coords)


def days(size: int, **variables: object) -> xr.Dataset:
    return xr.Dataset(
        {k: ("time", np.asarray(v)) for k, v in variables.items()},
        {"time": pd.date_range("2000-01-01", periods=size).as_unit("ns")},
    )


def test_a_window_of_time_has_at_least_one_value_and_needs_regular_times():
    cube = days(4, a=[1.0, 2.0, np.nan, 4.0])
    step = make_step("rolling", {**ROLLING, "dim": "time", "window_us": 2 * 86_400_000_000, "op": "sum"})
    assert run_step(step, cube).a.values.tolist() == [1.0, 3.0, 2.0, 4.0]
    with pytest.raises(StepMistake, match="regular times, and those of 'time' are 1 day, 0:00:00 to 2 days"):
        step.outline(outline_of(cube.isel(time=[0, 1, 3])), {})
    half = make_step("rolling", {**ROLLING, "dim": "time", "window_us": 36 * 3_600_000_000, "op": "sum"})
    with pytest.raises(StepMistake, match="no multiple of the step of 'time', which is 1 day") as error:
        half.outline(outline_of(cube), {})
    assert error.value.place == ("window",)
    with pytest.raises(StepMistake, match="has one time"):
        step.outline(outline_of(cube.isel(time=[0])), {})


def test_what_a_window_refuses():
    cube = outline_of(days(4, a=[1.0, 2.0, 3.0, 4.0]))
    with pytest.raises(StepMistake, match="never has 3") as error:
        make_step("rolling", {**ROLLING, "dim": "time", "window": 2, "op": "sum", "min_periods": 3})
    assert error.value.place == ("min_periods",)
    with pytest.raises(StepMistake, match="Did you mean 'time'"):
        make_step("rolling", {**ROLLING, "dim": "tme", "window": 2, "op": "sum"}).outline(cube, {})
    space = cube.rename(time="x").drop_vars("x")
    with pytest.raises(StepMistake, match="a number of values, not a duration"):
        make_step("rolling", {**ROLLING, "dim": "x", "window_us": 5, "op": "sum"}).outline(space, {})


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=5, deadline=None, phases=PHASES)
@given(cube=cubes(calendars=("days", "gaps", "hours", "360_day"), least={"time": 2}), data=st.data())
def test_a_changed_future_changes_no_trailing_window(op, cube, data):
    last = data.draw(st.integers(0, cube.sizes["time"] - 2))
    future = cube.copy(deep=True)
    for name in ("a", "b"):
        changed = future[name].transpose("time", ...).values
        changed[last + 1 :] = data.draw(st.sampled_from([np.nan, np.inf, -1e30, 7.0]))
    step = make_step("rolling", {**ROLLING, "dim": "time", "window": 4, "op": op, "min_periods": 1})
    before, after = (run_step(step, one).isel(time=slice(last + 1)) for one in (cube, future))
    assert KNOWN_AT not in before.coords
    xr.testing.assert_identical(before, after)


ALONG_TIME = {
    "centred": (
        "rolling",
        {**ROLLING, "dim": "time", "window": 5, "op": "mean", "min_periods": 1, "center": True},
    ),
    "resample": ("resample", {"dim": "time", "every": "3D", "op": "max", "ddof": 0}),
    "coarsen": ("coarsen", {"sizes": {"time": 3, "lat": 2}, "op": "mean", "boundary": "pad", "ddof": 0}),
    "clip": ("clip", {"range": [-5, 5]}),
    "stated": ("standardize", {"dims": ["lat", "lon"]}),
    "regrid": ("regrid", {"to": {"lat": {"kind": "values", "values": [-7.0, 7.0]}}, "method": "linear"}),
    "zonal": (
        "zonal",
        {"polygons": {"z": [[-90, -90], [90, -90], [90, 90]]}, "x": "lon", "y": "lat", "ops": ["mean"]},
    ),
}


@pytest.mark.parametrize("name", list(ALONG_TIME))
@settings(max_examples=5, deadline=None, phases=PHASES)
@given(cube=cubes(calendars=("days", "360_day"), least={"time": 6, "lat": 2}, extra=False), data=st.data())
def test_what_is_known_at_a_time_does_not_depend_on_what_comes_later(name, cube, data):
    last = data.draw(st.integers(0, cube.sizes["time"] - 2))
    future = cube.copy(deep=True)
    for one in ("a", "b"):
        changed = future[one].transpose("time", ...).values
        changed[last + 1 :] = data.draw(st.sampled_from([np.nan, -1e30, 7.0]))
    step = make_step(*ALONG_TIME[name])
    before, after = (run_step(step, one) for one in (cube, future))
    known = before.coords.get(KNOWN_AT, before.time).values <= cube.time.values[last]
    assert known.any() or name in ("centred", "resample", "coarsen")
    xr.testing.assert_identical(before.isel(time=known), after.isel(time=known))


def test_a_centred_window_says_when_its_values_are_known():
    cube = days(6, a=np.arange(6.0))
    made = run_step(
        make_step("rolling", {**ROLLING, "dim": "time", "window": 4, "op": "mean", "center": True}), cube
    )
    assert made.known_at.values.tolist() == cube.time.values[[1, 2, 3, 4, 5, 5]].tolist()
    twice = run_step(make_step("rolling", {**ROLLING, "dim": "time", "window": 2, "op": "mean"}), made)
    assert twice.known_at.values.tolist() == cube.time.values[[1, 2, 3, 4, 5, 5]].tolist()


EVERY = {"days": ["2D", "7D", "1MS", "1YS"], "gaps": ["40D", "1MS", "1QS"], "hours": ["3h", "1D", "90min"]}


@pytest.mark.parametrize("op", [*OPS, "first", "last"])
@settings(max_examples=5, deadline=None, phases=PHASES)
@given(kind=st.sampled_from(["days", "gaps", "hours", "noleap", "360_day"]), data=st.data())
def test_resample(op, kind, data):
    cube = data.draw(cubes(calendars=(kind,), inf=True, least={"time": 2}, extra=False))
    every = data.draw(st.sampled_from(EVERY.get(kind, EVERY["days"])))
    step = make_step("resample", {"dim": "time", "every": every, "op": op, "ddof": 0})
    counts = xr.DataArray(np.ones(cube.sizes["time"]), {"time": cube.time}).resample(time=every).sum()
    assume(counts.size <= cube.sizes["time"])
    touched = cube[["a", "b"]]
    expected = exact(lambda one: getattr(one.resample(time=every), op)(), touched, op)
    full = check_step(step, cube, None, data.draw)
    assert full.indexes["time"].equals(expected.indexes["time"])
    for name in ("a", "b"):
        wanted = expected[name].transpose(*cube[name].dims)
        np.testing.assert_allclose(full[name].values, wanted.values, **tolerance(cube))
        assert full[name].dims == cube[name].dims
        assert full[name].dtype == ("f8" if op == "count" else cube[name].dtype)
    assert full.fixed.identical(cube.fixed)


def test_bins_without_times_are_missing_and_a_bin_is_known_at_its_last_time():
    cube = days(40, a=np.arange(40.0), n=np.arange(40)).isel(time=[0, 1, 5, 36, 39])
    step = make_step("resample", {"dim": "time", "every": "2D", "op": "sum", "ddof": 0})
    with pytest.raises(StepMistake, match="makes 20 bins of 5 times") as error:
        step.outline(outline_of(cube), {})
    assert error.value.place == ("every",)
    step = make_step("resample", {"dim": "time", "every": "10D", "op": "sum", "ddof": 0})
    made = run_step(step, cube)
    np.testing.assert_array_equal(made.a.values, [6.0, np.nan, np.nan, 75.0])
    assert made.n.dtype == "f8"
    day = pd.Timestamp("2000-01-01").to_datetime64()
    known = [np.timedelta64(n, "D") + day for n in (5, 10, 20, 39)]
    assert made.known_at.values.tolist() == np.array(known, "M8[ns]").tolist()


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=5, deadline=None, phases=PHASES)
@given(cube=cubes(dtypes=("float32", "float64", "int16", "uint8"), inf=True), data=st.data())
def test_coarsen(op, cube, data):
    dims = data.draw(st.lists(st.sampled_from(["time", "lat", "lon"]), min_size=1, unique=True))
    sizes = {dim: data.draw(st.integers(1, cube.sizes[dim])) for dim in dims}
    boundary = data.draw(st.sampled_from(["trim", "pad"]))
    step = make_step("coarsen", {"sizes": sizes, "op": op, "boundary": boundary, "ddof": 0})
    # xarray can't fill the last block of times of a model's calendar
    labels = cube if boundary == "trim" or cube.time.dtype.kind == "M" else cube.drop_vars("time")
    plain = cube.coarsen(sizes, boundary=boundary)
    whole = cube.a.dtype.kind in "iu" and op in ("sum", "min", "max") and boundary == "trim"
    if whole:
        expected = getattr(plain, op)()
    else:
        expected = exact(lambda one: getattr(one.coarsen(sizes, boundary=boundary), op)(), labels, op)
    full = check_step(step, cube, None, data.draw)
    for name, one in cube.data_vars.items():
        if not set(one.dims) & set(sizes):
            assert full[name].identical(one.drop_vars([c for c in one.coords if c not in full[name].coords]))
            continue
        np.testing.assert_allclose(
            full[name].values, expected[name].values, **tolerance(cube), err_msg=str(name)
        )
        assert full[name].dtype == (np.int64 if op == "count" else expected[name].dtype)
    for name in expected.coords:
        assert full[name].variable.equals(expected[name].variable), name


def test_what_blocks_refuse():
    cube = outline_of(days(7, a=np.arange(7.0)))
    exact_blocks = {"sizes": {"time": 2}, "op": "mean", "boundary": "exact", "ddof": 0}
    with pytest.raises(StepMistake, match="7 values of 'time' are no whole number of blocks of 2") as error:
        make_step("coarsen", exact_blocks).outline(cube, {})
    assert error.value.place == ("time",)
    with pytest.raises(StepMistake, match="fewer than a block of 8"):
        make_step("coarsen", {**exact_blocks, "sizes": {"time": 8}, "boundary": "trim"}).outline(cube, {})
    named = cube.assign_coords(name=("time", list("abcdefg")))
    with pytest.raises(StepMistake, match=r"'name' is .*, which has no mean"):
        make_step("coarsen", {**exact_blocks, "sizes": {"time": 7}}).outline(named, {})


def test_blocks_of_time_are_known_at_their_last_time():
    cube = days(7, a=np.arange(7.0))
    made = run_step(
        make_step("coarsen", {"sizes": {"time": 3}, "op": "mean", "boundary": "pad", "ddof": 0}), cube
    )
    assert made.a.values.tolist() == [1.0, 4.0, 6.0]
    assert made.time.values.tolist() == cube.time.values[[1, 4, 6]].tolist()
    assert made.known_at.values.tolist() == cube.time.values[[2, 5, 6]].tolist()
