"""The chunk cache: byte ranges of remote objects on a disk of this host, for all its processes and for later builds.

An object has a URL and a version (its ETag), and never changes under one; so what was read once stays right for as
long as it is kept. Whatever goes wrong here costs a second read of the remote object and nothing else: a damaged entry
is dropped, a disk that is full turns writing off.

A range of at least ``PACKED_BELOW`` bytes is a file of its own, renamed into place, so that a name is there whole or
not at all. Smaller ones (footers, narrow columns) are appended to packs, one for each process, so that millions of them
are not millions of files. Both carry a checksum that is compared at every read.

The file system is what processes share. There is one number beside it, the bytes held, behind a lock; the process that
takes it over the budget removes what was used longest ago.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b

import xxhash

from featureflow.core.cache_packs import Packs
from featureflow.core.meter import counted, moved, spent

log = logging.getLogger(__name__)

#: Share of the disk that the cache of a host takes if nothing is said; scratch keeps a fifth for the exchange.
DISK_SHARE = 0.25
#: Share of the disk that stays free in any case: a build needs it for its exchange, and fails without.
FREE_SHARE = 0.05
#: Ranges below this go into packs.
PACKED_BELOW = 128 << 10
#: What is left after an eviction, as a share of the budget: so that not every write has to make room.
KEPT_AFTER_EVICTION = 0.9

_HEADER = struct.Struct("<4sIQ")  # magic, nothing, checksum
_MAGIC = b"ffc1"
_label: ContextVar[str] = ContextVar("featureflow_chunk_label", default="")


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """What is put into a cache inside belongs to this label: the name of a piece of work that reads it.

    Labels are hexadecimal, 32 digits (`featureflow.core.fingerprints`); tasks are placed by them.
    """
    token = _label.set(label)
    try:
        yield
    finally:
        _label.reset(token)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the cache: a range of its own, or a pack (which has no label of its own)."""

    used: float
    size: int
    path: str
    label: str


class ChunkCache:
    """Byte ranges of remote objects in a folder of this host.

    Parameters
    ----------
    folder
        Made when the first range is put. All processes of a host give the same one; hosts must not share it.
    budget_bytes
        How much it may hold; a quarter of the disk if None. Whatever the budget, a twentieth of the disk stays free.

    Notes
    -----
    Threads: safe for any number of them, and of processes.
    Cost: a hit reads the range once and its checksum (12 GB/s). A range that is part of a longer entry is found, too.
    """

    def __init__(self, folder: str, budget_bytes: int | None = None) -> None:
        self.folder = os.path.abspath(folder)
        self.warning = ""  # why nothing is written any more; told once
        self._lock = threading.RLock()
        self._changes: dict[str, int] = {}
        self._ranges: dict[
            str, tuple[int, list[tuple[int, int, str]]]
        ] = {}  # by object: as of when, its ranges
        self._since_look = 0
        self._packs = Packs(os.path.join(self.folder, "packs"))
        self.budget_bytes = (
            -1 if budget_bytes is None else budget_bytes
        )  # below 0: not known before the first write
        self._keep_free = 0
        self._made = False
        if os.path.isdir(self.folder):
            self._make()

    def _make(self) -> bool:
        """Make the folder, and see how much may be in it; whether that went well."""
        with self._lock:
            if self._made or self.warning:
                return self._made
            try:
                for name in ("objects", "packs", "new"):
                    os.makedirs(os.path.join(self.folder, name), exist_ok=True)
                disk = shutil.disk_usage(self.folder)
                self._keep_free = int(disk.total * FREE_SHARE)
                if self.budget_bytes < 0:
                    self.budget_bytes = int(disk.total * DISK_SHARE)
                self._made = True
                if self._add_held(0) > self.budget_bytes:
                    self.evict()
            except OSError as error:
                self._turn_off(error)
            return not self.warning

    def get(self, url: str, version: str, start: int, stop: int) -> bytes | None:
        """Read bytes ``[start, stop)`` of an object; None if they are not here, or damaged.

        Meters ``nvme read``; counts ``cache hits``, ``cache misses``, ``cache damaged``.
        """
        name = _object(url, version)
        with spent("nvme read"):
            found = self._packs.get(_key(name, start, stop)) if stop - start < PACKED_BELOW else None
            if found is not None and found.damaged:
                counted("cache damaged")
            data = found.data if found is not None else None
            if data is None:
                data = self._from_file(name, start, stop)
        if data is None:
            counted("cache misses")
        else:
            counted("cache hits")
            moved("nvme read", len(data))
        return data

    def put(self, url: str, version: str, start: int, stop: int, data: bytes | memoryview) -> None:
        """Keep bytes of an object; does nothing once the disk has refused a write."""
        if self.warning or not start < stop or len(data) != stop - start:
            return
        if not (self._made or self._make()) or len(data) > self.budget_bytes:
            return
        with spent("write:cache"):
            try:
                self._keep(_object(url, version), start, stop, data)
            except OSError as error:
                self._turn_off(error)

    def _keep(self, name: str, start: int, stop: int, data: bytes | memoryview) -> None:
        label = _label.get()
        if len(data) < PACKED_BELOW:
            added = self._packs.put(_key(name, start, stop), label, data)
        else:
            added = self._write(name, f"{start}-{stop}-{label}", start, data)
        if not added:
            return
        with self._lock:
            if label:
                self._changes[label] = self._changes.get(label, 0) + added
        if self._add_held(added) > self._limit(added):
            self.evict()

    def changes(self) -> dict[str, int]:
        """Bytes that came (or went: below 0) since the last call, by label."""
        with self._lock:
            changes, self._changes = self._changes, {}
        return changes

    def holdings(self) -> dict[str, int]:
        """Bytes held by label, from the disk. Cost: one walk over the folder."""
        found: dict[str, int] = self._packs.labels()
        for entry in _entries(self.folder):
            if entry.label:
                found[entry.label] = found.get(entry.label, 0) + entry.size
        return found

    def evict(self, limit_bytes: int | None = None) -> int:
        """Remove what was used longest ago until the rest fits; returns the bytes removed.

        Nothing happens if another process of the host is at it. Cost: one walk over the folder.
        """
        if not self._made:
            return 0
        limit = self._limit(0, look=True) if limit_bytes is None else limit_bytes
        with _locked(os.path.join(self.folder, "evict.lock"), wait=False) as mine:
            if mine < 0:
                return 0
            entries = [*_entries(self.folder), *_packs(self.folder)]
            held = sum(entry.size for entry in entries)
            removed = 0
            if held > limit:
                target = int(limit * KEPT_AFTER_EVICTION)
                for entry in sorted(entries, key=lambda e: e.used):
                    if held - removed <= target:
                        break
                    removed += self._remove(entry)
            self._set_held(held - removed)
        return removed

    # ------------------------------------------------------------ files

    def _from_file(self, name: str, start: int, stop: int) -> bytes | None:
        for first, last, label in self._listed(name):
            if first <= start and stop <= last:
                path = os.path.join(self._of(name), f"{first}-{last}-{label}")
                data = self._read(path, name, first, last)
                if data is not None:
                    return data if (first, last) == (start, stop) else data[start - first : stop - first]
        return None

    def _read(self, path: str, name: str, first: int, last: int) -> bytes | None:
        try:
            with open(path, "rb", buffering=0) as file:
                header, data = file.read(_HEADER.size), file.read()
        except FileNotFoundError:
            return None  # evicted
        except OSError as error:  # a disk that gives no answer: as good as damaged
            log.debug("%s: %s", path, error)
            header = data = b""
        if len(header) == _HEADER.size and len(data) == last - first:
            magic, _, checksum = _HEADER.unpack(header)
            if magic == _MAGIC and checksum == _checksum(name, first, data):
                with suppress(OSError):
                    os.utime(path)
                return data
        counted("cache damaged")
        with suppress(OSError):
            size = os.path.getsize(path)
            os.unlink(path)
            self._add_held(-size)
            self._forget(name, path, size)
        return None

    def _write(self, name: str, file_name: str, start: int, data: bytes | memoryview) -> int:
        folder = self._of(name)
        path = os.path.join(folder, file_name)
        if os.path.exists(path):  # another process was faster
            return 0
        temporary = os.path.join(self.folder, "new", f"{os.getpid()}-{threading.get_ident()}")
        try:
            with open(temporary, "wb", buffering=0) as file:
                header = _HEADER.pack(_MAGIC, 0, _checksum(name, start, data))
                if os.writev(file.fileno(), [header, data]) != len(header) + len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            for last_try in (False, True):
                os.makedirs(folder, exist_ok=True)
                try:
                    os.rename(temporary, path)
                    break
                except FileNotFoundError:  # the folder was empty, and somebody's eviction removed it
                    if last_try:
                        raise
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        with self._lock:
            self._ranges.pop(name, None)
        return _HEADER.size + len(data)

    def _listed(self, name: str) -> list[tuple[int, int, str]]:
        """Ranges of an object that have files, shortest first; read again when the folder has changed."""
        folder = self._of(name)
        try:
            changed = os.stat(folder).st_mtime_ns
        except OSError:
            return []
        with self._lock:
            known = self._ranges.get(name)
        if known is None or known[0] != changed:
            try:
                found = [_range(entry) for entry in os.listdir(folder)]
            except OSError:
                return []
            known = (changed, sorted((r for r in found if r), key=lambda r: (r[1] - r[0], r)))
            with self._lock:
                if len(self._ranges) > 4096:
                    self._ranges.clear()
                self._ranges[name] = known
        return known[1]

    def _of(self, name: str) -> str:
        return os.path.join(self.folder, "objects", name[:2], name)

    def _remove(self, entry: Entry) -> int:
        packed = entry.path.endswith(".pack")
        labels = self._packs.forget(entry.path) if packed else {entry.label: entry.size}
        try:
            os.unlink(entry.path)
        except OSError:
            return 0
        if not packed:
            with suppress(OSError):
                os.rmdir(os.path.dirname(entry.path))
        with self._lock:
            for label, size in labels.items():
                if label:
                    self._changes[label] = self._changes.get(label, 0) - size
        return entry.size

    def _forget(self, name: str, path: str, size: int) -> None:
        label = path.rpartition("-")[2]
        with self._lock:
            self._ranges.pop(name, None)
            if label:
                self._changes[label] = self._changes.get(label, 0) - size

    # ------------------------------------------------------------ bytes

    def _limit(self, added: int, *, look: bool = False) -> int:
        """The budget, or less where the disk is nearly full; looks at the disk every 64 MiB."""
        self._since_look += added
        if not look and self._since_look < min(64 << 20, self.budget_bytes // 8):
            return self.budget_bytes
        self._since_look = 0
        free = shutil.disk_usage(self.folder).free
        if free >= self._keep_free:
            return self.budget_bytes
        return max(0, min(self.budget_bytes, self._add_held(0) - (self._keep_free - free)))

    def _add_held(self, added: int) -> int:
        """Change the bytes held by all processes, and return them; counted from the disk if nobody has."""
        with _locked(os.path.join(self.folder, "held")) as file:
            text = os.pread(file, 32, 0)
            if text.strip().isdigit():
                held = max(0, int(text) + added)
            else:
                held = sum(e.size for e in (*_entries(self.folder), *_packs(self.folder)))
            os.pwrite(file, b"%-32d" % held, 0)
            return held

    def _set_held(self, held: int) -> None:
        with _locked(os.path.join(self.folder, "held")) as file:
            os.pwrite(file, b"%-32d" % held, 0)

    def _turn_off(self, error: OSError) -> None:
        with self._lock:
            if self.warning:
                return
            self.warning = (
                f"The chunk cache in {self.folder} is off: {error.strerror or error}. "
                "The build goes on and reads from the remote store. Free the disk, or give the cache less of it."
            )
        counted("cache off")
        log.warning("%s", self.warning)


def _object(url: str, version: str) -> str:
    return blake2b(f"{url}\0{version}".encode(), digest_size=16).hexdigest()


def _key(name: str, start: int, stop: int) -> bytes:
    return blake2b(f"{name}-{start}-{stop}".encode(), digest_size=16).digest()


def _checksum(name: str, start: int, data: bytes | memoryview) -> int:
    # seeded with what it is: bytes of another range in this place are as wrong as damaged ones
    return xxhash.xxh3_64_intdigest(data, seed=(int(name[:16], 16) ^ start) & (2**64 - 1))


def _range(file_name: str) -> tuple[int, int, str] | None:
    first, _, rest = file_name.partition("-")
    last, dash, label = rest.partition("-")
    return (int(first), int(last), label) if dash and first.isdigit() and last.isdigit() else None


def _entries(folder: str) -> Iterator[Entry]:
    """Files of single ranges; one that vanishes meanwhile is left out."""
    for top in _scan(os.path.join(folder, "objects")):
        for one in _scan(top.path):
            for file in _scan(one.path):
                found = _range(file.name)
                if found:
                    with suppress(OSError):
                        stat = file.stat()
                        yield Entry(stat.st_mtime, stat.st_size, file.path, found[2])


def _packs(folder: str) -> Iterator[Entry]:
    for file in _scan(os.path.join(folder, "packs")):
        if file.name.endswith(".pack"):
            with suppress(OSError):
                stat = file.stat()
                yield Entry(stat.st_mtime, stat.st_size, file.path, "")


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


@contextmanager
def _locked(path: str, *, wait: bool = True) -> Iterator[int]:
    """Hold a file's lock, against other processes and threads; gives -1 if it is taken and we don't wait."""
    import fcntl

    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield -1
            return
        yield file
    finally:
        os.close(file)
