"""`featureflow test`: a spec's own examples, right ones and wrong ones."""

from __future__ import annotations

import time
from typing import Any

import pytest

import featureflow

SPEC_EXAMPLE = """
sources:
  transactions:
    path: s3://nowhere/transactions/*.parquet
    time: ts
    created: loaded_at
    sequence: seq
    columns: {amount: float64, opened: date}
    where: "status = 'ok'"
    derive: {log_amount: "ln(amount + 1)", hour: "extract(hour from ts)"}
    deduplicate: [txn_id]
    fill: {mcc: -1}
    clip: {amount: [0, 10000]}
    mask: {pan: drop}
    checks: [{column: amount, not_null: true, min: 0}, {freshness: 1d}]
  merchants: {path: s3://nowhere/merchants.csv, time: since}
features:
  card_spend:
    source: transactions
    keys: [card_id]
    aggregate:
      - {column: amount, ops: [count, sum, mean, max, stddev_samp], windows: [1h, 1d, 7d, 30d]}
      - {column: merchant_id, ops: [count_distinct, {last_k: {k: 5}}], windows: [7d, lifetime]}
      - {column: amount, ops: [sum], windows: [1d], where: "channel = 'web'", as: "web_{column}_{op}_{window}"}
      - {column: amount, ops: [sum], windows: [1d], by: channel, values: [web, pos]}
    lookup:
      - {from: merchants, keys: {merchant_id: id}, columns: [risk, country], ttl: 90d}
    derive: {spend_vs_usual: "amount_sum_1d / nullif(amount_mean_30d, 0)"}
    keep: [txn_id, amount]
    checks: [{column: amount_sum_1d, min: 0}, {row_count: {min: 1000}}]
tests:
  - name: window excludes the event itself
    given: {transactions: [{card_id: 1, ts: 2026-01-01T10:00, amount: 5, status: ok}]}
    expect: {card_spend: [{card_id: 1, ts: 2026-01-01T10:00, amount_count_1h: 0, amount_sum_1h: null}]}
  - name: two payments and a merchant
    given:
      transactions:
        - {card_id: 1, ts: 2026-01-01T10:00, amount: 5, status: ok, txn_id: a, merchant_id: 7, channel: web}
        - {card_id: 1, ts: 2026-01-01T10:30, amount: 7, status: ok, txn_id: b, merchant_id: 8, channel: pos}
        - {card_id: 1, ts: 2026-01-01T10:40, amount: 7, status: ok, txn_id: b, merchant_id: 8, channel: pos}
        - {card_id: 1, ts: 2026-01-01T10:45, amount: 7, status: bad, txn_id: c}
        - {card_id: 1, ts: 2026-01-01T11:00, amount: 20000, status: ok, txn_id: d, merchant_id: 7}
      merchants: [{id: 7, since: 2025-12-31, risk: 0.5, country: DE}]
    expect:
      card_spend:
        - {card_id: 1, ts: 2026-01-01T10:00, risk: 0.5, amount_sum_1h: null, txn_id: a}
        - {card_id: 1, ts: 2026-01-01T10:30, country: null, amount_sum_1h: 5, web_amount_sum_1d: 5}
        - card_id: 1
          ts: 2026-01-01T11:00
          amount: 10000
          amount_count_1h: 2
          amount_mean_1h: 6
          amount_stddev_samp_1h: 1.4142135623730951
          amount_sum_1d__web: 5
          amount_sum_1d__pos: 7
          merchant_id_count_distinct_7d: 2
          merchant_id_last_k_7d: [8, 7]
          spend_vs_usual: 2
"""

SMALL = """
sources:
  s: {path: nowhere.parquet, time: t__SOURCE__}
__MORE__
features:
  f:
    source: s
    keys: [k]
    __FEATURE__
tests:
  - name: it
    given: {s: __GIVEN__}
    expect: {f: __EXPECT__}
"""


def results(text: str) -> list[Any]:
    return featureflow.Project(text).test()


def small(feature: str, given: str, expect: str, source: str = "", more: str = "") -> Any:
    text = SMALL.replace("__FEATURE__", feature).replace("__GIVEN__", given).replace("__EXPECT__", expect)
    (result,) = results(text.replace("__SOURCE__", source).replace("__MORE__", more))
    return result


def test_the_example_of_the_language() -> None:
    assert [(result.passed, result.message) for result in results(SPEC_EXAMPLE)] == [(True, "")] * 2


PASSING = {
    "count of rows": (
        "aggregate: [{ops: count, windows: [1h]}]",
        "[{k: a, t: 2026-01-01T00:00}, {k: a, t: 2026-01-01T00:30}]",
        "[{k: a, t: 2026-01-01T00:30, count_1h: 1}]",
    ),
    "a column that no row has": (
        "aggregate: [{column: x, ops: [sum, median, {ewm_mean: {half_life: 1d}}], windows: [1h]}]",
        "[{k: 1, t: 2026-01-01}]",
        "[{k: 1, x_sum_1h: null, x_median_1h: null}]",
    ),
    "a truth that no row has": (
        "aggregate: [{column: x, ops: [any], windows: [1h]}]",
        "[{k: 1, t: 2026-01-01}]",
        "[{k: 1, x_any_1h: null}]",
    ),
    "a condition on a column that no row has": (
        'aggregate: [{ops: count, windows: [1h], where: "x > 3 and y"}]',
        "[{k: 1, t: 2026-01-01}]",
        "[{k: 1, count_1h: 0}]",
    ),
    "integers and fractions mixed": (
        "aggregate: [{column: x, ops: sum, windows: [1h], closed: right}]",
        "[{k: 1, t: 2026-01-01, x: 1}, {k: 1, t: 2026-01-01, x: 2.5}]",
        "[{k: 1, x_sum_1h: 3.5}, {x_sum_1h: 3.5}]",
    ),
    "rounded numbers": (
        "aggregate: [{column: x, ops: sum, windows: [1h], closed: right}]",
        "[{k: 1, t: 2026-01-01, x: 0.1}, {k: 1, t: 2026-01-01, x: 0.2}]",
        "[{k: 1, x_sum_1h: 0.3}]",
    ),
    "a grid": (
        "at: {every: 1d, to: 2026-01-04}\n    aggregate: [{column: x, ops: max, windows: [2d]}]",
        "[{k: 1, t: 2026-01-01T10:00, x: 4}]",
        "[{k: 1, t: 2026-01-02, x_max_2d: 4}, {k: 1, t: 2026-01-03T00:00:00Z, x_max_2d: 4}]",
    ),
    "a map": (
        "aggregate: [{column: x, ops: histogram, windows: [1d], closed: right}]",
        "[{k: 1, t: 2026-01-01, x: web}, {k: 1, t: 2026-01-01, x: pos}, {k: 1, t: 2026-01-01, x: web}]",
        "[{k: 1, x_histogram_1d: {web: 2, pos: 1}}]",
    ),
    "lists": (
        "aggregate: [{column: x, ops: [{first_k: {k: 2}}, {top_k: {k: 2}}], windows: [1d], closed: right}]",
        "[{k: 1, t: 2026-01-01T01:00, x: 5}, {k: 1, t: 2026-01-01T02:00, x: 9}, {k: 1, t: 2026-01-01T03:00, x: 7}]",
        "[{k: 1, t: 2026-01-01T03:00, x_first_k_1d: [5, 9], x_top_k_1d: [9, 7]}]",
    ),
    "no rows given": ("aggregate: [{column: x, ops: sum, windows: [1d]}]", "[]", "[]"),
    "null keys and times": (
        "aggregate: [{ops: count, windows: [1d]}]",
        "[{k: null, t: 2026-01-01}, {k: 1, t: null}]",
        "[{k: null, t: 2026-01-01, count_1d: null}, {k: 1, t: null}]",
    ),
    "text keys that look like numbers": (
        "keep: [x]",
        "[{k: '007', t: 2026-01-01, x: true}]",
        "[{k: '007', x: true}]",
    ),
    "the row that says most is found first": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01, x: 1}, {k: 1, t: 2026-01-01, x: 2}]",
        "[{k: 1}, {k: 1, x: 1}]",
    ),
}


@pytest.mark.parametrize("case", PASSING)
def test_right_expectations_pass(case: str) -> None:
    result = small(*PASSING[case])
    assert (result.passed, result.message) == (True, "")


FAILING = {
    "another value": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01, x: 1}]",
        "[{k: 1, x: 2}]",
        "row with k=1: x is 1, expected 2.",
    ),
    "null for a value": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01, x: 1}]",
        "[{k: 1, x: null}]",
        "x is 1, expected null.",
    ),
    "truth is no number": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01, x: true}]",
        "[{k: 1, x: 1}]",
        "x is true, expected 1.",
    ),
    "another key": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01, x: 1}]",
        "[{k: 2, x: 1}]",
        "there is no row with k=2. There is: k=1, t=2026-01-01T00:00:00.",
    ),
    "another time": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01, x: 1}]",
        "[{k: 1, t: 2026-01-02}]",
        "there is no row with k=1, t=",
    ),
    "too often": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01, x: 1}]",
        "[{k: 1}, {k: 1}]",
        "there is no row with k=1. There are: none.",
    ),
    "no such column": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01}]",
        "[{k: 1, y: 1}]",
        "there is no column 'y'; there are k, t, x.",
    ),
    "rows where none are expected": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01}]",
        "[]",
        "there are 1 rows, expected none.",
    ),
    "several types": (
        "keep: [x]",
        "[{k: 1, t: 2026-01-01, x: 1}, {k: 1, x: a}]",
        "[]",
        "given.s: column 'x' has values of several types: int, str.",
    ),
    "no time": ("keep: [x]", "[{k: 1, t: noon}]", "[]", "'noon'"),
}


@pytest.mark.parametrize("case", FAILING)
def test_wrong_expectations_fail_and_say_why(case: str) -> None:
    *parts, message = FAILING[case]
    result = small(*parts)
    assert not result.passed
    assert message in result.message
    if "given" not in message and "noon" not in message:
        assert result.message.startswith("tests[0].expect.f")


def test_knowledge_time_and_duplicates() -> None:
    more = "  r: {path: r.csv, time: t, created: c, deduplicate: [id]}"
    given = "[{k: 1, t: 2026-01-05}]"
    lookup = "lookup: [{from: r, keys: [k], columns: [v]}]"
    rows = (
        "[{k: 1, t: 2026-01-01, c: 2026-01-02, v: 1, id: a}, {k: 1, t: 2026-01-03, c: 2026-01-06, v: 2, id: b}, "
        "{k: 1, t: 2026-01-02, c: 2026-01-03, v: 3, id: a}]"
    )
    assert small(lookup, f"{given}, r: {rows}", "[{k: 1, v: 1}]", more=more).passed
    late = small(lookup, f"{given}, r: {rows}", "[{k: 1, v: 2}]", more=more)
    assert "v is 1, expected 2" in late.message


def test_a_look_up_into_a_source_without_rows() -> None:
    more = "  r: {path: r.csv, time: t}"
    lookup = "lookup: [{from: r, keys: [k], columns: [v]}]"
    assert small(lookup, "[{k: 1, t: 2026-01-05}]", "[{k: 1, v: null}]", more=more).message == ""


def test_times_without_a_zone_are_in_the_zone_of_the_source() -> None:
    source = ", timezone: America/New_York"
    given = "[{k: 1, t: 2026-07-01T10:00}]"
    for expected in ("2026-07-01T10:00", "2026-07-01T14:00Z", "'2026-07-01T16:00+02:00'"):
        assert small("keep: [x]", given, f"[{{k: 1, t: {expected}}}]", source=source).message == ""


def test_quarantine_counts_and_other_checks_do_not() -> None:
    source = ", checks: [{column: x, min: 0, on_fail: quarantine}, {row_count: {min: 100}}]"
    given = "[{k: 1, t: 2026-01-01, x: 1}, {k: 2, t: 2026-01-01, x: -1}]"
    assert small("keep: [x]", given, "[{k: 1, x: 1}]", source=source).passed
    assert "no row with k=2" in small("keep: [x]", given, "[{k: 2}]", source=source).message


def test_declared_types_of_the_source() -> None:
    source = ", columns: {x: int32, t: 'timestamp[s]', d: date}, clip: {y: [0.5, 2]}, fill: {z: 0.5}"
    given = (
        "[{k: 1, t: 2026-01-01T00:00:01, x: 3, d: 2026-02-03, y: 0, z: null}, {k: 2, t: 2026-01-01, z: 1}]"
    )
    assert (
        small(
            "keep: [x, d, y, z]", given, "[{k: 1, x: 3, d: 2026-02-03, y: 0.5, z: 0.5}]", source=source
        ).message
        == ""
    )
    numbers = small(
        "keep: [x]",
        "[{k: 1, t: 1767225600}]",
        "[{k: 1, t: 2026-01-01}]",
        source=", columns: {t: 'timestamp[s]'}",
    )
    assert numbers.message == ""


def test_tables_on_tables() -> None:
    text = """
sources: {s: {path: x.csv, time: t}}
features:
  a: {source: s, keys: [k], aggregate: [{column: x, ops: sum, windows: [1d], closed: right}]}
  b: {source: a, keys: [k], derive: {}, aggregate: [{column: x_sum_1d, ops: max, windows: [7d], closed: right}]}
  unused: {source: s, keys: [k], checks: [{column: nope, min: 0}], partition: month}
tests:
  - name: both
    given: {s: [{k: 1, t: 2026-01-01, x: 1}, {k: 1, t: 2026-01-02, x: 2}]}
    expect: {b: [{k: 1, t: 2026-01-02, x_sum_1d_max_7d: 2}], a: [{k: 1, t: 2026-01-02, x_sum_1d: 2}]}
"""
    text = text.replace(
        "  unused: {source: s, keys: [k], checks: [{column: nope, min: 0}], partition: month}\n", ""
    )
    assert [result.message for result in results(text)] == [""]


DATASET = """
sources:
  payments: {path: s3://nowhere/p.parquet, time: ts, timezone: Europe/Berlin}
  cards: {path: s3://nowhere/c.csv, time: since}
  frauds: {path: s3://nowhere/f.csv, time: at}
features:
  spend: {source: payments, keys: [card], aggregate: [{column: amount, ops: [sum, count], windows: [1d]}]}
datasets:
  train:
    spine: {source: payments, keys: [card], where: "amount > 1"}
    features: [{table: spend, prefix: s_}]
    lookup: [{from: cards, keys: {card: id}, columns: [country]}]
    derive: {double: "s_amount_sum_1d * 2"}
    label: {source: frauds, keys: [card], op: count, horizon: 7d, where: "kind = 'stolen'", fill_empty: 0, as: fraud}
    split: {by: time, train: "< 2026-01-02", valid: rest}
    encode: [{columns: [country], with: onehot}]
    export: {format: arrow}
    checks: [{row_count: {min: 1000}}]
  other: {spine: {path: x.csv, keys: [k]}}
tests:
  - name: what a row knows
    given:
      payments:
        - {card: 1, ts: 2026-01-01T10:00, amount: 5}
        - {card: 1, ts: 2026-01-01T11:00, amount: 7}
        - {card: 1, ts: 2026-01-01T12:00, amount: 1}
        - {card: 2, ts: 2026-01-01T12:00, amount: 9}
      cards: [{id: 1, since: 2025-12-01, country: DE}]
      frauds:
        - {card: 1, at: 2026-01-03, kind: stolen}
        - {card: 2, at: 2026-01-03, kind: lost}
        - {card: 3, at: 2026-02-01}
    expect:
      train: __TRAIN__
      spend: [{card: 2, ts: 2026-01-01T12:00, amount_count_1d: 0}]
"""


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            """[{card: 1, ts: 2026-01-01T11:00, s_amount_sum_1d: 5, double: 10, country: DE, fraud: 1},
                {card: 2, country: null, s_amount_sum_1d: null, fraud: 0}]""",
            "",
        ),
        ("[{card: 1, ts: 2026-01-01T12:00}]", "there is no row with card=1, ts=2026-01-01T12:00. There are"),
        ("[{card: 2, fraud: 1}]", "fraud is 0, expected 1"),
        ("[]", "there are 3 rows, expected none"),
    ],
)
def test_datasets(rows: str, said: str) -> None:
    (found,) = results(DATASET.replace("__TRAIN__", rows))
    assert said in found.message
    assert found.passed == (not said)


def test_a_dataset_whose_spine_is_files_can_not_be_tested() -> None:
    with pytest.raises(featureflow.SpecError, match=r"expect\.other: the spine of dataset 'other' is files"):
        results(DATASET.replace("train: __TRAIN__", "other: []"))


def test_the_project_is_left_alone(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATUREFLOW_SCRATCH", str(tmp_path / "scratch"))
    assert all(result.passed for result in results(SPEC_EXAMPLE))
    assert list(tmp_path.iterdir()) == []


def test_many_tests_take_seconds() -> None:
    head, one = SMALL.split("tests:\n")
    body = one.replace("name: it", "name: it NR").replace("__GIVEN__", "[{k: 1, t: 2026-01-01, x: NR}]")
    body = body.replace("__EXPECT__", "[{k: 1, x_count_1d: 0}]")
    head = head.replace("__FEATURE__", "aggregate: [{column: x, ops: [count, sum], windows: [1d]}]")
    text = head.replace("__SOURCE__", "").replace("__MORE__", "") + "tests:\n"
    text += "".join(body.replace("NR", str(i)) for i in range(20))
    results(text)  # compiles what Numba has not cached yet
    begun = time.process_time()
    assert len([result for result in results(text) if result.passed]) == 20
    assert time.process_time() - begun < 10
