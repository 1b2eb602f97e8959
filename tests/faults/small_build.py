"""A small build of a table, a dataset and its shards, anywhere; and what a reader of its store sees."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import featureflow as ff
from featureflow.core import storage
from featureflow.tables.state import current_state
from featureflow.tables.verify import verify

START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = """
featureflow: 1
project: small
sources:
  tx: {path: "{raw}/tx/*.parquet", time: ts, sequence: seq}
  asked: {path: "{raw}/asked/*.parquet", time: t}
features:
  spend:
    source: tx
    keys: [card]
    keep: [seq]
    aggregate: [{column: amount, ops: [sum, mean], windows: [6h, lifetime]}]
datasets:
  train:
    spine: {source: asked, keys: [card]}
    features: [spend]
    split: {by: time, train: "< 2026-01-02", test: rest}
    encode: [{columns: [amount_sum_6h], with: [{impute: median}, standard]}]
    export: {format: arrow, shard_size: 2000, nulls: nan, keys: false}
"""
TABLES = ("features/spend", "datasets/train")


def rows_of(day: int, n: int) -> list[dict[str, Any]]:
    """Events of a day, with ties and nulls."""
    rng = random.Random(day)
    start = START + timedelta(days=day)
    return [
        {
            "card": rng.choice([1, 2, 3, None]),
            "ts": start + timedelta(minutes=15 * rng.randrange(96)),
            "seq": day * 100_000 + i,
            "amount": rng.choice([None, rng.uniform(-5, 5), 1e9]),
        }
        for i in range(n)
    ]


def write_raw(raw: str, day: int, n: int = 60) -> None:
    """A file of events, and one of the spine, of one day."""
    import polars as pl

    for name, time, columns in (("tx", "ts", ["card", "ts", "seq", "amount"]), ("asked", "t", ["card", "t"])):
        frame = pl.DataFrame(rows_of(day, n)).with_columns(ts=pl.col("ts").cast(pl.Datetime("us", "UTC")))
        sink = frame.rename({"ts": time}).select(columns)
        import io

        data = io.BytesIO()
        sink.write_parquet(data)
        storage.write_atomic(storage.join(raw, name, f"day{day}.parquet"), data.getvalue())


def write_spec(folder: Path, raw: str, text: str = SPEC) -> Path:
    """The spec's file."""
    path = folder / "featureflow.yaml"
    path.write_text(text.replace("{raw}", raw))
    return path


def build(spec: str, store: str, scratch: str, **options: Any) -> str:
    """Build all of it; gives the report's status."""
    options = {"scheduler": "threads", "workers": 2, **options}
    report = ff.Project(spec, store=store, scratch=scratch, **options).build()
    return str(report.status)


def build_counted(spec: str, store: str, scratch: str, log: str, limit: int | None) -> str:
    """Build in many tasks, a dot in ``log`` for each data file that gets its name; dies when there are so many.

    Tasks are not counted: one whose file is there already does nothing, and is soon over.
    """
    import os
    import signal
    from unittest import mock

    real = os.replace

    def replace(*arguments: Any) -> None:
        real(*arguments)
        if not str(arguments[1]).endswith(
            (".arrow", ".parquet")
        ):  # lists and notes, which every build writes
            return
        with open(log, "ab", buffering=0) as file:
            file.write(b".")
        if limit is not None and os.path.getsize(log) >= limit:
            os.kill(os.getpid(), signal.SIGKILL)

    with (
        mock.patch.object(os, "replace", replace),
        mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: 3),
        mock.patch("featureflow.datasets.planning.rows_of_piece", lambda _: 200),
    ):
        return build(spec, store, scratch)


def build_dying(spec: str, store: str, scratch: str, log: str, limit: int) -> str:
    """Build; before operation number ``limit`` on a file of the store the process dies. ``log`` lists them."""
    import os
    import signal
    import tempfile
    import threading

    lock = threading.Lock()
    done = 0

    def guarded(real: Any) -> Any:
        def operation(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            where = str(named["dir"] if "dir" in named else arguments[0])
            if where.startswith(store):
                with lock:
                    if done == limit:
                        os.kill(os.getpid(), signal.SIGKILL)
                    done += 1
                    with open(log, "a") as file:
                        file.write(f"{real.__name__} {where}\n")
            return real(*arguments, **named)

        return operation

    for name in ("replace", "unlink", "rmdir", "mkdir", "link", "chmod"):
        setattr(os, name, guarded(getattr(os, name)))
    tempfile.mkstemp = guarded(tempfile.mkstemp)
    return build(spec, store, scratch)


@dataclass(frozen=True)
class Sight:
    """What a reader sees: version and content of each table, content of the export; None where there is nothing."""

    tables: tuple[tuple[int, str] | None, ...]
    export: str | None


def hashed(parts: list[tuple[str, bytes]]) -> str:
    """One digest of names and bytes."""
    return hashlib.sha256(
        json.dumps([[n, hashlib.sha256(d).hexdigest()] for n, d in parts]).encode()
    ).hexdigest()


def table_digest(url: str) -> tuple[int, str] | None:
    """Number of the latest version and the digest of its files; fails if anything is not whole."""
    state = current_state(url)
    if state is None:
        return None
    checked = verify(url, url, deep=True)
    assert checked.problems == (), checked.problems
    files = [(f.path, storage.read_bytes(storage.join(url, f.path))) for f in state.files]
    return state.version, hashed(files)


def export_digest(store: str, version: int) -> str | None:
    """Digest of the shards of a dataset's version, read as a loader does; None if there is no manifest."""
    folder = storage.join(store, "exports/train", str(version))
    if not storage.exists(storage.join(folder, "manifest.json")):
        return None
    rows = ff.load_shards(folder).to_arrow()
    manifest = json.loads(storage.read_bytes(storage.join(folder, "manifest.json")))
    names = sorted(
        file["path"] for shards in manifest["splits"].values() for shard in shards for file in shard["files"]
    )
    assert rows.num_rows == sum(shard["rows"] for shards in manifest["splits"].values() for shard in shards)
    files = [(name, storage.read_bytes(storage.join(folder, name))) for name in ("manifest.json", *names)]
    return hashed(files)


def sight(store: str) -> Sight:
    """All of it."""
    tables = tuple(table_digest(storage.join(store, name)) for name in TABLES)
    last = tables[1]
    return Sight(tables, None if last is None else export_digest(store, last[0]))
