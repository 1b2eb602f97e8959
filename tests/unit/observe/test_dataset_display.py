"""Datasets in plans, reports and notebooks, from plain values."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from featureflow.core.roles import Roles
from featureflow.observe.datasets import (
    balance_text,
    column_role,
    dataset_lines,
    describe_dataset,
    embargoed_text,
    is_dataset,
    summary_texts,
)
from featureflow.observe.exports import export_report
from featureflow.observe.graph import plan_svg
from featureflow.observe.plans import plan_html, plan_text, to_build
from featureflow.observe.report import RunReport, TableOutcome
from featureflow.observe.terminal import text_width

ESTIMATE = {
    "rows": 3000, "rows_computed": 3000, "bytes_read": 1_300_000, "bytes_total": 1_300_000, "chunks_read": 92,
    "tasks": 6, "task_bytes": 5_000_000, "budget_bytes": 1_000_000_000, "output_row_bytes": 105,
}  # fmt: skip
TABLE: dict[str, Any] = {
    "kind": "table", "name": "spend", "change": "unchanged", "reason": "version 3 has it all", "publishes": False,
    "version": 3, "partition": "day", "buckets": 8, "compute": [], "reuse": ["2026-01-01"], "drop": [],
    "reads": [{"kind": "source", "name": "tx", "use": "rows"}], "estimate": {}, "notes": [],
}  # fmt: skip
DATASET: dict[str, Any] = {
    "kind": "dataset", "name": "train", "change": "new", "reason": "no version yet", "publishes": True,
    "version": None, "partition": "none", "buckets": 2, "compute": ["all"], "reuse": [], "drop": [],
    "reads": [
        {"kind": "source", "name": "tx", "use": "rows"},
        {"kind": "source", "name": "tx", "use": "windows"},
        {"kind": "table", "name": "spend", "use": "look-up"},
    ],
    "estimate": ESTIMATE, "notes": [],
}  # fmt: skip
PLAN: dict[str, Any] = {
    "project": "fraud",
    "store": "./store",
    "sources": {"tx": {"files": 2, "chunks": 2, "rows": 20_000, "bytes": 272_000}},
    "tables": [TABLE, DATASET],
    "notes": [],
}
SUMMARY = {
    "features": 3,
    "splits": {"train": 1833, "test": 602},
    "embargoed": {"embargo": 203, "no_time": 31},
    "folds": {},
    "labels": {"later": {"known": 2219, "null": 781}, "fraud": {"known": 3000, "null": 0}},
}


def record(**dataset: Any) -> dict[str, Any]:
    roles = Roles(("card",), "t", ("x", "c_a"), ("later",), "split", None, None)
    encoder = {"fitted": {"chains": [{"column": "c", "steps": [["impute", {}], ["onehot", {}]]}]}}
    report = {
        "rows": 7,
        "features": [
            {"feature": "x", "kept": True, "reason": ""},
            {"feature": "y", "kept": False, "reason": "variance 0 is not above 0"},
        ],
    }
    return {
        "rows": 10,
        "statistics": {"later": {"count": 8, "nulls": 2}, "x": {"count": 10, "nulls": 0}},
        "notices": ["spend: column note is text and left out."],
        "dataset": {
            "roles": roles.to_json(),
            "splits": ["train", "test", "embargoed"],
            "split": {
                "rows": {"embargoed": 1, "test": 2, "train": 7},
                "embargoed": {"outside": 1},
                "folds": {"0": 4, "1": 3},
            },
            "warnings": ["5 cards are in train and in test."],
            "encoder": json.dumps(encoder),
            "selection": json.dumps(report),
            **dataset,
        },
    }


def test_a_plan_says_what_a_dataset_reads() -> None:
    lines = plan_text(PLAN, limit=120).splitlines()
    assert lines[0] == "fraud → ./store   0 of 1 table and 1 of 1 dataset to build"
    assert lines[2:6] == [
        "  = spend  unchanged  version 3 has it all",
        "  + train  new  dataset: no version yet",
        "      compute  rows of tx in 2 pieces, joined with 2 inputs, 6 tasks",
        "      read     1.3 MB in 92 chunks: tx (spine, windows), spend (look-up)",
    ]
    assert max(text_width(line) for line in plan_text(PLAN, limit=60).splitlines()) <= 60
    assert "dataset: no version yet" in plan_html(PLAN)
    assert to_build([]) == "0 of 0 tables"


def test_the_graph_tells_a_spine_from_events_of_the_same_source() -> None:
    drawn = plan_svg(PLAN)
    ET.fromstring(drawn)
    for text in ("spine of train", "re-key tx", "dataset, new", "6 tasks: 2 pieces", "commit train"):
        assert text in drawn
    table = copy.deepcopy(DATASET) | {"kind": "table"}
    assert "spine of" not in plan_svg({**PLAN, "tables": [TABLE, table]})


def test_a_report_says_how_the_rows_fell_and_what_was_exported() -> None:
    outcome = TableOutcome("train", "new", "no version yet", 1, None, 3000, kind="dataset", dataset=SUMMARY)
    export = {
        "dataset": "train", "version": 1, "folder": "s/train/1", "format": "mds", "shards": 4, "rows": 9,
        "bytes": 2_000, "splits": {"all": {"shards": 4, "rows": 9, "bytes": 2_000}}, "left_out": {},
    }  # fmt: skip
    report = RunReport(
        "b", "fraud", "2026-01-01T00:00:00+00:00", 1.0, "0", "done", [outcome], [], exports=[export]
    )
    text = report.text()
    for line in (
        "  train: train 1,833 · test 602 rows",
        "  train: embargoed 234 rows: 203 whose label window crosses a threshold, 31 without a time",
        "  train: later is null in 781 of 3,000 rows",
        "  train@1 as mds: 4 shards, 9 rows, 2.0 kB in s/train/1",
    ):
        assert line in text.splitlines()
        assert line.strip() in report._repr_html_()
    assert "fraud is null" not in text
    assert RunReport.from_json(report.to_json()) == report
    kept = TableOutcome("train", "unchanged", "", None, 1, 3000, kind="dataset", dataset=SUMMARY)
    assert (
        "1,833" not in RunReport("b", "p", "2026-01-01T00:00:00+00:00", 1.0, "0", "done", [kept], []).text()
    )


def test_a_report_of_an_older_featureflow_is_read() -> None:
    outcome = TableOutcome("t", "new", "", 1, None, 3)
    report = RunReport("b", "p", "2026-01-01T00:00:00+00:00", 1.0, "0", "done", [outcome], [])
    given = report.as_dict()
    for name in ("kind", "dataset"):
        del given["tables"][0][name]
    assert RunReport.from_json(json.dumps(given)) == report


def test_what_a_record_says_of_a_dataset() -> None:
    found = describe_dataset(record())
    assert found["splits"] == {"train": 7, "test": 2}
    assert list(found["splits"]) == ["train", "test"]
    assert (found["features"], found["embargoed"], found["folds"]) == (2, {"outside": 1}, {"0": 4, "1": 3})
    assert found["labels"] == {"later": {"known": 8, "null": 2}}
    assert found["encoders"] == [{"column": "c", "steps": ["impute", "onehot"]}]
    assert found["selection"] == {
        "rows": 7, "kept": 1, "dropped": [{"feature": "y", "reason": "variance 0 is not above 0"}],
    }  # fmt: skip
    assert (is_dataset(record()), is_dataset({"rows": 3})) == (True, False)
    plain = describe_dataset(record(encoder=None, selection=None))
    assert (plain["encoders"], plain["selection"]) == ([], None)


def test_what_is_printed_of_a_dataset() -> None:
    entry = {**describe_dataset(record()), "rows": 10}
    balance = {"later": {"train": {"known": 4, "null": 3, "mean": 0.25, "classes": {"false": 3, "true": 1}}}}
    lines = dataset_lines(entry, balance, limit=100)
    assert lines == [
        "  features   2: x, c_a",
        "  labels     later (null in 2 rows)",
        "  folds      2 of 4, 3 rows",
        "  embargoed  1 row: 1 in no range",
        "  encoded    c: impute → onehot",
        "  selected   1 of 2 features kept; dropped: y (variance 0 is not above 0)",
        "",
        "  split  rows  share  later",
        "  train     7  70.0%  25.0% true, 3 null",
        "  test      2  20.0%  -",
        "  ! spend: column note is text and left out.",
        "  ! 5 cards are in train and in test.",
    ]
    assert max(text_width(line) for line in dataset_lines(entry, balance, limit=60)) <= 60
    assert dataset_lines(entry, None, limit=100)[7] == "  split  rows  share"


def test_many_features_and_dropped_ones_are_counted() -> None:
    found = record()
    found["dataset"]["roles"]["features"] = [f"f{i}" for i in range(40)]
    lines = [{"feature": f"g{i}", "kept": False, "reason": "missing"} for i in range(9)]
    found["dataset"]["selection"] = json.dumps({"rows": 7, "features": lines})
    text = " ".join(
        "\n".join(dataset_lines({**describe_dataset(found), "rows": 10}, None, limit=100)).split()
    )
    assert "40: f0, f1" in text
    assert "f11 and 28 more" in text
    assert "and 3 more, see --json" in text


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("card", "key"), ("t", "time"), ("x", "feature"), ("later", "label"), ("split", "split"), ("c", "raw"),
        ("c_a__encoded", "encoded"), ("c_b__encoded", "dropped"), ("other", ""),
    ],
)  # fmt: skip
def test_the_part_of_a_column(name: str, role: str) -> None:
    roles = Roles(("card",), "t", ("x", "c_a"), ("later",), "split", None, None)
    assert column_role(name, roles, frozenset({"c"})) == role


def test_balance_of_labels() -> None:
    assert balance_text(None) == "-"
    assert balance_text({"known": 0, "null": 3, "mean": None, "classes": {}}) == "3 null"
    many = {"known": 10, "null": 0, "mean": None, "classes": {"a": 4, "b": 3, "c": 2, "d": 1}}
    assert balance_text(many) == "40.0% a, 30.0% b, 20.0% c, 1 more"
    never = {"known": 4, "null": 0, "mean": 0.0, "classes": {"false": 4}}
    assert balance_text(never) == "100.0% false"
    assert embargoed_text({"strange": 1}) == "1 row: 1 strange"
    assert summary_texts({"splits": {}, "embargoed": {}, "labels": {}}) == []


def test_an_export_without_left_out_rows() -> None:
    entry = {"dataset": "t", "version": 1, "folder": "s/t/1", "format": "npy", "shards": 1, "rows": 9, "bytes": 5,
             "splits": {"all": {"shards": 1, "rows": 9, "bytes": 5}}, "left_out": {}}  # fmt: skip
    text = export_report(entry)
    assert "left out" not in text
    assert 'ff.load_shards("s/t/1")' in text
    assert "1,000 embargoed" in export_report({**entry, "left_out": {"embargoed": 1000}})


def test_no_dataset_module_is_needed_to_describe_one() -> None:
    """observe is below datasets: what it shows is in the record."""
    source = Path(describe_dataset.__code__.co_filename).read_text()
    assert "featureflow.datasets" not in source
