"""`anomaly`, `normalize`, `standardize` and `clip` against plain xarray: any boxes, any cells, any calendar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracle.grid_conformance import check_step, cubes, fit, run_step

from featureflow.contracts.grid_step import FittedStep, StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps import clipping
from featureflow.library.grid_steps.registry import make_step

# a failing cube is small as it is, and shrinking takes minutes
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
TOLERANCE = {"rtol": 2e-6, "atol": 1e-6}


def rounded(made: xr.Dataset, data: xr.Dataset) -> xr.Dataset:
    return made.astype({n: "f4" if data[n].dtype == "f4" else "f8" for n in made.data_vars})


def assert_close(full: xr.Dataset, expected: xr.Dataset, names: list[str], atol: float = 0.0) -> None:
    for name in names:
        wanted = expected[name].transpose(*full[name].dims)
        scale = np.nanmax(np.abs(np.where(np.isfinite(wanted), wanted, 0)), initial=1)
        np.testing.assert_allclose(
            full[name].values, wanted.values, 2e-6, max(atol, 1e-12 * scale), err_msg=name
        )


@pytest.mark.parametrize("by", ["month", "dayofyear", "hour", "none"])
@settings(max_examples=8, deadline=None, phases=PHASES)
@given(cube=cubes(dtypes=("float32", "float64", "int16"), inf=True), data=st.data())
def test_anomaly(by, cube, data):
    n = cube.sizes["time"]
    first = data.draw(st.integers(0, n - 1))
    last = data.draw(st.integers(first, n - 1))
    stated = data.draw(st.booleans())
    labels = [str(t).replace("T", " ")[:19] for t in cube.indexes["time"][[first, last]]]
    period = labels if stated else "all"
    step = make_step("anomaly", {"over": "time", "by": by, "period": period, "variables": None})
    wide = cube.astype("f8")[["a", "b"]]
    learned = wide.isel(time=slice(first, last + 1)) if stated else wide
    with np.errstate(all="ignore"), xr.set_options(use_flox=False, use_bottleneck=False):
        if by == "none":
            expected = wide - learned.mean("time")
        else:
            means = learned.groupby(f"time.{by}").mean()
            there = getattr(wide.time.dt, by)
            expected = wide - means.reindex({by: np.arange(0, 367)}).sel({by: there}).drop_vars(by)
    cells = {"time": data.draw(st.integers(1, n)), "lat": 2, "lon": 3}
    full = check_step(step, cube, None, data.draw, chunks=cells)
    # differences of numbers up to 1e5 in float64
    assert_close(full, rounded(expected, cube), ["a", "b"], atol=1e-9)
    assert full.fixed.identical(cube.fixed)
    assert full.a.attrs == {"units": "K"}
    assert {full[n].dtype for n in "ab"} == {np.dtype("f4" if cube.a.dtype == "f4" else "f8")}


def test_a_leap_day_has_a_climatology_of_its_own():
    times = pd.date_range("2000-01-01", "2004-12-31").as_unit("ns")
    cube = xr.Dataset({"a": ("time", np.arange(times.size, dtype="f4"))}, {"time": times})
    step = make_step(
        "anomaly", {"over": "time", "by": "dayofyear", "period": ["2000-01", "2003-12"], "variables": None}
    )
    made = run_step(step, cube, chunks={"time": 100})
    days = times.day_of_year
    for day in (1, 60, 366):
        there = cube.a.values[(days == day) & (times.year <= 2003)].astype("f8").mean()
        np.testing.assert_array_equal(
            made.a.values[days == day], (cube.a.values[days == day] - there).astype("f4")
        )
    assert fit(step, cube, {})["a:mean"].shape == (366,)


def test_cells_are_combined_in_their_order_whatever_their_size_is_not_changed():
    rng = np.random.default_rng(1)
    times = pd.date_range("2000-01-01", periods=400).as_unit("ns")
    cube = xr.Dataset({"a": (("time", "x"), rng.normal(size=(400, 7)).astype("f4"))}, {"time": times})
    for name, params in (("anomaly", {"over": "time", "by": "month"}), ("standardize", {"dims": ["time"]})):
        step = make_step(name, {**params, "period": "all"})
        assert isinstance(step, FittedStep)
        one, many = fit(step, cube, {}), fit(step, cube, {"time": 13, "x": 2})
        xr.testing.assert_allclose(one, many, rtol=1e-12)
        assert fit(step, cube, {"time": 13, "x": 7}).identical(many)


@pytest.mark.parametrize("name", ["normalize", "standardize"])
@settings(max_examples=12, deadline=None, phases=PHASES)
@given(cube=cubes(dtypes=("float32", "float64", "int16")), data=st.data())
def test_scales(name, cube, data):
    dims = data.draw(st.sampled_from([("time",), ("lat", "lon"), ("time", "lon"), None]))
    ddof = data.draw(st.integers(0, 1)) if name == "standardize" else 0
    to = data.draw(st.sampled_from([(0.0, 1.0), (-1.0, 3.0)])) if name == "normalize" else (0.0, 1.0)
    step = make_step(name, {"dims": dims, "period": "all", "to": list(to), "ddof": ddof, "variables": None})
    wide, over = cube.astype("f8"), list(dims or cube.dims)
    cells = {"time": data.draw(st.integers(1, 24)), "lat": 2, "lon": 3}
    full = check_step(step, cube, None, data.draw, chunks=cells)
    for one in cube.data_vars:
        own = [d for d in over if d in cube[one].dims]
        if not own:
            assert full[one].identical(cube[one])
            continue
        v = wide[one]
        with np.errstate(all="ignore"):
            if name == "normalize":
                expected = (v - v.min(own)) / (v.max(own) - v.min(own)) * (to[1] - to[0]) + to[0]
            else:
                count = v.count(own)
                squares = ((v - v.mean(own)) ** 2).sum(own) / (count - ddof).where(count > ddof)
                expected = (v - v.mean(own)) / np.sqrt(squares)
        wanted = expected.transpose(*cube[one].dims).values
        # where the deviation is rounding alone, so is the quotient
        sure = np.broadcast_to(
            (v.max(own) > v.min(own)).broadcast_like(v).transpose(*cube[one].dims), v.shape
        )
        np.testing.assert_allclose(full[one].values[sure], wanted[sure], 2e-6, 1e-6, err_msg=str(one))
        assert np.isnan(full[one].values[~sure & np.isnan(wanted)]).all()
        assert full[one].attrs == {"units": "1"}


def test_a_variable_without_a_dimension_counts_once_however_many_cells_there_are_along_it():
    cube = xr.Dataset({"a": (("y", "x"), np.arange(12.0).reshape(4, 3)), "b": ("x", [1.0, 2.0, 6.0])})
    step = make_step("standardize", {"dims": None, "period": None, "ddof": 1})
    step.outline(outline_of(cube), {})
    for cells in ({}, {"y": 1, "x": 2}, {"y": 3, "x": 1}):
        learned = fit(step, cube, cells)
        np.testing.assert_allclose(learned["b:scale"], np.std([1, 2, 6], ddof=1), rtol=1e-14)
        np.testing.assert_allclose(learned["a:scale"], np.std(np.arange(12), ddof=1), rtol=1e-14)


def test_a_period_states_what_is_learned_and_nothing_else_is():
    times = pd.date_range("2000-01-01", periods=6).as_unit("ns")
    cube = xr.Dataset({"a": ("time", [1.0, 3.0, 5.0, 100.0, np.nan, 7.0])}, {"time": times})
    step = make_step("normalize", {"dims": ["time"], "period": ["2000-01-01", "2000-01-03"]})
    np.testing.assert_array_equal(run_step(step, cube).a, [0, 0.5, 1, 24.75, np.nan, 1.5])
    later = cube.copy(deep=True)
    later.a[3:] = 1e9
    xr.testing.assert_identical(
        run_step(step, later).isel(time=slice(3)), run_step(step, cube).isel(time=slice(3))
    )


def test_what_steps_that_learn_refuse():
    times = pd.date_range("2000-01-01", periods=6).as_unit("ns")
    cube = outline_of(xr.Dataset({"a": (("time", "x"), np.zeros((6, 2)))}, {"time": times, "x": [1, 2]}))
    for name in ("normalize", "standardize"):
        with pytest.raises(StepMistake, match="the past would know the future") as error:
            make_step(name, {"dims": ["time"]}).outline(cube, {})
        assert error.value.place == ("period",)
        make_step(name, {"dims": ["x"]}).outline(cube, {})
    with pytest.raises(StepMistake, match="the past would know the future"):
        make_step("anomaly", {"over": "time", "by": "month"}).outline(cube, {})
    with pytest.raises(StepMistake, match="'x' holds no times, so it has no month") as error:
        make_step("anomaly", {"over": "x", "by": "month"}).outline(cube, {})
    assert error.value.place == ("over",)
    with pytest.raises(StepMistake, match="no label is from 2010"):
        make_step("normalize", {"dims": ["time"], "period": ["2010", "2011"]}).outline(cube, {})
    with pytest.raises(StepMistake, match="there are no times among"):
        make_step("normalize", {"dims": ["x"], "period": ["2010", "2011"]}).outline(cube, {})
    with pytest.raises(StepMistake, match="unknown dimension 'tim'"):
        make_step("standardize", {"dims": ["tim"], "period": "all"}).outline(cube, {})


def test_numbers_that_the_spec_gives_are_not_learned():
    cube = xr.Dataset({"a": ("x", np.array([0.0, 5, 20, np.nan], "f4")), "n": ("x", [1, 2, 3, 4])})
    step = make_step("normalize", {"constants": [0, 10], "to": [0, 1], "variables": ["a"]})
    assert not isinstance(step, FittedStep)
    np.testing.assert_array_equal(run_step(step, cube).a, np.array([0, 0.5, 2, np.nan], "f4"))
    each = make_step("standardize", {"each": {"n": [2, 0.5]}})
    made = run_step(each, cube)
    np.testing.assert_array_equal(made.n, [-2.0, 0, 2, 4])
    assert made.a.identical(cube.a)


@settings(max_examples=15, deadline=None, phases=PHASES)
@given(cube=cubes(dtypes=("float32", "float64", "int16", "uint8"), inf=True), data=st.data())
def test_clip_to_a_range(cube, data):
    low, high = data.draw(st.sampled_from([(-5, 20), (None, 3), (0.5, None), (-300, 400)]))
    step = make_step("clip", {"range": [low, high], "variables": ["a", "b"]})
    full = check_step(step, cube, None, data.draw)
    for name in ("a", "b"):
        wanted = cube[name].astype("f8").clip(low, high, keep_attrs=True)
        np.testing.assert_array_equal(full[name].values, wanted.astype(full[name].dtype).values)
        if cube[name].dtype.kind == "f":
            assert full[name].dtype == cube[name].dtype


@settings(max_examples=10, deadline=None, phases=PHASES)
@given(cube=cubes(dtypes=("float32", "float64", "int16")), data=st.data())
def test_clip_to_quantiles(cube, data):
    dims = data.draw(st.sampled_from([("time",), ("lat", "lon"), None]))
    step = make_step("clip", {"quantiles": [0.1, 0.75], "dims": dims, "period": "all", "variables": ["a"]})
    full = check_step(step, cube, None, data.draw, chunks={"time": 5, "lat": 2, "lon": 2})
    wide = cube.a.astype("f8")
    ends = wide.quantile([0.1, 0.75], dims, skipna=True)
    wanted = wide.clip(ends[0].drop_vars("quantile"), ends[1].drop_vars("quantile")).transpose(*cube.a.dims)
    np.testing.assert_allclose(full.a.values, wanted.values, **TOLERANCE)


def test_quantiles_of_many_values_are_coarse_and_independent_of_cells(monkeypatch):
    rng = np.random.default_rng(2)
    cube = xr.Dataset({"a": (("y", "x"), (rng.normal(size=(90, 80)) ** 3).astype("f4"))})
    cube.a[3, 4:9] = np.nan
    step = make_step("clip", {"quantiles": [0.01, 0.9], "dims": None, "period": None})
    exact = [float(np.nanquantile(cube.a, share)) for share in (0.01, 0.9)]
    monkeypatch.setattr(clipping, "EXACT_VALUES", 100)
    step.outline(outline_of(cube), {})
    coarse = fit(step, cube, {"y": 7, "x": 11})
    # the value of the lower rank, to 1 part in 8192, while the exact one is between two
    ordered = np.sort(cube.a.values[~np.isnan(cube.a.values)])
    ranks = [int(share * (ordered.size - 1)) for share in (0.01, 0.9)]
    np.testing.assert_allclose([coarse["a:low"], coarse["a:high"]], ordered[ranks], rtol=1 / 8192)
    np.testing.assert_allclose(exact, ordered[ranks], rtol=5e-3)
    assert coarse.identical(fit(step, cube, {"y": 90, "x": 3}))
    made = run_step(step, cube)
    assert float(made.a.max()) == np.float32(coarse["a:high"])
