"""What a spec can say about steps of grids: names, parameters, defaults, short forms. The arithmetic is the library's.

The normal form of every step's parameters is the table of :mod:`featureflow.spec.grids`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featureflow.spec.fields import Misplaced
from featureflow.spec.grid_values import (
    LABEL,
    NAMES,
    NUMBER,
    OPS,
    ORDERED_OPS,
    TEXT,
    Reader,
    below,
    known_keys,
    list_of,
    mapping_of,
    name_of,
    names_of,
    operation,
    or_null,
    read_expression,
    read_label,
    read_number,
    read_pair,
    read_period,
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


def rolling(given: Params) -> Params:
    """A window of a number of values, or of a duration."""
    window = given.pop("window")
    steps, length = (None, window["us"]) if isinstance(window, dict) else (window, None)
    least = given["min_periods"]
    if steps is not None and least is not None and least > steps:
        raise Misplaced(("min_periods",), f"is {least}, more than the window's {steps} values.", at_key=False)
    if length is not None and given["center"]:
        raise Misplaced(
            ("center",), "windows of a duration end at their label. Give window: as a number of values."
        )
    return {**given, "window": steps, "window_us": length}


def resample(given: Params) -> Params:
    """``{time: 1D}`` and ``{dim: time, every: 1D}`` are the same."""
    each = given.pop("each")
    if each:
        if len(each) > 1:
            raise Misplaced((list(each)[1],), "a grid is resampled along one dimension. Write two steps.")
        if given["dim"] is not None or given["every"] is not None:
            raise Misplaced(
                (next(iter(each)),),
                "the dimension is given twice. Write {time: 1D} or {dim: time, every: 1D}.",
            )
        (given["dim"], given["every"]), *_ = each.items()
    for name in ("dim", "every"):
        if given[name] is None:
            raise Misplaced((), f"needs {name}. Write {{resample: {{time: 1D, op: mean}}}}.")
    return given


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


def constants(first: str, second: str) -> Callable[[Params], Params]:
    """``{min: 0, max: 255}``, or both as mappings of variables, in place of a fit."""

    def finish(given: Params) -> Params:
        low, high = given.pop(first), given.pop(second)
        if (low is None) != (high is None):
            there, missing = (first, second) if high is None else (second, first)
            raise Misplaced((there,), f"{there} needs {missing}, too.")
        found: Params = {**given, "constants": None, "each": {}}
        if low is None:
            return found
        for name in ("dims", "period"):
            if given[name] is not None:
                raise Misplaced(
                    (name,), f"nothing is fitted where {first} and {second} are given. Remove it."
                )
        if isinstance(low, dict) != isinstance(high, dict) or (
            isinstance(low, dict) and set(low) != set(high)
        ):
            raise Misplaced(
                (second,), f"{first} and {second} must be two numbers, or name the same variables."
            )
        if isinstance(low, dict):
            found["each"] = {
                name: _apart(first, second, low[name], high[name], (second, name)) for name in low
            }
        else:
            found["constants"] = _apart(first, second, low, high, (second,))
        return found

    return finish


def _apart(first: str, second: str, low: float, high: float, place: tuple[str, ...]) -> list[float]:
    if second == "max" and low >= high:
        raise Misplaced(place, f"must be greater than {first}, which is {low}; got {high}.", at_key=False)
    if second == "std" and high <= 0:
        raise Misplaced(place, f"must be positive; got {high}.", at_key=False)
    return [float(low), float(high)]


def number_or_each(given: Any) -> Any:
    """A number, or one for each variable."""
    if isinstance(given, dict):
        return mapping_of(read_number, "variable", "{sst: 0}")(given)
    return read_number(given)


NUMBER_OR_EACH = {"anyOf": [NUMBER, {"type": "object", "additionalProperties": NUMBER}]}


def ends_of(given: Any) -> list[float | None]:
    """``[least, greatest]``, or ``{min: …, max: …}``."""
    if isinstance(given, dict):
        known_keys(given, ("min", "max"), "a pair of ends")
        ends = [below(end, or_null(read_number), given.get(end)) for end in ("min", "max")]
        return read_pair(ends)
    return read_pair(given)


def clip(given: Params) -> Params:
    """Fixed ends, ends of variables, or quantiles."""
    low, high = given.pop("min"), given.pop("max")
    pair = None if low is None and high is None else read_pair([low, high])
    found = {"range": pair, **given}
    there = [name for name in ("range", "each", "quantiles") if found[name] not in (None, {})]
    if not there:
        raise Misplaced(
            (),
            "needs ends. Write {clip: [0, 40]}, {clip: {sst: [0, 40]}} or {clip: {quantiles: [0.01, 0.99]}}.",
        )
    if len(there) > 1:
        raise Misplaced(
            (), "has fixed ends and other ones. Keep either min and max, ends of variables, or quantiles."
        )
    if there != ["quantiles"]:
        for name in ("dims", "period"):
            if found[name] is not None:
                raise Misplaced((name,), f"{name} is for quantiles. Remove it.")
    return found


def percentile(given: Params) -> Params:
    """Shares, whether they were asked for as ``q`` or ``quantiles``."""
    q = given.pop("q")
    either(
        {"q": q, "quantiles": given["quantiles"]},
        ("q", "quantiles"),
        "{percentile: {dims: time, q: [5, 95]}}",
    )
    asked = q if q is not None else given["quantiles"]
    scalar = not isinstance(asked, list)
    shares = [asked] if scalar else asked
    return {
        **given,
        "quantiles": [one / 100 for one in shares] if q is not None else shares,
        "scalar": scalar,
    }


def one_or_list(read: Reader) -> Reader:
    """A value, or a list of different ones, each as it is written."""

    def either(given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return read(given)
        found = list_of(read)(given)
        for i, value in enumerate(found):
            if value in found[:i]:
                raise Misplaced((i,), f"{value!r} is there twice. Remove one.", at_key=False)
        return found

    return either


def steps_back(given: Any) -> int:
    """A number of labels, forward in time."""
    if isinstance(given, int) and not isinstance(given, bool) and given < 0:
        raise Misplaced(
            (), f"looks ahead: got {given}. A lag is 1 or more, so that values are known.", at_key=False
        )
    return int(whole(1)(given))


def lag(given: Params) -> Params:
    """One number replaces values, a list makes variables."""
    n = given["n"]
    return {**given, "n": n if isinstance(n, list) else [n], "scalar": not isinstance(n, list)}
