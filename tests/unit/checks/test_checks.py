"""Checks: which rows fail, that partial results merge to the whole, and what the verdict says."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.contracts.check import CheckPartial, CheckSpec, RowCheck
from featureflow.library.checks.evaluate import ROW_CHECKS, bad_rows, evaluate, merge, validate, verdict

FRAME = pl.DataFrame(
    {
        "x": [1.0, -5.0, None, 7.0],
        "s": ["web", "pos", None, "Web"],
        "t": [dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (1, 2, 3, 4)],
        "l": [[1], [1], None, [2]],
        "b": [True, False, None, True],
        "same": [1, 1, 1, 1],
        "none": [None, None, None, None],
    },
    schema_overrides={"none": pl.Int64},
)


def spec(kind: str, column: str | None = None, value: Any = None, **more: Any) -> CheckSpec:
    return CheckSpec(kind, "features.card_spend.checks[0]", column, value, **more)


@pytest.mark.parametrize(
    ("check", "wanted"),
    [
        (spec("not_null", "x", True), [0, 0, 1, 0]),
        (spec("min", "x", 0), [0, 1, 0, 0]),
        (spec("min", "x", 1.0), [0, 1, 0, 0]),
        (spec("max", "x", 1), [0, 0, 0, 1]),
        (spec("min", "t", "2026-01-02"), [1, 0, 0, 0]),
        (spec("max", "t", "2026-01-03T00:00:00Z"), [0, 0, 0, 1]),
        (spec("min", "s", "web"), [0, 1, 0, 1]),
        (spec("in_set", "s", ["web", "pos"]), [0, 0, 0, 1]),
        (spec("in_set", "x", [1, 7, None]), [0, 1, 0, 0]),
        (spec("in_set", "b", [True]), [0, 1, 0, 0]),
        (spec("matches", "s", "^[a-z]+$"), [0, 0, 0, 1]),
        (spec("matches", "s", "e"), [0, 1, 0, 0]),
        (spec("expression", None, "x > 0 and s = 'web'"), [0, 1, 0, 1]),
        (spec("unique", "l", True), [0, 1, 0, 0]),
        (spec("unique", None, ["l", "s"]), [0, 0, 0, 0]),
        (spec("row_count", None, 9), [0, 0, 0, 0]),
        (spec("unique", "b", True), [0, 0, 0, 1]),
        (spec("unique", None, ["same", "none"]), [0, 0, 0, 0]),  # nulls are not compared
        (spec("unique", "same", True), [0, 1, 1, 1]),
    ],
)
def test_bad_rows(check: CheckSpec, wanted: list[int]) -> None:
    validate(check, FRAME.schema)
    bad = bad_rows(check, FRAME)
    assert bad.dtype == pl.Boolean
    assert bad.to_list() == [bool(each) for each in wanted]
    assert evaluate(check, FRAME).bad == sum(wanted)
    assert bad_rows(check, FRAME.clear()).to_list() == []


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (spec("minn", "x", 0), "no check 'minn'"),
        (spec("min", "y", 0), "no column 'y'"),
        (spec("min", None, 0), "needs a `column`"),
        (spec("min", "s", 0), "can't be compared"),
        (spec("min", "x", "0"), "can't be compared"),
        (spec("min", "x", True), "can't be compared"),
        (spec("max", "t", "soon"), "can't be compared"),
        (spec("not_null", "x", False), "write true"),
        (spec("in_set", "x", 3), "list of values"),
        (spec("in_set", "x", []), "list of values"),
        (spec("matches", "x", "a"), "no string"),
        (spec("matches", "s", "("), "no regular expression"),
        (spec("expression", None, "x + 1"), "true or false"),
        (spec("expression", None, "sum(x) > 1"), "aggregates"),
        (spec("unique", None, ["x", "q"]), "no column 'q'"),
        (spec("unique", None, True), "unique:"),
        (spec("row_count", None, {"mn": 1}), "row_count"),
        (spec("row_count", None, {"min": 5, "max": 1}), "row_count"),
        (spec("row_count", None, 1, on_fail="quarantine"), "no rows to quarantine"),
        (spec("freshness", None, "2 days"), "duration"),
        (spec("schema", None, {"x": "flaot"}), "not a type"),
        (spec("min", "x", 0, share=1.5), "share"),
        (spec("min", "x", 0, on_fail="panic"), "on_fail"),
    ],
)
def test_wrong_entries(check: CheckSpec, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        validate(check, FRAME.schema, time="t")


def test_freshness_needs_a_time() -> None:
    with pytest.raises(ValueError, match="time"):
        validate(spec("freshness", None, "2d"), FRAME.schema)


def test_message_of_a_failed_bound() -> None:
    check = spec("min", "x", 0)
    result = verdict(check, evaluate(check, FRAME))
    assert not result.passed
    assert result.message == "features.card_spend.checks[0]: x min 0: 1 of 4 rows are below 0 (e.g. -5.0)"


@pytest.mark.parametrize(
    ("share", "bad", "passed"), [(0.99, 1, True), (0.99, 2, False), (1.0, 1, False), (0, 100, True)]
)
def test_share(share: float, bad: int, passed: bool) -> None:
    check = spec("min", "x", 0, share=share)
    assert verdict(check, CheckPartial(100, bad)).passed is passed


def test_no_rows_pass_row_checks() -> None:
    check = spec("not_null", "x", True, share=0.5)
    assert verdict(check, CheckPartial()).passed


@pytest.mark.parametrize(
    ("value", "rows", "passed"),
    [(3, 3, True), (3, 2, False), ({"max": 3}, 4, False), ({"min": 1, "max": 3}, 2, True)],
)
def test_row_count(value: object, rows: int, passed: bool) -> None:
    assert verdict(spec("row_count", None, value), CheckPartial(rows)).passed is passed


def test_freshness() -> None:
    check = spec("freshness", None, "2d")
    whole = evaluate(check, FRAME, time="t")
    four = int(dt.datetime(2026, 1, 4, tzinfo=dt.UTC).timestamp()) * 10**6
    assert whole.newest == four
    day = 86_400 * 10**6
    assert verdict(check, whole, now=four + 2 * day).passed
    late = verdict(check, whole, now=four + 3 * day)
    assert not late.passed
    assert "72.0 h old; at most 48.0 h" in late.message
    assert not verdict(check, CheckPartial(), now=four).passed


def test_schema() -> None:
    check = spec("schema", None, {"x": "double", "s": "string", "t": "timestamp"})
    assert verdict(check, evaluate(check, FRAME)).passed
    wrong = spec("schema", None, {"x": "float32", "q": "int64"})
    assert verdict(wrong, evaluate(wrong, FRAME)).message.endswith(
        "x is float64, not float32; q is missing, not int64"
    )


values = st.lists(st.one_of(st.none(), st.integers(-20, 20)), max_size=30)


@given(data=values, cut=st.integers(0, 30), kind=st.sampled_from(["min", "max", "not_null", "in_set"]))
def test_partials_merge_to_the_whole(data: list[int | None], cut: int, kind: str) -> None:
    value = {"min": 0, "max": 0, "not_null": True, "in_set": [1, 2, 3]}[kind]
    check = spec(kind, "x", value)
    frame = pl.DataFrame({"x": data}, schema={"x": pl.Int64})
    parts = [evaluate(check, frame[:cut]), evaluate(check, frame[cut:])]
    parts = [CheckPartial.from_json(json.loads(json.dumps(part.to_json()))) for part in parts]
    assert merge(parts) == merge(reversed(parts)) == evaluate(check, frame)
    passes = {
        "min": lambda v: v is None or v >= 0,
        "max": lambda v: v is None or v <= 0,
        "not_null": lambda v: v is not None,
        "in_set": lambda v: v is None or v in (1, 2, 3),
    }[kind]
    assert bad_rows(check, frame).to_list() == [not passes(v) for v in data]


def test_registry_entries_keep_the_contract() -> None:
    for kind, check in ROW_CHECKS.items():
        assert isinstance(check, RowCheck)
        assert check.kind == kind
