"""Labels of a coordinate to positions along its dimension, as a spec writes them: numbers, texts, times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from featureflow.contracts.grid_step import StepMistake

Place = tuple[str | int, ...]
_ISO = re.compile(r"(\d{1,4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2})(?::(\d{2})(?::(\d{2}))?)?)?)?)?Z?")


def index_of(cube: xr.Dataset, dim: str, place: Place) -> pd.Index[Any]:
    """Give the index of a dimension; without one there are no labels."""
    if dim not in cube.indexes:
        text = f"dimension {dim!r} has no coordinate, so there are no labels. Select positions with isel."
        raise StepMistake(place, text)
    return cube.indexes[dim]


def span_of(index: pd.Index[Any], low: Any, high: Any, place: Place) -> tuple[int, int]:
    """Positions from one label to another, both inclusive, whichever way the coordinate runs.

    A text that names a month or a day means all of it. None is an open end.
    """
    if not (index.is_monotonic_increasing or index.is_monotonic_decreasing):
        text = f"coordinate {index.name!r} neither rises nor falls all the way, so it has no range of labels."
        raise StepMistake(place, f"{text} Name the labels, or select positions with isel.")
    falls = not index.is_monotonic_increasing
    rising = index[::-1] if falls else index
    low, high = (_fit(rising, end, place) for end in (low, high))
    if isinstance(low, float | int | np.number) and isinstance(high, float | int | np.number) and low > high:
        low, high = high, low
    try:
        found = rising.slice_indexer(low, high)
    except (TypeError, ValueError, KeyError) as error:
        raise _no_label(index, [one for one in (low, high) if one is not None], place) from error
    start, stop = int(found.start or 0), int(len(index) if found.stop is None else found.stop)
    if start >= stop:
        raise StepMistake(place, f"no label is from {low} to {high}: {_described(index)}")
    return (len(index) - stop, len(index) - start) if falls else (start, stop)


def position_of(index: pd.Index[Any], label: Any, method: str, place: Place) -> int | tuple[int, int]:
    """Position of one label; the positions of all of it where a text names a month, a day or a year."""
    if method == "nearest":
        return int(positions_of(index, [label], method, place)[0])
    try:
        found = index.get_loc(_fit(index, label, place))
    except (TypeError, ValueError, KeyError) as error:
        raise _no_label(index, [label], place) from error
    if isinstance(found, slice):
        start, stop, _ = found.indices(len(index))
        if isinstance(index, pd.DatetimeIndex | xr.CFTimeIndex) and isinstance(label, str) and start < stop:
            return start, stop
    if isinstance(found, int | np.integer):
        return int(found)
    raise StepMistake(place, f"label {label!r} is there more than once. Select positions with isel.")


def positions_of(
    index: pd.Index[Any], labels: Sequence[Any], method: str, place: Place
) -> np.ndarray[Any, Any]:
    """Positions of labels, in their order."""
    if not index.is_unique:
        text = f"labels of {index.name!r} are there more than once. Select positions with isel."
        raise StepMistake(place, text)
    if method == "nearest" and not (index.is_monotonic_increasing or index.is_monotonic_decreasing):
        text = f"coordinate {index.name!r} neither rises nor falls all the way: nothing is nearest in it."
        raise StepMistake(place, f"{text} Use method: exact.")
    try:
        wanted = _index_like(index, labels, place)
        found = index.get_indexer(wanted, method=None if method == "exact" else "nearest")
    except (TypeError, ValueError, KeyError) as error:
        raise _no_label(index, labels, place) from error
    if (found < 0).any():
        raise _no_label(index, [label for label, at in zip(labels, found, strict=True) if at < 0], place)
    return np.asarray(found, np.int64)


def time_label(index: pd.Index[Any], label: Any, place: Place) -> Any:
    """Give a text as a time of the index's calendar."""
    if isinstance(index, pd.DatetimeIndex):
        try:
            return pd.Timestamp(label.removesuffix("Z") if isinstance(label, str) else label)
        except ValueError as error:
            raise _no_label(index, [label], place) from error
    parts = _ISO.fullmatch(label) if isinstance(label, str) else None
    if not isinstance(index, xr.CFTimeIndex) or parts is None:
        raise _no_label(index, [label], place)
    year, month, day, *clock = (int(part) if part else None for part in parts.groups())
    try:
        return index.date_type(year, month or 1, day or 1, *(one or 0 for one in clock))
    except ValueError as error:
        raise StepMistake(place, f"{label!r} is no time of the calendar {index.calendar}: {error}.") from None


def _index_like(index: pd.Index[Any], labels: Sequence[Any], place: Place) -> Any:
    if isinstance(index, pd.DatetimeIndex):
        return pd.DatetimeIndex([time_label(index, label, place) for label in labels])
    if isinstance(index, xr.CFTimeIndex):
        return xr.CFTimeIndex([time_label(index, label, place) for label in labels])  # type: ignore[no-untyped-call]
    return pd.Index([_fit(index, label, place) for label in labels])


def _fit(index: pd.Index[Any], label: Any, place: Place) -> Any:
    """Give a number the precision of the coordinate: 0.1 names the float32 that is nearest to it."""
    if isinstance(label, str) and index.dtype.kind in "iuf":
        raise StepMistake(
            place, f"{index.name!r} holds numbers; got the text {label!r}. Write it without quotes."
        )
    if isinstance(label, str) and isinstance(index, pd.DatetimeIndex):
        return label.removesuffix("Z")  # times of grids are in UTC
    if label is None or not isinstance(label, int | float | np.number) or isinstance(label, bool):
        return label
    if index.dtype.kind == "f":
        return index.dtype.type(label)
    if index.dtype.kind not in "iu":
        raise _no_label(index, [label], place)
    return label


def _no_label(index: pd.Index[Any], labels: Sequence[Any], place: Place) -> StepMistake:
    given = ", ".join(repr(label.item() if isinstance(label, np.generic) else label) for label in labels[:5])
    return StepMistake(place, f"no label {given}: {_described(index)}")


def _described(index: pd.Index[Any]) -> str:
    if not len(index):
        return f"{index.name!r} is empty."
    if len(index) <= 6:
        return f"{index.name!r} has {', '.join(str(label) for label in index)}."
    middle = "" if index.is_monotonic_increasing or index.is_monotonic_decreasing else " (in no order)"
    return f"{index.name!r} has {len(index)} labels from {index[0]} to {index[-1]}{middle}."
