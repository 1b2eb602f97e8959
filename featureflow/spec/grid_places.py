"""What steps of grids say about places: selections of labels and positions, zones, other coordinates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from featureflow.spec.fields import Misplaced
from featureflow.spec.grid_forms import Params, either, param
from featureflow.spec.grid_values import (
    LABEL,
    NAMES,
    below,
    is_number,
    known_keys,
    list_of,
    mapping_of,
    name_of,
    names_of,
    or_null,
    read_label,
    read_number,
    whole,
    word,
    wrong,
)

_METHODS = ("exact", "nearest")


def selected(given: Any) -> Params:
    """What of one dimension is kept, by label."""
    if isinstance(given, dict):
        return _selected_long(given)
    if isinstance(given, list | tuple):
        if len(given) == 2:
            return _range(given[0], given[1])
        return {"kind": "values", "values": list_of(read_label)(given), "method": "exact"}
    return {"kind": "value", "value": read_label(given), "method": "exact"}


def _range(first: Any, last: Any, low: str | int = 0, high: str | int = 1) -> Params:
    if first is None and last is None:
        raise Misplaced((), "both ends are null. Give one, or remove it.", at_key=False)
    ends = (below(low, or_null(read_label), first), below(high, or_null(read_label), last))
    return {"kind": "range", "from": ends[0], "to": ends[1]}


def _selected_long(given: Params) -> Params:
    known_keys(given, ("from", "to", "value", "values", "method"), "a selection")
    if "from" in given or "to" in given:
        known_keys(given, ("from", "to"), "a selection of a range")
        return _range(given.get("from"), given.get("to"), "from", "to")
    method = below("method", word(*_METHODS), given.get("method", "exact"))
    if ("value" in given) == ("values" in given):
        raise wrong("a label, [from, to], {values: [...]}, or {value: 52.5, method: nearest}", given)
    if "value" in given:
        return {"kind": "value", "value": below("value", read_label, given["value"]), "method": method}
    return {
        "kind": "values",
        "values": below("values", list_of(read_label), given["values"]),
        "method": method,
    }


def _position(given: Any) -> int:
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    raise wrong("a position, a whole number; negative ones count from the end", given)


def positions(given: Any) -> Params:
    """What of one dimension is kept, by position."""
    if isinstance(given, dict):
        known_keys(given, ("start", "stop", "step", "values"), "a selection")
        if "values" in given:
            known_keys(given, ("values",), "a selection of values")
            return {"kind": "values", "indices": below("values", list_of(_position), given["values"])}
        step = below("step", whole(1, 2**53), given.get("step", 1))
        ends = [below(end, or_null(_position), given.get(end)) for end in ("start", "stop")]
        return {"kind": "range", "start": ends[0], "stop": ends[1], "step": step}
    if isinstance(given, list | tuple):
        if len(given) == 2:
            ends = [below(i, or_null(_position), end) for i, end in enumerate(given)]
            if None not in ends and (ends[0] < 0) == (ends[1] < 0) and ends[0] >= ends[1]:
                raise wrong("[start, stop] with start before stop; stop is not included", list(given))
            return {"kind": "range", "start": ends[0], "stop": ends[1], "step": 1}
        return {"kind": "values", "indices": list_of(_position)(given)}
    return {"kind": "value", "index": _position(given)}


SELECTION_SCHEMA: dict[str, Any] = {
    "anyOf": [
        LABEL,
        {"type": "array", "items": {"type": [*LABEL["type"], "null"]}, "minItems": 1},
        {"type": "object"},
    ]
}
POSITION_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer"},
        {"type": "array", "items": {"type": ["integer", "null"]}, "minItems": 1},
        {"type": "object"},
    ]
}
KEPT = param(names_of("variable"), NAMES, "Variables that are kept; all if omitted.")


def some_selection(name: str) -> Callable[[Params], Params]:
    """A selection must select something."""

    def finish(given: Params) -> Params:
        if not given[name] and given["variables"] is None:
            raise Misplaced(
                (), "selects nothing. Write a dimension and what of it is kept, such as {lat: [-60, 60]}."
            )
        return given

    return finish


def labels(given: Any) -> Params:
    """``source.variable``, or a mapping."""
    if isinstance(given, str) and given.strip():
        source, _, variable = given.partition(".")
        return {"source": source, "variable": variable or None}
    if isinstance(given, dict):
        known_keys(given, ("source", "variable"), "labels")
        return {
            "source": below("source", name_of("source"), given.get("source")),
            "variable": below("variable", or_null(name_of("variable")), given.get("variable")),
        }
    raise wrong("source.variable, or {source: …, variable: …}", given)


def _ring(given: Any) -> list[list[float]]:
    points: list[list[float]] = list_of(_point, single=False)(given)
    if len(points) < 3:
        raise wrong("three points or more", given)
    return points


def _point(given: Any) -> list[float]:
    if isinstance(given, list | tuple) and len(given) == 2 and all(is_number(one) for one in given):
        return [float(given[0]), float(given[1])]
    raise wrong("a point [x, y], such as [lon, lat]", given)


def polygons(given: Any) -> Params:
    """A GeoJSON file, or a mapping of names to corners."""
    if isinstance(given, str) and given.strip():
        return {"file": given}
    return {"zones": mapping_of(_ring, "zone", "{alps: [[5, 44], [16, 44], [16, 48]]}")(given)}


def zonal(given: Params) -> Params:
    """Labels, or polygons with their two dimensions."""
    either(given, ("labels", "polygons"), "{zonal: {labels: land.zone, ops: [mean]}}")
    polygons = given.pop("polygons") or {}
    file = polygons.get("file")
    if file is None and given["property"] is not None:
        raise Misplaced(
            ("property",), "is the name of zones in a file of polygons, and there is no file. Remove it."
        )
    if given["labels"] is not None:
        for name in ("x", "y"):
            if given[name] is not None:
                raise Misplaced(
                    (name,), "is for polygons; labels say themselves which dimensions they have. Remove it."
                )
    else:
        given["x"], given["y"] = given["x"] or "lon", given["y"] or "lat"
    if file is not None:
        given["property"] = given["property"] or "name"
    return {**given, "polygons": polygons.get("zones"), "file": file}


def _steps_of(given: Params) -> Params:
    """``{start, stop, step}``: stop is included if a step ends there."""
    known_keys(given, ("start", "stop", "step", "like", "values"), "a coordinate")
    if "like" in given:
        known_keys(given, ("like",), "a coordinate that is like another")
        return {"kind": "like", "source": below("like", name_of("source or grid"), given["like"])}
    if "values" in given:
        known_keys(given, ("values",), "a coordinate of values")
        return _coordinate(given["values"])
    for name in ("start", "stop", "step"):
        if name not in given:
            raise Misplaced(
                (), f"needs {name}. Write {{start: -60, stop: 60, step: 0.5}}, a list, or {{like: source}}."
            )
    start, stop, step = (below(name, read_number, given[name]) for name in ("start", "stop", "step"))
    if step == 0 or (stop - start) / step < 0:
        raise Misplaced(("step",), f"never reaches stop {stop} from start {start}; got {step}.", at_key=False)
    count = int((stop - start) / step + 1e-9) + 1
    if count > _LIMIT_POINTS:
        raise Misplaced(
            ("step",), f"makes {count} points; at most {_LIMIT_POINTS} are accepted.", at_key=False
        )
    return {"kind": "range", "start": float(start), "step": float(step), "count": count}


_LIMIT_POINTS = 1_000_000


def _coordinate(given: Any) -> Params:
    if isinstance(given, dict):
        return _steps_of(given)
    values = [float(one) for one in list_of(read_number, single=False)(given)]
    up = all(a < b for a, b in pairwise(values))
    if not up and not all(a > b for a, b in pairwise(values)):
        raise Misplaced((), "must rise or fall from value to value.", at_key=False)
    return {"kind": "values", "values": values}


def regrid_to(given: Any) -> Params:
    """``{like: source}``, or coordinates by dimension."""
    if isinstance(given, dict) and isinstance(given.get("like"), str):
        known_keys(given, ("like",), "a target that is like another")
        return {"to": {}, "like": given["like"]}
    return {
        "to": mapping_of(_coordinate, "dimension", "{lat: {start: -60, stop: 60, step: 0.5}}")(given),
        "like": None,
    }


def regrid(given: Params) -> Params:
    """Coordinates by dimension, or all like those of another."""
    return {**given.pop("to"), **given}
