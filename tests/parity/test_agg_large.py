"""What small windows cannot show: trees of several levels, thousands of distinct values, the sketches' accuracy."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from oracle.aggregates import aggregate
from parity.aggregation_cases import close, name

from featureflow.contracts.aggregation import EventColumn, Windows
from featureflow.kernels.bounds import window_bounds
from featureflow.library.aggregations import make

N, GROUPS, LENGTH = 3000, 3, 40_000


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray, Windows]:
    rng = np.random.default_rng(11)
    codes = np.sort(rng.integers(0, GROUPS, N))
    times = rng.integers(0, 200_000, N)
    times = times[np.lexsort((times, codes))]
    offsets = np.searchsorted(codes, np.arange(GROUPS + 1))
    lo, hi = window_bounds(offsets, times, offsets, times, length=LENGTH, closed="right")
    return codes, times, rng.integers(0, 400, N), Windows(lo, hi, times, LENGTH)


OPS = [
    *("max", "median", "mode", "histogram", "count_distinct", "entropy", "sum", "var_pop"),
    *("skew", "kurtosis", "slope", "approx_count_distinct"),
    *({op: {"k": 4}} for op in ("top_k", "bottom_k", "last_k")),
    {"first_k": {"k": 4, "distinct": True}},
    {"last_k": {"k": 4, "distinct": True}},
    {"quantile": {"q": 0.9}},
    {"ewm_mean": {"half_life": "10ms"}},
]


@pytest.mark.parametrize("op", OPS, ids=name)
def test_windows_of_hundreds_of_events(op: Any):
    _, times, values, windows = table()
    kind, params = (op, {}) if isinstance(op, str) else next(iter(op.items()))
    events = EventColumn(values, np.ones(N, np.bool_), times, pa.int64())
    ours = make(op).compute(events, windows).to_pylist()
    for i in [*range(0, N, 97), N - 1]:
        cells = [(int(times[j]), int(values[j]), None) for j in range(windows.lo[i], windows.hi[i])]
        theirs = aggregate(kind, params, cells, int(times[i]))
        if kind == "approx_count_distinct":
            assert abs(ours[i] - theirs) <= 0.05 * theirs + 2
        else:
            assert close(op, ours[i], theirs, 400.0), (i, ours[i], theirs)


def lifetime(values: np.ndarray) -> tuple[EventColumn, Windows]:
    n = values.size
    events = EventColumn(values, np.ones(n, np.bool_), np.arange(n), pa.from_numpy_dtype(values.dtype))
    rows = np.arange(n)
    return events, Windows(np.zeros(n, np.int64), rows + 1, rows)


def test_histogram_of_ten_thousand_values():
    values = np.random.default_rng(3).integers(0, 10_000, 12_000)
    events, windows = lifetime(values)
    windows = Windows(windows.lo[-2:], windows.hi[-2:], windows.at[-2:])
    for result, n in zip(make("histogram").compute(events, windows).to_pylist(), windows.hi, strict=True):
        assert result == sorted(Counter(values[:n].tolist()).items())


@pytest.mark.parametrize("distinct", [100, 3_000, 50_000])
def test_approximate_distinct_counts_are_within_5_percent(distinct: int):
    events, windows = lifetime(np.random.default_rng(5).integers(0, distinct, 60_000))
    exact = make("count_distinct").compute(events, windows).to_numpy()
    ours = make("approx_count_distinct").compute(events, windows).to_numpy()
    assert (np.abs(ours - exact) <= 0.05 * exact + 1).all()
    assert np.sqrt(np.mean(((ours - exact) / exact) ** 2)) < 0.02


@pytest.mark.parametrize("q", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_approximate_quantiles_are_within_1_percent(q: float):
    values = np.random.default_rng(7).lognormal(0, 4, 20_000) * np.where(
        np.arange(20_000) % 5 == 0, -1.0, 1.0
    )
    events, windows = lifetime(values)
    pick = np.arange(0, 20_000, 501)
    windows = Windows(windows.lo[pick], windows.hi[pick], windows.at[pick])
    ours = make({"approx_quantile": {"q": q}}).compute(events, windows).to_numpy()
    exact = [np.sort(values[: i + 1])[int(np.floor(q * i))] for i in pick]
    np.testing.assert_allclose(ours, exact, rtol=0.01)
