"""Statistics of a column: least, greatest and sum, whatever is under the nulls."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from featureflow.kernels.summary import summarize

INTEGERS = st.integers(-(2**63), 2**63 - 1)


def parts(array: pa.Array, dtype: str) -> tuple[np.ndarray, np.ndarray | None, int]:
    validity, data = array.buffers()
    values = np.frombuffer(data, dtype, count=array.offset + len(array))[array.offset :]
    return values, None if array.null_count == 0 else np.frombuffer(validity, np.uint8), array.offset


@given(st.lists(st.none() | INTEGERS, min_size=1, max_size=300).filter(any), st.integers(0, 9))
def test_integers_are_exact(values: list[int | None], cut: int) -> None:
    array = pa.array([7] * cut + values, pa.int64()).slice(cut)
    found = [v for v in values if v is not None]
    assert summarize(*parts(array, "i8")) == (min(found), max(found), sum(found))


@given(st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1, max_size=300), st.integers(0, 9))
def test_floats(values: list[float | None], cut: int) -> None:
    found = [v for v in values if v is not None]
    if not found:
        return
    array = pa.array([7.5] * cut + values, pa.float64()).slice(cut)
    low, high, total = summarize(*parts(array, "f8"))
    assert (low, high) == (min(found), max(found))
    assert math.isclose(total, math.fsum(found), rel_tol=1e-9, abs_tol=1e-3)


def test_infinities_and_nan() -> None:
    assert summarize(np.array([np.inf, 1.0]), None, 0) == (1.0, np.inf, np.inf)
    assert summarize(np.array([np.inf]), None, 0) == (np.inf, np.inf, np.inf)
    low, high, total = summarize(np.array([np.nan, 2.0, -np.inf]), None, 0)
    assert (low, high) == (-np.inf, 2.0) and math.isnan(total)
    assert all(math.isnan(v) for v in summarize(np.array([np.nan]), None, 0))
