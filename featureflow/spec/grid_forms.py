"""What a spec can say about steps of grids: names, parameters, defaults, short forms. The arithmetic is the library's.

The normal form of every step's parameters is the table of :mod:`featureflow.spec.grids`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featureflow.spec.fields import Misplaced
from featureflow.spec.grid_times import read_period
from featureflow.spec.grid_values import (
    LABEL,
    NAMES,
    OPS,
    ORDERED_OPS,
    TEXT,
    Reader,
    list_of,
    name_of,
    names_of,
    operation,
    read_expression,
    read_label,
    whole,
    wrong,
)

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StepParameter:
    """A parameter of a step as it is written.

    Parameters
    ----------
    read
        Gives plain data; raises `Misplaced` with what is wrong.
    schema
        JSON Schema of the value.
    doc
        For the documentation.
    default
        Value if it is not written.
    required
        Whether it must be written.
    """

    read: Reader
    schema: Mapping[str, Any]
    doc: str
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class StepForm:
    """What may be written about one step.

    Parameters
    ----------
    doc
        What it does.
    example
        A step with parameters that are right.
    params
        By name.
    others
        Reads the keys that are no parameters, such as dimensions: ``{lat: 4, lon: 4}``.
    others_as
        Name of the parameter that these make.
    short
        What a value that is no mapping stands for; None if it stands for nothing.
    finish
        Makes the normal form of parameters that are right one by one; raises `Misplaced`.
    """

    doc: str
    example: str
    params: Mapping[str, StepParameter]
    others: StepParameter | None = None
    others_as: str = ""
    short: Callable[[Any], Params | None] = lambda _: None
    short_schema: Mapping[str, Any] | None = None
    finish: Callable[[Params], Params] = dict


def param(read: Reader, schema: Mapping[str, Any], doc: str, default: Any = None) -> StepParameter:
    """A parameter that may be omitted."""
    return StepParameter(read, schema, doc, default)


def needed(read: Reader, schema: Mapping[str, Any], doc: str) -> StepParameter:
    """A parameter that must be written."""
    return StepParameter(read, schema, doc, required=True)


DIM = needed(name_of("dimension"), TEXT, "Dimension.")
DIMS = needed(names_of("dimension"), NAMES, "Dimensions.")
ANY_DIMS = param(names_of("dimension"), NAMES, "Dimensions; all if omitted.")
VARIABLES = param(
    names_of("variable"), NAMES, "Variables that it acts on; all that have the dimensions if omitted."
)
OP = needed(operation(*OPS), {"enum": list(OPS)}, f"{' '.join(OPS)}.")
ORDERED_OP = needed(operation(*ORDERED_OPS), {"enum": list(ORDERED_OPS)}, f"{' '.join(ORDERED_OPS)}.")
DDOF = param(whole(0, 1000), {"type": "integer", "minimum": 0}, "Of std and var: the divisor is n - ddof.", 0)
_PERIOD_SCHEMA = {
    "anyOf": [
        {"const": "all"},
        {"type": "array", "items": LABEL, "minItems": 2, "maxItems": 2},
        {"type": "object"},
    ]
}
PERIOD = param(
    read_period,
    _PERIOD_SCHEMA,
    "What it is fitted on: `[from, to]`, both inclusive, or `all`; a `select` before it with both ends says it too.",
)


def either(given: Params, names: tuple[str, ...], example: str) -> None:
    """Exactly one of some parameters must be given."""
    there = [name for name in names if given[name] not in (None, {})]
    words = f"{', '.join(names[:-1])} or {names[-1]}"
    if not there:
        raise Misplaced((), f"needs {words}. Write {example}.")
    if len(there) > 1:
        raise Misplaced((there[1],), f"{there[0]} and {there[1]} can't go together. Keep one.")


def fill(given: Params) -> Params:
    """A constant, or a method with its dimension."""
    dim, constant = given["dim"], given["method"] == "constant"
    if constant:
        either(given, ("value", "each"), "fill: 0, fill: {sst: 0} or fill: {method: ffill, dim: time}")
        for name in ("dim", "limit"):
            if given[name] is not None:
                raise Misplaced((name,), f"{name} is for method: ffill and linear. Remove it.")
        if given["each"] and given["variables"] is not None:
            raise Misplaced(("variables",), "the variables are already named. Remove it.")
        return given
    for name in ("value", "each"):
        if given[name] not in (None, {}):
            raise Misplaced(
                (name,) if name == "value" else (), f"a value is for method: constant, not {given['method']}."
            )
    if dim is None:
        raise Misplaced((), f"method: {given['method']} needs dim:, the dimension along which it fills.")
    return given


def kept(given: Any) -> Params:
    """What of a mask is kept: values, or where an expression is true."""
    if isinstance(given, str):
        return {"values": None, "expression": read_expression(given)}
    if isinstance(given, dict):
        raise wrong("a value, a list of values, or an SQL expression in quotes", given)
    return {"values": list_of(read_label)(given), "expression": None}


def mask(given: Params) -> Params:
    """What is kept: values or an expression, or neither."""
    keep = given.pop("keep") or {"values": None, "expression": None}
    return {**given, **keep}


def some_of(name: str, example: str) -> Callable[[Params], Params]:
    """Something must be named beside the parameters."""

    def finish(given: Params) -> Params:
        if not given[name]:
            raise Misplaced((), f"names nothing. Write {example}.", at_key=False)
        return given

    return finish


def one_of(names: tuple[str, ...], example: str) -> Callable[[Params], Params]:
    """Exactly one of some parameters must be given."""

    def finish(given: Params) -> Params:
        either(given, names, example)
        return given

    return finish


def read_prefix(given: Any) -> str:
    """Text in front of names; may be empty."""
    if not isinstance(given, str):
        raise wrong("text", given)
    return given
