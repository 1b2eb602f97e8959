"""Killed publishers, lost replies and racing publishers: every version is whole, nothing is lost or doubled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from faults.stores import tag_moves

from featureflow.core import storage
from featureflow.core.errors import CommitConflict, CommitUnknown, Unreachable
from featureflow.tables import delta_log, versions
from featureflow.tables.collect import gc
from featureflow.tables.commit import Published, publish
from featureflow.tables.layout import file_path
from featureflow.tables.parquet_files import StagedFile, find_staged, write_file
from featureflow.tables.state import current_state
from featureflow.tables.store import open_table
from featureflow.tables.verify import verify

DAYS = [f"2026-01-0{i}" for i in range(1, 5)]
SCHEMA = pa.schema([("k", pa.int64()), ("t", pa.timestamp("us", "UTC")), ("build", pa.string())])


def stage(url: str, day: str, build: str, fingerprint: str) -> StagedFile:
    """One row that says which build wrote it."""
    rows = pa.table({"k": [1], "t": pa.array([0], SCHEMA.field("t").type), "build": [build]}, schema=SCHEMA)
    return write_file(rows, url, file_path("day", day, 0, fingerprint), keys=["k"], time="t")


def build(url: str, name: str, days: list[str], **options: Any) -> Published:
    """Replace some days with rows of this build."""
    state = current_state(url)
    fingerprint = name.encode().hex()
    return publish(
        url,
        schema=SCHEMA,
        partition="day",
        keys=["k"],
        time="t",
        adds=[stage(url, day, name, fingerprint) for day in days],
        removes=[state.units[day, 0].path for day in days if (day, 0) in state.units] if state else [],
        record={"build": name, "definition_hash": "h", "definition": {}},
        expected_version=state.version if state else None,
        **options,
    )


def content(url: str) -> dict[str, list[str]]:
    """What any Delta reader sees: builds by day."""
    frame = pl.read_delta(url).group_by("day").agg("build").sort("day")
    return {str(day): builds for day, builds in frame.rows()}


def written(name: str, days: list[str]) -> dict[str, list[str]]:
    """Content of days that one build wrote."""
    return {day: [name] for day in days}


def run_killed(url: str, name: str, phase: str) -> None:
    """Publish in another process that gets SIGKILL when the phase is reached."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import importlib.util
spec = importlib.util.spec_from_file_location("faults", {__file__!r})
faults = importlib.util.module_from_spec(spec); spec.loader.exec_module(faults)
def on_phase(reached):
    if reached == {phase!r}:
        os.kill(os.getpid(), signal.SIGKILL)
faults.build({url!r}, {name!r}, faults.DAYS[:2], on_phase=on_phase)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("phase", ["checked", "recorded", "committed", "projected"])
@pytest.mark.parametrize("first", [True, False])
def test_killed_at(tmp_path: Path, phase: str, first: bool) -> None:
    url = str(tmp_path / "t")
    if not first:
        build(url, "old", DAYS)
    run_killed(url, "new", phase)
    published = phase in ("committed", "projected")
    before = written("old", [] if first else DAYS)
    expected = {**before, **written("new", DAYS[:2] if published else [])}
    if expected:
        assert content(url) == expected
        info = current_state(url).info  # type: ignore[union-attr]
        assert info.version == (1 if first else 2) - (0 if published else 1)
        assert verify(url, "t", deep=True).problems == ()
    else:
        assert current_state(url) is None
    # The finished files of the killed build are found again, and publishing it again is right in every case.
    assert all(find_staged(url, file_path("day", day, 0, b"new".hex())) for day in DAYS[:2])
    again = build(url, "new", DAYS[:2])
    assert again.version == (1 if first else 2)
    assert content(url) == {**before, **written("new", DAYS[:2])}
    assert versions.list_versions(url) == list(range(1, again.version + 1))
    assert DeltaTable(url).version() == again.version - 1


def test_killed_while_writing_leaves_no_file(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys, importlib.util
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
spec = importlib.util.spec_from_file_location("faults", {__file__!r})
faults = importlib.util.module_from_spec(spec); spec.loader.exec_module(faults)
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
faults.stage({str(tmp_path)!r}, "2026-01-01", "b", "ab")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    names = [p.name for p in tmp_path.rglob("*") if p.is_file()]
    assert len(names) == 1 and names[0].startswith(".tmp-")
    assert find_staged(str(tmp_path), "day=2026-01-01/b000-ab.parquet") is None


class Store:
    """Wraps the store's create-only write for Delta's log: does it, or not, then fails."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, performs: bool, answer: Any, deaf: bool = False
    ) -> None:
        self.real_write, self.real_read = storage.write_new, storage.read_bytes
        self.performs, self.answer, self.deaf, self.broken = performs, answer, deaf, False
        monkeypatch.setattr(storage, "write_new", self.write_new)
        monkeypatch.setattr(storage, "read_bytes", self.read_bytes)

    def write_new(self, url: str, data: bytes) -> bool:
        if "_delta_log" not in url:
            return self.real_write(url, data)
        if self.performs:
            self.real_write(url, data)
        self.broken = self.deaf
        if isinstance(self.answer, BaseException):
            raise self.answer
        return bool(self.answer)

    def read_bytes(self, url: str) -> bytes:
        if self.broken:
            raise Unreachable("the store went away")
        return self.real_read(url)


@pytest.mark.parametrize(
    "answer", [False, OSError(5, "lost"), Unreachable("reset"), TimeoutError("slow")], ids=repr
)
def test_a_lost_reply_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    url = str(tmp_path / "t")
    build(url, "old", DAYS)
    Store(monkeypatch, performs=True, answer=answer)
    assert build(url, "new", DAYS[:1]).version == 2
    assert content(url) == {**written("old", DAYS), DAYS[0]: ["new"]}


@pytest.mark.parametrize("answer", [OSError(28, "No space left on device"), Unreachable("reset")], ids=repr)
def test_a_failed_commit_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    url = str(tmp_path / "t")
    build(url, "old", DAYS)
    with monkeypatch.context() as patch:
        Store(patch, performs=False, answer=answer)
        with pytest.raises(Unreachable, match="nothing was published"):
            build(url, "new", DAYS[:1])
    assert content(url) == written("old", DAYS)
    assert build(url, "new", DAYS[:1]).version == 2


@pytest.mark.parametrize("performs", [True, False])
def test_unknown_until_the_store_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, performs: bool
) -> None:
    url = str(tmp_path / "t")
    build(url, "old", DAYS)
    with monkeypatch.context() as patch:
        Store(patch, performs=performs, answer=OSError(5, "gone"), deaf=True)
        with pytest.raises(CommitUnknown, match="Building again is safe") as caught:
            build(url, "new", DAYS[:1])
    assert caught.value.exit_code == 4
    assert build(url, "new", DAYS[:1]).version == 2
    assert content(url) == {**written("old", DAYS), DAYS[0]: ["new"]}


def test_a_lost_race_at_the_last_moment(tmp_path: Path) -> None:
    url = str(tmp_path / "t")
    build(url, "old", DAYS)

    def race(phase: str) -> None:
        if phase == "recorded":
            build(url, "winner", DAYS[:1])

    with pytest.raises(CommitConflict, match="Plan again"):
        build(url, "loser", DAYS[:2], on_phase=race)
    assert content(url) == {**written("old", DAYS), DAYS[0]: ["winner"]}
    assert build(url, "loser", DAYS[:2]).version == 3
    assert content(url) == {**written("old", DAYS), **written("loser", DAYS[:2])}


def publisher(url: str, name: str, rounds: int) -> list[int]:
    """Publish some builds, planning again after each lost race; gives the versions."""
    made = []
    for i in range(rounds):
        days = [DAYS[i % 4], DAYS[(i + 1) % 4]]
        while True:
            try:
                made.append(build(url, f"{name}{i}", days).version)
                break
            except CommitConflict:
                continue
    return made


def test_four_publishers_at_once(tmp_path: Path) -> None:
    url, rounds = str(tmp_path / "t"), 4
    code = f"""
import importlib.util, json, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
spec = importlib.util.spec_from_file_location("faults", {__file__!r})
faults = importlib.util.module_from_spec(spec); spec.loader.exec_module(faults)
print(json.dumps(faults.publisher({url!r}, sys.argv[1], {rounds})))
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in "abcd"
    ]
    made: list[int] = []
    for process in running:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        made += json.loads(out)
    assert sorted(made) == list(range(1, 4 * rounds + 1))
    assert delta_log.numbers(url) == list(range(4 * rounds))
    # Replay: at every version, the two days of its build hold that build's rows and the others what they held before.
    expected: dict[str, list[str]] = {}
    for number in range(1, 4 * rounds + 1):
        table = open_table(url, "t", str(number))
        name = table.state.info.build
        i = int(name[1:])
        expected |= {DAYS[i % 4]: [name], DAYS[(i + 1) % 4]: [name]}
        frame = table.to_polars(["day", "build"])
        assert dict(sorted((str(d), [b]) for d, b in frame.rows())) == dict(sorted(expected.items()))
        assert frame.height == len(expected)
    assert content(url) == dict(sorted(expected.items()))
    assert gc(url, "t", keep=1).kept == (4 * rounds,)
    assert content(url) == dict(sorted(expected.items()))


def test_many_processes_move_a_tag(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from featureflow.tables import tags

    url = str(tmp_path / "t")
    build(url, "old", DAYS)
    with ThreadPoolExecutor(8) as pool:
        moved = list(pool.map(lambda i: tags.set_tag(url, "prod", 1, by=str(i)).number, range(40)))
    assert sorted(moved) == list(range(1, 41))
    moves = tag_moves(url, "prod")
    assert [number for number, _ in moves] == list(range(1, 41))
    assert sorted({said["by"] for _, said in moves}, key=int) == [str(i) for i in range(40)]
