"""What an aggregation must implement.

A window is a pair of index arrays: on one partition sorted by (keys, time, order), the window of query ``i`` is the
half-open slice ``[lo[i], hi[i])`` of the events. Both arrays never decrease. An aggregation is a function of one
column of events and such windows; it never sees keys, files or Dask.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(slots=True)
class EventColumn:
    """One column of the events of one partition, as the kernels want it.

    Parameters
    ----------
    values
        ``int64``, ``float64``, ``bool`` or ``int32``; shape (n,). What ``type`` says decides how they are read:
        integers and unsigned ones up to 63 bits, dates, timestamps and durations come as int64 (their physical
        value), strings and binary as int32 codes into ``categories``, which is sorted ascending, so that codes
        compare as the strings do. Where ``valid`` is False the value is arbitrary. None for ``count`` of rows.
    valid
        Shape (n,), bool: the row counts (not null, not NaN, passes the entry's ``where`` and ``by`` value).
    times
        Event times, microseconds since the epoch in UTC; shape (n,), int64; never decreasing within a key.
    type
        Arrow type of the input column; None for ``count`` of rows.
    categories
        The distinct strings of the column, sorted ascending by bytes; None otherwise.
    other
        Second column, for aggregations with two (``argmax``); same rows.
    cache
        Work that several windows or aggregations share (exact prefix sums, ranks), by name.
    weights
        How many values each row stands for, int64; None where each is one. Only ``count``, ``sum`` and ``mean`` are
        given such rows: their values add up to the sum of what they stand for.
    """

    values: NDArray[Any] | None
    valid: NDArray[np.bool_]
    times: NDArray[np.int64]
    type: pa.DataType | None
    categories: pa.Array | None = None
    other: EventColumn | None = None
    cache: dict[str, Any] = field(default_factory=dict)
    weights: NDArray[np.int64] | None = None


@dataclass(slots=True)
class Windows:
    """Windows of the query rows over the events.

    Parameters
    ----------
    lo, hi
        int64, shape (m,), never decreasing; ``lo[i] <= hi[i]``; the window is ``events[lo[i]:hi[i]]``.
    at
        Query times in microseconds UTC, int64, shape (m,).
    length
        Window length in microseconds; None for ``lifetime``.
    """

    lo: NDArray[np.int64]
    hi: NDArray[np.int64]
    at: NDArray[np.int64]
    length: int | None = None


@runtime_checkable
class Aggregation(Protocol):
    """A named aggregation with its parameters as frozen dataclass fields.

    ``compute`` is a pure function of the window's *content*: the result for a query must not depend, not even in
    its last bit, on events outside ``[lo, hi)``, on where the arrays start, or on the order of events with equal
    time that are equal in every column. That is what makes a build identical for any slicing of the data.
    """

    name: ClassVar[str]
    #: False only where nothing in the window gives a value instead of null (``count`` and ``count_distinct``: 0)
    null_when_empty: ClassVar[bool]

    def label(self) -> str:
        """Text for ``{op}`` in column names: ``sum``, ``last_k``, ``p95`` for ``quantile(q=0.95)``."""

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """Type of the result for an input column of this type.

        Raises
        ------
        TypeError
            If the aggregation does not accept the type; the message says which types it takes.
        """

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Evaluate for every query; returns ``len(windows.lo)`` values of ``output_type(events.type)``."""
