"""Compare a table of the engine with the oracle's, whatever the order of the rows: plain Python."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from oracle.engine import Table
from oracle.rows import AnyOf, Row, microseconds


def differences(
    expected: Table,
    actual: Sequence[Mapping[str, Any]],
    *,
    tolerance: float = 1e-9,
    ignore: Collection[str] = (),
    limit: int = 10,
) -> list[str]:
    """What is different, in words; nothing if the tables are equal.

    Parameters
    ----------
    expected
        Of `oracle.engine.evaluate`.
    actual
        Rows of the engine, such as ``frame.to_dicts()``; times may be datetimes.
    tolerance
        Relative (and the same, absolute, near zero), for floats only.
    ignore
        Columns of ``actual`` that are not looked at, such as the partition's.
    limit
        Most lines to return.

    Notes
    -----
    Rows are paired within the same keys and time so that as many as possible match; the order of rows means nothing.
    A value that the contract leaves to a hash (`AnyOf`) matches each of its choices.
    """
    found = []
    names = {name for row in actual for name in row} - set(ignore)
    if actual and names != set(expected.columns):
        missing, extra = sorted(set(expected.columns) - names), sorted(names - set(expected.columns))
        found.append(f"columns: missing {missing}, not expected {extra}")
    ours, theirs = grouped(expected, expected.rows), grouped(expected, actual)
    for place in sorted({*ours, *theirs}, key=repr):
        unmatched, spare = unpaired(ours[place], theirs[place], tolerance)
        label = dict(zip((*expected.keys, expected.time), place, strict=True))
        for row in unmatched:
            nearest = min(
                spare, key=lambda other, row=row: len(cells_apart(row, other, tolerance)), default=None
            )
            if nearest is None:
                found.append(f"{label}: a row is missing: {row}")
                continue
            spare.remove(nearest)
            found.append(f"{label}: " + "; ".join(cells_apart(row, nearest, tolerance)))
        found += [f"{label}: a row too many: {row}" for row in spare]
    return found if len(found) <= limit else [*found[:limit], f"and {len(found) - limit} more"]


def grouped(table: Table, rows: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by keys and time, with all times as int microseconds."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        plain = {name: plain_value(value) for name, value in row.items()}
        groups[tuple(plain[name] for name in (*table.keys, table.time))].append(plain)
    return groups


def plain_value(value: Any) -> Any:
    """Datetimes as microseconds; a list of ``{key, value}`` (a map) as a list of pairs; anything else as it is."""
    if isinstance(value, datetime):
        return microseconds(value)
    if (
        isinstance(value, list)
        and value
        and all(isinstance(i, dict) and set(i) == {"key", "value"} for i in value)
    ):
        return [(item["key"], item["value"]) for item in value]
    return value


def unpaired(ours: list[Row], theirs: list[Row], tolerance: float) -> tuple[list[Row], list[Row]]:
    """Rows of both sides that are left over by a largest possible pairing (augmenting paths)."""
    fits = [
        [place for place, other in enumerate(theirs) if not cells_apart(row, other, tolerance)]
        for row in ours
    ]
    partner: dict[int, int] = {}  # of theirs, in ours

    def pair(row: int, tried: set[int]) -> bool:
        for place in fits[row]:
            if place not in tried:
                tried.add(place)
                if place not in partner or pair(partner[place], tried):
                    partner[place] = row
                    return True
        return False

    left = [row for row in range(len(ours)) if not pair(row, set())]
    return [ours[row] for row in left], [row for place, row in enumerate(theirs) if place not in partner]


def cells_apart(row: Row, other: Row, tolerance: float) -> list[str]:
    """Cells of two rows that do not match, in words."""
    return [
        f"{name}: expected {row[name]!r}, got {other.get(name)!r}"
        for name in row
        if name in other and not alike(row[name], other[name], tolerance)
    ]


def alike(expected: Any, got: Any, tolerance: float) -> bool:
    """Whether a value matches: null only null, floats within the tolerance, the rest exactly and of the same kind."""
    if isinstance(expected, AnyOf):
        return any(alike(choice, got, tolerance) for choice in expected.choices)
    if expected is None or got is None:
        return expected is None and got is None
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, list | tuple):
        return (
            isinstance(got, list | tuple)
            and len(expected) == len(got)
            and all(alike(one, two, tolerance) for one, two in zip(expected, got, strict=True))
        )
    if isinstance(expected, float) or isinstance(got, float):
        if not isinstance(expected, int | float) or not isinstance(got, int | float):
            return False
        if math.isnan(expected) or math.isnan(got):
            return math.isnan(expected) and math.isnan(got)
        return expected == got or math.isclose(expected, got, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(expected, int) and isinstance(got, date | datetime):
        return microseconds(got) == expected
    return type(expected) is type(got) and bool(expected == got)
