"""Row steps in order, projection, pruning by time, positions, masks; and the cost of ten thousand footers."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
import time
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.contracts.source import TimeColumn
from featureflow.core.errors import SourceError
from featureflow.core.raw_files import list_files
from featureflow.library.sources.parquet import Parquet

UTC = dt.UTC
HOUR = 3_600_000_000


def instants(*hours: int | None) -> pa.Array:
    return pa.array([None if h is None else h * HOUR for h in hours], pa.timestamp("us", "UTC"))


def test_steps_run_in_the_order_of_the_yaml(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1.0, None, -5.0, float("nan"), 50.0], "k": ["x", "x", "y", "x", "x"]})
    frame = lake.read(
        where="k = 'x'",
        derive={"double": "a * 2", "more": "double + 1"},
        fill={"a": 7, "double": -1},
        clip={"a": [0, 10], "more": [None, 3]},
        mask={"k": "drop"},
    )
    # NaN is null before `where`; `derive` sees what fill and clip have not changed yet
    assert frame.to_dict(as_series=False) == {
        "a": [1.0, 7.0, 7.0, 10.0],
        "double": [2.0, -1.0, -1.0, 100.0],
        "more": [3.0, None, None, 3.0],
    }


def test_where_keeps_only_true(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": [1, None, 3]})
    assert lake.read(where="a > 1")["a"].to_list() == [3]
    assert lake.read(where="not a > 1")["a"].to_list() == [1]


def test_where_on_times_without_a_zone(lake: Any) -> None:
    moments = [dt.datetime(2026, 1, 31, 23), dt.datetime(2026, 2, 1)]
    lake.parquet("1.parquet", {"t": pa.array(moments, pa.timestamp("us"))})
    assert lake.read(where="t >= '2026-02-01'", time="t").height == 1
    assert lake.read(where="t >= '2026-02-01'", time="t", timezone="America/New_York").height == 2


def test_only_needed_columns_are_read(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.parquet("1.parquet", {name: [1, 2] for name in "abcdef"})
    reader, found = lake.reader(where="b > 1", derive={"x": "c + 1", "y": "x + d"})
    assert reader.needed_inputs(["y"]) == ["b", "c", "d"]
    assert reader.needed_inputs(["a"]) == ["a", "b"]
    chain, _ = lake.reader(derive={"x": "c + 1", "y": "x + 1", "z": "y + 1"})
    assert chain.needed_inputs(["z"]) == ["c"]
    assert chain.read(found.facts[0], ["z"]).rows() == [(4,), (5,)]
    asked = []
    original = Parquet.read
    monkeypatch.setattr(Parquet, "read", lambda *a, **k: asked.append(k["columns"]) or original(*a, **k))
    assert reader.read(found.facts[0], ["y"]).rows() == [(5,)]
    assert asked == [["b", "c", "d"]]


def test_no_column_at_all_still_has_rows(lake: Any) -> None:
    lake.parquet("h=1/1.parquet", {"a": [1, 2]})
    reader, found = lake.reader(derive={"one": "1"})
    assert reader.read(found.facts[0], ["one", "h"]).rows() == [(1, 1), (1, 1)]
    assert reader.read(found.facts[0], [], row_position=True)["__row"].to_list() == [0, 1]


def test_finish_can_wait_for_deduplication(lake: Any) -> None:
    lake.parquet("1.parquet", {"id": [1, None], "pan": ["p", "q"]})
    reader, found = lake.reader(fill={"id": -1}, mask={"pan": "drop"})
    raw = reader.read(found.facts[0], ["id", "pan"], finish=False)
    assert raw.rows() == [(1, "p"), (None, "q")]
    assert reader.finish(raw).rows() == [(1,), (-1,)]
    assert reader.output_schema == {"id": pl.Int64}


@pytest.mark.parametrize("stats", [True, False])
def test_time_range_prunes_groups_and_rows(lake: Any, stats: bool) -> None:
    lake.parquet(
        "1.parquet",
        {"t": instants(0, 1, 2, 3, None, 5), "a": list(range(6))},
        row_group_size=2,
        write_statistics=stats,
    )
    reader, found = lake.reader(time="t")
    facts = found.facts[0]
    assert [(g.min_time, g.max_time, g.null_times) for g in facts.groups] == [
        (0, HOUR, 0),
        (2 * HOUR, 3 * HOUR, 0),
        (5 * HOUR, 5 * HOUR, 1),
    ]
    assert [g.index for g in reader.groups_in(facts, (HOUR + 1, 5 * HOUR))] == [1]
    assert [g.index for g in reader.groups_in(facts, (HOUR, 2 * HOUR + 1))] == [0, 1]
    frame = reader.read(facts, ["a"], time_range=(HOUR, 3 * HOUR), row_position=True)
    assert frame.rows() == [(1, 1), (2, 2)]
    assert reader.read(facts, ["a"])["a"].to_list() == list(range(6))
    assert reader.read(facts, ["a"], time_range=(None, None))["a"].to_list() == [0, 1, 2, 3, 5]
    assert reader.read(facts, ["a"], time_range=(100 * HOUR, None)).rows() == []


def test_groups_without_any_time(lake: Any) -> None:
    lake.parquet("1.parquet", {"t": instants(None, None, 1), "a": [1, 2, 3]}, row_group_size=2)
    reader, found = lake.reader(time="t")
    assert found.facts[0].groups[0].min_time is None
    assert found.facts[0].groups[0].null_times == 2
    assert reader.read(found.facts[0], ["a"], time_range=(0, None))["a"].to_list() == [3]


@pytest.mark.parametrize(
    ("values", "declared"),
    [
        (["1970-01-01T01:00:00Z", "1970-01-01T03:00:00Z"], "timestamp"),
        ([3600, 10800], "timestamp[s]"),
        (pa.array([HOUR * 1000, HOUR * 3000], pa.timestamp("ns")), None),
    ],
)
def test_times_of_every_kind_have_a_range(lake: Any, values: Any, declared: str | None) -> None:
    lake.parquet("1.parquet", {"t": values})
    _, found = lake.inspect(time="t", columns={"t": declared} if declared else {})
    assert (found.facts[0].groups[0].min_time, found.facts[0].groups[0].max_time) == (HOUR, 3 * HOUR)


def test_date_as_event_time(lake: Any) -> None:
    lake.parquet("1.parquet", {"d": pa.array([dt.date(2026, 7, 1)])})
    reader, found = lake.reader(time="d", timezone="Europe/Berlin")
    wanted = dt.datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert reader.read(found.facts[0])["d"].to_list() == [wanted]
    assert found.facts[0].groups[0].min_time == round(wanted.timestamp()) * 10**6


def test_derived_event_time(lake: Any) -> None:
    lake.parquet("1.parquet", {"day": ["1970-01-01", "1970-01-02"], "hour": [1, 2]}, row_group_size=1)
    derive = {"t": "cast(day || 'T' || lpad(cast(hour as varchar), 2, '0') || ':00:00' as timestamp)"}
    reader, found = lake.reader(time="t", derive=derive)
    assert [group.min_time for group in found.facts[0].groups] == [HOUR, 26 * HOUR]
    assert reader.read(found.facts[0], ["hour"], time_range=(2 * HOUR, None)).rows() == [(2,)]


def test_positions_do_not_depend_on_filters(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": list(range(10))}, row_group_size=3)
    reader, found = lake.reader(where="a % 3 = 0")
    assert reader.read(found.facts[0], ["a"], row_position=True).rows() == [(0, 0), (3, 3), (6, 6), (9, 9)]


def test_mask_hashes_with_the_salt(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.parquet("1.parquet", {"pan": ["4111", None, "4111"], "n": [5, 6, None]})
    monkeypatch.setenv("FEATUREFLOW_SALT", "pepper")
    frame = lake.read(mask={"pan": "sha256", "n": "sha256"})
    wanted = hashlib.sha256(b"pepper4111").hexdigest()
    assert frame["pan"].to_list() == [wanted, None, wanted]
    assert frame["n"].to_list() == [hashlib.sha256(f"pepper{n}".encode()).hexdigest() for n in (5, 6)] + [
        None
    ]
    monkeypatch.delenv("FEATUREFLOW_SALT")
    with pytest.raises(SourceError, match="FEATUREFLOW_SALT is not set"):
        lake.read(mask={"pan": "sha256"})


def test_fill_and_clip_of_other_types(lake: Any) -> None:
    lake.parquet(
        "1.parquet",
        {"s": ["a", None], "b": [None, True], "t": instants(None, 10), "u": pa.array([1, None], pa.uint8())},
    )
    frame = lake.read(
        fill={"s": "none", "b": False, "t": "1970-01-01T02:00:00Z", "u": 255},
        clip={"t": [None, "1970-01-01T05:00:00Z"], "u": [2, None]},
    )
    assert frame.rows() == [
        ("a", False, dt.datetime(1970, 1, 1, 2, tzinfo=UTC), 2),
        ("none", True, dt.datetime(1970, 1, 1, 5, tzinfo=UTC), 255),
    ]


@pytest.mark.parametrize(
    ("spec", "place", "words"),
    [
        ({"where": "a +"}, "where", "Expected"),
        ({"where": "a"}, "where", "true or false"),
        ({"where": "late > 1", "derive": {"late": "a + 1"}}, "where", "runs before `derive`"),
        ({"derive": {"a": "1"}}, "derive.a", "already"),
        ({"derive": {"x": "y + 1", "y": "a"}}, "derive.x", "no column 'y'"),
        ({"time": "nope"}, "time", "no column 'nope'"),
        ({"time": "s"}, "time", "Declare `columns: {s: timestamp}`"),
        ({"created": "a"}, "created", "not a time"),
        ({"sequence": "nope"}, "sequence", "no column"),
        ({"fill": {"a": "x"}}, "fill.a", "no int64"),
        ({"fill": {"a": 1.5}}, "fill.a", "no int64"),
        ({"fill": {"a": True}}, "fill.a", "no int64"),
        ({"fill": {"a": 2**63}}, "fill.a", "no int64"),
        ({"fill": {"s": 1}}, "fill.s", "no string"),
        ({"fill": {"f": float("nan")}}, "fill.f", "NaN"),
        ({"fill": {"t": "soon"}}, "fill.t", "no datetime"),
        ({"fill": {"nope": 1}}, "fill.nope", "no column"),
        ({"clip": {"a": [5, 1]}}, "clip.a", "above"),
        ({"clip": {"a": 5}}, "clip.a", "no pair"),
        ({"clip": {"a": [0.5, 1]}}, "clip.a", "no int64"),
        ({"clip": {"s": ["a", "b"]}}, "clip.s", "only numbers"),
        ({"mask": {"s": "md5"}}, "mask.s", "Known: sha256, drop"),
        ({"mask": {"t": "drop"}, "time": "t"}, "mask.t", "can't be masked"),
    ],
)
def test_mistakes_in_steps(lake: Any, spec: dict[str, Any], place: str, words: str) -> None:
    lake.parquet("1.parquet", {"a": [1], "s": ["x"], "f": [1.0], "t": instants(1)})
    reader, found = lake.reader(**spec)
    messages = dict(reader.problems)
    assert words in messages[place]
    with pytest.raises(SourceError, match="source raw"):
        reader.read(found.facts[0])


def test_a_cast_that_fails_at_run_time_names_the_file(lake: Any) -> None:
    path = lake.parquet("1.parquet", {"s": ["1", "x"]})
    with pytest.raises(SourceError, match=f"{path}.*'x'|{path}.*\"x\""):
        lake.read(derive={"n": "cast(s as bigint)"})


@given(
    hours=st.lists(st.one_of(st.none(), st.integers(0, 50)), min_size=1, max_size=40),
    size=st.integers(1, 7),
    low=st.integers(0, 50),
    length=st.integers(0, 30),
)
def test_any_range_of_any_grouping_is_a_filter(
    lake: Any, hours: list[int | None], size: int, low: int, length: int
) -> None:
    lake.parquet("1.parquet", {"t": instants(*hours), "a": list(range(len(hours)))}, row_group_size=size)
    reader, found = lake.reader(time="t")
    got = reader.read(
        found.facts[0], ["a"], time_range=(low * HOUR, (low + length) * HOUR), row_position=True
    )
    wanted = [i for i, hour in enumerate(hours) if hour is not None and low <= hour < low + length]
    assert got.rows() == [(i, i) for i in wanted]


def test_ten_thousand_footers(lake: Any) -> None:
    first = lake.parquet("0.parquet", {"t": instants(1, 2), **{f"c{i}": [1.0, 2.0] for i in range(8)}})
    for i in range(1, 2000):
        shutil.copy(first, lake.root / f"{i}.parquet")
    files = list_files(str(lake.root))
    parquet, column = Parquet(), TimeColumn("t", None, "UTC")
    start = time.process_time()
    facts = [parquet.facts(file, time=column, declared={}, pinned=None, timezone="UTC") for file in files]
    assert time.process_time() - start < 2, "2,000 footers take 0.4 s on an idle machine"
    assert {each.fields for each in facts} == {facts[0].fields}
    assert all(each.groups[0].max_time == 2 * HOUR for each in facts)
