"""Whatever happens to files, specs and builds: a table equals a full rebuild, and versions stay what they were."""

from __future__ import annotations

import random
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from properties.small_world import CHOICES, FIRST_DAY, TABLES, World, content, events, live_files, rates

import featureflow as ff
from featureflow.tables.collect import gc
from featureflow.tables.restore import restore
from featureflow.tables.tags import set_tag

#: Where a build can be cut off: in a task, while re-keying, and around every step of a commit.
BREAKS = (
    "featureflow.execute.windows.window_task.write_file",
    "featureflow.execute.exchange.exchange_file.write_buckets",
    "featureflow.execute.session.publish_table",
    "featureflow.tables.commit.records.write_record",
    "featureflow.tables.commit._commit",
    "featureflow.tables.commit.versions.project",
    "featureflow.tables.commit._checkpoint",
)
SEEDS = st.integers(0, 2**16)


class Killed(BaseException):
    """Nothing in the engine may catch it."""


class IncrementalBuilds(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="small-world-"))
        self.world = World(self.folder)
        self.days = self.turn = 0
        self.versions = dict.fromkeys(TABLES, 0)
        self.seen: dict[tuple[str, int], pl.DataFrame] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        rng = random.Random(seed)
        for day in range(3):
            self.world.write("tx", f"day{day}", events(rng, day, 12))
        self.world.write("rate", "first", rates(rng, 0, 5))
        self.days = 3
        self.full_build()

    # ------------------------------------------------------------ what happens to the files

    @rule(seed=SEEDS, skip=st.integers(0, 2))
    def append_day(self, seed: int, skip: int) -> None:
        day = self.days + skip
        self.world.write("tx", f"day{day}", events(random.Random(seed), day, 10))
        self.days = day + 1
        self.build()

    @rule(seed=SEEDS, back=st.integers(1, 5))
    def late_file(self, seed: int, back: int) -> None:
        self.world.write("tx", f"late{seed}", events(random.Random(seed), self.days - back, 4))
        self.build()

    @rule(seed=SEEDS, where=st.integers(0, 20), n_rows=st.sampled_from([0, 1, 6]))
    def change_file(self, seed: int, where: int, n_rows: int) -> None:
        path = self.world.files("tx")[where % len(self.world.files("tx"))]
        self.world.write("tx", path.stem, events(random.Random(seed), where % self.days, n_rows))
        self.build()

    @precondition(lambda self: len(self.world.files("tx")) > 2)
    @rule(where=st.integers(0, 20))
    def remove_file(self, where: int) -> None:
        self.world.files("tx")[where % len(self.world.files("tx"))].unlink()
        self.build()

    @rule(seed=SEEDS, back=st.integers(0, 4))
    def more_rates(self, seed: int, back: int) -> None:
        self.world.write("rate", f"more{seed}", rates(random.Random(seed), max(0, self.days - back), 3))
        self.build()

    # ------------------------------------------------------------ what people do

    @rule(name=st.sampled_from(sorted(CHOICES)), data=st.data())
    def change_definition(self, name: str, data: Any) -> None:
        self.world.choices[name] = data.draw(st.sampled_from(CHOICES[name]))
        self.build()

    @rule(where=st.sampled_from(BREAKS), after=st.integers(0, 6), seed=SEEDS)
    def kill_a_build(self, where: str, after: int, seed: int) -> None:
        self.world.write("tx", f"day{self.days}", events(random.Random(seed), self.days, 8))
        self.days += 1
        from pkgutil import resolve_name

        real, calls = resolve_name(where), [0]

        def broken(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] > after:
                raise Killed
            return real(*arguments, **options)

        with mock.patch(where, broken):
            try:
                self.world.build()
            except (Killed, ff.ComputeError) as error:
                assert isinstance(error, Killed) or "Killed" in str(error)
        self.nothing_is_half_there()
        self.build()

    @rule(first=st.integers(0, 4), length=st.integers(1, 3))
    def build_a_range(self, first: int, length: int) -> None:
        start = FIRST_DAY + timedelta(days=first)
        end = start + timedelta(days=length)
        self.world.write("tx", f"day{self.days}", events(random.Random(first), self.days, 5))
        self.days += 1
        before = content(self.world.store, "spend")
        self.world.build(select=["spend"], start=start, end=end)
        self.nothing_is_half_there()
        after = content(self.world.store, "spend")
        inside = pl.col("ts").is_between(start, end, closed="left").fill_null(value=False)
        with self.world.rebuilt(threads=1, task_bytes=1, buckets=dict.fromkeys(TABLES, 1)) as reference:
            assert after.filter(inside).equals(content(reference, "spend").filter(inside))
        if self.changed_definition is False:
            assert after.filter(~inside).equals(before.filter(~inside))
        self.build()

    changed_definition = False

    @rule(name=st.sampled_from(TABLES))
    def build_one(self, name: str) -> None:
        self.world.build(select=[f"+{name}"])
        self.nothing_is_half_there()
        self.build()

    @rule()
    def full_build(self) -> None:
        self.build(full=True)

    @rule(name=st.sampled_from(TABLES), keep=st.sampled_from([None, 1, 2]))
    def collect(self, name: str, keep: int | None) -> None:
        url = ff.open(str(self.world.store)).table(name).url
        expired = gc(url, name, keep=keep, margin=timedelta(0)).expired
        for number in expired:
            self.seen.pop((name, number), None)
        litter = list(Path(url).rglob("*tmp*"))
        assert litter == []

    @rule(name=st.sampled_from(TABLES), data=st.data())
    def restore_one(self, name: str, data: Any) -> None:
        known = sorted(number for table, number in self.seen if table == name)
        number = data.draw(st.sampled_from(known))
        url = ff.open(str(self.world.store)).table(name).url
        set_tag(url, "prod", number, by="test")
        before = self.world.version(name)
        restored = restore(
            url, name, str(number), build=f"restore-{before}", by={"author": {"user": "test", "commit": None}}
        )
        assert restored.version in (before, before + 1)
        assert content(self.world.store, name).equals(self.seen[(name, number)])
        set_tag(url, "prod", None, by="test")
        self.build()

    # ------------------------------------------------------------ what must hold

    def nothing_is_half_there(self) -> None:
        for name in TABLES:
            now = self.world.version(name)
            assert now in (self.versions[name], self.versions[name] + 1)
            live_files(self.world.store, name)

    def build(self, **arguments: Any) -> None:
        before = {name: self.world.version(name) for name in TABLES}
        report = self.world.build(**arguments)
        for outcome in report.tables:
            now = self.world.version(outcome.name)
            assert now == before[outcome.name] + (outcome.version is not None)
            assert outcome.version in (None, now)
        again = self.world.build()
        assert again.status == "nothing to do"
        self.versions = {name: self.world.version(name) for name in TABLES}
        assert {o.name: o.version for o in again.tables} == dict.fromkeys(TABLES)
        self.compare()
        for name, number in self.versions.items():
            self.seen[(name, number)] = content(self.world.store, name)

    def compare(self) -> None:
        """Turn by turn: the same bytes with other runs and threads; the same rows with other buckets and chunks."""
        self.turn += 1
        if self.turn % 2:
            self.compare_bytes()
        else:
            self.compare_rows()

    def compare_bytes(self) -> None:
        same = {name: self.world.buckets(name) for name in TABLES}
        with self.world.rebuilt(threads=1, task_bytes=1, buckets=same) as reference:
            for name in TABLES:
                assert live_files(self.world.store, name) == live_files(reference, name)

    def compare_rows(self) -> None:
        other = {"spend": 2, "daily": 3, "rich": 2}
        with self.world.rebuilt(threads=3, task_bytes=4000, buckets=other, chunk_bytes=1) as reference:
            for name in TABLES:
                assert content(self.world.store, name).equals(content(reference, name))

    @invariant()
    def old_versions_do_not_change(self) -> None:
        if not self.seen:
            return
        kept = sorted(self.seen)
        for name, number in kept[:: max(1, len(kept) // 3)]:
            assert content(self.world.store, f"{name}@{number}").equals(self.seen[(name, number)])


def test_incremental_equals_full() -> None:
    run_state_machine_as_test(
        IncrementalBuilds, settings=settings(max_examples=4, stateful_step_count=6, phases=[Phase.generate])
    )


@pytest.mark.slow
def test_incremental_equals_full_at_length() -> None:
    seldom = settings(
        max_examples=60, stateful_step_count=15, derandomize=False, database=None, phases=[Phase.generate]
    )
    run_state_machine_as_test(IncrementalBuilds, settings=seldom)
