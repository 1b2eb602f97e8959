"""The stage of a build in which steps learn: tasks for tiles, and those that put the sums of several together."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from featureflow.contracts.cube import Cube
from featureflow.core.storage import join
from featureflow.execute.grids.fits import FitGoal, FitWork, settled_cells
from featureflow.execute.grids.naming import Naming, fit_box
from featureflow.execute.grids.region_task import GridJob, combine_parts, compute_fit
from featureflow.execute.grids.stored import GridCube
from featureflow.execute.grids.tasks import fit_runs, fits_under
from featureflow.execute.grids.units import Lattice
from featureflow.execute.site import Site
from featureflow.execute.task import Shared, Task


def task_cubes(cubes: Mapping[str, Cube]) -> dict[str, Cube]:
    """What a grid reads, as tasks get it."""
    return {name: cube.for_tasks() if isinstance(cube, GridCube) else cube for name, cube in cubes.items()}


def learn(
    naming: Naming, lattice: Lattice, cubes: Mapping[str, Cube], site: Site, goals: Collection[FitGoal]
) -> None:
    """Learn tiles, those of earlier steps first."""
    if not goals:
        return
    grid = naming.grid
    folder = next(iter(goals)).folder
    job = Shared(f"{grid.name}-fits", GridJob(grid, lattice, task_cubes(cubes), b"", folder))
    stage = f"{grid.name}: learn"
    for link in sorted({goal.tile[0] for goal in goals}):
        some = [goal for goal in goals if goal.tile[0] == link]
        now, later = list[Task](), list[Task]()
        for goal in some:
            first, last = _tasks(naming, job, goal, site, len(some))
            now += first
            later += last
        for tasks in (now, later):
            if tasks:
                site.progress.stage(stage, len(tasks))
                site.run(tasks, lambda _task, _none: site.progress.advance(stage))


def _tasks(
    naming: Naming, job: Shared, goal: FitGoal, site: Site, others: int
) -> tuple[list[Task], list[Task]]:
    """Tasks for a tile: one, or several and one that puts their sums together."""
    grid, (link, tile) = naming.grid, goal.tile
    skipped = len(settled_cells(grid, goal.tile)) if goal.begun else 0
    runs = fit_runs(grid, link, tile, site.budget.task_bytes, skipped)
    names = tuple(sorted(fits_under(grid, naming, fit_box(grid, link, tile), link).items()))
    parts = max(1, min(len(runs), -(-2 * site.executor.capacity // others)))
    label = f"{grid.name}: learn, {grid.links[link].name}"
    if parts == 1:
        return [Task(goal.name, compute_fit, (job, FitWork(goal.tile, tuple(runs), names, goal)), label)], []
    tasks, paths = [], list[str]()
    for k in range(parts):
        some = tuple(runs[k * len(runs) // parts : (k + 1) * len(runs) // parts])
        path = join(goal.folder, "parts", f"{goal.name}-{k}of{parts}")
        work = FitWork(goal.tile, some, names, path=path)
        tasks.append(Task(f"{goal.name}-{k}", compute_fit, (job, work), label))
        paths += [f"{path}-{i}.npz" for i in range(sum(len(run) for run in some))]
    return tasks, [Task(f"{goal.name}-all", combine_parts, (job, goal, tuple(paths)), label)]
