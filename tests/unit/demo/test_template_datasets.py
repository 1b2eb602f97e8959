"""The datasets of the templates of `init`: labels, splits and shards as plain Python works them out from the files."""

from __future__ import annotations

import json
import math
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

import featureflow

TEMPLATES = Path(featureflow.__file__).parent / "demo" / "templates"


def built(name: str, folder: Path) -> tuple[Path, featureflow.Dataset]:
    """The template's project, built; and its only dataset."""
    root = folder / name
    shutil.copytree(TEMPLATES / name, root)
    store = root / "store"
    project = featureflow.Project(
        root / "featureflow.yaml", store=str(store), scratch=str(folder / "scratch")
    )
    project.build()
    (dataset,) = project.store.datasets()
    return root, project.dataset(dataset)


def test_fraud_looks_a_day_ahead(tmp_path: Path) -> None:
    root, dataset = built("fraud", tmp_path)
    payments = [
        row
        for file in sorted((root / "data" / "transactions").glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
        if row["status"] == "ok"
    ]
    first: dict[int, dict[str, object]] = {}
    for row in sorted(payments, key=lambda row: (row["loaded_at"], row["ts"])):
        first.setdefault(row["txn_id"], row)
    rows = dataset.to_polars(encoded=False)
    assert rows.height == len(first)
    last = max(row["ts"] for row in first.values())
    reach = timedelta(days=1, seconds=1)
    ends = [datetime(2026, 1, 7, tzinfo=UTC), datetime(2026, 1, 9, tzinfo=UTC)]
    unknown = 0
    for row in rows.iter_rows(named=True):
        later = [
            one["amount"]
            for one in first.values()
            if one["card_id"] == row["card_id"]
            and row["ts"] + timedelta(seconds=1) <= one["ts"] < row["ts"] + reach
        ]
        if row["ts"] + reach > last:
            assert row["spends"] is None
            unknown += 1
        else:
            assert row["spends"] == (math.fsum(later) > 50)
        split = "train" if row["ts"] < ends[0] else "valid" if row["ts"] < ends[1] else "test"
        near = any(end - reach < row["ts"] < end for end in ends)
        assert row["split"] == ("embargoed" if near else split)
    assert unknown > 10
    shards = featureflow.load_shards(str(root / "store" / "exports" / "next_day_spend"))
    known = rows.filter(pl.col("spends").is_not_null(), pl.col("split") != "embargoed")
    assert {name: shards.rows(name) for name in shards.splits} == dict(
        known["split"].value_counts().iter_rows()
    )


def test_sensors_looks_three_hours_ahead(tmp_path: Path) -> None:
    root, dataset = built("sensors", tmp_path)
    readings = [
        json.loads(line)
        for file in sorted((root / "data" / "readings").glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    for reading in readings:
        reading["at"] = datetime.fromisoformat(reading["at"])
    last = max(reading["at"] for reading in readings)
    rows = dataset.to_polars(encoded=False)
    hot = 0
    for row in rows.iter_rows(named=True):
        end = row["at"] + timedelta(hours=3)
        later = [
            reading["celsius"] > 24
            for reading in readings
            if reading["device"] == row["device"]
            and row["at"] <= reading["at"] < end
            and reading["celsius"] is not None
        ]
        assert row["hot"] == (any(later) if later and end <= last else None)
        hot += row["hot"] is True
    assert hot > 10
    batches = list(dataset.numpy(64, "train", shuffle=False))
    assert sum(len(batch["hot"]) for batch in batches) == dataset.splits["train"]
    with pytest.raises(featureflow.FeatureflowError, match="no split 'valid'"):
        dataset.to_pandas("valid")
