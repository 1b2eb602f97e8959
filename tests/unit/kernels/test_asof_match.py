"""As-of matches against a loop over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.kernels.asof import NEVER, asof_match, asof_match_known, asof_match_valid, tied_matches

row = st.tuples(st.integers(0, 2), st.integers(-8, 8), st.integers(-2, 10) | st.just(NEVER), st.booleans())


def offsets(codes: list[int]) -> np.ndarray:
    return np.searchsorted(codes, np.arange(4)).astype(np.int64)


@given(
    st.lists(row, max_size=20),
    st.lists(st.tuples(st.integers(0, 2), st.integers(-9, 12)), max_size=15),
    st.booleans(),
    st.sampled_from([None, 0, 3]),
)
def test_matches_are_the_latest_allowed_rows(right, left, exact, ttl):
    right.sort(key=lambda r: r[:2])
    left.sort()
    codes, times, delays, valid = (
        (list(part) for part in zip(*right, strict=True)) if right else ([], [], [], [])
    )
    known = [d if d == NEVER else t + d for t, d in zip(times, delays, strict=True)]
    sides = (
        offsets(codes),
        np.array(times, np.int64),
        offsets([code for code, _ in left]),
        np.array([t for _, t in left], np.int64),
    )
    knowledge = np.array(known, np.int64)
    flags = np.array(valid, np.bool_)

    def best(allowed):
        found = []
        for code, t in left:
            matches = [
                j
                for j in range(len(right))
                if codes[j] == code
                and (times[j] <= t if exact else times[j] < t)
                and (ttl is None or times[j] >= t - ttl)
                and allowed(j, t)
            ]
            found.append(matches[-1] if matches else -1)
        return found

    options = {"allow_exact": exact, "ttl": ttl}
    by_time = asof_match(*sides, **options)
    assert by_time.tolist() == best(lambda j, t: True)
    by_knowledge = asof_match_known(*sides[:2], knowledge, *sides[2:], **options)
    assert by_knowledge.tolist() == best(lambda j, t: known[j] <= t)
    assert asof_match_valid(flags, *sides, **options).tolist() == best(lambda j, t: valid[j])
    skipped = asof_match_valid(flags, *sides, right_known=knowledge, **options)
    assert skipped.tolist() == best(lambda j, t: valid[j] and known[j] <= t)

    def tied(match, allowed):
        return [
            j >= 0
            and any(
                i != j and codes[i] == codes[j] and times[i] == times[j] and allowed(i, t)
                for i in range(len(right))
            )
            for j, (_, t) in zip(match, left, strict=True)
        ]

    assert tied_matches(by_time, sides[0], sides[1], sides[3]).tolist() == tied(by_time, lambda i, t: True)
    rivals = tied_matches(by_knowledge, sides[0], sides[1], sides[3], right_known=knowledge)
    assert rivals.tolist() == tied(by_knowledge, lambda i, t: known[i] <= t)


def test_an_older_event_that_became_known_later_hides_nothing():
    one = np.array([0, 2]), np.array([0, 1])
    match = asof_match_known(one[0], np.array([1, 5]), np.array([9, 6]), one[1], np.array([10]))
    assert match.tolist() == [1]


def test_a_negative_ttl_is_refused():
    one = np.array([0, 1])
    with pytest.raises(ValueError, match="ttl"):
        asof_match(one, one[:1], one, one[:1], ttl=-1)
