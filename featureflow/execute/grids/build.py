"""Build a grid: what its steps learn, then its chunks, box by box; publish it when everything has been checked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

import pyarrow as pa

from featureflow.contracts.check import CheckResult
from featureflow.contracts.cube import Cube
from featureflow.core.errors import CommitConflict, SourceError, TableError
from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import delete, join, walk
from featureflow.execute.grids import progress
from featureflow.execute.grids.chunk_rows import ChunkRow, schema_of, table_of
from featureflow.execute.grids.fits import FitGoal
from featureflow.execute.grids.known_fits import fit_path, same_path, sums_path
from featureflow.execute.grids.learning import learn, task_cubes
from featureflow.execute.grids.planning import FITS, GridPlan, name_of_all
from featureflow.execute.grids.rechunking import rechunked
from featureflow.execute.grids.region_task import GridJob, Made, compute_box
from featureflow.execute.grids.repeated import is_published
from featureflow.execute.grids.stored import ZONES, GridCube
from featureflow.execute.grids.unchanged import find_changed
from featureflow.execute.grids.zones import compute_zones, part_path, read_zones, table_of_zones, write_zones
from featureflow.execute.site import Site
from featureflow.execute.task import Shared, Task
from featureflow.observe.report import TableOutcome
from featureflow.plan.grid_nodes import CompiledGrid, RowShape
from featureflow.tables import layout
from featureflow.tables.arrays import ArraySpec, ArrayWrite, begin
from featureflow.tables.commit import Published, publish
from featureflow.tables.parquet_files import StagedFile, write_file

#: What tasks wrote is merged when so many have come back: a fork names all chunks that were written with it.
MERGED_AT_ONCE = 64
#: Seconds of work for each second of writing down what is finished, at least.
SAVED_FOR = 20
#: What a version does not use and is younger may be of a build that is running.
YOUNG = timedelta(days=1)


class GridBuild:
    """One grid of a build: computes it, and publishes it when everything of the build has been checked."""

    def __init__(self, plan: GridPlan, site: Site) -> None:
        self.plan, self.site = plan, site
        self.grid: CompiledGrid = plan.grid
        self.url = site.table_url(plan.name)
        self.snapshot = self._build_id = ""
        self.rows: list[ChunkRow] = list(plan.kept)
        self.zones: pa.Table | None = None
        self.staged: tuple[StagedFile, ...] = ()
        self._cubes: dict[str, Cube] = dict(plan.cubes)
        self._repeated = False

    @property
    def name(self) -> str:
        """Name of the grid."""
        return self.grid.name

    @property
    def lineage(self) -> dict[str, tuple[str, ...]]:
        """Variables of its inputs that each variable comes from."""
        return self.grid.lineage

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the sources and grids that it reads."""
        return tuple(self.grid.inputs)

    def cube(self) -> GridCube:
        """The grid as the input of another one, or of a dataset: readable once it is computed."""
        found = self.plan.cube(self.url)
        found.snapshot = self.snapshot or found.snapshot
        return found

    def compute(self, build_id: str, grids: Mapping[str, GridBuild]) -> list[CheckResult]:
        """Compute the missing chunks; nothing becomes visible.

        Parameters
        ----------
        grids
            Those of this build that are computed already.
        """
        with _told(self.url):
            self._compute(build_id, grids)
        return []

    def _compute(self, build_id: str, grids: Mapping[str, GridBuild]) -> None:
        plan = self.plan
        arrays = (plan.state.record.get("arrays") or {}) if plan.state else {}
        self.snapshot, self._build_id = str(arrays.get("snapshot", "")), build_id
        if not plan.does_something:
            return
        for name in self.grid.inputs:
            if name in grids:
                self._cubes[name] = grids[name].cube()
        if self.grid.rows is not None:
            self._make_fits()
            with rechunked(plan.rechunk, self.grid, task_cubes(self._cubes), self.site) as cubes:
                self._make_zones(self.grid.rows, cubes)
            return
        spec = ArraySpec(self.grid.outline, self.grid.chunks, self.grid.shards)
        write = begin(self.url, spec, build_id, plan.base)
        lost = write.empty.intersection(row.variable for row in plan.kept)
        if lost:
            raise TableError(
                f"{self.url}: chunks of {', '.join(sorted(lost))} would be kept, but its stored array is another one. "
                "Nothing was published; build with --full, and please report it with the spec."
            )
        self._make_fits()
        with rechunked(plan.rechunk, self.grid, task_cubes(self._cubes), self.site) as cubes:
            self._make_chunks(write, cubes)
        self.snapshot = write.commit(
            f"{self.name}: {len(plan.missing)} chunks",
            {"grid": self.name, "definition": self.grid.definition_hash},
        )
        self._repeated = is_published(self.url, plan.state, plan.mark, self.rows)
        if self._repeated:
            self.snapshot = str(arrays["snapshot"])

    def _job(self, fork: bytes, what: str, cubes: dict[str, Cube]) -> Shared:
        job = GridJob(self.grid, self.plan.lattice, cubes, fork, join(self.url, FITS))
        return Shared(f"{self.name}-{what}", job)

    def _make_fits(self) -> None:
        """What has to be learned before chunks can be computed."""
        plan, folder = self.plan, join(self.url, FITS)
        goals = [FitGoal(tile, folder, name, begun=plan.fits.has_sums(name)) for tile, name in plan.cut.fits]
        learn(plan.naming, plan.lattice, self._cubes, self.site, goals)

    def _make_chunks(self, write: ArrayWrite, cubes: dict[str, Cube]) -> None:
        plan = self.plan
        if not plan.missing:
            return
        stage = f"{self.name}: compute"
        self.site.progress.stage(stage, len(plan.cut.boxes))
        job = self._job(write.fork(), "chunks", cubes)
        forks: list[bytes] = []
        saved, every = time.monotonic(), progress.EVERY_SECONDS

        def done(_: Task, made: Made) -> None:
            nonlocal saved, every
            forks.append(made.fork)
            self.rows.extend(made.rows)
            self.site.progress.advance(stage, bytes=sum(row.bytes for row in made.rows))
            late = time.monotonic() - saved >= every
            if late or len(forks) >= MERGED_AT_ONCE:
                write.merge(forks)
                forks.clear()
            if late:
                begun = time.monotonic()
                self._save(write)
                saved = time.monotonic()
                every = max(every, SAVED_FOR * (saved - begun)) if every else every

        tasks = []
        for i, box in enumerate(plan.cut.boxes):
            names = tuple(plan.chunks[cell] for cell in box.cells)
            shown = ", ".join(f"{dim} {low}:{high}" for dim, (low, high) in box.region.items())
            tasks.append(Task(f"{self.name}-{i}", compute_box, (job, box, names), f"{stage}, {shown}"))
        try:
            self.site.run(tasks, done)
            self._refuse_changed_sources()
        except BaseException:  # interrupted or failed: what is finished counts for the next build
            with suppress(Exception):
                write.merge(forks)
                self._save(write)
            raise
        write.merge(forks)

    def _refuse_changed_sources(self) -> None:
        """Refuse to go on with what was made of sources that have changed meanwhile, and forget it.

        Its names say that it was made of what was planned with: who puts that back would be given it.
        """
        plan = self.plan
        found = find_changed(plan.naming, plan.lattice, self._cubes, plan.chunks)
        if found is None or found.cells.isdisjoint(plan.missing):
            return
        self.rows = [row for row in self.rows if row.fingerprint in found.chunks]
        for name in {name for box in plan.cut.boxes for _, name in box.fits} - found.fits:
            delete(fit_path(join(self.url, FITS), name))
            delete(sums_path(join(self.url, FITS), name))
        if self.grid.rows is not None:
            for cell in found.cells:
                delete(part_path(join(self.url, ZONES), plan.chunks[cell]))
        raise found.error(self.name)

    def _make_zones(self, shape: RowShape, cubes: dict[str, Cube]) -> None:
        """Compute the parts of a grid of zones that are missing, and put its rows together."""
        plan, folder = self.plan, join(self.url, ZONES)
        stage = f"{self.name}: compute"
        self.site.progress.stage(stage, len(plan.cut.boxes))
        job = self._job(b"", "zones", cubes)
        tasks = []
        for i, box in enumerate(plan.cut.boxes):
            names = tuple(plan.chunks[cell] for cell in box.cells)
            tasks.append(Task(f"{self.name}-{i}", compute_zones, (job, box, names, folder), stage))
        self.site.run(tasks, lambda _, n: self.site.progress.advance(stage, bytes=n))
        self._refuse_changed_sources()
        whole = {str(dim): (0, int(n)) for dim, n in self.grid.outline.sizes.items()}
        data = read_zones(self.grid.outline, plan.lattice, plan.chunks, folder, whole)
        self.zones = table_of_zones(self.grid, shape, data)
        schema = layout.storable(self.zones.schema)
        self.zones = self.zones.cast(schema)
        name = fingerprint([self.grid.definition_hash, name_of_all(plan.mark, plan.chunks)])
        self.staged = write_zones(self.zones, shape, self.url, name)

    def _save(self, write: ArrayWrite) -> None:
        """Keep what is finished, should this build be killed."""
        changed: SourceError | None = None
        try:
            self._refuse_changed_sources()
        except SourceError as error:
            changed = error
        snapshot = write.checkpoint(f"{self.name}: {len(self.rows)} chunks so far")
        progress.save_progress(self.url, write.build_id, self.grid, snapshot, self.rows)
        if changed is not None:
            raise changed

    def publish(self, remembered: dict[str, Any]) -> TableOutcome:
        """Make the new version visible, if there is one."""
        plan, state = self.plan, self.plan.state
        published = None
        if plan.does_something:
            published = None if self._repeated else self._commit(remembered)
            self._forget_fits()
            progress.forget_progress(self.url, self._build_id)
            if self.grid.rows is not None:
                self._forget_parts()
        n_rows = len(self.rows)
        if self.grid.rows is not None:
            n_rows = published.rows if published else state.info.rows if state else 0
        return TableOutcome(
            name=self.name,
            change=plan.change,
            reason=plan.reason,
            version=published.version if published else None,
            previous_version=state.version if state else None,
            rows=n_rows,
            rows_written=n_rows - len(plan.kept) if published else 0,
            files_written=1 if published else 0,
            files_reused=0,
            slices_computed=len(plan.missing),
            checks=[],
            kind="grid",
            unit="chunk" if self.grid.rows is None else "row",
        )

    def _commit(self, remembered: dict[str, Any]) -> Published:
        state, shape = self.plan.state, self.grid.rows
        with _told(self.url):
            staged = self.staged or (self._write_rows(),)
        paths = {file.path for file in staged}
        dims = [str(dim) for dim in self.grid.outline.sizes]
        try:
            return publish(
                self.url,
                schema=schema_of(dims) if self.zones is None else self.zones.schema,
                partition="none",
                keys=["variable"] if shape is None else list(shape.keys),
                time=None if shape is None else shape.time,
                adds=list(staged),
                removes=[] if state is None else [old.path for old in state.files if old.path not in paths],
                record=self._record(remembered),
                expected_version=None if state is None else state.version,
            )
        except CommitConflict:
            if shape is None:  # the next build takes over what the winner does not have
                progress.save_progress(self.url, self._build_id, self.grid, self.snapshot, self.rows)
            raise

    def _write_rows(self) -> StagedFile:
        """Write the rows of all chunks."""
        table = table_of(self.rows, [str(dim) for dim in self.grid.outline.sizes])
        name = fingerprint([self.plan.mark, *(row.fingerprint + row.digest for row in self.rows)])
        return write_file(
            table, self.url, layout.file_path(None, None, 0, name), keys=["variable"], time=None
        )

    def _forget_parts(self) -> None:
        """Delete parts of zones that the new version does not have."""
        folder, used = join(self.url, ZONES), {f"{name}.npz" for name in self.plan.chunks.values()}
        _delete_old(folder, used)

    def _record(self, remembered: dict[str, Any]) -> dict[str, Any]:
        grid, outline = self.grid, self.grid.outline
        return {
            "definition_hash": grid.definition_hash,
            "lineage": {name: list(origins) for name, origins in grid.lineage.items()},
            "change": self.plan.change,
            "reason": self.plan.reason,
            "kind": "grid",
            "slices": {"all": name_of_all(self.plan.mark, self.plan.chunks)},
            "buckets": 1,
            "reach": None,
            "arrays" if grid.rows is None else "zones": {
                **(
                    {"snapshot": self.snapshot}
                    if grid.rows is None
                    else {"names": list(self.plan.chunks.values())}
                ),
                "mark": self.plan.mark,
                "dims": [str(dim) for dim in outline.sizes],
                "sizes": {str(dim): int(n) for dim, n in outline.sizes.items()},
                "chunks": dict(grid.chunks),
                "shards": None if grid.shards is None else dict(grid.shards),
                "variables": {
                    str(name): {
                        "dims": [str(dim) for dim in variable.dims],
                        "dtype": str(variable.dtype),
                        "units": None if "units" not in variable.attrs else str(variable.attrs["units"]),
                        "attrs": {str(key): _json(value) for key, value in variable.attrs.items()},
                    }
                    for name, variable in outline.data_vars.items()
                },
                "attrs": {str(key): _json(value) for key, value in outline.attrs.items()},
            },
            **remembered,
        }

    def _forget_fits(self) -> None:
        """Delete what no chunk of the new version was made with."""
        if not any(link.fitted for link in self.grid.links):
            return
        folder, naming, used = join(self.url, FITS), self.plan.naming, set[str]()
        for i, link in enumerate(self.grid.links):
            for tile, name in naming.tiles(i, {}) if link.fitted else ():
                made = naming.learned_from(i, tile)
                used |= {
                    fit_path("", name),
                    *(sums_path("", one) for one in (name, made)),
                    same_path("", made, name),
                }
        _delete_old(folder, {path.strip("/") for path in used})


@contextmanager
def _told(url: str) -> Iterator[None]:
    """What this process can't write ends the build in words, as what tasks can't write does."""
    try:
        yield
    except OSError as error:
        raise TableError(f"{url}: can't be written; nothing was published. {error}") from error


def _delete_old(folder: str, used: set[str]) -> None:
    """Delete files that the new version does not use, except those that a running build may have made."""
    before = datetime.now(UTC) - YOUNG
    for path, _, changed in walk(folder):
        if (path.endswith(".npz") or ".is." in path) and path not in used and changed < before:
            delete(join(folder, path))


def _json(value: Any) -> Any:
    """An attribute as JSON can say it."""
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "tolist"):
        return _json(value.tolist())
    return [_json(one) for one in value] if isinstance(value, (list, tuple)) else str(value)
