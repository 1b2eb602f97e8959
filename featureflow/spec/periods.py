"""What steps that learn are fitted on: stated by a period, or by a selection with both ends before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from featureflow.spec.grids import GridStepSpec

if TYPE_CHECKING:
    from featureflow.spec.models import Project

#: name of the dimension of times where a source does not say another
TIME = "time"


def learns_over(step: GridStepSpec) -> tuple[str, ...] | None:
    """Dimensions that a step is fitted over; None if it learns nothing. ``()`` stands for all."""
    params = step.params
    if step.name == "anomaly":
        return (params["over"],)
    fitted = (
        step.name in ("normalize", "standardize") and params["constants"] is None and not params["each"]
    ) or (step.name == "clip" and params["quantiles"] is not None)
    return tuple(params["dims"] or ()) if fitted else None


def needs_period(project: Project, grid: str, index: int) -> str | None:
    """The dimension of times that a step would learn from without saying which part of it; None if all is well.

    Only what is known without data: the dimension that the source names, otherwise one named ``time``. A dimension of
    times with another name is found when the grid is compiled.
    """
    step = project.grids[grid].steps[index]
    over = learns_over(step)
    if over is None or step.params["period"] is not None:
        return None
    named = time_dimension(project, grid)
    time = named or TIME
    if step.name == "anomaly" and step.params["by"] != "none":
        time = step.params["over"]
    elif time not in over and (over or named is None):
        return None
    return None if _stated(project, grid, index, time) else time


def states_period(project: Project, grid: str, index: int) -> bool:
    """Whether a step that learns does so from a part of its dimensions that was selected before it."""
    over = learns_over(project.grids[grid].steps[index])
    if over is None:
        return False
    time = time_dimension(project, grid) or TIME
    if time in over or not over:
        return _stated(project, grid, index, time)
    return all(_stated(project, grid, index, dim) for dim in over)


def time_dimension(project: Project, grid: str) -> str | None:
    """The dimension of times that the source at the beginning of a chain names; None if it does not say."""
    seen: set[str] = set()
    while grid in project.grids and grid not in seen:
        seen.add(grid)
        grid = project.grids[grid].source
    source = project.sources.get(grid)
    return source.time if source is not None else None


def _stated(project: Project, grid: str, index: int, dim: str) -> bool:
    """Whether both ends of a dimension were selected before a step, here or in the grids that this one is made of."""
    stated = False
    for step in _before(project, grid, index):
        if step.name == "concat" and step.params["dim"] == dim:
            stated = False
        elif step.name in ("select", "isel"):
            part = step.params["labels" if step.name == "select" else "positions"].get(dim)
            stated = stated or (part is not None and _has_both_ends(part))
    return stated


def _has_both_ends(part: dict[str, object]) -> bool:
    if part["kind"] != "range":
        return part["kind"] == "values"
    ends = (part.get("from"), part.get("to")) if "from" in part else (part.get("start"), part.get("stop"))
    # a position from the end moves when data are appended
    moving = "start" in part and any(isinstance(end, int) and end < 0 for end in ends)
    return None not in ends and not moving


def _before(project: Project, grid: str, index: int) -> Iterator[GridStepSpec]:
    """Steps before one, from the beginning of the chain."""
    chain: list[tuple[GridStepSpec, ...]] = [project.grids[grid].steps[:index]]
    seen = {grid}
    while (parent := project.grids[grid].source) in project.grids and parent not in seen:
        seen.add(parent)
        chain.append(project.grids[parent].steps)
        grid = parent
    for steps in reversed(chain):
        yield from steps
