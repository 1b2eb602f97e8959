"""Memory that a thread uses again for its next task, instead of new pages from the system each time."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class KeptMemory(threading.local):
    """Arrays by name, each thread's its own: the next of a name lies where the one before did.

    Large arrays are given back to the system when they are freed, and zeroed when they are asked for again: for arrays
    of 100 MB that takes longer than to fill them. What is kept goes when this object does. It pickles empty.
    """

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array that is not filled; the array of this name that was given before is overwritten by it."""
        size = prod(shape) * dtype.itemsize
        kept = self._kept.get(name)
        if kept is None or kept.size < size:
            self._kept.pop(name, None)
            kept = self._kept[name] = np.empty(size, np.uint8)
        return kept[:size].view(dtype).reshape(shape)

    def __reduce__(self) -> tuple[type[KeptMemory], tuple[()]]:
        """Where it arrives nothing is kept yet."""
        return KeptMemory, ()
