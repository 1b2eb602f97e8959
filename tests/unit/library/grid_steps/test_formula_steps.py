"""Expressions, `derive` and `where` against plain xarray, whole and in any boxes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.grid_conformance import check_step, cubes, run_step, times

from featureflow.contracts.grid_step import StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.core.errors import ComputeError
from featureflow.library.grid_steps.expressions import parse
from featureflow.library.grid_steps.registry import make_step

LEAVES = ["a", "b", "fixed", "lat", "lon", "2", "0.5", "-3.25"]
UNARY = [
    "abs({})",
    "sqrt({})",
    "floor({})",
    "log1p({})",
    "sin({})",
    "exp({} / 1e4)",
    "-({})",
    "arctan({})",
    "round({}, 1)",
]
BINARY = [
    "({} + {})",
    "({} - {})",
    "({} * {})",
    "({} / {})",
    "minimum({}, {})",
    "hypot({}, {})",
    "arctan2({}, {})",
]
CONDITIONS = ["({} > {})", "({} <= {})", "({} != {})", "not ({} < {})"]


def formulas() -> st.SearchStrategy[str]:
    """Expressions that both Python with NumPy and the engine understand."""

    def grow(inner):
        one = st.builds(str.format, st.sampled_from(UNARY), inner)
        two = st.builds(str.format, st.sampled_from(BINARY), inner, inner)
        test = st.builds(str.format, st.sampled_from(CONDITIONS), inner, inner)
        return one | two | st.builds("where({}, {}, {})".format, test, inner, inner)

    return st.recursive(st.sampled_from(LEAVES), grow, max_leaves=8)


def plainly(text: str, cube: xr.Dataset) -> xr.DataArray:
    """What Python and xarray make of it."""

    def where(condition, a, b):
        return xr.where(condition, a, b)

    names = {name: cube[name] for name in (*cube.data_vars, *cube.coords)}
    functions = {
        n: getattr(np, n)
        for n in ["sqrt", "floor", "log1p", "sin", "exp", "arctan", "minimum", "hypot", "arctan2", "round"]
    }
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        text = text.replace("not ", "~")
        return xr.DataArray(eval(text, {**functions, "where": where, "abs": abs, **names}))


@settings(max_examples=25, deadline=None)
@given(cubes(inf=True, extra=False), formulas(), st.data())
def test_derive_equals_plain_xarray(cube, text, data):
    step = make_step("derive", {"expressions": {"new": text, "later": "new * 2"}})
    try:
        wanted = plainly(text, cube)
    except ArithmeticError:
        return  # constants only, such as 2 / (0.5 - 0.5)
    except TypeError:
        return  # ~ of a constant
    if wanted.dtype.kind not in "biuf":
        return
    full = check_step(step, cube, None, data.draw)
    assert full.new.dims == wanted.dims
    rtol = 1e-5 if full.new.dtype == "f4" else 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        np.testing.assert_allclose(full.new.values, wanted.values, rtol, 1e-6 if rtol > 1e-6 else 1e-9)
    assert full.new.dtype == wanted.dtype or not wanted.dims or full.new.dtype.kind == wanted.dtype.kind
    assert full.new.attrs == {}


@settings(max_examples=8, deadline=None)
@given(cubes(dtypes=("float32", "float64", "int16", "int32")), st.data())
def test_where(cube, data):
    limit = data.draw(st.floats(-60, 60))
    step = make_step("where", {"expression": f"lat > {limit} AND NOT lon = 2", "variables": None})
    condition = (cube.lat > limit) & ~(cube.lon == 2)
    expected = cube.assign({n: cube[n].where(condition).transpose(*cube[n].dims) for n in ("a", "fixed")})
    check_step(step, cube, expected, data.draw)


def value(text, **cube):
    return (
        parse(text)
        .evaluate(xr.Dataset({k: ("x", np.atleast_1d(v)) for k, v in cube.items()}))
        .values.tolist()
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a <> 2", [True, False, True]),
        ("a = 2 or a is null", [False, True, True]),
        ("A is not null", None),
        ("a in (1, 2)", [True, True, False]),
        ("a not in (1, 2)", [False, False, True]),
        ("0 < a < 2", [True, False, False]),
        ("coalesce(a, 9)", [1.0, 2.0, 9.0]),
        ("nullif(a, 2) is null", [False, True, True]),
        ("where(a > 1, a)", [None, 2.0, None]),
        ("greatest(a, 1.5)", [1.5, 2.0, 1.5]),
        ("maximum(a, 1.5)", [1.5, 2.0, None]),
        ("(a > 1) * 3", [0, 3, 0]),
        ("n / 2", [3.5, 4.0, 4.5]),
        ("n * 100", [700, 800, 900]),
        ("pow(n, 2)", [49.0, 64.0, 81.0]),
        ("-n % 5", [3, 2, 1]),
        ("clip(n, 7.5, 8)", [7.5, 8.0, 8.0]),
        ("round(n / 3, 1)", [2.3, 2.7, 3.0]),
        ("sign(n) + 2 * pi * 0", [1.0, 1.0, 1.0]),
    ],
)
def test_what_expressions_mean(text, found):
    cube = {"a": np.array([1.0, 2.0, np.nan]), "n": np.array([7, 8, 9], "int8")}
    if found is None:
        with pytest.raises(StepMistake, match="unknown name 'A'"):
            parse(text).check(xr.Dataset({k: ("x", v) for k, v in cube.items()}))
        return
    assert [None if one != one else one for one in value(text, **cube)] == found


def test_float32_stays_float32_with_plain_numbers():
    cube = xr.Dataset({"t": ("x", np.zeros(2, "f4"))})
    for text in ("t * (9 / 5) + 32", "sqrt(2) * t", "where(t > 1, t, 0.1)", "-t ** 2"):
        assert parse(text).check(cube).dtype == np.float32, text


@pytest.mark.parametrize("kind", ["days", "hours", "noleap", "360_day"])
def test_times_are_compared_with_texts_and_have_parts(kind):
    cube = xr.Dataset({"a": ("time", np.arange(60.0))}, {"time": times(kind, 60)})
    edge = cube.indexes["time"][20]
    text = edge.strftime("%Y-%m-%dT%H:%M:%S") if kind != "hours" else str(edge).replace(" ", "T")
    result = run_step(make_step("where", {"expression": f"time >= '{text}'"}), cube)
    xr.testing.assert_equal(result.a, cube.a.where(cube.time >= edge))
    months = run_step(make_step("derive", {"expressions": {"m": "month(time) * 100 + hour(time)"}}), cube)
    np.testing.assert_array_equal(months.m, cube.time.dt.month * 100 + cube.time.dt.hour)


def test_nan_and_zero_have_one_bit_pattern_each():
    cube = xr.Dataset({"a": ("x", [np.inf, np.nan, 0.0])})
    found = parse("a - a").evaluate(cube).values
    assert np.isnan(found[:2]).all() and not np.signbit(found).any()
    assert not np.signbit(parse("-abs(a) * 0").evaluate(cube).values).any()


def test_names_with_spaces_stand_in_quotes():
    cube = xr.Dataset({"2m temp": ("x", [1.0]), "b": ("x", [2.0])})
    assert parse('"2m temp" + b').evaluate(cube).item() == parse("`2m temp` + b").evaluate(cube).item() == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tmp + 1", "unknown name 'tmp'.*Did you mean 'temp'"),
        ("sqt(temp)", "unknown function 'sqt'.*Did you mean 'sqrt'"),
        ("temp +", "is no expression"),
        ("temp.values", "can't be used"),
        ("temp[0]", "can't be used"),
        ("(lambda: 1)()", "can't be called"),
        ("__import__('os')", "unknown function '__import__'"),
        ("temp.mean()", "can't be called"),
        ("temp ^ 2", r"Write x \*\* y"),
        ("temp if temp > 1 else 0", "Write where"),
        ("temp // 2", "Write floor"),
        ("temp > 1 and lat", "'lat' is no condition"),
        ("not temp", "'temp' is no condition"),
        ("time + 1", "times are no numbers"),
        ("time > 3", "numbers and times can't be compared"),
        ("time > 'yesterday'", "'yesterday' is no time"),
        ("month(lat)", r"month\(\) takes times"),
        ("sqrt(temp, 2)", "takes 1 arguments; 2 are given"),
        ("sqrt", "'sqrt' is a function; call it"),
        ("sqrt(*temp)", "can't be used"),
        ("temp in 3", "after 'in'"),
        ("'text'", "it must be a number"),
        ("temp is 3", "'is' stands only before null"),
        ("(" * 70 + "temp" + ")" * 70 + "+" + "-" * 70 + "temp", "nested more than 64"),
        ("temp" + "+ 1" * 3000, "at most 4096"),
        ("(yield temp)", "can't be used"),
        ("f'{temp}'", "can't be used|no expression"),
    ],
)
def test_mistakes(text, message):
    cube = xr.Dataset(
        {"temp": (("time", "lat"), np.zeros((2, 2)))},
        {"time": pd.date_range("2000", periods=2), "lat": [0.0, 1.0]},
    )
    with pytest.raises(StepMistake, match=message) as caught:
        make_step("derive", {"expressions": {"new": text}}).outline(outline_of(cube), {})
    assert caught.value.place == ("new",)


def test_a_condition_must_be_one_and_must_fit():
    cube = outline_of(xr.Dataset({"a": ("x", [1.0]), "b": (("x", "y"), [[1.0]])}, {"y": [1]}))
    with pytest.raises(StepMistake, match="is no condition but float64"):
        make_step("where", {"expression": "a + 1"}).outline(cube, {})
    with pytest.raises(StepMistake, match="varies along y, but 'a' has no such dimension"):
        make_step("where", {"expression": "b > y", "variables": ["a"]}).outline(cube, {})
    with pytest.raises(StepMistake, match="is a coordinate"):
        make_step("derive", {"expressions": {"y": "a"}}).outline(cube, {})


@settings(max_examples=5, deadline=None)
@given(cubes(dtypes=("float32", "float64", "int16")), st.sampled_from(["float32", "float64"]), st.data())
def test_cast(cube, dtype, data):
    step = make_step("cast", {"dtype": dtype, "each": None})
    check_step(step, cube, cube.assign(cube.data_vars).astype(dtype), data.draw)


@pytest.mark.parametrize(
    ("values", "dtype", "fits"),
    [
        ([1.9, -1.9], "int8", [1, -1]),
        ([127.9, -128.9], "int8", [127, -128]),
        ([128.0], "int8", None),
        ([np.nan], "int32", None),
        ([np.inf], "float32", [np.inf]),
        ([1e300], "float32", None),
        ([2.0**63], "int64", None),
        ([-(2.0**63)], "int64", [-(2**63)]),
        ([2.0**64], "uint64", None),
        ([-1.0], "uint8", None),
        ([0.0, 1.0], "bool", [False, True]),
        ([2.0], "bool", None),
        (np.array([300], "int64"), "uint8", None),
        (np.array([200], "int64"), "uint8", [200]),
    ],
)
def test_casts_are_strict(values, dtype, fits):
    cube = xr.Dataset({"a": ("x", np.asarray(values))})
    step = make_step("cast", {"dtype": None, "each": {"a": dtype}})
    if fits is None:
        with pytest.raises(ComputeError, match=f"does not fit into {dtype}"):
            run_step(step, cube)
    else:
        result = run_step(step, cube).a
        assert result.dtype == dtype and result.values.tolist() == fits
