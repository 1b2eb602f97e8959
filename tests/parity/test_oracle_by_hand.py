"""The oracle against cases worked out by hand, so that an engine that agrees with it agrees with the contract.

Times are written as minutes, hours or days after 2026-01-01T00:00 UTC. Every expected value here was counted on
paper from section 3, 5 or 6 of the spec language; where a published system is known for a mistake, its case is here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from oracle.aggregates import aggregate
from oracle.engine import Table, evaluate
from oracle.lookups import TieRefused
from oracle.rows import Ambiguous, AnyOf, duration, floor, microseconds, ticks

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_767_225_600_000_000  # 2026-01-01T00:00Z


def event(at: int | None, key: Any = "a", **others: Any) -> dict[str, Any]:
    """One event, at a time after the start."""
    return {"k": key, "t": None if at is None else START + at, "x": 1.0, **others}


def table(rows: list[dict[str, Any]], feature: dict[str, Any], **source: Any) -> Table:
    """A table over one source ``s`` with key k and time t."""
    given = {"rows": rows, "time": "t", **source}
    return evaluate(
        {"sources": {"s": given}, "features": {"f": {"source": "s", "keys": ["k"], **feature}}}, "f"
    )


def column(rows: list[dict[str, Any]], name: str, feature: dict[str, Any], **source: Any) -> list[Any]:
    """One output column."""
    return [row[name] for row in table(rows, feature, **source).rows]


def counts(rows: list[dict[str, Any]], window: str, **settings: Any) -> list[Any]:
    """Number of rows in one window."""
    return column(
        rows, f"count_{window}", {"aggregate": [{"ops": ["count"], "windows": [window], **settings}]}
    )


# ---------------------------------------------------------------- windows


def test_a_window_excludes_its_own_event_and_includes_the_one_at_its_start() -> None:
    # four events, exactly one day apart: t - 1d is an event each time
    daily = [event(day * DAY) for day in range(4)]
    assert counts(daily, "1d") == [0, 1, 1, 1]
    assert counts(daily, "1d", closed="right") == [1, 1, 1, 1]
    assert counts(daily, "1d", closed="both") == [1, 2, 2, 2]
    assert counts(daily, "1d", closed="none") == [0, 0, 0, 0]


def test_one_microsecond_decides() -> None:
    rows = [event(0), event(HOUR), event(HOUR + 1)]
    # the second sees the first at exactly t - 1h; the third misses it by a microsecond, and sees the second
    assert counts(rows, "1h") == [0, 1, 1]
    assert counts(rows, "1h", closed="right") == [1, 1, 2]


def test_events_at_the_same_time_are_all_in_or_all_out() -> None:
    rows = [event(0), event(HOUR), event(HOUR), event(2 * HOUR)]
    assert counts(rows, "1h") == [0, 1, 1, 2]
    assert counts(rows, "1h", closed="right") == [1, 2, 2, 1]
    assert counts(rows, "1h", closed="both") == [1, 3, 3, 3]


def test_a_delay_moves_both_ends_back() -> None:
    rows = [event(hour * HOUR) for hour in range(5)]
    # window of hour 4: 4-1-2 <= e < 4-2, so the event of hour 1
    assert column(
        [event(hour * HOUR, x=float(hour)) for hour in range(5)],
        "x_sum_1h",
        {"aggregate": [{"column": "x", "ops": ["sum"], "windows": ["1h"]}], "window": {"delay": "2h"}},
    ) == [None, None, None, 0.0, 1.0]
    assert counts(rows, "lifetime", delay="2h") == [0, 0, 0, 1, 2]


def test_tail_hop_floors_the_start_only() -> None:
    rows = [event(0), event(30 * MINUTE), event(70 * MINUTE), event(100 * MINUTE)]
    # at 01:40 the hour begins at 00:40, floored to 00:00: all three earlier events
    assert counts(rows, "1h", tail_hop="1h") == [0, 1, 2, 3]
    assert counts(rows, "1h") == [0, 1, 1, 1]
    # at 01:10 it begins at 00:10, floored to 00:00; with an open start the event of 00:00 is out
    assert counts(rows, "1h", tail_hop="1h", closed="none") == [0, 1, 1, 2]


def test_lifetime_has_no_start() -> None:
    rows = [event(0), event(400 * DAY), event(401 * DAY)]
    assert counts(rows, "lifetime") == [0, 1, 2]
    assert counts(rows, "lifetime", closed="right") == [1, 2, 3]


def test_an_entry_overrides_the_defaults_of_the_table() -> None:
    feature = {
        "window": {"closed": "both", "delay": "1h"},
        "aggregate": [
            {"ops": ["count"], "windows": ["1h"]},
            {"ops": ["count"], "windows": ["1h"], "closed": "left", "delay": "0s", "as": "plain_{op}"},
        ],
    }
    result = table([event(hour * HOUR) for hour in range(4)], feature)
    assert [row["count_1h"] for row in result.rows] == [0, 1, 2, 2]
    assert [row["plain_count"] for row in result.rows] == [0, 1, 1, 1]


def test_keys_do_not_mix_and_are_not_glued_together() -> None:
    rows = [
        {"k": "a", "j": "b_c", "t": START, "x": 1.0},
        {"k": "a_b", "j": "c", "t": START + HOUR, "x": 1.0},
        {"k": "a", "j": "b_c", "t": START + 2 * HOUR, "x": 1.0},
    ]
    feature = {"keys": ["k", "j"], "aggregate": [{"ops": ["count"], "windows": ["1d"]}]}
    assert column(rows, "count_1d", feature) == [0, 0, 1]


def test_nulls_and_nan_are_not_counted_but_rows_are() -> None:
    rows = [event(0, x=None), event(HOUR, x=float("nan")), event(2 * HOUR, x=2.0), event(3 * HOUR)]
    feature = {
        "aggregate": [
            {"ops": ["count"], "windows": ["1d"]},
            {"column": "x", "ops": ["count", "sum"], "windows": ["1d"]},
        ]
    }
    result = table(rows, feature)
    assert [row["count_1d"] for row in result.rows] == [0, 1, 2, 3]
    assert [row["x_count_1d"] for row in result.rows] == [0, 0, 0, 1]
    assert [row["x_sum_1d"] for row in result.rows] == [None, None, None, 2.0]


def test_an_infinity_that_left_the_window_leaves_nothing() -> None:
    rows = [event(0, x=float("inf")), event(30 * MINUTE, x=2.0), event(80 * MINUTE), event(81 * MINUTE)]
    feature = {"aggregate": [{"column": "x", "ops": ["sum"], "windows": ["1h"]}]}
    assert column(rows, "x_sum_1h", feature) == [None, float("inf"), 2.0, 3.0]


def test_where_is_true_only_and_by_makes_a_column_for_each_value() -> None:
    rows = [
        event(0, c="web"),
        event(1, c="pos", x=5.0),
        event(2, c=None, x=7.0),
        event(3, c="other", x=9.0),
        event(4),
    ]
    rows[4]["c"] = "web"
    feature = {
        "aggregate": [
            {
                "column": "x",
                "ops": ["sum"],
                "windows": ["1d"],
                "where": lambda row: None if row["c"] is None else row["c"] == "web",
                "as": "web_{column}_{op}_{window}",
            },
            {"column": "x", "ops": ["sum", "count"], "windows": ["1d"], "by": "c", "values": ["web", "pos"]},
        ]
    }
    result = table(rows, feature)
    assert result.columns == [
        *("k", "t", "web_x_sum_1d"),
        *("x_sum_1d__web", "x_sum_1d__pos", "x_count_1d__web", "x_count_1d__pos"),
    ]
    last = result.rows[-1]
    assert (last["web_x_sum_1d"], last["x_sum_1d__web"], last["x_sum_1d__pos"]) == (1.0, 1.0, 5.0)
    assert (last["x_count_1d__web"], last["x_count_1d__pos"]) == (1, 1)


def test_fill_empty_is_for_nothing_in_the_window_only() -> None:
    rows = [event(0), event(HOUR), event(9 * HOUR)]
    entry = {"column": "x", "ops": ["count", "sum"], "windows": ["2h"]}
    assert column(rows, "x_sum_2h", {"aggregate": [{**entry, "fill_empty": 0.0}]}) == [0.0, 1.0, 0.0]
    assert column(rows, "x_count_2h", {"aggregate": [entry], "fill_empty": None}) == [None, 1, None]
    assert column(rows, "x_count_2h", {"aggregate": [entry]}) == [0, 1, 0]


def test_names() -> None:
    feature = {
        "keep": ["y"],
        "aggregate": [
            {
                "column": "x",
                "ops": [{"quantile": {"q": 0.95}}, {"quantile": {"q": 0.999}}],
                "windows": ["7d"],
            },
            {"column": "x", "ops": [{"last_k": {"k": 2}}], "windows": ["lifetime"]},
            {"ops": ["count"], "windows": ["1h", "1h30m"]},
        ],
        "derive": {"twice": lambda row: 2 * row["count_1h"]},
    }
    assert table([event(0, y=1)], feature).columns == [
        *("k", "t", "y", "x_p95_7d", "x_p99_9_7d", "x_last_k_lifetime", "count_1h", "count_1h30m", "twice")
    ]


# ---------------------------------------------------------------- rows


def test_a_null_key_or_time_keeps_its_row_with_null_features_and_is_nobodys_event() -> None:
    rows = [event(0), event(HOUR, key=None), event(None), event(2 * HOUR, key=None), event(3 * HOUR)]
    assert counts(rows, "1d") == [0, None, None, None, 1]


def test_duplicate_rows_stay_and_count() -> None:
    rows = [event(0), event(0), event(HOUR)]
    assert counts(rows, "1d") == [0, 0, 2]


def test_order_of_last_and_what_a_hash_decides() -> None:
    rows = [event(0, x=1.0, n=2), event(0, x=2.0, n=1), event(0, x=3.0, n=None), event(HOUR, n=1)]
    feature = {"aggregate": [{"column": "x", "ops": ["first", "last"], "windows": ["1d"]}]}
    by_sequence = table(rows, feature, sequence="n").rows[-1]
    assert (by_sequence["x_first_1d"], by_sequence["x_last_1d"]) == (3.0, 1.0)
    open_to_hash = table(rows, feature).rows[-1]["x_last_1d"]
    assert isinstance(open_to_hash, AnyOf)
    assert sorted(open_to_hash.choices) == [1.0, 2.0, 3.0]
    # rows that are equal in every column have one hash: nothing is open
    assert table([event(0), event(0), event(HOUR)], feature).rows[-1]["x_last_1d"] == 1.0


def test_deduplicate_keeps_the_row_first_known() -> None:
    rows = [
        event(0, id=1, c=START + 5 * HOUR, x=10.0),
        event(0, id=1, c=START + HOUR, x=20.0),
        event(0, id=2, c=None, x=30.0),
        event(HOUR, id=2, c=START + 9 * HOUR, x=40.0),
        event(HOUR, id=None, c=START, x=50.0),
        event(HOUR, id=None, c=START, x=60.0),
    ]
    kept = table(rows, {"keep": ["x"]}, created="c", deduplicate=["id"])
    assert [row["x"] for row in kept.rows] == [20.0, 40.0, 50.0, 60.0]
    with pytest.raises(Ambiguous, match="2 different rows"):
        table([event(0, id=1), event(0, id=1, x=2.0)], {}, deduplicate=["id"])


def test_where_derive_fill_and_clip_of_a_source() -> None:
    rows = [
        event(0, x=None),
        event(1, x=-5.0),
        event(2, x=50.0),
        event(3, x=7.0, ok=False),
        event(4, ok=None),
    ]
    source = {
        "where": lambda row: row.get("ok", True),
        "derive": {"y": lambda row: None if row["x"] is None else row["x"] * 2},
        "fill": {"x": 3.0},
        "clip": {"x": (0.0, 10.0)},
    }
    kept = table(rows, {"keep": ["x", "y"]}, **source)
    assert [(row["x"], row["y"]) for row in kept.rows] == [(3.0, None), (0.0, -10.0), (10.0, 100.0)]


def grid(rows: list[dict[str, Any]], at: dict[str, Any], **entry: Any) -> list[tuple[Any, float, Any]]:
    """Rows of a grid table: key, days after the start, number of events."""
    feature = {"at": at, "aggregate": [{"ops": ["count"], "windows": ["7d"], "as": "n", **entry}]}
    return [(row["k"], (row["t"] - START) / DAY, row["n"]) for row in table(rows, feature).rows]


def test_a_grid_has_a_row_for_each_key_with_an_event_in_the_window() -> None:
    rows = [event(DAY // 2), event(2 * DAY, key="b"), event(9 * DAY)]
    assert grid(rows, {"every": "1d"}) == [
        *[("a", day, 1) for day in (1, 2)],
        *[item for day in range(3, 8) for item in (("a", day, 1), ("b", day, 1))],
        # the event of a at noon of day 0 has left; b's event at midnight of day 2 is exactly 7 days old
        *[("b", 8, 1), ("b", 9, 1)],
    ]


def test_a_grid_ends_at_the_first_tick_at_or_after_the_latest_event() -> None:
    assert grid([event(0), event(DAY + 1)], {"every": "1d"}) == [("a", 1, 1), ("a", 2, 2)]
    assert grid([event(0), event(DAY)], {"every": "1d"}) == [("a", 1, 1)]
    assert grid([event(0), event(DAY)], {"every": "1d"}, closed="right") == [("a", 0, 1), ("a", 1, 2)]


def test_a_grid_with_bounds_includes_from_and_excludes_to() -> None:
    at = {"every": "1d", "from": datetime(2026, 1, 3, tzinfo=UTC), "to": "2026-01-06"}
    assert grid([event(0)], at) == [("a", 2, 1), ("a", 3, 1), ("a", 4, 1)]


def test_noon_events_of_25_days_counted_over_7_days() -> None:
    rows = [event(day * DAY + 12 * HOUR) for day in range(25)]
    at = {"every": "1d", "from": "2026-01-11", "to": "2026-01-27"}
    expected = [("a", float(day), 7) for day in range(10, 26)]
    assert grid(rows, at)[:-1] == expected[:-1]
    assert grid(rows, at)[-1] == ("a", 25.0, 7)


def test_a_lifetime_window_keeps_a_key_for_ever() -> None:
    at = {"every": "10d", "to": "2026-03-01"}
    found = grid([event(0), event(0, key=None)], at, windows=["lifetime"])
    # ticks are multiples of 10 days since 1970: the first after the start is 6 days later
    assert found == [("a", 6.0 + 10 * step, 1) for step in range(6)]


def test_ticks_of_a_zone_follow_its_clock() -> None:
    noon = [microseconds(datetime(2026, 3, day, 12, tzinfo=UTC)) for day in (7, 9)]
    found = ticks(
        {"every": "1d", "timezone": "America/New_York"}, [time for time in noon if time is not None]
    )
    moments = [datetime.fromtimestamp(tick // 1_000_000, UTC).isoformat() for tick in found]
    # clocks went forward on 8 March: that midnight is at 05:00, the next ones are at 04:00
    assert moments == [
        "2026-03-07T05:00:00+00:00",
        "2026-03-08T05:00:00+00:00",
        "2026-03-09T04:00:00+00:00",
        "2026-03-10T04:00:00+00:00",
    ]


# ---------------------------------------------------------------- look-ups


def looked_up(
    at: int | None, right: list[dict[str, Any]], entry: dict[str, Any] | None = None, **source: Any
) -> list[Any]:
    """Column v for a row of key a at a time, and for one of key b."""
    project = {
        "sources": {
            "s": {"rows": [event(at), event(at, key="b")], "time": "t"},
            "r": {"rows": right, "time": "t", **source},
        },
        "features": {
            "f": {
                "source": "s",
                "keys": ["k"],
                "lookup": [{"from": "r", "keys": {"k": "k"}, "columns": ["v"], **(entry or {})}],
            }
        },
    }
    return [row["v"] for row in evaluate(project, "f").rows]


def test_a_look_up_includes_the_instant() -> None:
    right = [event(0, v=1), event(HOUR, v=2), event(HOUR + 1, v=3)]
    assert looked_up(HOUR, right) == [2, None]
    assert looked_up(HOUR, right, {"allow_exact": False}) == [1, None]
    assert looked_up(HOUR - 1, right) == [1, None]
    assert looked_up(-1, right) == [None, None]


def test_a_ttl_is_inclusive_and_a_row_without_a_match_stays() -> None:
    right = [event(0, v=1), event(9 * DAY, v=2)]
    assert looked_up(DAY, right, {"ttl": "1d"}) == [1, None]
    assert looked_up(DAY + 1, right, {"ttl": "1d"}) == [None, None]


def test_ties_are_decided_by_sequence_then_created_then_a_hash() -> None:
    right = [event(0, v=1, n=1, c=START), event(0, v=2, n=2, c=START - 5), event(0, v=3, n=2, c=START - 9)]
    assert looked_up(HOUR, right, sequence="n", created="c") == [2, None]
    assert looked_up(HOUR, right, created="c") == [1, None]
    found = looked_up(HOUR, right, sequence="n")[0]
    assert isinstance(found, AnyOf)
    assert sorted(found.choices) == [2, 3]
    with pytest.raises(TieRefused):
        looked_up(HOUR, right, {"on_tie": "error"}, sequence="n")
    assert looked_up(HOUR, right, {"on_tie": "error"}, sequence="n", created="c") == [2, None]


def test_only_what_was_known_counts() -> None:
    right = [
        event(0, v=1, c=START + 30 * MINUTE),
        event(HOUR, v=2, c=START + 5 * HOUR),
        event(HOUR, v=9, c=None),
    ]
    assert looked_up(2 * HOUR, right, created="c") == [1, None]
    assert looked_up(5 * HOUR, right, created="c") == [2, None]
    assert looked_up(20 * MINUTE, right, created="c") == [None, None]
    assert looked_up(2 * HOUR, right[:2], {"knowledge": "event_time"}, created="c") == [2, None]


def test_a_null_created_counts_when_only_the_event_time_does() -> None:
    right = [event(0, v=1, c=START), event(HOUR, v=9, c=None)]
    assert looked_up(2 * HOUR, right, created="c") == [1, None]
    assert looked_up(2 * HOUR, right, {"knowledge": "event_time"}, created="c") == [9, None]


def test_a_match_is_a_whole_row_unless_nulls_are_skipped() -> None:
    right = [event(0, v=1), event(HOUR, v=None)]
    assert looked_up(2 * HOUR, right) == [None, None]
    assert looked_up(2 * HOUR, right, {"nulls": "skip"}) == [1, None]
    # the ttl is that of the value that is found, not of the latest row
    assert looked_up(2 * HOUR, right, {"nulls": "skip", "ttl": "90m"}) == [None, None]


def test_skipped_nulls_can_come_from_different_rows() -> None:
    project = {
        "sources": {
            "s": {"rows": [event(2 * HOUR)], "time": "t"},
            "r": {"rows": [event(0, v=1, w=None), event(HOUR, v=None, w=2)], "time": "t"},
        },
        "features": {
            "f": {
                "source": "s",
                "keys": ["k"],
                "lookup": [
                    {"from": "r", "keys": ["k"], "columns": ["v", "w"], "nulls": "skip", "prefix": "r_"}
                ],
            }
        },
    }
    assert evaluate(project, "f").rows == [{"k": "a", "t": START + 2 * HOUR, "r_v": 1, "r_w": 2}]


def test_a_row_of_a_day_is_available_at_the_end_of_the_day_plus_the_delay() -> None:
    right = [event(0, v=1), event(DAY + 5 * HOUR, v=2)]
    daily = {"availability": {"interval": "1d"}}
    assert looked_up(0, right, daily) == [None, None]
    assert looked_up(DAY - 1, right, daily) == [None, None]
    assert looked_up(DAY, right, daily) == [1, None]
    late = {"availability": {"interval": "1d", "delay": "2h"}}
    assert looked_up(2 * DAY + 2 * HOUR - 1, right, late) == [1, None]
    assert looked_up(2 * DAY + 2 * HOUR, right, late) == [2, None]
    assert looked_up(30 * MINUTE, right, {"availability": {"delay": "30m"}}) == [1, None]


def test_null_is_equal_to_nothing_and_a_null_time_finds_nothing() -> None:
    assert looked_up(None, [event(0, v=1)]) == [None, None]
    project = {
        "sources": {
            "s": {"rows": [event(HOUR, key=None, m="x"), event(HOUR, m=None)], "time": "t"},
            "r": {"rows": [{"id": None, "t": START, "v": 1}, {"id": "x", "t": START, "v": 2}], "time": "t"},
        },
        "features": {
            "f": {
                "source": "s",
                "keys": ["k"],
                "lookup": [{"from": "r", "keys": {"m": "id"}, "columns": ["v"]}],
            }
        },
    }
    assert [row["v"] for row in evaluate(project, "f").rows] == [2, None]


def test_a_look_up_in_a_feature_table_uses_its_keys_and_its_latest_row() -> None:
    project = {
        "sources": {
            "s": {"rows": [event(0), event(HOUR), event(5 * HOUR)], "time": "t"},
            "q": {"rows": [event(0), event(3 * HOUR), event(3 * HOUR, key="b")], "time": "t"},
        },
        "features": {
            "f": {"source": "s", "keys": ["k"], "aggregate": [{"ops": ["count"], "windows": ["1d"]}]},
            "g": {
                "source": "q",
                "keys": ["k"],
                "lookup": [{"from": "f", "columns": ["count_1d"]}],
                "derive": {"more": lambda row: None if row["count_1d"] is None else row["count_1d"] + 1},
            },
            "h": {
                "source": "f",
                "keys": ["k"],
                "aggregate": [{"column": "count_1d", "ops": ["sum"], "windows": ["1d"]}],
            },
        },
    }
    assert [row["count_1d"] for row in evaluate(project, "g").rows] == [0, 1, None]
    assert [row["more"] for row in evaluate(project, "g").rows] == [1, 2, None]
    assert [row["count_1d_sum_1d"] for row in evaluate(project, "h").rows] == [None, 0, 1]


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(("text", "expected"), [("250ms", 250_000), ("1h30m", 90 * MINUTE), ("2w", 14 * DAY)])
def test_durations(text: str, expected: int) -> None:
    assert duration(text) == expected
    assert duration("lifetime") is None


def test_floors_before_1970() -> None:
    assert floor(-1, DAY) == -DAY
    assert floor(-DAY, DAY) == -DAY


def test_aggregates_are_the_ones_of_the_other_module() -> None:
    cells = [(START, 1.0, None), (START + DAY, 4.0, None)]
    assert aggregate("sum", {}, cells, START + 2 * DAY) == 5.0
