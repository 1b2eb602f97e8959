"""`mask`, `merge`, `concat` and `fill` against plain xarray, whole and in any boxes."""

from __future__ import annotations

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


@settings(max_examples=8, deadline=None)
@given(cubes(dtypes=("float32", "int16")), st.data())
def test_mask(cube, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    # more labels than the cube has, in another order
    lats = np.concatenate([[-89.0], rng.permutation(cube.lat.values), [88.0]])
    classes = xr.DataArray(
        rng.integers(0, 4, (len(lats), cube.sizes["lon"])),
        {"lat": lats, "lon": cube.lon.values},
        ("lat", "lon"),
    )
    land = xr.Dataset({"kind": classes, "other": classes * 0.5})
    params, condition = data.draw(
        st.sampled_from(
            [
                ({"variable": "kind", "values": [1, 3]}, classes.isin([1, 3])),
                ({"variable": "kind"}, classes != 0),
                ({"expression": "kind > 1 or other = 0"}, (classes > 1) | (classes == 0)),
            ]
        )
    )
    step = make_step("mask", {"source": "land", "variables": None, **params})
    here = condition.sel(lat=cube.lat.values)
    expected = cube.assign({n: cube[n].where(here).transpose(*cube[n].dims) for n in ("a", "fixed")})
    check_step(step, cube, expected, data.draw, others={"land": land})


@settings(max_examples=8, deadline=None)
@given(cubes(), st.data())
def test_merge(cube, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    kept = np.flatnonzero(rng.random(cube.sizes["time"]) < 0.7)
    fewer = data.draw(st.booleans()) and len(kept) > 0
    part = cube.isel(time=kept) if fewer else cube
    order = rng.permutation(part.sizes["time"])
    other = xr.Dataset(
        {
            "a": (("level", "time"), rng.normal(size=(2, len(order)))),
            "c": ("lon", rng.normal(size=cube.sizes["lon"])),
        },
        {
            "time": part.time.values[order],
            "lon": cube.lon.values,
            "level": [1000, 850],
            "depth": ("level", [1.0, 2.0]),
        },
    )
    step = make_step("merge", {"source": "more", "variables": None, "prefix": "m_"})
    beside = other.rename(a="m_a", c="m_c").sel(time=part.time.values)
    expected = xr.merge([part, beside], join="exact", combine_attrs="override", compat="override")
    check_step(step, cube, expected[[*cube.data_vars, "m_a", "m_c"]], data.draw, others={"more": other})


@settings(max_examples=8, deadline=None)
@given(cubes(least={"time": 3}), st.data())
def test_concat(cube, data):
    a, b = sorted(data.draw(st.lists(st.integers(1, cube.sizes["time"] - 1), min_size=2, max_size=2)))
    cuts = [(0, a), (a, b), (b, cube.sizes["time"])]
    first, *rest = (cube.isel(time=slice(*c)) for c in cuts if c[0] < c[1])
    others = {f"s{i}": one for i, one in enumerate(rest)}
    step = make_step("concat", {"sources": list(others), "dim": "time"})
    check_step(step, first, cube, data.draw, others=others)


@settings(max_examples=5, deadline=None)
@given(cubes(dtypes=("float32",), extra=False), st.data())
def test_concat_along_a_new_dimension(cube, data):
    wide = (cube * 2).astype("f8", keep_attrs=True).assign_attrs(cube.attrs)
    wide = wide.assign({n: wide[n].assign_attrs(cube[n].attrs) for n in cube.data_vars})
    expected = xr.concat([cube, wide], "member", data_vars="all")
    check_step(
        make_step("concat", {"sources": ["w"], "dim": "member"}),
        cube,
        expected,
        data.draw,
        others={"w": wide},
    )


@settings(max_examples=12, deadline=None)
@given(cubes(), st.data())
def test_fill(cube, data):
    method = data.draw(st.sampled_from(["constant", "ffill", "linear"]))
    dim, limit = data.draw(st.sampled_from(["time", "lat"])), data.draw(st.none() | st.integers(1, 5))
    if method == "constant":
        step = make_step("fill", {"method": method, "value": -1.5, "each": None, "dim": None, "limit": None})
        check_step(step, cube, cube.fillna(-1.5), data.draw)
        return
    step = make_step("fill", {"method": method, "value": None, "each": None, "dim": dim, "limit": limit})
    expected = cube.copy()
    for name in cube.data_vars:
        if dim in cube[name].dims:
            axis = cube[name].dims.index(dim)
            expected[name] = cube[name].copy(
                data=np.apply_along_axis(
                    by_hand, axis, cube[name].values, coordinate(cube, dim), method, limit
                )
            )
    check_step(step, cube, expected, data.draw, rtol=1e-6 if cube.a.dtype == "f4" else 1e-10, atol=1e-10)


def coordinate(cube: xr.Dataset, dim: str) -> np.ndarray:
    index = cube.indexes[dim]
    return np.array([(one - index[0]).total_seconds() for one in index]) if dim == "time" else index.values


def by_hand(row: np.ndarray, x: np.ndarray, method: str, limit: int | None) -> np.ndarray:
    """One value after the other: what pandas' ffill and xarray's interpolate_na do."""
    out = row.copy()
    for i in np.flatnonzero(np.isnan(row)):
        before, after = np.flatnonzero(~np.isnan(row[:i])), np.flatnonzero(~np.isnan(row[i:]))
        if not len(before) or (limit is not None and i - before[-1] > limit):
            continue
        low = before[-1]
        if method == "ffill":
            out[i] = row[low]
        elif len(after):
            high = i + after[0]
            out[i] = np.interp(
                x[i] - x[low] if x[high] > x[low] else x[low] - x[i],
                [0, abs(x[high] - x[low])],
                row[[low, high]],
            )
    return out


def test_fill_equals_xarray_with_gaps_and_a_limit():
    values = [1.0, np.nan, np.nan, np.nan, 9.0, np.nan]
    cube = xr.Dataset({"a": ("x", values)}, {"x": [0.0, 1, 2, 5, 8, 9]})
    for limit in (None, 1, 2):
        step = make_step("fill", {"method": "linear", "dim": "x", "limit": limit})
        xr.testing.assert_allclose(run_step(step, cube).a, cube.a.interpolate_na("x", limit=limit))
    step = make_step("fill", {"method": "constant", "each": {"a": 7}})
    assert run_step(step, cube).a.values.tolist() == [1, 7, 7, 7, 9, 7]


def test_a_line_through_times_is_known_at_the_end_only():
    days = pd.date_range("2020-01-01", periods=3)
    cube = xr.Dataset({"a": ("time", [1.0, np.nan, 3.0])}, {"time": days})
    line = run_step(make_step("fill", {"method": "linear", "dim": "time"}), cube)
    assert (line[KNOWN_AT].values == days[-1]).all()
    assert KNOWN_AT not in run_step(make_step("fill", {"method": "ffill", "dim": "time"}), cube).coords
    again = run_step(make_step("fill", {"method": "ffill", "dim": "time"}), line)
    assert (again[KNOWN_AT].values == days[-1]).all()


def test_values_of_two_sources_are_known_when_both_are():
    days = pd.date_range("2020-01-01", periods=3)
    cube = xr.Dataset({"a": ("time", [1.0, 2, 3])}, {"time": days})
    late = xr.Dataset(
        {"b": ("time", [1.0, 2, 3])},
        {"time": days[::-1], KNOWN_AT: ("time", days[::-1] + pd.Timedelta("1D"))},
    )
    for step in ({"source": "late"}, {"source": "late", "variable": "b"}):
        name = "mask" if "variable" in step else "merge"
        result = run_step(make_step(name, step), cube, others={"late": late})
        np.testing.assert_array_equal(result[KNOWN_AT], days + pd.Timedelta("1D"))


CUBE = xr.Dataset(
    {"a": (("time", "lat"), np.zeros((3, 2)), {"units": "K"})},
    {"time": pd.date_range("2020", periods=3), "lat": [0.0, 1.0]},
)

EARLIER = CUBE.assign_coords(time=CUBE.time - np.timedelta64(9, "D"))
MISALIGNED = r"'lat' does not align with 's': label 1.0 at position 1 is not there \(there: 2.0\); 1 of 2"


@pytest.mark.parametrize(
    ("name", "params", "other", "place", "text"),
    [
        ("merge", {}, CUBE, ("prefix",), "both have 'a'"),
        ("merge", {"prefix": "m_"}, CUBE.assign_coords(lat=[0.0, 2.0]), ("source",), MISALIGNED),
        ("merge", {"variables": ["b"]}, CUBE, ("variables",), "has no variable 'b'"),
        ("merge", {"prefix": "m_"}, CUBE.isel(lat=[0, 0]), ("source",), "more than once"),
        ("merge", {"prefix": "m_"}, CUBE.drop_vars("lat").isel(lat=[0]), ("source",), "no coordinate to align"),
        ("merge", {"prefix": "m_"}, CUBE.assign_coords(time=[1, 2, 3]), ("source",), "does not align"),
        ("mask", {}, CUBE.assign(b=CUBE.a), ("variable",), "has 2 variables"),
        ("mask", {"variable": "b"}, CUBE, ("variable",), "has no variable 'b'"),
        ("mask", {}, CUBE.isel(lat=[0]), ("source",), "label 1.0 at position 1"),
        ("mask", {}, CUBE.expand_dims(level=[1]), ("source",), "dimension 'level'"),
        ("mask", {"expression": "a + 1"}, CUBE, ("keep",), "is no condition"),
        ("mask", {"expression": "c > 1"}, CUBE, ("keep",), "unknown name 'c'"),
        ("concat", {"dim": "time"}, CUBE, ("source",), "label 2020-01-01.* more than once"),
        ("concat", {"dim": "time"}, EARLIER, ("source",), "do not go on"),
        ("concat", {"dim": "time"}, CUBE.rename(a="b"), ("source",), "has no variable 'a'"),
        ("concat", {"dim": "time"}, CUBE.assign_coords(lat=[0.0, 5.0]), ("source",), "'lat' does not align"),
        ("concat", {"dim": "time"}, CUBE.isel(lat=[1, 0]), ("source",), "in another order"),
        ("concat", {"dim": "time"}, CUBE.assign(a=CUBE.a.assign_attrs(units="degC")), ("source",), "units of 'a'"),
        ("fill", {"method": "ffill", "dim": "tme"}, CUBE, ("dim",), "Did you mean 'time'"),
        ("fill", {"method": "constant", "each": {"b": 1}}, CUBE, (), "unknown variable 'b'"),
    ],
)  # fmt: skip
def test_mistakes(name, params, other, place, text):
    params = {"sources": ["s"], **params} if name == "concat" else {"source": "s", **params}
    with pytest.raises(StepMistake, match=text) as caught:
        make_step(name, params).outline(outline_of(CUBE), {"s": outline_of(other)})
    assert caught.value.place == place
