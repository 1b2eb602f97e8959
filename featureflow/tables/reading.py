"""Reading the files of one version: only those that can hold wanted rows, every byte of them verified.

Parquet pages carry checksums, which Arrow verifies here on every read; the footers are verified against the digests
in the version's record. What fails is an error that names the file. Engines that open the files themselves (Polars,
DuckDB, pandas) do not verify.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from featureflow.core import storage
from featureflow.core.errors import CorruptionError, TableError
from featureflow.core.remote_parquet import RemoteParquet, open_stored
from featureflow.tables import layout
from featureflow.tables.parquet_files import StagedFile
from featureflow.tables.parquet_footer import footer_digest, read_tail
from featureflow.tables.pruning import Comparison, can_hold, to_arrow_filter

_FORMAT = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


@dataclass(frozen=True, slots=True)
class Scan:
    """What to read: picklable, so that it can go into tasks.

    Parameters
    ----------
    table_url, schema, partition_column, partition
        The table; ``schema`` without the storage column.
    files
        Candidates, in the order in which their rows come.
    comparisons
        Conjunction that every wanted row fulfils; files and row groups that can't hold such a row are skipped, other
        rows are filtered out.
    """

    table_url: str
    schema: pa.Schema
    partition: str
    partition_column: str | None
    files: tuple[StagedFile, ...]
    comparisons: tuple[Comparison, ...] = ()

    def pruned(self) -> tuple[StagedFile, ...]:
        """Files that can hold a wanted row, by their statistics in the version's record."""
        if not self.comparisons:
            return self.files
        return tuple(f for f in self.files if can_hold(json.loads(f.delta_stats), self.comparisons))

    def tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """Read file by file, a few ahead, in order.

        Raises
        ------
        CorruptionError
            If a file is missing, or a byte of what is read is not what was written; names the file.
        """
        return _ahead(self.pruned(), lambda file: self.read(file, columns))

    def read(self, file: StagedFile, columns: list[str]) -> pa.Table:
        """Read the wanted rows and columns of one file."""
        where = storage.join(self.table_url, file.path)
        remote = self._check_footer(file, where)
        stored = [name for name in columns if name != self.partition_column]
        filter_ = to_arrow_filter(self.comparisons, self.schema)
        try:
            if not (stored or filter_ is not None):
                table = pa.table({}).select([])
            elif remote is not None:
                compared = list({comparison.column for comparison in self.comparisons})
                table = remote.scan(self.schema, stored, filter_, compared)
            else:
                fragment = _FORMAT.make_fragment(storage.local_path(where), pafs.LocalFileSystem())
                table = fragment.to_table(
                    schema=self.schema, columns=stored, filter=filter_, use_threads=False
                )
            rows = table.num_rows if stored or filter_ is not None else file.rows
        except (OSError, pa.ArrowException) as error:
            raise CorruptionError(f"{where}: can't be read as it was written: {error}") from error
        if filter_ is None and rows != file.rows:
            raise CorruptionError(f"{where}: holds {rows} rows instead of {file.rows}.")
        return self._with_slice(table, file, columns, rows)

    def _check_footer(self, file: StagedFile, where: str) -> RemoteParquet | None:
        """Refuse another file than the one that was published; gives a remote one, opened."""
        try:
            remote = None if storage.is_local(where) else open_stored(where)
            tail, size = read_tail(where) if remote is None else (remote.tail, remote.size)
        except FileNotFoundError as error:
            raise CorruptionError(f"{where}: is missing, though a version lists it.") from error
        if size != file.size or footer_digest(memoryview(tail), where) != file.footer_digest:
            raise CorruptionError(
                f"{where}: is not the file that was published ({size} bytes, {file.size} expected)."
            )
        return remote

    def _with_slice(self, table: pa.Table, file: StagedFile, columns: list[str], rows: int) -> pa.Table:
        if self.partition_column is None or self.partition_column not in columns:
            return table
        value: Any = file.slice
        if value is not None and self.partition == "day":
            value = date.fromisoformat(value)
        constant = pa.repeat(pa.scalar(value, layout.partition_type(self.partition)), rows)
        arrays = [constant if name == self.partition_column else table.column(name) for name in columns]
        return pa.table(arrays, names=columns)


def _ahead(files: tuple[StagedFile, ...], read: Callable[[StagedFile], pa.Table]) -> Iterator[pa.Table]:
    """Map in order with a bounded number of files in memory that nobody has asked for yet."""
    workers = min(8, os.cpu_count() or 1)
    waiting: deque[Future[pa.Table]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="featureflow-read") as pool:
        try:
            for file in files:
                waiting.append(pool.submit(read, file))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def time_bound(value: str | date | datetime | None, name: str) -> datetime | None:
    """One end of a time range as a UTC instant; text and dates without a zone are UTC.

    Raises
    ------
    TableError
        If the text is not a time.
    """
    from featureflow.tables.pruning import instant

    if value is None:
        return None
    try:
        return instant(value)
    except (ValueError, TypeError) as error:
        raise TableError(
            f"time {name}: {value!r} is not a time ({error}). Write '2026-01-01' or a datetime."
        ) from None
