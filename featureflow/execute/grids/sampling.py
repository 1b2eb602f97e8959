"""Chunks of a grid as what a table's rows sample: each with the times of the rows that it can answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.core.fingerprints import fingerprint
from featureflow.execute.grids.points import is_longitude, steps_of
from featureflow.execute.grids.stored import GridCube
from featureflow.execute.stages import Piece
from featureflow.plan.grid_lookups import GridLookup

_ALWAYS = (int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max))


def sampled_pieces(cube: GridCube, lookup: GridLookup) -> list[Piece]:
    """Name the chunks that a look-up can read, each with the closed range of times of the rows that it can answer.

    A chunk answers rows from the instant at which one of its steps is known until a later step of another chunk is,
    or until its last step is older than the ttl. One that no row can ever see is left out. Where the rows are is not
    known before they are read: chunks are told apart by time and not by place.

    Returns
    -------
    list of Piece
        Without rows. All chunks for all times, and for rows without one, where a variable has no dimension of time.

    Notes
    -----
    Names hold what decides on a place and is in no chunk's own name: its positions along dimensions without
    coordinates, and whether a coordinate goes around the Earth.
    """
    outline, time = cube.outline, lookup.right.time
    bare = [str(dim) for dim in outline.dims if dim not in outline.coords]
    around = [str(dim) for dim in outline.dims if dim in outline.coords and is_longitude(outline[dim])]
    timed = time is not None and all(time in outline[name].dims for name, _ in lookup.columns)
    found, ranges = [], _Ranges(cube, lookup) if timed else None
    for piece in cube.pieces():
        name = fingerprint([piece.id, around, [[dim, *piece.region.get(dim, ())] for dim in bare]])
        if ranges is None:
            found.append(Piece(name, *_ALWAYS, 1, 0, piece.size))
            continue
        seen = ranges.of(*piece.region.get(time or "", (0, len(ranges.first))))
        if seen is not None:
            found.append(Piece(name, *seen, 0, 0, piece.size))
    return found


class _Ranges:
    """From when to when each step of a grid is the answer: closed, and empty (first > last) for one that never is."""

    def __init__(self, cube: GridCube, lookup: GridLookup) -> None:
        steps = steps_of(cube.outline, lookup.right.time or "")
        since = np.unique(np.maximum(steps.times, steps.known))
        best = steps.latest(since)
        later = np.append(since[1:], _ALWAYS[1])[: len(since)]
        first, last = (since, later - 1) if lookup.allow_exact else (since + 1, later)
        if lookup.ttl_us is not None:
            last = np.minimum(last, steps.times[best] + lookup.ttl_us)
        self.first = np.full(len(steps.times), _ALWAYS[1], np.int64)
        self.last = np.full(len(steps.times), _ALWAYS[0], np.int64)
        seen = first <= last
        np.minimum.at(self.first, best[seen], first[seen])
        np.maximum.at(self.last, best[seen], last[seen])
        self._kept: dict[tuple[int, int], tuple[int, int] | None] = {}

    def of(self, low: int, high: int) -> tuple[int, int] | None:
        """Range of some steps; None if none of them ever is the answer."""
        if (low, high) not in self._kept:
            first, last = _least(self.first[low:high]), _most(self.last[low:high])
            self._kept[low, high] = (first, last) if first <= last else None
        return self._kept[low, high]


def _least(values: NDArray[np.int64]) -> int:
    return int(values.min(initial=_ALWAYS[1]))


def _most(values: NDArray[np.int64]) -> int:
    return int(values.max(initial=_ALWAYS[0]))
