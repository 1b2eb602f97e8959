"""What the record of a version says of where it comes from: the build, definitions, inputs, checks, the author."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from featureflow.contracts.check import CheckResult
from featureflow.execute.build_plan import BuildPlan, DatasetStage
from featureflow.execute.publish import Author
from featureflow.plan.nodes import CompiledTable
from featureflow.spec.load import LoadedProject
from featureflow.tables.state import current_state

if TYPE_CHECKING:
    from featureflow.execute.grids.build import GridBuild


class Provenance:
    """Of everything that one build publishes.

    Parameters
    ----------
    loaded
        The spec; definitions are kept as they are written in it, variables not replaced.
    plan
        What is built, with what it reads.
    build_id
        Of the build.
    """

    def __init__(self, loaded: LoadedProject, plan: BuildPlan, build_id: str) -> None:
        self._loaded, self._plan, self._build_id = loaded, plan, build_id
        self._author = Author.here(loaded.root)

    def of_table(
        self, table: CompiledTable, checks: list[CheckResult], partials: dict[str, Any]
    ) -> dict[str, Any]:
        """Of a table; ``partials`` are what later builds need to judge checks of all rows."""
        inputs = self._inputs([table.source.name, *(lookup.right.name for lookup in table.lookups)])
        return self._of_feature(table.name, inputs, checks) | {"check_partials": partials}

    def of_grid(self, grid: GridBuild, checks: list[CheckResult]) -> dict[str, Any]:
        """Of a grid."""
        return self._of_feature(grid.name, self._inputs(grid.inputs), checks)

    def of_dataset(self, dataset: DatasetStage) -> dict[str, Any]:
        """Of a dataset; the versions of what it reads are those that were published before."""
        project, inputs = self._loaded.project, self._inputs(dataset.inputs)
        for name, found in inputs.items():
            if "table" in found and (state := current_state(self._plan.site.table_url(name))) is not None:
                found["version"] = state.version
        features = [name for name in inputs if name in project.features or name in project.grids]
        definition = {
            "dataset": self._loaded.raw_of(("datasets", dataset.name)),
            "features": {name: self._loaded.raw_of(("features", name)) for name in features},
        }
        return self._of_anything(definition, inputs)

    def _of_feature(self, name: str, inputs: dict[str, Any], checks: list[CheckResult]) -> dict[str, Any]:
        project = self._loaded.project
        spec = project.grids[name] if name in project.grids else project.features[name]
        return {
            **self._of_anything({"table": self._loaded.raw_of(("features", name))}, inputs),
            "description": spec.description,
            "owner": spec.owner,
            "tags": list(spec.tags),
            "checks": [{"label": r.label, "passed": r.passed, "message": r.message} for r in checks],
        }

    def _of_anything(self, definition: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        project = self._loaded.project
        sources = {name: self._loaded.raw_of(("sources", name)) for name in inputs if name in project.sources}
        return {
            "build": self._build_id,
            "project": project.project,
            "definition": {**definition, "sources": sources},
            "inputs": inputs,
            "author": {"user": self._author.user, "commit": self._author.commit},
        }

    def _inputs(self, names: Iterable[str]) -> dict[str, Any]:
        """Exactly what was read: files of sources, definitions (and versions, if published) of tables."""
        inputs: dict[str, Any] = {}
        for name in dict.fromkeys(names):
            found = self._arrays_of(name)
            if found is not None:
                inputs[name] = found
            elif name in self._plan.sources:
                readable = self._plan.sources[name]
                inputs[name] = {"files": readable.files, "delta_version": readable.delta_version}
            else:
                inputs[name] = {"table": name, "definition_hash": self._plan.compiled[name].definition_hash}
        return inputs

    def _arrays_of(self, name: str) -> dict[str, Any] | None:
        """What was read of N-d data: how much, and a name of all of it."""
        for grid in self._plan.grids:
            if name == grid.name:
                return {"table": name, "definition_hash": grid.grid.definition_hash}
            if name in grid.grid.inputs and grid.grid.inputs[name].kind == "source":
                return grid.plan.input_of(name)
        if name in self._plan.cubes:
            return {"table": name, "snapshot": self._plan.cubes[name].snapshot}
        for dataset in self._plan.datasets:
            if name in dataset.array_inputs:
                return dataset.array_inputs[name]
        return None
