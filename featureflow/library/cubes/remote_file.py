"""A remote file as a file object: what a library that wants one reads, in few and large requests."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from featureflow.core.raw_files import RawFile
from featureflow.core.remote import fetch_ranges

#: smaller files are fetched whole: one request costs less than finding one's way through their parts
WHOLE = 16 << 20
_BLOCK = 2 << 20
_BLOCKS = 16


def open_remote(file: RawFile) -> io.BufferedIOBase | RemoteFile:
    """A file object of a remote file; SourceError once it is another one than when it was listed."""
    if file.size <= WHOLE:
        return WholeFile(fetch_ranges(file.path, file.version, [(0, file.size)])[0])
    return RemoteFile(file)


class WholeFile(io.BytesIO):
    """All bytes of a file; what asks is told that they are not to be written, as of a file on a disk."""

    def writable(self) -> bool:
        """It is not."""
        return False


class RemoteFile(io.RawIOBase):
    """Reads blocks when they are needed and keeps the last ones; long reads go past them."""

    def __init__(self, file: RawFile) -> None:
        super().__init__()
        self._file, self._at = file, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read bytes from here."""
        stop = self._file.size if size < 0 else min(self._at + size, self._file.size)
        start, self._at = self._at, max(self._at, stop)
        if stop <= start:
            return b""
        with self._lock:
            return self._between(start, stop)

    def readinto(self, buffer: object) -> int:
        """Read into memory."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _between(self, start: int, stop: int) -> bytes:
        if stop - start > _BLOCK:
            return fetch_ranges(self._file.path, self._file.version, [(start, stop)])[0]
        parts = [self._block(number) for number in range(start // _BLOCK, (stop - 1) // _BLOCK + 1)]
        first = start // _BLOCK * _BLOCK
        return b"".join(parts)[start - first : stop - first]

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            ends = number * _BLOCK, min((number + 1) * _BLOCK, self._file.size)
            self._blocks[number] = fetch_ranges(self._file.path, self._file.version, [ends])[0]
            while len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
