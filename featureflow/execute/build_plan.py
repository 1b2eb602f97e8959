"""A build plan: what is printed is what runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from featureflow.contracts.check import CheckResult
from featureflow.core.errors import PlanError
from featureflow.execute.checks.checking import BoundCheck
from featureflow.execute.inputs import Readable, readable_table
from featureflow.execute.publish import slice_label
from featureflow.execute.site import Site
from featureflow.execute.stages import Piece, TablePlan
from featureflow.observe.plans import describe_build, plan_html
from featureflow.observe.report import TableOutcome
from featureflow.plan.columns import as_input
from featureflow.plan.nodes import CompiledTable
from featureflow.plan.slices import Slice
from featureflow.tables.state import TableState

if TYPE_CHECKING:
    from featureflow.execute.grids.build import GridBuild
    from featureflow.execute.grids.stored import GridCube


class DatasetStage(Protocol):
    """A dataset of a build. It is made after the tables that it reads, and published with them or not at all."""

    @property
    def name(self) -> str:
        """Name of the dataset."""

    @property
    def lineage(self) -> dict[str, tuple[str, ...]]:
        """Input columns of each column."""

    @property
    def warnings(self) -> list[str]:
        """What its author should know, once it is computed."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the sources and tables that it reads."""

    @property
    def array_inputs(self) -> dict[str, dict[str, Any]]:
        """What it reads of sources of N-d data itself, by name: how much, and a name of all of it."""

    def describe(self) -> dict[str, Any]:
        """What would happen, as the plan of a table."""

    @property
    def own_columns(self) -> tuple[str, ...]:
        """Columns that are the spine's."""

    def rows(self, source: Callable[[str], Readable]) -> pa.Table:
        """Compute the rows, in the spine's order, and give them back; nothing is split, encoded or kept."""

    def compute(self, source: Callable[[str], Readable], now_us: int) -> list[CheckResult]:
        """Compute the rows and judge the checks; nothing becomes visible."""

    def publish(self, remembered: dict[str, Any]) -> TableOutcome:
        """Make the new version visible, if there is one."""


@dataclass(slots=True)
class BuildPlan:
    """The stages of a build, table by table in the order in which they run."""

    project: str
    tables: list[TablePlan]
    site: Site
    sources: dict[str, Readable]
    compiled: dict[str, CompiledTable]
    states: dict[str, TableState | None]
    source_checks: dict[str, tuple[BoundCheck, ...]]
    table_checks: dict[str, tuple[BoundCheck, ...]]
    warnings: list[str] = field(default_factory=list)
    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    datasets: list[DatasetStage] = field(default_factory=list)
    grids: list[GridBuild] = field(default_factory=list)
    cubes: dict[str, GridCube] = field(default_factory=dict)

    def buckets(self) -> dict[str, int]:
        """Buckets of every table that is built or has a version of this definition."""
        found = {plan.table.name: plan.n_buckets for plan in self.tables}
        for name, table in self.compiled.items():
            state = self.states.get(name)
            if name not in found and state is not None and state.definition_hash == table.definition_hash:
                found[name] = int(state.record["buckets"])
        return found

    def input(self, name: str) -> Any:
        """What a name stands for: a source, or what is published of a table or grid that this build does not make.

        Returns
        -------
        Readable or Cube
        """
        if name in self.cubes:
            return self.cubes[name]
        return self.sources[name] if name in self.sources else self.published_output(name)

    def summary(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return describe_build(self)

    def published_output(self, name: str) -> Readable:
        """The files of a table that this build does not touch."""
        table, state = self.compiled[name], self.states[name]
        if state is None:
            raise PlanError(f"features.{name} has no version yet. Select it too: --select +NAME.")
        files = [
            (Slice.from_label(slice_label(label, table.partition), table.partition), staged)
            for (label, _), staged in state.units.items()
        ]
        return readable_table(table, self.site.table_url(name), as_input(table), files)

    def _repr_html_(self) -> str:
        """The plan as a table."""
        return plan_html(self.summary())


@dataclass(frozen=True, slots=True)
class PlannedGrids:
    """Grids of a build: those that it makes, the others as they are published, and pieces of all, by name."""

    builds: list[GridBuild] = field(default_factory=list)
    cubes: dict[str, GridCube] = field(default_factory=dict)
    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def cube(self, name: str) -> GridCube:
        """A grid, as it is planned or published."""
        made = next((build for build in self.builds if build.name == name), None)
        return self.cubes[name] if made is None else made.cube()
