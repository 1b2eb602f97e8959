"""Sums and spreads where doubles lose digits."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.contracts.aggregation import EventColumn, Windows
from featureflow.core.errors import ComputeError
from featureflow.kernels.elementary import natural_log, power_of_two
from featureflow.library.aggregations import make


def over(op: object, values: list, lo: list[int], hi: list[int], kind: pa.DataType | None = None) -> list:
    array = np.array(values)
    events = EventColumn(
        array,
        np.ones(len(values), np.bool_),
        np.arange(len(values)),
        kind or pa.from_numpy_dtype(array.dtype),
    )
    return make(op).compute(events, Windows(np.array(lo), np.array(hi), np.array(hi))).to_pylist()


def test_a_large_value_leaves_no_trace():
    assert over("sum", [1e15, 0.1, 1e300, 0.2], [0, 1, 1, 3], [1, 2, 4, 4]) == [1e15, 0.1, 1e300, 0.2]


def test_an_infinity_leaves_no_nan():
    values = [1.0, math.inf, 2.0, -math.inf, 3.0]
    assert over("sum", values, [0, 1, 2, 2, 4], [1, 3, 3, 4, 5]) == [1.0, math.inf, 2.0, -math.inf, 3.0]
    assert math.isnan(over("sum", values, [0], [5])[0])
    assert math.isnan(over("stddev_samp", values, [0], [2])[0])
    assert over("stddev_samp", [math.inf, 1.0, 3.0], [0, 1], [1, 3]) == [None, math.sqrt(2)]


def test_variance_of_close_large_values():
    values = [100000.0, 100001.0, 1e15, 1e15 + 1]
    assert over("var_samp", values, [0, 2], [2, 4]) == [0.5, 0.5]
    assert over("stddev_pop", [1e308, -1e308], [0], [2]) == [1e308]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_sums_are_those_of_fsum(values):
    try:
        expected = math.fsum(values)
    except OverflowError:
        expected = float("inf") if sum(map(Fraction, values)) > 0 else float("-inf")
    assert over("sum", values, [0], [len(values)]) == [expected]


@given(st.lists(st.floats(-1e150, 1e150), min_size=2, max_size=20))
def test_both_widths_give_the_same_variance(values):
    """1e-300 makes the column too wide for 128-bit sums; outside the windows it must change nothing."""
    n = len(values)
    narrow = over("var_samp", [*values], [0, 1], [n, n])
    wide = over("var_samp", [1e-300, *values, 5e-324], [1, 2], [n + 1, n + 1])
    assert narrow == wide
    expected = statistics.variance(map(Fraction, values))
    assert narrow[0] == pytest.approx(float(expected), rel=1e-15, abs=1e-323)


def test_integer_sums_overflow_loudly():
    large = 2**62
    assert over("sum", [large, large - 1, -large], [0, 1], [2, 3]) == [2**63 - 1, -1]
    with pytest.raises(ComputeError, match="int64"):
        over("sum", [large, large], [0], [2])
    assert over("mean", [large, large], [0], [2]) == [float(large)]


@given(st.integers(1, 10**7))
def test_logarithms_are_right_to_two_ulp(n):
    assert abs(natural_log(np.array([n]))[0] - math.log(n)) <= 2 * math.ulp(math.log(n))


@given(st.floats(0, 1, exclude_max=True))
def test_powers_of_two_are_right_to_three_ulp(x):
    assert abs(power_of_two(np.array([x]))[0] - 2.0**x) <= 3 * math.ulp(2.0**x)
