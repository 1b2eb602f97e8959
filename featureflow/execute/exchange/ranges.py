"""Small objects and ranges of bytes, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from featureflow.core.meter import carried, counted, spent
from featureflow.core.remote import fetch_each, fetch_tails
from featureflow.core.storage import is_local, read_bytes

#: Requests at the same moment for whole objects.
AT_ONCE = 16


def read_all(urls: Sequence[str]) -> list[bytes]:
    """Read whole files or objects; those of a store several at a time.

    Raises
    ------
    FileNotFoundError
        If one is not there.
    Unreachable
        If the store does not answer.
    """
    if len(urls) < 2 or all(is_local(url) for url in urls):
        return [read_bytes(url) for url in urls]
    with ThreadPoolExecutor(min(AT_ONCE, len(urls))) as pool:
        return list(pool.map(carried(read_bytes), urls))


def read_tails(urls: Sequence[str], lengths: Sequence[int]) -> list[bytes | None]:
    """The last bytes of each object (all of it, if it is shorter); None for one that is not there."""
    if not urls:
        return []
    counted("exchange requests", len(urls))
    with spent("exchange:store"):
        return fetch_tails(urls, lengths)


def read_ranges(ranges: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
    """Bytes of (URL, start, length), several at a time; None for an object that is not there.

    Raises
    ------
    Unreachable
        If the store does not answer.
    """
    if not ranges:
        return []
    counted("exchange requests", len(ranges))
    with spent("exchange:store"):
        return fetch_each([(url, start, start + length) for url, start, length in ranges])
