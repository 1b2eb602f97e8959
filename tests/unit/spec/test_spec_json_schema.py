from __future__ import annotations

import json
from typing import Any

import pytest

from featureflow.core.errors import SpecError
from featureflow.spec.environment import construct
from featureflow.spec.grid_steps import GRID_STEPS
from featureflow.spec.json_schema import json_schema
from featureflow.spec.load import load_text
from featureflow.spec.yaml_text import parse

jsonschema = pytest.importorskip("jsonschema", reason="checks the schema with an independent implementation")

VALID: dict[str, Any] = {
    "featureflow": 1,
    "project": "p",
    "sources": {
        "clicks": {
            "path": ["a.parquet", "b.parquet"],
            "time": "ts",
            "columns": {"x": "float64", "y": "decimal(10, 2)", "z": "str"},
            "clip": {"x": [None, 5]},
            "mask": {"pan": "drop"},
            "fill": {"x": 0, "y": "a", "z": True},
            "checks": [
                {"column": "x", "not_null": True, "min": 0, "on_fail": "warn", "share": 0.9},
                {"column": ["x", "y"], "unique": True},
                {"row_count": {"min": 1}},
                {"schema": {"x": "float64"}},
            ],
        },
        "users": {"path": "users.csv", "time": "ts", "options": {"delimiter": ";"}},
        "sst": {
            "path": "s3://b/sst.zarr",
            "chunks": {"time": 365},
            "time": "time",
            "options": {"group": "a"},
        },
    },
    "features": {
        "f": {
            "source": "clicks",
            "keys": ["k"],
            "at": {"every": "1d", "from": "2026-01-01"},
            "aggregate": [
                {
                    "column": "x",
                    "ops": ["sum", {"quantile": {"q": 0.5}}, {"max": {}}],
                    "windows": ["1h30m", "lifetime"],
                },
                {"ops": "count", "windows": "1d", "by": "c", "values": ["a", 1], "fill_empty": None},
            ],
            "window": {"closed": "right", "delay": "0s"},
            "lookup": [{"from": "users", "keys": ["k"], "columns": "country", "ttl": "90d", "nulls": "skip"}],
            "derive": {"d": "x_sum_1h30m + 1"},
            "partition": "month",
        },
        "g": {
            "source": "clicks",
            "keys": "k",
            "at": "events",
            "keep": "x",
            "aggregate": [{"column": "x", "ops": "sum", "windows": "1d", "as": "x_2"}],
        },
        "n": {
            "source": "sst",
            "variables": ["sst"],
            "steps": [
                {"select": {"time": ["1990-01-01", "2020-12-31"], "lat": [-60, 60]}},
                {"anomaly": {"over": "time", "by": "month"}},
                {"clip": [0, None]},
            ],
            "chunks": {"x": 100},
        },
    },
    "datasets": {
        "d": {
            "spine": {"source": "clicks", "keys": ["k"], "where": "k > 0", "columns": ["y"]},
            "features": ["f", {"table": "g", "keys": {"k": "k"}, "columns": ["x_2"], "prefix": "g_"}],
            "lookup": [{"from": "users", "columns": ["tier"], "ttl": "365d"}],
            "derive": {"e": "x_sum_1h30m + 1"},
            "label": {"source": "clicks", "op": "count", "horizon": "30d", "gap": "0s", "as": "label"},
            "split": {"by": "time", "train": "< 2026-03-01", "test": "rest", "embargo": "30d", "folds": 3},
            "sample": {"column": "label", "keep": {"0": 0.25}},
            "encode": [
                {"columns": ["e"], "with": [{"impute": "median"}, "standard", {"clip": {"low": 0}}]},
                {"columns": ["tier"], "with": "onehot", "min_count": 10},
                {"columns": ["y"], "with": ["target"], "folds": "time", "smoothing": 20},
                {"columns": "k", "with": [{"hash": 64}], "seed": 3},
            ],
            "select": {"missing": 0.9, "top_k": 10},
            "export": {"format": "webdataset", "shard_size": "256MB", "shuffle": {"seed": 7}},
            "checks": [{"column": "k", "not_null": True}],
        },
        "p": {
            "spine": {
                "grid": "n",
                "patch": {"time": 8},
                "stride": {"time": 4},
                "valid": 0.9,
                "labels": "n.sst",
            },
            "split": {"by": "block", "block": {"time": 64}, "train": 0.8, "test": "rest"},
        },
        "q": {
            "spine": {"source": "clicks", "keys": ["k"]},
            "lookup": [{"from": "n", "at": {"lat": "latitude"}, "method": "linear", "variables": ["sst"]}],
        },
    },
    "targets": {"prod": {"workers": 4}},
    "tests": [{"name": "t", "given": {"clicks": [{"k": 1}]}, "expect": {"g": []}}],
}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(VALID))
    inner: Any = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return copy


def loads(document: dict[str, Any]) -> bool:
    try:
        load_text(json.dumps(document), env={"V": "1d"})
    except SpecError:
        return False
    return True


def test_a_valid_spec(validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(VALID)] == []
    assert loads(VALID)


F, C, D, N = ("features", "f"), ("sources", "clicks"), ("datasets", "d"), ("features", "n")
#: of every step: the example that its messages give
EXAMPLES = [construct(parse(step.example, "").root, {}, print).expanded for step in GRID_STEPS.values()]
EXAMPLES = [step for step in EXAMPLES if not {"mask", "concat", "merge", "zonal"} & step.keys()]
SPINE = {"source": "clicks", "keys": "k"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*F, "aggregate", 0, "windows"), "${V}"),
        ((*F, "window"), {"closed": "left"}),
        ((*F, "lookup", 0, "keys"), {"k": "id"}),
        ((*F, "lookup", 0, "keys"), "k"),
        ((*F, "at"), {"every": "1h", "timezone": "Europe/Berlin"}),
        ((*F, "aggregate", 0, "ops"), [{"last_k": {"k": 3}}, {"ewm_mean": {"half_life": "7d"}}]),
        ((*C, "path"), "x.csv"),
        ((*C, "checks", 2), {"row_count": {"min": 0, "max": 10}}),
        ((*D, "spine"), {"path": "a.csv", "keys": "k", "time": "t", "options": {"delimiter": ";"}}),
        ((*D, "features"), "f"),
        ((*D, "features"), {"table": "f", "keys": "k"}),
        ((*D, "label"), [{"column": "y2", "as": "label"}]),
        ((*D, "split"), {"by": "group", "group": "g", "train": 0.8, "test": "rest", "stratify": "y"}),
        ((*D, "split"), {"by": "group", "column": "g", "folds": 5, "train": 1}),
        ((*D, "split"), {"by": "column", "column": "part", "train": ["a", 1], "test": "b"}),
        ((*D, "split"), {"by": "keys", "folds": 5}),
        ((*D, "split", "embargo"), "${V}"),
        ((*D, "encode", 0), {"columns": "e", "with": {"impute": {"strategy": "constant", "value": 0}}}),
        ((*D, "encode", 0), {"columns": "e", "with": [{"bucketize": [0, 1]}, "onehot"], "unknown": "error"}),
        ((*D, "encode", 0), {"columns": "e", "with": "hash", "buckets": 8}),
        ((*D, "encode", 0), {"columns": "e", "with": {"minmax": [0, 1]}}),
        ((*D, "encode", 0), {"columns": "e", "with": {"standard": None}}),
        ((*D, "export"), {"shuffle": False, "normalize": "standard", "shard_size": 1000, "float": "keep"}),
        ((*D, "export"), {"shuffle": True, "normalize": {"method": "minmax"}, "indicator": "d"}),
        (("allow_python",), True),
        *(((*N, "steps"), [example]) for example in EXAMPLES),
        ((*N, "steps", 2), {"clip": {"sst": [0, 40]}}),
        ((*N, "steps", 2), {"clip": {"min": 0}}),
        ((*N, "steps", 2), {"fill": 0}),
        ((*N, "steps", 2), {"fill": {"sst": 0}}),
        ((*N, "steps", 2), {"resample": {"dim": "time", "every": "1MS", "op": "first"}}),
        (
            (*N, "steps", 2),
            {"select": {"lat": 5, "lon": {"value": 3, "method": "nearest"}, "b": {"values": ["x"]}}},
        ),
        ((*N, "steps", 2), {"normalize": {"min": {"sst": 0}, "max": {"sst": 1}, "period": None}}),
        ((*N, "steps", 2), {"rolling": {"dim": "time", "window": "30d", "op": "mean", "center": False}}),
        ((*N, "shards"), {"x": 200}),
        (("features", "o"), {"source": "n"}),
        (("datasets", "q", "lookup", 0), {"from": "n", "at": {"lat": "latitude"}}),
        (("datasets", "p", "spine", "labels"), {"source": "n", "op": "majority", "as": "hit"}),
        (("store",), "${X:-./s}"),
    ],
)
def test_other_spellings_are_valid_for_both(validator: Any, path: tuple[Any, ...], value: Any) -> None:
    document = changed(path, value)
    assert [error.message for error in validator.iter_errors(document)] == []
    assert loads(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("featureflow",), 2),
        (("projekt",), "x"),
        (("sources", "Clicks"), {"path": "a.csv"}),
        ((*C, "path"), []),
        ((*C, "format"), "xlsx"),
        ((*C, "columns", "x"), "float"),
        ((*C, "clip", "x"), [1]),
        ((*C, "mask", "pan"), "sha1"),
        ((*C, "checks", 0, "on_fail"), "fail"),
        ((*C, "checks", 0, "share"), 2),
        ((*C, "options"), {"delimiter": "||"}),
        ((*F, "at"), "event"),
        ((*F, "at"), {"from": "2026-01-01"}),
        ((*F, "keys"), []),
        ((*F, "keys"), 5),
        ((*F, "aggregate", 0, "ops", 0), "maen"),
        ((*F, "aggregate", 0, "ops", 1), {"quantile": {"q": 95}}),
        ((*F, "aggregate", 0, "ops", 1), {"quantile": {}}),
        ((*F, "aggregate", 0, "ops", 1), {"sum": {"k": 1}}),
        ((*F, "aggregate", 0, "windows", 0), "7days"),
        ((*F, "aggregate", 0, "closed"), "both_"),
        ((*F, "lookup", 0, "ttl"), "lifetime"),
        ((*F, "derive", "d"), ""),
        ((*F, "derive", "d"), "x" * 5000),
        ((*F, "partition"), "week"),
        (D, {}),
        ((*D, "spine"), {"keys": "k"}),
        ((*D, "spine"), {"source": "clicks"}),
        ((*D, "spine"), {"source": "clicks", "path": "a.csv", "keys": "k"}),
        ((*D, "spine", "created"), "at"),
        ((*D, "features"), [5]),
        ((*D, "features"), [{"keys": "k"}]),
        ((*D, "label", "horizon"), "lifetime"),
        ((*D, "label", "op"), "cuont"),
        ((*D, "split", "by"), "date"),
        ((*D, "split", "folds"), 1),
        ((*D, "split", "train"), None),
        ((*D, "split", "train"), 0),
        ((*D, "split", "not a name"), "rest"),
        ((*D, "sample", "keep", "0"), 2),
        ((*D, "sample", "weights"), "w"),
        ((*D, "encode", 0, "with"), []),
        ((*D, "encode", 0, "with"), "one_hot"),
        ((*D, "encode", 0, "with"), {"onehot": {"min_cout": 3}}),
        ((*D, "encode", 0, "with"), {"impute": {"strategy": "avg"}}),
        ((*D, "encode", 0, "smothing"), 3),
        ((*D, "encode", 2, "smoothing"), -1),
        ((*D, "select", "missing"), 2),
        ((*D, "export", "format"), "csv"),
        ((*D, "export", "shuffle"), 7),
        ((*D, "export", "normalize"), "zscore"),
        ((*D, "export", "shard_size"), "256 MegaBytes"),
        (("tests", 0, "name"), None),
        ((*N, "steps"), [{"slect": {"lat": 5}}]),
        ((*N, "steps"), ["select"]),
        ((*N, "steps", 1, "anomaly"), {"by": "month"}),
        ((*N, "steps", 1, "anomaly", "by"), "weekly"),
        ((*N, "steps", 2), {"rolling": {"dim": "time", "window": 0, "op": "mean"}}),
        ((*N, "steps", 2), {"reduce": {"op": "mode"}}),
        ((*N, "steps", 2), {"cast": "float12"}),
        ((*N, "chunks", "x"), 0),
        ((*N, "keys"), ["k"]),
        (("datasets", "p", "spine", "patch"), {"time": 0}),
        (("datasets", "p", "spine"), {"grid": "n"}),
        (("datasets", "q", "lookup", 0), {"from": "n"}),
        (("datasets", "q", "lookup", 0, "method"), "cubic"),
        (("targets", "prod", "workers"), 0),
    ],
)
def test_what_is_wrong_is_wrong_for_both(validator: Any, path: tuple[Any, ...], value: Any) -> None:
    document = changed(path, value)
    assert list(validator.iter_errors(document))
    assert not loads(document)


def test_the_schema_can_be_written_and_is_the_same_every_time() -> None:
    assert json.dumps(json_schema()) == json.dumps(json_schema())
