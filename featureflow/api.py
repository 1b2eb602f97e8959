"""What a notebook and the command line call: open a project, plan it, build it; open a store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from featureflow.core.errors import PlanError
from featureflow.core.sizes import parse_bytes
from featureflow.spec.load import LoadedProject, load_project, load_text
from featureflow.spec.models import Target
from featureflow.spec.selection import select as select_tables

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from featureflow.datasets.dataset import Dataset
    from featureflow.datasets.store import Store
    from featureflow.execute.build_plan import BuildPlan
    from featureflow.execute.compiling import Compiled
    from featureflow.execute.opening import Where
    from featureflow.execute.site import Site
    from featureflow.loaders.shards import Shards
    from featureflow.observe.progress import Progress
    from featureflow.observe.report import RunReport
    from featureflow.observe.spec_tests import SpecTestResult
    from featureflow.plan.dataset_nodes import CompiledDataset
    from featureflow.plan.grid_nodes import CompiledGrid
    from featureflow.plan.nodes import CompiledTable
    from featureflow.spec.exports import Export
    from featureflow.tables.table import Table


class Project:
    """A spec with a place to build it.

    Parameters
    ----------
    path
        YAML file or folder; ``featureflow.yaml`` or ``configs/`` of the working directory if omitted. A text with a
        line break is taken as the YAML itself.
    store
        URL of the store; the spec's ``store:`` if omitted (relative to the working directory).
    client
        A ``distributed.Client`` to run on. Without one, threads or a local cluster are used and stopped by each build.
    scheduler
        ``threads``, ``local`` or an address such as ``tls://host:8786``.
    workers, memory
        Number of workers (threads for ``threads``); memory of each, such as ``"8GB"`` or bytes.
    scratch
        Folder on a fast local disk for exchange files; ``$FEATUREFLOW_SCRATCH`` or the user's cache folder.
    target
        One of the spec's ``targets:``; what is given here comes before it.

    Raises
    ------
    SpecError
        If the spec has mistakes; holds all of them.
    """

    def __init__(
        self,
        path: str | Path | LoadedProject | None = None,
        *,
        store: str | None = None,
        client: Any = None,
        scheduler: str | None = None,
        workers: int | None = None,
        memory: str | int | None = None,
        scratch: str | Path | None = None,
        target: str | None = None,
    ) -> None:
        self.loaded = _load(path)
        self.target = chosen = self._target(target)
        self.store_url = str(store or chosen.store or self.loaded.project.store)
        self.client = client
        self.scheduler = scheduler or chosen.scheduler
        self.workers = workers or chosen.workers
        wanted = memory if memory is not None else chosen.memory
        self.memory_bytes = None if wanted is None else _memory(wanted)
        self.scratch = os.path.abspath(
            os.path.expanduser(str(scratch or chosen.scratch or default_scratch()))
        )

    def _target(self, name: str | None) -> Target:
        targets = self.loaded.project.targets
        if name is None:
            return Target()
        if name not in targets:
            raise PlanError(
                f"--target {name!r}: the spec has no such target. It has: {', '.join(targets) or 'none'}."
            )
        return targets[name]

    @property
    def store(self) -> Store:
        """The store that this project builds into."""
        from featureflow.datasets.store import open as open_store

        return open_store(self.store_url)

    def table(self, reference: str) -> Table:
        """Open a built table: ``name``, ``name@7``, ``name@tag``."""
        return self.store.table(reference)

    def dataset(self, reference: str) -> Dataset:
        """Open a built dataset: ``name``, ``name@2``, ``name@tag``."""
        return self.store.dataset(reference)

    def compile(self) -> dict[str, CompiledTable]:
        """Type-check all tables against the sources' schemas; reads footers, no data.

        Returns
        -------
        dict
            Compiled tables by name, in the order in which they can be built.

        Raises
        ------
        SpecError
            With every mistake, each with file, line and column.
        SourceError
            If files are missing or do not have one schema.
        """
        return self._checked(list(self.loaded.project.features)).tables

    def compile_grids(self) -> dict[str, CompiledGrid]:
        """Check all grids against the metadata of their sources; reads coordinates, no values.

        Returns
        -------
        dict
            Compiled grids by name, in the order in which they can be built; ``outline`` is an `xarray.Dataset` of
            dimensions, coordinates, dtypes and attributes.

        Raises
        ------
        SpecError, SourceError
            As `compile`; also if a task for one chunk needs more memory than it may use, as far as that is known
            without a cluster.
        """
        return self._checked(list(self.loaded.project.grids)).grids

    def compile_datasets(self) -> dict[str, CompiledDataset]:
        """Type-check all datasets, and the tables and sources that they use.

        Raises
        ------
        SpecError, SourceError
            As `compile`.
        """
        return self._checked(list(self.loaded.project.datasets)).datasets

    def compile_all(self) -> Compiled:
        """Tables, grids, datasets and what was seen of their sources, in one go.

        Raises
        ------
        SpecError, SourceError
            As `compile`.
        """
        project = self.loaded.project
        return self._checked([*project.features, *project.grids, *project.datasets])

    def _checked(self, names: list[str]) -> Compiled:
        """With the grids of which no task could hold a chunk refused, which a build with nothing to do may have."""
        from featureflow.execute.compiling import compile_names
        from featureflow.execute.opening import known_budget

        return compile_names(self.loaded, names, self.scratch, known_budget(self._where(planning=True)))

    def _compiled(self, names: list[str]) -> Compiled:
        from featureflow.execute.compiling import compile_names

        return compile_names(self.loaded, names, self.scratch)

    def plan(
        self,
        select: Sequence[str] = (),
        exclude: Sequence[str] = (),
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        full: bool = False,
    ) -> BuildPlan:
        """Work out what a build would do, and why. Writes nothing to the store.

        Parameters
        ----------
        select, exclude
            dbt-like selectors: ``name``, ``+name``, ``name+``, ``tag:x``, ``source:y+``.
        start, end
            Build only slices that overlap ``[start, end)``, UTC.
        full
            Compute everything again.
        """
        with self._site(None, planning=True) as site:
            return self._plan(site, select, exclude, start, end, full)

    def _plan(
        self,
        site: Site,
        select: Sequence[str],
        exclude: Sequence[str],
        start: Any,
        end: Any,
        full: bool,
        *,
        learn: bool = False,
    ) -> BuildPlan:
        from featureflow.execute.planner import Planner
        from featureflow.plan.slices import between

        names = select_tables(self.loaded.project, list(select), list(exclude))
        tables = [name for name in names if name in self.loaded.project.features]
        found = self._compiled(names)
        only = between(start, end)
        read = set[str]()
        if found.datasets:
            from featureflow.datasets.planning import tables_read

            read = {name for dataset in found.datasets.values() for name in tables_read(dataset)}
        grids = None
        if found.grids:
            from featureflow.execute.grids.stage import plan_grids
            from featureflow.plan.zone_rows import early_rows

            grids = plan_grids(found.grids, names, site, full=full, learn=learn)
            if only is not None:
                _refuse_part(build.name for build in grids.builds if build.plan.does_something)
            grids.warnings.extend(early_rows(found.tables, found.grids))
        plan = Planner(self.loaded, found.tables, found.sources, site, grids).plan(
            tables, full=full, only=only, read=read
        )
        if found.datasets:
            from featureflow.datasets.build import prepare

            plan.datasets = [prepare(dataset, plan, full=full) for dataset in found.datasets.values()]
        return plan

    def build(
        self,
        select: Sequence[str] = (),
        exclude: Sequence[str] = (),
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        full: bool = False,
        progress: Progress | None = None,
    ) -> RunReport:
        """Plan, compute what is missing, check, and publish one new version of each table that changed.

        Raises
        ------
        FeatureflowError
            See the tree in `featureflow.core.errors`; nothing half-done is ever visible.
        """
        from featureflow.execute.session import run_build

        begun = time.monotonic()
        with self._site(progress) as site:
            plan = self._plan(site, select, exclude, start, end, full, learn=True)
            return run_build(self.loaded, plan, begun, self._export_stage)

    def _export_stage(self, name: str, site: Site) -> list[dict[str, Any]]:
        options = self.loaded.project.datasets[name].export
        return [] if options is None else [self._export(self.dataset(name), options, site, replace=False)[1]]

    def export(
        self,
        dataset: str,
        options: Export | Mapping[str, Any] | None = None,
        *,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Shards:
        """Write a published version of a dataset as training shards.

        Parameters
        ----------
        dataset
            ``name`` or ``name@2``.
        options
            As under ``export:`` in a spec; what the spec says (or its defaults) if omitted.
        replace
            Whether shards of other options in the same folder may be removed.

        Returns
        -------
        Shards
            Ready to load, as `featureflow.load_shards` of the folder.

        Raises
        ------
        ComputeError
            If there are nulls about which the options say nothing, or values that the shards can't hold.
        TableError
            If there is no such version, or other shards are in the folder.
        """
        from featureflow.loaders.shards import load_shards
        from featureflow.spec.exports import Export

        opened = self.dataset(dataset)
        if options is None:
            spec = self.loaded.project.datasets.get(opened.name)
            options = spec.export if spec is not None and spec.export is not None else Export()
        elif not isinstance(options, Export):
            options = Export.model_validate(dict(options))
        with self._site(progress) as site:
            folder, _ = self._export(opened, options, site, replace=replace)
        return load_shards(folder)

    def _export(
        self, dataset: Dataset, options: Export, site: Site, *, replace: bool
    ) -> tuple[str, dict[str, Any]]:
        from featureflow.export.dataset import describe_export, export_dataset, shown_by

        folder, manifest = export_dataset(
            dataset,
            options,
            store_url=self.store_url,
            executor=site.executor,
            scratch=site.board,
            progress=shown_by(site.progress, dataset.name),
            replace=replace,
        )
        return folder, describe_export(folder, manifest)

    def training_set(
        self,
        frame: pl.DataFrame | pd.DataFrame,
        features: Sequence[str | Mapping[str, Any]],
        *,
        keys: Sequence[str] | None = None,
        time: str | None = None,
        lookup: Sequence[Mapping[str, Any]] = (),
        derive: Mapping[str, str] | None = None,
        label: Mapping[str, Any] | None = None,
    ) -> pl.DataFrame | pd.DataFrame:
        """Evaluate features at the rows of a frame: what was known at each row's time.

        Parameters
        ----------
        frame
            Polars or pandas; its rows are the spine.
        features
            As in a dataset's spec: names of feature tables, or mappings with ``table``, ``keys``, ``columns``,
            ``prefix``.
        keys, time
            Columns of the frame; those that are called as the tables' keys, and its only time, if omitted.
        lookup, derive, label
            As in a dataset's spec.

        Returns
        -------
        frame of the same kind
            The frame with new columns: the same rows in the same order, with the same index.

        Notes
        -----
        Nulls: a row without a key or a time has null features.
        Time: windows are ``[t - w, t)`` as the tables say; look-ups and grid tables give the latest row with
        ``e <= t``. Tables ``at: events`` need not be built; grid tables and looked-up tables must be.

        Raises
        ------
        SpecError, PlanError
            If something is asked for that the project or the frame does not have.
        """
        from featureflow.datasets.frames import NAME, beside, with_frame

        with TemporaryDirectory(prefix="featureflow-frame-") as folder:
            asked = {"lookup": list(lookup), "derive": derive, "label": label}
            loaded = with_frame(self.loaded, frame, features, folder, keys=keys, time=time, **asked)
            project = copy(self)
            project.loaded = loaded
            with project._site(None) as site:  # noqa: SLF001  another one of this class
                plan = project._plan(site, [NAME], (), None, None, full=False)  # noqa: SLF001
                (dataset,) = plan.datasets
                made = dataset.rows(plan.input)
            return beside(frame, made, dataset.own_columns)

    def _site(self, progress: Progress | None, *, planning: bool = False) -> AbstractContextManager[Site]:
        from featureflow.execute.opening import open_site

        return open_site(self._where(planning=planning), progress)

    def _where(self, *, planning: bool) -> Where:
        from featureflow.execute.opening import Where

        return Where(
            self.store_url,
            self.scratch,
            self.scheduler,
            self.client,
            self.workers,
            self.memory_bytes,
            self.target,
            planning,
        )

    def test(self) -> list[SpecTestResult]:
        """Run the spec's own ``tests:`` on the rows that they give; no cluster, and no file of the project is read."""
        return [self._run_test(i) for i in range(len(self.loaded.project.tests))]

    def _run_test(self, index: int) -> SpecTestResult:
        from featureflow.core.errors import FeatureflowError
        from featureflow.execute.spec_tests import compare, prepare, time_zone
        from featureflow.observe.spec_tests import SpecTestResult

        test = self.loaded.project.tests[index]
        with TemporaryDirectory(prefix="featureflow-test-") as folder:
            try:
                small, tables = prepare(self.loaded, test, folder)
                store = os.path.join(folder, "store")
                project = Project(small, store=store, scheduler="threads", workers=1, scratch=folder)
                project.build(tables)
            except FeatureflowError as error:
                return SpecTestResult(test.name, False, str(error))
            problems = []
            for name, rows in test.expect.items():
                if name in small.project.datasets:
                    dataset = project.dataset(name)
                    keys, time = list(dataset.roles.keys), dataset.roles.time
                    made = dataset.to_polars()
                else:
                    table = project.table(name)
                    keys, time, made = table.keys, table.time, table.to_polars()
                place, zone = f"tests[{index}].expect.{name}", time_zone(small.project, name)
                problems += compare(rows, made, [*keys, *([time] if time else [])], place, zone)
        return SpecTestResult(test.name, not problems, "\n".join(problems))

    def __repr__(self) -> str:
        """One line."""
        from featureflow.observe.html import project_facts

        return f"Project({self.loaded.project.project}: {project_facts(self.loaded)}, store {self.store_url})"

    def _repr_html_(self) -> str:
        """Tables with what they are made of."""
        from featureflow.observe.html import project_html

        return project_html(self.loaded, self.store_url)


def _load(path: str | Path | LoadedProject | None) -> LoadedProject:
    if isinstance(path, LoadedProject):
        return path
    return load_text(path) if isinstance(path, str) and "\n" in path else load_project(path)


def default_scratch() -> str:
    """Folder for exchange files where none is named."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return os.environ.get("FEATUREFLOW_SCRATCH") or os.path.join(cache, "featureflow")


def _memory(given: str | int) -> int:
    try:
        return parse_bytes(given)
    except ValueError as error:
        raise PlanError(f"memory: {error}") from None


def _refuse_part(grids: Iterable[str]) -> None:
    """Grids have no slices of time: a build of a range must not make all of one without a word."""
    for name in grids:
        raise PlanError(
            f"features.{name} is a grid, which a build makes as a whole: --from and --to choose slices of tables. "
            f"Leave them out, or the grid: --exclude {name}."
        )
