"""Objects that are read whole: never from a cache of ranges, which knows them by name alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from featureflow.core.chunk_cache import ChunkCache
from featureflow.core.remote import fetch_ranges, stream, use_cache


@pytest.fixture
def cached(tmp_path: Path) -> Iterator[None]:
    before = use_cache(ChunkCache(str(tmp_path / "cache"), 1 << 30))
    yield
    use_cache(before)


@pytest.mark.usefixtures("cached")
def test_a_replaced_object_is_read_as_it_is_now() -> None:
    remote, size = fsspec.filesystem("memory"), 300_000
    url = "memory://whole/object"
    for content in (b"a" * size, b"b" * size):
        remote.pipe("/whole/object", content)
        assert b"".join(stream(url, size)) == content
    # ranges of what never changes under its name do come from the cache
    assert fetch_ranges(url, "", [(0, size)]) == [b"b" * size]
    remote.pipe("/whole/object", b"c" * size)
    assert fetch_ranges(url, "", [(0, size)]) == [b"b" * size]
