"""`reduce`, `percentile` and `groupby` against plain xarray, whole and in any boxes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.grid_conformance import check_step, cubes, run_step

from featureflow.contracts.grid_step import StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.registry import make_step

OPS = ["mean", "sum", "min", "max", "std", "var", "median", "count"]


def plainly(data: xr.Dataset, compute, op: str) -> xr.Dataset:
    """Plain xarray in float64, then in the dtype that it has in float32: its float32 sums lose digits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        wide = compute(data.astype("f8") if data.a.dtype == "f4" else data)
        narrow = compute(data.isel(time=slice(1)) if "time" in data.dims else data)
    return wide.astype({name: narrow[name].dtype for name in narrow.data_vars})


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=4, deadline=None)
@given(cube=cubes(dtypes=("float32", "float64", "int16")), data=st.data())
def test_reduce(op, cube, data):
    dims = data.draw(st.sampled_from([("time",), ("lat", "lon"), ("time", "lon"), None]))
    ddof = data.draw(st.integers(0, 1)) if op in ("std", "var") else 0
    step = make_step("reduce", {"dims": dims, "op": op, "ddof": ddof, "variables": None})
    over = list(dims or cube.dims)
    options = {"ddof": ddof} if op in ("std", "var") else {}
    expected = plainly(cube, lambda one: getattr(one, op)(over, **options), op)
    # xarray gives those that lack the dimensions their variance and number over nothing: 0 and 1
    expected = expected.assign({n: one for n, one in cube.data_vars.items() if not set(over) & set(one.dims)})
    check_step(
        step, cube, expected.drop_attrs(), data.draw, rtol=1e-6 if cube.a.dtype == "f4" else 1e-11, atol=1e-9
    )


@pytest.mark.parametrize("op", ["first", "last"])
@settings(max_examples=4, deadline=None)
@given(cube=cubes(), data=st.data())
def test_reduce_to_the_first_and_the_last_value(op, cube, data):
    step = make_step("reduce", {"dims": ["time"], "op": op, "ddof": 0, "variables": ["a"]})
    rows = cube.a.values if op == "first" else cube.a.values[::-1]
    place = np.argmax(~np.isnan(rows), axis=0)
    full = check_step(step, cube, None, data.draw)
    np.testing.assert_array_equal(full.a.values, np.take_along_axis(rows, place[None], 0)[0])
    assert full.b.dims == ("lon", "time")


@settings(max_examples=8, deadline=None)
@given(cube=cubes(dtypes=("float32", "float64", "int16")), data=st.data())
def test_percentile(cube, data):
    shares = data.draw(
        st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), min_size=1, max_size=3, unique=True)
    )
    scalar, dims = data.draw(st.booleans()), data.draw(st.sampled_from([("time",), ("lat", "time")]))
    step = make_step("percentile", {"dims": dims, "quantiles": shares, "scalar": scalar, "variables": None})
    q = shares[0] if scalar else shares
    has = [name for name in cube.data_vars if set(dims) & set(cube[name].dims)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        parts = {n: cube[n].quantile(q, [d for d in dims if d in cube[n].dims]) for n in has}
    expected = xr.Dataset({n: parts.get(n, cube[n]) for n in cube.data_vars})
    lost = [n for n, c in cube.coords.items() if set(dims) & set(c.dims)]
    expected = (
        expected.drop_vars(lost, errors="ignore").assign_coords(cube.drop_vars(lost).coords).drop_attrs()
    )
    if cube.a.dtype == "f4":
        expected = expected.astype("f4")
    check_step(step, cube, expected, data.draw, rtol=1e-6, atol=1e-9)


def test_a_quantile_between_infinities_is_infinite():
    cube = xr.Dataset({"a": ("x", [np.inf, np.inf, np.inf, 1.0])})
    step = make_step("percentile", {"dims": ["x"], "quantiles": [0.5], "scalar": True, "variables": None})
    assert run_step(step, cube).a.item() == np.inf


@pytest.mark.parametrize("by", ["month", "dayofyear", "hour", "year", "season"])
@settings(max_examples=4, deadline=None)
@given(cube=cubes(dtypes=("float32", "float64", "int16"), extra=False), data=st.data())
def test_groupby(by, cube, data):
    op = data.draw(st.sampled_from([*OPS, "first", "last"]))
    step = make_step("groupby", {"dim": "time", "by": by, "op": op, "ddof": 0, "variables": None})
    grouped = plainly(cube[["a", "b"]], lambda one: getattr(one.groupby(f"time.{by}"), op)(), op)
    grouped["b"] = grouped["b"].transpose("lon", by)
    expected = grouped.assign(fixed=cube.fixed).drop_attrs()
    expected = expected.assign_coords({by: (by, np.array(list(expected[by].values)))})
    full = check_step(step, cube, None, data.draw)
    xr.testing.assert_allclose(full.drop_attrs(), expected, rtol=1e-6 if cube.a.dtype == "f4" else 1e-11)
    assert full.a.dtype == expected.a.dtype


def test_a_count_has_no_units_and_a_variance_has_squared_ones():
    cube = xr.Dataset(
        {"a": ("x", [1.0], {"units": "m s-1", "standard_name": "wind_speed", "long_name": "wind"})}
    )
    made = {
        op: make_step("reduce", {"dims": ["x"], "op": op}).outline(outline_of(cube), {}).a.attrs
        for op in ("mean", "var", "count")
    }
    assert made["mean"] == cube.a.attrs
    assert made["var"] == {"long_name": "wind", "units": "(m s-1)2"}
    assert made["count"] == {"long_name": "wind", "units": "1"}


def test_sums_do_not_depend_on_the_layout_in_memory():
    values = np.random.default_rng(0).normal(size=(1000, 7, 3)).astype("f4")
    step = make_step("reduce", {"dims": ["t"], "op": "sum"})
    cube = xr.Dataset({"a": (("t", "y", "x"), values)})
    turned = xr.Dataset({"a": (("t", "y", "x"), np.asfortranarray(values))})
    assert run_step(step, cube).a.values.tobytes() == run_step(step, turned).a.values.tobytes()


@pytest.mark.parametrize(
    ("name", "params", "place", "text"),
    [
        ("reduce", {"dims": ["tme"], "op": "mean"}, ("dims",), "Did you mean 'time'"),
        ("reduce", {"dims": ["time", "lat"], "op": "last"}, ("dims",), "along one dimension"),
        ("reduce", {"dims": ["lat"], "op": "mean", "variables": ["b"]}, ("variables",), "Leave it out"),
        (
            "reduce",
            {"dims": ["lat"], "op": "mean", "variables": ["c"]},
            ("variables",),
            "unknown variable 'c'",
        ),
        ("groupby", {"dim": "lat", "by": "month", "op": "mean"}, ("by",), "holds no times"),
    ],
)
def test_mistakes(name, params, place, text):
    cube = xr.Dataset({"a": (("time", "lat"), np.zeros((2, 2))), "b": ("time", [1.0, 2.0])})
    cube = cube.assign_coords(time=np.array(["2000-01-01", "2000-01-02"], "M8[ns]"))
    with pytest.raises(StepMistake, match=text) as caught:
        make_step(name, params).outline(outline_of(cube), {})
    assert caught.value.place == place
