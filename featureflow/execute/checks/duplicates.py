"""Rows that repeat earlier ones (``deduplicate:``, ``unique`` checks): found exactly, over all files.

An exchange by the unique columns brings equal rows together; one task a bucket keeps the row that was first known and
lists the others by chunk and position; the lists, one a chunk, are what the reader drops. A list is named by its
content, so a chunk's exchange file stays valid for as long as the same of its rows are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending
from featureflow.core.storage import exists, join
from featureflow.execute.exchange.exchange_file import ROW, ROW_HASH, read_positions, write_positions
from featureflow.execute.exchange.fetching import read_slices
from featureflow.execute.exchange.manifest import read_manifest
from featureflow.execute.windows.keycodes import encode
from featureflow.execute.windows.sorted_rows import column, microseconds


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Repeated rows of one bucket: chunk (by its place in the list of files) and position in the chunk."""

    chunk: NDArray[np.int64]
    row: NDArray[np.int64]


@spending("compute:duplicates")
def find_duplicates(
    manifest: str,
    bucket: int,
    unique: tuple[str, ...],
    created: str | None,
    sequence: str | None,
    time: str | None,
) -> Duplicates:
    """Find the rows of a bucket that are not the first known of their unique value.

    ``manifest`` lists the exchange files in the order of the chunks.

    Order: created, sequence, time (nulls last: a row of unknown time is not the first), then the row's hash.
    Nulls: a null in a unique column never equals another; such rows are never duplicates.
    """
    batches = read_slices(manifest, [name for name, *_ in read_manifest(manifest)], bucket)
    table = pa.Table.from_batches([batch.replace_schema_metadata(None) for batch in batches]).combine_chunks()
    chunk = np.repeat(np.arange(len(batches)), [batch.num_rows for batch in batches])
    codes, _, _ = encode([column(table, name) for name in unique])
    ranks = [_rank_last(column(table, name)) for name in (time, sequence, created) if name]
    row = column(table, ROW).cast(pa.int64()).to_numpy(zero_copy_only=False)
    order = np.lexsort((row, chunk, column(table, ROW_HASH).to_numpy(zero_copy_only=False), *ranks, codes))
    ordered = codes[order]
    repeated = np.zeros(len(order), np.bool_)
    repeated[1:] = (ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0)
    found = order[repeated]
    return Duplicates(chunk[found], row[found])


def _rank_last(array: pa.Array) -> NDArray[np.int64]:
    if pa.types.is_timestamp(array.type):
        times = microseconds(array)
        missing = np.asarray(array.is_null())
        return np.where(missing, np.iinfo(np.int64).max, times)
    ranks = np.asarray(pc.rank(array, sort_keys="ascending", tiebreaker="dense")).astype(np.int64)
    return np.where(np.asarray(array.is_null()), np.iinfo(np.int64).max, ranks)


def write_drop_lists(found: list[Duplicates], n_chunks: int, folder: str) -> list[str | None]:
    """Write, for each chunk, the positions of its repeated rows; None for a chunk without any."""
    chunks = np.concatenate([one.chunk for one in found]) if found else np.empty(0, np.int64)
    rows = np.concatenate([one.row for one in found]) if found else np.empty(0, np.int64)
    order = np.lexsort((rows, chunks))
    chunks, rows = chunks[order], rows[order]
    bounds = np.searchsorted(chunks, np.arange(n_chunks + 1))
    paths: list[str | None] = []
    for chunk in range(n_chunks):
        positions = rows[bounds[chunk] : bounds[chunk + 1]].astype(np.uint32)
        if len(positions) == 0:
            paths.append(None)
            continue
        paths.append(_write(positions, folder))
    return paths


def joined(first: str, second: str, folder: str) -> str:
    """Write the positions of two lists of one chunk as one; returns its path."""
    return _write(np.union1d(read_positions(first), read_positions(second)).astype(np.uint32), folder)


def _write(positions: NDArray[np.uint32], folder: str) -> str:
    path = join(folder, f"{fingerprint(positions.tobytes().hex())}.npy")
    if not exists(path):
        write_positions(path, positions)
    return path
