"""From one axis of numbers to another: neighbours of each point, overlaps of cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.grid_step import StepMistake

Numbers = np.ndarray[Any, Any]
#: less than this share of a cell is rounding, not overlap
_SLIVER = 1e-9


def numbers_of(cube: xr.Dataset, dim: str, place: tuple[str, ...]) -> Numbers:
    """Labels of a dimension as numbers.

    Raises
    ------
    StepMistake
        If there are none, or they neither rise nor fall all the way.
    """
    if dim not in cube.indexes:
        raise StepMistake(place, f"{dim!r} has no coordinate, so where its values lie is unknown.")
    if cube[dim].dtype.kind not in "iuf":
        raise StepMistake(place, f"the labels of {dim!r} are no numbers. Times are put together by resample.")
    index = cube.indexes[dim]
    if not (index.is_unique and (index.is_monotonic_increasing or index.is_monotonic_decreasing)):
        raise StepMistake(
            place, f"the labels of {dim!r} neither rise nor fall all the way. Select some of them."
        )
    return np.asarray(cube[dim].values, np.float64)


def neighbours(axis: Numbers, points: Numbers, method: str) -> tuple[Numbers, Numbers, Numbers]:
    """Positions below and above each point, and how far it is between them; -1 outside of the axis.

    As SciPy's ``interp1d``, which xarray's ``interp`` uses: the interval of a label is the one below it, and of two
    labels that are equally near the smaller one is taken.
    """
    falls = axis.size > 1 and axis[0] > axis[-1]
    rising = axis[::-1] if falls else axis
    outside = (points < rising[0]) | (points > rising[-1]) | np.isnan(points)
    if axis.size == 1:
        lower = upper = np.zeros(points.size, np.int64)
        share = np.zeros(points.size)
    else:
        upper = np.clip(np.searchsorted(rising, points), 1, axis.size - 1).astype(np.int64)
        lower = upper - 1
        if method == "nearest":
            halves = rising / 2.0
            nearest = np.searchsorted(halves[1:] + halves[:-1], points, side="left")
            lower = upper = np.clip(nearest, 0, axis.size - 1).astype(np.int64)
            share = np.zeros(points.size)
        else:
            share = (points - rising[lower]) / (rising[upper] - rising[lower])
    if falls:
        lower, upper = axis.size - 1 - lower, axis.size - 1 - upper
    return np.where(outside, -1, lower), np.where(outside, -1, upper), share


def is_latitude(coordinate: xr.DataArray) -> bool:
    """Whether labels are degrees of latitude, by CF attributes or the name."""
    attrs = coordinate.attrs
    named = str(coordinate.name).lower() in ("lat", "latitude")
    return attrs.get("standard_name") == "latitude" or attrs.get("units") == "degrees_north" or named


def is_longitude(coordinate: xr.DataArray) -> bool:
    """Whether labels are degrees of longitude, by CF attributes or the name."""
    attrs = coordinate.attrs
    named = str(coordinate.name).lower() in ("lon", "longitude")
    return attrs.get("standard_name") == "longitude" or attrs.get("units") == "degrees_east" or named


def cells(axis: Numbers, latitude: bool) -> tuple[Numbers, Numbers]:
    """Lower and upper edges of cells around labels: halfway to the next; of latitudes their sines, which give areas."""
    inner = (axis[1:] + axis[:-1]) / 2.0
    edges = np.concatenate([[axis[0] - (inner[0] - axis[0])], inner, [axis[-1] + (axis[-1] - inner[-1])]])
    if latitude:
        edges = np.sin(np.deg2rad(np.clip(edges, -90.0, 90.0)))
    return np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])


def overlaps(
    source: tuple[Numbers, Numbers], target: tuple[Numbers, Numbers], period: float | None
) -> Numbers:
    """How much of each source cell lies in each target cell, ``(target, source)``; around the globe with a period."""
    found = np.zeros((target[0].size, source[0].size))
    widths = np.minimum((target[1] - target[0])[:, None], (source[1] - source[0])[None, :])
    for turn in (0,) if period is None else (-2, -1, 0, 1, 2):
        shift = 0.0 if period is None else turn * period
        low = np.maximum(target[0][:, None], source[0][None, :] + shift)
        high = np.minimum(target[1][:, None], source[1][None, :] + shift)
        common = high - low
        found += np.where(common > _SLIVER * widths, common, 0.0)
    return found


def sparse(weights: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Weights that are not 0: where each row starts, columns, weights."""
    rows, places = np.nonzero(weights)
    offsets = np.searchsorted(rows, np.arange(len(weights) + 1))
    return offsets.astype(np.int64), places.astype(np.int64), np.ascontiguousarray(weights[rows, places])
