"""Casts that a source may declare, and the normal form that every column is read into.

A cast either keeps what a value means or names the first value for which it can't. What is allowed:

===================  =====================================================================================
from                 to
===================  =====================================================================================
integers, bool       integers, bool (0 and 1), floats (where exact), decimal, string
floats               floats (float32 rounds; a finite value never becomes infinite), integers (whole numbers)
string               integers, floats, bool (true, false), date (2026-01-31), timestamp (ISO 8601), decimal
date                 timestamp (midnight in the source's zone), string
timestamp            date (midnights only), timestamp of another unit or zone
integers             ``timestamp[s]``, ``[ms]``, ``[us]`` or ``[ns]``: time since 1970 in UTC (also as text)
decimal              float64, decimal (where it fits), string
null                 anything
===================  =====================================================================================

Normal form: instants are ``Datetime("us", "UTC")`` (nanoseconds are rounded down), strings are plain, NaN is null.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa

from featureflow.core.types import parse_type, to_polars, type_name

_ISO = (
    r"^\s*(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r"\s*(Z|z|[+-]\d{2}(?::?\d{2})?)?\s*$"
)
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_EPOCH_UNITS = (*_MICROSECONDS, "ns")
_INSTANT = pl.Datetime("us", "UTC")
_BITS: dict[object, int] = {pl.Int8: 7, pl.UInt8: 8, pl.Int16: 15, pl.UInt16: 16, pl.Int32: 31, pl.UInt32: 32}
_EXACT: dict[object, int] = {pl.Float64: 2**53, pl.Float32: 2**24}


class MisfitError(Exception):
    """A value that a cast can't keep: its position in the series, the value, and why."""

    def __init__(self, position: int, value: object, reason: str) -> None:
        super().__init__(position, value, reason)
        self.position, self.value, self.reason = position, value, reason


def refusal(stored: str, wanted: str) -> str | None:
    """Why a declared type can't be read from a stored one; None if it can."""
    if stored in (wanted, "null"):
        return None
    try:
        source, target = _kind(stored), _kind(wanted)
    except ValueError as error:
        return str(error)
    if source == "integer" and target == "timestamp":
        if wanted in ("timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"):
            return None
        return "an integer does not say its unit; declare timestamp[s], timestamp[ms], timestamp[us] or timestamp[ns]"
    allowed = {
        "integer": {"integer", "bool", "float", "decimal", "string"},
        "bool": {"bool", "integer", "float", "string"},
        "float": {"float", "integer"},
        "string": {"integer", "float", "bool", "date", "timestamp", "decimal", "binary"},
        "date": {"timestamp", "string"},
        "timestamp": {"timestamp", "date"},
        "decimal": {"float", "decimal", "string"},
        "binary": {"string"},
    }
    if target in allowed.get(source, set()):
        return None
    return f"there is no cast from {stored} to {wanted} that keeps every value"


def _kind(name: str) -> str:
    arrow = parse_type(name)
    for kind in ("integer", "floating", "boolean", "string", "date", "timestamp", "decimal", "binary"):
        if getattr(pa.types, f"is_{kind}")(arrow):
            return {"floating": "float", "boolean": "bool"}.get(kind, kind)
    return type_name(arrow)


def read_type(wanted: str) -> pl.DataType:
    """Polars type that a column of this type name has after reading."""
    if wanted.startswith("timestamp"):
        return _INSTANT
    if wanted.startswith("struct<"):
        raise ValueError(f"columns of type {wanted} can't be used; flatten it before, or leave it out.")
    return to_polars(parse_type(wanted))


def cast(series: pl.Series, wanted: str, timezone: str) -> pl.Series:
    """Cast a column as it is in the file to what the schema says, in normal form.

    Raises
    ------
    MisfitError
        At the first value that does not fit.
    """
    if isinstance(series.dtype, (pl.Categorical, pl.Enum)):
        series = series.cast(pl.String)
    target = read_type(wanted)
    if series.dtype == pl.Null:
        return pl.Series(series.name, [None], dtype=target).new_from_index(0, len(series))
    if target == _INSTANT:
        return _to_instant(series, wanted, timezone).alias(series.name)
    if series.dtype == target:
        out = series
    elif series.dtype.is_float():
        out = _from_float(series, target)
    elif series.dtype.is_integer() and (target.is_float() or target == pl.Boolean):
        out = _from_integer(series, target)
    elif series.dtype == pl.String:
        out = _from_string(series, target)
    elif isinstance(series.dtype, pl.Datetime) and target == pl.Date:
        out = _to_date(series, timezone)
    elif series.dtype == pl.Binary and target == pl.String:
        out = _from_binary(series)
    else:
        out = _fitting(series, series.cast(target, strict=False), wanted)
    return (out.fill_nan(None) if out.dtype.is_float() else out).alias(series.name)


def _fitting(series: pl.Series, out: pl.Series, wanted: object) -> pl.Series:
    """Refuse the first value that a non-strict cast turned into null."""
    _refuse_first(series, out.is_null() & series.is_not_null(), f"does not fit into {_name(wanted)}")
    return out


def _refuse_first(series: pl.Series, bad: pl.Series, reason: str) -> None:
    if bad.any():
        position = int(bad.arg_true()[0])
        raise MisfitError(position, series[position], reason)


def _name(wanted: object) -> str:
    return str(wanted).lower()


def _from_float(series: pl.Series, target: pl.DataType) -> pl.Series:
    if target.is_float():
        out = series.cast(target)
        _refuse_first(series, out.is_infinite() & series.is_finite(), f"is too large for {_name(target)}")
        return out
    known = series.fill_nan(None)
    whole = known.is_null() | (known == known.floor())
    _refuse_first(series, ~whole, f"is not a whole number, so it is no {_name(target)}")
    return _fitting(known, known.cast(target, strict=False), target)


def _from_binary(series: pl.Series) -> pl.Series:
    try:
        return series.cast(pl.String)
    except pl.exceptions.ComputeError:  # Polars does not say where, even when it is not strict
        for position, value in enumerate(series):
            try:
                (value or b"").decode()
            except UnicodeDecodeError:
                raise MisfitError(position, value, "is no UTF-8 text") from None
        raise


def _from_integer(series: pl.Series, target: pl.DataType) -> pl.Series:
    if target == pl.Boolean:
        _refuse_first(series, ~series.is_in([0, 1]).fill_null(True), "is neither 0 nor 1, so it is no bool")
        return series.cast(pl.Boolean)
    largest = _EXACT[type(target)]
    if 2 ** _BITS.get(type(series.dtype), 64) > largest:
        # above 2^53 only some integers are floats; those that are would look like luck, so all are refused
        bad = ((series > largest) | (series < -largest)).fill_null(False)
        _refuse_first(series, bad, f"has more digits than {_name(target)} holds")
    return series.cast(target)


def _from_string(series: pl.Series, target: pl.DataType) -> pl.Series:
    if target == pl.Boolean:
        low = series.str.to_lowercase()
        out = low.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
        return _fitting(series, out, "bool (true or false)")
    if target == pl.Date:
        exact = series.str.contains(r"^\d{4}-\d{2}-\d{2}$").fill_null(True)
        _refuse_first(series, ~exact, "is not a date such as 2026-01-31")
        return _fitting(series, series.str.to_date("%Y-%m-%d", strict=False), "date")
    if target.is_integer():
        # Polars takes '1_000' for no number and '+1' for one; a sign and digits is all that is meant here
        exact = series.str.contains(r"^[+-]?\d+$").fill_null(True)
        _refuse_first(series, ~exact, f"is not a whole number, so it is no {_name(target)}")
    return _fitting(series, series.cast(target, strict=False), target)


def _to_date(series: pl.Series, timezone: str) -> pl.Series:
    aware = isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is not None
    clock = series.dt.convert_time_zone(timezone).dt.replace_time_zone(None) if aware else series
    out = clock.dt.date()
    _refuse_first(
        series, (out.cast(clock.dtype) != clock).fill_null(False), "has a time of day, so it is no date"
    )
    return out


def _to_instant(series: pl.Series, wanted: str, timezone: str) -> pl.Series:
    unit = wanted[len("timestamp[") : -1]
    if series.dtype == pl.String:
        digits = series.str.contains(r"^-?\d+$").fill_null(True)
        if unit not in _EPOCH_UNITS or not digits.all():
            return _parse_instants(series, timezone)
        return _from_epoch(_from_string(series, pl.Int64()), unit)  # a text file's numbers since 1970
    if series.dtype.is_integer():
        return _from_epoch(series, unit)
    if series.dtype == pl.Date:
        return _localize(series.cast(pl.Datetime("us")), series, timezone)
    dtype = series.dtype
    if not isinstance(dtype, pl.Datetime):
        raise MisfitError(0, series[0], f"of type {dtype} is no time")
    zone = dtype.time_zone
    micro = series.dt.replace_time_zone("UTC") if zone is None else series.dt.convert_time_zone("UTC")
    nanos = dtype.time_unit == "ns"  # towards the past, also before 1970; a cast promises no direction
    micro = (micro.to_physical() // 1000).cast(_INSTANT) if nanos else micro.cast(_INSTANT)
    return micro if zone is not None else _localize(micro.dt.replace_time_zone(None), series, timezone)


def _from_epoch(series: pl.Series, unit: str) -> pl.Series:
    number = _fitting(series, series.cast(pl.Int64, strict=False), "int64")
    if unit == "ns":
        return (number // 1000).cast(_INSTANT)
    factor = _MICROSECONDS[unit]
    bad = ((number > (2**63 - 1) // factor) | (number < -(2**63 - 1) // factor)).fill_null(False)
    _refuse_first(series, bad, f"{unit} since 1970 is out of range")
    return (number * factor).cast(_INSTANT)


def _localize(clock: pl.Series, given: pl.Series, timezone: str) -> pl.Series:
    """Read a wall clock in a zone; a time that the zone has twice or never is refused, not guessed."""
    if timezone == "UTC":
        return clock.dt.replace_time_zone("UTC")
    out = clock.dt.replace_time_zone(timezone, ambiguous="null", non_existent="null")
    reason = (
        f"is a time that {timezone} has twice or never (clock change); store it in UTC or with its offset"
    )
    _refuse_first(given, out.is_null() & clock.is_not_null(), reason)
    return out.dt.convert_time_zone("UTC")


def _parse_instants(series: pl.Series, timezone: str) -> pl.Series:
    parts = series.str.extract_groups(_ISO).struct
    day, clock, second, fraction, zone = (parts.field(str(i)) for i in range(1, 6))
    text = day + " " + clock.fill_null("00:00") + ":" + second.fill_null("00")
    moment = text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    micro = fraction.fill_null("0").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64)
    moment = (moment.cast(pl.Int64) + micro).cast(pl.Datetime("us"))
    _refuse_first(
        series,
        moment.is_null() & series.is_not_null(),
        "is not an ISO 8601 time such as 2026-01-31T23:59:59Z",
    )
    if zone.null_count() == len(zone):
        return _localize(moment, series, timezone)
    digits = zone.str.replace_all(":", "").str.to_uppercase()
    seconds = (
        digits.str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0) * 3600
        + digits.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0) * 60
    ) * pl.select(pl.when(digits.str.starts_with("-")).then(-1).otherwise(1)).to_series()
    zoned = (moment.cast(pl.Int64) - seconds * 1_000_000).cast(_INSTANT)
    naive = _localize(pl.select(pl.when(zone.is_null()).then(moment)).to_series(), series, timezone)
    return pl.select(pl.when(zone.is_null()).then(naive).otherwise(zoned).alias(series.name)).to_series()


def clock_bounds(low: int, high: int, arrow: pa.DataType, timezone: str) -> tuple[int, int] | None:
    """Bounds in microseconds UTC of raw Parquet statistics of a time column; None if they can't be told.

    A wall clock that exists twice widens the bounds, so that nothing between them is lost.
    """
    if pa.types.is_date(arrow):
        low, high = low * 86_400_000_000, high * 86_400_000_000
    elif not pa.types.is_timestamp(arrow):
        return None
    elif arrow.unit == "ns":
        low, high = low // 1000, high // 1000
    else:
        low, high = low * _MICROSECONDS[arrow.unit], high * _MICROSECONDS[arrow.unit]
    if (pa.types.is_timestamp(arrow) and arrow.tz) or timezone == "UTC":
        return low, high
    return _to_utc(low, timezone, min), _to_utc(high, timezone, max)


def _to_utc(clock_us: int, timezone: str, pick: object) -> int:
    from datetime import datetime, timedelta

    moment = datetime(1970, 1, 1) + timedelta(microseconds=clock_us)  # noqa: DTZ001 - a wall clock has no zone yet
    zone = ZoneInfo(timezone)
    offsets = [moment.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)]
    return pick(clock_us - round(o.total_seconds()) * 1_000_000 for o in offsets if o is not None)  # type: ignore[operator,no-any-return]
