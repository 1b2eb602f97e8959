from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from featureflow.core.durations import Duration
from featureflow.spec.load import load_text
from featureflow.spec.models import AggregateEntry, Every, Feature, Lookup, Source, WindowRule
from featureflow.spec.ops import Op

CONTRACT = r"""
featureflow: 1
project: fraud
store: ${FEATUREFLOW_STORE:-./store}
sources:
  transactions:
    path: s3://lake/transactions/*.parquet
    format: parquet
    time: ts
    created: loaded_at
    sequence: seq
    timezone: UTC
    columns: {amount: float64, opened: date}
    where: "status = 'ok'"
    derive:
      log_amount: "ln(amount + 1)"
      hour: "extract(hour from ts)"
    deduplicate: [txn_id]
    fill: {mcc: -1}
    clip: {amount: [0, 10000]}
    mask: {pan: sha256}
    checks:
      - {column: amount, not_null: true, min: 0, on_fail: error}
  merchants: {path: [m1.csv, m2.csv], time: since}
  labels: {path: labels.parquet, time: t}
  customers: {path: customers.csv, time: since}
  chargebacks: {path: chargebacks.parquet, time: ts}
features:
  card_spend:
    description: Trailing spend of a card.
    owner: risk@example.com
    tags: [fraud]
    source: transactions
    keys: [card_id]
    at: events
    aggregate:
      - {column: amount, ops: [count, sum, mean, max, stddev_samp], windows: [1h, 1d, 7d, 30d]}
      - {column: merchant_id, ops: [count_distinct, {last_k: {k: 5}}], windows: [7d, lifetime]}
      - {column: amount, ops: [sum], windows: [1d], where: "channel = 'web'", as: "web_{column}_{op}_{window}"}
      - {column: amount, ops: [sum], windows: [1d], by: channel, values: [web, pos]}
    window: {closed: left, delay: 0s}
    lookup:
      - {from: merchants, keys: {merchant_id: id}, columns: [risk, country], ttl: 90d}
    derive:
      spend_vs_usual: "amount_sum_1d / nullif(amount_mean_30d, 0)"
    keep: [txn_id, amount]
    partition: day
    checks: [{column: amount_sum_1d, min: 0}]
  merchant_stats:
    source: transactions
    keys: [merchant]
    aggregate: [{ops: count, windows: 7d, as: "n_{window}"}]
datasets:
  fraud_train:
    spine: {source: labels, keys: [card_id], time: t, where: "t >= '2026-02-01'"}
    features:
      - card_spend
      - {table: merchant_stats, keys: {merchant_id: merchant}, columns: [n_7d], prefix: m_}
    lookup: [{from: customers, columns: [tier], ttl: 365d}]
    derive: {spent: "amount_sum_1d > 0"}
    label: {source: chargebacks, keys: [card_id], op: count, horizon: 30d, gap: 0s, as: label, derive: "label > 0"}
    split: {by: time, train: "< 2026-03-01", valid: "< 2026-03-15", test: rest, embargo: 30d}
    encode:
      - {columns: [amount_sum_1d], with: [{impute: median}, standard]}
      - {columns: [channel], with: onehot, min_count: 10}
      - {columns: [merchant_id], with: target, folds: time, smoothing: 20}
    export: {format: webdataset, path: ./shards, shard_size: 256MB, shuffle: {seed: 7}, compression: zstd}
tests:
  - name: window excludes the event itself
    given: {transactions: [{card_id: 1, ts: 2026-01-01T10:00, amount: 5}]}
    expect: {card_spend: [{card_id: 1, ts: 2026-01-01T10:00, amount_count_1h: 0}]}
"""


def test_the_contract_reads_as_it_says() -> None:
    project = load_text(CONTRACT, env={}).project
    source, feature = project.sources["transactions"], project.features["card_spend"]
    assert (project.project, project.store, project.allow_python) == ("fraud", "./store", False)
    assert source.path == ("s3://lake/transactions/*.parquet",)
    assert (source.time, source.created, source.sequence) == ("ts", "loaded_at", "seq")
    assert list(source.derive) == ["log_amount", "hour"]
    assert source.clip == {"amount": (0, 10000)}
    assert source.fill == {"mcc": -1}
    assert [(c.kind, c.column, c.value, c.on_fail) for c in source.each_check] == [
        ("not_null", "amount", True, "error"),
        ("min", "amount", 0, "error"),
    ]
    assert project.sources["merchants"].format == "csv"
    assert feature.at == "events"
    assert feature.every is None
    assert feature.aggregate[1].ops == (Op("count_distinct"), Op("last_k", (("k", 5),)))
    assert feature.aggregate[1].windows == (Duration.parse("7d"), Duration.parse("lifetime"))
    assert feature.lookup[0].keys == {"merchant_id": "id"}
    assert feature.lookup[0].ttl == Duration.parse("90d")
    assert project.tests[0].given["transactions"][0]["ts"] == "2026-01-01T10:00"
    assert project.datasets["fraud_train"].spine.time == "t"


def test_models_survive_a_round_trip_through_their_own_dump() -> None:
    project = load_text(CONTRACT, env={}).project
    dumped = project.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert type(project).model_validate(dumped) == project


def feature(**given: Any) -> Feature:
    return Feature.model_validate({"source": "s", "keys": "k", **given})


def test_one_value_stands_for_a_list() -> None:
    one = feature(aggregate=[{"column": "x", "ops": "sum", "windows": "1d"}], keep="a", tags="t")
    many = feature(aggregate=[{"column": "x", "ops": ["sum"], "windows": ["1d"]}], keep=["a"], tags=["t"])
    assert one == many
    assert one.keys == ("k",)


def test_keys_of_one_name_may_be_a_list() -> None:
    given = {"from": "x", "columns": ["a"], "keys": ["k", "l"]}
    assert Lookup.model_validate(given).keys == {"k": "k", "l": "l"}


@pytest.mark.parametrize(
    ("table", "entry", "expected"),
    [
        ({}, {}, (False, None)),
        ({"fill_empty": 0}, {}, (True, 0)),
        ({"fill_empty": 0}, {"fill_empty": None}, (True, None)),
        ({}, {"fill_empty": -1}, (True, -1)),
    ],
)
def test_fill_empty(table: dict[str, Any], entry: dict[str, Any], expected: tuple[bool, Any]) -> None:
    made = feature(aggregate=[{"column": "x", "ops": "sum", "windows": "1d", **entry}], **table)
    assert made.fill_of(made.aggregate[0]) == expected


def test_an_entry_overrides_the_tables_window_rule() -> None:
    defaults = WindowRule.model_validate({"closed": "both", "delay": "1h", "tail_hop": "1m"})
    entry = AggregateEntry.model_validate({"ops": "count", "windows": "1d", "closed": "none", "delay": "0s"})
    rule = entry.window_rule(defaults)
    assert (rule.closed, str(rule.delay), str(rule.tail_hop)) == ("none", "0s", "1m")


@pytest.mark.parametrize(
    ("text", "timezone", "expected"),
    [
        ("2026-01-01", "UTC", 1_767_225_600_000_000),
        ("2026-01-01", "Europe/Berlin", 1_767_222_000_000_000),
        ("2026-01-01T00:00:00+01:00", "UTC", 1_767_222_000_000_000),
        ("1969-12-31T23:59:59.999999", "UTC", -1),
    ],
)
def test_ends_of_a_grid_are_utc_microseconds(text: str, timezone: str, expected: int) -> None:
    every = Every.model_validate({"every": "1d", "from": text, "timezone": timezone})
    assert every.start_us == expected
    assert every.end_us is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.parquet", "parquet"),
        ("a/*.CSV.gz", "csv"),
        (["a.jsonl", "b.ndjson"], "json"),
        ("t.delta/", "delta"),
        ("x.feather", "arrow"),
    ],
)
def test_format_from_the_suffix(path: Any, expected: str) -> None:
    assert Source.model_validate({"path": path}).format == expected


@pytest.mark.parametrize("path", ["folder/", ["a.csv", "b.parquet"], "a.xlsx"])
def test_no_guess_at_a_format(path: Any) -> None:
    with pytest.raises(ValidationError):
        Source.model_validate({"path": path})
    assert Source.model_validate({"path": path, "format": "csv"}).format == "csv"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("double", "float64"),
        ("str", "string"),
        ("DateTime", "timestamp"),
        ("decimal(10,2)", "decimal(10, 2)"),
    ],
)
def test_type_spellings(given: str, expected: str) -> None:
    assert Source.model_validate({"path": "a.csv", "columns": {"x": given}}).columns == {"x": expected}


@pytest.mark.parametrize("given", ["int", "float", "decimal(39, 2)", "decimal(2, 3)", "list", 5, None])
def test_types_are_never_guessed(given: Any) -> None:
    with pytest.raises(ValidationError):
        Source.model_validate({"path": "a.csv", "columns": {"x": given}})


def test_several_columns_are_checked_one_by_one_but_unique_together() -> None:
    checks = [{"column": ["a", "b"], "not_null": True, "unique": True}, {"row_count": {"min": 1}}]
    source = Source.model_validate({"path": "a.csv", "checks": checks})
    assert [(c.kind, c.columns, c.value, c.entry) for c in source.each_check] == [
        ("not_null", ("a",), True, 0),
        ("not_null", ("b",), True, 0),
        ("unique", ("a", "b"), True, 0),
        ("row_count", (), (1, None), 1),
    ]


def test_drift_takes_max_for_itself() -> None:
    checks = [{"column": "a", "drift": "psi", "max": 0.2, "against": "prod"}]
    (check,) = Source.model_validate({"path": "a.csv", "checks": checks}).each_check
    assert (check.kind, check.value) == ("drift", ("psi", "prod", 0.2))


def test_nothing_in_a_spec_can_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        feature().source = "other"  # type: ignore[misc]


def test_a_few_lines_cannot_ask_for_millions_of_columns() -> None:
    windows = [f"{n}s" for n in range(1, 201)]
    values = list(range(200))
    entry = {"column": "x", "ops": ["sum"], "windows": windows, "by": "c", "values": values}
    with pytest.raises(ValidationError, match="makes 40000 columns"):
        feature(aggregate=[entry])
