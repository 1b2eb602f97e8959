"""A damaged spec is either still right or a SpecError in the author's words; never anything else."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from featureflow.core.errors import SpecError
from featureflow.spec.load import load_text

SPEC: dict[str, Any] = {
    "sources": {
        "clicks": {"path": "clicks.parquet", "time": "ts", "mask": {"pan": "drop"}},
        "users": {"path": "users.csv", "time": "since"},
    },
    "features": {
        "f": {
            "source": "clicks",
            "keys": ["k"],
            "aggregate": [{"column": "x", "ops": ["sum", {"quantile": {"q": 0.5}}], "windows": ["1h", "1d"]}],
            "lookup": [{"from": "users", "keys": ["k"], "columns": ["country"], "ttl": "90d"}],
        },
        "g": {
            "source": "f",
            "keys": "k",
            "at": {"every": "1d"},
            "aggregate": [{"ops": "count", "windows": "1d"}],
        },
    },
    "datasets": {
        "d": {
            "spine": {"source": "f", "keys": ["k"], "where": "k > 0"},
            "features": [
                {"table": "f", "prefix": "a_"},
                {"table": "g", "keys": {"k": "k"}, "columns": ["count_1d"]},
            ],
            "lookup": [{"from": "users", "columns": ["tier"], "ttl": "365d"}],
            "derive": {"e": "x_sum_1h + 1"},
            "label": [
                {"source": "clicks", "op": "count", "horizon": "30d", "as": "y"},
                {"column": "x_sum_1d"},
            ],
            "split": {"by": "time", "train": "< 2026-03-01", "test": "rest", "embargo": "30d", "folds": 3},
            "sample": {"column": "y", "keep": {"0": 0.25}},
            "encode": [
                {"columns": ["e"], "with": [{"impute": "median"}, "standard", {"clip": {"low": 0}}]},
                {"columns": ["tier"], "with": "onehot", "min_count": 10},
                {"columns": ["country"], "with": ["target"], "folds": "time", "label": "y"},
            ],
            "select": {"missing": 0.9, "top_k": 10, "label": "y"},
            "export": {"format": "webdataset", "shard_size": "256MB", "shuffle": {"seed": 7}},
            "checks": [{"column": "k", "not_null": True}],
        },
        "files": {
            "spine": {
                "path": "a.csv",
                "keys": "k",
                "time": "t",
                "options": {"delimiter": ";"},
                "columns": ["b"],
            },
            "features": "f",
            "split": {"by": "group", "group": "b", "train": 0.8, "test": "rest"},
        },
    },
}
VALUES: list[Any] = [
    *(None, 0, 1, -1, 0.5, True, "", "x", "k", "f", "clicks", "d", "7d", "rest", "< 2026-01-01"),
    *("time", "group", "column", "target", "onehot", [], {}, [1], ["k"], [None], {"k": "k"}, {"a": None}),
]
KEYS = ["group", "path", "column", "at", "grid", "label", "fold", "seed", "op", "prefix", "zz"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def damaged(draw: random.Random) -> dict[str, Any]:
    made = copy.deepcopy(SPEC)
    for _ in range(draw.choice([1, 1, 2, 3])):
        section = draw.choice(["features", "datasets", "datasets", "datasets"])
        paths = [(section, *path) for path in places(made.get(section) or {})]
        if not paths:
            continue
        *around, last = draw.choice(paths)
        inside: Any = made
        for step in around:
            inside = inside[step]
        how = draw.random()
        if how < 0.3:
            del inside[last]
        elif how < 0.4 and isinstance(inside, dict):
            inside[draw.choice(KEYS)] = copy.deepcopy(draw.choice(VALUES))
        else:
            inside[last] = copy.deepcopy(draw.choice(VALUES))
    return made


def test_the_undamaged_spec_is_right() -> None:
    assert list(load_text(json.dumps(SPEC), env={}).project.datasets) == ["d", "files"]


@pytest.mark.parametrize("seed", range(5))
def test_damage_is_always_explained(seed: int) -> None:
    draw = random.Random(seed)
    refused = 0
    for _ in range(100):
        text = json.dumps(damaged(draw))
        try:
            load_text(text, env={})
        except SpecError as error:
            refused += 1
            for problem in error.problems:
                assert problem.line == 1
                assert problem.message.endswith((".", "?")), problem
                for jargon in ("Input should", "Value error", "validation", "<files>", "<parts>", "left_out"):
                    assert jargon not in f"{problem.path} {problem.message}", problem
    assert 50 < refused < 100
