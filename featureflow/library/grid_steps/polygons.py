"""Which cells of a rectilinear grid have their middle in a polygon; polygons of a GeoJSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from featureflow.contracts.grid_step import StepMistake

#: closed lines; a point is inside if it is within an odd number of them, so holes and islands are lines too
Rings = tuple[tuple[tuple[float, float], ...], ...]
Numbers = np.ndarray[Any, Any]


def inside(rings: Rings, x: Numbers, y: Numbers, around: float | None = None) -> Numbers:
    """Give ``(y, x)``: whether the point of each pair of labels is inside.

    An edge belongs to the polygon above it or on its right, so polygons that touch share no point and miss none.

    Parameters
    ----------
    around
        Length of the circle on which ``x`` lies: 350 and -10 degrees are the same.
    """
    found = np.zeros((y.size, x.size), bool)
    for turn in (0.0,) if around is None else (-around, 0.0, around):
        found ^= _inside(rings, x + turn, y)
    return found


def _inside(rings: Rings, x: Numbers, y: Numbers) -> Numbers:
    """Count, for each row, how many edges cross it to the left of each point."""
    found = np.zeros((y.size, x.size), bool)
    for ring in rings:
        for start, stop in zip(ring, (*ring[1:], ring[0]), strict=True):
            if start[1] == stop[1]:
                continue
            # from below: the same edge has the same crossings whichever way it is written
            (x0, y0), (x1, y1) = (start, stop) if start[1] < stop[1] else (stop, start)
            rows = np.flatnonzero((y0 <= y) & (y < y1))
            crossings = x0 + (y[rows] - y0) * ((x1 - x0) / (y1 - y0))
            found[rows] ^= x[None, :] >= crossings[:, None]
    return found


def rings_of(points: Sequence[Sequence[float]]) -> Rings:
    """One line of points, as a spec has it."""
    return (tuple((float(x), float(y)) for x, y in points),)


def read_geojson(path: str, name: str) -> dict[str, Rings]:
    """Polygons of a file by one of their properties; features of the same name are one zone.

    Raises
    ------
    StepMistake
        If it can't be read, or a feature has no such property or is no polygon.
    """
    try:
        with open(path, encoding="utf-8") as file:
            features = json.load(file)["features"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StepMistake(("file",), f"{path} can't be read as GeoJSON features: {error}.") from error
    found: dict[str, Rings] = {}
    for i, feature in enumerate(features):
        properties, shape = feature.get("properties") or {}, feature.get("geometry") or {}
        if name not in properties:
            known = ", ".join(sorted(properties)) or "none"
            raise StepMistake(
                ("property",), f"feature {i} of {path} has no property {name!r}. It has: {known}."
            )
        if shape.get("type") not in ("Polygon", "MultiPolygon"):
            raise StepMistake(("file",), f"feature {i} of {path} is {shape.get('type')}; zones are polygons.")
        parts = [shape["coordinates"]] if shape["type"] == "Polygon" else shape["coordinates"]
        rings = tuple(tuple((float(p[0]), float(p[1])) for p in ring) for part in parts for ring in part)
        label = str(properties[name])
        found[label] = found.get(label, ()) + rings
    if not found:
        raise StepMistake(("file",), f"{path} has no features.")
    return found
