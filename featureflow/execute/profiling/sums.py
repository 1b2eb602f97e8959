"""The profile of a build: its thread-seconds by stage and kind of work, as plain values.

A stage has slots times length thread-seconds. What its tasks did is known from their own clocks; a slot on which no
task runs is idle. Nothing is scaled to fit: ``accounted`` says how much of what was available both explain together.
While the driver works alone, all slots wait for it: in the total such a phase counts with all of them, that of the
commits as ``commit``, the others as ``driver``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.core.meter import KINDS
from featureflow.execute.profiling.metered import WAITING, clock_name
from featureflow.execute.profiling.profiler import Profiler, Segment, StageSums, add_up
from featureflow.execute.profiling.timeline import timeline
from featureflow.observe.bottleneck import find_bottleneck
from featureflow.observe.report import StageReport

SCHEMA_VERSION = 1
"""Of ``profile.json``: raised when an entry changes its meaning or goes away, not when one is added."""

#: How many segments are listed at most.
SEGMENTS = 4000

Floats = NDArray[np.float64]


def profile_of(
    profiler: Profiler, about: dict[str, Any], stages: Sequence[StageReport] = ()
) -> dict[str, Any]:
    """Sum up what was collected, up to now.

    Parameters
    ----------
    about
        Entries to begin with: which build.
    stages
        Rows of each stage, by its name.

    Returns
    -------
    dict
        JSON values; described in docs/profile.md. Its size has a bound, whatever the number of tasks.
    """
    profiler.finish()
    executor = profiler.executor
    slots = max(1, executor.slots) if executor is not None else 1
    begun = _aligned(profiler)
    ended = begun + np.asarray(profiler.runs.seconds)
    busy = Concurrency(begun, ended)
    rows = {stage.name: stage.rows for stage in stages}
    found = [
        *(_stage(profiler, name, sums, busy, rows.get(name, 0)) for name, sums in profiler.stages.items()),
        *(_phase(profiler, name, parts, slots) for name, parts in _phases(profiler).items()),
    ]
    found.sort(key=lambda stage: stage["begun"])
    profile = {
        "schema_version": SCHEMA_VERSION,
        **about,
        "seconds": _short(time.monotonic() - profiler.begun),
        "slots": slots,
        "executor": executor.description if executor is not None else "",
        "kinds": [*KINDS, "driver", "idle"],
        "stages": found,
        "total": _total(found),
        "workers": _workers(profiler),
        "counts": _counts(profiler),
        "driver_bytes": dict(sorted(profiler.driver.bytes.items())),
        "segments": _segments(profiler),
        "timeline": timeline(profiler, begun - profiler.begun),
    }
    profile["bottleneck"] = find_bottleneck(profile)
    return profile


def profile_json(profile: dict[str, Any]) -> bytes:
    """Write a profile as JSON: an entry a line, columns of numbers close together."""
    entries = [
        f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in profile.items()
    ]
    return ("{\n" + ",\n".join(entries) + "\n}\n").encode()


def _short(seconds: float) -> float:
    return round(float(seconds), 4)


def _aligned(profiler: Profiler) -> Floats:
    """Begin of each run by the driver's clock."""
    mine = clock_name()
    shift = {clock: 0.0 if clock == mine else lag for clock, lag in profiler.clocks.items()}
    by_worker = np.array([shift[worker.clock] for worker in profiler.workers], np.float64)
    runs = profiler.runs
    if not by_worker.size:
        return np.empty(0)
    begun: Floats = np.asarray(runs.begun) + by_worker[np.asarray(runs.worker)]
    return begun


class Concurrency:
    """How many tasks ran at each moment."""

    def __init__(self, begun: Floats, ended: Floats) -> None:
        times = np.concatenate((begun, ended))
        steps = np.concatenate((np.ones(len(begun), np.int64), -np.ones(len(ended), np.int64)))
        order = np.argsort(times, kind="stable")
        self._times, self._running = times[order], np.cumsum(steps[order])

    def over(self, start: float, end: float, slots: int) -> tuple[float, float]:
        """Thread-seconds that there were in a stretch of time, and those in which no task ran.

        How many slots there are is noted when tasks are sent and received: a new worker may have been running one for
        minutes by then. So a task that runs has a slot.
        """
        first, last = np.searchsorted(self._times, (start, end), side="right")
        edges = np.concatenate(((start,), self._times[first:last], (end,)))
        before = self._running[first - 1] if first else 0
        running = np.concatenate(((before,), self._running[first:last]))
        lengths = np.diff(edges)
        available = float((lengths * np.maximum(running, slots)).sum())
        return available, float((lengths * np.maximum(0, slots - running)).sum())


def _slots_of(segment: Segment) -> list[tuple[float, float, int]]:
    """Stretches of a segment with the same number of slots."""
    changes = segment.slots or [(segment.begun, 1)]
    starts = [segment.begun, *(moment for moment, _ in changes[1:])]
    ends = [*starts[1:], segment.ended]
    return [(a, b, n) for a, b, (_, n) in zip(starts, ends, changes, strict=True) if b > a]


def _stage(profiler: Profiler, name: str, sums: StageSums, busy: Concurrency, rows: int) -> dict[str, Any]:
    segments = [one for one in profiler.segments if one.is_stage and one.name == name]
    found = [busy.over(*stretch) for segment in segments for stretch in _slots_of(segment)]
    available, idle = (sum(part) for part in zip(*found, strict=True)) if found else (0.0, 0.0)
    seconds, details = _split(sums.seconds, sums.busy)
    waited = sum(segment.driver.get(WAITING, 0.0) for segment in segments)
    length = sum(segment.length for segment in segments)
    return {
        "name": name,
        "where": "workers",
        "begun": _short(min((one.begun for one in segments), default=profiler.begun) - profiler.begun),
        "seconds": _short(length),
        "available": _short(available),
        "accounted": round((sums.busy + idle) / available, 4) if available else 1.0,
        "spent": {**seconds, "idle": _short(idle)},
        "details": details,
        "bytes": dict(sorted(sums.bytes.items())),
        "beside": {kind: _short(value) for kind, value in sorted(sums.beside.items())},
        "counts": dict(sorted(sums.counts.items())),
        "cpu": _short(sums.cpu),
        "driver": _short(max(0.0, length - waited)),
        "tasks": sums.tasks,
        "failed": sums.failed,
        "lost": sums.lost,
        "rows": rows,
        "longest": _short(sums.longest),
        "longest_label": sums.longest_label[:200],
    }


def _split(
    spent: dict[str, float], whole: float, rest: str = "compute:other"
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds by kind and by kind with detail; ``rest`` is what no block covers."""
    spent = {**spent, rest: spent.get(rest, 0.0) + max(0.0, whole - sum(spent.values()))}
    details = {kind: seconds for kind, seconds in spent.items() if ":" in kind}
    seconds = dict.fromkeys((*KINDS, "driver"), 0.0)
    for kind, amount in spent.items():
        seconds[kind.partition(":")[0]] += amount
    return (
        {kind: _short(amount) for kind, amount in seconds.items() if amount},
        {kind: _short(amount) for kind, amount in sorted(details.items(), key=lambda one: -one[1]) if amount},
    )


def _phases(profiler: Profiler) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for segment in profiler.segments:
        if not segment.is_stage:
            found.setdefault(segment.name, []).append(segment)
    return found


def _phase(profiler: Profiler, name: str, segments: list[Segment], slots: int) -> dict[str, Any]:
    spent: dict[str, float] = {}
    for segment in segments:
        add_up(spent, {kind: seconds for kind, seconds in segment.driver.items() if kind != WAITING})
    length = sum(segment.length for segment in segments)
    seconds, details = _split(spent, length, rest="driver")
    return {
        "name": name,
        "where": "driver",
        "begun": _short(segments[0].begun - profiler.begun),
        "seconds": _short(length),
        "available": _short(length),
        "accounted": round(sum(seconds.values()) / length, 4) if length else 1.0,
        "waiting": _short(sum(_waiting(segment, slots) for segment in segments)),
        "spent": seconds,
        "details": details,
    }


def _waiting(segment: Segment, slots: int) -> float:
    """Thread-seconds of the workers while the driver works alone."""
    stretches = _slots_of(segment) if segment.slots else [(segment.begun, segment.ended, slots)]
    return sum((b - a) * n for a, b, n in stretches)


def _total(stages: list[dict[str, Any]]) -> dict[str, Any]:
    """All thread-seconds of the build, from its beginning to its end."""
    spent: dict[str, float] = {}
    details: dict[str, float] = {}
    n_bytes: dict[str, int] = {}
    beside: dict[str, float] = {}
    available = cpu = 0.0
    for stage in stages:
        if stage["where"] == "workers":
            available += stage["available"]
            add_up(spent, stage["spent"])
            add_up(details, stage["details"])
            add_up(n_bytes, stage["bytes"])
            add_up(beside, stage["beside"])
            cpu += stage["cpu"]
            continue
        available += stage["waiting"]
        add_up(spent, {"commit" if stage["name"] == "commit" else "driver": stage["waiting"]})
    return {
        "available": _short(available),
        "accounted": round(sum(spent.values()) / available, 4) if available else 1.0,
        "spent": {kind: _short(seconds) for kind, seconds in spent.items() if seconds},
        "details": {kind: _short(s) for kind, s in sorted(details.items(), key=lambda one: -one[1])},
        "bytes": n_bytes,
        "beside": {kind: _short(s) for kind, s in beside.items()},
        "cpu": _short(cpu),
    }


def _workers(profiler: Profiler) -> list[dict[str, Any]]:
    return [
        {
            "name": worker.name,
            "host": worker.host,
            "process": worker.process,
            "threads": len(worker.threads),
            "tasks": worker.tasks,
            "busy": _short(worker.busy),
            "peak_bytes": worker.peak_bytes,
        }
        for worker in profiler.workers
    ]


def _counts(profiler: Profiler) -> dict[str, int]:
    """Events of the whole build, the driver's too; ``restarts`` are further processes under a worker's name."""
    found: dict[str, int] = dict(profiler.driver.counts)
    for sums in profiler.stages.values():
        add_up(found, sums.counts)
        add_up(found, {"tasks": sums.tasks, "failed": sums.failed, "lost": sums.lost})
    names = {(worker.host, worker.name) for worker in profiler.workers if worker.name}
    found["restarts"] = sum(bool(worker.name) for worker in profiler.workers) - len(names)
    return {**found, **profiler.cluster.since()}


def _segments(profiler: Profiler) -> list[list[Any]]:
    """Name, whether it is a stage, begin and length of each segment, in order; of very many the longest."""
    kept = sorted(profiler.segments, key=lambda one: -one.length)[:SEGMENTS]
    return [
        [one.name, int(one.is_stage), _short(one.begun - profiler.begun), _short(one.length)]
        for one in sorted(kept, key=lambda one: one.begun)
    ]
