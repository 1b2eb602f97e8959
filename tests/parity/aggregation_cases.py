"""Random windows over random events, and the comparison of an aggregation with the oracle on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from oracle.aggregates import aggregate

from featureflow.contracts.aggregation import EventColumn, Windows
from featureflow.library.aggregations import make

FLOATS = [0.0, -0.0, 1.0, -1.0, 2.5, 0.1, 3.0, 100000.0, 100001.0, 1e15, -1e15, 1e15 + 2]
NASTY = [*FLOATS, math.inf, -math.inf, 5e-324, -5e-324, 1e-300, 1e308, -1e308, 1.7976931348623157e308, 1e16]
POOLS: dict[str, list[Any]] = {
    "float": FLOATS,
    "nasty": NASTY,
    "close": [1e15, 1e15 + 1, 1e15 + 2, 100000.1, 100000.2, 0.1],
    "int": [0, 1, -1, 2, 3, 7, 100000, 100001, 2**40, -(2**40)],
    "string": ["", "a", "b", "ab", "é", "z"],
    "bool": [True, False],
    "timestamp": [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=h) for h in (0, 1, 5, -(10**6))],
}
TYPES = {
    "float": pa.float64(),
    "nasty": pa.float64(),
    "close": pa.float64(),
    "int": pa.int64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
}
NUMERIC = ("float", "nasty", "int")
ANY = ("nasty", "int", "string", "bool", "timestamp")

#: (YAML form, kinds of columns)
CASES: list[tuple[Any, Sequence[str]]] = [
    *((op, ANY) for op in ("count", "min", "max", "first", "last", "count_distinct", "mode", "histogram")),
    *((op, ("nasty", "string")) for op in ("approx_count_distinct", "entropy")),
    *((op, (*NUMERIC, "bool")) for op in ("sum", "mean", "stddev_samp", "var_pop", "slope")),
    *((op, ("close",)) for op in ("sum", "var_pop", "var_samp", "skew", "kurtosis", "slope")),
    *((op, NUMERIC) for op in ("stddev_pop", "var_samp", "skew", "kurtosis", "median")),
    *(({"quantile": {"q": q}}, ("nasty", "int")) for q in (0, 0.25, 0.95, 1)),
    *(({"approx_quantile": {"q": q}}, NUMERIC) for q in (0.1, 0.5, 1)),
    *(({op: {"k": 3}}, ANY) for op in ("first_k", "last_k", "top_k", "bottom_k")),
    *(({op: {"k": 2, "distinct": True}}, ("nasty", "string", "int")) for op in ("first_k", "last_k")),
    *((op, ("bool",)) for op in ("any", "all")),
    *((op, ("float", "string")) for op in ("seconds_since_last", "seconds_since_first", "mean_gap_seconds")),
    ({"ewm_mean": {"half_life": "3us"}}, NUMERIC),
    *(({op: {"of": "other"}}, ANY) for op in ("argmax", "argmin")),
]
PARAMETERS = [(op, kind) for op, kinds in CASES for kind in kinds]


def name(value: Any) -> str:
    return value if isinstance(value, str) else "-".join(str(part) for part in walk(value))


def walk(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for item in value.items() for one in item for part in walk(one)]
    return [value]


@dataclass
class Case:
    """Events sorted by (group, time), with the windows of queries at other times."""

    times: list[int]
    values: list[Any]
    others: list[Any]
    offsets: list[int]
    lo: list[int]
    hi: list[int]
    at: list[int]
    kind: str


def bounds(
    times: Sequence[int], first: int, stop: int, at: int, length: int | None, closed: str, delay: int
) -> tuple[int, int]:
    """Window of one query, from the words of the contract, one event at a time."""
    end = at - delay
    before, inside = 0, 0
    for time in times[first:stop]:
        ended = time > end if closed in ("right", "both") else time >= end
        started = length is None or (
            time >= end - length if closed in ("left", "both") else time > end - length
        )
        if not ended and not started:
            before += 1
        elif not ended:
            inside += 1
    return first + before, first + before + inside


@st.composite
def cases(draw: st.DrawFn, kind: str) -> Case:
    """Few groups, many ties, some nulls; windows from nothing to everything, with jumps between groups."""
    pool = st.sampled_from(POOLS[kind])
    if kind == "nasty" and draw(st.booleans()):
        pool = st.floats(allow_nan=False, width=64)
    cell = st.none() | pool if draw(st.booleans()) else pool
    times: list[int] = []
    values: list[Any] = []
    others: list[Any] = []
    offsets, lo, hi, at = [0], [], [], []
    length = draw(st.sampled_from([None, 1, 4, 20, 5000]))
    closed = draw(st.sampled_from(["left", "right", "both", "none"]))
    delay = draw(st.sampled_from([0, 0, 3]))
    start = draw(st.sampled_from([0, -7, 1_600_000_000_000_000]))
    step = draw(st.sampled_from([1, 1, 400]))
    for _ in range(draw(st.integers(1, 3))):
        moments = sorted(draw(st.lists(st.integers(0, 12), max_size=12)))
        group = [start + step * moment for moment in moments]
        times += group
        values += draw(st.lists(cell, min_size=len(group), max_size=len(group)))
        others += draw(
            st.lists(
                st.none() | st.sampled_from([1.5, -0.0, 0.0, 2.0]), min_size=len(group), max_size=len(group)
            )
        )
        asked = draw(st.lists(st.integers(-2, 16), max_size=6))
        moments_asked = sorted([*group, *(start + step * q for q in asked)])
        for moment in moments_asked:
            left, right = bounds(times, offsets[-1], len(times), moment, length, closed, delay)
            lo.append(left)
            hi.append(right)
            at.append(moment)
        offsets.append(len(times))
    return Case(times, values, others, offsets, lo, hi, at, kind)


def physical(kind: str, values: Sequence[Any]) -> tuple[np.ndarray, pa.Array | None]:
    """Values as the engine hands them over; nulls become arbitrary rubbish."""
    if kind == "string":
        categories = sorted({value for value in values if value is not None})
        codes = [categories.index(value) if value is not None else 0 for value in values]
        return np.array(codes, np.int32), pa.array(categories, pa.string())
    if kind == "timestamp":
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        micro = [77 if value is None else (value - epoch) // timedelta(microseconds=1) for value in values]
        return np.array(micro, np.int64), None
    dtype = {"int": np.int64, "bool": np.bool_}.get(kind, np.float64)
    rubbish = {"int": 10**17, "bool": True}.get(kind, math.nan)
    return np.array([rubbish if value is None else value for value in values], dtype), None


def column(case: Case, first: int = 0, stop: int | None = None) -> EventColumn:
    """The case's events as a column; with ``first`` and ``stop``, only that slice of them."""
    part = slice(first, stop)
    values, categories = physical(case.kind, case.values[part])
    others, _ = physical("float", case.others[part])
    times = np.array(case.times[part], np.int64)
    there = np.array([value is not None for value in case.others[part]], np.bool_)
    return EventColumn(
        values,
        np.array([value is not None for value in case.values[part]], np.bool_),
        times,
        TYPES[case.kind],
        categories,
        EventColumn(others, there, times, pa.float64()),
    )


def windows(case: Case, first: int = 0, queries: slice = slice(None)) -> Windows:
    """The case's windows, over events that start at ``first``."""
    lo, hi, at = (np.array(part[queries], np.int64) for part in (case.lo, case.hi, case.at))
    return Windows(lo - first, hi - first, at)


def expected(op: Any, case: Case) -> list[Any]:
    """The oracle's answer for every query."""
    kind, params = (op, {}) if isinstance(op, str) else next(iter(op.items()))
    answers = []
    for left, right, at in zip(case.lo, case.hi, case.at, strict=True):
        cells = [
            (case.times[i], case.values[i], case.others[i])
            for i in range(left, right)
            if case.values[i] is not None
        ]
        answers.append(aggregate(kind, params, cells, at))
    return answers


def close(op: Any, ours: Any, theirs: Any, scale: float) -> bool:
    """Equal, or within what the aggregation promises."""
    kind = op if isinstance(op, str) else next(iter(op))
    if ours is None or theirs is None or not isinstance(theirs, float):
        if kind == "approx_count_distinct":
            return abs(ours - theirs) <= 1
        return ours == theirs
    if math.isnan(theirs) or math.isinf(theirs) or math.isnan(ours):
        return repr(ours) == repr(theirs)
    if kind in ("sum", "min", "max", "first", "last", "mode", "argmax", "argmin") or "second" in kind:
        return ours == theirs
    relative, absolute = {
        "mean": (3e-16, 5e-324),
        "approx_quantile": (0.01, 1e-300),
        "entropy": (1e-14, 1e-14),
        "kurtosis": (1e-14, 1e-14),
        "quantile": (1e-15, 4e-16 * scale + 5e-324),
        "median": (1e-15, 4e-16 * scale + 5e-324),
    }.get(kind, (4e-15, 1e-323))
    return math.isclose(ours, theirs, rel_tol=relative, abs_tol=absolute)


def mismatches(op: Any, case: Case) -> list[str]:
    """Where the engine and the oracle differ, in words."""
    result = make(op).compute(column(case), windows(case))
    result.validate(full=True)
    found = []
    for i, (ours, theirs) in enumerate(zip(result.to_pylist(), expected(op, case), strict=True)):
        inside = [v for v in case.values[case.lo[i] : case.hi[i]] if isinstance(v, int | float)]
        scale = max((abs(float(v)) for v in inside if math.isfinite(v)), default=0.0)
        if not close(op, ours, theirs, scale):
            content = case.values[case.lo[i] : case.hi[i]]
            found.append(f"query {i} of {content}: {ours!r}, expected {theirs!r}")
    return found
