"""The radix order equals NumPy's comparison sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.kernels.ordering import group_order, offsets_from_codes, runs_of_ties, sort_order

rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(-5, 5), st.integers(0, 2), st.floats(0, 1)), max_size=40
)


@given(rows, st.sampled_from([1, 1000, 10**6, 10**15]), st.sampled_from([0, 7, -(2**62)]))
def test_order_is_by_key_time_and_ties(table, unit, origin):
    codes, times, first, second = (
        (np.array(list(c)) for c in zip(*table, strict=True)) if table else [np.zeros(0, int)] * 4
    )
    times = times.astype(np.int64) * unit + origin
    assert group_order(codes, times).tolist() == np.lexsort((times, codes)).tolist()
    expected = np.lexsort((second, first, times, codes)).tolist()
    assert group_order(codes, times, first, second).tolist() == expected
    assert group_order(codes, np.sort(times)).tolist() == np.lexsort((np.sort(times), codes)).tolist()
    codes, times = codes[expected], times[expected]
    offsets = offsets_from_codes(codes, 6)
    assert all((codes[offsets[g] : offsets[g + 1]] == g).all() for g in range(6))
    starts, stops = runs_of_ties(codes, times)
    tied = {i for a, b in zip(starts, stops, strict=True) for i in range(a, b)}
    pairs = list(zip(codes.tolist(), times.tolist(), strict=True))
    assert tied == {i for i, pair in enumerate(pairs) if pairs.count(pair) > 1}
    assert all(len(set(pairs[a:b])) == 1 for a, b in zip(starts, stops, strict=True))


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_any_integers_sort(values):
    keys = np.array(values, np.int64)
    assert sort_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()


def test_distances_that_need_64_bits_keep_their_unit():
    """-2**63 and 1 are an odd distance apart, but their difference wraps to a multiple of nothing useful."""
    keys = np.array([2**63 - 1, -(2**63), 1, 0, 2, -(2**63) + 1], np.int64)
    assert sort_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()


@pytest.mark.parametrize("codes", [np.array([-1]), np.array([0, 1])])
def test_bad_codes_are_refused(codes):
    with pytest.raises(ValueError, match=r"negative|shape"):
        group_order(codes, np.array([0]))
