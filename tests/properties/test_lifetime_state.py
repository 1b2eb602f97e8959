"""Rows that stand for the history give the same bits as the history, whatever is aggregated and wherever it is cut."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import featureflow as ff
from featureflow.execute.exchange.exchange_file import plain_arrow
from featureflow.execute.resume import carries_state, finite_reach_us
from featureflow.execute.windows.evaluate import Evaluator, Queries
from featureflow.execute.windows.lifetime import groups_of, make_state, sort_with_history
from featureflow.execute.windows.sorted_rows import SortedRows, sort_rows
from featureflow.plan.nodes import CompiledTable

HOUR = 3_600_000_000
TYPES = {
    "id": pl.Int64,
    "card": pl.Int64,
    "ts": pl.Datetime("us", "UTC"),
    "seq": pl.Int32,
    "amount": pl.Float64,
    "other": pl.Float64,
    "rare": pl.Float64,
    "small": pl.Float32,
    "n": pl.Int64,
    "flag": pl.Boolean,
    "shop": pl.String,
    "day": pl.Date,
}
ORDERED = (
    "min, max, first, last, count_distinct, "
    "{first_k: {k: 2}}, {last_k: {k: 2}}, {top_k: {k: 2}}, {bottom_k: {k: 3}}"
)
DISTINCT = "{first_k: {k: 2, distinct: true}}, {last_k: {k: 2, distinct: true}}"
SINCE = "seconds_since_first, seconds_since_last"
ARGS = "{argmax: {of: other}}, {argmin: {of: other}}"
EVERY = f"count, sum, mean, {ORDERED}, {SINCE}, {ARGS}"
SPEC = f"""
featureflow: 1
project: p
sources: {{tx: {{path: "data/*.parquet", time: ts, sequence: seq}}}}
features:
  t:
    source: tx
    keys: [card]
    aggregate:
      - {{column: amount, ops: [{EVERY}], windows: [3h, lifetime]}}
      - {{column: amount, ops: [{DISTINCT}], windows: [lifetime], as: "d_{{op}}"}}
      - {{column: amount, ops: [{EVERY}], windows: [lifetime], where: "shop = 'a'", closed: both, as: "a_{{op}}"}}
      - {{column: amount, ops: [{EVERY}], windows: [lifetime], delay: 5h, closed: right, as: "b_{{op}}"}}
      - column: amount
        ops: [{EVERY}]
        windows: [lifetime]
        by: shop
        values: [a, b]
        closed: none
        delay: 1h
        as: "c_{{op}}"
      - column: amount
        ops: [count, sum, max, {{argmax: {{of: rare}}}}, {{argmin: {{of: rare}}}}]
        windows: [lifetime]
        where: "n > 1"
        fill_empty: -1
        as: "e_{{op}}"
      - {{column: small, ops: [sum, mean, min], windows: [lifetime]}}
      - {{column: n, ops: [sum, mean, {ORDERED}], windows: [lifetime]}}
      - {{column: flag, ops: [any, all, sum, mean, max], windows: [lifetime]}}
      - {{column: shop, ops: [count, {ORDERED}], windows: [lifetime], closed: right}}
      - {{column: day, ops: [count, {ORDERED}], windows: [lifetime]}}
      - {{ops: [count], windows: [lifetime, 3h]}}
"""
PLAIN = (1.0, 2.5, 0.1, 0.2, -3.75, 0.0, -0.0, None, float("inf"), float("-inf"), float("nan"))
LARGE = (*PLAIN, 1e16, -1e16, 1e-9, 3e20)
WIDE = (*LARGE, 1e300, -1e300, 5e-324)
HUGE = (*WIDE, 1.7e308)  # sums that are no doubles


class Held:
    """A compiled table whose repr is short: Hypothesis prints its arguments."""

    def __init__(self, table: CompiledTable) -> None:
        self.table = table


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    folder = tmp_path_factory.mktemp("lifetime")
    (folder / "data").mkdir()
    frame(random.Random(0), 5, 10, PLAIN).write_parquet(folder / "data" / "0.parquet")
    return Held(compiled(folder, SPEC))


def compiled(folder: Path, spec: str) -> CompiledTable:
    (folder / "f.yaml").write_text(spec)
    options = {"store": str(folder / "store"), "scratch": str(folder / "scratch"), "scheduler": "threads"}
    return ff.Project(folder / "f.yaml", **options).plan().tables[0].table


def frame(rng: random.Random, n_rows: int, hours: int, values: tuple[Any, ...]) -> pl.DataFrame:
    rows = [
        {
            "id": i,
            "card": rng.choice([1, 2, 3, None]),
            "ts": rng.choice([rng.randrange(hours) * HOUR, rng.randrange(hours) * HOUR - 1, None, 0]),
            "seq": rng.choice([0, 1, None]),
            "amount": rng.choice(values),
            "other": rng.choice([1.0, 2.0, -0.0, 0.0, None]),
            "rare": rng.choice([1.0, *[None] * 20]),
            "small": rng.choice([0.1, 1e30, 1e-30, -5.5, None]),
            "n": rng.choice([1, 2, 3, -7, 2**55, None]),
            "flag": rng.choice([True, False, False, None]),
            "shop": rng.choice(["a", "b", "", "é", None]),
            "day": rng.choice([0, 1, 20_000, None]),
        }
        for i in range(n_rows)
    ]
    return pl.DataFrame(rows, schema={**TYPES, "ts": pl.Int64, "day": pl.Int32}).cast(TYPES)


def queries(rows: SortedRows, first: int, end: int) -> Queries:
    chosen = np.flatnonzero((rows.times >= first) & (rows.times < end))
    return Queries(np.searchsorted(chosen, rows.offsets).astype(np.int64), rows.times[chosen])


def texts(table: CompiledTable, evaluator: Evaluator) -> dict[str, str]:
    """Results to the bit: -0.0 is not 0.0."""
    return {name: repr(values.to_pylist()) for name, values in evaluator.features(table.features).items()}


def between(events: pa.Table, first: int | None, end: int) -> pa.Table:
    stamps = pl.DataFrame(events)["ts"].to_physical()
    mask = stamps < end if first is None else (stamps < end) & (stamps >= first)
    return events.filter(pa.array(mask.fill_null(value=False).to_list(), pa.bool_()))


def check_chain(table: CompiledTable, events: pa.Table, cuts: list[int]) -> int:
    """Evaluate slice by slice, each from the state of the one before; returns how many began with a state."""
    whole = sort_rows(events, table.keys, "ts", ("seq",))
    groups = groups_of(table)
    state, since, n_used = None, None, 0
    for start, end in zip([-(10**15), *cuts], [*cuts, 10**15], strict=True):
        loaded = between(events, since, end)
        if state is None:
            rows, history = sort_rows(loaded, table.keys, "ts", ("seq",)), None
        else:
            rows, history = sort_with_history(table, loaded, state, since)
            n_used += 1
        evaluator = Evaluator(rows, queries(rows, start, end), history, groups)
        found, expected = texts(table, evaluator), texts(table, Evaluator(whole, queries(whole, start, end)))
        wrong = {name for name in expected if found[name] != expected[name]}
        assert not wrong
        since = end - finite_reach_us(table)
        state = make_state(table, rows, evaluator.events, since)
        since = None if state is None else since
    return n_used


@settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    seed=st.integers(0, 2**20),
    n_rows=st.sampled_from([0, 3, 30, 120]),
    values=st.sampled_from([PLAIN, LARGE, WIDE, HUGE]),
    cuts=st.lists(st.integers(0, 40), min_size=1, max_size=4, unique=True),
)
def test_from_state_to_state_the_bits_stay(
    held: Held, seed: int, n_rows: int, values: Any, cuts: list[int]
) -> None:
    table = held.table
    assert carries_state(table)
    rng = random.Random(seed)
    events = plain_arrow(frame(rng, n_rows, 40, values))
    places = [hour * HOUR + rng.choice([0, 0, 1]) for hour in sorted(cuts)]
    n_used = check_chain(table, events, places)
    if values is not HUGE:
        assert n_used == len(places)
