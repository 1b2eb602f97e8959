"""Which files can hold rows that fulfil a condition, judged by the least and greatest values of keys and time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

_CONJUNCT = re.compile(
    r"""\s*(?P<column>[A-Za-z_]\w*)\s*(?P<op><=|>=|=|<|>)\s*
        (?P<value>-?\d+(?![\w.])|(?:timestamp\s+|date\s+)?'(?:[^'\\])*')\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_AND = re.compile(r"and\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``column op value``, false for null. ``value`` is an int, a str or an aware datetime."""

    column: str
    op: str
    value: int | str | datetime


def instant(value: str | date | datetime) -> datetime:
    """A moment in UTC; what has no zone is UTC, a date is its midnight."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    elif not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def comparisons_of(where: str, schema: pa.Schema) -> list[Comparison]:
    """Comparisons that every row fulfilling a SQL condition fulfils, if the condition is a plain ``a = 1 and b < 2``.

    Only a help for skipping files: an empty list is always right, and the condition itself is evaluated anyway.
    """
    found: list[Comparison] = []
    position = 0
    while True:
        match = _CONJUNCT.match(where, position)
        if match is None:
            return []
        comparison = _typed(match["column"], match["op"], match["value"], schema)
        if comparison is not None:
            found.append(comparison)
        position = match.end()
        if position == len(where):
            return found
        conjunction = _AND.match(where, position)
        if conjunction is None:
            return []
        position = conjunction.end()


def _typed(column: str, op: str, text: str, schema: pa.Schema) -> Comparison | None:
    if column not in schema.names:
        return None
    kind = schema.field(column).type
    if pa.types.is_integer(kind) and "'" not in text:
        return Comparison(column, op, int(text))
    if pa.types.is_string(kind) and text.startswith("'"):
        return Comparison(column, op, text[1:-1])
    if pa.types.is_timestamp(kind) and "'" in text:
        try:
            return Comparison(column, op, instant(text[text.index("'") + 1 : -1]))
        except ValueError:
            return None
    return None


def can_hold(stats: Mapping[str, Any], comparisons: Iterable[Comparison]) -> bool:
    """Whether a file with these Delta statistics can hold a row that fulfils all comparisons."""
    return all(_overlaps(stats, comparison) for comparison in comparisons)


def _overlaps(stats: Mapping[str, Any], comparison: Comparison) -> bool:
    name = comparison.column
    if stats["numRecords"] == 0 or stats["nullCount"].get(name) == stats["numRecords"]:
        return False
    if name not in stats["minValues"]:
        return True
    low, high, value = stats["minValues"][name], stats["maxValues"][name], comparison.value
    if isinstance(value, datetime):
        low, high = instant(low), instant(high)  # the greatest was rounded up to milliseconds, which is safe
    if comparison.op == "=":
        return bool(low <= value <= high)
    if comparison.op in ("<", "<="):
        return bool(low < value or (comparison.op == "<=" and low == value))
    return bool(high > value or (comparison.op == ">=" and high == value))


def to_arrow_filter(comparisons: Iterable[Comparison], schema: pa.Schema) -> ds.Expression | None:
    """The same conjunction for Arrow, which skips row groups by it."""
    result: ds.Expression | None = None
    for comparison in comparisons:
        kind = schema.field(comparison.column).type
        field, value = ds.field(comparison.column), comparison.value
        if isinstance(value, datetime):
            scalar = pa.scalar(
                (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1), pa.int64()
            ).cast(kind)
        else:
            scalar = pa.scalar(value)
        one = {
            "=": field == scalar,
            "<": field < scalar,
            "<=": field <= scalar,
            ">": field > scalar,
            ">=": field >= scalar,
        }[comparison.op]
        result = one if result is None else result & one
    return result
