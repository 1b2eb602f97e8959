"""Killed exports: no manifest, nothing half-written is used, a second call finishes with the very same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from unit.export.small_dataset import export, table_of, write_version

from featureflow.export import scatter, survey
from featureflow.library.shards.arrow import Arrow

OPTIONS: dict[str, Any] = {"shard_size": 6_000, "normalize": {"apply": "bake"}, "layout": "matrix"}
N = 600


class Killed(BaseException):
    """What a killed process does: nothing more, not even in `finally`."""


class Inline:
    """Runs tasks one after the other in this thread, so that every run does the same file operations in order."""

    slots = threads = 1
    memory_bytes = None
    description = "inline"

    def __init__(self) -> None:
        self._waiting: list[Any] = []

    def submit(self, tasks: list[Any]) -> None:
        self._waiting += tasks

    def next_done(self) -> Iterable[Any]:
        task = self._waiting.pop(0)
        yield task.key, task.function(*task.arguments), None

    def cancel(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        self._waiting.clear()


class Disk:
    """Counts operations on files below a folder; from number ``last`` on, nothing happens any more.

    Only below it: temporary folders of other tests are removed whenever they are found unused.
    """

    NAMES = ("replace", "unlink", "rmdir", "mkdir", "link", "chmod")

    def __init__(self, patch: pytest.MonkeyPatch, root: Path, last: int | None = None) -> None:
        self.root, self.last = str(root), last
        self.done: list[str] = []
        for name in self.NAMES:
            patch.setattr(os, name, self._guarded(getattr(os, name)))
        patch.setattr(tempfile, "mkstemp", self._guarded(tempfile.mkstemp))

    def _guarded(self, real: Any) -> Any:
        def operation(*arguments: Any, **named: Any) -> Any:
            where = str(named["dir"] if "dir" in named else arguments[0])
            if named.get("dir_fd") is not None:  # as shutil.rmtree calls
                where = os.path.join(os.readlink(f"/proc/self/fd/{named['dir_fd']}"), where)
            if where.startswith(self.root):
                if len(self.done) == self.last:
                    raise Killed
                self.done.append(f"{real.__name__} {where}")
            return real(*arguments, **named)

        return operation


class Work:
    """Counts what costs time: chunks converted and shards encoded."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.encoded: list[str] = []
        self.scattered = 0
        encode, places = Arrow.encode, scatter._places

        def counted(form: Any, table: Any, place: Any, options: Any) -> Any:
            self.encoded.append(place.stem)
            return encode(form, table, place, options)

        def placed(*arguments: Any) -> Any:
            self.scattered += 1
            return places(*arguments)

        patch.setattr(Arrow, "encode", counted)
        patch.setattr(scatter, "_places", placed)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(survey, "CHUNK_BYTES", 1)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a killed process loses nothing that the system has
    names = {name: name for name in ("id", "a", "city", "label")}
    return write_version(table_of(N), tmp_path / "version", (350,), row_group=300, names=names)


def test_killed_at_every_file_operation(
    tmp_path: Path, version: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "work" / "out"
    with monkeypatch.context() as patch:
        disk, work = Disk(patch, tmp_path), Work(patch)
        export(version, out, executor=Inline(), **OPTIONS)
    total, shards, chunks = len(disk.done), len(work.encoded), work.scattered
    reference = everything(out)
    assert (shards, chunks) == (sum("part-" in path for path in reference), 3)
    assert shards >= 4
    assert total > 60
    committed = []
    for last in range(total):
        shutil.rmtree(tmp_path / "work")
        with monkeypatch.context() as patch:
            killed = Disk(patch, tmp_path, last)
            first = Work(patch)
            with pytest.raises(Killed):
                export(version, out, executor=Inline(), **OPTIONS)
        assert len(killed.done) == last
        there = (out / "manifest.json").exists()
        committed.append(there)
        if there:
            assert {p: d for p, d in everything(out).items() if p != ".exporting"} == reference
        with monkeypatch.context() as patch:
            second = Work(patch)
            export(version, out, executor=Inline(), **OPTIONS)
        assert everything(out) == reference, f"killed after {last} operations"
        assert [p for p in (tmp_path / "work").rglob("*") if p.is_file() and out not in p.parents] == []
        # at most the task that was killed is done twice
        assert len(first.encoded) + len(second.encoded) <= shards + 1
        assert first.scattered + second.scattered <= chunks + 1
    assert not committed[0] and committed[-1]
    assert committed == sorted(committed), "a manifest that is there stays"


def test_a_torn_shard_or_spill_is_made_again(
    tmp_path: Path, version: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut can leave renamed files without their bytes."""
    out = tmp_path / "out"
    export(version, out, executor=Inline(), **OPTIONS)
    reference = everything(out)
    shutil.rmtree(out)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "write" and done == 4:
            raise Killed

    with pytest.raises(Killed):
        export(version, out, executor=Inline(), on_progress=stop, **OPTIONS)
    torn = sorted(out.rglob("part-*"))[1]
    torn.write_bytes(b"\0" * torn.stat().st_size)
    spill = next((tmp_path / "scratch").rglob("spill-*.arrow"))
    spill.write_bytes(b"")
    marker = next((tmp_path / "scratch").rglob("shard-*.json"))
    marker.write_bytes(b"")
    export(version, out, executor=Inline(), **OPTIONS)
    assert everything(out) == reference


def test_killed_while_replacing_leaves_no_manifest_of_the_old_shards(
    tmp_path: Path, version: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, before = tmp_path / "out", tmp_path / "before"
    export(version, before, executor=Inline(), shuffle=False)
    old = (before / "manifest.json").read_bytes()
    shutil.copytree(before, out)
    with monkeypatch.context() as patch:
        disk = Disk(patch, tmp_path)
        export(version, out, executor=Inline(), replace=True, **OPTIONS)
    reference = everything(out)
    states = []
    for last in (*range(12), *range(12, len(disk.done), 7)):
        shutil.rmtree(out)
        shutil.copytree(before, out)
        with monkeypatch.context() as patch:
            Disk(patch, tmp_path, last)
            with pytest.raises(Killed):
                export(version, out, executor=Inline(), replace=True, **OPTIONS)
        manifest = out / "manifest.json"
        states.append("none" if not manifest.exists() else "old" if manifest.read_bytes() == old else "new")
        if states[-1] == "old":
            assert {
                p: d for p, d in everything(out).items() if ".exporting" not in p and ".tmp" not in p
            } == (everything(before))
        # once the old manifest is gone, the folder is known as an export's: nobody has to say `replace` again
        export(version, out, executor=Inline(), replace=states[-1] == "old", **OPTIONS)
        assert everything(out) == reference
    assert states == sorted(states, key=["old", "none", "new"].index)
    assert set(states) == {"old", "none", "new"}


def test_sigkill(tmp_path: Path) -> None:
    """The real thing: a process that is gone in the middle of writing."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from unit.export.small_dataset import export, table_of, write_version
def stop(stage, done, total):
    if stage == "write" and done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
folder = Path({str(tmp_path)!r})
rows = write_version(table_of({N}), folder / "version", (350,), row_group=150)
export(rows, folder / "killed", on_progress=stop, shard_size=12_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    killed = tmp_path / "killed"
    assert not (killed / "manifest.json").exists()
    assert len(list(killed.rglob("part-*"))) >= 3
    rows = write_version(table_of(N), tmp_path / "version", (350,), row_group=150)
    export(rows, killed, shard_size=12_000)
    export(rows, tmp_path / "whole", shard_size=12_000)
    assert everything(killed) == everything(tmp_path / "whole")
