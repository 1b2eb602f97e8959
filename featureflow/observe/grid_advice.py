"""What to change where it is a grid that holds a build up: it has chunks and steps, no slices, buckets or rows."""

from __future__ import annotations

from typing import Any

BOXES = "boxes of grids"
"""What tasks of grids count: a stage that has some is one of a grid."""

_FEWER = "a `select` at the front of `steps:`, or fewer `variables:`"

#: By kind of work.
_ADVICE = {
    "remote read": (
        f"More workers on the same network do not help. Read less: {_FEWER}; or chunks in the source that lie within "
        "those of the grid, so that none is read by several tasks (`plan` tells how many times)."
    ),
    "decode": (
        f"More cores help. Reading less helps more: {_FEWER}; lz4 or zstd at a low level in the source in place of "
        "gzip; chunks in the source that lie within those of the grid, so that none is decoded by several tasks."
    ),
    "compute": f"More cores help: more workers, or more threads each. Less to compute helps as well: {_FEWER}.",
    "encode": "More cores help. Fewer `variables:`, or float32 in place of float64 (`cast`), help more.",
    "write": "A faster store, or fewer and larger objects (`chunks:`, `shards:`) help; more workers do not.",
    "commit": "The cost follows the number of chunks: larger `chunks:`, or `shards:`, make fewer.",
}

_FEW_TASKS = (
    "Fewer workers would do. Smaller `chunks:` along a dimension that no step takes together make more tasks."
)
_ONE_LONG_TASK = (
    "A task computes a box of whole chunks: smaller `chunks:`, or less --memory, make smaller boxes."
)
_SMALL_TASKS = "Tasks are too small: larger `chunks:`."
_SHORT_TASKS = "Where tasks take less than a tenth of a second, starting them counts: larger `chunks:`."

#: For idle threads, in the words of `featureflow.observe.bottleneck`.
IDLE = {"few": _FEW_TASKS, "one": _ONE_LONG_TASK, "driver": _SMALL_TASKS, "short": _SHORT_TASKS}


def is_of_grid(stage: dict[str, Any]) -> bool:
    """Whether a stage of a profile computes a grid, or what its steps learn."""
    return bool(stage.get("counts", {}).get(BOXES))


def grid_advice(profile: dict[str, Any], kind: str) -> str | None:
    """Give what to change if grids spent most of a kind of work; None if tables did, or there is nothing else to say.

    Parameters
    ----------
    kind
        Of `featureflow.core.meter.KINDS`, or ``driver``: what the driver does alone goes to those that compute most.
    """
    stages = [stage for stage in profile["stages"] if stage["where"] == "workers"]

    def spent(stage: dict[str, Any]) -> float:
        alone = kind in ("driver", "commit")
        return float(stage["available"] if alone else stage["spent"].get(kind, 0.0))

    whole = sum(spent(stage) for stage in stages)
    if not whole or sum(spent(stage) for stage in stages if is_of_grid(stage)) <= 0.5 * whole:
        return None
    if kind == "driver":
        phases = [stage for stage in profile["stages"] if stage["where"] == "driver"]
        if (
            max(phases, key=lambda stage: float(stage["waiting"]), default={"name": "start"})["name"]
            == "start"
        ):
            return None
        return (
            "More workers do not help. The driver looks at each chunk, of the source and of the grid: larger ones, "
            "or `shards:`, are fewer."
        )
    return _ADVICE.get(kind)
