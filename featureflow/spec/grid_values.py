"""Values of the parameters of grid steps: how each kind is read, its JSON Schema, and what it must be if it is wrong.

A reader gets what YAML gave and returns plain data: texts, numbers, lists, mappings. It raises :class:`Misplaced` with
the place below the parameter, so that an error points at the one value that is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from featureflow.spec.fields import SQL_LIMIT_CHARACTERS, Misplaced
from featureflow.spec.suggest import closest, did_you_mean

Reader = Callable[[Any], Any]

#: types of values of a grid
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64"),
)
_SAME_DTYPE = {"double": "float64", "single": "float32", "boolean": "bool"}
_LIKELY_DTYPE = {
    "float": "float64",
    "int": "int64",
    "integer": "int64",
    "number": "float64",
    "float16": "float32",
}
#: what may be done with the values of a window, a bin or a dimension
OPS = ("mean", "sum", "min", "max", "std", "var", "median", "count")
#: the same where values have an order
ORDERED_OPS = (*OPS, "first", "last")
OP_ALIASES = {
    **dict.fromkeys(("avg", "average"), "mean"),
    **dict.fromkeys(("minimum",), "min"),
    **dict.fromkeys(("maximum",), "max"),
    **dict.fromkeys(("stddev", "stdev", "stddev_samp", "stddev_pop", "sd"), "std"),
    **dict.fromkeys(("variance", "var_samp", "var_pop"), "var"),
    **dict.fromkeys(("total",), "sum"),
    **dict.fromkeys(("n", "size"), "count"),
}

TEXT = {"type": "string", "minLength": 1}
NUMBER = {"type": "number"}
LABEL = {"type": ["string", "number", "boolean"]}
NAMES = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}
PAIR = {"type": "array", "items": {"type": ["number", "null"]}, "minItems": 2, "maxItems": 2}


def got(given: Any) -> str:
    """What was given, for the end of a message."""
    if given is None:
        return "it is empty"
    return f"got {str(given).lower()}" if isinstance(given, bool) else f"got {given!r}"


def wrong(wanted: str, given: Any) -> Misplaced:
    """The error for a value that is not what it must be."""
    return Misplaced((), f"must be {wanted}; {got(given)}.", at_key=False)


def below(place: str | int, read: Reader, given: Any) -> Any:
    """Read a part of a value; what is wrong with it is wrong there."""
    try:
        return read(given)
    except Misplaced as error:
        raise Misplaced((place, *error.place), error.message, error.at_key) from None


def is_number(given: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


def read_number(given: Any) -> float | int:
    """A finite number."""
    if not is_number(given):
        raise wrong("a number", given)
    found: float | int = given
    return found


def read_flag(given: Any) -> bool:
    """True or false."""
    if not isinstance(given, bool):
        raise wrong("true or false", given)
    return given


def whole(least: int, most: int = 2**31 - 1) -> Reader:
    """A whole number between two, both inclusive."""

    def read(given: Any) -> int:
        if isinstance(given, int) and not isinstance(given, bool) and least <= given <= most:
            return given
        raise wrong(
            f"a whole number of at least {least}"
            if most == 2**31 - 1
            else f"a whole number from {least} to {most}",
            given,
        )

    return read


def word(*words: str, aliases: Mapping[str, str] | None = None) -> Reader:
    """One of some words."""

    def read(given: Any) -> str:
        if isinstance(given, str) and given in words:
            return given
        found = closest(given, words, aliases=aliases) if isinstance(given, str) else None
        hint = f" Did you mean {found!r}?" if found else ""
        raise Misplaced(
            (), f"must be {', '.join(words[:-1])} or {words[-1]}; {got(given)}.{hint}", at_key=False
        )

    return read


def operation(*ops: str) -> Reader:
    """The name of what is done with several values."""

    def read(given: Any) -> str:
        if isinstance(given, str) and given in ops:
            return given
        what = (
            f"unknown op {given!r}" if isinstance(given, str) else f"must be the name of an op; {got(given)}"
        )
        raise Misplaced((), f"{what}. {did_you_mean(given, ops, aliases=OP_ALIASES)}", at_key=False)

    return read


def name_of(what: str) -> Reader:
    """A name."""

    def read(given: Any) -> str:
        if isinstance(given, str) and given.strip():
            return given
        raise wrong(f"the name of a {what}", given)

    return read


def names_of(what: str) -> Reader:
    """One name or a list of different ones; always returned as a list."""
    one = name_of(what)

    def read(given: Any) -> list[str]:
        if isinstance(given, str):
            return [one(given)]
        if not isinstance(given, list | tuple):
            raise wrong(f"the name of a {what}, or a list of them", given)
        if not given:
            raise Misplaced((), "is empty; it needs at least one.", at_key=False)
        found: list[str] = []
        for i, name in enumerate(given):
            if below(i, one, name) in found:
                raise Misplaced((i,), f"{name!r} is there twice. Remove one.", at_key=False)
            found.append(name)
        return found

    return read


def or_null(read: Reader) -> Reader:
    """Null, or what another reader takes."""
    return lambda given: None if given is None else read(given)


def list_of(read: Reader, *, single: bool = True) -> Reader:
    """A list, or with ``single`` one bare value; returned as a list."""

    def each(given: Any) -> list[Any]:
        if not isinstance(given, list | tuple):
            if not single:
                raise wrong("a list", given)
            return [read(given)]
        if not given:
            raise Misplaced((), "is empty; it needs at least one.", at_key=False)
        return [below(i, read, one) for i, one in enumerate(given)]

    return each


def mapping_of(read: Reader, what: str, example: str) -> Reader:
    """A mapping of names, in the order in which they are written."""

    def each(given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise wrong(f"a mapping such as {example}", given)
        if not given:
            raise Misplaced((), f"names no {what}. Write {example}.", at_key=False)
        return {str(name): below(str(name), read, value) for name, value in given.items()}

    return each


def read_expression(given: Any) -> str:
    """An SQL expression over variables."""
    if not isinstance(given, str) or not given.strip():
        raise wrong("an SQL expression in quotes", given)
    if len(given) > SQL_LIMIT_CHARACTERS:
        raise Misplaced(
            (),
            f"has {len(given)} characters; at most {SQL_LIMIT_CHARACTERS} are accepted. Split it into derive steps.",
            False,
        )
    return given


def read_dtype(given: Any) -> str:
    """A type of values."""
    text = _SAME_DTYPE.get(given, given) if isinstance(given, str) else given
    if text in DTYPES:
        return str(text)
    hint = did_you_mean(given, DTYPES, aliases=_LIKELY_DTYPE)
    raise Misplaced((), f"unknown type {given!r}. {hint}", at_key=False)


def read_label(given: Any) -> Any:
    """A label of a coordinate: a number, a text (times as 2020-12-31 or 2020-12-31T06:00), true or false."""
    if isinstance(given, str | bool) or is_number(given):
        return given
    raise wrong("a label: a number, a text or a time such as 2020-12-31", given)


def read_pair(given: Any) -> list[float | None]:
    """``[least, greatest]``, of which one may be null."""
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise wrong("two numbers, [least, greatest]; either may be null", given)
    low, high = (below(i, or_null(read_number), end) for i, end in enumerate(given))
    if low is None and high is None:
        raise Misplaced((), "both ends are null. Give one, or remove it.", at_key=False)
    if low is not None and high is not None and low > high:
        raise Misplaced(
            (), f"the least value {low} is greater than the greatest {high}. Swap them.", at_key=False
        )
    return [low, high]


def _two_numbers(given: Any) -> bool:
    return isinstance(given, list | tuple) and len(given) == 2 and all(is_number(one) for one in given)


def read_ends(given: Any) -> list[float]:
    """Two ascending numbers."""
    if _two_numbers(given) and given[0] < given[1]:
        return [float(given[0]), float(given[1])]
    raise wrong("two ascending numbers such as [0, 1]", given)


def read_quantiles(given: Any) -> list[float]:
    """Two ascending numbers from 0 to 1."""
    if _two_numbers(given) and 0 <= given[0] < given[1] <= 1:
        return [float(given[0]), float(given[1])]
    raise wrong("two ascending numbers from 0 to 1, such as [0.01, 0.99]", given)


def share(given: Any) -> float:
    """A number from 0 to 1."""
    if is_number(given) and 0 <= given <= 1:
        return float(given)
    raise wrong("a number from 0 to 1", given)


def percent(given: Any) -> float:
    """A number from 0 to 100; what looks like a share is refused."""
    if is_number(given) and 0 < given < 1:
        likely = f"{given * 100:g}"
        raise Misplaced(
            (),
            f"percentiles go from 0 to 100; got {given!r}. Write q: {likely}, or quantiles: {given!r}.",
            at_key=False,
        )
    if is_number(given) and 0 <= given <= 100:
        return float(given)
    raise wrong("a number from 0 to 100", given)


def known_keys(given: Mapping[Any, Any], known: Sequence[str], what: str) -> None:
    """Refuse keys that a mapping does not have."""
    for key in given:
        if key not in known:
            raise Misplaced((str(key),), f"{what} has no {key!r}. {did_you_mean(key, known)}")
