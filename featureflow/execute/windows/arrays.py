"""NumPy to Arrow without a copy, and without pandas: ``pa.array`` of a NumPy array imports it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError


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


def as_stored(values: pa.Array, field: pa.Field) -> pa.Array:
    """Cast a column to the type that it is stored as.

    Raises
    ------
    ComputeError
        If a value does not fit: nothing is cut or rounded in silence.
    """
    if values.type == field.type:
        return values
    try:
        return values.cast(field.type)
    except pa.ArrowInvalid as error:
        raise ComputeError(
            f"column {field.name!r} is stored as {field.type} and has a value that does not fit: {error}. "
            "Cast it in the source's `columns:`."
        ) from error
