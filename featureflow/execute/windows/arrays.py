"""NumPy to Arrow without a copy, and without pandas: ``pa.array`` of a NumPy array imports it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def integers(values: NDArray[np.int64], kind: pa.DataType | None = None) -> pa.Array:
    """Wrap 64-bit integers as Arrow's int64, or as another type of 64 bits such as a timestamp."""
    return pa.Array.from_buffers(
        kind or pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values, np.int64))]
    )


def booleans(values: NDArray[np.bool_]) -> pa.Array:
    """Pack booleans."""
    return pa.Array.from_buffers(
        pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))]
    )


def positions(values: NDArray[np.int64]) -> pa.Array:
    """Row positions for ``take``; a negative one is null, and takes null."""
    missing = values < 0
    n_missing = int(np.count_nonzero(missing))
    bitmap = pa.py_buffer(np.packbits(~missing, bitorder="little")) if n_missing else None
    clean: Any = np.where(missing, 0, values) if n_missing else values
    return pa.Array.from_buffers(
        pa.int64(), len(values), [bitmap, pa.py_buffer(np.ascontiguousarray(clean, np.int64))], n_missing
    )
