"""As-of look-ups, read off the contract one rule at a time: plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oracle.rows import Row, any_of, duration, floor, rank, same


class TieRefused(Exception):
    """``on_tie: error`` and two rows are the latest."""


def look_up(
    entry: Mapping[str, Any],
    left: Row,
    at: int | None,
    right: Sequence[Row],
    source: Mapping[str, Any],
    *,
    keys: Mapping[str, str],
    columns: Sequence[str],
) -> Row:
    """Looked-up columns for one row.

    Parameters
    ----------
    entry
        The ``lookup`` entry: ``ttl``, ``allow_exact``, ``on_tie``, ``knowledge``, ``nulls``, ``availability``.
    left, at
        The row that asks, and its time; a null key or a null time finds nothing.
    right, source
        The rows that are asked, and their source's ``time``, ``sequence``, ``created``.
    keys
        Column of ``left`` to column of ``right``.
    columns
        Columns to fetch.
    """
    nothing = dict.fromkeys(columns)
    if at is None or any(left[name] is None for name in keys):
        return nothing
    known = [
        row
        for row in right
        if all(row[theirs] is not None and same(row[theirs], left[ours]) for ours, theirs in keys.items())
        and visible(row, at, entry, source)
    ]
    if entry.get("nulls") == "skip":
        found: Row = {}
        for name in columns:
            found[name] = latest([row for row in known if row[name] is not None], [name], entry, source)[name]
        return found
    return latest(known, columns, entry, source)


def visible(row: Row, at: int, entry: Mapping[str, Any], source: Mapping[str, Any]) -> bool:
    """Whether a row may be seen at an instant: not later, not too old, and known by then."""
    moment = row[source["time"]]
    if moment is None or moment > at:
        return False
    if entry.get("allow_exact", True) is False and moment == at:
        return False
    if entry.get("ttl") is not None:
        ttl = duration(entry["ttl"])
        if ttl is not None and moment < at - ttl:
            return False
    if source.get("created") and entry.get("knowledge") != "event_time":
        created = row[source["created"]]
        if created is None or created > at:
            return False
    if entry.get("availability"):
        interval = duration(entry["availability"].get("interval", "0s")) or 0
        delay = duration(entry["availability"].get("delay", "0s")) or 0
        known = floor(moment, interval) + interval + delay if interval else moment + delay
        if known > at:
            return False
    return True


def latest(
    rows: list[Row], columns: Sequence[str], entry: Mapping[str, Any], source: Mapping[str, Any]
) -> Row:
    """The columns of the last row in the source's order; `AnyOf` where only a hash can tell which it is."""
    if not rows:
        return dict.fromkeys(columns)
    last = max(rank(row, source) for row in rows)
    winners = [row for row in rows if rank(row, source) == last]
    if len(winners) > 1 and entry.get("on_tie") == "error":
        raise TieRefused(f"{len(winners)} rows are the latest: {winners}")
    return {name: any_of(row[name] for row in winners) for name in columns}
