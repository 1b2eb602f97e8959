"""The spine: its rows in order, numbered; and the same rows by keys, as the questions of a join."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from featureflow.core.expressions import compile_condition
from featureflow.core.fingerprints import fingerprint
from featureflow.execute.exchange.exchange_file import (
    ROW,
    Chunk,
    RowReader,
    bucket_of,
    bucket_rows,
    exchange_path,
    finished_rows,
    plain_arrow,
    read_positions,
    write_buckets,
)
from featureflow.execute.exchange.fetching import read_bucket
from featureflow.execute.windows.arrays import integers
from featureflow.execute.windows.sorted_rows import NO_TIME, column, microseconds

#: Column of a question that holds the time of its row, microseconds; null where the row has none.
TIME = "__time"


@dataclass(frozen=True, slots=True)
class SpineReader:
    """Reads chunks of a spine: some of its columns, the rows for which ``where`` is true, in the chunk's order."""

    reader: RowReader
    columns: tuple[str, ...]
    schema: dict[str, pl.DataType]
    where: str | None
    time: str | None
    folder: str

    def path(self, drop_name: str) -> str:
        """Where the rows of a chunk are, or will be; ``drop_name`` names the chunk and its dropped rows."""
        name = fingerprint(["spine", self.reader.id, drop_name, list(self.columns), self.where])
        return exchange_path(self.folder, name)

    def write_empty(self) -> str:
        """Write a file without rows, for a spine without files."""
        path = self.path("nothing")
        table = plain_arrow(pl.DataFrame(schema={name: self.schema[name] for name in self.columns}))
        write_buckets(table, np.zeros(0, np.int64), 1, path)
        return path


def read_spine(
    job: SpineReader, chunk: Chunk, path: str, drop_path: str | None
) -> tuple[int, int | None, int | None]:
    """Write a chunk's rows of the spine to scratch, unless they are there.

    Returns
    -------
    tuple
        How many rows there are, and their earliest and latest time.
    """
    found = finished_rows(path)
    if found is None:
        _write_rows(job, chunk, path, drop_path)
        found = int(bucket_rows(path).sum())
    if job.time is None or not found:
        return found, None, None
    times = microseconds(column(spine_rows((SpineFile(path, 0, found),), 0, found), job.time))
    times = times[times != NO_TIME]
    return (found, int(times.min()), int(times.max())) if len(times) else (found, None, None)


def _write_rows(job: SpineReader, chunk: Chunk, path: str, drop_path: str | None) -> None:
    condition = None if job.where is None else compile_condition(job.where, job.schema)
    needed = tuple(dict.fromkeys((*job.columns, *(condition.columns if condition else ()))))
    frame = job.reader.read(chunk, needed, row_position=ROW if drop_path else None)
    if drop_path:
        frame = frame.filter(~np.isin(frame[ROW].to_numpy(), read_positions(drop_path)))
    if condition is not None:
        frame = frame.filter(condition.mask(frame))
    table = plain_arrow(frame.select(job.columns))
    write_buckets(table, np.zeros(table.num_rows, np.int64), 1, path)


@dataclass(frozen=True, slots=True)
class SpineFile:
    """Rows of the spine on scratch: ``first`` is the number of the first one within the whole spine."""

    path: str
    first: int
    rows: int


def spine_rows(files: tuple[SpineFile, ...], start: int, stop: int) -> pa.Table:
    """Rows ``start <= number < stop`` of the spine, in order; mapped into memory, not copied."""
    parts = []
    for file in files:
        low, high = max(start, file.first), min(stop, file.first + file.rows)
        if low < high:
            (batch,) = read_bucket((file.path,), 0)
            table = pa.Table.from_batches([batch.replace_schema_metadata(None)])
            parts.append(table.slice(low - file.first, high - low))
    if not parts:
        (batch,) = read_bucket((files[0].path,), 0)
        return pa.Table.from_batches([batch.replace_schema_metadata(None)]).slice(0, 0)
    return pa.concat_tables(parts)


@dataclass(frozen=True, slots=True)
class Routing:
    """How the spine's rows are sent to buckets: by which columns, into how many, and what is their time."""

    keys: tuple[str, ...]
    time: str | None
    n_buckets: int
    folder: str

    def path(self, file: SpineFile) -> str:
        """Where a spine file's rows by bucket are, or will be."""
        name = fingerprint(["routed", file.path, file.first, list(self.keys), self.time, self.n_buckets])
        return exchange_path(self.folder, name)


def route_spine(job: Routing, file: SpineFile, path: str) -> int:
    """Write keys, time and number of a spine file's rows, bucket by bucket; returns how many there are."""
    found = finished_rows(path)
    if found is not None:
        return found
    table = spine_rows((file,), file.first, file.first + file.rows).combine_chunks()
    times = np.zeros(file.rows, np.int64) if job.time is None else microseconds(column(table, job.time))
    routed = table.select(list(job.keys))
    buckets = bucket_of(routed, job.keys, job.n_buckets)
    routed = routed.rename_columns([f"k{i}" for i in range(len(job.keys))])
    routed = routed.append_column(TIME, pa.array(times))
    routed = routed.append_column(ROW, integers(np.arange(file.first, file.first + file.rows), pa.int64()))
    write_buckets(routed, buckets, job.n_buckets, path)
    return file.rows
