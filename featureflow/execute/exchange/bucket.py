"""Rows of one bucket of an input, from the exchange files that can hold some."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from featureflow.core.meter import spent
from featureflow.execute.exchange.exchange_file import plain_arrow
from featureflow.execute.exchange.fetching import read_slices
from featureflow.execute.exchange.manifest import touching
from featureflow.execute.windows.sorted_rows import column
from featureflow.plan.nodes import Input


def load_bucket(
    manifest: str,
    bucket: int,
    source: Input,
    columns: tuple[str, ...],
    first: int | None,
    last: int,
    with_null: bool,
) -> pa.Table:
    """Rows of a bucket in the closed range of times, of all files that can have some; only these columns are copied."""
    batches = read_slices(manifest, touching(manifest, first, last, with_null=with_null), bucket)
    if not batches:
        return plain_arrow(pl.DataFrame(schema={name: source.columns[name] for name in columns}))
    wanted = list(columns)
    tables = [
        pa.Table.from_batches([batch.replace_schema_metadata(None)]).select(wanted) for batch in batches
    ]
    with spent("exchange"):  # pages of mapped files are read from the disk here
        return pa.concat_tables(
            [in_range(table, source.time, first, last, with_null) for table in tables]
        ).combine_chunks()


def in_range(table: pa.Table, time: str | None, first: int | None, last: int, with_null: bool) -> pa.Table:
    """Keep rows in the closed range of times; rows without a time only when they are asked for."""
    if time is None or table.num_rows == 0:
        return table
    stamps = column(table, time).cast(pa.int64())
    mask = pc.less_equal(stamps, pa.scalar(last, pa.int64()))
    if first is not None:
        mask = pc.and_(mask, pc.greater_equal(stamps, pa.scalar(first, pa.int64())))
    mask = mask.fill_null(with_null)
    return table if pc.all(mask).as_py() else table.filter(mask)
