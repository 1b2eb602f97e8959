"""Rows of a table's files for checks: some columns of one file, or of many as a lazy frame."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from featureflow.core.errors import CorruptionError
from featureflow.core.meter import moved, spending
from featureflow.core.remote_parquet import open_stored
from featureflow.core.storage import is_local


@spending("decode")
def read_rows(url: str, columns: list[str] | None = None) -> pl.DataFrame:
    """Read one file; columns in the given order, all if none are named.

    Raises
    ------
    CorruptionError
        If a page's bytes are not what was written.
    """
    try:
        if is_local(url):
            with pq.ParquetFile(url, page_checksum_verification=True) as file:
                table = file.read(columns=columns)
        else:
            stored = open_stored(url)
            table = stored.read(stored.names if columns is None else columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise CorruptionError(
            f"{url}: {error}. Run `featureflow verify`, or build again with --full."
        ) from error
    moved("decode", table.nbytes)
    return pl.DataFrame(table if columns is None else table.select(columns))


def scan_rows(urls: list[str], columns: list[str]) -> pl.LazyFrame:
    """Scan some columns of all files; files that are not on a local disk are read one after the other."""
    if all(is_local(url) for url in urls):
        return pl.scan_parquet(urls, hive_partitioning=False).select(columns)
    return pl.concat([read_rows(url, columns) for url in urls]).lazy()
