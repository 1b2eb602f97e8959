"""Checks end to end: what stops a build, what is said, and which rows are put aside; on sources and on tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from featureflow.cli.app import main
from featureflow.core.errors import CheckFailed, SpecError

START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = """
project: p
sources:
  pay:
    path: "{data}/pay/*.parquet"
    time: ts
    __SOURCE__
features:
  spend:
    source: pay
    keys: [card]
    keep: [id, amount]
    aggregate: [{column: amount, ops: [sum, count], windows: [2d]}]
    __TABLE__
  other:
    source: pay
    keys: [shop]
    aggregate: [{ops: count, windows: [1d]}]
"""


def rows() -> list[dict[str, Any]]:
    """Four days of payments; ids 3 and 7 are wrong: a negative amount, a null."""
    found: list[dict[str, Any]] = [
        {
            "id": i,
            "card": i % 2,
            "shop": "a" if i % 3 else "b",
            "ts": START + timedelta(hours=9 * i),
            "amount": float(i),
        }
        for i in range(10)
    ]
    found[3]["amount"], found[7]["amount"] = -3.0, None
    return found


def spec(source: str = "", table: str = "") -> str:
    return SPEC.replace("__SOURCE__", source and f"checks: [{source}]").replace(
        "__TABLE__", table and f"checks: [{table}]"
    )


def ids(project: Any) -> list[int]:
    return sorted(project.store.table("spend").to_polars()["id"].to_list())


def quarantined(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])


FAILING = [
    ("{column: amount, not_null: true}", "1 of 10 rows are null"),
    ("{column: amount, min: 0}", "1 of 10 rows are below 0 (e.g. -3.0)"),
    ("{column: amount, max: 8}", "1 of 10 rows are above 8 (e.g. 9.0)"),
    ("{column: card, in_set: [1]}", "5 of 10 rows are not in [1] (e.g. 0)"),
    ("{column: card, unique: true}", "8 of 10 rows repeat a value of card"),
    ('{column: [card, amount], unique: true, where: "amount < 5"}', None),
    ("{row_count: {min: 11}}", "there are 10 rows"),
    ("{row_count: {max: 9}}", "there are 10 rows"),
    ("{freshness: 1h}", "the newest row is"),
    ("{column: ts, freshness: 1h}", "the newest row is"),
    ("{schema: {amount: int64}}", "amount is float64, not int64"),
    ('{expression: "amount < 9 or card = 0"}', "1 of 10 rows do not satisfy"),
    ("{column: amount, not_null: true, share: 0.95}", "0.95 of the rows must pass"),
    ('{column: amount, max: 8, where: "card = 1"}', "1 of 5 rows are above 8"),
]


@pytest.mark.parametrize("place", ["source", "table"])
@pytest.mark.parametrize(("check", "message"), FAILING)
def test_error_stops_everything_and_warn_is_said(
    make_project: Callable[..., Any], check: str, message: str | None, place: str
) -> None:
    tiny = make_project(spec(**{place: check}), pay=rows())
    where = "sources.pay.checks[0]" if place == "source" else "features.spend.checks[0]"
    if message is None:
        assert tiny.open().build().status == "done"
        return
    with pytest.raises(CheckFailed) as raised:
        tiny.open().build()
    assert where in str(raised.value)
    assert message in str(raised.value)
    assert tiny.open().store.tables() == []
    tiny.describe(spec(**{place: check[:-1] + ", on_fail: warn}"}))
    report = tiny.open().build()
    assert report.status == "done"
    assert [text for text in report.warnings if where in text and message in text]
    assert tiny.open().store.tables() == ["other", "spend"]
    assert ids(tiny.open()) == list(range(10))


@pytest.mark.parametrize(
    "check",
    [
        "{column: amount, not_null: true, share: 0.9}",
        "{column: amount, min: -3, max: 9}",
        '{column: shop, matches: "^[ab]$"}',
        "{column: id, unique: true}",
        "{row_count: {min: 10, max: 10}}",
        "{schema: {amount: float64, id: int64}}",
        '{column: amount, min: 0, where: "id <> 3"}',
    ],
)
def test_passing_checks_say_nothing(make_project: Callable[..., Any], check: str) -> None:
    table = "" if "shop" in check else check  # the table does not carry shop along
    tiny = make_project(spec(source=check, table=table), pay=rows())
    report = tiny.open().build()
    assert [text for text in report.warnings if "checks" in text] == []
    assert all(found["passed"] for outcome in report.tables for found in outcome.checks)


def test_exit_code_and_message_of_the_command(
    make_project: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = make_project(spec(table="{column: amount, min: 0, name: no refunds}"), pay=rows())
    with pytest.raises(SystemExit) as stopped:
        main(["build", str(tiny.spec), "--store", str(tiny.store), "--quiet"])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "features.spend.checks[0] (no refunds): amount min 0: 1 of 10 rows are below 0" in said
    assert "Nothing was published" in said


def test_quarantine_of_a_source_hides_rows_from_windows(make_project: Callable[..., Any]) -> None:
    check = "{column: amount, min: 0, not_null: true, on_fail: quarantine}, {row_count: {max: 8}}"
    tiny = make_project(spec(source=check), pay=rows())
    report = tiny.open().build()
    assert [text for text in report.warnings if "sources.pay.checks[0]" in text]
    assert ids(tiny.open()) == [0, 1, 2, 4, 5, 6, 8, 9]
    side = quarantined(tiny.store / "_ff" / "quarantine" / "pay")
    assert sorted(side["id"]) == [3, 7]
    assert side.columns == ["id", "card", "shop", "ts", "amount"]
    row = tiny.open().store.table("spend").to_polars().filter(pl.col("id") == 5).row(0, named=True)
    assert (row["amount_count_2d"], row["amount_sum_2d"]) == (1, 1.0)  # of 1 and 3


def test_quarantine_of_a_table_hides_rows_but_not_events(make_project: Callable[..., Any]) -> None:
    check = "{column: amount, min: 0, on_fail: quarantine}, {row_count: {max: 9}}"
    tiny = make_project(spec(table=check), pay=rows())
    report = tiny.open().build()
    assert ids(tiny.open()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    side = quarantined(tiny.store / "features" / "spend" / "_ff" / "quarantine")
    assert side["id"].to_list() == [3]
    row = tiny.open().store.table("spend").to_polars().filter(pl.col("id") == 5).row(0, named=True)
    assert (row["amount_count_2d"], row["amount_sum_2d"]) == (2, -2.0)  # 1 and -3
    assert [text for text in report.warnings if "1 rows were put into quarantine" in text]


def test_quarantine_follows_changed_data(make_project: Callable[..., Any]) -> None:
    check = "{column: amount, min: 0, on_fail: quarantine}"
    for place in ("source", "table"):
        tiny = make_project(spec(**{place: check}), name=place, pay=rows())
        tiny.open().build()
        changed = rows()
        changed[3]["amount"], changed[4]["amount"] = 3.0, -4.0
        tiny.write("pay", changed)
        tiny.open().build()
        assert ids(tiny.open()) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
        folder = tiny.store / ("_ff" if place == "source" else "features/spend/_ff") / "quarantine"
        side = quarantined(folder / "pay" if place == "source" else folder)
        assert side["id"].to_list() == [4]


def test_unique_quarantine_of_a_source_keeps_the_row_first_known(make_project: Callable[..., Any]) -> None:
    check = "{column: id, unique: true, on_fail: quarantine}, {column: amount, min: 0, on_fail: quarantine}"
    first, second = rows(), rows()
    for row in second:
        row["ts"] += timedelta(hours=1)
    tiny = make_project(spec(source=check + ", {column: id, unique: true}"), pay=first)
    tiny.write("pay", second[2:5], file="b")
    report = tiny.open().build()
    assert ids(tiny.open()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    side = quarantined(tiny.store / "_ff" / "quarantine" / "pay").sort("id", "ts")
    assert side["id"].to_list() == [2, 3, 3, 4]
    assert side["ts"].to_list() == [second[2]["ts"], first[3]["ts"], second[3]["ts"], second[4]["ts"]]
    assert [text for text in report.warnings if "2 of 13 rows repeat a value of id" in text]


def test_unique_quarantine_of_a_table_needs_keys_and_time(make_project: Callable[..., Any]) -> None:
    twice = [*rows(), {**rows()[4], "id": 40}]
    tiny = make_project(spec(table="{column: [card, ts], unique: true, on_fail: quarantine}"), pay=twice)
    tiny.open().build()
    assert len(ids(tiny.open())) == 10
    assert quarantined(tiny.store / "features" / "spend" / "_ff" / "quarantine").height == 1
    tiny.describe(spec(table="{column: id, unique: true, on_fail: quarantine}"))
    with pytest.raises(SpecError, match=r"card, ts missing"):
        tiny.open().compile()


def test_checks_see_rows_after_deduplicate(make_project: Callable[..., Any]) -> None:
    source = "deduplicate: [id]\n    fill: {amount: -1}\n"
    source += "    checks: [{column: id, unique: true}, {row_count: {max: 10}}"
    text = SPEC.replace("__SOURCE__", source + ", {column: amount, min: 0, on_fail: quarantine}]")
    tiny = make_project(text.replace("__TABLE__", ""), pay=rows())
    tiny.write("pay", [{**row, "ts": row["ts"] + timedelta(hours=1)} for row in rows()], file="b")
    tiny.open().build()
    assert ids(tiny.open()) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert sorted(quarantined(tiny.store / "_ff" / "quarantine" / "pay")["id"]) == [3, 7]


def test_a_new_check_rebuilds_nothing_but_is_judged(make_project: Callable[..., Any]) -> None:
    tiny = make_project(spec(), pay=rows())
    tiny.open().build()
    checks = "{column: amount, min: 0, on_fail: warn}, {row_count: {max: 10}}, {column: id, unique: true}"
    tiny.describe(spec(table=checks))
    for _ in range(2):
        report = tiny.open().build()
        assert report.status == "nothing to do"
        assert [text for text in report.warnings if "1 of 10 rows are below 0" in text]
        assert [outcome.version for outcome in report.tables] == [None, None]
    tiny.describe(spec(table=checks.replace(", on_fail: warn", "")))
    with pytest.raises(CheckFailed, match="1 of 10 rows are below 0"):
        tiny.open().build()
    assert tiny.open().store.table("spend").version == 1


def test_a_changed_share_or_severity_is_no_new_definition(make_project: Callable[..., Any]) -> None:
    hashes = set()
    for check in ("", "{column: amount, min: 0}", "{column: amount, min: 0, share: 0.5, on_fail: warn}"):
        tiny = make_project(spec(table=check, source=check), name=f"p{len(check)}", pay=rows())
        hashes.add(tiny.open().compile()["spend"].definition_hash)
    assert len(hashes) == 1
    tiny.describe(spec(table="{column: amount, min: 0, on_fail: quarantine}"))
    assert tiny.open().compile()["spend"].definition_hash not in hashes


def test_incremental_verdicts_are_those_of_a_full_build(make_project: Callable[..., Any]) -> None:
    checks = ", ".join(
        f"{check[:-1]}, on_fail: warn}}" for check, message in FAILING if message and "freshness" not in check
    )
    tiny = make_project(spec(table=checks, source=checks), pay=rows()[:6])
    tiny.open().build()
    tiny.write("pay", rows()[6:], file="b")
    grown = tiny.open().build()
    full = tiny.open().build(full=True)
    again = tiny.open().build()
    assert grown.tables[0].slices_computed < full.tables[0].slices_computed
    assert grown.warnings == full.warnings == again.warnings
    assert (
        [t.checks for t in grown.tables]
        == [t.checks for t in full.tables]
        == [t.checks for t in again.tables]
    )


def test_an_empty_source_has_no_wrong_rows(make_project: Callable[..., Any]) -> None:
    checks = "{column: amount, not_null: true}, {schema: {amount: float64}}, {column: id, unique: true}"
    tiny = make_project(spec(source=checks, table=checks), pay=pl.DataFrame(rows()).clear())
    assert tiny.open().build().status == "done"
    with pytest.raises(CheckFailed, match="there is no row with a time"):
        tiny.describe(spec(table="{freshness: 1d}"))
        tiny.open().build()


def test_checks_beside_histograms(make_project: Callable[..., Any]) -> None:
    table = spec(table="{column: amount, min: 0, on_fail: quarantine}, {row_count: {min: 9}}")
    tiny = make_project(table.replace("ops: [sum, count]", "ops: [sum, histogram]"), pay=rows())
    tiny.open().build()
    assert ids(tiny.open()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    tiny.describe(tiny.spec.read_text().replace("{row_count: {min: 9}}", "{column: amount, max: 9}"))
    assert tiny.open().build().status == "nothing to do"


@pytest.mark.parametrize(
    ("place", "check", "problem"),
    [
        ("source", "{column: nope, min: 0}", "sources.pay.checks[0].min: there is no column 'nope'"),
        ("source", "{column: shop, min: 0}", "sources.pay.checks[0].min: min: 0 can't be compared"),
        (
            "source",
            "{column: id, drift: psi, max: 0.1}",
            "sources.pay.checks[0].drift: drift compares versions",
        ),
        (
            "table",
            '{expression: "nope > 1"}',
            "features.spend.checks[0].expression: there is no column 'nope'",
        ),
        ("table", '{column: id, min: 0, where: "id +"}', "features.spend.checks[0].where"),
        (
            "table",
            "{column: id, freshness: 1d}",
            "features.spend.checks[0].freshness: freshness needs a time",
        ),
        ("table", "{column: [id, amount], drift: ks, max: 0.1, where: nope}", "no column 'nope'"),
    ],
)
def test_mistakes_are_found_by_compile(
    make_project: Callable[..., Any], place: str, check: str, problem: str
) -> None:
    tiny = make_project(spec(**{place: check}), pay=rows())
    for attempt in ("compile", "plan"):
        with pytest.raises(SpecError) as raised:
            getattr(tiny.open(), attempt)()
        (line,) = set(map(str, raised.value.problems))
        assert problem in line
        number = next(i for i, text in enumerate(tiny.spec.read_text().splitlines(), 1) if "checks:" in text)
        assert f"featureflow.yaml:{number}:" in line
