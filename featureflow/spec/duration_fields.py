"""Durations in a spec: what is accepted where, and a suggestion for what people write instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from featureflow.core.durations import Duration
from featureflow.spec.suggest import closest

DURATION_PATTERN = r"^(\d+(us|ms|s|m|h|d|w))+$"


def parse_duration(given: Any) -> Duration:
    """Read a duration, with a suggestion for what people write instead.

    Raises
    ------
    ValueError
        If it is none.
    """
    if isinstance(given, Duration):
        return given
    if not isinstance(given, str):
        unit = f" Add a unit, such as '{given}s' or '{given}d'." if isinstance(given, int) else ""
        got = "nothing" if given is None else repr(given)
        raise ValueError(f"must be a duration such as '7d'; got {got}.{unit}")
    try:
        return Duration.parse(given)
    except ValueError:
        if re.fullmatch(r"-\s*\d+\s*[a-zA-Z]+", given.strip()):
            raise ValueError(f"must be a positive duration such as '7d'; got {given!r}.") from None
        likely = _likely_duration(given)
        hint = f" Did you mean {likely!r}?" if likely else ""
        raise ValueError(
            f"{given!r} is not a duration.{hint} Write it as 250ms, 5s, 10m, 1h, 1d, 2w or lifetime."
        ) from None


_WORDS = {
    **dict.fromkeys(("us", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ms", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "wk", "week", "weeks"), "w"),
}


def _likely_duration(given: str) -> str | None:
    text = given.strip().lower()
    if text in ("all", "forever", "inf", "infinite", "unbounded", "life", "ever"):
        return "lifetime"
    parts = re.fullmatch(r"[+-]?\s*(\d{1,9})\s*([a-z]+)", text)
    if parts is None:
        return closest(text, ["lifetime"])
    if parts[2] in ("mo", "month", "months"):
        return f"{int(parts[1]) * 30}d"
    if parts[2] in ("y", "yr", "year", "years"):
        return f"{int(parts[1]) * 365}d"
    return f"{parts[1]}{_WORDS[parts[2]]}" if parts[2] in _WORDS else None


def _duration(*, zero: bool, lifetime: bool) -> Callable[[Any], Duration]:
    def read(given: Any) -> Duration:
        found = parse_duration(given)
        if found.microseconds is None and not lifetime:
            raise ValueError("must be a duration such as '7d'; 'lifetime' is only for windows.")
        if found.microseconds == 0 and not zero:
            raise ValueError(f"must be a positive duration such as '7d'; got {str(found)!r}.")
        if found.microseconds is not None and found.microseconds >= 2**62:
            raise ValueError(f"{str(found)!r} is longer than times can be. Write lifetime for no limit.")
        return found

    return read


_DURATION_SCHEMA = {"type": "string", "pattern": DURATION_PATTERN}
_as_text = PlainSerializer(str, return_type=str)

#: positive, or ``lifetime``
WindowLength = Annotated[
    Duration,
    PlainValidator(_duration(zero=False, lifetime=True)),
    _as_text,
    WithJsonSchema({"anyOf": [_DURATION_SCHEMA, {"const": "lifetime"}]}),
]
#: positive
PositiveDuration = Annotated[
    Duration,
    PlainValidator(_duration(zero=False, lifetime=False)),
    _as_text,
    WithJsonSchema(_DURATION_SCHEMA),
]
#: zero or more
Delay = Annotated[
    Duration, PlainValidator(_duration(zero=True, lifetime=False)), _as_text, WithJsonSchema(_DURATION_SCHEMA)
]
