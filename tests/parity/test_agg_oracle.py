"""Every aggregation against plain Python, on windows of every kind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parity.aggregation_cases import PARAMETERS, Case, cases, column, mismatches, name, windows

from featureflow.library.aggregations import AGGREGATIONS, make


def test_every_aggregation_has_a_case():
    tested = {op if isinstance(op, str) else next(iter(op)) for op, _ in PARAMETERS}
    assert tested == set(AGGREGATIONS)


@pytest.mark.parametrize(("op", "kind"), PARAMETERS, ids=name)
def test_equals_the_oracle(op: Any, kind: str):
    @settings(max_examples=20)
    @given(cases(kind))
    def check(case: Case):
        assert mismatches(op, case) == []

    check()


@pytest.mark.parametrize(("op", "kind"), PARAMETERS, ids=name)
def test_a_window_does_not_see_what_is_outside(op: Any, kind: str):
    """The same bits from any slice of the data that holds the windows, alone or in company."""

    @settings(max_examples=5)
    @given(cases(kind), st.data())
    def check(case: Case, data: st.DataObject):
        if not case.lo:
            return
        whole = make(op).compute(column(case), windows(case))
        a = data.draw(st.integers(0, len(case.lo) - 1))
        b = data.draw(st.integers(a, len(case.lo) - 1)) + 1
        first = data.draw(st.integers(0, case.lo[a]))
        stop = data.draw(st.integers(max(case.hi[a:b]), len(case.times)))
        part = make(op).compute(column(case, first, stop), windows(case, first, slice(a, b)))
        # repr tells every bit of a double, -0.0 and NaN included
        assert repr(part.to_pylist()) == repr(whole.slice(a, b - a).to_pylist())

    check()
