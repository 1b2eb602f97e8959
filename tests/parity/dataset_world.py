"""A small project with a dataset that uses everything, and what its versions hold; for tests of datasets."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

import featureflow as ff

START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = """
featureflow: 1
project: world
sources:
  events: {path: "{folder}/events/*.parquet", time: ts, sequence: seq}
  rates: {path: "{folder}/rates/*.parquet", time: at}
  asked: {path: "{folder}/asked/*.parquet", time: t}
features:
  spend:
    source: events
    keys: [k]
    aggregate:
      - {column: x, ops: [count, sum, mean, max, last, stddev_samp], windows: [6h, 2d, lifetime]}
      - {column: x, ops: [median], windows: [1d], where: "x > 0"}
    derive: {ratio: "x_sum_6h / nullif(x_mean_2d, 0)"}
  daily:
    source: events
    keys: [shop]
    at: {every: 1d}
    aggregate: [{column: x, ops: [count, sum], windows: [2d]}]
datasets:
  train:
    spine: {source: asked, keys: [k]}
    features:
      - spend
      - {table: daily, keys: {place: shop}, prefix: shop_}
    lookup: [{from: rates, keys: {place: shop}, columns: [rate], ttl: 3d}]
    derive: {double: "rate * 2"}
    label: {source: events, keys: [k], op: count, horizon: 1d, as: busy, derive: "busy > 1"}
    split: {by: time, train: "< 2026-01-05", valid: "< 2026-01-07", test: rest, embargo: 1d}
    encode:
      - {columns: [x_sum_2d, rate], with: [{impute: median}, standard]}
      - {columns: [place], with: target, folds: time}
      - {columns: [x_count_2d], with: quantile}
    select: {missing: 0.95, correlation: 0.999}
"""


def rows_of_events(seed: int, n: int = 300) -> pl.DataFrame:
    """Events with ties, nulls, infinities and a key that has a third of them."""
    rng = random.Random(seed)
    keys = ["a", "a", "b", "c", "d", None]
    values = [None, 0.0, -1.5, 2.25, 1e9, 3.0, 0.1, float("inf")]
    return pl.DataFrame(
        {
            "k": [rng.choice(keys) for _ in range(n)],
            "shop": [rng.randrange(4) for _ in range(n)],
            "ts": [START + timedelta(hours=rng.randrange(24 * 8)) for _ in range(n)],
            "seq": list(range(n)),
            "x": [rng.choice(values) if i % 7 else rng.uniform(-5, 5) for i in range(n)],
        },
        schema={
            "k": pl.String,
            "shop": pl.Int64,
            "ts": pl.Datetime("us", "UTC"),
            "seq": pl.Int64,
            "x": pl.Float64,
        },
    ).with_columns(x=pl.when(pl.col("x").is_infinite()).then(4.0).otherwise("x"))


def rows_of_rates(seed: int) -> pl.DataFrame:
    """A few rates of each shop."""
    rng = random.Random(seed)
    return pl.DataFrame(
        {
            "shop": [i % 5 for i in range(40)],
            "at": [START + timedelta(hours=rng.randrange(24 * 8)) for _ in range(40)],
            "rate": [rng.uniform(0, 1) for _ in range(40)],
        }
    ).with_columns(at=pl.col("at").cast(pl.Datetime("us", "UTC")))


def rows_of_spine(seed: int, n: int = 250) -> pl.DataFrame:
    """A spine in no order, with duplicates, null keys and null times."""
    rng = random.Random(seed)
    rows = [
        {
            "k": rng.choice(["a", "b", "c", "d", "never", None]),
            "place": rng.randrange(5),
            "t": None if i % 41 == 0 else START + timedelta(minutes=30 * rng.randrange(-20, 48 * 8)),
            "note": f"row {i}",
        }
        for i in range(n)
    ]
    rows += rows[3:9]
    schema = {"k": pl.String, "place": pl.Int64, "t": pl.Datetime("us", "UTC"), "note": pl.String}
    return pl.DataFrame(rows, schema=schema)


class DatasetWorld:
    """The project in a folder of its own."""

    def __init__(self, folder: Path, *, spec: str = SPEC) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.spec = folder / "featureflow.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        self.spec.write_text(spec.replace("{folder}", str(folder)))

    def write(self, source: str, name: str, rows: pl.DataFrame) -> None:
        """Write a file of a source."""
        path = self.folder / source / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.write_parquet(path)

    def fill(self) -> DatasetWorld:
        """Write all sources, one file each."""
        self.write("events", "a", rows_of_events(1))
        self.write("rates", "a", rows_of_rates(2))
        self.write("asked", "a", rows_of_spine(3))
        return self

    def project(self, store: Path | None = None, **options: Any) -> ff.Project:
        """Open it; scratch is beside the store."""
        store = store or self.store
        options = {"scratch": store.with_name(f"{store.name}-scratch"), **options}
        return ff.Project(self.spec, store=str(store), **options)


def dataset(store: Path, reference: str = "train") -> ff.Dataset:
    """Open the dataset."""
    return ff.open(str(store)).dataset(reference)


def digests(store: Path, reference: str = "train") -> list[str]:
    """Hash of each file of a version, in the order of their rows."""
    found = dataset(store, reference)
    return [
        hashlib.sha256((Path(found.table.url) / file.path).read_bytes()).hexdigest() for file in found.files
    ]


def stored(store: Path, reference: str = "train") -> pl.DataFrame:
    """Everything that a version stores, encoded columns under their stored names, in order."""
    found = dataset(store, reference)
    return pl.concat([pl.DataFrame(pq.read_table(Path(found.table.url) / file.path)) for file in found.files])
