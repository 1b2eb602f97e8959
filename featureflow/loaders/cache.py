"""Copies of remote shards on this machine, shared by its processes, within a budget of bytes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import xxhash

from featureflow.contracts.shard_manifest import ShardFile
from featureflow.core.errors import CorruptionError, FeatureflowError, SourceError
from featureflow.core.remote import stream

BUDGET_VARIABLE = "FEATUREFLOW_SHARD_CACHE_BYTES"
_DEFAULT_BUDGET = 64 << 30
_THREADS = 4  # one connection rarely fills the network


def default_folder() -> str:
    """The user's folder of shards: in ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "featureflow", "shards")


def default_budget(folder: str) -> int:
    """``$FEATUREFLOW_SHARD_CACHE_BYTES``, else 64 GiB; never more than half of what the disk has left."""
    given = os.environ.get(BUDGET_VARIABLE)
    if given:
        return int(given)
    there = folder
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    return min(_DEFAULT_BUDGET, shutil.disk_usage(there).free // 2 + _used(folder))


class ShardCache:
    """Files by the hash of their content.

    Parameters
    ----------
    folder
        Where they are; shared by all processes of the machine.
    budget
        Bytes. The files that were not used for longest go first; those that this process has in use stay, even if
        they alone are more.

    Notes
    -----
    A file gets its name when it is whole and its checksum is right, never before. Two processes that want the same
    file download it once.
    """

    def __init__(self, folder: str | None = None, budget: int | None = None) -> None:
        self.folder = os.path.abspath(os.path.expanduser(folder or default_folder()))
        self._budget = budget
        self._begin()

    def _begin(self) -> None:
        """Start without threads and locks, as in a forked process, where those of the parent are dead."""
        self._process = os.getpid()
        self._recent: dict[str, None] = {}
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._running: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Go to another process without threads and locks."""
        return {"folder": self.folder, "_budget": self._budget}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["_budget"])  # type: ignore[misc]

    def fetch(self, url: str, file: ShardFile) -> str:
        """Give the local path of a remote file, downloaded if it is not there.

        Raises
        ------
        FileNotFoundError
            If the remote file does not exist.
        CorruptionError
            If what was downloaded has not the manifest's checksum.
        Unreachable
            If the store does not answer.
        """
        if self._process != os.getpid():
            self._begin()
        path = self._path(file)
        with self._lock:
            self._recent.pop(path, None)
            self._recent[path] = None
        if not self._there(path, file):
            with _alone(path + ".lock"):
                if not self._there(path, file):
                    self._download(url, path, file)
                    self._evict()
        with suppress(FileNotFoundError):
            os.utime(path)
        return path

    def fetch_ahead(self, wanted: Sequence[tuple[str, ShardFile]]) -> None:
        """Download files in threads; those that are there or on their way are skipped."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            # those before these were given up: their mapped memory stays as long as it is needed
            keep = {self._path(file) for _, file in wanted}
            self._recent = {p: None for p in self._recent if p in keep} | dict.fromkeys(keep)
            new = [
                (url, file)
                for url, file in wanted
                if file.path not in self._running and not self._there(self._path(file), file)
            ]
            if not new:
                return
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, "featureflow-fetch")
            self._running.update(file.path for _, file in new)
        for url, file in new:
            self._threads.submit(self._fetch_quietly, url, file)

    def forget(self, file: ShardFile) -> None:
        """Delete a copy, because it is damaged."""
        with suppress(FileNotFoundError):
            os.unlink(self._path(file))

    def _fetch_quietly(self, url: str, file: ShardFile) -> None:
        """Fetch; whoever needs the file meets the same error."""
        try:
            with suppress(FeatureflowError, OSError):
                self.fetch(url, file)
        finally:
            with self._lock:
                self._running.discard(file.path)

    def _path(self, file: ShardFile) -> str:
        suffix = os.path.splitext(file.path)[1]
        return os.path.join(self.folder, file.xxh3_64[:2], f"{file.xxh3_64}-{file.bytes}{suffix}")

    def _there(self, path: str, file: ShardFile) -> bool:
        try:
            return os.stat(path).st_size == file.bytes
        except FileNotFoundError:
            return False

    def _download(self, url: str, path: str, file: ShardFile) -> None:
        digest, size = xxhash.xxh3_64(), 0
        handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=os.path.dirname(path))
        try:
            with os.fdopen(handle, "wb") as target:
                for piece in _pieces(url, file.bytes):
                    digest.update(piece)
                    size += len(piece)
                    target.write(piece)
            if (size, digest.hexdigest()) != (file.bytes, file.xxh3_64):
                raise CorruptionError(
                    f"shard {url}: {size} bytes with checksum {digest.hexdigest()} came, and {file.bytes} with "
                    f"{file.xxh3_64} were written. Export again, or copy the shards again."
                )
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    def _evict(self) -> None:
        """Delete what was not used for longest, until the rest is within the budget."""
        if self._budget is None:
            self._budget = default_budget(self.folder)
        there = sorted(_files(self.folder))
        left = sum(size for _, _, size in there)
        with self._lock:
            used = set(self._recent)
        for _, path, size in there:
            if left <= self._budget:
                return
            if path not in used:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                with suppress(FileNotFoundError):
                    os.unlink(path + ".lock")
                left -= size


def _pieces(url: str, size: int) -> Iterator[bytes]:
    """Read a remote file piece by piece."""
    try:
        yield from stream(url, size)
    except SourceError as error:
        raise CorruptionError(f"shard {url}: {error}") from error


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Hold a lock that other processes respect; it ends with the process."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _files(folder: str) -> Iterator[tuple[float, str, int]]:
    """Last use, path and size of each file."""
    for below, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(below, name)
            if not name.endswith(".lock"):
                with suppress(FileNotFoundError):
                    found = os.stat(path)
                    yield found.st_mtime, path, found.st_size


def _used(folder: str) -> int:
    return sum(size for _, _, size in _files(folder))
