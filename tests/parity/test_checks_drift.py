"""Drift checks of feature tables, end to end: references, verdicts, what can't be compared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from featureflow.core.errors import CheckFailed, SpecError, TableError
from featureflow.tables.tags import set_tag

SPEC = """
project: p
sources:
  pay: {path: "{data}/pay/*.parquet", time: ts, missing_columns: null}
features:
  spend:
    source: pay
    keys: [card]
    keep: [amount, channel, big]
    partition: month
    checks: [__CHECK__]
"""


def frame(n: int, *, seed: int, shift: float = 0.0, nulls: float = 0.0, web: float = 0.5) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    start = datetime(2026, 1 + seed, 1, tzinfo=UTC)
    amount = pl.Series(rng.normal(100 + shift, 10, n))
    return pl.DataFrame(
        {
            "card": rng.integers(0, 20, n),
            "ts": [start + timedelta(minutes=10 * i) for i in range(n)],
            "amount": amount.zip_with(
                pl.Series(rng.random(n) >= nulls), pl.Series([None] * n, dtype=pl.Float64)
            ),
            "channel": np.where(rng.random(n) < web, "web", "pos"),
            "big": (amount > 100).to_numpy(),
        }
    )


def project(make_project: Callable[..., Any], check: str, first: pl.DataFrame) -> Any:
    return make_project(SPEC.replace("__CHECK__", check), pay=first)


def message(report: Any) -> str:
    return str(report.tables[0].checks[0]["message"])


CHANGES = [
    ("amount", "psi", {"shift": 60.0}),
    ("amount", "js", {"shift": 60.0}),
    ("amount", "ks", {"shift": 60.0}),
    ("amount", "mean_shift", {"shift": 60.0}),
    ("amount", "null_rate", {"nulls": 0.9}),
    ("channel", "psi", {"web": 0.0}),
    ("channel", "js", {"web": 0.0}),
    ("big", "psi", {"shift": 60.0}),
]


@pytest.mark.parametrize(("column", "measure", "change"), CHANGES)
def test_more_of_the_same_passes_and_something_else_fails(
    make_project: Callable[..., Any], column: str, measure: str, change: dict[str, float]
) -> None:
    tiny = project(make_project, f"{{column: {column}, drift: {measure}, max: 0.1}}", frame(600, seed=0))
    first = tiny.open().build()
    assert "there is no version to compare with yet" in message(first)
    tiny.write("pay", frame(600, seed=1), file="b")
    same = tiny.open().build()
    assert f"features.spend.checks[0]: {column} drift {measure}: 0" in message(same)
    assert "from version 1; at most 0.1 is allowed" in message(same)
    assert message(tiny.open().build()) == message(same)  # nothing to do: the same verdict
    tiny.write("pay", frame(3000, seed=2, **change), file="c")
    with pytest.raises(CheckFailed, match=rf"{column} drift {measure}: .* from version 2"):
        tiny.open().build()
    assert tiny.open().store.table("spend").version == 2
    tiny.describe(tiny.spec.read_text().replace("max: 0.1", "max: 0.1, on_fail: warn"))
    report = tiny.open().build()
    assert report.tables[0].version == 3
    assert [text for text in report.warnings if "from version 2" in text]


def test_the_measured_figure_is_that_of_the_rows(make_project: Callable[..., Any]) -> None:
    old, more = frame(500, seed=0, nulls=0.1), frame(100, seed=1, nulls=0.5, shift=5)
    tiny = project(make_project, "{column: amount, drift: null_rate, max: 1}", old)
    tiny.open().build()
    tiny.write("pay", more, file="b")
    both = pl.concat([old, more])["amount"]
    wanted = abs(both.null_count() / 600 - old["amount"].null_count() / 500)
    assert f"null_rate: {wanted:.4g} from version 1" in message(tiny.open().build())
    tiny.describe(tiny.spec.read_text().replace("null_rate", "ks"))
    x = np.sort(both.drop_nulls().unique().to_numpy())
    shares = [
        np.searchsorted(np.sort(s.drop_nulls().to_numpy()), x, "right") / s.drop_nulls().len()
        for s in (old["amount"], both)
    ]
    assert f"ks: {np.abs(shares[0] - shares[1]).max():.4g} from version 1" in message(tiny.open().build())


def test_where_is_for_both_sides(make_project: Callable[..., Any]) -> None:
    check = "{column: amount, drift: mean_shift, max: 0.01, where: \"channel = 'web'\"}"
    old = frame(300, seed=0)
    tiny = project(make_project, check, old)
    tiny.open().build()
    tiny.write("pay", frame(300, seed=1, shift=500, web=0.0), file="b")
    assert "mean_shift: 0 from version 1" in message(tiny.open().build())


def test_a_tag_or_number_is_the_reference(make_project: Callable[..., Any]) -> None:
    tiny = project(make_project, "{column: amount, drift: ks, max: 0.3, against: good}", frame(300, seed=0))
    tiny.open().build()
    set_tag(str(tiny.store / "features" / "spend"), "good", 1)
    tiny.write("pay", frame(60, seed=1, shift=60), file="b")
    assert "from version 1" in message(tiny.open().build())
    tiny.write("pay", frame(100, seed=2, shift=60), file="c")
    with pytest.raises(CheckFailed, match="from version 1"):
        tiny.open().build()
    tiny.describe(tiny.spec.read_text().replace("against: good", "against: '2'"))
    assert "from version 2" in message(tiny.open().build())
    tiny.describe(tiny.spec.read_text().replace("against: '2'", "against: best"))
    with pytest.raises(TableError, match=r"features.spend.checks\[0\]: drift against 'best': .*no such tag"):
        tiny.open().build()


def test_several_columns_are_several_checks(make_project: Callable[..., Any]) -> None:
    tiny = project(make_project, "{column: [amount, channel], drift: psi, max: 0.1}", frame(300, seed=0))
    report = tiny.open().build()
    assert [check["message"].split(" drift")[0] for check in report.tables[0].checks] == [
        "features.spend.checks[0]: amount",
        "features.spend.checks[0]: channel",
    ]


def test_what_can_not_be_compared(make_project: Callable[..., Any]) -> None:
    old = frame(50, seed=0)
    tiny = project(
        make_project,
        "{column: amount, drift: psi, max: 0.1}",
        old.with_columns(pl.lit(None, pl.Float64).alias("amount")),
    )
    tiny.open().build()
    tiny.write("pay", old)
    assert "there are no values in version 1" in message(tiny.open().build())
    tiny.write("pay", old.with_columns(pl.lit(None, pl.Float64).alias("amount")))
    with pytest.raises(CheckFailed, match="there are no values now"):
        tiny.open().build()
    tiny.write("pay", old.with_columns(pl.lit("x").alias("amount")))
    with pytest.raises(CheckFailed, match="its type is not that of version 2"):
        tiny.open().build()
    tiny.write("pay", old.with_columns(pl.lit(1).alias("new")))
    text = tiny.spec.read_text().replace("keep: [", "keep: [new, ").replace("column: amount", "column: new")
    tiny.describe(text)
    assert "version 2 does not have the column" in message(tiny.open().build())


@pytest.mark.parametrize("measure", ["ks", "mean_shift"])
def test_text_has_no_order(make_project: Callable[..., Any], measure: str) -> None:
    tiny = project(make_project, f"{{column: channel, drift: {measure}, max: 0.1}}", frame(5, seed=0))
    with pytest.raises(
        SpecError, match=r"checks\[0\].drift: drift: .* needs numbers or times; 'channel' is string"
    ):
        tiny.open().compile()
