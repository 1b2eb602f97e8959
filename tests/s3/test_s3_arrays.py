"""Arrays on S3: versions, secrets, and two builds at once."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
import xarray as xr
from servers.seaweedfs import ACCESS_KEY, SECRET_KEY
from unit.tables.array_world import CHUNKS, cube, part, publish_grid, regions, write_all

from featureflow.core import storage
from featureflow.core.errors import CommitConflict, CorruptionError
from featureflow.tables import arrays_reading, arrays_repository
from featureflow.tables.arrays import ArraySpec, begin, open_arrays, write_region
from featureflow.tables.arrays_repository import arrays_url, open_repository
from featureflow.tables.collect import gc
from featureflow.tables.state import current_state
from featureflow.tables.store import open_table
from featureflow.tables.verify import verify


def holds_secret(data: bytes) -> bool:
    return any(
        secret.encode(code) in data for secret in (SECRET_KEY, ACCESS_KEY) for code in ("utf-8", "utf-16-le")
    )


def write_elsewhere(fork: bytes, region: dict[str, tuple[int, int]], times: int) -> bytes:
    """A task in a process that has its own credentials."""
    return write_region(fork, region, part(cube(times), region))


def test_versions_on_s3(bucket):
    url = f"{bucket}/features/sea"
    publish_grid(url, cube(8), "b1")
    publish_grid(url, cube(12), "b2", first=8)
    for which, times in (("1", 8), ("2", 12)):
        table = open_table(url, "sea", which)
        xr.testing.assert_identical(table.to_xarray().load(), cube(times))
        assert verify(url, "sea", which, deep=True).problems == ()
    assert open_repository(url).list_tags() == {"v1", "v2"}
    assert open_repository(url).list_branches() == {"main"}
    assert gc(url, "sea", keep=1).expired == (1,)
    assert open_repository(url).list_tags() == {"v2"}
    assert verify(url, "sea").problems == ()


def test_tasks_find_their_own_credentials_and_nothing_holds_any(bucket, caplog):
    url = f"{bucket}/features/sea"
    data = cube(8)
    write = begin(url, ArraySpec(data, CHUNKS), "b1", None)
    fork = write.fork()
    assert not holds_secret(fork)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(write_elsewhere, [fork] * 8, regions(data), [8] * 8))
    assert not any(map(holds_secret, done))
    write.merge(done)
    snapshot = write.commit("chunks", {"who": "a test"})
    found = open_arrays(url, snapshot, chunks={})
    assert not holds_secret(pickle.dumps(found))
    xr.testing.assert_identical(found.compute(), data)
    written = {path: storage.read_bytes(f"{url}/{path}") for path, _, _ in storage.walk(url)}
    assert len(written) > 10
    assert [path for path, content in written.items() if holds_secret(content)] == []
    repository = open_repository(url)
    texts = [repr(found), repr(write), repr(repository.storage), repr(repository.config), caplog.text]
    assert not any(holds_secret(text.encode()) for text in texts)


def test_of_two_builds_one_wins_and_the_other_goes_on_with_its_chunks(bucket):
    url = f"{bucket}/features/sea"
    publish_grid(url, cube(8), "b1")
    base = open_table(url, "sea").record["arrays"]["snapshot"]
    state = current_state(url)
    mine = begin(url, ArraySpec(cube(16), CHUNKS), "slow", base)
    done = write_all(mine, cube(16), first=8)
    publish_grid(url, cube(12), "fast", first=8)
    with pytest.raises(CommitConflict):
        publish_grid(url, cube(16), "slow", first=8, expected_version=state.version)
    newer = open_table(url, "sea").record["arrays"]["snapshot"]
    before = set(storage.list_names(f"{arrays_url(url)}/chunks"))
    again = begin(url, ArraySpec(cube(16), CHUNKS), "slow", newer)
    assert all(again.accepts(one) for one in done)
    again.merge(done)
    xr.testing.assert_identical(open_arrays(url, again.commit("again")).sst.load(), cube(16).sst)
    assert len(set(storage.list_names(f"{arrays_url(url)}/chunks")) - before) <= 1
    xr.testing.assert_identical(open_table(url, "sea").to_xarray().load(), cube(12))


def test_a_flipped_bit_and_a_missing_object(bucket):
    url = f"{bucket}/features/sea"
    publish_grid(url, cube(8), "b1")
    names = storage.list_names(f"{arrays_url(url)}/chunks")
    sizes = storage.list_sizes(f"{arrays_url(url)}/chunks")
    one = f"{arrays_url(url)}/chunks/{max(names, key=lambda name: sizes[name])}"
    whole = storage.read_bytes(one)
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 4
    for damaged, message in ((bytes(broken), "decoded|digest"), (None, "missing")):
        if damaged is None:
            storage.delete(one)
        else:
            storage.write_atomic(one, damaged)
        arrays_repository._opened.clear()
        arrays_reading._group.cache_clear()
        with pytest.raises(CorruptionError, match=message):
            open_table(url, "sea").to_xarray().load()
        assert len(verify(url, "sea", deep=True).problems) == 1
    storage.write_atomic(one, whole)
    assert verify(url, "sea", deep=True).problems == ()
