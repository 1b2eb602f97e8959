"""Declared casts by value: what each may do, and which value it names when it can't."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.core.errors import SourceError
from featureflow.core.types import parse_type
from featureflow.library.sources.casts import MisfitError, cast, clock_bounds, refusal

UTC = dt.UTC
DAY = dt.datetime(2026, 1, 31, tzinfo=UTC)


def arrow(values: list[Any], kind: pa.DataType | str) -> pl.Series:
    return pl.Series("c", pa.array(values, parse_type(kind) if isinstance(kind, str) else kind))


@pytest.mark.parametrize(
    ("values", "stored", "wanted", "out"),
    [
        ([1, None], "int32", "int64", [1, None]),
        ([200, 1], "int64", "uint8", [200, 1]),
        ([2**53, -(2**53)], "int64", "float64", [2.0**53, -(2.0**53)]),
        ([2**31 - 1], "int32", "float64", [2.0**31 - 1]),
        ([1, 0, None], "int64", "bool", [True, False, None]),
        ([True, None], "bool", "int64", [1, None]),
        ([7], "int64", "string", ["7"]),
        ([7], "int64", "decimal(10,2)", [Decimal("7.00")]),
        ([1.5, math.nan, math.inf], "float32", "float64", [1.5, None, math.inf]),
        ([0.1], "float64", "float32", [0.10000000149011612]),
        ([2.0, None, math.nan], "float64", "int64", [2, None, None]),
        (["12", "-3", None], "string", "int64", [12, -3, None]),
        (["1.5", "1e3", "-inf", "nan"], "string", "float64", [1.5, 1000.0, -math.inf, None]),
        (["true", "False", None], "string", "bool", [True, False, None]),
        (["2024-02-29"], "string", "date", [dt.date(2024, 2, 29)]),
        (["1.25"], "string", "decimal(10,2)", [Decimal("1.25")]),
        ([dt.date(2026, 1, 31)], "date", "timestamp", [DAY]),
        ([dt.date(2026, 1, 31)], "date", "string", ["2026-01-31"]),
        ([dt.datetime(2026, 1, 31)], "timestamp[ns]", "date", [dt.date(2026, 1, 31)]),
        ([1_769_817_600], "int64", "timestamp[s]", [DAY]),
        ([1_769_817_600_000], "int64", "timestamp[ms]", [DAY]),
        ([-1], "int64", "timestamp[ns]", [dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)]),
        ([Decimal("1.5")], "decimal(10,2)", "float64", [1.5]),
        ([None, None], "null", "int64", [None, None]),
        ([b"abc"], "binary", "string", ["abc"]),
    ],
)
def test_values(values: list[Any], stored: str, wanted: str, out: list[Any]) -> None:
    assert refusal(stored, wanted) is None
    assert cast(arrow(values, stored), wanted, "UTC").to_list() == out


@pytest.mark.parametrize(
    ("values", "stored", "wanted", "position"),
    [
        ([1, 300], "int64", "uint8", 1),
        ([-1], "int64", "uint64", 0),
        ([2**63], "uint64", "int64", 0),
        ([0, 2**53 + 1], "int64", "float64", 1),
        ([2**24 + 1], "int32", "float32", 0),
        ([1, 2], "int64", "bool", 1),
        ([1e300], "float64", "float32", 0),
        ([1.0, 2.5], "float64", "int64", 1),
        ([1e19], "float64", "int64", 0),
        ([math.inf], "float64", "int64", 0),
        (["1", "NA"], "string", "int64", 1),
        (["1.0"], "string", "int64", 0),
        (["9223372036854775808"], "string", "int64", 0),
        ([""], "string", "float64", 0),
        (["1,5"], "string", "float64", 0),
        (["yes"], "string", "bool", 0),
        (["2026-02-30"], "string", "date", 0),
        (["2026-1-1"], "string", "date", 0),
        (["31.01.2026"], "string", "timestamp", 0),
        (["2026-01-01", "2026-01-01T25:00:00"], "string", "timestamp", 1),
        ([dt.datetime(2026, 1, 1, 1)], "timestamp[us]", "date", 0),
        ([2**62], "int64", "timestamp[s]", 0),
        ([b"\xff"], "binary", "string", 0),
        ([Decimal("123.45")], "decimal(10,2)", "decimal(4,2)", 0),
    ],
)
def test_misfits(values: list[Any], stored: str, wanted: str, position: int) -> None:
    assert refusal(stored, wanted) is None
    with pytest.raises(MisfitError) as caught:
        cast(arrow(values, stored), wanted, "UTC")
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ("int64", "timestamp"), ("int64", "date"), ("float64", "string"), ("float64", "bool"), ("date", "int64"),
        ("timestamp", "int64"), ("string", "list<string>"), ("float64", "decimal(10,2)"), ("bool", "date"),
        ("timestamp", "string"), ("list<int64>", "string"), ("struct<a: int64>", "string"), ("float64", "timestamp[s]"),
    ],
)  # fmt: skip
def test_casts_that_do_not_exist(stored: str, wanted: str) -> None:
    assert refusal(stored, wanted)


@pytest.mark.parametrize(
    ("text", "zone", "out"),
    [
        ("2026-01-31", "UTC", DAY),
        ("2026-01-31T00:00", "UTC", DAY),
        ("2026-01-31 00:00:00.5", "UTC", DAY.replace(microsecond=500_000)),
        ("2026-01-31T00:00:00.123456789", "UTC", DAY.replace(microsecond=123_456)),
        ("2026-01-31T00:00:00Z", "America/New_York", DAY),
        ("2026-01-31T02:00:00+02:00", "America/New_York", DAY),
        ("2026-01-30T19:30:00-0430", "UTC", DAY),
        ("2026-01-31T01:00:00+01", "UTC", DAY),
        ("2026-01-30T19:00:00", "America/New_York", DAY),
        ("1969-12-31T23:59:59.999999", "UTC", dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)),
    ],
)
def test_iso_times(text: str, zone: str, out: dt.datetime) -> None:
    assert cast(pl.Series([text, None]), "timestamp", zone).to_list() == [out, None]


def test_zoned_and_naive_text_in_one_column() -> None:
    series = pl.Series(["2026-07-01T00:00:00Z", "2026-07-01T00:00:00", None])
    out = cast(series, "timestamp", "Europe/Berlin").to_list()
    assert out == [dt.datetime(2026, 7, 1, tzinfo=UTC), dt.datetime(2026, 6, 30, 22, tzinfo=UTC), None]


@pytest.mark.parametrize("moment", [dt.datetime(2025, 10, 26, 2, 30), dt.datetime(2025, 3, 30, 2, 30)])
def test_clock_changes_are_refused(moment: dt.datetime) -> None:
    fine = dt.datetime(2025, 7, 1)
    with pytest.raises(MisfitError, match="twice or never") as caught:
        cast(arrow([fine, moment], "timestamp[us]"), "timestamp", "Europe/Berlin")
    assert (caught.value.position, caught.value.value) == (1, moment)


@given(
    st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2100, 1, 1)), st.sampled_from(["us", "ms", "s", "ns"])
)
def test_naive_times_against_zoneinfo(moment: dt.datetime, unit: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    moment = moment.replace(microsecond=0)
    series = arrow([moment], f"timestamp[{unit}]")
    early, late = (moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early != late:
        with pytest.raises(MisfitError):
            cast(series, "timestamp", "Europe/Berlin")
    else:
        assert cast(series, "timestamp", "Europe/Berlin").to_list() == [early]
    raw = pa.array([moment], pa.timestamp(unit)).cast(pa.int64())[0].as_py()
    micros = sorted(
        round((each - dt.datetime(1970, 1, 1, tzinfo=UTC)) / dt.timedelta(microseconds=1))
        for each in (early, late)
    )
    assert clock_bounds(raw, raw, pa.timestamp(unit), "Europe/Berlin") == tuple(micros)


def test_bounds_of_an_hour_that_is_there_twice_hold_both() -> None:
    raw = round(dt.datetime(2025, 10, 26, 2, 30, tzinfo=UTC).timestamp()) * 10**6
    hour = 3_600_000_000
    wanted = (raw - 2 * hour, raw - hour)  # summer time is two hours ahead, winter time one
    assert clock_bounds(raw, raw, pa.timestamp("us"), "Europe/Berlin") == wanted


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20))
def test_nanoseconds_go_to_the_past(values: list[int]) -> None:
    out = cast(arrow(values, pa.timestamp("ns")), "timestamp", "UTC")
    assert out.cast(pl.Int64).to_list() == [value // 1000 for value in values]


def test_the_error_names_file_column_row_and_value(lake: Any) -> None:
    lake.parquet("1.parquet", {"a": ["1", "2"]})
    second = lake.parquet("2.parquet", {"a": ["3", "4", "x5", "6"]}, row_group_size=2)
    with pytest.raises(SourceError) as caught:
        lake.read(columns={"a": "int64"})
    assert str(caught.value) == f"{second}: column 'a', row 3: 'x5' is not a whole number, so it is no int64."


def test_the_row_counts_from_the_start_of_the_file(lake: Any) -> None:
    days = pa.array([dt.datetime(2026, 1, day) for day in (1, 2, 3, 4)], pa.timestamp("us", "UTC"))
    lake.parquet("1.parquet", {"t": days, "a": [1.0, 2.0, 3.0, 4.5]}, row_group_size=1)
    reader, found = lake.reader(time="t", columns={"a": "int64"})
    cut = found.facts[0].groups[2].min_time
    with pytest.raises(SourceError, match=r"row 4: 4\.5 is not a whole number"):
        reader.read(found.facts[0], time_range=(cut, None))
    assert reader.read(found.facts[0], ["a"], time_range=(None, cut))["a"].to_list() == [1, 2]
