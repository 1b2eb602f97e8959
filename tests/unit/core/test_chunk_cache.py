"""The chunk cache gives the bytes that were put, or none: whatever is evicted, damaged, full or done by others."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from featureflow.core import cache_packs, chunk_cache
from featureflow.core.chunk_cache import ChunkCache, labelled
from featureflow.core.meter import metering

URL, VERSION = "s3://raw/events/1.parquet", "etag:abc"
A, B = "a" * 32, "b" * 32


def content(url: str, version: str, start: int, stop: int) -> bytes:
    """What the remote object has there."""
    whole = random.Random(f"{url} {version}").randbytes(4096)
    return (whole * (stop // len(whole) + 1))[start:stop]


def disk_bytes(folder: str | Path) -> int:
    """Bytes of all entries on the disk."""
    return sum(p.stat().st_size for p in entries(folder))


def entries(folder: str | Path) -> list[Path]:
    return [
        p for p in Path(folder).rglob("*") if p.is_file() and (p.suffix == ".pack" or "objects" in p.parts)
    ]


def empty(folder: str | Path) -> None:
    """What a person does who needs the disk: all entries go, and the file with the sum of their bytes."""
    for path in entries(folder):
        path.unlink()
    (Path(folder) / "held").unlink(missing_ok=True)


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of 1,000 bytes and more have files of their own; a pack is closed at 4,000."""
    monkeypatch.setattr(chunk_cache, "PACKED_BELOW", 1000)
    monkeypatch.setattr(cache_packs, "PACK_BYTES", 4000)


class AnyUse(RuleBasedStateMachine):
    """Two processes of a host use the folder (two objects do); the disk may change bytes under them."""

    ranges = Bundle("ranges")
    BUDGET = 40_000

    @initialize(tmp=st.integers())
    def begin(self, tmp: int) -> None:
        import tempfile

        self.folder = tempfile.mkdtemp(prefix="chunks-")
        self.saved = chunk_cache.PACKED_BELOW, cache_packs.PACK_BYTES
        chunk_cache.PACKED_BELOW, cache_packs.PACK_BYTES = 1000, 4000
        self.caches = [ChunkCache(self.folder, self.BUDGET) for _ in range(2)]
        self.dirty = False
        self.puts: set[tuple[str, str, int, int]] = set()
        self.put_last: tuple[str, str, int, int] | None = None

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)
            chunk_cache.PACKED_BELOW, cache_packs.PACK_BYTES = self.saved

    @rule(
        target=ranges,
        url=st.sampled_from(["s3://a/1", "s3://a/2"]),
        version=st.sampled_from(["v1", "v2"]),
        start=st.sampled_from([0, 100, 2000]),
        size=st.sampled_from([5000, 1500, 6000, 1000, 999, 400, 7]),
        who=st.integers(0, 1),
        label=st.sampled_from(["", A, B]),
    )
    def put(self, url: str, version: str, start: int, size: int, who: int, label: str) -> tuple:
        what = (url, version, start, start + size)
        with labelled(label):
            self.caches[who].put(*what, content(*what))
        self.put_last = what
        self.puts.add(what)
        return what

    @rule(what=ranges, who=st.integers(0, 1))
    def get(self, what: tuple, who: int) -> None:
        found = self.caches[who].get(*what)
        assert found is None or found == content(*what)
        if found is None and not self.dirty and what == self.put_last:
            raise AssertionError("what was put last is gone, and nobody has touched the disk")

    @rule(what=ranges, cut=st.integers(1, 500), who=st.integers(0, 1))
    def get_a_part(self, what: tuple, cut: int, who: int) -> None:
        url, version, start, stop = what
        if stop - start > 2 * cut:
            part = (url, version, start + cut, stop - cut)
            found = self.caches[who].get(*part)
            assert found is None or found == content(*part)

    @rule(what=consumes(ranges))
    def other_versions_are_other_bytes(self, what: tuple) -> None:
        assert self.caches[0].get(what[0], "v3", *what[2:]) is None

    @rule(seed=st.integers(0, 2**32), kind=st.sampled_from(["bit", "bit", "cut", "remove", "zero", "swap"]))
    def damage(self, seed: int, kind: str) -> None:
        there = sorted(entries(self.folder))
        if not there:
            return
        self.dirty = True
        rng = random.Random(seed)
        for path in rng.sample(there, -(-len(there) // 2)):
            data = bytearray(path.read_bytes())
            if kind == "remove":
                path.unlink()
            elif kind == "swap":
                path.write_bytes(rng.choice([p for p in there if p.exists()]).read_bytes())
            elif kind == "bit" and data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                path.write_bytes(data)
            elif kind == "cut" and data:
                path.write_bytes(data[: rng.randrange(len(data))])
            else:
                path.write_bytes(bytes(len(data)))
        for what in self.puts:
            for cache in (*self.caches, ChunkCache(self.folder, self.BUDGET)):
                found = cache.get(*what)
                assert found is None or found == content(*what)

    @rule(who=st.integers(0, 1))
    def restart(self, who: int) -> None:
        self.caches[who] = ChunkCache(self.folder, self.BUDGET)

    @rule()
    def evict(self) -> None:
        self.caches[0].evict(10_000)
        if not self.dirty:
            assert disk_bytes(self.folder) <= 10_000
        self.put_last = None

    @rule()
    def empty(self) -> None:
        empty(self.folder)
        assert not entries(self.folder)
        self.put_last = None

    @invariant()
    def within_budget(self) -> None:
        if hasattr(self, "folder") and not self.dirty:
            assert disk_bytes(self.folder) <= self.BUDGET
            assert not any(cache.warning for cache in self.caches)


AnyUse.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestAnyUse = AnyUse.TestCase


def test_a_restart_finds_what_was_put_and_says_what_it_holds(tmp_path: Path, small_packs: None) -> None:
    cache = ChunkCache(str(tmp_path), 10**6)
    with labelled(A):
        cache.put(URL, VERSION, 0, 5000, content(URL, VERSION, 0, 5000))
    with labelled(B):
        cache.put(URL, VERSION, 9000, 9100, content(URL, VERSION, 9000, 9100))
    cache.put(URL, VERSION, 10, 20, content(URL, VERSION, 10, 20))
    assert set(cache.changes()) == {A, B}
    assert cache.changes() == {}
    again = ChunkCache(str(tmp_path), 10**6)
    held = again.holdings()
    assert set(held) == {A, B}
    assert 5000 <= held[A] < 5100
    assert 100 <= held[B] < 200
    assert again.get(URL, VERSION, 0, 5000) == content(URL, VERSION, 0, 5000)
    assert again.get(URL, VERSION, 9000, 9100) == content(URL, VERSION, 9000, 9100)
    assert again.get(URL, VERSION, 10, 20) == content(URL, VERSION, 10, 20)
    assert again.get(URL, VERSION, 700, 800) == content(URL, VERSION, 700, 800)  # a part of the first


def test_small_ranges_share_files(tmp_path: Path) -> None:
    cache = ChunkCache(str(tmp_path), 10**8)
    for i in range(2000):
        cache.put(f"s3://raw/{i}", VERSION, 0, 900, bytes([i % 251]) * 900)
    assert len(entries(tmp_path)) == 1
    other = ChunkCache(str(tmp_path), 10**8)
    assert all(other.get(f"s3://raw/{i}", VERSION, 0, 900) == bytes([i % 251]) * 900 for i in range(2000))


def test_least_lately_used_goes_first(tmp_path: Path, small_packs: None) -> None:
    cache = ChunkCache(str(tmp_path), 50_000)
    for i in range(8):
        cache.put(f"s3://raw/{i}", VERSION, 0, 5000, bytes(5000))
        for path in entries(tmp_path):  # the disk's clock is coarse: make it an hour each
            if path.stat().st_mtime > 1e9:
                os.utime(path, (i * 3600, i * 3600))
    assert cache.get("s3://raw/0", VERSION, 0, 5000) is not None  # used now
    assert cache.evict(30_000) > 0
    kept = {i for i in range(8) if cache.get(f"s3://raw/{i}", VERSION, 0, 5000) is not None}
    assert 0 in kept
    assert kept == {0, *range(8 - len(kept) + 1, 8)}
    assert 3 <= len(kept) <= 5


def test_hits_misses_and_damage_are_counted(tmp_path: Path, small_packs: None) -> None:
    cache = ChunkCache(str(tmp_path), 10**6)
    for size in (500, 5000):  # in a pack, and a file
        with metering() as found:
            assert cache.get(URL, VERSION, 0, size) is None
            cache.put(URL, VERSION, 0, size, bytes(size))
            assert cache.get(URL, VERSION, 0, size) == bytes(size)
        assert found.counts == {"cache hits": 1, "cache misses": 1}
        assert found.bytes == {"nvme read": size}
        assert set(found.seconds) == {"nvme read", "write:cache"}
        for path in entries(tmp_path):
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
        cache.changes()
        with metering() as found:
            assert cache.get(URL, VERSION, 0, size) is None
            assert cache.get(URL, VERSION, 0, size) is None
        assert found.counts == {"cache misses": 2, "cache damaged": 1}, "dropped at the first read"
        cache.put(URL, VERSION, 0, size, bytes(size))
        assert cache.get(URL, VERSION, 0, size) == bytes(size)
        empty(str(tmp_path))


def test_a_damaged_file_is_no_longer_announced(tmp_path: Path, small_packs: None) -> None:
    cache = ChunkCache(str(tmp_path), 10**6)
    with labelled(A):
        cache.put(URL, VERSION, 0, 5000, bytes(5000))
    came = cache.changes()
    (path,) = entries(tmp_path)
    path.write_bytes(b"?" * path.stat().st_size)
    assert cache.get(URL, VERSION, 0, 5000) is None
    assert cache.changes() == {A: -came[A]}


@pytest.mark.parametrize("size", [500, 5000])
def test_a_full_disk_turns_writing_off_with_one_warning(
    tmp_path: Path,
    small_packs: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    size: int,
) -> None:
    cache = ChunkCache(str(tmp_path), 10**6)
    cache.put(URL, VERSION, 0, size, bytes(size))
    real = os.writev

    def full(file: int, parts: list[bytes]) -> int:
        real(file, [parts[0], bytes(parts[1])[:10]])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "writev", full)
    for i in range(1, 4):
        cache.put(URL, VERSION, i, i + size, bytes(size))
    monkeypatch.undo()
    monkeypatch.setattr(chunk_cache, "PACKED_BELOW", 1000)
    assert "No space left" in cache.warning
    assert str(tmp_path) in cache.warning
    assert len([r for r in caplog.records if "is off" in r.message]) == 1
    assert cache.get(URL, VERSION, 0, size) == bytes(size)
    assert cache.get(URL, VERSION, 1, 1 + size) is None
    assert not list((tmp_path / "new").iterdir())
    cache.put(URL, VERSION, 9, 9 + size, bytes(size))
    assert cache.get(URL, VERSION, 9, 9 + size) is None, "it stays off"
    assert ChunkCache(str(tmp_path), 10**6).get(URL, VERSION, 1, 1 + size) is None, (
        "nothing half-written counts"
    )


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ChunkCache(str(tmp_path / "file" / "cache"), 10**6)
    cache.put(URL, VERSION, 0, 5, b"12345")
    assert "is off" in cache.warning
    assert cache.get(URL, VERSION, 0, 5) is None


def test_a_twentieth_of_the_disk_stays_free(
    tmp_path: Path, small_packs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda _: SimpleNamespace(total=1_000_000, free=max(0, 70_000 - disk_bytes(tmp_path))),
    )
    cache = ChunkCache(str(tmp_path), 200_000)
    for i in range(40):
        cache.put(f"s3://raw/{i}", VERSION, 0, 5000, bytes(5000))
    # 50,000 of the 70,000 have to stay; it looks every eighth of its budget
    assert 0 < disk_bytes(tmp_path) <= 20_000 + 200_000 // 8 + 5100


def test_a_smaller_budget_takes_effect_at_once(tmp_path: Path, small_packs: None) -> None:
    cache = ChunkCache(str(tmp_path), 10**6)
    for i in range(20):
        cache.put(f"s3://raw/{i}", VERSION, 0, 5000, bytes(5000))
    ChunkCache(str(tmp_path), 30_000)
    assert disk_bytes(tmp_path) <= 30_000


def _hammer(folder: str, seed: int, bad: object) -> None:
    chunk_cache.PACKED_BELOW, cache_packs.PACK_BYTES = 1000, 4000
    rng = random.Random(seed)
    cache = ChunkCache(folder, 60_000)
    wrong = 0
    for _ in range(400):
        size = rng.choice([300, 700, 2000, 5000])
        what = (f"s3://raw/{rng.randrange(12)}", VERSION, 0, size)
        found = cache.get(*what)
        if found is None:
            cache.put(*what, content(*what))
        elif found != content(*what):
            wrong += 1
    bad.put((wrong, cache.warning))  # type: ignore[attr-defined]


def test_processes_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    workers = [context.Process(target=_hammer, args=(str(tmp_path), seed, told)) for seed in range(3)]
    for worker in workers:
        worker.start()
    results = [told.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert results == [(0, "")] * 3
    ChunkCache(str(tmp_path), 60_000).evict()
    assert disk_bytes(tmp_path) <= 60_000


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    cache = ChunkCache(str(tmp_path / "cache"))
    assert cache.get(URL, VERSION, 0, 5) is None
    assert cache.holdings() == cache.changes() == {}
    assert cache.evict() == 0
    assert not (tmp_path / "cache").exists()
    cache.put(URL, VERSION, 0, 5, b"12345")
    assert cache.get(URL, VERSION, 0, 5) == b"12345"
    assert cache.budget_bytes == shutil.disk_usage(tmp_path).total // 4


def test_a_forked_child_fills_a_pack_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ChunkCache(str(tmp_path), 10**6)
    cache.put(URL, VERSION, 0, 5, b"12345")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    cache.put(URL, VERSION, 5, 10, b"67890")
    assert len(entries(tmp_path)) == 2
    assert cache.get(URL, VERSION, 0, 5) == b"12345"
    assert cache.get(URL, VERSION, 5, 10) == b"67890"
