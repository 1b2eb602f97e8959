"""Values of the parameters of encoders: how each kind is read, and its JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from featureflow.core.durations import Duration


class Read(NamedTuple):
    """A value as it is kept, or what it must be."""

    value: Any = None
    wrong: str | None = None


@dataclass(frozen=True, slots=True)
class EncoderParameter:
    """A parameter of an encoder.

    Parameters
    ----------
    read
        Gives the value as it is kept (numbers as floats, lists as tuples), or what it must be.
    schema
        JSON Schema of the value.
    default
        Value if it is not written.
    example
        For messages.
    required
        Whether it must be written; then there is no default.
    """

    read: Callable[[Any], Read]
    schema: Mapping[str, Any]
    default: Any = None
    example: str = ""
    required: bool = False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_number(value: Any) -> Read:
    """A finite number, as a float."""
    return Read(float(value)) if _is_number(value) else Read(wrong="must be a number")


def or_null(read: Callable[[Any], Read]) -> Callable[[Any], Read]:
    """Null, or what another reader takes."""

    def either(value: Any) -> Read:
        return Read(None) if value is None else read(value)

    return either


def whole(least: int, most: int) -> Callable[[Any], Read]:
    """A whole number between two, both inclusive."""

    def read(value: Any) -> Read:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return Read(value) if good else Read(wrong=f"must be a whole number from {least} to {most}")

    return read


def between(least: float, most: float, what: str) -> Callable[[Any], Read]:
    """A number between two, both inclusive."""

    def read(value: Any) -> Read:
        good = _is_number(value) and least <= value <= most
        return Read(float(value)) if good else Read(wrong=f"must be {what}")

    return read


def read_flag(value: Any) -> Read:
    """True or false."""
    return Read(value) if isinstance(value, bool) else Read(wrong="must be true or false")


def word(*words: str) -> Callable[[Any], Read]:
    """One of some words."""

    def read(value: Any) -> Read:
        if isinstance(value, str) and value in words:
            return Read(value)
        return Read(wrong=f"must be {', '.join(words[:-1])} or {words[-1]}")

    return read


def read_scalar(value: Any) -> Read:
    """A text, a number, true or false."""
    good = isinstance(value, str | bool) or _is_number(value)
    return Read(value) if good else Read(wrong="must be a text, a number, true or false")


def read_ends(value: Any) -> Read:
    """Two ascending numbers."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(_is_number(one) for one in value):
        low, high = float(value[0]), float(value[1])
        if low < high:
            return Read((low, high))
    return Read(wrong="must be two numbers, [least, greatest]")


def read_edges(value: Any) -> Read:
    """Ascending numbers."""
    if isinstance(value, list | tuple) and value and all(_is_number(one) for one in value):
        numbers = tuple(float(one) for one in value)
        if all(a < b for a, b in pairwise(numbers)):
            return Read(numbers)
    return Read(wrong="must be a list of ascending numbers")


def read_smoothing(value: Any) -> Read:
    """``auto``, or how many rows the prior weighs."""
    if value == "auto":
        return Read("auto")
    good = _is_number(value) and value >= 0
    return Read(float(value)) if good else Read(wrong="must be auto, or a number that is not negative")


def read_folds(value: Any) -> Read:
    """``time``, ``none``, or a number of folds."""
    if value in ("time", "none"):
        return Read(value)
    good = isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= 1000
    return Read(value) if good else Read(wrong="must be time, none, or a whole number from 2 to 1000")


def read_delay(value: Any) -> Read:
    """A duration, which stays text so that a step is plain data."""
    try:
        length = Duration.parse(value).microseconds
    except ValueError:
        length = None
    return Read(value) if length is not None else Read(wrong="must be a duration such as 30d")


def read_name(value: Any) -> Read:
    """The name of a label."""
    good = isinstance(value, str) and value.strip()
    return Read(value) if good else Read(wrong="must be the name of a label")


NUMBER = {"type": "number"}
_BOOL = {"type": "boolean"}
SCALAR = {"type": ["string", "number", "boolean", "null"]}
SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}


def at_most(most: int, least: int = 1) -> dict[str, Any]:
    """Schema of a whole number or null."""
    return {"type": ["integer", "null"], "minimum": least, "maximum": most}


def flag(default: bool) -> EncoderParameter:
    """A parameter that is true or false."""
    return EncoderParameter(read_flag, _BOOL, default)


def seed() -> EncoderParameter:
    """The parameter ``seed``."""
    return EncoderParameter(whole(0, 2**31 - 1), {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, 0)


def one_of(default: str, *words: str) -> EncoderParameter:
    """A parameter that is one of some words."""
    return EncoderParameter(word(*words), {"enum": list(words)}, default)


def percentage(default: float) -> EncoderParameter:
    """A parameter from 0 to 100."""
    read = between(0, 100, "a percentage from 0 to 100")
    return EncoderParameter(read, {**NUMBER, "minimum": 0, "maximum": 100}, default)
