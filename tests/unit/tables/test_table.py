"""Reading a version in a notebook: order, columns, conditions, pruning, and the objects' looks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from featureflow.core.errors import CorruptionError, TableError
from featureflow.tables.pruning import Comparison, can_hold, comparisons_of
from featureflow.tables.store import open as open_store

Maker = Any  # the fixture of conftest.py
Events = Callable[[list[tuple[Any, ...]]], pa.Table]

ROWS = [
    (3, 1, 1.0),
    (1, 1500, 2.0),
    (1, 0, None),
    (2, 1441, 4.0),
    (1, 3000, 5.0),
    (None, 2, 6.0),
    (2, None, 7.0),
    (1, 0, 8.0),
]


SECOND = datetime(2026, 1, 2, tzinfo=UTC)


def cut(make_events: Events, days: bool, buckets: int) -> dict[tuple[str | None, int], pa.Table]:
    """The same rows in another storage layout; rows of one key and time keep their order."""
    units: dict[tuple[str | None, int], list[Any]] = {}
    for row in sorted(ROWS, key=lambda r: (r[0] or 0, r[1] if r[1] is not None else -1)):
        day = None if row[1] is None else f"2026-01-0{1 + row[1] // 1440}"
        units.setdefault((day if days else None, (row[0] or 0) % buckets), []).append(row)
    return {unit: make_events(rows) for unit, rows in units.items()}


def in_order(make_events: Events) -> pl.DataFrame:
    def key(row: tuple[Any, ...]) -> tuple[int, int, int]:
        return (-1 if row[0] is None else row[0], -1 if row[1] is None else row[1], 0)

    return pl.DataFrame(make_events(sorted(ROWS, key=key)))


@pytest.mark.parametrize("days", [True, False])
@pytest.mark.parametrize("buckets", [1, 2, 3])
def test_the_order_of_rows_does_not_depend_on_the_layout(
    maker: Maker, make_events: Events, days: bool, buckets: int
) -> None:
    maker.partition = "day" if days else "none"
    maker.publish(cut(make_events, days, buckets))
    expected = in_order(make_events)
    table = maker.open()
    assert table.to_polars().equals(expected)
    assert table.to_arrow().equals(expected.to_arrow().cast(table.schema))
    assert table.to_pandas()["amount"].tolist()[2:] == expected["amount"].to_list()[2:]
    assert table.to_polars(["amount"]).equals(expected.select("amount"))
    assert table.rows == len(ROWS) == table.to_polars(sort=False).height


def test_rows_of_one_key_and_time_keep_their_order(maker: Maker, make_events: Events) -> None:
    units = {
        (f"2026-01-0{d}", b): [(b, (d - 1) * 1440, float(i)) for i in range(20_000)]
        for d in (1, 2)
        for b in (1, 2)
    }
    maker.publish({unit: make_events(rows) for unit, rows in units.items()})
    found = maker.open().to_polars()
    assert found["card"].to_list() == [1] * 40_000 + [2] * 40_000
    assert found["amount"].to_list() == [float(i) for i in range(20_000)] * 4


@pytest.fixture
def table(maker: Maker, make_events: Events) -> Any:
    maker.publish(cut(make_events, True, 2))
    return maker.open()


def test_columns(table: Any) -> None:
    assert table.to_polars().columns == ["card", "ts", "amount"]
    assert table.to_polars(["amount", "card"]).columns == ["amount", "card"]
    day = table.to_polars(["ts", "day"])
    assert day.schema["day"] == pl.Date
    assert (day["ts"].dt.date().eq_missing(day["day"])).all()
    assert table.to_polars(["day"]).height == len(ROWS)
    with pytest.raises(TableError, match=r"no column 'amonut'\. Did you mean 'amount'"):
        table.to_polars(["amonut"])


@pytest.mark.parametrize(
    ("where", "keep"),
    [
        ("card = 1", lambda c, t, a: c == 1),
        ("card = 1 and amount > 2", lambda c, t, a: c == 1 and a is not None and a > 2),
        ("ts >= '2026-01-02'", lambda c, t, a: t is not None and t >= 1440),
        (
            "ts < '2026-01-02' and card >= 2",
            lambda c, t, a: t is not None and t < 1440 and c is not None and c >= 2,
        ),
        ("card = 1 or amount = 4", lambda c, t, a: c == 1 or a == 4),
        ("not (card = 1)", lambda c, t, a: c is not None and c != 1),
        ("card is null", lambda c, t, a: c is None),
        ("day = date '2026-01-02'", lambda c, t, a: t is not None and 1440 <= t < 2880),
        ("ts is null and card = 2", lambda c, t, a: t is None and c == 2),
        ("card = 77", lambda c, t, a: False),
    ],
)
def test_where(table: Any, make_events: Events, where: str, keep: Any) -> None:
    expected = make_events([row for row in ROWS if keep(*row)])
    found = table.to_polars(["amount"], where=where)
    assert sorted(found["amount"].to_list(), key=str) == sorted(expected["amount"].to_pylist(), key=str)


@pytest.mark.parametrize("where", ["card", "amonut > 1", "card = ", "sum(card) > 1", "1; drop table x"])
def test_conditions_that_are_none(table: Any, where: str) -> None:
    with pytest.raises(TableError, match="where"):
        table.to_polars(where=where)


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        (("2026-01-02", "2026-01-03"), {1441, 1500}),
        (("2026-01-01T00:01", "2026-01-02T01:00:00"), {1, 2, 1441}),  # the end is not part of the range
        ((None, date(2026, 1, 2)), {0, 1, 2}),
        ((datetime(2026, 1, 3, tzinfo=UTC), None), {3000}),
        (("2026-01-01T02:01+02:00", "2026-01-01T00:02Z"), {1}),
        ((None, None), {0, 1, 2, 1441, 1500, 3000}),
    ],
)
def test_time_ranges_are_half_open(table: Any, time: Any, minutes: set[int]) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for frame in (table.to_polars(["ts"], time=time), table.scan(time=time).select("ts").collect()):
        assert {int((t - start).total_seconds() // 60) for t in frame["ts"]} == minutes


def test_a_time_that_is_none(table: Any) -> None:
    with pytest.raises(TableError, match="time from: 'yesterday' is not a time"):
        table.to_polars(time=("yesterday", None))


def test_what_can_not_hold_a_row_is_not_read(table: Any) -> None:
    for path in Path(table.url).glob("day=*/*.parquet"):
        if "2026-01-02" not in str(path):
            path.unlink()
    for found in (
        table.to_polars(time=("2026-01-02", "2026-01-03")),
        table.to_polars(where="ts >= '2026-01-02' and ts < '2026-01-03'"),
        table.scan(time=("2026-01-02", "2026-01-03")).collect(),
    ):
        assert sorted(found["amount"]) == [2.0, 4.0]
    with pytest.raises(CorruptionError, match="is missing"):
        table.to_polars()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("card = 3 and ts < '2026-01-02'", [Comparison("card", "=", 3), Comparison("ts", "<", SECOND)]),
        ("card = -3", [Comparison("card", "=", -3)]),
        ("name >= 'b' AND other > 5", [Comparison("name", ">=", "b")]),
        ("card = 3 or card = 4", []), ("card = 3 + 1", []), ("card = 3.5", []), ("not card = 3", []),
        ("name = 'it''s'", []), ("card = 3 and (name = 'b')", []), ("card = 1 and name = 'x' or card = 2", []),
        ("case when card = 1 then true end", []), ("card = 3)", []), ("card = '3'", []),
    ],
)  # fmt: skip
def test_comparisons_are_taken_only_from_plain_conjunctions(where: str, expected: list[Comparison]) -> None:
    kinds = {"card": pa.int64(), "ts": pa.timestamp("us", "UTC"), "name": pa.string(), "other": pa.float64()}
    assert comparisons_of(where, pa.schema(list(kinds.items()))) == expected


@pytest.mark.parametrize("op", ["=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("value", range(-1, 5))
def test_can_hold_against_enumeration(op: str, value: int) -> None:
    stats = {"numRecords": 3, "minValues": {"k": 0}, "maxValues": {"k": 3}, "nullCount": {"k": 1}}
    test = {"=": int.__eq__, "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__}[op]
    assert can_hold(stats, [Comparison("k", op, value)]) == any(test(k, value) for k in range(4))
    assert not can_hold({**stats, "nullCount": {"k": 3}}, [Comparison("k", op, value)])


def test_scan_is_lazy_and_takes_only_what_it_needs(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from featureflow.tables.reading import Scan

    asked: list[list[str]] = []
    real = Scan.read
    monkeypatch.setattr(
        Scan, "read", lambda self, file, columns: (asked.append(columns), real(self, file, columns))[1]
    )
    lazy = table.scan().filter(pl.col("card") == 1).select("amount")
    assert asked == []
    assert sorted(lazy.collect()["amount"], key=str) == [2.0, 5.0, 8.0, None]
    assert {tuple(sorted(columns)) for columns in asked} == {("amount", "card")}
    assert table.scan().head(3).collect().height == 3
    assert table.scan().select(pl.len()).collect().item() == len(ROWS)


def test_dask(table: Any) -> None:
    lazy = table.to_dask(columns=["card", "amount"], where="card <= 2")
    assert lazy.amount.sum().compute() == 26.0
    frame = lazy.compute()
    assert list(frame.columns) == ["card", "amount"] and len(frame) == 6
    assert len(table.to_dask(time=("2030-01-01", None)).compute()) == 0


def test_sample(table: Any) -> None:
    assert table.sample(3).equals(table.sample(3))
    assert table.sample(100).height == len(ROWS)
    assert table.sample(0).shape == (0, 3)
    seen = {row for seed in range(60) for row in table.sample(1, seed).rows()}
    assert len(seen) == len(ROWS)
    assert set(table.sample(4).rows()) <= set(table.to_polars().rows())


def test_stats_and_lineage(maker: Maker, make_events: Events) -> None:
    maker.publish(cut(make_events, True, 2), record={"lineage": {"amount": ["tx.amount"]}})
    table = maker.open()
    stats = {row["column"]: row for row in table.stats.iter_rows(named=True)}
    assert stats["amount"] == {
        "column": "amount", "type": "double", "count": 7, "nulls": 1,
        "min": "1.0", "max": "8.0", "mean": 33 / 7, "sum": 33.0,
    }  # fmt: skip
    assert stats["ts"]["min"] == "2026-01-01T00:00:00.000000Z" and stats["ts"]["sum"] is None
    assert table.lineage("amount") == ["tx.amount"]
    with pytest.raises(TableError, match="recorded no lineage of 'card'"):
        table.lineage("card")


def test_html_is_escaped_and_compact(maker: Maker, make_events: Events, tmp_path: Path) -> None:
    rows = make_events([(1, 0, 1.0)]).append_column("<script>", pa.array(["<b>&"]))
    maker.publish({("2026-01-01", 0): rows})
    for html in (
        maker.open()._repr_html_(),
        open_store(str(tmp_path))._repr_html_(),
        maker.open().diff("1")._repr_html_(),
    ):
        assert "<script" not in html and "<b>&" not in html
        assert len(html) < 5_000
    assert "&lt;script&gt;" in maker.open()._repr_html_()
    assert repr(maker.open()).startswith("Table(spend@1: 1 rows, 4 columns")


def test_importing_and_reading_needs_neither_dask_nor_numba() -> None:
    code = (
        "import sys, featureflow.tables.store, featureflow.tables.commit, featureflow.tables.table;"
        "print([m for m in ('dask', 'distributed', 'numba', 'deltalake', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
