"""Numbers as people read them. Every text is short, has a unit, and never claims more digits than matter."""

from __future__ import annotations

from datetime import UTC, datetime


def count(value: int | None) -> str:
    """Write a number of things with thousands separators; ``-`` when it is not known.

    Examples
    --------
    >>> count(336776), count(None)
    ('336,776', '-')
    """
    return "-" if value is None else f"{value:,}"


def short_count(value: float) -> str:
    """Write a number of things in five characters or so.

    Examples
    --------
    >>> short_count(950), short_count(336776), short_count(2.5e9)
    ('950', '337k', '2.5G')
    """
    return _scaled(float(value), 1000.0, ("", "k", "M", "G", "T"), "")


def size(n_bytes: float | None) -> str:
    """Write a number of bytes in decimal units, as disks and networks count.

    Examples
    --------
    >>> size(0), size(1536), size(2_000_000_000)
    ('0 B', '1.5 kB', '2.0 GB')
    """
    if n_bytes is None:
        return "-"
    return _scaled(float(n_bytes), 1000.0, ("B", "kB", "MB", "GB", "TB", "PB"), " ")


def _scaled(value: float, step: float, names: tuple[str, ...], gap: str) -> str:
    rank = 0
    # 999.5 would be written as 1000: it belongs to the next unit.
    while abs(value) >= step - 0.5 and rank < len(names) - 1:
        value, rank = value / step, rank + 1
    digits = 1 if rank and abs(value) < 99.95 else 0
    return f"{value:.{digits}f}{gap if names[rank] else ''}{names[rank]}"


def seconds(value: float) -> str:
    """Write a length of time.

    Examples
    --------
    >>> seconds(0.0421), seconds(3.26), seconds(75), seconds(4000)
    ('42 ms', '3.3 s', '1 min 15 s', '1 h 6 min')
    """
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def moment(text: str | None) -> str:
    """Write an ISO instant to the second, without the zone: all times are UTC.

    Examples
    --------
    >>> moment("2026-11-23T06:17:42.123456Z")
    '2026-11-23 06:17:42'
    """
    if not text:
        return "-"
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is not None:
        parsed = parsed.astimezone(UTC)
    return parsed.strftime("%Y-%m-%d %H:%M:%S")


def plural(number: int, noun: str, many: str | None = None) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> plural(1, "table"), plural(2, "table"), plural(0, "entry", "entries")
    ('1 table', '2 tables', '0 entries')
    """
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def value(given: object) -> str:
    """Write a statistic or a value of a sample row: floats to six digits, null as ``null``.

    Examples
    --------
    >>> value(0.1 + 0.2), value(None), value(1234567), value("a")
    ('0.3', 'null', '1234567', 'a')
    """
    if given is None:
        return "null"
    if isinstance(given, float):
        return f"{given:.6g}"
    if isinstance(given, datetime):
        text = given.isoformat(sep=" ", timespec="microseconds" if given.microsecond else "seconds")
        return text.removesuffix("+00:00")
    if isinstance(given, list | tuple):
        return "[" + ", ".join(value(item) for item in given) + "]"
    return str(given)
