"""The end of a Parquet file: the footer that finds its pages, the digest of it, and the seal that it carries itself."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from featureflow.core import storage
from featureflow.core.errors import CorruptionError
from featureflow.core.remote_parquet import open_stored

_SEAL: Final = b'"seal": "'
_TAIL_BYTES: Final = 1 << 16


def footer_digest(data: memoryview, where: str) -> str:
    """Digest of the Parquet footer at the end of ``data`` (its length and magic included)."""
    if len(data) < 12 or bytes(data[-4:]) != b"PAR1":
        raise CorruptionError(f"{where}: not a complete Parquet file (its last four bytes are not PAR1).")
    (length,) = struct.unpack("<I", data[-8:-4])
    if length + 12 > len(data):
        raise CorruptionError(f"{where}: the footer's length is damaged ({length} bytes of {len(data)}).")
    return hashlib.blake2b(data[-(length + 8) :], digest_size=16).hexdigest()


def seal_of(tail: bytes) -> tuple[int, bytes]:
    """Where a footer's own digest is, counted from the file's end, and what it is: of the footer with zeros there.

    What a build that was stopped has finished is taken over by its footer, and nothing else knows its digest yet.
    """
    place = tail.rfind(_SEAL)
    if place < 0:
        return 0, b""
    place += len(_SEAL)
    length = struct.unpack("<I", tail[-8:-4])[0] + 8
    footer = tail[:place] + b"0" * 32 + tail[place + 32 :]
    return len(tail) - place, hashlib.blake2b(footer[-length:], digest_size=16).hexdigest().encode()


def read_footer(tail: bytes, where: str) -> pq.FileMetaData:
    """Parse the footer at the end of a file's last bytes."""
    footer_digest(memoryview(tail), where)
    try:
        return pq.read_metadata(pa.BufferReader(tail))
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError, and so is text that is no UTF-8
        raise CorruptionError(f"{where}: the Parquet footer is damaged: {error}") from error


def read_tail(url: str) -> tuple[bytes, int]:
    """The last bytes of a file, at least its whole footer, and the file's size."""
    if storage.is_local(url):
        with open(storage.local_path(url), "rb") as file:
            size = file.seek(0, 2)
            return tail_of(lambda start, stop: (file.seek(start), file.read(stop - start))[1], size), size
    opened = open_stored(url)
    return opened.tail, opened.size


def tail_of(read: Any, size: int) -> bytes:
    """The last bytes of ``size``, at least the whole footer; ``read`` gives those between two places."""
    tail: bytes = read(max(0, size - _TAIL_BYTES), size)
    length = struct.unpack("<I", tail[-8:-4])[0] + 8 if len(tail) >= 8 else 0
    if len(tail) < length <= size:
        tail = read(size - length, size)
    return tail
