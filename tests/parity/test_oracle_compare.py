"""The comparison that parity tests stand on must see every kind of difference."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from oracle.compare import differences
from oracle.engine import Table
from oracle.rows import AnyOf

T = 1_767_225_600_000_000


def expected(*rows: dict[str, Any]) -> Table:
    return Table(["k", "t", "v"], [{"k": "a", "t": T, **row} for row in rows], ["k"], "t")


def actual(*values: Any) -> list[dict[str, Any]]:
    return [{"k": "a", "t": datetime(2026, 1, 1, tzinfo=UTC), "v": value} for value in values]


def test_equal_tables_in_any_order() -> None:
    assert not differences(expected({"v": 1.0}, {"v": None}, {"v": 1.0}), actual(None, 1.0 + 1e-13, 1.0))
    assert not differences(expected({"v": [1.0, 2.0]}), actual([1.0, 2.0]))
    assert not differences(expected({"v": [("x", 2)]}), actual([{"key": "x", "value": 2}]))
    assert not differences(expected({"v": float("nan")}), actual(float("nan")))


def test_an_open_value_matches_its_choices_and_pairs_are_found() -> None:
    # greedy pairing would give the 1 to the open value and leave the 2 alone
    assert not differences(expected({"v": AnyOf([1, 2])}, {"v": 1}), actual(1, 2))
    assert differences(expected({"v": AnyOf([1, 2])}), actual(3))


@pytest.mark.parametrize(
    ("want", "got"),
    [
        (1.0, 1.0 + 1e-6),
        (1.0, None),
        (None, 0.0),
        (0, None),
        (True, 1),
        (1, True),
        ("a", "b"),
        ([1, 2], [2, 1]),
        (1, "1"),
    ],
)
def test_a_cell_that_differs_is_named(want: Any, got: Any) -> None:
    found = differences(expected({"v": want}), actual(got))
    assert len(found) == 1
    assert f"v: expected {want!r}, got {got!r}" in found[0]


def test_rows_and_columns_that_are_missing_or_too_many() -> None:
    assert "a row is missing" in differences(expected({"v": 1}, {"v": 1}), actual(1))[0]
    assert "a row too many" in differences(expected({"v": 1}), actual(1, 1))[0]
    extra = [{**row, "day": "2026-01-01"} for row in actual(1)]
    assert "not expected ['day']" in differences(expected({"v": 1}), extra)[0]
    assert not differences(expected({"v": 1}), extra, ignore=["day"])
