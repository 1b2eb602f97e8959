"""The chunk cache of a process: opened once for a folder, whoever asks, and used by all remote reads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featureflow.core.chunk_cache import ChunkCache
from featureflow.core.remote import use_cache

#: Folder of the cache below scratch.
FOLDER = "cache"
_lock = threading.Lock()
_open: dict[str, ChunkCache] = {}


def open_cache(scratch: str, budget_bytes: int | None) -> ChunkCache | None:
    """Let this process read remote objects through the host's cache.

    Parameters
    ----------
    scratch
        The host's; the cache is the folder ``cache`` in it.
    budget_bytes
        How much it may hold; a quarter of the disk if None, no cache if 0.
    """
    if budget_bytes == 0:
        use_cache(None)
        return None
    folder = os.path.join(os.path.abspath(scratch), FOLDER)
    with _lock:
        cache = _open.get(folder)
        other = cache is None or (budget_bytes is not None and cache.budget_bytes != budget_bytes)
        if cache is None or other or cache.warning:  # the disk may have room again
            cache = _open[folder] = ChunkCache(folder, budget_bytes)
    use_cache(cache)
    return cache


def cache_warnings(executor: Any) -> list[str]:
    """What to tell about caches that had to give up, here and on the hosts of an executor; a sentence or two each."""
    with _lock:
        own = [cache.warning for cache in _open.values() if cache.warning]
    return list(dict.fromkeys([*own, *getattr(executor, "warnings", ())]))


@contextmanager
def caching(scratch: str, budget_bytes: int | None) -> Iterator[ChunkCache | None]:
    """Use the host's cache inside, in all threads of this process; afterwards what was used before."""
    before = use_cache(None)
    try:
        yield open_cache(scratch, budget_bytes)
    finally:
        use_cache(before)
