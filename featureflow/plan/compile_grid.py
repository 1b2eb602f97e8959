"""Specs of grids to compiled ones: every step's outline is worked out from metadata alone, and every mistake is told.

Nothing but metadata and coordinates is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from featureflow.contracts.cube import Cube
from featureflow.contracts.grid_step import FittedStep, GridStep, StepMistake
from featureflow.core.errors import Problem
from featureflow.core.fingerprints import fingerprint
from featureflow.library.grid_steps.registry import make_step
from featureflow.plan.definition import plain, source_definition, without_metadata
from featureflow.plan.grid_chunks import choose_chunks, time_dimension
from featureflow.plan.grid_nodes import CompiledGrid, GridInput, Link, RowShape
from featureflow.plan.zone_rows import zone_problem
from featureflow.spec.load import LoadedProject
from featureflow.spec.periods import time_dimension as named_time
from featureflow.spec.suggest import did_you_mean

if TYPE_CHECKING:
    import xarray as xr

#: Part of every fingerprint of a chunk: raise it when the same definition and input give other values than before, or
#: values are stored otherwise: chunks are then made anew, in new arrays.
ENGINE = 3


def compile_grids(
    loaded: LoadedProject, cubes: Mapping[str, Cube], names: list[str], problems: list[Problem]
) -> dict[str, CompiledGrid]:
    """Compile grids in the order in which they build on each other; mistakes are added to ``problems``.

    Parameters
    ----------
    cubes
        The sources of N-d data that they read, by name.
    """
    found: dict[str, CompiledGrid] = {}
    for name in names:
        compiler = _Compiler(loaded, cubes, found, name, problems)
        grid = compiler.compile()
        if grid is not None:
            found[name] = grid
    return found


def with_chunks(grid: CompiledGrid, chunks: Mapping[str, int]) -> CompiledGrid:
    """Take other sizes of chunks than were chosen: those that a grid's versions already have."""
    if dict(chunks) == grid.chunks:
        return grid
    links = tuple(
        replace(link, cells=cells_of(link.taken, chunks, grid.source.chunks)) for link in grid.links
    )
    head = grid.definition["source"]
    steps = grid.definition["steps"]
    return replace(grid, chunks=dict(chunks), links=links, prefixes=prefixes_of(head, steps, links))


def cells_of(
    taken: xr.Dataset, chunks: Mapping[str, int], stored: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """Sizes of the cells by which sums are made over a step's input: the grid's chunks, else the source's."""
    return {
        str(dim): min(int(n), chunks.get(str(dim), max(stored.get(str(dim), (int(n),)), default=1))) or 1
        for dim, n in taken.sizes.items()
    }


def prefixes_of(head: Any, steps: list[Any], links: tuple[Link, ...]) -> tuple[str, ...]:
    """Name of everything up to each link that decides its values."""
    found, so_far = [], fingerprint([ENGINE, head])
    for step, link in zip(steps, links, strict=True):
        cells = sorted(link.cells.items()) if link.fitted else []
        so_far = fingerprint([so_far, step, [list(cell) for cell in cells]])
        found.append(so_far)
    return tuple(found)


class _Compiler:
    """One grid."""

    def __init__(
        self,
        loaded: LoadedProject,
        cubes: Mapping[str, Cube],
        grids: Mapping[str, CompiledGrid],
        name: str,
        problems: list[Problem],
    ) -> None:
        self.loaded, self.cubes, self.grids, self.name, self.problems = loaded, cubes, grids, name, problems
        self.spec = loaded.project.grids[name]
        self.folder = os.path.abspath(loaded.root)
        self.others: dict[str, GridInput] = {}

    def tell(self, place: tuple[str | int, ...], message: str) -> None:
        self.problems.append(self.loaded.problem(("features", self.name, *place), message))

    def compile(self) -> CompiledGrid | None:
        source = self.input(self.spec.source)
        if source is None:
            return None  # it has mistakes of its own
        start = self._start(source)
        if start is None:
            return None
        links = self._links(start)
        if links is None:
            return None
        outline = links[-1][2].made if links else start
        if not outline.data_vars:
            self.tell(("steps",), "nothing is left: the last step gives no variable.")
            return None
        time = named_time(self.loaded.project, self.name)
        rows = _rows_of(outline, time) if self.spec.is_zonal else None
        problem = None if rows is None else zone_problem(outline, rows)
        if problem is not None:
            self.tell(("steps", len(self.spec.steps) - 1, "zonal"), problem)
            return None
        given = self._given("chunks", outline)
        chunks = choose_chunks(outline, given, self._near(source, outline), time=time)
        shards = self._shards(outline, chunks)
        linked = tuple(
            replace(link, cells=cells_of(link.taken, chunks, source.chunks)) for _, _, link in links
        )
        steps = [[name, params] for name, params, _ in links]
        definition = self._definition(source, steps)
        return CompiledGrid(
            name=self.name,
            source=source,
            others=dict(self.others),
            start=start,
            links=linked,
            chunks=chunks,
            shards=shards,
            given=given,
            definition=definition,
            definition_hash=fingerprint(definition),
            prefixes=prefixes_of(definition["source"], steps, linked),
            lineage=_lineage(source.name, start, outline, self.others),
            rows=rows,
            time=time,
        )

    def input(self, name: str) -> GridInput | None:
        """A source or another grid, as the input of this one."""
        if name in self.cubes:
            cube = self.cubes[name]
            identity = fingerprint(
                ["source", source_definition(self.loaded.project.sources[name], self.folder)]
            )
            return GridInput("source", name, cube.outline, dict(cube.chunks), identity, cube)
        grid = self.grids.get(name)
        if grid is None:
            return None
        chunks = {
            dim: tuple(min(size, n - low) for low in range(0, n, size))
            for dim, size in grid.chunks.items()
            for n in (int(grid.outline.sizes[dim]),)
        }
        return GridInput("table", name, grid.outline, chunks, grid.definition_hash)

    def _start(self, source: GridInput) -> xr.Dataset | None:
        known = [str(name) for name in source.outline.data_vars]
        wanted = list(self.spec.variables or known)
        missing = [name for name in wanted if name not in known]
        for name in missing:
            place = ("variables", (self.spec.variables or ()).index(name))
            self.tell(place, f"{source.name} has no variable {name!r}. {did_you_mean(name, known)}")
        if not known:
            self.tell(("source",), f"{source.name} has no variables.")
        if missing or not known:
            return None
        start = source.outline[wanted]
        return start.drop_vars([name for name, c in start.coords.items() if set(c.dims) - _dims(start)])

    def _links(self, start: xr.Dataset) -> list[tuple[str, Any, Link]] | None:
        """Name, parameters and link of each step; None if there is a mistake: what follows has no input."""
        taken, found = start, []
        for i, spec in enumerate(self.spec.steps):
            place = ("steps", i, spec.name)
            try:
                step = make_step(spec.name, self._with_file(spec.params))
                others = self._others(step, place)
                if others is None:
                    return None
                made = step.outline(taken, others)
                if isinstance(step, FittedStep):
                    step.fitted_outline(taken)
            except StepMistake as mistake:
                self.tell((*place, *mistake.place), mistake.message)
                return None
            params = dict(spec.params)
            if params.get("file"):  # what it says decides, not where it is
                params["file"] = fingerprint(repr(step))
            found.append((spec.name, plain(params), Link(spec.name, step, taken, made, {})))
            taken = made
        return found

    def _with_file(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Files that steps name are meant from the folder of the spec."""
        file = params.get("file")
        return params if not file else {**params, "file": os.path.join(self.folder, os.path.expanduser(file))}

    def _others(self, step: GridStep, place: tuple[str | int, ...]) -> dict[str, xr.Dataset] | None:
        found = {}
        for name in step.others:
            other = self.input(name)
            if other is None:
                if name not in self.loaded.project.grids:  # else it has mistakes of its own
                    known = [*self.cubes, *self.grids]
                    text = f"there is no source or grid {name!r} of N-d data. {did_you_mean(name, known)}"
                    self.tell(place, text)
                return None
            if name in step.loaded:
                other = self._loaded(other, step.loaded[name], place)
                if other is None:
                    return None
            self.others[name] = other
            found[name] = other.outline
        return found

    def _loaded(
        self, other: GridInput, variable: str | None, place: tuple[str | int, ...]
    ) -> GridInput | None:
        """An input with a variable's values, which decide what a step makes."""
        known = [str(name) for name in other.outline.data_vars]
        if variable is None and len(known) == 1:
            variable = known[0]
        if variable not in known:
            given = "names none of its variables" if variable is None else f"has no variable {variable!r}"
            self.tell(place, f"{other.name} {given}: it has {', '.join(known)}.")
            return None
        if other.cube is None:
            self.tell(place, f"{other.name} is a grid of this project; labels are read from a source.")
            return None
        region = {str(dim): (0, int(n)) for dim, n in other.outline.sizes.items()}
        values = other.cube.read(region, [variable])[variable]
        return replace(other, outline=other.outline.assign({variable: values.variable}))

    def _given(self, field: str, outline: xr.Dataset) -> dict[str, int]:
        found = {}
        for dim, size in (getattr(self.spec, field) or {}).items():
            if dim not in outline.sizes:
                known = [str(one) for one in outline.sizes]
                self.tell((field, dim), f"the grid has no dimension {dim!r}. {did_you_mean(dim, known)}")
            else:
                found[dim] = int(size)
        return found

    def _near(self, source: GridInput, outline: xr.Dataset) -> dict[str, int]:
        """Sizes to choose chunks from: those of the source, scaled where a step made a dimension shorter."""
        found = {}
        for dim, n in outline.sizes.items():
            stored, whole = source.chunks.get(str(dim)), source.outline.sizes.get(dim)
            if stored and whole:
                share = min(1.0, int(n) / int(whole))
                found[str(dim)] = max(1, round(max(stored) * share))
        return found

    def _shards(self, outline: xr.Dataset, chunks: dict[str, int]) -> dict[str, int] | None:
        given = self._given("shards", outline)
        if not given:
            return None
        for dim, size in given.items():
            if size % chunks[dim]:
                text = f"a shard holds whole chunks: {size} is no multiple of {chunks[dim]}, the chunk along {dim}."
                self.tell(("shards", dim), text)
        return {dim: given.get(dim, chunk) for dim, chunk in chunks.items()}

    def _definition(self, source: GridInput, steps: list[Any]) -> dict[str, Any]:
        spec = without_metadata(self.spec)
        return {
            "source": [source.kind, source.identity, plain(spec.get("variables"))],
            "others": {name: other.identity for name, other in sorted(self.others.items())},
            "steps": steps,
            "layout": [plain(spec.get("chunks")), plain(spec.get("shards"))],
        }


def _dims(outline: xr.Dataset) -> set[Any]:
    return {dim for variable in outline.data_vars.values() for dim in variable.dims}


def _rows_of(outline: xr.Dataset, named: str | None) -> RowShape:
    time = time_dimension(outline, named)
    return RowShape(tuple(str(dim) for dim in outline.sizes if dim != time), time)


def _lineage(
    source: str, start: xr.Dataset, outline: xr.Dataset, others: Mapping[str, GridInput]
) -> dict[str, tuple[str, ...]]:
    """Variables of the source that each variable comes from: its own, or all for what a step has made."""
    known = [str(name) for name in start.data_vars]
    beside = [f"{name}.{variable}" for name, other in others.items() for variable in other.outline.data_vars]
    return {
        str(name): (f"{source}.{name}",)
        if name in known
        else (*(f"{source}.{one}" for one in known), *beside)
        for name in outline.data_vars
    }
