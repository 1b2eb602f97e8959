"""Derived columns: SQL expressions and Python functions, row by row, in order."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from featureflow.core.errors import ComputeError
from featureflow.core.expressions import compile_expression
from featureflow.core.meter import spending
from featureflow.execute.exchange.exchange_file import plain_arrow
from featureflow.plan.functions import call
from featureflow.plan.nodes import Derived


@spending("compute:derive")
def derive_columns(table: pa.Table, derived: tuple[Derived, ...]) -> pa.Table:
    """Add derived columns; each may use the earlier ones. A NaN that an expression makes becomes null."""
    if not derived:
        return table
    # Polars has no maps: a histogram stays beside the frame
    names = [field.name for field in table.schema if not pa.types.is_map(field.type)]
    frame = pl.DataFrame(table.select(names))
    for item in derived:
        try:
            frame = frame.with_columns(_evaluate(frame, item).alias(item.name))
        except (ValueError, pl.exceptions.PolarsError) as error:
            raise ComputeError(f"derive.{item.name}: {item.sql}: {error}") from error
    made = plain_arrow(frame.select([item.name for item in derived]))
    for name in made.schema.names:
        table = table.append_column(name, made.column(name))
    return table


def _evaluate(frame: pl.DataFrame, item: Derived) -> pl.Series:
    if item.sql is not None:
        return compile_expression(item.sql, frame.schema).series(frame)
    return call(item, [frame[name] for name in item.inputs])
