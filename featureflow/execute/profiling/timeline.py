"""Which thread of which worker did what, when: each task while there are few, sums over stretches of time of many."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.core.meter import KINDS
from featureflow.execute.profiling.profiler import Profiler

#: Up to so many runs of tasks are listed one by one; of more, sums by worker and time are.
LISTED = 5000
#: Cells of these sums: columns of time, and at most so many rows.
COLUMNS, ROWS = 400, 64

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def timeline(profiler: Profiler, begun: Floats) -> dict[str, Any]:
    """Tasks of the build, or sums over them, as JSON values.

    Parameters
    ----------
    begun
        Begin of each run in seconds since that of the build, by the driver's clock.

    Returns
    -------
    dict
        ``lanes``: a name for each row. With ``tasks``: for each its ``stage``, ``lane``, ``begun``, ``seconds``,
        ``failed`` (a column each) and thousandths of its time by kind. With ``cells``: ``width`` in seconds of a
        column of time, and for each kind and lane the thousandths of that time that its threads spent so.
    """
    runs = profiler.runs
    seconds = np.asarray(runs.seconds)
    kinds = np.asarray(runs.kinds, np.float64).reshape(-1, len(KINDS))
    if len(seconds) <= LISTED:
        return _listed(profiler, begun, seconds, kinds)
    lane, names, threads = _grouped(profiler)
    return {"lanes": names, "cells": _cells(begun, seconds, kinds, lane, threads)}


def _listed(profiler: Profiler, begun: Floats, seconds: Floats, kinds: Floats) -> dict[str, Any]:
    runs = profiler.runs
    order = {place: rank for rank, place in enumerate(_in_order(profiler))}
    places = sorted(
        set(zip(runs.worker, runs.thread, strict=True)), key=lambda place: (order[place[0]], place[1])
    )
    lane = {place: i for i, place in enumerate(places)}
    shares = 1000 * kinds / np.maximum(seconds, 1e-9)[:, None]
    return {
        "lanes": [f"{_worker_name(profiler, worker)}, thread {thread + 1}" for worker, thread in places],
        "tasks": {
            "stage": list(runs.stage),
            "lane": [lane[place] for place in zip(runs.worker, runs.thread, strict=True)],
            "begun": np.round(begun, 4).tolist(),
            "seconds": np.round(seconds, 4).tolist(),
            "failed": list(runs.failed),
            "kinds": {
                kind: np.round(shares[:, i]).astype(np.int64).tolist()
                for i, kind in enumerate(KINDS)
                if shares[:, i].any()
            },
        },
        "stages": list(profiler.stages),
    }


def _in_order(profiler: Profiler) -> list[int]:
    """Workers by host and name, 2 before 10."""
    workers = profiler.workers
    return sorted(
        range(len(workers)),
        key=lambda place: (workers[place].host, len(workers[place].name), workers[place].name, place),
    )


def _worker_name(profiler: Profiler, place: int) -> str:
    worker = profiler.workers[place]
    return f"{worker.host}, worker {worker.name}" if worker.name else worker.host


def _grouped(profiler: Profiler) -> tuple[Integers, list[str], Integers]:
    """Row of each run: a worker's, a host's if there are many, or that of some hosts; names; threads of a row."""
    by_host: dict[str, list[int]] = {}
    for place in _in_order(profiler):
        by_host.setdefault(profiler.workers[place].host, []).append(place)
    groups = [[place] for places in by_host.values() for place in places]
    names = [_worker_name(profiler, place) for (place,) in groups]
    if len(groups) > ROWS:
        groups, names = list(by_host.values()), list(by_host)
    if len(groups) > ROWS:
        edges = np.linspace(0, len(groups), ROWS + 1).astype(int).tolist()
        names = [f"{names[a]} … {names[b - 1]}" for a, b in pairwise(edges)]
        groups = [[place for group in groups[a:b] for place in group] for a, b in pairwise(edges)]
    row_of = np.zeros(len(profiler.workers), np.int64)
    for row, places in enumerate(groups):
        row_of[places] = row
    threads = [sum(len(profiler.workers[place].threads) for place in places) for places in groups]
    return row_of[np.asarray(profiler.runs.worker)], names, np.array(threads, np.int64)


def _cells(
    begun: Floats, seconds: Floats, kinds: Floats, lane: Integers, threads: Integers
) -> dict[str, Any]:
    """Thousandths of the threads' time by kind, row and column of time."""
    # clocks are aligned within some milliseconds: a first task may seem to begin before the build
    ended = np.maximum(begun + seconds, 0.0)
    width = max(float(ended.max()), 1e-6) / COLUMNS
    spread = Spread(np.maximum(begun, 0.0), ended, lane, width, len(threads))
    scale = 1000 / (width * threads[:, None])
    found = {}
    for i, kind in enumerate(KINDS):
        if kinds[:, i].any():
            cells = np.round(spread.of(kinds[:, i] / np.maximum(seconds, 1e-9)) * scale)
            found[kind] = cells.astype(np.int64).tolist()
    return {"width": round(width, 6), "kinds": found}


class Spread:
    """Spreads runs over the columns of time that they touch."""

    def __init__(self, begun: Floats, ended: Floats, lane: Integers, width: float, rows: int) -> None:
        first = np.minimum((begun / width).astype(np.int64), COLUMNS - 1)
        last = np.minimum((ended / width).astype(np.int64), COLUMNS - 1)
        count = last - first + 1
        self._run = np.repeat(np.arange(len(begun)), count)
        steps = np.arange(len(self._run)) - np.repeat(np.cumsum(count) - count, count)
        column = first[self._run] + steps
        start = np.maximum(begun[self._run], column * width)
        end = np.minimum(ended[self._run], (column + 1) * width)
        self._inside = np.maximum(0.0, end - start)
        self._cell = lane[self._run] * COLUMNS + column
        self._rows = rows

    def of(self, share: Floats) -> Floats:
        """Seconds by row and column, of a share of each run."""
        cells = np.bincount(self._cell, self._inside * share[self._run], self._rows * COLUMNS)
        return cells.astype(np.float64, copy=False).reshape(self._rows, COLUMNS)
