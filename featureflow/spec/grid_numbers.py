"""What steps of grids say in numbers: windows, bins, constants and ends, percentiles, lags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from featureflow.spec.fields import Misplaced
from featureflow.spec.grid_forms import Params, either
from featureflow.spec.grid_values import (
    NUMBER,
    Reader,
    below,
    known_keys,
    list_of,
    mapping_of,
    or_null,
    read_number,
    read_pair,
    whole,
)


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
