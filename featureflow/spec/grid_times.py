"""Lengths of times in steps of grids: periods, windows, bins."""

from __future__ import annotations

import re
from typing import Any

from featureflow.core.durations import Duration
from featureflow.spec.fields import Misplaced
from featureflow.spec.grid_values import below, read_label, wrong

_EVERY = re.compile(r"(\d*)\s*([A-Za-z]+)")


#: units of `every:` as pandas spells them, by all spellings that are accepted
_UNITS = {
    **dict.fromkeys(("s", "S"), "s"),
    **dict.fromkeys(("min", "m", "T"), "min"),
    **dict.fromkeys(("h", "H"), "h"),
    **dict.fromkeys(("d", "D"), "D"),
    **dict.fromkeys(("MS", "QS", "YS"), ""),
}


_LIKELY_UNIT = {
    "M": "MS",
    "ME": "MS",
    "mo": "MS",
    "Q": "QS",
    "QE": "QS",
    "Y": "YS",
    "A": "YS",
    "YE": "YS",
    "AS": "YS",
    "y": "YS",
}


def read_period(given: Any) -> Any:
    """``all``, or the first and the last label, both inclusive."""
    if given == "all":
        return "all"
    ends = (
        [given.get("from"), given.get("to")]
        if isinstance(given, dict) and set(given) == {"from", "to"}
        else given
    )
    if isinstance(ends, list | tuple) and len(ends) == 2:
        found = [below(i, read_label, end) for i, end in enumerate(ends)]
        if type(found[0]) is type(found[1]) and found[0] > found[1]:
            raise Misplaced(
                (), f"begins at {found[0]!r}, after its end {found[1]!r}. Swap them.", at_key=False
            )
        return found
    raise wrong("[from, to] such as ['1991-01-01', '2020-12-31'], or all", given)


def read_window(given: Any) -> Any:
    """A number of steps, or a duration such as ``30d``; a duration as ``{"us": microseconds}``."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return given
    if isinstance(given, str):
        try:
            length = Duration.parse(given).microseconds
        except ValueError:
            length = None
        if length:
            return {"us": length}
    raise wrong("a number of values of at least 1, or a duration such as 30d", given)


def read_every(given: Any) -> str:
    """Length of a bin: ``10min``, ``6h``, ``1D``, ``7D``, ``1MS`` (months), ``1QS``, ``1YS``; canonical."""
    parsed = _EVERY.fullmatch(given.strip()) if isinstance(given, str) else None
    wanted = "a length such as 10min, 6h, 1D, 7D, 1MS (months), 1QS (quarters) or 1YS (years)"
    if parsed is None:
        raise wrong(wanted, given)
    count, unit = int(parsed[1] or 1), parsed[2]
    if count >= 1 and unit in _UNITS:
        return f"{count}{_UNITS[unit] or unit}"
    if count >= 1 and unit in ("w", "W"):
        hint = f" Did you mean '{7 * count}D'?"
    else:
        hint = f" Did you mean '{count}{_LIKELY_UNIT[unit]}'?" if unit in _LIKELY_UNIT and count >= 1 else ""
    raise Misplaced((), f"must be {wanted}; got {given!r}.{hint}", at_key=False)
