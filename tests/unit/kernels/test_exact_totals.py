"""Exact totals: equal to fractions, whatever the parts; narrowing finds what float32 can't hold."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.kernels.exact_totals import Totals, narrow, totals

WIDE = st.floats(allow_nan=False, allow_infinity=False)
NARROW = st.floats(width=32, allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**63), 2**63 - 1)


def exact(found: Totals) -> tuple[Fraction, Fraction]:
    unit = Fraction(2) ** found.unit
    return found.total * unit, found.squares * unit * unit


def check(values: list[float], dtype: str, cut: int) -> None:
    array = np.array(values, dtype)
    found = totals(array)
    fractions = [Fraction(v) for v in array.tolist()]
    assert found.count == len(values)
    assert exact(found) == (sum(fractions), sum(f * f for f in fractions))
    assert totals(array[:cut]) + totals(array[cut:]) == found
    if values:
        assert (found.smallest, found.largest) == (min(array.tolist()), max(array.tolist()))
        mean = sum(fractions) / len(values)
        assert found.mean == float(mean)
        variance = sum((f - mean) ** 2 for f in fractions) / len(values)
        # the root of the float is wrong by rounding twice, half an ulp each, and by underflow of the square
        if 1e-290 < variance < 1e290:
            assert found.std == pytest.approx(math.sqrt(variance), rel=4e-16)


@given(st.lists(WIDE, max_size=20), st.integers(0, 20))
def test_doubles(values: list[float], cut: int) -> None:
    check([v for v in values if abs(v) < 1e300], "float64", cut)


@given(st.lists(NARROW, max_size=20), st.integers(0, 20))
def test_singles(values: list[float], cut: int) -> None:
    check(values, "float32", cut)


@given(st.lists(WHOLE, max_size=20), st.integers(0, 20))
def test_integers(values: list[int], cut: int) -> None:
    check(values, "int64", cut)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.integers(0, 20))
def test_unsigned(values: list[int], cut: int) -> None:
    check(values, "uint64", cut)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "bool", "float16"])
def test_other_types(dtype: str) -> None:
    values = np.array([1, 0, 1, 1]).astype(dtype)
    found = totals(values)
    assert (found.mean, found.std) == (0.75, pytest.approx(math.sqrt(3) / 4, rel=1e-15))


def test_extremes_of_doubles() -> None:
    tiny, huge = 5e-324, 1.7976931348623157e308
    assert exact(totals(np.array([huge, tiny, -huge])))[0] == Fraction(tiny)
    assert totals(np.array([huge, -huge])).std == huge
    assert totals(np.array([tiny, tiny])).mean == tiny


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinities(dtype: str) -> None:
    values = np.array([1.0, np.nan, np.inf, 3.0, -np.inf], dtype)
    found = totals(values)
    assert (found.count, found.infinite, found.mean, found.smallest, found.largest) == (2, 2, 2.0, 1.0, 3.0)
    nothing = totals(np.array([np.nan], dtype))
    assert (nothing.count, nothing.mean, nothing.std, nothing.smallest) == (0, None, None, None)
    only = totals(np.array([np.inf], dtype))
    assert (only + found).infinite == (found + only).infinite == 3


def test_different_units_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        totals(np.array([1.0])) + totals(np.array([1.0], np.float32))


def test_narrow() -> None:
    values = np.array([[0.5, 0.1], [np.nan, np.inf], [-1e39, 1e-60]])
    narrowed, missing, beyond, error = narrow(values, 0, 4)
    assert (missing, beyond) == (1, 4)
    np.testing.assert_array_equal(narrowed[:2], values[:2].astype(np.float32))
    assert error == abs(float(np.float32(0.1)) - 0.1) / 0.1
    assert narrow(values, 4, 6)[3] == 1.0, "a value that becomes zero loses all"
    assert narrow(values, 0, 1)[3] == 0.0
