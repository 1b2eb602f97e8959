"""Between the engine's event columns and the dense arrays that the kernels loop over.

Kernels never see nulls: rows that do not count are taken out once per column, and the window bounds are mapped onto
what is left. That keeps every kernel a plain loop over ``values[lo:hi]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.aggregation import EventColumn, Windows
from featureflow.core.errors import ComputeError
from featureflow.kernels.gather import gather_or_zero

_SIGN_FREE = np.int64(0x7FFF_FFFF_FFFF_FFFF)


@dataclass(slots=True)
class Dense:
    """The rows of a column that count, and the windows over them.

    Parameters
    ----------
    rows
        Positions of these rows in the original column; None when all of them count.
    lo, hi
        Windows as positions among the dense rows.
    size
        Number of dense rows.
    """

    rows: NDArray[np.int64] | None
    lo: NDArray[np.int64]
    hi: NDArray[np.int64]
    size: int
    _counts: NDArray[np.int64] | None = None

    @property
    def counts(self) -> NDArray[np.int64]:
        """Values in each window: its rows that count, by what each stands for."""
        if self._counts is None:
            self._counts = self.hi - self.lo
        return self._counts


def dense(events: EventColumn, windows: Windows) -> Dense:
    """Map windows onto the rows of ``events`` that count; shared through ``events.cache``."""
    cache = events.cache
    if "rows" not in cache:
        if bool(events.valid.all()):
            cache["rows"], cache["rank"] = None, None
        else:
            rank = np.zeros(events.valid.size + 1, np.int64)
            np.cumsum(events.valid, out=rank[1:])
            cache["rows"], cache["rank"] = np.flatnonzero(events.valid), rank
    rows, rank = cache["rows"], cache["rank"]
    held: tuple[Windows, Dense] | None = cache.get("dense")
    # keyed by the object itself, which the cache keeps alive: an id alone could be reused
    if held is None or held[0] is not windows:
        if rows is None:
            found = Dense(None, windows.lo, windows.hi, events.valid.size)
        else:
            found = Dense(rows, rank[windows.lo], rank[windows.hi], rows.size)
        if events.weights is not None:
            total = np.zeros(found.size + 1, np.int64)
            np.cumsum(events.weights if rows is None else events.weights[rows], out=total[1:])
            found = Dense(rows, found.lo, found.hi, found.size, total[found.hi] - total[found.lo])
        held = (windows, found)
        cache["dense"] = held
    return held[1]


def dense_values(events: EventColumn, selected: Dense) -> NDArray[Any]:
    """Values of the rows that count."""
    if events.values is None:
        raise TypeError("rows without a column have no values; only count works on them.")
    if selected.rows is None:
        return events.values
    if "values" not in events.cache:
        events.cache["values"] = events.values[selected.rows]
    values: NDArray[Any] = events.cache["values"]
    return values


def clean_values(events: EventColumn, selected: Dense) -> NDArray[Any]:
    """:func:`dense_values` with -0.0 as 0.0.

    Equal values then are equal bytes, whichever of a window's rows stands for them.
    """
    values = dense_values(events, selected)
    return values + 0.0 if values.dtype == np.float64 else values


def dense_times(events: EventColumn, selected: Dense) -> NDArray[np.int64]:
    """Times of the rows that count."""
    if selected.rows is None:
        return events.times
    if "times" not in events.cache:
        events.cache["times"] = events.times[selected.rows]
    times: NDArray[np.int64] = events.cache["times"]
    return times


def order_keys(values: NDArray[Any]) -> NDArray[np.int64]:
    """Integers that compare as the values do, so that one compiled kernel serves every type.

    ``-0.0`` and ``0.0`` get the same key; infinities sort at the ends.
    """
    if values.dtype != np.float64:
        return values.astype(np.int64, copy=False)
    bits = (values + 0.0).view(np.int64)  # -0.0 + 0.0 is 0.0
    return bits ^ ((bits >> 63) & _SIGN_FREE)


def dense_keys(events: EventColumn, selected: Dense) -> NDArray[np.int64]:
    """Order keys of the rows that count."""
    if "keys" not in events.cache:
        events.cache["keys"] = order_keys(dense_values(events, selected))
    keys: NDArray[np.int64] = events.cache["keys"]
    return keys


def _bitmap(present: NDArray[np.bool_]) -> tuple[pa.Buffer | None, int]:
    missing = int(present.size - np.count_nonzero(present))
    if missing == 0:
        return None, 0
    return pa.py_buffer(np.packbits(present, bitorder="little")), missing


def fixed_width(values: NDArray[Any], present: NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """Wrap a buffer of physical values as an Arrow array; where ``present`` is False it is null.

    The bytes under nulls are set to zero, so that equal results are equal bytes.
    """
    if pa.types.is_boolean(kind):
        data = np.packbits((values.astype(np.bool_)) & present, bitorder="little")
    else:
        if pa.types.is_floating(kind) or pa.types.is_integer(kind):
            dtype = np.dtype(kind.to_pandas_dtype())
        else:  # dates, times, timestamps, durations: an integer of the same width
            dtype = np.dtype(f"int{kind.bit_width}")
        data = values.astype(dtype, copy=False)
    bitmap, missing = _bitmap(present)
    if missing and not pa.types.is_boolean(kind):
        data = np.where(present, data, np.zeros((), data.dtype))
    return pa.Array.from_buffers(
        kind, values.size, [bitmap, pa.py_buffer(np.ascontiguousarray(data))], missing
    )


def counts_array(counts: NDArray[np.int64]) -> pa.Array:
    """Wrap counts, none of them null (``pa.array`` of a NumPy array imports pandas)."""
    return pa.Array.from_buffers(
        pa.int64(), counts.size, [None, pa.py_buffer(np.ascontiguousarray(counts, np.int64))]
    )


def from_physical(
    values: NDArray[Any], present: NDArray[np.bool_], kind: pa.DataType, categories: pa.Array | None
) -> pa.Array:
    """Turn physical values (codes, for strings) back into an Arrow array of the column's type."""
    if categories is None:
        return fixed_width(values, present, kind)
    codes = fixed_width(values, present, pa.int32())
    if pa.types.is_string_view(categories.type) or pa.types.is_binary_view(categories.type):
        # Arrow can't gather views yet
        plain = pa.large_string() if pa.types.is_string_view(categories.type) else pa.large_binary()
        categories = categories.cast(plain)
    taken = categories.take(codes)
    return taken if taken.type == kind else taken.cast(kind)


def column_type(events: EventColumn) -> pa.DataType:
    """Type of the column.

    Raises
    ------
    TypeError
        If there is no column, only rows to count.
    """
    if events.type is None:
        raise TypeError("rows without a column have no type; only count works on them.")
    return events.type


def take(events: EventColumn, values: NDArray[Any], positions: NDArray[np.int64]) -> pa.Array:
    """Values at these positions, as the column's own type; null where a position is negative."""
    present = positions >= 0
    kind = column_type(events)
    if values.dtype.itemsize == 8 and events.categories is None and kind in (pa.float64(), pa.int64()):
        data = gather_or_zero(values, positions)
        bitmap, missing = _bitmap(present)
        return pa.Array.from_buffers(kind, positions.size, [bitmap, pa.py_buffer(data)], missing)
    # without rows every position is negative, and there is nothing to index
    taken = values[np.where(present, positions, 0)] if values.size else np.zeros(positions.size, values.dtype)
    return from_physical(taken, present, column_type(events), events.categories)


def _nesting(offsets: NDArray[np.int64]) -> tuple[list[pa.Buffer | None], int]:
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ComputeError(
            f"{int(offsets[-1])} elements in the lists of one partition; Arrow's limit is 2147483647. "
            "Use a smaller k or window, or more buckets."
        )
    bitmap, missing = _bitmap(np.diff(offsets) > 0)
    return [bitmap, pa.py_buffer(offsets.astype(np.int32))], missing


def lists(
    events: EventColumn, values: NDArray[Any], offsets: NDArray[np.int64], positions: NDArray[np.int64]
) -> pa.Array:
    """Lists of values: list ``i`` holds ``positions[offsets[i]:offsets[i + 1]]``; an empty one is null."""
    kind = column_type(events)
    flat = from_physical(values[positions], np.ones(positions.size, np.bool_), kind, events.categories)
    buffers, missing = _nesting(offsets)
    return pa.Array.from_buffers(pa.list_(kind), offsets.size - 1, buffers, missing, children=[flat])


def maps(
    events: EventColumn,
    values: NDArray[Any],
    offsets: NDArray[np.int64],
    positions: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> pa.Array:
    """Maps from values to counts, laid out as in :func:`lists`; an empty one is null."""
    kind = pa.map_(column_type(events), pa.int64())
    keys = from_physical(
        values[positions], np.ones(positions.size, np.bool_), kind.key_type, events.categories
    )
    fields = [pa.field("key", kind.key_type, nullable=False), pa.field("value", pa.int64())]
    entries = pa.StructArray.from_arrays([keys, counts_array(counts)], fields=fields)
    buffers, missing = _nesting(offsets)
    return pa.Array.from_buffers(kind, offsets.size - 1, buffers, missing, children=[entries])
