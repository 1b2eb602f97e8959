"""The projects that `featureflow init` makes, built by the engine and computed again by the oracle.

The specs are read as they are; only their SQL is written again here, as Python.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from oracle.compare import differences
from oracle.engine import evaluate

import featureflow

TEMPLATES = Path(featureflow.__file__).parent / "demo" / "templates"
Row = dict[str, Any]


def divided(over: float | None, under: float | None) -> float | None:
    """SQL's ``over / nullif(under, 0)``."""
    return None if over is None or not under else over / under


SQL: dict[str, Callable[[Row], Any]] = {
    "status = 'ok'": lambda row: row["status"] == "ok",
    "ln(amount + 1)": lambda row: math.log(row["amount"] + 1),
    "amount / nullif(amount_mean_7d, 0)": lambda row: divided(row["amount"], row["amount_mean_7d"]),
    "amount_count_7d = 0": lambda row: row["amount_count_7d"] == 0,
    "celsius > 24": lambda row: None if row["celsius"] is None else row["celsius"] > 24,
    "celsius_mean_1h + correction": lambda row: (
        None
        if None in (row["celsius_mean_1h"], row["correction"])
        else row["celsius_mean_1h"] + row["correction"]
    ),
    "celsius_count_1h = 0": lambda row: row["celsius_count_1h"] == 0,
    "(celsius - celsius_mean_1d) / nullif(celsius_stddev_samp_1d, 0)": lambda row: divided(
        None if None in (row["celsius"], row["celsius_mean_1d"]) else row["celsius"] - row["celsius_mean_1d"],
        row["celsius_stddev_samp_1d"],
    ),
}


def rows_of(folder: Path, path: str, columns: dict[str, str]) -> list[Row]:
    """Rows of a source's files, read without the engine."""
    rows: list[Row] = []
    for file in sorted(folder.glob(path.split("}/")[1])):
        if file.suffix == ".parquet":
            rows += pq.read_table(file).to_pylist()
        elif file.suffix == ".jsonl":
            rows += [json.loads(line) for line in file.read_text().splitlines()]
        else:
            with file.open(newline="") as lines:
                rows += [dict(row) for row in csv.DictReader(lines)]
    read = {"timestamp": datetime.fromisoformat, "float64": float}
    for row in rows:
        for name, kind in columns.items():
            if isinstance(row[name], str):
                row[name] = read.get(kind, str)(row[name])
    return rows


def as_python(section: dict[str, Any]) -> dict[str, Any]:
    """A section with functions in place of its SQL."""
    changed = dict(section)
    if "where" in section:
        changed["where"] = SQL[section["where"]]
    if "derive" in section:
        changed["derive"] = {name: SQL[text] for name, text in section["derive"].items()}
    return changed


@pytest.fixture(scope="module", params=["fraud", "sensors"])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Any]:
    """The oracle's project, and the engine's store."""
    root = tmp_path_factory.mktemp("templates") / request.param
    shutil.copytree(TEMPLATES / request.param, root)
    for file in (root / "data").glob("readings/d[24].jsonl"):
        file.unlink()  # exact fractions take their time: two devices are enough
    spec = yaml.safe_load((root / "featureflow.yaml").read_text())
    for source in spec["sources"].values():
        source["rows"] = rows_of(root / "data", source["path"], source.get("columns", {}))
    project = {
        "sources": {name: as_python(source) for name, source in spec["sources"].items()},
        "features": {name: as_python(feature) for name, feature in spec["features"].items()},
    }
    engine = featureflow.Project(
        root / "featureflow.yaml", store=str(root / "store"), scratch=str(root / "scratch")
    )
    engine.build()
    return project, engine.store


def test_every_table_is_what_the_oracle_computes(built: tuple[dict[str, Any], Any]) -> None:
    project, store = built
    assert store.tables() == sorted(project["features"])
    for name in project["features"]:
        expected = evaluate(project, name)
        table = store.table(name)
        assert table.schema.names == expected.columns
        assert table.rows == len(expected.rows) > 100
        found = differences(expected, table.to_arrow().to_pylist())
        assert not found, "\n".join([name, *found])
