"""What steps say of units and other CF attributes, what they refuse, and values at the edges of what xarray does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from oracle.grid_conformance import run_step

from featureflow.contracts.grid_step import KNOWN_AT, StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.axes import latest_within
from featureflow.library.grid_steps.registry import make_step
from featureflow.spec.grid_steps import read_step

AIR = {
    "units": "degC",
    "standard_name": "air_temperature",
    "cell_methods": "time: point",
    "valid_range": [0.0, 50.0],
    "actual_range": [1.0, 4.0],
}


def cube(**attrs: Any) -> xr.Dataset:
    values = np.array([[1.0, 2.0], [np.nan, np.inf], [4.0, -np.inf]], "f4")
    return xr.Dataset(
        {"a": (("time", "lat"), values, {**AIR, **attrs}), "ok": (("time",), [True, False, True])},
        {
            "time": pd.date_range("2000-01-01", periods=3),
            "lat": ("lat", [10.0, 0.0], {"units": "degrees_north"}),
        },
    )


def made(name: str, params: Any, data: xr.Dataset | None = None) -> xr.Dataset:
    return make_step(*read_step({name: params})).outline(outline_of(cube() if data is None else data), {})


@pytest.mark.parametrize(
    ("name", "params", "units", "methods"),
    [
        ("reduce", {"dims": "time", "op": "mean"}, "degC", "time: point time: mean"),
        ("reduce", {"dims": ["time", "lat"], "op": "max"}, "degC", "time: point time: lat: maximum"),
        ("reduce", {"dims": "time", "op": "var"}, "K2", "time: point time: variance"),
        ("reduce", {"dims": "time", "op": "count"}, "1", None),
        (
            "rolling",
            {"dim": "time", "window": 2, "op": "std"},
            "degC",
            "time: point time: standard_deviation",
        ),
        ("resample", {"time": "2D", "op": "sum"}, "degC", "time: point time: sum"),
        ("coarsen", {"lat": 2, "op": "median"}, "degC", "time: point lat: median"),
        ("groupby", {"dim": "time", "by": "month", "op": "min"}, "degC", "time: point time: minimum"),
        ("gradient", {"dim": "lat", "variables": "a"}, "K degrees_north-1", "time: point"),
        ("gradient", {"dim": "time", "unit": "D"}, "K day-1", "time: point"),
        ("diff", {"dim": "lat"}, "degC", "time: point"),
        ("standardize", {"dims": ["lat"]}, "1", "time: point"),
        ("anomaly", {"over": "time", "period": "all"}, "degC", "time: point"),
    ],
)
def test_units_and_cell_methods(name, params, units, methods):
    attrs = made(name, params).a.attrs
    assert attrs.get("units") == units
    assert attrs.get("cell_methods") == methods
    assert "actual_range" not in attrs


def test_a_variance_of_numbers_without_units_has_none():
    assert made("reduce", {"dims": "time", "op": "var"}, cube(units="1")).a.attrs["units"] == "1"
    assert made("reduce", {"dims": "time", "op": "var"}, cube(units="m s-1")).a.attrs["units"] == "(m s-1)2"


def test_a_mean_of_flags_is_no_flag_and_a_sum_has_another_range():
    flags = cube(flag_values=[1, 2], flag_meanings="land sea")
    assert "flag_values" not in made("reduce", {"dims": "time", "op": "mean"}, flags).a.attrs
    assert "flag_values" in made("reduce", {"dims": "time", "op": "max"}, flags).a.attrs
    assert "valid_range" in made("reduce", {"dims": "time", "op": "mean"}, flags).a.attrs
    for step in [
        ("reduce", {"dims": "time", "op": "sum"}),
        ("diff", {"dim": "lat"}),
        ("cumulative", {"dim": "time", "op": "sum"}),
    ]:
        assert "valid_range" not in made(*step, flags).a.attrs


@pytest.mark.parametrize(
    ("name", "params", "place", "text"),
    [
        ("lag", {"dim": "time", "n": 1}, (), "'ok' is bool; a lag takes numbers, no bool"),
        ("reduce", {"dims": "time", "op": "max"}, (), "'when' is datetime64"),
        ("groupby", {"dim": "time", "by": "month", "op": "max"}, (), "'when' is datetime64"),
        ("percentile", {"dims": "time", "q": 5}, (), "'when' is datetime64"),
        ("select", {"lat": ["0", "10"]}, ("lat",), "holds numbers; got the text '0'"),
        ("derive", {"b": "a * 99999999999999999999 + time_index"}, ("b",), "unknown name"),
        ("derive", {"b": "month(time) * 99999999999999999999"}, ("b",), "beyond 64 bits"),
        ("derive", {"b": "a between 1 and 2"}, ("b",), "1 <= x <= 2"),
        ("derive", {"b": "case when a > 1 then 2 end"}, ("b",), "where(condition, x, y)"),
        (
            "zonal",
            {"polygons": {"z": [[0, 0], [0, 9], [9, 9]]}, "x": "time", "ops": "mean"},
            ("x",),
            "no numbers",
        ),
    ],
)
def test_what_is_refused(name, params, place, text):
    data = cube() if name == "lag" else cube().assign(when=("time", cube().time.values))
    with pytest.raises(StepMistake) as caught:
        made(name, params, data)
    assert caught.value.place == place
    assert text in caught.value.message


def test_named_variables_leave_others_alone():
    left = made("lag", {"dim": "time", "n": 1, "variables": "a"})
    assert left.ok.dtype == bool
    assert made("reduce", {"dims": "lat", "op": "max", "variables": "a"}).ok.dims == ("time",)


def test_zones_take_the_variables_that_are_named():
    square = {"polygons": {"z": [[-1, -1], [-1, 11], [11, 11], [11, -1]]}, "ops": "mean"}
    data = cube().expand_dims(lon=[0.0, 1.0]).assign(ok=("time", [True, False, True]))
    with pytest.raises(StepMistake, match="zones take numbers of lat, lon"):
        made("zonal", {**square, "variables": ["a", "ok"]}, data)
    with pytest.raises(StepMistake, match="already has a 'zone'"):
        made("zonal", square, data.rename(time="zone"))
    with pytest.raises(StepMistake, match="already has a 'zone'"):
        made("zonal", square, data.assign_coords(zone=1))


def test_infinities_stay_where_xarray_has_them():
    data = cube()[["a"]]
    near = run_step(make_step(*read_step({"regrid": {"to": {"lat": [1, 9]}, "method": "nearest"}})), data)
    np.testing.assert_array_equal(near.a, data.a.interp(lat=[1, 9], method="nearest"))
    total = run_step(make_step(*read_step({"cumulative": {"dim": "time", "op": "sum"}})), data)
    with np.errstate(invalid="ignore"):  # xarray's own sums warn of infinities
        np.testing.assert_array_equal(total.a, data.a.cumsum("time"))
    difference = run_step(make_step(*read_step({"diff": {"dim": "time"}})), data)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(difference.a, data.a.diff("time"))


@pytest.mark.parametrize("name", ["normalize", "standardize"])
def test_a_single_number_has_no_scale(name):
    data = xr.Dataset({"a": ((), np.float32(3.0))})
    assert np.isnan(run_step(make_step(*read_step({name: {}})), data).a)


def test_times_may_end_in_z():
    step = make_step(*read_step({"select": {"time": ["2000-01-02T00:00:00Z", None]}}))
    assert step.outline(outline_of(cube()), {}).sizes["time"] == 2
    several = make_step(*read_step({"select": {"time": {"values": ["2000-01-02T00:00:00Z"]}}}))
    assert several.outline(outline_of(cube()), {}).sizes["time"] == 1


def test_latest_within_any_window():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 30):
        for when in (rng.integers(0, 50, size), np.sort(rng.integers(0, 50, size))):
            for before, after in ((0, 0), (1, 0), (0, 3), (5, 2), (40, 0), (3, 40)):
                expected = [when[max(0, i - before) : i + after + 1].max() for i in range(size)]
                assert latest_within(when, before, after).tolist() == expected
    assert KNOWN_AT not in made("rolling", {"dim": "time", "window": 2, "op": "mean"}).coords
