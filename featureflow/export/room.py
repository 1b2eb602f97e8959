"""One large piece of memory for all columns of a task, instead of one from the system for each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.execute.grids.kept_memory import KeptMemory

_ALIGNED = 64


class Room:
    """Memory for arrays that are made one after the other and dropped together.

    NumPy asks the system for huge pages where it takes 4 MiB or more at once. Columns of 1 MB each come in pages of
    4 kB, and half of the time of gathering them went into the system's faults.

    Parameters
    ----------
    size
        Bytes; what does not fit any more gets memory of its own.
    kept
        Where the memory comes from; what the same thread had from there before is overwritten.
    """

    def __init__(self, size: int, kept: KeptMemory | None = None) -> None:
        self._bytes = (kept or KeptMemory()).array("room", (size,), np.dtype(np.uint8))
        self._used = 0

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array that is not filled yet."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if self._used + size > self._bytes.size:
            return np.empty(shape, dtype)
        found = self._bytes[self._used : self._used + size].view(dtype).reshape(shape)
        self._used += -(-size // _ALIGNED) * _ALIGNED
        return found


def take(values: NDArray[Any], order: NDArray[np.int64], room: Room | None) -> NDArray[Any]:
    """Take rows by position, all of them valid, into a room."""
    if room is None:
        return values.take(order, axis=0)
    out = room.array((order.size, *values.shape[1:]), values.dtype)
    # clip: NumPy writes into `out` through a copy where it might have to stop with an error
    return values.take(order, axis=0, out=out, mode="clip") if len(values) else out
