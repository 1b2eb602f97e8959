"""Listing of input files, and create-only objects, on local disk and through fsspec."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from featureflow.core import raw_files, storage
from featureflow.core.errors import SourceError, Unreachable


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "local" else f"memory://{uuid4().hex}"


def fill(root: str, *names: str) -> None:
    for name in names:
        storage.write_atomic(storage.join(root, name), name.encode())


def names(root: str, patterns: str | list[str]) -> list[str]:
    given = [patterns] if isinstance(patterns, str) else patterns
    found = raw_files.list_files([storage.join(root, each) if each else root for each in given])
    return [file.path.partition(root.removeprefix("memory://"))[2].lstrip("/") for file in found]


def test_folder_glob_and_list(root: str) -> None:
    fill(
        root, "b/2.csv", "b/1.csv", "a/x.csv", "c.csv", "_hidden/1.csv", "b/_SUCCESS", "b/.crc", "d/e/f/9.csv"
    )
    assert names(root, "") == ["a/x.csv", "b/1.csv", "b/2.csv", "c.csv", "d/e/f/9.csv"]
    assert names(root, "b") == ["b/1.csv", "b/2.csv"]
    assert names(root, "*/*.csv") == ["a/x.csv", "b/1.csv", "b/2.csv"]
    assert names(root, "**/*.csv") == ["a/x.csv", "b/1.csv", "b/2.csv", "c.csv", "d/e/f/9.csv"]
    assert names(root, "b/[1]*.csv") == ["b/1.csv"]
    assert names(root, ["c.csv", "b", "b/1.csv"]) == ["b/1.csv", "b/2.csv", "c.csv"]


def test_hive_folders(root: str) -> None:
    fill(
        root,
        "t/day=2026-01-01/ch=a%2Fb/1.parquet",
        "t/day=2026-01-02/ch=__HIVE_DEFAULT_PARTITION__/1.parquet",
    )
    wanted = [{"day": "2026-01-01", "ch": "a/b"}, {"day": "2026-01-02", "ch": None}]
    assert [file.hive for file in raw_files.list_files(storage.join(root, "t"))] == wanted
    assert [file.hive for file in raw_files.list_files(storage.join(root, "t/*/*/*.parquet"))] == wanted
    inside = raw_files.list_files(storage.join(root, "t/day=2026-01-02"))
    assert [file.hive for file in inside] == [{"ch": None}]


def test_sizes_and_versions(root: str) -> None:
    fill(root, "a.csv")
    before = raw_files.list_files(storage.join(root, "a.csv"))[0]
    assert before.size == 5
    time.sleep(0.01)
    storage.write_atomic(storage.join(root, "a.csv"), b"other")
    after = raw_files.list_files(storage.join(root, "a.csv"))[0]
    assert after.size == 5
    assert after.version != before.version


def test_nothing_matches(root: str) -> None:
    fill(root, "a.csv")
    for pattern in ("nope", "*.parquet", "a.csv.gz"):
        with pytest.raises(SourceError, match="no file is there"):
            raw_files.list_files([storage.join(root, "a.csv"), storage.join(root, pattern)])


def test_unknown_scheme_and_dead_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="nothing installed serves 'nope"):
        raw_files.list_files("nope://bucket/x")
    import fsspec.implementations.memory as memory

    def dead(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(memory.MemoryFileSystem, "find", dead)
    with pytest.raises(Unreachable, match="no route to host"):
        raw_files.list_files("memory://anything")


def test_link_cycle_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.csv").write_text("x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    found = [os.path.relpath(file.path, tmp_path) for file in raw_files.list_files(str(tmp_path))]
    assert found == ["a/x.csv", "b/x.csv"]


def test_ten_thousand_files(tmp_path: Path) -> None:
    for folder in range(10):
        (tmp_path / f"k={folder}").mkdir()
        for i in range(1000):
            (tmp_path / f"k={folder}" / f"{i}.parquet").touch()
    start = time.process_time()
    found = raw_files.list_files(str(tmp_path))
    assert len(found) == 10_000
    assert time.process_time() - start < 2, "0.08 s on an idle machine"


def test_write_new_keeps_the_first(root: str) -> None:
    url = storage.join(root, "v/1.json")
    assert storage.write_new(url, b"one")
    assert not storage.write_new(url, b"two")
    assert storage.read_bytes(url) == b"one"
    assert storage.list_names(storage.join(root, "v")) == ["1.json"]
    assert storage.exists(url)
    assert storage.delete(url)
    assert not storage.delete(url)
    assert not storage.exists(url)
    assert storage.list_names(storage.join(root, "no")) == []
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(url)


def test_write_new_has_one_winner(tmp_path: Path) -> None:
    url = str(tmp_path / "lock")
    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(lambda i: storage.write_new(url, str(i).encode()), range(40)))
    assert won.count(True) == 1
    assert storage.read_bytes(url) == str(won.index(True)).encode()


def test_write_atomic_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "f")
    storage.write_atomic(url, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        storage.write_atomic(url, b"new")
    assert storage.read_bytes(url) == b"old"
    assert os.listdir(tmp_path) == ["f"]
