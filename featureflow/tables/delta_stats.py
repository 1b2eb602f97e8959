"""What the Delta log says of a file: rows, and least, greatest and nulls of some columns; other engines prune by it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

_TEXT_LIMIT: Final = 32


def delta_stats(table: pa.Table, columns: list[str]) -> str:
    """The statistics text of a Delta add action for some columns.

    Times have millisecond precision in the log, so the greatest is rounded up; text is cut, with a high
    character after a cut greatest; floats and what Delta can't compare are left out.
    """
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for name in columns:
        array = table.column(name)
        nulls[name] = array.null_count
        if array.null_count == len(array) or not _comparable(array.type):
            continue
        found = pc.min_max(array)
        low, high = _bound(found["min"], up=False), _bound(found["max"], up=True)
        if low is not None and high is not None:
            least[name], greatest[name] = low, high
    stats = {"numRecords": table.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}
    return json.dumps(stats, sort_keys=True, separators=(",", ":"))


def _comparable(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_string, pa.types.is_date, pa.types.is_timestamp)
    return any(test(kind) for test in tests)


def _bound(scalar: pa.Scalar, *, up: bool) -> Any:
    if pa.types.is_timestamp(scalar.type):
        micros = scalar.value
        millis = -(-micros // 1000) if up else micros // 1000
        try:
            instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
        except OverflowError:  # beyond year 9999, which the log has no spelling for
            return None
        return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    try:
        value = scalar.as_py()
    except (OverflowError, ValueError):
        return None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and len(value) > _TEXT_LIMIT:
        return value[:_TEXT_LIMIT] + ("\U0010ffff" if up else "")
    return value
