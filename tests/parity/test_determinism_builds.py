"""The same rows give the same table: whatever the threads, buckets, runs, files, hash seeds and schedulers."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
from properties.small_world import EVENT_TYPES, RATE_TYPES, TABLES, World, content, events, live_files, rates

import featureflow as ff

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("determinism"))
    rng = random.Random(20)
    for day in range(5):
        made.write("tx", f"day{day}", events(rng, day, 25))
    made.write("rate", "first", rates(rng, 0, 8))
    made.build()
    return made


def rebuild(world: World, name: str, **options: Any) -> Path:
    store = world.folder / name
    world.project(store, scratch=world.folder / f"{name}-scratch", **options).build()
    return store


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads(world: World, threads: int) -> None:
    store = rebuild(world, f"threads{threads}", workers=threads)
    for name in TABLES:
        assert live_files(store, name) == live_files(world.store, name)


@pytest.mark.parametrize("task_bytes", [1, 6_000, 50_000])
def test_runs_of_slices(world: World, task_bytes: int) -> None:
    with mock.patch("featureflow.execute.sizing.TASK_BYTES", task_bytes):
        store = rebuild(world, f"runs{task_bytes}")
    for name in TABLES:
        assert live_files(store, name) == live_files(world.store, name)


@pytest.mark.parametrize("buckets", [2, 7, 40])
def test_buckets_and_row_groups(world: World, buckets: int) -> None:
    with (
        mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: buckets),
        mock.patch("featureflow.execute.inputs.CHUNK_BYTES", 1),
    ):
        store = rebuild(world, f"buckets{buckets}")
    for name in TABLES:
        assert content(store, name).equals(content(world.store, name))


@pytest.mark.parametrize("seed", range(4))
def test_the_same_rows_in_other_files(world: World, seed: int, tmp_path: Path) -> None:
    """Shuffled, split elsewhere, with other row groups: ties of time (with and without sequence) fall out alike."""
    rng = random.Random(seed)
    other = World(tmp_path)
    for source, types in (("tx", EVENT_TYPES), ("rate", RATE_TYPES)):
        rows = pl.concat([pl.read_parquet(path) for path in world.files(source)])
        rows = rows.sample(fraction=1.0, shuffle=True, seed=seed)
        assert rows.schema == pl.Schema(types)
        cuts = sorted({0, rows.height, *(rng.randrange(rows.height) for _ in range(seed))})
        for i, (start, stop) in enumerate(itertools.pairwise(cuts)):
            other.write(source, f"{rng.randrange(10**6)}-{i}", rows[start:stop])
    other.build()
    for name in TABLES:
        mine, theirs = content(other.store, name), content(world.store, name)
        assert mine.equals(theirs)


def test_row_order_of_the_table(world: World) -> None:
    """What `to_polars` gives is sorted by keys and time, ties included, whatever the buckets."""
    with mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: 3):
        store = rebuild(world, "ordered")
    for name in TABLES:
        mine = ff.open(str(store)).table(name)
        order = [*mine.keys, str(mine.time)]
        frame = mine.to_polars()
        assert frame.select(order).equals(
            frame.select(order).sort(order, nulls_last=False, maintain_order=True)
        )


CHILD = """
import sys, warnings
import featureflow as ff
spec, store, scratch = sys.argv[1:]
report = ff.Project(spec, store=store, scratch=scratch, scheduler="threads", workers=2).build()
assert report.status == "done"
"""


@pytest.mark.parametrize("seed", ["0", "1234"])
def test_hash_seeds(world: World, seed: str) -> None:
    world.project()  # writes the spec
    store = world.folder / f"seed{seed}"
    arguments = [
        str(world.folder / "featureflow.yaml"),
        str(store),
        str(world.folder / f"seed{seed}-scratch"),
    ]
    subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
        timeout=120,
    )
    for name in TABLES:
        assert live_files(store, name) == live_files(world.store, name)


# ---------------------------------------------------------------- schedulers


@contextmanager
def tcp_cluster(folder: Path) -> Iterator[str]:
    """A scheduler and two workers as processes of their own; ended by their own ids."""
    address = folder / "scheduler.json"
    binary = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    started = [
        subprocess.Popen(
            [
                *binary,
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--no-dashboard",
                "--dashboard-address",
                "127.0.0.1:0",
                "--scheduler-file",
                str(address),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    ]
    try:
        for i in range(2):
            worker = [
                sys.executable,
                "-m",
                "distributed.cli.dask_worker",
                "--scheduler-file",
                str(address),
                "--nthreads",
                "1",
                "--no-dashboard",
            ]
            local = folder / f"worker{i}"
            local.mkdir()
            started.append(
                subprocess.Popen(
                    [*worker, "--host", "127.0.0.1", "--local-directory", str(local)],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        from distributed import Client

        with Client(scheduler_file=str(address), timeout="60s", set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            yield str(client.scheduler.address)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            process.wait(30)


@pytest.mark.filterwarnings("default")  # Dask and Tornado warn about their own closing
@pytest.mark.slow
def test_a_running_cluster(world: World) -> None:
    with tcp_cluster(world.folder) as address:
        store = rebuild(world, "tcp", scheduler=address)
    for name in TABLES:
        assert live_files(store, name) == live_files(world.store, name)


@pytest.mark.filterwarnings("default")
@pytest.mark.slow
def test_local_processes(world: World) -> None:
    store = rebuild(world, "local", scheduler="local", workers=2)
    for name in TABLES:
        assert live_files(store, name) == live_files(world.store, name)


# ---------------------------------------------------------------- definition hashes

BASE = """
featureflow: 1
project: hashes
sources:
  tx:
    path: tx.parquet
    time: ts
    columns: {amount: float64}
  rate: {path: rate.parquet, time: at}
features:
  spend:
    description: Trailing spend.
    owner: a@example.com
    tags: [x]
    source: tx
    keys: [card]
    aggregate:
      - {column: amount, ops: [sum], windows: [1d]}
    lookup:
      - {from: rate, keys: {shop: name}, columns: [level], ttl: 3d}
    derive: {double: "level * 2"}
"""
METADATA = {
    "description": ("Trailing spend.", "Other words."),
    "owner": ("a@example.com", "b@example.com"),
    "tags": ("tags: [x]", "tags: [y, z]"),
    "path": ("path: tx.parquet", "path: other/tx.parquet"),
    "project": ("project: hashes", "project: renamed"),
    "checks": ("keys: [card]\n", "keys: [card]\n    checks: [{column: level, min: 0, on_fail: warn}]\n"),
}
VALUES = {
    "window": ("windows: [1d]", "windows: [2d]"),
    "op": ("ops: [sum]", "ops: [mean]"),
    "ttl": ("ttl: 3d", "ttl: 4d"),
    "derive": ("level * 2", "level * 3"),
    "look-up keys": ("keys: {shop: name}", "keys: {shop: other}"),
    "closed": ("keys: [card]\n", "keys: [card]\n    window: {closed: right}\n"),
    "partition": ("keys: [card]\n", "keys: [card]\n    partition: month\n"),
    "source where": ("    time: ts\n", "    time: ts\n    where: amount > 0\n"),
    "source cast": ("{amount: float64}", "{amount: float32}"),
    "source deduplicate": ("    time: ts\n", "    time: ts\n    deduplicate: [card]\n"),
    "looked-up source": (
        "rate: {path: rate.parquet, time: at}",
        "rate: {path: rate.parquet, time: at, where: level > 0}",
    ),
    "quarantine": (
        "keys: [card]\n",
        "keys: [card]\n    checks: [{column: level, min: 0, on_fail: quarantine}]\n",
    ),
}


@pytest.fixture(scope="module")
def hashing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hashes")
    (folder / "other").mkdir()
    rows = pl.DataFrame({"card": [1], "shop": ["a"], "amount": [1.0], "ts": [START]})
    for path in ("tx.parquet", "other/tx.parquet"):
        rows.write_parquet(folder / path)
    pl.DataFrame({"name": ["a"], "other": ["a"], "level": [1.0], "at": [START]}).write_parquet(
        folder / "rate.parquet"
    )
    return folder


def definition_hash(folder: Path, text: str) -> str:
    (folder / "featureflow.yaml").write_text(text)
    project = ff.Project(folder / "featureflow.yaml", store=str(folder / "store"), scratch=folder / "scratch")
    return project.compile()["spend"].definition_hash


@pytest.mark.parametrize("change", METADATA)
def test_metadata_is_not_in_the_hash(hashing: Path, change: str) -> None:
    old, new = METADATA[change]
    assert BASE.count(old) == 1
    assert definition_hash(hashing, BASE.replace(old, new)) == definition_hash(hashing, BASE)


@pytest.mark.parametrize("change", VALUES)
def test_what_changes_a_value_is_in_the_hash(hashing: Path, change: str) -> None:
    old, new = VALUES[change]
    assert BASE.count(old) == 1
    assert definition_hash(hashing, BASE.replace(old, new)) != definition_hash(hashing, BASE)


def test_the_salt_is_in_the_hash(hashing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masked = BASE.replace("    time: ts\n", "    time: ts\n    mask: {shop: sha256}\n").replace(
        "shop: name", "card: number"
    )
    masked = masked.replace("{card: number}", "{shop: name}")
    monkeypatch.setenv("FEATUREFLOW_SALT", "one")
    first = definition_hash(hashing, masked)
    monkeypatch.setenv("FEATUREFLOW_SALT", "two")
    assert definition_hash(hashing, masked) != first


HASHER = """
import sys
import featureflow as ff
print(ff.Project(sys.argv[1], store="unused", scratch=sys.argv[2]).compile()["spend"].definition_hash)
"""


def test_the_hash_is_pinned_and_has_no_seed(hashing: Path) -> None:
    """A changed value here makes every user's next build a full one: raise it on purpose only."""
    expected = definition_hash(hashing, BASE)
    found = {
        subprocess.run(
            [sys.executable, "-c", HASHER, str(hashing / "featureflow.yaml"), str(hashing / "scratch")],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            timeout=120,
        ).stdout.strip()
        for seed in ("0", "77")
    }
    assert found == {expected}
    assert expected == "3f3aed153be0af106d222b914038ccd5"


def test_tie_order_is_pinned(tmp_path: Path) -> None:
    """Rows tied in time: which is first and last comes from a hash that no release may change."""
    amounts = [3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.0, 6.0, 5.5]
    times = [START + timedelta(hours=place // 4) for place in range(9)]
    rows = pl.DataFrame({"card": [1] * 9, "ts": times, "amount": amounts})
    world = World(tmp_path)
    rows.write_parquet(tmp_path / "tx.parquet")
    spec = tmp_path / "featureflow.yaml"
    spec.write_text(
        "featureflow: 1\nproject: ties\nsources: {tx: {path: tx.parquet, time: ts}}\n"
        "features: {t: {source: tx, keys: [card], keep: [amount], aggregate: "
        "[{column: amount, ops: [first, last], windows: [lifetime], closed: right}]}}\n"
    )
    ff.Project(spec, store=str(world.store), scratch=tmp_path / "scratch", scheduler="threads").build()
    frame = ff.open(str(world.store)).table("t").to_polars().sort("ts", "amount")
    found = frame.select("amount_first_lifetime", "amount_last_lifetime").unique(maintain_order=True).rows()
    assert found == [(4.0, 1.0), (4.0, 2.0), (4.0, 5.5)]


def test_a_default_that_is_spelt_out_is_the_same_definition() -> None:
    from featureflow.plan.definition import table_definition
    from featureflow.spec.load import load_text

    def definition(feature: str) -> object:
        text = f"sources: {{s: {{path: s.parquet, time: t}}}}\nfeatures: {{f: {{source: s, keys: [k], {feature}}}}}"
        project = load_text(text).project
        return table_definition(project, "f", {})

    plain = definition("aggregate: [{column: x, ops: [count], windows: [1d]}]")
    spelt = (
        "window: {closed: left, delay: 0s}, partition: day, at: events, "
        "aggregate: [{column: x, ops: [count], windows: [1d]}]"
    )
    assert definition(spelt) == plain
    for other in (
        "aggregate: [{column: x, ops: [count], windows: [1d], fill_empty: null}]",
        "aggregate: [{column: x, ops: [count], windows: [24h]}]",
        "partition: month, aggregate: [{column: x, ops: [count], windows: [1d]}]",
        "window: {closed: right}, aggregate: [{column: x, ops: [count], windows: [1d]}]",
    ):
        assert definition(other) != plain
