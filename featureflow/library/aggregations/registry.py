"""The shelf itself, and how a spec takes something from it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from featureflow.library.aggregations.distinct import (
    ApproxCountDistinct,
    CountDistinct,
    Entropy,
    Histogram,
    Mode,
)
from featureflow.library.aggregations.entry import Entry
from featureflow.library.aggregations.extrema import ArgMax, ArgMin, Max, Min
from featureflow.library.aggregations.logical import All
from featureflow.library.aggregations.logical import Any as AnyTrue
from featureflow.library.aggregations.moments import Count, Mean, StddevPop, StddevSamp, Sum, VarPop, VarSamp
from featureflow.library.aggregations.order import First, FirstK, Last, LastK
from featureflow.library.aggregations.quantiles import ApproxQuantile, BottomK, Median, Quantile, TopK
from featureflow.library.aggregations.recency import MeanGapSeconds, SecondsSinceFirst, SecondsSinceLast
from featureflow.library.aggregations.shapes import Kurtosis, Skew
from featureflow.library.aggregations.trend import EwmMean, Slope

if TYPE_CHECKING:
    from featureflow.contracts.aggregation import Aggregation

#: every aggregation by its name in a spec
AGGREGATIONS: dict[str, type[Entry]] = {
    entry.name: entry
    for entry in (
        *(Count, Sum, Mean, StddevSamp, StddevPop, VarSamp, VarPop),
        *(Min, Max, ArgMax, ArgMin),
        *(First, Last, FirstK, LastK),
        *(Skew, Kurtosis),
        *(CountDistinct, ApproxCountDistinct, Mode, Entropy, Histogram),
        *(Median, Quantile, ApproxQuantile, TopK, BottomK),
        *(AnyTrue, All),
        *(SecondsSinceLast, SecondsSinceFirst, MeanGapSeconds),
        *(Slope, EwmMean),
    )
}


def _suggest(given: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(names) or 'none'}."


def make(op: str | dict[str, Any]) -> Aggregation:
    """Make an aggregation from its form in a spec.

    Parameters
    ----------
    op
        A name (``"sum"``), or a mapping of one name to its parameters (``{"quantile": {"q": 0.95}}``).

    Raises
    ------
    ValueError
        For an unknown name or parameter (with a suggestion), a missing parameter, or a value out of range.

    Examples
    --------
    >>> make("sum").label()
    'sum'
    >>> make("maen")
    Traceback (most recent call last):
    ValueError: unknown aggregation 'maen'. Did you mean 'mean'? Known: ...
    """
    given: Any = {}
    if isinstance(op, str):
        name = op
    elif isinstance(op, dict) and len(op) == 1:
        name, given = next(iter(op.items()))
        given = {} if given is None else given
    else:
        raise ValueError(f"an aggregation is a name or {{name: {{parameter: value}}}}; got {op!r}.")
    if not isinstance(name, str) or name not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation {name!r}.{_suggest(str(name), AGGREGATIONS)}")
    if not isinstance(given, dict):
        raise ValueError(
            f"{name}: parameters are a mapping, {{{name}: {{parameter: value}}}}; got {given!r}."
        )
    entry = AGGREGATIONS[name]
    fields = {field.name: field for field in dataclasses.fields(entry)}  # type: ignore[arg-type]
    for parameter in given:
        if parameter not in fields:
            raise ValueError(f"{name}: unknown parameter {parameter!r}.{_suggest(str(parameter), fields)}")
    missing = [
        field.name
        for field in fields.values()
        if field.name not in given and field.default is dataclasses.MISSING
    ]
    if missing:
        needed = ", ".join(f"{parameter}: …" for parameter in missing)
        raise ValueError(f"{name}: needs {', '.join(missing)}. Write it as {{{name}: {{{needed}}}}}.")
    made: Aggregation = entry(**given)  # type: ignore[assignment]
    return made
