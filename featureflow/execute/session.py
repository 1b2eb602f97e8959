"""One build from start to finish: compute every table, check them, publish, write down what happened."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import featureflow
from featureflow.contracts.check import CheckResult
from featureflow.contracts.cube import Cube
from featureflow.core.conditional import refuse_without
from featureflow.core.errors import CheckFailed, FeatureflowError
from featureflow.core.meter import spent
from featureflow.core.storage import join, write_atomic
from featureflow.execute.build_plan import BuildPlan
from featureflow.execute.checks.checking import bind
from featureflow.execute.checks.judgement import (
    forget_old_quarantine,
    judge_source,
    judge_table,
    refuse_unknown_references,
)
from featureflow.execute.exchange.sharing import clean_up
from featureflow.execute.inputs import Readable
from featureflow.execute.placement.caching import cache_warnings
from featureflow.execute.profiling.profiler import current_profiler, during
from featureflow.execute.profiling.sums import profile_json, profile_of
from featureflow.execute.provenance import Provenance
from featureflow.execute.publish import changed_files, publish_table
from featureflow.execute.site import Site
from featureflow.execute.stages import TablePlan
from featureflow.execute.table_build import TableBuild, table_output
from featureflow.observe.bottleneck import bottleneck_line
from featureflow.observe.report import RunReport, StageReport, TableOutcome, with_shares
from featureflow.plan.columns import as_input
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import Lookup
from featureflow.plan.slices import Slice
from featureflow.spec.load import LoadedProject
from featureflow.tables.commit import Published
from featureflow.tables.parquet_files import StagedFile

if TYPE_CHECKING:
    from featureflow.execute.grids.build import GridBuild

#: Writes shards of a dataset's latest version, if its spec asks for them; returns what it did, for the report.
ExportStage = Callable[[str, Site], list[dict[str, Any]]]


@dataclass(slots=True)
class _Built:
    """A table after its stages, before its commit."""

    plan: TablePlan
    new: list[tuple[Slice, StagedFile]]
    rows_written: int
    checks: list[CheckResult]
    partials: dict[str, Any] = field(default_factory=dict)


class Session:
    """Walks a build plan; see `run_build`."""

    def __init__(
        self, loaded: LoadedProject, plan: BuildPlan, begun: float, export: ExportStage | None = None
    ) -> None:
        self._loaded, self._plan, self._begun, self._export = loaded, plan, begun, export
        self._exports: list[dict[str, Any]] = []
        self._profile: dict[str, Any] = {}
        self._site: Site = plan.site
        self._started = datetime.now(UTC)
        self._now_us = int(self._started.timestamp() * 1_000_000)
        # milliseconds first: ids are in the order in which builds began
        millis = self._started.microsecond // 1000
        self.build_id = f"{self._started:%Y%m%dT%H%M%S}-{millis:03x}{uuid.uuid4().hex[:9]}"
        self._outputs: dict[str, Readable] = {}
        self._grid_checks: dict[str, list[CheckResult]] = {}
        self._provenance = Provenance(loaded, plan, self.build_id)
        self._warnings = list(plan.warnings)

    def run(self) -> RunReport:
        """Build all tables, then publish them one after the other."""
        progress = self._site.progress
        progress.start(f"build {self._loaded.project.project}")
        outcomes: list[TableOutcome] = []
        try:
            refuse_without(self._site.store_url)  # before anything is computed
            self._refuse_unknown_references()
            with during("check"):
                sources = self._check_sources()
            with during("build"):
                for grid in self._plan.grids:
                    grid.compute(self.build_id, {one.name: one for one in self._plan.grids})
                    self._grid_checks[grid.name] = self._judge_grid(grid)
                built = [self._build(plan) for plan in self._plan.tables]
            results = [*sources, *(one for found in self._grid_checks.values() for one in found)]
            results += [result for table in built for result in table.checks]
            with during("build"):
                for dataset in self._plan.datasets:
                    results += dataset.compute(self._input, self._now_us)
                    self._warnings += dataset.warnings
            self._refuse_failed(results)
            with during("commit"), spent("commit"):
                outcomes = [self._publish_grid(grid) for grid in self._plan.grids]
                outcomes += [self._publish(table) for table in built]
                outcomes += [
                    dataset.publish(self._provenance.of_dataset(dataset)) for dataset in self._plan.datasets
                ]
            if self._export is not None:  # of what is published: a failure here takes no version back
                with during("export"):
                    self._export_all(self._export)
        except BaseException as error:
            self._write(
                self._report(outcomes, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            )
            raise
        finally:
            progress.finish()
            clean_up(self._site)
        changed = any(outcome.version is not None for outcome in outcomes)
        report = self._report(outcomes, "done" if changed else "nothing to do")
        self._write(report)
        return report

    def _export_all(self, export: ExportStage) -> None:
        """Write the shards of every dataset; one that fails does not keep the others from theirs."""
        failed: list[FeatureflowError] = []
        for dataset in self._plan.datasets:
            try:
                self._exports += export(dataset.name, self._site)
            except FeatureflowError as error:
                error.add_note(f"while exporting: datasets.{dataset.name}, whose version is published")
                failed.append(error)
        if failed:
            for other in failed[1:]:
                failed[0].add_note(f"also: {other}")
            if self._exports:
                failed[0].add_note(f"exported: {', '.join(str(one['dataset']) for one in self._exports)}")
            raise failed[0]

    def _refuse_unknown_references(self) -> None:
        for plan in self._plan.tables:
            name = plan.table.name
            url = self._site.table_url(name)
            refuse_unknown_references(plan, self._plan.states[name], self._plan.table_checks[name], url)

    def _check_sources(self) -> list[CheckResult]:
        found = []
        for name, readable in self._plan.sources.items():
            checks = self._plan.source_checks[name]
            if checks:
                found.extend(judge_source(self._site, name, readable, checks, self._now_us))
        return found

    def _build(self, plan: TablePlan) -> _Built:
        table = plan.table
        state = self._plan.states[table.name]
        checks = self._plan.table_checks[table.name]
        run = TableBuild(
            plan,
            self._rows(table.source.name),
            [self._right(lookup) for lookup in table.lookups],
            self._site,
            checks,
        )
        new = run.run()
        self._outputs[table.name] = table_output(plan, state, new, self._site, as_input(table))
        if run.quarantined:
            self._warnings.append(f"features.{table.name}: {run.quarantined} rows were put into quarantine.")
        with during("check"):
            results, partials = judge_table(self._site, plan, state, new, checks, self._now_us)
        return _Built(plan, new, run.rows_written, results, partials)

    def _rows(self, name: str) -> Readable:
        found = self._input(name)
        if isinstance(found, Readable):
            return found
        from featureflow.execute.grids.zone_rows import tabular

        return tabular(found)

    def _right(self, lookup: Lookup | GridLookup) -> Readable | Cube:
        """What a table looks up: rows, or a grid."""
        if isinstance(lookup, Lookup):
            return self._rows(lookup.right.name)
        cube: Cube = self._input(lookup.right.name)
        return cube

    def _input(self, name: str) -> Any:
        made = next((grid for grid in self._plan.grids if grid.name == name), None)
        if made is not None:
            from featureflow.execute.grids.stage import input_of

            return input_of(made)
        if name not in self._outputs:
            self._outputs[name] = self._plan.input(name)
        return self._outputs[name]

    def _refuse_failed(self, results: list[CheckResult]) -> None:
        failed = [result for result in results if not result.passed]
        self._warnings.extend(result.message for result in failed if result.on_fail != "error")
        fatal = [result.message for result in failed if result.on_fail == "error"]
        if fatal:
            raise CheckFailed(
                "\n".join([*fatal, "Nothing was published. Mend the data or the check, and build again."])
            )

    def _judge_grid(self, grid: GridBuild) -> list[CheckResult]:
        checks = bind(self._loaded.project.grids[grid.name].each_check, f"features.{grid.name}")
        if not checks:
            return []
        from featureflow.execute.grids.checking import judge_grid

        with during("check"):
            return judge_grid(grid, checks, self._now_us)

    def _publish_grid(self, grid: GridBuild) -> TableOutcome:
        checks = self._grid_checks[grid.name]
        return replace(grid.publish(self._provenance.of_grid(grid, checks)), checks=_shown(checks))

    def _publish(self, built: _Built) -> TableOutcome:
        plan = built.plan
        name = plan.table.name
        state = self._plan.states[name]
        url = self._site.table_url(name)
        remembered = self._provenance.of_table(plan.table, built.checks, built.partials)
        published: Published | None = publish_table(plan, url, state, built.new, remembered)
        if published:
            forget_old_quarantine(plan, url)
        adds, _ = changed_files(plan, state, built.new)
        rows = published.rows if published else (state.info.rows if state else 0)
        return TableOutcome(
            name=name,
            change=plan.change,
            reason=plan.reason,
            version=published.version if published else None,
            previous_version=state.version if state else None,
            rows=rows,
            rows_written=sum(staged.rows for staged in adds),
            files_written=len(adds),
            files_reused=published.files_kept if published else (state.info.files if state else 0),
            slices_computed=len(plan.missing),
            checks=_shown(built.checks),
        )

    def _report(self, outcomes: list[TableOutcome], status: str) -> RunReport:
        stages: list[StageReport] = getattr(self._site.progress, "stages", list)()
        profile = self._profiled(status, stages)
        return RunReport(
            build_id=self.build_id,
            project=self._loaded.project.project,
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._begun, 3),
            engine_version=featureflow.__version__,
            status=status,
            tables=outcomes,
            stages=with_shares(stages, profile),
            warnings=[*self._warnings, *cache_warnings(self._site.executor)],
            dashboard=getattr(self._site.executor, "dashboard", None),
            exports=self._exports,
            bottleneck=bottleneck_line(profile),
        )

    def _profiled(self, status: str, stages: list[StageReport]) -> dict[str, Any]:
        """Where the time went so far; it is written with the report."""
        profiler = current_profiler()
        if profiler is None:
            return {}
        about = {
            "build_id": self.build_id,
            "project": self._loaded.project.project,
            "started": self._started.isoformat(timespec="seconds"),
            "engine_version": featureflow.__version__,
            "status": status,
            "dashboard": getattr(self._site.executor, "dashboard", None),
        }
        self._profile = profile_of(profiler, about, stages)
        return self._profile

    def _write(self, report: RunReport) -> None:
        folder = join(self._site.store_url, "runs", self.build_id)
        try:
            if self._profile:
                write_atomic(join(folder, "profile.json"), profile_json(self._profile))
            write_atomic(join(folder, "run.json"), report.to_json().encode())
            write_atomic(join(folder, "lineage.json"), json.dumps(self._lineage(), indent=1).encode())
        except (OSError, FeatureflowError) as error:
            self._warnings.append(f"the run report could not be written to {folder}: {error}")

    def _lineage(self) -> dict[str, Any]:
        return (
            {
                plan.table.name: {column: list(origins) for column, origins in plan.table.lineage.items()}
                for plan in self._plan.tables
            }
            | {
                grid.name: {variable: list(origins) for variable, origins in grid.lineage.items()}
                for grid in self._plan.grids
            }
            | {
                dataset.name: {column: list(origins) for column, origins in dataset.lineage.items()}
                for dataset in self._plan.datasets
            }
        )


def _shown(results: list[CheckResult]) -> list[dict[str, Any]]:
    """Checks as reports have them."""
    return [
        {"name": r.label, "passed": r.passed, "on_fail": r.on_fail, "message": r.message, "rows": r.bad}
        for r in results
    ]


def run_build(
    loaded: LoadedProject, plan: BuildPlan, begun: float, export: ExportStage | None = None
) -> RunReport:
    """Run a build plan; ``export`` is called for each dataset when all versions are published.

    Everything is computed and checked before the first commit, so that a failed check or task publishes nothing. The
    report and the lineage are written to ``runs/<build id>/`` in the store whatever happens.
    """
    return Session(loaded, plan, begun, export).run()
