"""A sink that keeps the buffers that a writer hands over, so that they are copied when they reach a file only."""

from __future__ import annotations

from typing import Any


class Pieces:
    """A file to write to; ``buffers`` in order are its content.

    pyarrow hands over the very buffers of a table where a format stores them as they are: writing 64 MB of floats as
    Arrow IPC takes microseconds. The table must live as long as the buffers, which hold it.
    """

    def __init__(self) -> None:
        self.buffers: list[Any] = []
        self.closed = False
        self._size = 0

    def write(self, buffer: Any) -> int:
        """Keep a buffer."""
        size = memoryview(buffer).nbytes
        self.buffers.append(buffer)
        self._size += size
        return size

    def tell(self) -> int:
        """Bytes so far."""
        return self._size

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Take no more."""
        self.closed = True
