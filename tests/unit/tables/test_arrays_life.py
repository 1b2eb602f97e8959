"""Versions of a grid: projected, restored, collected and verified."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from unit.tables.array_world import CHUNKS, build, cube, publish_grid, write_all

from featureflow.core.errors import CorruptionError, TableError
from featureflow.tables import arrays_reading, arrays_repository
from featureflow.tables.arrays import ArraySpec, begin, open_arrays
from featureflow.tables.arrays_repository import open_repository
from featureflow.tables.collect import gc
from featureflow.tables.restore import restore
from featureflow.tables.store import open_table
from featureflow.tables.verify import verify

LATER = timedelta(days=30)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "features" / "sea")


@pytest.fixture
def forget() -> Callable[[], None]:
    """Open everything again, as another process does."""

    def again() -> None:
        arrays_repository._opened.clear()
        arrays_reading._group.cache_clear()

    return again


def snapshot(url: str, which: str = "latest") -> str:
    return str(open_table(url, "sea", which).record["arrays"]["snapshot"])


def problems(url: str, which: str = "latest", *, deep: bool = True) -> tuple[str, ...]:
    return verify(url, "sea", which, deep=deep).problems


def chunk_files(url: str) -> list[Path]:
    return sorted(Path(url, "_ff/arrays/chunks").glob("*"))


def test_a_published_version_is_a_tag_and_main(url: str) -> None:
    publish_grid(url, cube(8), "b1")
    publish_grid(url, cube(12), "b2", first=8)
    repository = open_repository(url)
    assert repository.list_tags() == {"v1", "v2"}
    assert repository.list_branches() == {"main"}
    assert repository.lookup_branch("main") == snapshot(url)
    assert problems(url) == problems(url, "1") == problems(url, deep=False) == ()


def test_a_failed_projection_is_made_up_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise TableError("the store is tired")

    with monkeypatch.context() as patch:
        patch.setattr("featureflow.tables.arrays_life.project_arrays", fails)
        assert publish_grid(url, cube(8), "b1").version == 1
        assert open_repository(url).list_tags() == set()
        assert open_repository(url).list_branches() == {"main", "build-b1"}
    assert open_table(url, "sea").version == 1  # a reader
    assert open_repository(url).list_tags() == {"v1"}
    assert open_repository(url).list_branches() == {"main"}


def test_restore_gives_the_old_snapshot_a_new_version(url: str) -> None:
    publish_grid(url, cube(12), "b1")
    publish_grid(url, cube(8), "b2")
    assert restore(url, "sea", "1", build="r").version == 3
    assert snapshot(url) == snapshot(url, "1")
    assert open_repository(url).lookup_branch("main") == snapshot(url, "1")
    assert problems(url) == ()
    publish_grid(url, cube(16), "b4", first=12)  # what was restored is a base as any other
    xr.testing.assert_identical(open_arrays(url, snapshot(url)).load(), cube(16))


def test_gc_takes_what_the_first_build_left_that_was_killed(url: str) -> None:
    build(url, cube(12), "dead")
    files = len(chunk_files(url))
    assert files > 0
    young = gc(url, "sea")
    assert (young.array_objects, young.expired, young.kept) == (0, (), ())
    assert gc(url, "sea", now=datetime.now(UTC) + LATER).array_objects >= files
    assert chunk_files(url) == []
    assert publish_grid(url, cube(8), "b1").version == 1  # the repository is still one
    assert problems(url) == ()


def test_gc_takes_chunks_of_expired_versions_and_nothing_else(url: str) -> None:
    publish_grid(url, cube(12), "b1")
    publish_grid(url, cube(12, seed=1), "b2")
    publish_grid(url, cube(16, seed=1), "b3", first=12)
    count = len(chunk_files(url))
    now = datetime.now(UTC)
    assert gc(url, "sea", keep=2, now=now).array_objects == 0  # younger than the margin
    assert gc(url, "sea", keep=2, now=now + LATER, dry_run=True).expired == ()
    assert open_repository(url).list_tags() == {"v2", "v3"}
    assert len(chunk_files(url)) == count
    collected = gc(url, "sea", keep=2, now=now + LATER)
    assert collected.expired == ()  # by the first call
    assert collected.array_objects > 0
    assert (
        count - len(chunk_files(url)) == 11 + 1
    )  # chunks of the first, but for the one without values; its `area`
    assert open_repository(url).list_tags() == {"v2", "v3"}
    for which, data in (("2", cube(12, seed=1)), ("3", cube(16, seed=1))):
        assert problems(url, which) == ()
        xr.testing.assert_identical(open_arrays(url, snapshot(url, which)).load(), data)
    with pytest.raises(TableError, match="expired"):
        open_table(url, "sea", "1")
    publish_grid(url, cube(20, seed=1), "b4", first=16)
    assert problems(url) == ()


def test_gc_drops_branches_of_dead_builds_after_the_margin(url: str, forget: Callable[[], None]) -> None:
    publish_grid(url, cube(8), "b1")
    count = len(chunk_files(url))
    base = snapshot(url)
    died = build(url, cube(16), "dead", base, first=8)
    now = datetime.now(UTC)
    gc(url, "sea", now=now)
    assert "build-dead" in open_repository(url).list_branches()
    forget()
    xr.testing.assert_identical(open_arrays(url, died).load(), cube(16))
    gc(url, "sea", now=now + LATER)
    assert open_repository(url).list_branches() == {"main"}
    assert len(chunk_files(url)) == count
    assert problems(url) == ()


def test_gc_keeps_what_a_build_committed_but_did_not_project(
    url: str, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("featureflow.tables.arrays_life.project_arrays", lambda *_: None)
        publish_grid(url, cube(8), "b1")
    gc(url, "sea", now=datetime.now(UTC) + LATER)
    forget()
    assert problems(url) == ()
    assert open_repository(url).list_tags() == {"v1"}


# ---------------------------------------------------------------- damage


def test_flipped_bits_of_chunks_are_never_values(url: str, forget: Callable[[], None]) -> None:
    publish_grid(url, cube(12), "b1")
    wanted = cube(12)
    rng = np.random.default_rng(0)
    damaged = 0
    for path in chunk_files(url):
        whole = path.read_bytes()
        for place in rng.integers(0, 8 * len(whole), 1):
            broken = bytearray(whole)
            broken[place // 8] ^= 1 << (place % 8)
            path.write_bytes(bytes(broken))
            forget()
            try:
                found = open_arrays(url, snapshot(url)).load()
            except CorruptionError as error:
                assert "variable" in str(error)
                damaged += 1
            else:
                xr.testing.assert_identical(found, wanted)  # a bit that means nothing
        path.write_bytes(whole)
    assert damaged > 8


@pytest.mark.parametrize("folder", ["manifests", "snapshots"])
def test_flipped_bits_of_metadata_are_never_values(url: str, folder: str, forget: Callable[[], None]) -> None:
    publish_grid(url, cube(12), "b1")
    name, wanted = snapshot(url), cube(12)
    rng = np.random.default_rng(1)
    refused = 0
    for path in sorted(Path(url, "_ff/arrays", folder).glob("*")):
        whole = path.read_bytes()
        for place in rng.integers(0, 8 * len(whole), 4):
            broken = bytearray(whole)
            broken[place // 8] ^= 1 << (place % 8)
            path.write_bytes(bytes(broken))
            forget()
            try:
                found = open_arrays(url, name).load()
            except TableError:
                refused += 1
            else:
                xr.testing.assert_identical(found, wanted)
        path.write_bytes(whole)
    assert refused > 2


def test_a_missing_chunk_is_an_error_and_verify_finds_it(url: str, forget: Callable[[], None]) -> None:
    publish_grid(url, cube(12), "b1")
    path = min(chunk_files(url), key=lambda path: path.stat().st_size)  # the largest is a coordinate's
    whole = path.read_bytes()
    path.unlink()
    forget()
    with pytest.raises(CorruptionError, match="missing"):
        open_arrays(url, snapshot(url)).load()
    for deep in (False, True):
        (problem,) = problems(url, deep=deep)
        assert "variable 'sst', chunk [" in problem
        assert "missing" in problem
    path.write_bytes(whole[:-3])
    assert len(problems(url, deep=False)) == 1
    path.write_bytes(whole)
    assert problems(url) == ()


def test_a_damaged_coordinate_is_found(url: str, forget: Callable[[], None]) -> None:
    publish_grid(url, cube(12), "b1")
    path = max(chunk_files(url), key=lambda path: path.stat().st_size)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(bytes(whole))
    forget()
    for deep in (False, True):
        (problem,) = problems(url, deep=deep)
        assert "variable 'area': a chunk can't be decoded" in problem


def test_verify_finds_other_values(url: str) -> None:
    """A chunk that is whole but holds what was not computed for this version."""
    publish_grid(url, cube(12), "b1")
    other = cube(12)
    other["sst"][9, 16, 13] += 1
    write = begin(url, ArraySpec(other, CHUNKS), "b2", snapshot(url))
    write.merge(write_all(write, other, first=8))
    lying = write.commit("x")
    table = open_table(url, "sea")
    from featureflow.tables.arrays_verify import verify_arrays

    record = {**table.record, "arrays": {**table.record["arrays"], "snapshot": lying}}
    found = list(verify_arrays(url, 2, record, table.to_arrow(), deep=True))
    assert len(found) == 1
    assert "variable 'sst', chunk [8:12, 9:17, 8:14]: the values' digest is not" in found[0]
    assert list(verify_arrays(url, 2, record, table.to_arrow(), deep=False)) == []
    assert "tag v1 points to" in next(iter(verify_arrays(url, 1, record, table.to_arrow(), deep=False)))
    less = table.to_arrow().slice(0, 5)
    assert any("the rows cover" in problem for problem in verify_arrays(url, 2, record, less, deep=False))


def test_a_chunk_that_no_manifest_lists_is_found(url: str) -> None:
    publish_grid(url, cube(8), "b1")
    table = open_table(url, "sea")
    empty = begin(url, ArraySpec(cube(8), CHUNKS), "b2", None).commit("nothing")
    from featureflow.tables.arrays_verify import verify_arrays

    record = {**table.record, "arrays": {**table.record["arrays"], "snapshot": empty}}
    found = list(verify_arrays(url, 2, record, table.to_arrow(), deep=False))
    assert len(found) == 10
    assert all("is not listed" in problem for problem in found)
