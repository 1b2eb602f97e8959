"""Every spelling of a dataset, and what a loaded spec has decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from featureflow.core.durations import Duration
from featureflow.core.errors import SpecError
from featureflow.spec.datasets import Dataset, Export, Label, Sample, Shuffle, Spine, Split, UsedTable
from featureflow.spec.exports import Normalize, parse_size
from featureflow.spec.load import load_text
from featureflow.spec.resolve import keys_of_use
from featureflow.spec.splits import Before, Rest, Share, Values

PROJECT = """
sources:
  events: {path: events.parquet, time: ts}
  users: {path: users.csv, time: since}
  labels: {path: labels.parquet, time: t}
  undated: {path: undated.csv}
features:
  spend: {source: events, keys: [user], aggregate: [{column: amount, ops: sum, windows: 1d}]}
  shops: {source: events, keys: [shop], aggregate: [{ops: count, windows: 1d}]}
  pairs: {source: events, keys: [payer, payee], aggregate: [{ops: count, windows: 1d, as: n}]}
"""


def dataset(text: str, spine: str = "{source: labels, keys: [user]}") -> Dataset:
    indented = "\n".join(f"    {line}" for line in text.splitlines())
    return load_text(f"{PROJECT}datasets:\n  d:\n    spine: {spine}\n{indented}\n").project.datasets["d"]


def problems(text: str, spine: str = "{source: labels, keys: [user]}") -> str:
    with pytest.raises(SpecError) as caught:
        dataset(text, spine)
    return str(caught.value)


def test_a_dataset_of_a_spine_alone() -> None:
    made = dataset("")
    assert made.spine == Spine(source="labels", keys=("user",), time="t")
    assert (made.features, made.label, made.encode, made.split, made.export) == ((), (), (), None, None)
    assert made.horizon == Duration(0, "0us")


@pytest.mark.parametrize(
    ("spine", "time"),
    [
        ("{source: labels, keys: user}", "t"),
        ("{source: labels, keys: user, time: asked_at}", "asked_at"),
        ("{source: spend, keys: user}", "ts"),
        ("{source: undated, keys: user}", None),
        ("{path: rows.csv, keys: user}", None),
        ("{path: rows.csv, keys: user, time: at}", "at"),
    ],
)
def test_the_time_of_a_spine(spine: str, time: str | None) -> None:
    assert dataset("", spine).spine.time == time


def test_a_spine_of_files() -> None:
    files = 'path: rows-*.txt, format: csv, options: {delimiter: ";"}, timezone: Asia/Tokyo'
    text = f"{{{files}, keys: [a, b], time: at, columns: y}}"
    spine = dataset("", text).spine
    assert spine.source is None
    assert spine.files is not None
    assert (spine.files.path, spine.files.format, spine.files.time) == (("rows-*.txt",), "csv", "at")
    assert (spine.files.options.delimiter, spine.files.timezone) == (";", "Asia/Tokyo")
    assert (spine.columns, spine.files.columns) == (("y",), {})


def test_features_by_name_and_with_keys() -> None:
    text = """
features:
  - spend
  - {table: shops, keys: {shop_id: shop}, columns: count_1d, prefix: s_}
  - {table: shops, keys: {shop: last_shop}, prefix: l_}
  - {table: pairs, keys: {user: payer}, prefix: p_}
  - {table: pairs, keys: [payer, payee], prefix: q_}
"""
    assert [used.keys for used in dataset(text).features] == [
        {"user": "user"},
        {"shop_id": "shop"},
        {"last_shop": "shop"},
        {"user": "payer", "payee": "payee"},
        {"payer": "payer", "payee": "payee"},
    ]
    assert dataset("features: spend").features == (UsedTable(table="spend", keys={"user": "user"}),)
    assert dataset("features: {table: spend}").features == dataset("features: [spend]").features


@pytest.mark.parametrize(
    ("given", "keys", "expected"),
    [
        ({}, ["a", "b"], {"a": "a", "b": "b"}),
        ({"x": "b", "y": "a"}, ["a", "b"], {"y": "a", "x": "b"}),
        (
            {"b": "a", "a": "b"},
            ["a", "b"],
            {"b": "a", "a": "b"},
        ),  # both readings fit: the spine's column first
        ({"a": "x", "b": "y"}, ["a", "b"], {"x": "a", "y": "b"}),
        ({"a": "x", "y": "b"}, ["a", "b"], None),
        ({"x": "c"}, ["a"], None),
        ({"x": "a", "y": "a"}, ["a"], None),  # one key of the table cannot be two columns
        ({"b": "a"}, ["a", "b"], None),  # b would be a and, by its name, b
        ({"a": "x", "b": "x"}, ["a", "b"], None),
    ],
)
def test_both_readings_of_keys(
    given: dict[str, str], keys: list[str], expected: dict[str, str] | None
) -> None:
    found = keys_of_use(given, keys)
    assert found == expected
    assert found is None or list(found.values()) == keys


def test_keys_of_lookups_and_labels_are_the_spines() -> None:
    text = """
lookup: [{from: users, columns: tier}, {from: shops, columns: count_1d}, {from: users, keys: {user: id}, columns: x}]
label: [{source: events, op: count, horizon: 7d}, {source: events, keys: shop, op: count, horizon: 7d, as: b}]
"""
    made = dataset(text, "{source: labels, keys: [user, shop]}")
    assert [lookup.keys for lookup in made.lookup] == [
        {"user": "user", "shop": "shop"},
        {"shop": "shop"},
        {"user": "id"},
    ]
    assert [label.keys for label in made.label] == [{"user": "user", "shop": "shop"}, {"shop": "shop"}]


def test_names_and_reach_of_labels() -> None:
    text = """
label:
  - {column: is_fraud}
  - {column: is_fraud, as: fraud, derive: "fraud > 0"}
  - {source: events, op: count, horizon: 30d, gap: 1d, fill_empty: null}
"""
    made = dataset(text)
    assert [label.name for label in made.label] == ["is_fraud", "fraud", "label"]
    assert [label.reach_us for label in made.label] == [0, 0, 31 * 86_400_000_000]
    assert [label.fills_empty for label in made.label] == [False, False, True]
    assert made.horizon.microseconds == 31 * 86_400_000_000


MARCH = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{by: keys, train: 0.8, test: rest}", {"train": Share(0.8), "test": Rest()}),
        ("{by: random, train: 1}", {"train": Share(1.0)}),
        ("{by: keys, a: 0.7, b: 0.2, c: 0.1}", {"a": Share(0.7), "b": Share(0.2), "c": Share(0.1)}),
        ('{by: time, train: "< 2026-03-01", test: rest}', {"train": Before(MARCH), "test": Rest()}),
        (
            '{by: time, train: "<2026-03-01T01:00+01:00", test: rest}',
            {"train": Before(MARCH), "test": Rest()},
        ),
        ("{by: time, train: rest}", {"train": Rest()}),
        (
            "{by: column, column: part, train: [a, 1], test: b, x: 3, late: rest}",
            {"train": Values(("a", 1)), "test": Values(("b",)), "x": Values((3,)), "late": Rest()},
        ),
        (
            "{by: column, column: part}",
            {"train": Values(("train",)), "valid": Values(("valid",)), "test": Values(("test",))},
        ),
        ("{by: keys, folds: 5}", {}),
    ],
)
def test_parts_of_a_split(text: str, parts: dict[str, Any]) -> None:
    split = dataset(f"split: {text}").split
    assert split is not None
    assert split.parts == parts
    assert list(split.parts) == list(parts)


def test_a_threshold_in_microseconds() -> None:
    assert Before(MARCH).us == 1_772_323_200_000_000
    assert Before(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)).us == -1


def test_two_spellings_of_a_group() -> None:
    one = dataset(
        "split: {by: group, group: shop, train: 0.8, test: rest, stratify: y, folds: 3, seed: 4}"
    ).split
    other = dataset(
        "split: {by: group, column: shop, train: 0.8, test: rest, stratify: y, folds: 3, seed: 4}"
    ).split
    assert one == other
    assert one is not None
    assert (one.column, one.stratify, one.folds, one.seed) == ("shop", "y", 3, 4)


def test_a_split_may_be_made_in_python() -> None:
    made = Split(by="keys", parts={"train": 0.8, "test": "rest"})
    assert made.parts == {"train": Share(0.8), "test": Rest()}


@pytest.mark.parametrize("text", ["0.7, b: 0.2, c: 0.1, d: rest", "0.3, b: 0.3, c: 0.3"])
def test_shares_are_added_in_decimals(text: str) -> None:
    assert "sum to" in problems(f"split: {{by: keys, train: {text}}}")


def test_values_of_a_sample_are_typed() -> None:
    sample = dataset("sample: {column: y, keep: {0: 0.25, 1.5: 1, true: 0.5, null: 0.1, web: 0.2}}").sample
    assert sample is not None
    assert list(sample.keep) == [0, 1.5, True, None, "web"]
    assert [type(key) for key in sample.keep] == [int, float, bool, type(None), str]
    assert (sample.weight, sample.seed) == ("sample_weight", 0)
    assert Sample(column="y", keep={0: 0.25}).keep == {0: 0.25}


def steps(text: str) -> list[tuple[str, dict[str, Any]]]:
    entry = dataset(f"label: {{column: y}}\nencode: {text}").encode[0]
    return [(step.name, dict(step.params)) for step in entry.with_]


def test_parameters_of_encoders_stand_on_the_step_or_beside() -> None:
    expected = [("onehot", {"drop": "none", "max_categories": None, "min_count": 10, "unknown": "ignore"})]
    assert steps("{columns: c, with: onehot, min_count: 10}") == expected
    assert steps("[{columns: [c], with: [{onehot: {min_count: 10}}]}]") == expected
    assert steps("{columns: c, with: [{onehot: {drop: first}}], min_count: 10}")[0][1]["drop"] == "first"


def test_a_parameter_beside_goes_to_the_one_step_that_has_it() -> None:
    made = steps("{columns: c, with: [{impute: median}, {hash: 8}, standard], seed: 3, with_mean: false}")
    assert [name for name, _ in made] == ["impute", "hash", "standard"]
    assert made[0][1] == {"indicator": False, "strategy": "median", "value": None}
    assert made[1][1] == {"buckets": 8, "seed": 3}
    assert made[2][1] == {"with_mean": False, "with_std": True}


def test_a_required_parameter_may_stand_beside() -> None:
    assert steps("{columns: c, with: hash, buckets: 16}") == [("hash", {"buckets": 16, "seed": 0})]


def test_a_target_encoder_knows_its_label_and_when_it_is_known() -> None:
    text = """
label: [{column: y}, {source: events, op: count, horizon: 30d, gap: 1d, as: late}]
encode:
  - {columns: a, with: target, label: late, folds: time}
  - {columns: b, with: target, label: y}
  - {columns: c, with: [{target: {label: late, folds: time, label_delay: 60d}}]}
"""
    params = [dict(entry.with_[0].params) for entry in dataset(text).encode]
    assert [p["label"] for p in params] == ["late", "y", "late"]
    delays = [Duration.parse(p["label_delay"]).microseconds for p in params]
    assert delays == [31 * 86_400_000_000, 0, 60 * 86_400_000_000]


def test_selection_knows_its_label() -> None:
    select = dataset(
        "label: {column: y}\nselect: {missing: 0.9, correlation: 0.95, top_k: 10, variance: 0}"
    ).select
    assert select is not None
    assert (select.label, select.variance, select.mutual_information) == ("y", 0.0, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("256MB", 256_000_000),
        ("64MiB", 2**26),
        ("1.5 GB", 1_500_000_000),
        ("10kB", 10_000),
        ("7B", 7),
        (42, 42),
    ],
)
def test_sizes(given: Any, expected: int) -> None:
    assert parse_size(given) == expected
    assert Export.model_validate({"shard_size": given}).shard_size == expected


@pytest.mark.parametrize("given", ["256", "MB", "-1MB", 1.5, True, None, "2TiB", 0, "0.2B"])
def test_what_is_no_size(given: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_size(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(True, Shuffle()), (False, None), (None, None), ({"seed": 7}, Shuffle(seed=7)), ({}, Shuffle())],
)
def test_shuffle(given: Any, expected: Shuffle | None) -> None:
    assert Export.model_validate({"shuffle": given}).shuffle == expected


def test_normalize() -> None:
    short = Export.model_validate({"normalize": "minmax"}).normalize
    assert short == Normalize(method="minmax", apply="loader")
    long = Export.model_validate(
        {"normalize": {"method": "minmax", "apply": "bake", "columns": "x"}}
    ).normalize
    assert long == Normalize(method="minmax", apply="bake", columns=("x",))


def test_what_is_needed_to_learn_is_a_train_split_if_there_are_splits() -> None:
    learns = "encode: {columns: a, with: standard}\n"
    assert dataset(learns).encode
    assert dataset(learns + "split: {by: keys, folds: 5}").encode
    assert dataset(learns + "split: {by: keys, train: 0.5, test: rest}").encode
    assert "'train'" in problems(learns + "split: {by: keys, fit: 0.5, test: rest}")


def test_a_mistake_in_a_single_label_has_its_own_place() -> None:
    assert "<text>:14:28: datasets.d.label.source: unknown source" in problems(
        "label: {as: y, source: evnts, op: count, horizon: 1d}"
    )


def test_a_dataset_cannot_be_built_upon() -> None:
    text = f"{PROJECT}  f: {{source: d, keys: user}}\ndatasets: {{d: {{spine: {{source: labels, keys: user}}}}}}\n"
    with pytest.raises(SpecError, match="'d' is a dataset"):
        load_text(text)


def test_one_set_of_names() -> None:
    text = f"{PROJECT}datasets: {{spend: {{spine: {{source: labels, keys: user}}}}}}\n"
    with pytest.raises(SpecError, match="also the name of one of the features"):
        load_text(text)


def test_every_part_survives_its_own_dump() -> None:
    text = """
features: [spend, {table: shops, keys: {shop_id: shop}, prefix: s_}]
label: {source: events, op: {quantile: {q: 0.5}}, column: amount, horizon: 7d}
split: {by: time, train: "< 2026-03-01", valid: "< 2026-04-01T12:30", test: rest, embargo: 7d}
sample: {column: label, keep: {0: 0.25, null: 0.5}}
encode: [{columns: a, with: [{impute: 0}]}, {columns: b, with: bucketize, edges: [0, 1]}]
select: {missing: 0.5}
export: {format: mds, compression: zstd, shuffle: false, normalize: standard, shard_size: 1MiB}
checks: [{column: user, not_null: true}]
""".replace("{impute: 0}", "{impute: {strategy: constant, value: 0}}")
    for spine in ("{source: labels, keys: user}", "{path: a.csv, keys: user, time: t, columns: [a, b]}"):
        made = dataset(text, spine)
        dumped = made.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert Dataset.model_validate(dumped) == made
        assert "<" not in "".join([*dumped["spine"], *dumped["split"]])


def test_a_label_by_itself() -> None:
    with pytest.raises(ValidationError):
        Label.model_validate({"column": "y", "horizon": "lifetime"})
