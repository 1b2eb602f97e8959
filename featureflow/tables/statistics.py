"""Count, nulls, least, greatest and sum of every column, mergeable and the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ColumnStats = dict[str, Any]
"""``count`` (non-null values), ``nulls``, ``min``, ``max``, ``sum``: JSON values; the last three may be missing."""

_TEXT_LIMIT: Final = 64


def column_statistics(array: pa.Array) -> ColumnStats:
    """Summary of one contiguous column.

    Notes
    -----
    Nulls: counted, otherwise ignored; NaN is not expected here (it became null on read) and hides min and max.
    Determinism: sums use NumPy's pairwise scheme over one contiguous array, so a column of the same values gives
    the same last bit on every machine; integers and booleans are summed exactly.
    Cost: about 1 ns a value.
    """
    kind = array.type
    stats: ColumnStats = {"count": len(array) - array.null_count, "nulls": array.null_count}
    if stats["count"] == 0 or pa.types.is_nested(kind) or pa.types.is_binary(kind):
        return stats
    extremes = pc.min_max(array)
    stats["min"], stats["max"] = (to_json(extremes[k].as_py()) for k in ("min", "max"))
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        stats["sum"] = _sum(array)
    return stats


def table_statistics(table: pa.Table) -> dict[str, ColumnStats]:
    """Summary of every column."""
    return {name: column_statistics(contiguous(table.column(name))) for name in table.schema.names}


def contiguous(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays([*column.chunks, column.slice(0, 0).combine_chunks()])
    )


def _sum(array: pa.Array) -> int | float | str:
    if pa.types.is_boolean(array.type):
        return int(array.true_count)
    filled = array.fill_null(0) if array.null_count else array
    values = filled.to_numpy(zero_copy_only=True)
    if values.dtype.kind == "f":
        with np.errstate(all="ignore"):  # +inf and -inf together are NaN, and that is what is reported
            return to_json(float(np.sum(values, dtype=np.float64)))  # type: ignore[no-any-return]
    high, low = int(np.sum(values >> 32, dtype=np.int64)), int(np.sum(values & 0xFFFFFFFF, dtype=np.int64))
    return (high << 32) + low if values.dtype.itemsize == 8 else int(np.sum(values, dtype=np.int64))


def to_json(value: Any) -> Any:
    """A statistic as JSON: times and dates as ISO text, infinities as ``inf``/``-inf``/``nan``, long text cut."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return value[:_TEXT_LIMIT]
    return value


def merge(parts: Iterable[Mapping[str, ColumnStats]], schema: pa.Schema) -> dict[str, ColumnStats]:
    """Statistics of the rows of all parts together; ``mean`` is added where there is a sum.

    The order of the parts does not matter: sums are added with :func:`math.fsum`, which rounds once.
    """
    gathered: dict[str, list[ColumnStats]] = {name: [] for name in schema.names}
    for part in parts:
        for name, stats in part.items():
            if name in gathered:
                gathered[name].append(stats)
    return {name: _merge_column(found, schema.field(name).type) for name, found in gathered.items()}


def _merge_column(parts: list[ColumnStats], kind: pa.DataType) -> ColumnStats:
    result: ColumnStats = {"count": sum(p["count"] for p in parts), "nulls": sum(p["nulls"] for p in parts)}
    filled = [p for p in parts if "min" in p]
    if not filled:
        return result
    key = _order(kind)
    result["min"] = min((p["min"] for p in filled), key=key)
    result["max"] = max((p["max"] for p in filled), key=key)
    sums = [p["sum"] for p in filled if "sum" in p]
    if sums:
        total = _add(sums)
        result["sum"] = to_json(total)
        result["mean"] = to_json(total / result["count"])
    return result


def _add(sums: list[Any]) -> int | float:
    if all(isinstance(s, int) for s in sums):
        return int(sum(sums))
    values = [float(s) for s in sums]
    infinite = [v for v in values if not math.isfinite(v)]
    if infinite:
        return float(sum(infinite))
    try:
        return math.fsum(values)
    except OverflowError:  # the exact total is beyond float64; its sign is that of the rounded total
        return math.copysign(math.inf, sum(v / 2**10 for v in values))


def _order(kind: pa.DataType) -> Any:
    if pa.types.is_floating(kind):
        return float
    return Decimal if pa.types.is_decimal(kind) else (lambda value: value)
