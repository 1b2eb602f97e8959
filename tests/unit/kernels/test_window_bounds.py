"""Which events a window holds, against the words of the contract."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.kernels.bounds import window_bounds


def members(
    times: list[int], at: int, length: int | None, closed: str, delay: int, hop: int | None
) -> list[int]:
    """The rule, one event at a time."""
    end = at - delay
    found = []
    for i, e in enumerate(times):
        ends = e <= end if closed in ("right", "both") else e < end
        starts = True
        if length is not None:
            start = end - length
            if hop is not None:
                start -= start % hop
            starts = e >= start if closed in ("left", "both") else e > start
        if ends and starts:
            found.append(i)
    return found


times = st.lists(st.integers(-20, 20), max_size=10).map(sorted)


@given(
    st.lists(st.tuples(times, times), min_size=1, max_size=4),
    st.none() | st.integers(0, 15),
    st.sampled_from(["left", "right", "both", "none"]),
    st.sampled_from([0, 0, 3]),
    st.sampled_from([None, 1, 5, 7]),
)
def test_windows_hold_what_the_contract_says(groups, length, closed, delay, hop):
    events = np.array([e for group, _ in groups for e in group], np.int64)
    queries = np.array([q for _, group in groups for q in group], np.int64)
    event_offsets = np.cumsum([0, *(len(group) for group, _ in groups)])
    query_offsets = np.cumsum([0, *(len(group) for _, group in groups)])
    lo, hi = window_bounds(
        event_offsets, events, query_offsets, queries, length=length, closed=closed, delay=delay, tail_hop=hop
    )
    assert (lo <= hi).all()
    assert (np.diff(lo) >= 0).all()
    assert (np.diff(hi) >= 0).all()
    row = 0
    for g, (group, asked) in enumerate(groups):
        for at in asked:
            held = [i - event_offsets[g] for i in range(lo[row], hi[row])]
            assert held == members(group, at, length, closed, delay, hop)
            row += 1


def test_the_start_is_floored_before_1970_too():
    lo, hi = window_bounds(
        np.array([0, 3]),
        np.array([-10, -6, -5]),
        np.array([0, 1]),
        np.array([-1]),
        length=5,
        closed="left",
        tail_hop=10,
    )
    assert (lo[0], hi[0]) == (0, 3)


@pytest.mark.parametrize(
    "wrong",
    [{"closed": "open"}, {"length": -1}, {"delay": -1}, {"tail_hop": 0}, {"query_offsets": np.array([0])}],
)
def test_what_makes_no_window_is_refused(wrong):
    one = np.array([0, 1])
    arguments = {"event_offsets": one, "query_offsets": one, "length": 1, "closed": "left", **wrong}
    with pytest.raises(ValueError, match=r"unknown|negative|groups"):
        window_bounds(event_times=np.array([3]), query_times=np.array([3]), **arguments)
