"""The same bytes whatever the memory: runs and pieces of a few rows, hot keys, ties, nulls, look-ups, lifetime."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import featureflow as ff
from featureflow.core.errors import ComputeError
from featureflow.execute.exchange.exchange_file import Rekey, bucket_rows, rekey
from featureflow.execute.exchange.fetching import read_bucket
from featureflow.execute.exchange.rekeying_pieces import parts_of
from featureflow.execute.inputs import readable_source
from featureflow.execute.table_build import TableBuild
from featureflow.execute.windows import sorted_runs, spooling
from featureflow.execute.windows.run import Room
from featureflow.plan.scan import scan_source
from featureflow.spec.models import Source
from tests.properties.small_world import World, events, live_files, rates

TABLES = ("spend", "daily", "rich")


@contextmanager
def little_memory(events_of_a_task: int, batch_rows: int = 2) -> Iterator[list[Room]]:
    """Tasks that may hold about so many events; gives what they were told."""
    seen: list[Room] = []
    real = TableBuild._room

    def room(self: TableBuild, *arguments: object) -> Room:
        found = real(self, *arguments)  # type: ignore[arg-type]
        foot = replace(found.foot, fixed=0)
        made = replace(found, foot=foot, task_bytes=foot.task_bytes(events_of_a_task, events_of_a_task))
        seen.append(made)
        return made

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(TableBuild, "_room", room))
        stack.enter_context(mock.patch.object(sorted_runs, "BATCH_ROWS", batch_rows))
        yield seen


def grown(folder: Path, rng: random.Random, n_days: int, n_rows: int) -> World:
    world = World(folder)
    for day in range(n_days):
        world.write("tx", f"{day}", events(rng, day, n_rows))
        world.write("rate", f"{day}", rates(rng, day, max(1, n_rows // 4)))
    return world


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    n_days=st.integers(1, 4),
    n_rows=st.integers(1, 30),
    room=st.integers(14, 60),
    buckets=st.integers(1, 2),
)
def test_bytes_do_not_depend_on_memory(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_days: int, n_rows: int, room: int, buckets: int
) -> None:
    world = grown(tmp_path_factory.mktemp("world"), random.Random(seed), n_days, n_rows)
    with mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: buckets):
        world.build()
        expected = {table: live_files(world.store, table) for table in TABLES}
        tight = world.folder / "tight"
        with little_memory(room):
            world.project(tight, scratch=tight / "scratch").build()
    assert {table: live_files(tight, table) for table in TABLES} == expected
    assert list((tight / "scratch" / "spill").glob("*")) == []


@pytest.mark.parametrize("hashed", [False, True])
def test_exchange_files_do_not_depend_on_memory(tmp_path: Path, hashed: bool) -> None:
    """Row groups are re-keyed one by one where all of them are too much; the batches are the same."""
    n = 1_000
    columns = {"k": pl.Int64, "v": pl.Float64, "name": pl.String}
    rng = random.Random(4)
    frame = pl.DataFrame(
        {
            "k": [rng.choice([None, 1, 2, 3, 4]) for _ in range(n)],
            "v": [rng.choice([None, rng.random()]) for _ in range(n)],
            "name": [rng.choice([None, "", "é" * 9]) for _ in range(n)],
            "ts": [None] * n,
        },
        schema={**columns, "ts": pl.Datetime("us", "UTC")},
    )
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=90)
    spec = Source(path=str(tmp_path / "*.parquet"), time="ts")
    readable = readable_source(scan_source("rows", spec, str(tmp_path), str(tmp_path / "scratch")))
    (chunk,) = readable.chunks
    job = Rekey(
        readable.reader,
        tuple(columns),
        ("k",),
        3,
        str(tmp_path / "exchange"),
        "ts",
        hashed=tuple(columns) if hashed else (),
        row_bytes=40,
    )
    whole, cut, taken = (str(tmp_path / f"{name}.arrow") for name in ("whole", "cut", "taken"))
    rekey(job, chunk, whole)
    with mock.patch("featureflow.execute.exchange.exchange_file.LARGE_BYTES", 100):
        rekey(job, chunk, taken)
    tight = replace(job, room_bytes=40 * 2 * 200)
    assert [part.rows for part in parts_of(chunk, 40, tight.room_bytes)] == [180] * 5 + [100]
    rekey(tight, chunk, cut)
    for bucket in range(3):
        (first,) = read_bucket((whole,), bucket)
        first.validate(full=True)
        for other in (cut, taken):
            (second,) = read_bucket((other,), bucket)
            second.validate(full=True)
            assert second.equals(first, check_metadata=True)
    assert bucket_rows(cut).tolist() == bucket_rows(whole).tolist()
    assert bucket_rows(cut).sum() == n
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []


@pytest.mark.parametrize("partition", ["none", "day"])
def test_a_unit_larger_than_memory_is_written_in_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partition: str
) -> None:
    """One key has most of the rows, in one slice; texts, nulls and a list are carried along."""
    monkeypatch.setattr("featureflow.tables.parquet_files.ROW_GROUP_ROWS", 64)
    monkeypatch.setattr("featureflow.execute.windows.spooling.ROW_GROUP_ROWS", 64)
    rng = random.Random(2)
    n = 1_000
    (tmp_path / "data").mkdir()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    pl.DataFrame(
        {
            "k": [rng.choice(["hot"] * 8 + ["a", "é", None]) for _ in range(n)],
            "ts": [start + timedelta(seconds=rng.randrange(80_000)) for _ in range(n)],
            "v": [rng.choice([None, float("inf"), -0.0, rng.random(), 1e17]) for _ in range(n)],
            "flag": [rng.choice([None, True, False]) for _ in range(n)],
            "text": [rng.choice([None, "", "x" * rng.randrange(40)]) for _ in range(n)],
        },
        schema_overrides={"ts": pl.Datetime("us", "UTC")},
    ).write_parquet(tmp_path / "data" / "rows.parquet", row_group_size=100)
    spec = tmp_path / "featureflow.yaml"
    spec.write_text(
        f"""
featureflow: 1
project: large
sources:
  events: {{path: "{tmp_path}/data/*.parquet", time: ts}}
features:
  t:
    source: events
    keys: [k]
    keep: [v, flag, text]
    partition: {partition}
    aggregate:
      - {{column: v, ops: [sum, max, {{last_k: {{k: 2}}}}, stddev_samp], windows: [10m]}}
      - {{column: flag, ops: [any], windows: [1m]}}
"""
    )

    def built(name: str) -> dict[str, str]:
        project = ff.Project(
            spec,
            store=str(tmp_path / name),
            scheduler="threads",
            workers=1,
            scratch=tmp_path / f"{name}-scratch",
        )
        project.build()
        return live_files(tmp_path / name, "t")

    with mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: 1):
        roomy = built("roomy")
        with little_memory(80), mock.patch.object(spooling, "write_unit") as at_once:
            tight = built("tight")
    assert not at_once.called
    assert tight == roomy


def test_a_window_of_one_key_that_does_not_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    world = World(tmp_path)
    rng = random.Random(1)
    moment = datetime(1969, 12, 28, tzinfo=UTC)
    frame = events(rng, 0, 60).with_columns(pl.lit(1).alias("card"), pl.lit(moment).alias("ts"))
    world.write("tx", "0", frame)
    world.write("rate", "0", rates(rng, 0, 4))
    with little_memory(20), pytest.raises(ComputeError) as refused:
        world.build(select=["spend"])
    text = str(refused.value)
    assert re.search(r"features\.spend: one window of one key has 60 rows and needs \d\.\d\d GB", text)
    assert "--memory" in text
    assert "spend" not in ff.open(str(world.store)).tables()
    assert list((world.folder / "scratch" / "spill").iterdir()) == []
