"""Names of a spec to typed tables and datasets: sources are looked at, everything is checked, nothing is read."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featureflow.core.errors import Problem, SpecError
from featureflow.execute.checks.checking import bind, check_problems
from featureflow.execute.planner import source_specs
from featureflow.execute.sizing import Budget
from featureflow.plan.columns import as_input
from featureflow.plan.compile import compile_tables
from featureflow.plan.compile_dataset import compile_datasets, spine_name
from featureflow.plan.dataset_nodes import CompiledDataset
from featureflow.plan.functions import function_problems
from featureflow.plan.nodes import CompiledTable, Input
from featureflow.plan.scan import ScannedSource, scan_source
from featureflow.spec.dependencies import ancestors, grid_order, sources_of
from featureflow.spec.load import LoadedProject

if TYPE_CHECKING:
    from featureflow.contracts.cube import Cube
    from featureflow.plan.grid_nodes import CompiledGrid


@dataclass(frozen=True, slots=True)
class Compiled:
    """Tables and grids in the order in which they can be built, datasets, and the sources (and spines of files)."""

    tables: dict[str, CompiledTable]
    datasets: dict[str, CompiledDataset]
    sources: dict[str, ScannedSource]
    grids: dict[str, CompiledGrid] = dataclasses.field(default_factory=dict)


def compile_names(
    loaded: LoadedProject, names: list[str], scratch: str, budget: Budget | None = None
) -> Compiled:
    """Type-check tables and datasets, with the tables that they build on and the sources that these read.

    Parameters
    ----------
    names
        Tables, grids and datasets.
    scratch
        Folder whose cache knows what was seen of source files.
    budget
        Memory of tasks: grids of which no task can hold a chunk are mistakes, too. None: a plan will tell.

    Raises
    ------
    SpecError
        With every mistake, each with file, line and column.
    SourceError
        If files are missing or do not have one schema.
    """
    project = loaded.project
    wanted = set(names).union(*(ancestors(project, name) for name in names)) if names else set()
    tables = [name for name in project.features if name in wanted]
    datasets = [name for name in project.datasets if name in wanted]
    grids = [name for name in grid_order(project) if name in wanted]
    sources = {source for name in (*tables, *datasets) for source in sources_of(project, name)}
    sources -= {name for name in sources if name in project.sources and project.sources[name].is_grid}
    sources.update(spine_name(name) for name in datasets if project.datasets[name].spine.files)
    root = os.path.abspath(loaded.root)
    _refuse_missing_functions(loaded, tables, sources & set(project.sources))
    scanned = {
        name: scan_source(name, source, root, scratch)
        for name, source in source_specs(project).items()
        if name in sources
    }
    problems = [
        loaded.problem((*_section_of(name), *place), message)
        for name, found in scanned.items()
        for place, message in ((tuple(p.split(".")), m) for p, m in found.reader.problems)
    ]
    problems += _wrong_checks(
        loaded,
        {name: ("sources", found.input, None) for name, found in scanned.items() if name in project.sources},
    )
    inputs = {name: found.input for name, found in scanned.items()}
    gridded = _compile_grids(loaded, grids, problems) if grids else {}
    inputs |= _zones(gridded)
    problems += _wrong_grid_checks(loaded, gridded)
    problems += _too_large(loaded, gridded, budget)
    compiled = compile_tables(loaded, inputs, tables, problems, gridded)
    cubes = _label_cubes(loaded, datasets)
    made = compile_datasets(loaded, inputs, compiled, datasets, problems, gridded, cubes)
    problems += _wrong_checks(
        loaded, {name: ("features", as_input(table), table.keys) for name, table in compiled.items()}
    )
    problems += _wrong_checks(
        loaded, {name: ("datasets", dataset.as_input, dataset.keys) for name, dataset in made.items()}
    )
    if problems:
        raise SpecError(problems)
    return Compiled(compiled, made, scanned, gridded)


def _compile_grids(
    loaded: LoadedProject, names: list[str], problems: list[Problem]
) -> dict[str, CompiledGrid]:
    from featureflow.core.errors import CubeMistake
    from featureflow.library.cubes.registry import open_cube
    from featureflow.plan.compile_grid import compile_grids

    sources = loaded.project.sources
    needed = dict.fromkeys(one for name in names for one in sources_of(loaded.project, name))
    cubes: dict[str, Cube] = {}
    for name in needed:
        if sources[name].is_grid:
            try:
                cubes[name] = open_cube(name, sources[name], os.path.abspath(loaded.root))
            except CubeMistake as mistake:
                problems.append(loaded.problem(("sources", name, *mistake.place), mistake.message))
    return compile_grids(loaded, cubes, names, problems)


def _wrong_grid_checks(loaded: LoadedProject, grids: Mapping[str, CompiledGrid]) -> list[Problem]:
    """Mistakes in the checks of grids: a variable is a column of numbers, zones are rows."""
    found = []
    for name, grid in grids.items():
        given = bind(loaded.project.grids[name].each_check, f"features.{name}")
        if not given:
            continue
        from featureflow.plan.grid_lookups import grid_input
        from featureflow.plan.zone_rows import zone_input

        seen = grid_input(name, grid.outline, None) if grid.rows is None else zone_input(grid, grid.rows)
        for entry, field, message in check_problems(given, seen.columns, seen.time, seen.keys or None):
            found.append(loaded.problem(("features", name, "checks", entry, field), message))
    return found


def _too_large(
    loaded: LoadedProject, grids: Mapping[str, CompiledGrid], budget: Budget | None
) -> list[Problem]:
    """Grids of which no task can hold a chunk."""
    if budget is None or not grids:
        return []
    from featureflow.execute.grids.tasks import what_is_too_large

    found = [(name, what_is_too_large(grid, budget.task_bytes)) for name, grid in grids.items()]
    return [loaded.problem(("features", name, "chunks"), message) for name, message in found if message]


def _zones(grids: Mapping[str, CompiledGrid]) -> dict[str, Input]:
    """Grids of zones as the inputs of tables and datasets."""
    zonal = {name: (grid, grid.rows) for name, grid in grids.items() if grid.rows is not None}
    if not zonal:
        return {}
    from featureflow.plan.zone_rows import zone_input

    return {name: zone_input(grid, shape) for name, (grid, shape) in zonal.items()}


def _label_cubes(loaded: LoadedProject, names: list[str]) -> dict[str, Cube]:
    """Sources of N-d data that the labels of patches come from."""
    project = loaded.project
    found: dict[str, Cube] = {}
    for name in names:
        labels = project.datasets[name].spine.labels
        source = None if labels is None else project.sources.get(labels.source)
        if labels is not None and source is not None and source.is_grid:
            from featureflow.library.cubes.registry import open_cube

            found[labels.source] = open_cube(labels.source, source, os.path.abspath(loaded.root))
    return found


def _section_of(name: str) -> tuple[str, ...]:
    """Place in the spec of the source behind an input."""
    return (
        ("datasets", name.removesuffix(".spine"), "spine") if name.endswith(".spine") else ("sources", name)
    )


def _refuse_missing_functions(loaded: LoadedProject, tables: Iterable[str], sources: Iterable[str]) -> None:
    project, folder = loaded.project, os.path.abspath(loaded.root)
    places = {("sources", name): project.sources[name].udf for name in sources}
    places |= {("features", name): project.features[name].udf for name in tables}
    problems = [
        loaded.problem((*place, *below), message)
        for place, udfs in places.items()
        for below, message in function_problems(udfs, folder)
    ]
    if problems:
        raise SpecError(problems)


def _wrong_checks(
    loaded: LoadedProject, inputs: Mapping[str, tuple[str, Input, tuple[str, ...] | None]]
) -> list[Problem]:
    """Mistakes in the checks of sources or tables, given by name: section, columns, a table's keys."""
    found = []
    for name, (section, seen, keys) in inputs.items():
        checks = bind(getattr(loaded.project, section)[name].each_check, f"{section}.{name}")
        for entry, field, message in check_problems(checks, seen.columns, seen.time, keys):
            found.append(loaded.problem((section, name, "checks", entry, field), message))
    return found
