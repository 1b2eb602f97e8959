"""Builds that begin with a state of lifetime windows: what they read, what they fall back to, and what they give."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest

import featureflow as ff
from featureflow.cli.app import main
from featureflow.execute.windows import window_task
from featureflow.tables.state import current_state

SPEC = """
featureflow: 1
project: p
sources: {tx: {path: "data/*.parquet", time: ts}}
features:
  spend:
    source: tx
    keys: [card]
    keep: [id]
    aggregate:
      - {column: amount, ops: [count, sum, mean, max, last, $OP], windows: [1d, lifetime]}
      - {column: amount, ops: [sum], windows: [lifetime], where: "id > 3", delay: 6h, closed: both, as: late}
    derive: {share: "amount_sum_1d / amount_sum_lifetime"}
  daily:
    source: tx
    keys: [card]
    at: {every: 12h}
    aggregate: [{column: amount, ops: [sum, count_distinct], windows: [lifetime]}]
"""
START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    def __init__(self, folder: Path, op: str = "count_distinct") -> None:
        self.folder, self.timeless = folder, [None]
        (folder / "data").mkdir()
        (folder / "f.yaml").write_text(SPEC.replace("$OP", op))

    def day(self, day: int, *, name: str | None = None, n_rows: int = 12, seed: int = 0) -> None:
        rng = random.Random(1000 * seed + day)
        start = START + timedelta(days=day)
        rows = [
            {
                "id": rng.choice([*range(9), None]),
                "card": rng.choice([*range(8), None]),
                "ts": rng.choice([start + timedelta(hours=rng.randrange(24)), start, *self.timeless]),
                "amount": rng.choice([0.1, 1.5, -0.0, 1e16, -7.25, None, float("inf")]),
            }
            for _ in range(n_rows)
        ]
        types = {"id": pl.Int64, "card": pl.Int64, "ts": pl.Datetime("us", "UTC"), "amount": pl.Float64}
        pl.DataFrame(rows, schema=types).write_parquet(
            self.folder / "data" / f"{name or f'{day:03d}'}.parquet"
        )

    def project(self, store: str = "store") -> ff.Project:
        options = {"scratch": str(self.folder / f"scratch-{store}"), "scheduler": "threads", "workers": 2}
        return ff.Project(self.folder / "f.yaml", store=str(self.folder / store), **options)

    def plan(self, table: str = "spend") -> Any:
        return next(plan for plan in self.project().plan().tables if plan.table.name == table)

    def build(self, **options: Any) -> None:
        self.project().build(**options)

    def states(self, table: str = "spend") -> list[Path]:
        return sorted((self.folder / "store" / "features" / table / "_ff" / "state").glob("*"))

    def check(self) -> None:
        """The same rows and the same bytes as a build of everything at once."""
        shutil.rmtree(self.folder / "full", ignore_errors=True)
        shutil.rmtree(self.folder / "scratch-full", ignore_errors=True)
        self.project("full").build()
        for table in ("spend", "daily"):
            assert files(self.folder / "store", table) == files(self.folder / "full", table)
            grown, full = (
                ff.open(str(self.folder / name)).table(table).to_polars() for name in ("store", "full")
            )
            assert grown.equals(full)


def files(store: Path, table: str) -> dict[str, str]:
    root = store / "features" / table
    state = current_state(str(root))
    assert state is not None
    return {f.path: hashlib.sha256((root / f.path).read_bytes()).hexdigest() for f in state.files}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: 2):
        yield World(tmp_path)


def grown(world: World, n_days: int) -> World:
    for day in range(n_days):
        world.day(day)
    world.build()
    return world


def test_increments_begin_with_a_state_and_equal_a_full_build(world: World) -> None:
    grown(world, 6)
    for day in (6, 7, 9, 10):  # 8 has no file at all
        world.day(day)
        for table in ("spend", "daily"):
            assert world.plan(table).base is not None
        world.build()
        world.check()


def test_an_increment_reads_what_finite_windows_need(world: World) -> None:
    world.timeless = []  # they would be read each time, from every file
    grown(world, 60)
    world.day(60)
    assert world.plan().estimate["chunks_read"] == 2  # the new day, and the day before it for a window of 1 d
    with mock.patch(
        "featureflow.execute.windows.window_task.load_bucket", wraps=window_task.load_bucket
    ) as load:
        world.build(select=["spend"])
    firsts = {call.args[4] for call in load.call_args_list}
    assert None not in firsts
    assert {datetime.fromtimestamp(first / 1e6, UTC) for first in firsts} == {START + timedelta(days=59)}
    world.build()
    world.check()


def test_rekeys_no_old_files_on_a_fresh_machine(world: World) -> None:
    world.timeless = []
    grown(world, 30)
    world.day(30)
    shutil.rmtree(world.folder / "scratch-store")
    world.build(select=["spend"])
    assert len(list((world.folder / "scratch-store" / "exchange").rglob("*.arrow"))) == 2
    world.build()
    world.check()


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "empty"])
def test_without_a_sound_state_all_history_is_read(world: World, damage: str) -> None:
    grown(world, 5)
    world.day(5)
    assert world.plan().base is not None
    for path in [*world.states(), *world.states("daily")]:
        content = path.read_bytes()
        if damage == "missing":
            path.unlink()
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "cut":
            path.write_bytes(content[:-9])
        else:
            path.write_bytes(content[:-20] + bytes([content[-20] ^ 4]) + content[-19:])
    assert world.plan().base is None
    world.build()
    world.check()
    world.day(6)
    assert world.plan().base is not None


def test_late_and_changed_files_make_states_of_the_past_unusable(world: World) -> None:
    grown(world, 6)
    world.day(2, name="late", n_rows=3, seed=5)
    assert (
        world.plan().base is None
        or world.plan().base.before_us <= (START + timedelta(days=2)).timestamp() * 1e6
    )
    world.build()
    world.check()
    world.day(1, seed=7)
    world.build()
    world.check()
    world.day(6)
    assert world.plan().base is not None
    world.build()
    world.check()
    (world.folder / "data" / "003.parquet").unlink()
    world.build()
    world.check()


def test_the_newest_day_grows_file_by_file(world: World) -> None:
    grown(world, 5)
    for part in range(4):
        world.day(5, name=f"005-{part}", seed=part)
        assert world.plan().base is not None
        world.build()
    world.check()


def test_ranges_go_on_from_each_other(world: World) -> None:
    for day in range(9):
        world.day(day)
    for first in range(0, 9, 3):
        bounds = {"start": START + timedelta(days=first), "end": START + timedelta(days=first + 3)}
        plan = next(p for p in world.project().plan(**bounds).tables if p.table.name == "spend")
        assert (plan.base is not None) is (first > 0)
        world.build(**bounds)
    world.build()
    world.check()


def test_a_full_build_uses_no_state(world: World) -> None:
    grown(world, 4)
    assert world.project().plan(full=True).tables[0].base is None
    world.build(full=True)
    world.check()


def test_old_states_are_dropped(world: World) -> None:
    grown(world, 4)
    for day in range(4, 10):
        world.day(day)
        world.build()
    marks = {path.name.partition("-")[0] for path in world.states()}
    assert 1 < len(marks) <= 5


def test_a_median_reads_all_history_and_the_plan_says_so(tmp_path: Path) -> None:
    world = grown(World(tmp_path, op="median"), 3)
    assert world.states() == []
    assert world.states("daily") != []
    world.day(3)
    plan = world.plan()
    assert plan.base is None
    assert plan.estimate["chunks_read"] == 4
    notes = world.project().plan().summary()["notes"]
    assert any("lifetime of amount_median_lifetime reads all history" in note for note in notes)
    world.build()
    world.check()


def test_the_plan_shows_the_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = grown(World(tmp_path), 5)
    world.day(5)
    assert world.project().plan().summary()["tables"][0]["estimate"]["state_bytes"] > 0
    where = ["--store", str(tmp_path / "store"), "--scratch", str(tmp_path / "scratch-store")]
    with pytest.raises(SystemExit) as stop:
        main(["plan", str(tmp_path / "f.yaml"), *where])
    assert stop.value.code == 0
    assert "of state for lifetime" in " ".join(capsys.readouterr().out.split())


def test_a_range_after_late_rows_does_not_begin_with_the_old_state(world: World) -> None:
    """The slices before the range are not computed again, but what they would be counts."""
    grown(world, 6)
    world.day(1, name="late", seed=5)
    world.day(6)
    bounds = {"start": START + timedelta(days=6), "end": START + timedelta(days=7)}
    plan = next(p for p in world.project().plan(**bounds).tables if p.table.name == "spend")
    assert plan.base is None
    world.build(select=["spend"], **bounds)
    world.project("full").build()
    found, expected = (
        ff.open(str(world.folder / name)).table("spend").to_polars(time=(bounds["start"], bounds["end"]))
        for name in ("store", "full")
    )
    assert found.equals(expected)
    world.build()
    world.check()
