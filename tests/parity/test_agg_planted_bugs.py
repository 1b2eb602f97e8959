"""The comparison with the oracle is itself tested: each of these bugs must be caught."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, find, settings
from hypothesis.errors import NoSuchExample
from parity.aggregation_cases import Case, cases, mismatches

from featureflow.contracts.aggregation import EventColumn, Windows
from featureflow.kernels import columns, counting, exact_sums, extrema, moments, ranks, recent
from featureflow.kernels.columns import Dense


def caught(op: Any, kind: str) -> bool:
    """Whether some case of the parity tests shows the bug."""
    try:
        find(
            cases(kind),
            lambda case: wrong(op, case),
            settings=settings(max_examples=100, phases=[Phase.generate], derandomize=True, database=None),
        )
    except NoSuchExample:
        return False
    return True


def wrong(op: Any, case: Case) -> bool:
    return bool(mismatches(op, case))


def one_event_too_many(events: EventColumn, windows: Windows) -> Dense:
    found = columns_dense(events, windows)
    return Dense(found.rows, found.lo, np.minimum(found.hi + 1, found.size), found.size)


def one_event_too_few(events: EventColumn, windows: Windows) -> Dense:
    found = columns_dense(events, windows)
    return Dense(found.rows, np.minimum(found.lo + 1, found.hi), found.hi, found.size)


columns_dense = columns.dense


def nulls_count(events: EventColumn, windows: Windows) -> Dense:
    return Dense(None, windows.lo, windows.hi, events.valid.size)


def running_sum(events: EventColumn, selected: Dense, *, divide: bool = False) -> np.ndarray:
    """Differences of a prefix of doubles: drifts, and an infinity never leaves."""
    prefix = np.zeros(selected.size + 1)
    with np.errstate(all="ignore"):
        np.cumsum(columns.dense_values(events, selected), out=prefix[1:])
        sums = prefix[selected.hi] - prefix[selected.lo]
        return sums / np.maximum(selected.counts, 1) if divide else sums


real_variances = moments.window_variances


def population_for_sample(events: EventColumn, selected: Dense, *, sample: bool, root: bool) -> np.ndarray:
    return real_variances(events, selected, sample=False, root=root)


def textbook_variance(events: EventColumn, selected: Dense, *, sample: bool, root: bool) -> np.ndarray:
    """E[x²] − E[x]², which cancels for 100000, 100001."""
    values = columns.dense_values(events, selected)
    out = np.zeros(selected.lo.size)
    with np.errstate(all="ignore"):
        for i, (lo, hi) in enumerate(zip(selected.lo, selected.hi, strict=True)):
            if hi - lo > int(sample):
                window = values[lo:hi]
                spread = max((window**2).mean() - window.mean() ** 2, 0.0)
                out[i] = spread * (hi - lo) / (hi - lo - int(sample))
    return np.sqrt(out) if root else out


real_extrema = extrema.window_extrema


def stale_extreme(keys: np.ndarray, lo: np.ndarray, hi: np.ndarray, *, largest: bool) -> np.ndarray:
    """An event that left the window stays for one more query."""
    return real_extrema(keys, np.concatenate([lo[:1], lo[:-1]]), hi, largest=largest)


real_neighbours = ranks.window_quantile_neighbours


def lower_quantile(chained: Any, selected: Dense, *, q: float) -> Any:
    below, _ = real_neighbours(chained, selected, q=q)
    return below, below


real_edges = recent.window_edges


def oldest_first(selected: Dense, *, k: int, newest: bool) -> Any:
    offsets, rows = real_edges(selected, k=k, newest=newest)
    return offsets, np.concatenate([np.sort(rows[a:b]) for a, b in itertools.pairwise(offsets)] or [rows])


real_distinct = counting.window_distinct


def distinct_never_forgets(codes: np.ndarray, size: int, selected: Dense) -> np.ndarray:
    return np.maximum.accumulate(real_distinct(codes, size, selected))


BUGS: list[tuple[str, Any, str, Any, str, Callable[..., Any]]] = [
    *(
        (f"one event too many: {op}", op, kind, columns, "dense", one_event_too_many)
        for op, kind in (
            ("count", "int"),
            ("sum", "float"),
            ("max", "int"),
            ("last", "string"),
            ("mode", "int"),
        )
    ),
    *(
        (f"one event too few: {op}", op, kind, columns, "dense", one_event_too_few)
        for op, kind in (("count", "int"), ("mean", "float"), ("median", "int"), ("first", "string"))
    ),
    *(
        (f"nulls count: {op}", op, kind, columns, "dense", nulls_count)
        for op, kind in (("count", "int"), ("sum", "int"), ("last", "bool"), ("count_distinct", "int"))
    ),
    ("running subtraction: sum", "sum", "nasty", exact_sums, "window_sums", running_sum),
    ("running subtraction drifts: sum", "sum", "float", exact_sums, "window_sums", running_sum),
    ("running subtraction: mean", "mean", "nasty", exact_sums, "window_sums", running_sum),
    ("population for sample", "stddev_samp", "float", moments, "window_variances", population_for_sample),
    ("textbook variance", "var_pop", "close", moments, "window_variances", textbook_variance),
    ("stale extreme", "max", "int", extrema, "window_extrema", stale_extreme),
    ("quantile without interpolation", "median", "int", ranks, "window_quantile_neighbours", lower_quantile),
    ("last_k oldest first", {"last_k": {"k": 3}}, "int", recent, "window_edges", oldest_first),
    ("distinct never forgets", "count_distinct", "int", counting, "window_distinct", distinct_never_forgets),
]


@pytest.mark.parametrize(
    ("op", "kind", "module", "function", "bug"), [b[1:] for b in BUGS], ids=[b[0] for b in BUGS]
)
def test_the_bug_is_caught(
    monkeypatch: pytest.MonkeyPatch, op: Any, kind: str, module: Any, function: str, bug: Callable[..., Any]
):
    monkeypatch.setattr(module, function, bug)
    assert caught(op, kind)


@pytest.mark.parametrize(("op", "kind"), [("sum", "nasty"), ("var_pop", "close"), ("median", "int")])
def test_without_a_bug_nothing_is_caught(op: str, kind: str):
    assert not caught(op, kind)


def test_a_result_has_the_declared_type():
    """A type that the contract does not declare would pass a comparison of Python values."""
    events = EventColumn(
        np.array([1, 2], np.int64), np.ones(2, np.bool_), np.array([0, 1], np.int64), pa.int32()
    )
    windows = Windows(np.zeros(1, np.int64), np.array([2], np.int64), np.array([5], np.int64))
    from featureflow.library.aggregations import make

    for op in ("min", "sum", "mean", "mode", {"last_k": {"k": 2}}, "histogram"):
        entry = make(op)
        assert entry.compute(events, windows).type == entry.output_type(pa.int32())
