"""Remote shards: fetched once, checked, fetched ahead, evicted by use; never half a file under its name."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import xxhash
from oracle.exports import assert_rows, numbered, write_export

from featureflow.contracts.shard_manifest import ShardFile
from featureflow.core.errors import CorruptionError, TableError
from featureflow.loaders import cache as caching
from featureflow.loaders.cache import ShardCache, default_budget, default_folder
from featureflow.loaders.shards import load_shards


@pytest.fixture
def remote(tmp_path):
    """An export on a store that counts what is read."""
    fs = fsspec.filesystem("memory")
    local = write_export(tmp_path / "d" / "1", {"train": [numbered(i * 50, 50) for i in range(6)]})
    fs.put(str(local), "/bucket/d/1", recursive=True)
    yield fs
    fs.rm("/bucket", recursive=True)


@pytest.fixture
def downloads(monkeypatch):
    """URLs in the order in which they were downloaded."""
    seen: list[str] = []
    pieces = caching._pieces
    monkeypatch.setattr(caching, "_pieces", lambda url, size: seen.append(url) or pieces(url, size))
    return seen


def files_in(folder):
    return sorted(
        path for path in Path(folder).rglob("*") if path.is_file() and not path.name.endswith(".lock")
    )


def test_remote_shards_are_loaded_through_the_cache(remote, downloads, tmp_path):
    folder = tmp_path / "cache"
    for _ in range(2):
        shards = load_shards("memory://bucket/d", cache=str(folder))
        for _ in range(2):
            found = []
            for batch in shards.numpy(10, tail="partial"):
                assert_rows(batch)
                found += batch["key"].tolist()
            assert sorted(found) == list(range(300))
    assert len(downloads) == 6
    assert len(files_in(folder)) == 6
    with pytest.raises(TableError, match="nothing is there"):
        load_shards("memory://bucket/nothing")


def test_a_damaged_copy_is_fetched_again(remote, downloads, tmp_path):
    folder = tmp_path / "cache"
    load_shards("memory://bucket/d/1", cache=str(folder)).to_arrow()
    for path in files_in(folder)[:2]:
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
    files_in(folder)[2].write_bytes(b"short")
    assert load_shards("memory://bucket/d/1", cache=str(folder)).to_arrow().num_rows == 300
    assert len(downloads) == 9


@pytest.mark.parametrize("verify", [True, False])
def test_a_damaged_original_is_named(remote, tmp_path, verify):
    name = "/bucket/d/1/train/part-00003-of-00006.arrow"
    data = bytearray(remote.cat(name))
    data[len(data) // 2] ^= 1
    remote.pipe(name, bytes(data))
    shards = load_shards("memory://bucket/d/1", cache=str(tmp_path / "cache"), verify=verify)
    with pytest.raises(
        CorruptionError, match=r"shard memory://.*part-00003-of-00006\.arrow: .* were written"
    ):
        list(shards.numpy(10))
    remote.rm(name)
    with pytest.raises(CorruptionError, match=r"part-00003-of-00006\.arrow is missing"):
        list(shards.numpy(10))

    def unfinished():
        return [path for path in files_in(tmp_path / "cache") if path.name.startswith(".tmp")]

    deadline = time.monotonic() + 20  # shards that were asked for ahead may still be on their way
    while unfinished() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not unfinished()


def stored(fs, name, data):
    fs.pipe(f"/bucket/{name}", data)
    return f"memory://bucket/{name}", ShardFile(f"{name}.bin", len(data), xxhash.xxh3_64_hexdigest(data))


def test_what_was_not_used_for_longest_goes_first(remote, tmp_path):
    files = [stored(remote, f"f{n}", bytes([n]) * 1000) for n in range(5)]
    for n, (url, file) in enumerate(files[:4]):
        cache = ShardCache(str(tmp_path / "cache"), budget=4000)  # each its own process: nothing is in use
        os.utime(cache.fetch(url, file), (n, n))
    ShardCache(str(tmp_path / "cache"), budget=4000).fetch(*files[0])  # used again
    ShardCache(str(tmp_path / "cache"), budget=4000).fetch(*files[4])
    assert {path.stem.partition("-")[0] for path in files_in(tmp_path / "cache")} == {
        files[n][1].xxh3_64 for n in (0, 2, 3, 4)
    }


def test_files_in_use_stay_beyond_the_budget(remote, tmp_path):
    files = [stored(remote, f"f{n}", bytes([n]) * 1000) for n in range(3)]
    cache = ShardCache(str(tmp_path / "cache"), budget=1)
    for url, file in files:
        assert Path(cache.fetch(url, file)).stat().st_size == 1000
    assert len(files_in(tmp_path / "cache")) == 3
    cache.fetch_ahead(files[2:])  # the others are given up
    cache.fetch(*stored(remote, "f9", b"9"))
    assert len(files_in(tmp_path / "cache")) == 2


def test_two_readers_download_once(remote, downloads, tmp_path):
    url, file = stored(remote, "big", os.urandom(3_000_000))
    caches = [ShardCache(str(tmp_path / "cache"), budget=1 << 30) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda cache: cache.fetch(url, file), caches))
    assert len(paths) == 1
    assert downloads == [url]


def test_shards_are_fetched_ahead_of_their_turn(remote, monkeypatch, tmp_path):
    threads: dict[str, str] = {}
    pieces = caching._pieces

    def slow(url, size):
        threads[url] = threading.current_thread().name
        time.sleep(0.02)
        return pieces(url, size)

    monkeypatch.setattr(caching, "_pieces", slow)
    shards = load_shards("memory://bucket/d/1", cache=str(tmp_path / "cache"))
    rows = sum(len(batch["key"]) for batch in shards.numpy(10, shuffle=False))
    assert rows == 300
    assert len(threads) == 6
    assert sum(name.startswith("featureflow-fetch") for name in threads.values()) >= 4


def test_the_default_folder_and_budget(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == str(tmp_path / "featureflow" / "shards")
    assert 0 < default_budget(default_folder()) <= 64 << 30
    monkeypatch.setenv("FEATUREFLOW_SHARD_CACHE_BYTES", "123")
    assert default_budget(default_folder()) == 123
