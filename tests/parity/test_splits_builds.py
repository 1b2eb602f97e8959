"""Splits, folds and weights of datasets as they are built: in pieces, again, and with data added."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
import yaml

import featureflow
from featureflow.core.errors import SourceError, SpecError
from featureflow.datasets import planning

START = 1_767_225_600_000_000  # 2026-01-01
HOUR = 3_600_000_000
DAY = 24 * HOUR
SCHEMA = {
    "id": pl.Int64,
    "k": pl.String,
    "g": pl.Int64,
    "t": pl.Datetime("us", "UTC"),
    "y": pl.Boolean,
    "part": pl.String,
}
SHARES = {"train": 0.6, "valid": 0.2, "test": "rest"}


def rows_of(n: int, first: int = 0) -> list[dict[str, Any]]:
    """Rows of a few hundred entities; one in ten is positive."""
    chance = random.Random(first)
    rows = []
    for number in range(first, first + n):
        row = {"id": number, "k": f"k{chance.randrange(n // 3)}", "g": chance.randrange(40)}
        more = {"y": chance.random() < 0.1, "part": chance.choice(["train", "test"])}
        rows.append({**row, "t": START + chance.randrange(10 * 24) * HOUR, **more})
    return rows


ROWS = rows_of(600)


def write(root: Path, rows: list[dict[str, Any]], name: str) -> None:
    (root / "rows").mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    frame.write_parquet(root / "rows" / f"{name}.parquet")


def build(root: Path, split: dict[str, Any] | None, **dataset: Any) -> Any:
    spec: dict[str, Any] = {"featureflow": 1, "project": "p", "features": {}}
    spec["sources"] = {"rows": {"path": str(root / "rows" / "*.parquet"), "time": "t"}}
    given = {"spine": {"source": "rows", "keys": ["k"]}, "label": {"column": "y"}, **dataset}
    spec["datasets"] = {"d": given | ({"split": split} if split else {})}
    (root / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    project = featureflow.Project(
        root / "spec.yaml", store=str(root / "store"), scratch=str(root / "scratch")
    )
    report = project.build()
    return featureflow.open(str(root / "store")).dataset("d"), report


def made(dataset: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dataset.to_arrow(encoded=False).to_pylist()
    return found


def small() -> Any:
    """Pieces of a hundred rows."""
    return mock.patch.multiple(planning, MAX_PIECE_ROWS=100, MIN_PIECE_ROWS=100)


SPLITS = {
    "keys": {"by": "keys", **SHARES},
    "folds": {"by": "keys", "train": 0.8, "test": "rest", "folds": 4},
    "group": {"by": "group", "column": "g", **SHARES},
    "random": {"by": "random", **SHARES},
    "stratified": {"by": "random", "stratify": "y", "folds": 3, **SHARES},
    "time": {
        "by": "time",
        "train": "< 2026-01-05",
        "valid": "< 2026-01-07",
        "test": "rest",
        "embargo": "12h",
    },
    "column": {"by": "column", "column": "part"},
}


@pytest.mark.parametrize("name", SPLITS)
def test_every_row_is_in_one_split_however_the_rows_are_cut(tmp_path: Path, name: str) -> None:
    write(tmp_path, ROWS, "0")
    whole, _ = build(tmp_path, SPLITS[name])
    write(tmp_path / "cut", ROWS[:250], "0")
    write(tmp_path / "cut", ROWS[250:], "1")
    with small():
        pieces, _ = build(tmp_path / "cut", SPLITS[name])
    rows = made(whole)
    assert made(pieces) == rows
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["split"]] += 1
    assert {k: v for k, v in whole.splits.items() if v} == dict(counts)
    for split in ("train", "test"):
        assert whole.to_arrow(split).num_rows == counts[split] > 50


@pytest.mark.parametrize(("name", "entity"), [("keys", "k"), ("folds", "k"), ("group", "g")])
def test_no_entity_is_torn(tmp_path: Path, name: str, entity: str) -> None:
    write(tmp_path, ROWS, "0")
    dataset, _ = build(tmp_path, SPLITS[name])
    places = defaultdict(set)
    for row in made(dataset):
        places[row[entity]].add((row["split"], row.get("fold")))
    assert all(len(where) == 1 for where in places.values())
    assert {split for where in places.values() for split, _ in where} >= {"train", "test"}


@pytest.mark.parametrize("name", SPLITS)
def test_added_rows_move_nobody(tmp_path: Path, name: str) -> None:
    write(tmp_path, ROWS, "0")
    before = made(build(tmp_path, SPLITS[name])[0])
    write(tmp_path, rows_of(300, 600), "1")
    dataset, _ = build(tmp_path, SPLITS[name])
    after = made(dataset)
    assert dataset.version == 2
    assert after[:600] == before
    assert len(after) == 900


def test_rows_before_a_threshold_are_embargoed_by_their_time(tmp_path: Path) -> None:
    write(tmp_path, [*ROWS, {**ROWS[0], "t": None}], "0")
    dataset, _ = build(tmp_path, SPLITS["time"])
    for row in made(dataset):
        day = None if row["t"] is None else (row["t"].timestamp() * 1e6 - START) / DAY
        wanted = (
            "embargoed"
            if day is None or 3.5 < day < 4 or 5.5 < day < 6
            else "train"
            if day < 4
            else "valid"
            if day < 6
            else "test"
        )
        assert row["split"] == wanted, row


def test_stratified_shares_hold_in_each_class_across_pieces(tmp_path: Path) -> None:
    write(tmp_path, ROWS, "0")
    with small():
        dataset, _ = build(tmp_path, SPLITS["stratified"])
    rows = made(dataset)
    for positive in (True, False):
        mine = [row for row in rows if row["y"] is positive]
        for split, share in (("train", 0.6), ("valid", 0.2)):
            n = sum(row["split"] == split for row in mine)
            assert abs(n - share * len(mine)) <= 4, (positive, split, n, len(mine))
        folds = [row["fold"] for row in mine]
        assert all((row["fold"] is None) == (row["split"] == "test") for row in mine)
        assert all(abs(folds.count(fold) - 0.8 * len(mine) / 3) <= 4 for fold in range(3))


def test_left_out_rows_stay_with_weight_zero(tmp_path: Path) -> None:
    write(tmp_path, ROWS, "0")
    with small():
        dataset, _ = build(tmp_path, SPLITS["keys"], sample={"column": "y", "keep": {False: 0.25}})
    rows = made(dataset)
    assert len(rows) == 600
    assert dataset.roles.weight == "sample_weight"
    train = [row for row in rows if row["split"] == "train" and not row["y"]]
    kept = [row["sample_weight"] for row in train if row["sample_weight"]]
    assert set(kept) == {4.0}
    assert abs(len(kept) / len(train) - 0.25) < 0.08
    assert {r["sample_weight"] for r in rows if r["split"] != "train" or r["y"]} == {1.0}


def test_a_label_that_reaches_over_a_threshold_is_told(tmp_path: Path) -> None:
    write(tmp_path, ROWS, "0")
    label = {"source": "rows", "keys": ["k"], "op": "count", "horizon": "2d"}
    _, report = build(tmp_path, SPLITS["time"], label=label)
    assert "look up to 2d ahead" in str(report)
    _, silent = build(tmp_path, {**SPLITS["time"], "embargo": "2d"}, label=label)
    assert "look up to" not in str(silent)


def test_a_value_that_is_no_split_stops_the_build(tmp_path: Path) -> None:
    write(tmp_path, [*ROWS, {**ROWS[0], "part": "dev"}], "0")
    with pytest.raises(SourceError, match=r"'dev' \(1 rows\)"):
        build(tmp_path, SPLITS["column"])
    assert not list((tmp_path / "store").glob("datasets/*/_delta_log"))


SPLIT_NAMED = {
    "same": ({"by": "column", "column": "split"}, "train"),
    "listed": ({"by": "column", "column": "split", "train": ["a"], "test": "rest"}, "a"),
    "keys": (SPLITS["keys"], "a"),
}


@pytest.mark.parametrize("name", SPLIT_NAMED)
def test_a_spine_that_has_a_column_split(tmp_path: Path, name: str) -> None:
    """It can be the split itself; anything else must not be taken for it."""
    split, value = SPLIT_NAMED[name]
    frame = pl.DataFrame(ROWS, schema=SCHEMA, orient="row").with_columns(split=pl.lit(value))
    (tmp_path / "rows").mkdir()
    frame.write_parquet(tmp_path / "rows" / "0.parquet")
    if name == "same":
        dataset, _ = build(tmp_path, split)
        assert dataset.to_arrow("train").num_rows == 600
    else:
        with pytest.raises(SpecError, match="split"):
            build(tmp_path, split)


def test_what_rows_are_divided_by_comes_along(tmp_path: Path) -> None:
    """Also when the spine's `columns:` do not name it; it is no feature."""
    write(tmp_path, ROWS, "0")
    spine = {"source": "rows", "keys": ["k"], "columns": ["id", "part"]}
    split = {"by": "group", "column": "g", "stratify": "y", **SHARES}
    dataset, _ = build(tmp_path, split, spine=spine)
    assert dataset.schema.names == ["k", "t", "id", "part", "y", "g", "split"]
    assert dataset.features == ["id", "part"]
    dataset, _ = build(tmp_path, SPLITS["column"], spine=spine)
    assert dataset.features == ["id"]


def test_a_split_by_a_column_that_is_not_there_is_a_mistake_of_the_spec(tmp_path: Path) -> None:
    write(tmp_path, ROWS, "0")
    with pytest.raises(SpecError, match="has no column 'gg'"):
        build(tmp_path, {"by": "group", "column": "gg", **SHARES})
