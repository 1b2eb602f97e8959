"""A small project whose files and definition can be changed, and the full rebuild that it must equal."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl

import featureflow as ff
from featureflow.tables.verify import verify

#: Midnights around the epoch: times on both sides of zero.
FIRST_DAY = datetime(1969, 12, 28, tzinfo=UTC)
EVENT_TYPES = {
    "id": pl.Int64,
    "card": pl.Int64,
    "shop": pl.String,
    "amount": pl.Float64,
    "seq": pl.Int32,
    "ts": pl.Datetime("us", "UTC"),
    "loaded": pl.Datetime("us", "UTC"),
}
RATE_TYPES = {
    "name": pl.String,
    "number": pl.Int16,
    "level": pl.Float64,
    "at": pl.Datetime("us", "UTC"),
    "loaded": pl.Datetime("us", "UTC"),
}
TABLES = ("spend", "daily", "rich")

SPEC = """
featureflow: 1
project: small_world
sources:
  tx: {path: "data/tx/*.parquet", time: ts, sequence: seq}
  once: {path: "data/tx/*.parquet", time: ts, created: loaded, deduplicate: [id]}
  rate: {path: "data/rate/*.parquet", time: at, created: loaded}
features:
  spend:
    source: tx
    keys: [card]
    keep: [id]
    aggregate:
      - {column: amount, ops: [sum, last, mean], windows: [1h, $WINDOW, lifetime]}
      - {column: amount, ops: [count], windows: [1d], where: "$WHERE", as: "web_{op}_{window}"}
      - {ops: [count], windows: [1d], closed: both, as: "both_{window}"}
    lookup:
      - {from: rate, keys: {shop: name}, columns: [level], ttl: $TTL}
      - {from: rate, keys: {card: number}, columns: [level], prefix: by_card_}
    derive: {double: "amount_sum_1h * 2"}
  daily:
    source: once
    keys: [card]
    at: {every: 1d}
    partition: month
    aggregate:
      - {column: amount, ops: [sum, count_distinct$MORE], windows: [2d]}
  rich:
    source: once
    keys: [card, shop]
    keep: [id]
    partition: $PARTITION
    aggregate:
      - {ops: [count], windows: [1d]}
    lookup:
      - {from: spend, keys: {card: card}, columns: [amount_sum_1h], prefix: s_, ttl: 4d}
      - {from: daily, keys: {card: card}, columns: [amount_sum_2d], ttl: 2d, prefix: d_}
"""
CHOICES = {
    "WINDOW": ("2d", "3d"),
    "WHERE": ("shop = 'a'", "amount > 0"),
    "TTL": ("3d", "1d"),
    "MORE": ("", ", max"),
    "PARTITION": ("day", "none"),
}


def events(rng: random.Random, day: int, n_rows: int) -> pl.DataFrame:
    """Rows of one day: few distinct times (midnight among them), null keys, null times, infinities, -0.0."""
    start = FIRST_DAY + timedelta(days=day)
    times = [
        start,
        start + timedelta(days=1) - timedelta(microseconds=1),
        *(start + timedelta(hours=h) for h in (1, 2, 13, 23)),
    ]
    values = [1.0, 2.5, 1e16, -1e16, None, float("inf"), float("nan"), -0.0, 0.0]
    rows = [
        {
            "id": rng.choice([None, *range(60)]),
            "card": rng.choice([1, 2, 3, None]),
            "shop": rng.choice(["a", "", "é", None]),
            "amount": rng.choice(values),
            "seq": rng.choice([0, 1, None]),
            "ts": rng.choice([*times, *times, None]),
            "loaded": rng.choice([start, start + timedelta(days=2), None]),
        }
        for _ in range(n_rows)
    ]
    return pl.DataFrame(rows, schema=EVENT_TYPES)


def rates(rng: random.Random, day: int, n_rows: int) -> pl.DataFrame:
    """Rows of the looked-up source: ties in time, unknown and late `loaded`."""
    start = FIRST_DAY + timedelta(days=day)
    rows = [
        {
            "name": rng.choice(["a", "", "é", None]),
            "number": rng.choice([1, 2, None]),
            "level": rng.choice([1.0, 2.0, None]),
            "at": rng.choice([start, start + timedelta(hours=5), None]),
            "loaded": rng.choice([start, start + timedelta(days=1), None]),
        }
        for _ in range(n_rows)
    ]
    return pl.DataFrame(rows, schema=RATE_TYPES)


@dataclass
class World:
    """A project folder with a store that grows build by build."""

    folder: Path
    choices: dict[str, str] = field(
        default_factory=lambda: {name: options[0] for name, options in CHOICES.items()}
    )
    clock: int = 1_000_000_000

    def __post_init__(self) -> None:
        for name in ("tx", "rate"):
            (self.folder / "data" / name).mkdir(parents=True)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def files(self, source: str) -> list[Path]:
        return sorted((self.folder / "data" / source).glob("*.parquet"))

    def write(self, source: str, name: str, rows: pl.DataFrame) -> None:
        """Write or replace a file; every write has another mtime."""
        path = self.folder / "data" / source / f"{name}.parquet"
        rows.write_parquet(path, row_group_size=max(1, rows.height // 2))
        self.clock += 1_000_000_000
        os.utime(path, ns=(self.clock, self.clock))

    def project(self, store: Path | None = None, **options: Any) -> ff.Project:
        text = SPEC
        for name, value in self.choices.items():
            text = text.replace(f"${name}", value)
        spec = self.folder / "featureflow.yaml"
        spec.write_text(text)
        options = {"workers": 2, "scratch": self.folder / "scratch", "scheduler": "threads", **options}
        return ff.Project(spec, store=str(store or self.store), **options)

    def build(self, **arguments: Any) -> Any:
        return self.project().build(**arguments)

    def version(self, table: str) -> int:
        opened = ff.open(str(self.store))
        return opened.table(table).version if table in opened.tables() else 0

    def buckets(self, table: str) -> int:
        return int(ff.open(str(self.store)).table(table).record["buckets"])

    @contextmanager
    def rebuilt(
        self, *, threads: int, task_bytes: int, buckets: dict[str, int], chunk_bytes: int | None = None
    ) -> Iterator[Path]:
        """A full build of the same inputs into a store and scratch of its own."""
        target = self.folder / "reference"
        shutil.rmtree(target, ignore_errors=True)
        with (
            mock.patch("featureflow.execute.planner.choose_buckets", lambda table, *_: buckets[table.name]),
            mock.patch("featureflow.execute.sizing.TASK_BYTES", task_bytes),
            mock.patch("featureflow.execute.inputs.CHUNK_BYTES", chunk_bytes or 96 << 20),
        ):
            self.project(target / "store", scratch=target / "scratch", workers=threads).build()
        yield target / "store"
        shutil.rmtree(target)


def live_files(store: Path, table: str) -> dict[str, str]:
    """Digest of every file that the latest version lists."""
    opened = ff.open(str(store)).table(table)
    listed = verify(opened.url, table, deep=True)
    assert listed.problems == ()
    from featureflow.tables.state import current_state

    state = current_state(opened.url)
    assert state is not None
    return {f.path: hashlib.sha256((Path(opened.url) / f.path).read_bytes()).hexdigest() for f in state.files}


def exact(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows in an order of their own, floats as text: -0.0 is not 0.0."""
    plain = frame.with_columns(pl.col(pl.Float64, pl.Float32).cast(pl.String))
    return plain.sort(plain.columns, nulls_last=True)


def content(store: Path, reference: str) -> pl.DataFrame:
    return exact(ff.open(str(store)).table(reference).to_polars())
