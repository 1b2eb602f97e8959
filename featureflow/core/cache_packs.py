"""Many small byte ranges in few files: each process appends to a pack of its own, and reads those of all."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

import xxhash

#: A pack is closed at this size: what an eviction removes at once.
PACK_BYTES = 16 << 20
_HEADER = struct.Struct("<4sIQ16s16s")  # magic, bytes, checksum, key, label
_MAGIC = b"ffp1"
_NO_LABEL = bytes(16)
#: A pack counts as used now at most this often, in seconds.
_TOUCH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a look-up: data is None where the record was damaged."""

    data: bytes | None
    damaged: bool = False


@dataclass(slots=True)
class _Pack:
    """What this process knows of a pack: how far it has read its headers, and what they said."""

    read_to: int = 0
    keys: list[bytes] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    touched: float = 0.0


class Packs:
    """Small records by key (16 bytes), in append-only files that all processes of a host share.

    A record is written at once behind the last one, and holds its own length and checksum; so what a killed process
    has left unfinished is never taken for a record.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._places: dict[bytes, tuple[str, int, int, int]] = {}  # pack, offset, bytes, checksum
        self._packs: dict[str, _Pack] = {}
        self._own: tuple[int, str] | None = (
            None  # open descriptor and path of the pack that this process fills
        )
        self._process = os.getpid()
        self._looked = self._look_took = 0.0

    def get(self, key: bytes) -> Found | None:
        """Read a record; None if there is none."""
        place = self._places.get(key)
        if place is None:
            self._look()
            place = self._places.get(key)
            if place is None:
                return None
        path, offset, size, checksum = place
        try:
            with open(path, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), size, offset)
        except FileNotFoundError:  # evicted
            self.forget(path)
            return None
        except OSError:
            data = b""
        if len(data) != size or _checksum(key, data) != checksum:
            with self._lock:
                self._places.pop(key, None)
            return Found(None, damaged=True)
        self._touch(path)
        return Found(data)

    def put(self, key: bytes, label: str, data: bytes | memoryview) -> int:
        """Append a record unless it is there; returns the bytes added."""
        with self._lock:
            if key in self._places and os.path.exists(self._places[key][0]):
                return 0
            file, path = self._open()
            offset = os.fstat(file).st_size
            raw = bytes.fromhex(label) if label else _NO_LABEL
            header = _HEADER.pack(_MAGIC, len(data), _checksum(key, data), key, raw)
            if os.writev(file, [header, data]) != len(header) + len(data):
                self._close()  # what follows a torn record is never read
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._read_headers(path, offset + len(header) + len(data))
            return len(header) + len(data)

    def labels(self) -> dict[str, int]:
        """Bytes by label in all packs."""
        self._look(now=True)
        found: dict[str, int] = {}
        with self._lock:
            for pack in self._packs.values():
                for label, size in pack.labels.items():
                    found[label] = found.get(label, 0) + size
        return found

    def forget(self, path: str) -> dict[str, int]:
        """A pack is about to be removed, or gone: returns its bytes by label."""
        with self._lock:
            if path not in self._packs:
                with suppress(OSError):
                    self._read_headers(path, os.path.getsize(path))
            pack = self._packs.pop(path, _Pack())
            for key in pack.keys:
                if self._places.get(key, ("",))[0] == path:
                    del self._places[key]
            if self._own is not None and self._own[1] == path:
                self._close()
        return pack.labels

    def _open(self) -> tuple[int, str]:
        if self._own is not None:
            stat = os.fstat(self._own[0])
            # nobody has removed it, and this is no forked child, whose parent fills it
            if stat.st_nlink and stat.st_size < PACK_BYTES and self._process == os.getpid():
                return self._own
            self._close()
        self._process = os.getpid()
        path = os.path.join(self.folder, f"{uuid4().hex}.pack")
        self._own = (os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o644), path)
        return self._own

    def _close(self) -> None:
        if self._own is not None:
            os.close(self._own[0])
            self._own = None

    def _look(self, *, now: bool = False) -> None:
        """Read the headers that other processes have added, but spend at most a twentieth of the time on it."""
        with self._lock:
            begun = time.monotonic()
            if not now and begun - self._looked < 20 * self._look_took:
                return
            with suppress(OSError), os.scandir(self.folder) as files:
                for file in files:
                    pack = self._packs.get(file.path)
                    if file.name.endswith(".pack") and (pack is None or pack.read_to < PACK_BYTES):
                        with suppress(OSError):
                            self._read_headers(file.path, os.stat(file.path).st_size)
            self._looked = time.monotonic()
            self._look_took = self._looked - begun

    def _read_headers(self, path: str, size: int) -> None:
        pack = self._packs.setdefault(path, _Pack())
        if size <= pack.read_to:
            return
        with open(path, "rb", buffering=0) as file:
            for offset, length, checksum, key, label in _headers(file.fileno(), pack.read_to, size):
                self._places[key] = (path, offset, length, checksum)
                pack.keys.append(key)
                if label != _NO_LABEL:
                    text = label.hex()
                    pack.labels[text] = pack.labels.get(text, 0) + _HEADER.size + length
                pack.read_to = offset + length

    def _touch(self, path: str) -> None:
        pack = self._packs.get(path)
        now = time.monotonic()
        if pack is not None and (not pack.touched or now - pack.touched > _TOUCH_SECONDS):
            pack.touched = now
            with suppress(OSError):
                os.utime(path)


def _headers(file: int, offset: int, size: int) -> Iterator[tuple[int, int, int, bytes, bytes]]:
    """Whole records from an offset on; ends at one that is not whole."""
    while offset + _HEADER.size <= size:
        header = os.pread(file, _HEADER.size, offset)
        if len(header) < _HEADER.size:
            return
        magic, length, checksum, key, label = _HEADER.unpack(header)
        begin = offset + _HEADER.size
        if magic != _MAGIC or begin + length > size:
            return
        yield begin, length, checksum, key, label
        offset = begin + length


def _checksum(key: bytes, data: bytes | memoryview) -> int:
    return xxhash.xxh3_64_intdigest(data, seed=int.from_bytes(key[:8], "little"))
