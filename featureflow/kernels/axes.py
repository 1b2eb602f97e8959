"""Positions on the axes of a grid: the nearest cell, the two cells around a value, the latest known step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

#: Degrees around the Earth.
CIRCLE = 360.0


@dataclass(frozen=True)
class Axis:
    """Coordinates of the cells' centres along one dimension.

    Parameters
    ----------
    centres
        Finite, rising or falling, no two equal.
    longitude
        Whether values that are 360 apart are the same place.

    Notes
    -----
    A cell reaches half way to its neighbours, and the outermost ones as far to the outside. Of a single cell nobody
    knows how far it reaches: only its centre is in it.
    """

    centres: NDArray[np.float64]
    longitude: bool = False

    def __post_init__(self) -> None:
        steps = np.diff(self.centres)
        if not len(self.centres) or not np.isfinite(self.centres).all():
            raise ValueError("an axis needs finite coordinates, one at least.")
        if not (bool((steps > 0).all()) or bool((steps < 0).all())):
            raise ValueError("coordinates of an axis must rise, or fall, all the way.")

    @property
    def falling(self) -> bool:
        """Whether coordinates go down."""
        return len(self.centres) > 1 and bool(self.centres[1] < self.centres[0])

    @cached_property
    def rising_centres(self) -> NDArray[np.float64]:
        """Coordinates from the lowest to the highest."""
        return np.ascontiguousarray(self.centres[::-1] if self.falling else self.centres, np.float64)

    @cached_property
    def closes(self) -> bool:
        """Whether its last cell meets its first one, around the Earth."""
        if not self.longitude or len(self.centres) < 2:
            return False
        rising = self.rising_centres
        width = float(rising[-1] - rising[0])
        step = width / (len(rising) - 1)
        return abs(width + step - CIRCLE) <= 1e-3 * step

    def nearest(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Position of the cell that each value is in; -1 outside of all, and for NaN.

        Between two centres, equally far from both, it is the one of the larger coordinate, as in pandas and xarray.
        """
        out = np.empty(len(values), np.int64)
        rising = self.rising_centres
        _nearest(rising, *_edges(rising), self._period, np.ascontiguousarray(values, np.float64), out)
        return self._turned(out)

    def between(
        self, values: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Positions of the centres below and above each value, and the weight of the one above; -1 outside.

        Between the outermost centre and the end of its cell both are that centre.
        """
        low, high = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
        weight = np.empty(len(values), np.float64)
        rising = self.rising_centres
        given = np.ascontiguousarray(values, np.float64)
        _between(rising, *_edges(rising), self._period, self.closes, given, low, high, weight)
        return self._turned(low), self._turned(high), weight

    @property
    def _period(self) -> float:
        return CIRCLE if self.longitude else 0.0

    def _turned(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self.falling:
            return places
        return np.where(places < 0, places, len(self.centres) - 1 - places)


def _edges(rising: NDArray[np.float64]) -> tuple[float, float]:
    """Where the first cell begins and the last one ends."""
    if len(rising) == 1:
        return float(rising[0]), float(rising[0])
    low = rising[0] - (rising[1] - rising[0]) / 2
    return float(low), float(rising[-1] + (rising[-1] - rising[-2]) / 2)


@kernel
def _density(rising: NDArray[Any]) -> float:
    """Centres for each unit of the coordinate, on average."""
    width = float(rising[rising.size - 1]) - float(rising[0])
    return (rising.size - 1) / width if width > 0.0 else 0.0


@kernel
def _rank(rising: NDArray[Any], density: float, value: Any) -> int:
    """Position of the last centre at or below a value, which is at or above the first: guessed, then searched."""
    n = rising.size
    guess = int(min((float(value) - float(rising[0])) * density, n - 1.0))
    low, high = 0, n
    if rising[guess] <= value:
        if guess + 1 == n or value < rising[guess + 1]:
            return guess
        low = guess + 1
        if low + 1 == n or value < rising[low + 1]:
            return low
    else:
        high = guess
        if rising[guess - 1] <= value:
            return guess - 1
    while high - low > 1:
        middle = (low + high) // 2
        if rising[middle] <= value:
            low = middle
        else:
            high = middle
    return low


@kernel
def _within(value: float, low: float, high: float, period: float) -> float:
    """The same value, or the same place on a circle, within the edges; NaN if it is outside of them."""
    if low <= value <= high:
        return value
    if period > 0.0 and np.isfinite(value):
        moved: float = value + period * np.ceil((low - value) / period)
        if low <= moved <= high:
            return moved
    return np.nan


@kernel
def _nearest(
    rising: NDArray[np.float64],
    low: float,
    high: float,
    period: float,
    values: NDArray[np.float64],
    out: NDArray[np.int64],
) -> None:
    last, density = rising.size - 1, _density(rising)
    for i in range(values.size):
        value = _within(values[i], low, high, period)
        if np.isnan(value):
            out[i] = -1
        elif value <= rising[0]:
            out[i] = 0
        else:
            at = _rank(rising, density, value)
            above = min(at + 1, last)
            # which of both is any, so no branch: a processor guesses half of them wrong
            out[i] = at + (above - at) * (rising[above] - value <= value - rising[at])


@kernel
def _between(
    rising: NDArray[np.float64],
    low: float,
    high: float,
    period: float,
    closes: bool,
    values: NDArray[np.float64],
    below: NDArray[np.int64],
    above: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> None:
    last, density = rising.size - 1, _density(rising)
    for i in range(values.size):
        value = _within(values[i], low, high, period)
        weight[i] = 0.0
        if np.isnan(value):
            below[i], above[i] = -1, -1
        elif rising[0] <= value < rising[last]:
            at = _rank(rising, density, value)
            below[i], above[i] = at, at + 1
            weight[i] = (value - rising[at]) / (rising[at + 1] - rising[at])
        elif not closes or value == rising[last]:
            below[i] = above[i] = 0 if value < rising[0] else last
        else:  # across the seam of a grid that goes around the Earth
            start = rising[last] - (period if value < rising[0] else 0.0)
            below[i], above[i] = last, 0
            weight[i] = (value - start) / (rising[0] + period - rising[last])


@dataclass(frozen=True)
class Steps:
    """Times along an axis, and when the values of each become known; microseconds.

    A step is known from the later of both. Neither has to rise.
    """

    times: NDArray[np.int64]
    known: NDArray[np.int64]

    def latest(
        self, at: NDArray[np.int64], *, ttl: int | None = None, allow_exact: bool = True
    ) -> NDArray[np.int64]:
        """Position of the latest step that is known at each instant; -1 if there is none.

        Parameters
        ----------
        ttl
            Only steps whose time is not before the instant less this, inclusive.
        allow_exact
            Whether a step of, or known at, exactly the instant counts.
        """
        out = np.empty(len(at), np.int64)
        if not len(self.times):
            out[:] = -1
            return out
        since, best = self._order
        asked = np.ascontiguousarray(at, np.int64)
        _latest(since, best, self.times, asked, -1 if ttl is None else ttl, allow_exact, out)
        return out

    @cached_property
    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """When something becomes known, rising; and the position of the latest step that is known then."""
        since = np.maximum(self.times, self.known)
        order = np.argsort(since, kind="stable")
        # rank among the times: a later one never gives way to an earlier one
        by_rank = np.argsort(self.times, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[by_rank] = np.arange(len(order))
        return since[order], by_rank[np.maximum.accumulate(rank[order])]


@kernel
def _latest(
    since: NDArray[np.int64],
    best: NDArray[np.int64],
    times: NDArray[np.int64],
    at: NDArray[np.int64],
    ttl: int,
    allow_exact: bool,
    out: NDArray[np.int64],
) -> None:
    """Latest step of those that are known; no limit if ``ttl`` is negative."""
    density = _density(since)
    for i in range(at.size):
        if at[i] < since[0] or (at[i] == since[0] and not allow_exact):
            out[i] = -1
            continue
        found = best[_rank(since, density, at[i] if allow_exact else at[i] - 1)]
        out[i] = found if ttl < 0 or times[found] >= at[i] - ttl else -1
