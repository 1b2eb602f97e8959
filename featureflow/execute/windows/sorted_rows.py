"""Rows of one bucket, sorted by (keys, time, order): what kernels work on.

The order of rows with equal keys and time is: sequence, created, then a hash of the row (nulls first), so that the
same rows in other files or another order of files give the same table to the byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.core.meter import spending
from featureflow.execute.windows.keycodes import encode
from featureflow.kernels.gather import take_rows
from featureflow.kernels.hashing import hash_rows
from featureflow.kernels.ordering import group_order, offsets_from_codes, runs_of_ties

#: Time of a row without one; it sorts before all others and takes part in no window.
NO_TIME = np.iinfo(np.int64).min


@dataclass(slots=True)
class SortedRows:
    """Rows of a bucket in the order of their keys, times and tie-breakers.

    Parameters
    ----------
    table
        All rows in order: first those without a key or a time (``n_apart`` of them), then the events.
    codes, times
        Key code and time in microseconds of each event; int64, shape (n_events,).
    offsets
        Start of each key's events, shape (n_keys + 1,).
    """

    table: pa.Table
    n_apart: int
    codes: NDArray[np.int64]
    times: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def events(self) -> pa.Table:
        """Rows with a key and a time."""
        return self.table.slice(self.n_apart)

    @property
    def apart(self) -> pa.Table:
        """Rows without a key or a time: they keep their row with null features."""
        return self.table.slice(0, self.n_apart)


def concatenate(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Join batches into a table of one chunk a column."""
    return pa.Table.from_batches(
        [batch.replace_schema_metadata(None) for batch in batches], schema
    ).combine_chunks()


def column(table: pa.Table, name: str) -> pa.Array:
    """Give a column of a table as one array."""
    chunked = table.column(name)
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    return chunked.combine_chunks() if chunked.num_chunks else pa.array([], chunked.type)


def microseconds(array: pa.Array) -> NDArray[np.int64]:
    """Times as int64 microseconds, `NO_TIME` for null."""
    integers = array.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return np.asarray(integers.fill_null(NO_TIME)) if integers.null_count else np.asarray(integers)


@spending("compute:sort")
def sort_rows(
    table: pa.Table,
    keys: tuple[str, ...],
    time: str | None,
    order: tuple[str, ...] = (),
    *,
    aside: tuple[str, ...] = (),
) -> SortedRows:
    """Sort rows by keys, time and tie-breakers.

    ``aside`` names columns that go along but do not belong to the rows: they break no tie.

    Cost: O(n) for the sort by keys and time, O(t log t) for the t rows that are tied.
    """
    table = table.combine_chunks()
    codes, _, n_keys = encode([column(table, key) for key in keys])
    times = microseconds(column(table, time)) if time else np.zeros(table.num_rows, np.int64)
    timeless = times == NO_TIME
    apart = (codes < 0) | timeless
    sortable = times
    if apart.any():
        codes = np.where(apart, -1, codes)
        # rows without a time sort before all others, but not far: a range of times that fits 63 bits sorts fast
        earliest = int(times.min(where=~timeless, initial=np.iinfo(np.int64).max))
        sortable = np.where(timeless, max(earliest - 1_000_000, NO_TIME), times)
    permutation = group_order(codes + 1, sortable).astype(np.int64, copy=False)
    codes, sortable = codes[permutation], sortable[permutation]
    permutation = _break_ties(table.drop_columns(list(aside)), permutation, codes, sortable, order)
    times = times[permutation]
    n_apart = int(np.searchsorted(codes, 0))
    table = take_rows(table, permutation)
    offsets = offsets_from_codes(codes[n_apart:], n_keys)
    return SortedRows(table, n_apart, codes[n_apart:], times[n_apart:], offsets)


def _break_ties(
    table: pa.Table,
    permutation: NDArray[np.int64],
    codes: NDArray[np.int64],
    times: NDArray[np.int64],
    order: tuple[str, ...],
) -> NDArray[np.int64]:
    starts, stops = runs_of_ties(codes, times)
    if len(starts) == 0:
        return permutation
    lengths = stops - starts
    places = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths) + np.arange(
        lengths.sum()
    )
    run = np.repeat(np.arange(len(starts)), lengths)
    tied = permutation[places]
    rows = take_rows(table, tied)
    ranks = [rank(column(rows, name)) for name in reversed(order)]
    settled = np.lexsort((*signs(rows), hash_rows(rows), *ranks, run))
    result = permutation.copy()
    result[places] = tied[settled]
    return result


def rank(array: pa.Array) -> NDArray[np.int64]:
    """Rank values ascending from 1, equal values alike; 0 for null."""
    ranks = np.asarray(pc.rank(array, sort_keys="ascending", tiebreaker="dense")).astype(np.int64)
    return np.where(np.asarray(array.is_null()), 0, ranks) if array.null_count else ranks


def signs(rows: pa.Table) -> list[NDArray[np.bool_]]:
    """Sign bits of the float columns: a row hash takes -0.0 for 0.0, but the result's bytes differ."""
    floats = [column(rows, field.name) for field in rows.schema if pa.types.is_floating(field.type)]
    return [np.signbit(values.fill_null(0).to_numpy(zero_copy_only=False)) for values in floats]
