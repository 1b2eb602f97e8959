"""Which rows a source has, in what order they stand, and at which instants a table has rows: plain Python.

The oracle shares nothing with featureflow and is written to be read: every rule is one obvious loop, at any cost.
A source is the YAML mapping with ``rows`` (a list of dicts) in place of ``path`` and Python callables in place of
SQL: ``where: row -> bool | None`` and ``derive: {name: row -> value}``. Times are int microseconds UTC or datetimes
(naive ones are UTC).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]

UNITS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60 * 1_000_000,
    "h": 3_600 * 1_000_000,
    "d": 86_400 * 1_000_000,
    "w": 7 * 86_400 * 1_000_000,
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Ambiguous(Exception):
    """Only a hash of the row would decide, and the result depends on it."""


class AnyOf:
    """A value that the contract leaves to a row hash: each of ``choices`` is right."""

    def __init__(self, choices: Iterable[Any]) -> None:
        self.choices: list[Any] = []
        for choice in choices:
            if not any(same(choice, known) for known in self.choices):
                self.choices.append(choice)

    def __repr__(self) -> str:
        return f"AnyOf({self.choices!r})"


def any_of(choices: Iterable[Any]) -> Any:
    """The one value, if all choices are the same, or `AnyOf`."""
    cell = AnyOf(choices)
    return cell.choices[0] if len(cell.choices) == 1 else cell


def same(left: Any, right: Any) -> bool:
    """Equal, of the same kind (True is not 1), and NaN equal to NaN."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


@functools.cache
def duration(text: str) -> int | None:
    """Microseconds of ``1h30m``; None for ``lifetime``."""
    if text == "lifetime":
        return None
    total, number, unit = 0, "", ""
    for kind, letters in itertools.groupby(text, str.isdigit):
        if kind:
            number = "".join(letters)
        else:
            unit = "".join(letters)
            total += int(number) * UNITS[unit]
    return total


def microseconds(moment: Any, zone: str = "UTC") -> int | None:
    """Int microseconds since 1970 UTC of an int, a datetime, a date (its midnight in ``zone``) or an ISO text."""
    if moment is None or isinstance(moment, int):
        return moment
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        assert isinstance(moment, date)
        moment = datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    # subtraction, not timestamp(): a float can't hold microseconds exactly
    return (moment.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


def floor(moment: int, step: int) -> int:
    """Largest multiple of ``step`` that is not after ``moment``; negative times too."""
    return moment // step * step


def read(source: Mapping[str, Any]) -> list[Row]:
    """Rows of a source as every rule sees them: cleaned, filtered, derived, one per ``deduplicate`` value."""
    rows = [clean(row, source) for row in source["rows"]]
    if source.get("where") is not None:
        rows = [row for row in rows if source["where"](row) is True]
    for name, expression in source.get("derive", {}).items():
        rows = [{**row, name: nan_to_none(expression(row))} for row in rows]
    if source.get("deduplicate"):
        rows = first_known(rows, source)
    for name, value in source.get("fill", {}).items():
        rows = [{**row, name: value if row[name] is None else row[name]} for row in rows]
    for name, (low, high) in source.get("clip", {}).items():
        rows = [{**row, name: None if row[name] is None else min(max(row[name], low), high)} for row in rows]
    return rows


def clean(row: Row, source: Mapping[str, Any]) -> Row:
    """NaN is null; times are int microseconds."""
    cleaned = {name: nan_to_none(value) for name, value in row.items()}
    for name in (source.get("time"), source.get("created")):
        if name is not None:
            cleaned[name] = microseconds(cleaned[name], source.get("timezone", "UTC"))
    return cleaned


def nan_to_none(value: Any) -> Any:
    """None for NaN, anything else as it is."""
    return None if isinstance(value, float) and math.isnan(value) else value


def first_known(rows: list[Row], source: Mapping[str, Any]) -> list[Row]:
    """One row per value of the ``deduplicate`` columns: smallest created, then sequence, then time; nulls last.

    A null is equal to nothing, so a row with a null in those columns is its own value and stays.
    """
    columns = source["deduplicate"]
    order = [source[part] for part in ("created", "sequence", "time") if source.get(part)]
    kept: list[Row] = []
    for row in rows:
        if any(row[name] is None for name in columns):
            kept.append(row)
            continue
        rivals = [other for other in rows if all(same(other[name], row[name]) for name in columns)]
        best = min(rivals, key=lambda other: nulls_last(other[name] for name in order))
        ties = [o for o in rivals if nulls_last(o[n] for n in order) == nulls_last(best[n] for n in order)]
        if any(tie != best for tie in ties):
            raise Ambiguous(f"{len(ties)} different rows are known first for {[best[n] for n in columns]}")
        if row is best:
            kept.append(row)
    return kept


def nulls_last(values: Iterable[Any]) -> tuple[tuple[bool, Any], ...]:
    """Sort key with null after everything."""
    return tuple((value is None, 0 if value is None else value) for value in values)


def nulls_first(values: Iterable[Any]) -> tuple[tuple[bool, Any], ...]:
    """Sort key with null before everything."""
    return tuple((value is not None, 0 if value is None else value) for value in values)


def rank(row: Row, source: Mapping[str, Any]) -> tuple[Any, ...]:
    """Place of a row in its source's order: time, then sequence, then created; null before all values."""
    names = [source[part] for part in ("time", "sequence", "created") if source.get(part)]
    return nulls_first(row[name] for name in names)


def orders(rows: Sequence[Row], source: Mapping[str, Any], limit: int = 1_000) -> Iterator[list[Row]]:
    """Every order of the rows that the contract allows: ties of `rank` in any order, a row hash decides them.

    Rows that are equal in all columns count once; more than ``limit`` orders raise `Ambiguous`.
    """
    ordered = sorted(rows, key=lambda row: rank(row, source))
    groups = [list(group) for _, group in itertools.groupby(ordered, key=lambda row: rank(row, source))]
    choices = []
    for group in groups:
        distinct = [row for place, row in enumerate(group) if row not in group[:place]]
        # equal rows lie side by side: they have one hash, so nothing can come between them
        expanded = [
            [row for key in order for row in group if row == key] for order in permuted(distinct, limit)
        ]
        choices.append(expanded)
    if math.prod(len(choice) for choice in choices) > limit:
        raise Ambiguous("too many orders of tied rows to list; use fewer ties in the test")
    for combination in itertools.product(*choices):
        yield list(itertools.chain.from_iterable(combination))


def permuted(rows: list[Row], limit: int) -> list[tuple[Row, ...]]:
    """All permutations, if there are not too many of them."""
    if math.factorial(len(rows)) > limit:
        raise Ambiguous("too many tied rows to list their orders; use fewer ties in the test")
    return list(itertools.permutations(rows))


def ticks(at: Mapping[str, Any], times: Sequence[int]) -> list[int]:
    """Instants of ``at: {every, from, to, timezone}``: ``from <= tick < to``.

    Without ``from`` the first tick is the one at or before the first event; without ``to`` the last is the first
    tick at or after the latest event. With a ``timezone`` the grid is of wall-clock times there: a local
    time that the clock skips is the instant it jumps to, one that comes twice is the first of the two.
    """
    if not times:
        return []
    every, zone = duration(at["every"]), at.get("timezone", "UTC")
    assert every is not None
    begin = microseconds(at["from"], zone) if at.get("from") is not None else None
    end = microseconds(at["to"], zone) if at.get("to") is not None else None
    first = min(times) if begin is None else begin
    last = max(times) if end is None else end
    margin = 2 * max(every, UNITS["d"])
    grid = sorted(
        {instant(local, zone) for local in range(floor(first - margin, every), last + margin, every)}
    )
    if begin is None:
        begin = max(tick for tick in grid if tick <= first)
    if end is None:
        end = min(tick for tick in grid if tick >= last) + 1
    return [tick for tick in grid if begin <= tick < end]


def instant(local: int, zone: str) -> int:
    """UTC microseconds of a wall-clock time (as if its microseconds were UTC) in a zone."""
    wall = EPOCH.replace(tzinfo=None) + timedelta(microseconds=local)
    there = microseconds(wall, zone)
    assert there is not None
    return there
