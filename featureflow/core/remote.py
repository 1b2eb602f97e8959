"""Reading parts of remote objects: only the bytes that are needed, few requests, several at a time.

Ranges that lie close together are one request, large ones are several. What a host keeps on its disk
(:func:`use_cache`) is not asked for again.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from featureflow.core import s3, storage
from featureflow.core.errors import SourceError
from featureflow.core.meter import moved, spent

Range = tuple[int, int]
"""First byte and the one after the last."""

#: Ranges closer than this are read as one: a request costs as much time as so many bytes.
GAP = 512 << 10
#: Larger requests are split: one connection rarely fills the network.
PIECE = 8 << 20
#: Requests at the same moment, of all threads of the process.
IN_FLIGHT = 32
_NO_RANGE = "InvalidRange"
_STREAM_BYTES = 32 << 20


class RangeCache(Protocol):
    """Ranges of remote objects on a disk of this host; :func:`fetch_ranges` asks it first and fills it.

    ``version`` is :attr:`featureflow.core.raw_files.RawFile.version`, or "" for an object that never changes under its
    name. Ranges are those that were asked for (column chunks, tails), not the requests that they were merged into.
    The cache meters what it reads (``nvme read``). Errors of its disk are its own business: it gives None, or keeps
    nothing.
    """

    def get(self, url: str, version: str, start: int, stop: int) -> bytes | None:
        """The bytes, verified, or None."""

    def put(self, url: str, version: str, start: int, stop: int, data: bytes) -> None:
        """Keep the bytes."""


_cache: RangeCache | None = None
_pool: tuple[int, ThreadPoolExecutor] | None = None


def use_cache(cache: RangeCache | None) -> RangeCache | None:
    """Let this process read through a cache, or through none; gives back the one before."""
    global _cache
    before, _cache = _cache, cache
    return before


def fetch_ranges(url: str, version: str, ranges: Sequence[Range]) -> list[bytes]:
    """Read ranges of a remote object.

    Parameters
    ----------
    version
        What the object was when it was listed (:attr:`featureflow.core.raw_files.RawFile.version`); "" if it never
        changes under its name. An ``etag:`` is compared with the object's.
    ranges
        In any order, also touching or overlapping ones.

    Returns
    -------
    list[bytes]
        In the order of ``ranges``.

    Raises
    ------
    SourceError
        If the object is another one by now.
    FileNotFoundError
        If it is gone.
    Unreachable
        If the store does not answer for as long as requests are repeated.

    Notes
    -----
    Cost: a request for each run of ranges with gaps below 512 KiB, split at 8 MiB; at most 32 at the same moment.
    """
    return begin_fetch(url, version, ranges).result()


def begin_fetch(url: str, version: str, ranges: Sequence[Range], *, through_cache: bool = True) -> Fetch:
    """Ask for ranges without waiting for them: read-ahead. Parameters as of :func:`fetch_ranges`."""
    cache = _cache if through_cache else None
    found: dict[Range, bytes] = {}
    if cache is not None:
        for start, stop in dict.fromkeys(ranges):
            data = cache.get(url, version, start, stop)
            if data is not None:
                found[start, stop] = data
    missing = sorted({(a, b) for a, b in ranges if b > a} - found.keys())
    pieces = _pieces(merged(missing))
    pool = _threads() if pieces else None
    asked = [(piece, pool.submit(_get, url, version, *piece)) for piece in pieces] if pool else []
    return Fetch(url, version, list(ranges), found, missing, asked, cache)


class Fetch:
    """Ranges that are on their way."""

    def __init__(
        self,
        url: str,
        version: str,
        ranges: list[Range],
        found: dict[Range, bytes],
        missing: list[Range],
        asked: list[tuple[Range, Future[Any]]],
        cache: RangeCache | None,
    ) -> None:
        self._url, self._version, self._ranges = url, version, ranges
        self._found, self._missing, self._asked, self._cache = found, missing, asked, cache

    def result(self) -> list[bytes]:
        """Wait for the bytes; as :func:`fetch_ranges` gives them. Once only."""
        try:
            with spent("remote read"):
                pieces = [(piece, memoryview(future.result())) for piece, future in self._asked]
        except BaseException:
            self.cancel()
            raise
        moved("remote read", sum(len(data) for _, data in pieces))
        for wanted in self._missing:
            self._found[wanted] = _cut(pieces, *wanted)
        self._asked = []
        if self._cache is not None:
            for start, stop in self._missing:
                self._cache.put(self._url, self._version, start, stop, self._found[start, stop])
        return [self._found.get(each, b"") for each in self._ranges]

    def cancel(self) -> None:
        """Give up what nobody has begun to read."""
        for _, future in self._asked:
            future.cancel()


def merged(ranges: Sequence[Range]) -> list[Range]:
    """Runs of ranges with small gaps; ``ranges`` ascend."""
    runs: list[Range] = []
    for start, stop in ranges:
        if runs and start - runs[-1][1] <= GAP:
            runs[-1] = runs[-1][0], max(stop, runs[-1][1])
        else:
            runs.append((start, stop))
    return runs


def _pieces(runs: Sequence[Range]) -> list[Range]:
    """Cut long runs into equal parts."""
    pieces: list[Range] = []
    for start, stop in runs:
        n = -(-(stop - start) // PIECE)
        ends = [start + (stop - start) * i // n for i in range(n + 1)]
        pieces += itertools.pairwise(ends)
    return pieces


def _cut(pieces: list[tuple[Range, memoryview]], start: int, stop: int) -> bytes:
    """The bytes of a range out of the pieces that hold it; pieces ascend."""
    parts = [data[max(start - a, 0) : stop - a] for (a, b), data in pieces if a < stop and b > start]
    return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)


def _threads() -> ThreadPoolExecutor:
    global _pool  # noqa: PLW0603  a forked child has none of its parent's threads
    if _pool is None or _pool[0] != os.getpid():
        _pool = os.getpid(), ThreadPoolExecutor(IN_FLIGHT, "featureflow-remote")
    return _pool[1]


# ---------------------------------------------------------------- one request


def _get(url: str, version: str, start: int, stop: int) -> Any:
    """One request; the bytes as a buffer."""
    if not s3.usable(url):
        with storage.talking_to(url):
            fs, path = storage.filesystem(url)
            data = fs.cat_file(path, start=start, end=stop)
    else:
        import obstore

        with s3.asking(url):
            store, key = s3.connect(url)

            def ask() -> Any:
                got = obstore.get(store, key, options={"range": (start, stop)})
                _check_version(url, version, got.meta["e_tag"])
                return got.bytes()

            try:
                data = s3.insist(url, ask)
            except obstore.exceptions.GenericError as error:
                if _NO_RANGE not in str(error):
                    raise
                raise _too_short(url, stop) from None
    if len(data) != stop - start:
        raise _too_short(url, stop)
    return data


def _too_short(url: str, stop: int) -> SourceError:
    return SourceError(
        f"{url}: has fewer bytes than when it was listed (at least {stop} then). Was it replaced meanwhile? Run again."
    )


def _check_version(url: str, version: str, e_tag: str | None) -> None:
    if not version.startswith("etag:") or e_tag is None:
        return
    now = e_tag.removeprefix("W/").strip('"')
    if now != version.removeprefix("etag:"):
        raise SourceError(
            f"{url}: was replaced since it was listed (its ETag was {version.removeprefix('etag:')} and is {now}). "
            "Run again: the new content is planned like any new data."
        )


def stream(url: str, size: int, version: str = "") -> Iterator[bytes]:
    """Read a whole object of a known size piece by piece, a few pieces ahead; errors as of :func:`fetch_ranges`.

    Not through the cache of ranges: an object that is read whole may be another one under the same name by now.
    """
    ends = [*range(0, size, _STREAM_BYTES), size] if size else []
    ahead: deque[Fetch] = deque()
    try:
        for piece in itertools.pairwise(ends):
            ahead.append(begin_fetch(url, version, [piece], through_cache=False))
            if len(ahead) > 1:
                yield ahead.popleft().result()[0]
        while ahead:
            yield ahead.popleft().result()[0]
    finally:
        for fetch in ahead:
            fetch.cancel()


@dataclass(frozen=True, slots=True)
class Tail:
    """The last bytes of an object, its size, and the version that they are of ("" if the store does not say)."""

    data: bytes
    size: int
    version: str


def fetch_tail(url: str, length: int) -> Tail:
    """Read the last bytes of a remote object in one request, which also says how large it is.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    Unreachable
        If the store does not answer.
    """
    with spent("remote read"):
        tail = _tail(url, length)
    moved("remote read", len(tail.data))
    return tail


def _tail(url: str, length: int) -> Tail:
    if not s3.usable(url):
        with storage.talking_to(url):
            fs, path = storage.filesystem(url)
            size = int(fs.info(path)["size"])
            return Tail(bytes(fs.cat_file(path, start=max(0, size - length), end=size)), size, "")
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)

        def ask(options: Any) -> Tail:
            got = obstore.get(store, key, options=options)
            e_tag = (got.meta["e_tag"] or "").removeprefix("W/").strip('"')
            return Tail(bytes(got.bytes()), got.meta["size"], f"etag:{e_tag}" if e_tag else "")

        try:
            return s3.insist(url, lambda: ask({"range": {"suffix": length}}))
        except obstore.exceptions.GenericError as error:
            if _NO_RANGE not in str(error):  # what S3 says to any range of an empty object
                raise
            return s3.insist(url, lambda: ask(None))


def fetch_each(wanted: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
    """Read a range (URL, first byte, the one after the last) of each of many objects; None for one that is not there.

    For what is read once: nothing is kept in the cache.

    Raises
    ------
    Unreachable
        If the store does not answer for as long as requests are repeated.
    """
    pool = _threads()
    asked = [pool.submit(_get, url, "", start, stop) for url, start, stop in wanted]
    return _collected(asked)


def fetch_tails(urls: Sequence[str], lengths: Sequence[int]) -> list[bytes | None]:
    """Read the last bytes of each of many objects, several at a time; None for one that is not there."""
    pool = _threads()
    return _collected([pool.submit(_tail, url, length) for url, length in zip(urls, lengths, strict=True)])


def _collected(asked: Sequence[Future[Any]]) -> list[bytes | None]:
    found: list[bytes | None] = []
    for future in asked:
        try:
            got = future.result()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append(got.data if isinstance(got, Tail) else bytes(got))
    return found


class RangedFile:
    """A remote object as a file for Arrow (``pa.PythonFile``): what was fetched before is there, the rest is asked for.

    Parameters
    ----------
    url, version, size
        Of the object; ``version`` as of :func:`fetch_ranges`.
    tail
        Its last bytes, which stay.
    """

    def __init__(self, url: str, version: str, size: int, tail: bytes = b"") -> None:
        self._url, self._version, self.size = url, version, size
        self._tail, self._tail_start = tail, size - len(tail)
        self._held: dict[Range, bytes] = {}
        self._place = 0
        self.closed = False

    def hold(self, start: int, data: bytes) -> None:
        """Know these bytes."""
        self._held[start, start + len(data)] = data

    def release(self) -> None:
        """Forget all bytes but the tail."""
        self._held.clear()

    def missing(self, ranges: Sequence[Range]) -> list[Range]:
        """Those that do not lie in the tail."""
        return [each for each in ranges if each[0] < self._tail_start]

    def read(self, n: int = -1) -> bytes:
        """Read from the current place."""
        start = self._place
        stop = self.size if n < 0 else min(self.size, start + n)
        self._place = max(start, stop)
        if stop <= start:
            return b""
        if start >= self._tail_start:
            return self._tail[start - self._tail_start : stop - self._tail_start]
        for (a, b), data in self._held.items():
            if a <= start and stop <= b:
                return data if (a, b) == (start, stop) else data[start - a : stop - a]
        return fetch_ranges(self._url, self._version, [(start, stop)])[0]

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, as files do."""
        self._place = offset + (0, self._place, self.size)[whence]
        return self._place

    def tell(self) -> int:
        """The current place."""
        return self._place

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def seekable(self) -> bool:
        """Anywhere."""
        return True

    def writable(self) -> bool:
        """Never."""
        return False

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        """Forget all bytes."""
        self.closed = True
        self.release()
