"""Time slices: the calendar-aligned pieces in which a table is stored and rebuilt (spec section 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from featureflow.core.errors import PlanError

Partition = Literal["day", "month", "year", "none"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Earliest and latest instants that Python's calendar can name; times beyond them are refused when read.
MIN_US = -62_135_596_800_000_000
MAX_US = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True, order=True)
class Slice:
    """Rows with ``start_us <= time < end_us``; the slice labelled ``null`` holds the rows without a time.

    ``label`` is the value of the partition column: ``2026-01-31``, ``2026-01``, ``2026``, ``all`` or ``null``.
    """

    start_us: int
    end_us: int
    label: str

    @property
    def holds_timeless(self) -> bool:
        """Whether rows without a time belong to this slice: to ``null``, or to ``all`` where nothing is cut."""
        return self.label in ("null", "all")

    @classmethod
    def from_label(cls, label: str, partition: Partition) -> Slice:
        """Find the slice of a label.

        Examples
        --------
        >>> Slice.from_label("1970-01", "month") == slice_at(0, "month")
        True
        """
        if label == "null":
            return NULL_SLICE
        if partition == "none":
            return slice_at(0, "none")
        year, month, day = (int(part) for part in (label + "-01-01")[:10].split("-"))
        return slice_at(to_us(datetime(year, month, day, tzinfo=UTC)), partition)


#: Rows whose time is null. They sort before every other slice.
NULL_SLICE = Slice(MIN_US - 1, MIN_US - 1, "null")


def to_datetime(us: int) -> datetime:
    """Convert microseconds since the epoch to an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=us)


def to_us(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def between(start: datetime | str | None, end: datetime | str | None) -> tuple[int, int] | None:
    """Microseconds of ``[start, end)``, as ``--from`` and ``--to`` give them; None if neither is given.

    A text is ISO 8601; without a zone it is UTC.

    Raises
    ------
    PlanError
        If a text is no date or time, or the range is empty.
    """
    if start is None and end is None:
        return None
    low, high = (None if moment is None else _instant(moment) for moment in (start, end))
    if low is not None and high is not None and low >= high:
        raise PlanError(f"--from {start} is not before --to {end}; the range is half-open, [from, to).")
    return MIN_US if low is None else low, MAX_US + 1 if high is None else high


def _instant(moment: datetime | str) -> int:
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise PlanError(
                f"{moment!r} is no date or time. Write it as 2026-01-31 or 2026-01-31T10:00."
            ) from None
    return to_us(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def slice_at(us: int, partition: Partition) -> Slice:
    """Find the slice that holds an instant.

    Examples
    --------
    >>> slice_at(0, "month").label
    '1970-01'
    """
    if partition == "none":
        return Slice(MIN_US, MAX_US + 1, "all")
    moment = to_datetime(us)
    if partition == "day":
        start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        begin = to_us(start)
        return Slice(begin, begin + 86_400_000_000, start.strftime("%Y-%m-%d").rjust(10, "0"))
    if partition == "month":
        start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = _next_month(start)
        return Slice(to_us(start), following, f"{start.year:04d}-{start.month:02d}")
    start = moment.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    end = MAX_US + 1 if start.year == 9999 else to_us(start.replace(year=start.year + 1))
    return Slice(to_us(start), end, f"{start.year:04d}")


def slices_between(first_us: int, last_us: int, partition: Partition) -> Iterator[Slice]:
    """Walk the slices that hold the instants from ``first_us`` to ``last_us``, both included."""
    at = first_us
    while at <= last_us:
        piece = slice_at(at, partition)
        yield piece
        at = piece.end_us


def slices_of_ranges(ranges: Iterable[tuple[int, int]], partition: Partition) -> list[Slice]:
    """List the slices that any of the closed ranges touches, in the order of time, each once."""
    found: set[Slice] = set()
    for first, last in merge_ranges(ranges):
        found.update(slices_between(first, last, partition))
    return sorted(found)


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join overlapping closed ranges.

    Examples
    --------
    >>> merge_ranges([(5, 9), (0, 3), (2, 4)])
    [(0, 4), (5, 9)]
    """
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _next_month(start: datetime) -> int:
    if start.month == 12:
        return MAX_US + 1 if start.year == 9999 else to_us(start.replace(year=start.year + 1, month=1))
    return to_us(start.replace(month=start.month + 1))
