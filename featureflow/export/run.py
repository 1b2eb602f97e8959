"""Export a dataset version: survey, scatter, gather, commit."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from typing import Any

import featureflow
from featureflow.contracts.shard_format import ShardOptions
from featureflow.contracts.shard_manifest import MANIFEST, Manifest, Shard, ShardColumn
from featureflow.core.errors import ComputeError, FeatureflowError, PlanError, Unreachable
from featureflow.core.fingerprints import fingerprint
from featureflow.core.roles import Roles
from featureflow.core.storage import delete, is_local, join, local_path, walk, write_atomic
from featureflow.execute.driver import run_tasks
from featureflow.execute.executors import Executor
from featureflow.execute.grids.kept_memory import KeptMemory
from featureflow.execute.task import Task
from featureflow.export.columns import lay_out, plan_columns, role_of
from featureflow.export.folder import (
    UNFINISHED,
    begin,
    finished,
    remove_all_but,
    settle,
    sync_folders,
    write_file,
)
from featureflow.export.gather import Slice, write_shard, written_shard
from featureflow.export.in_place import Frame, alone, make_files, placed_columns, remove_files
from featureflow.export.inputs import WHOLE, ExportInput, Plan, RowsFile, SplitLayout
from featureflow.export.patches import survey_patches
from featureflow.export.scatter import scatter_chunk, spill_path
from featureflow.export.selection import REASONS
from featureflow.export.sidecars import sidecar_files
from featureflow.export.statistics import Gathered
from featureflow.export.survey import Chunk, first_ranks, lay_out_splits, survey_file
from featureflow.library.shards.registry import shard_format
from featureflow.spec.exports import Export

__all__ = ["ExportInput", "RowsFile", "export_rows"]

#: Part of every export's name; raise it when the same options would give other bytes.
LAYOUT = 1
#: A shard is one table with 32-bit offsets, and some formats have 32-bit offsets of their own.
LARGEST_SHARD = 2_000_000_000
#: Splits of these names come first, in this order, where the spec's order is not known.
_USUAL = ("train", "valid", "validation", "test")
#: Called with a stage (survey, scatter, write), how many of its tasks are done, and how many it has.
OnProgress = Callable[[str, int, int], None]


def export_rows(
    rows: ExportInput,
    options: Export,
    folder: str,
    *,
    executor: Executor,
    scratch: str,
    on_progress: OnProgress | None = None,
    replace: bool = False,
) -> Manifest:
    """Write the rows of a dataset version as shards into a folder.

    Parameters
    ----------
    folder
        Path or URL of this export alone.
    scratch
        Folder or URL for spills that the driver and all workers see; it takes about the size of the shards until the
        commit.
    on_progress
        See `OnProgress`.
    replace
        Whether other shards in the folder may be removed, their manifest first.

    Returns
    -------
    Manifest
        Of the shards; that of an earlier call if the same export is there already.

    Raises
    ------
    PlanError
        If the options do not fit the columns.
    ComputeError
        If there are nulls about which the options say nothing (all columns are named, with counts), a finite value
        that float32 can't hold, or rows that do not add up.
    TableError
        If the folder holds something else.

    Notes
    -----
    Order: with ``shuffle``, by a mix of each row's position in the spine and the seed, over the whole split; without,
    the spine's. Nulls: see `Export.nulls`; NaN counts as null. Rows whose labels are all null are left out.
    Determinism: shards are the same bytes for any files of the same rows, any workers and any executor.
    Resumable: finished tasks leave markers in scratch; until the manifest is written, a call repeats only what is
    missing.
    Cost: 1.0 reads of the dataset plus one of a few columns, one write and read of scratch, one write of shards.
    Memory: about three chunks (96 MB decoded) or three shards for each thread, whichever is more.
    """
    run = _Run(rows, options, folder, executor, scratch, on_progress or (lambda _stage, _done, _total: None))
    try:
        done = finished(folder, run.identity, replace=replace)
        if done is None:
            done = run.export(replace=replace)
        settle(folder)
    except OSError as error:  # of the folder itself, as a full disk; tasks tell theirs
        if isinstance(error, FileNotFoundError):
            raise
        raise Unreachable(f"{folder}: the export can't be written: {error}") from error
    _forget(run.plan.scratch)
    return done


def _forget(scratch: str) -> None:
    """Delete the spills and markers of an export that is done."""
    if is_local(scratch):
        shutil.rmtree(local_path(scratch), ignore_errors=True)
        return
    with suppress(FeatureflowError):  # `gc` finds them as well
        for path, _, _ in list(walk(scratch)):
            delete(join(scratch, path))


class _Run:
    """One export on its way; see `export_rows`."""

    def __init__(
        self,
        rows: ExportInput,
        options: Export,
        folder: str,
        executor: Executor,
        scratch: str,
        on_progress: OnProgress,
    ) -> None:
        self._rows, self._options, self._folder = rows, options, folder
        self._executor, self._on_progress = executor, on_progress
        self._format = shard_format(options.format)
        self._files = _in_order(rows)
        self.identity: dict[str, Any] = {
            "dataset": rows.dataset,
            "version": rows.version,
            "definition_hash": rows.definition_hash,
            "options_hash": _options_hash(rows, options),
        }
        where = local_path(folder) if is_local(folder) else folder
        content = [self.identity, where, [[f.url, f.rows, f.first_row] for f in self._files]]
        columns = plan_columns(rows, options)
        schema, self._described, matrix = lay_out(columns, matrix=options.layout == "matrix")
        self.plan = Plan(
            columns=columns,
            split=rows.roles.split,
            weight=rows.roles.weight,
            required=_required_labels(rows, options),
            seed=options.shuffle.seed if options.shuffle else None,
            matrix=matrix,
            schema=schema,
            format=options.format,
            options=_shard_options(options),
            scratch=join(scratch, "export", fingerprint(content)),
            folder=folder,
            bake=options.normalize is not None and options.normalize.apply == "bake",
            patches=rows.patches,
        )
        self._memory = KeptMemory()
        self._check_options()

    def _check_options(self) -> None:
        options = self._options
        if not 0 < options.shard_size <= LARGEST_SHARD:
            raise PlanError(
                f"export.shard_size: {options.shard_size:,} bytes; it must be from 1 to {LARGEST_SHARD:,}."
            )
        if options.rows_per_record > 1 and not self._format.records:
            raise PlanError(f"export.rows_per_record: {options.format} has no records. Leave it out.")
        self._format.check(self.plan.schema, self.plan.options)

    def export(self, *, replace: bool) -> Manifest:
        """Run all passes and commit."""
        begin(self._folder, self.identity["options_hash"], replace=replace)
        chunks = self._survey()
        layouts = self._lay_out(chunks)
        normalize = self._options.normalize
        with self._placing(layouts) as frames:
            slices, statistics = self._scatter(chunks, layouts, frames)
            scales = {} if normalize is None else statistics.scales(normalize.method)
            shards = self._gather(layouts, slices, scales if self.plan.bake else {}, frames)
        manifest = self._manifest(chunks, shards, {} if self.plan.bake else scales)
        self._commit(manifest, layouts, statistics)
        return manifest

    def _run(self, stage: str, tasks: list[Task]) -> list[Any]:
        results: dict[str, Any] = {}
        self._on_progress(stage, 0, len(tasks))

        def done(task: Task, result: Any) -> None:
            results[task.key] = result
            self._on_progress(stage, len(results), len(tasks))

        run_tasks(self._executor, tasks, done)
        return [results[task.key] for task in tasks]

    def _label(self, stage: str, what: str) -> str:
        """Text of a task: its stage, by the name that is shown of it, and what exactly."""
        return f"{self._rows.dataset}: export {stage}, {what}"

    def _survey(self) -> list[Chunk]:
        if self._rows.patches is not None:
            arguments = (self.plan, self._rows.patches, self._files)
            tasks = [Task("survey", survey_patches, arguments, self._label("survey", "index of patches"))]
            return [Chunk(**fields) for found in self._run("survey", tasks) for fields in found]
        tasks = [
            Task(f"survey-{place}", survey_file, (self.plan, file), self._label("survey", file.url))
            for place, file in enumerate(self._files)
        ]
        return [Chunk(**fields) for found in self._run("survey", tasks) for fields in found]

    def _lay_out(self, chunks: list[Chunk]) -> tuple[SplitLayout, ...]:
        names = self._rows.splits if self.plan.split else (WHOLE,)
        others = {name for chunk in chunks for name in chunk.kept} - {*names}
        rest = sorted(others, key=lambda name: (_USUAL.index(name) if name in _USUAL else len(_USUAL), name))
        equal = self._format.equal_shards
        return tuple(lay_out_splits(self.plan, chunks, (*names, *rest), self._options.shard_size, equal))

    @contextmanager
    def _placing(self, layouts: tuple[SplitLayout, ...]) -> Iterator[dict[str, Frame]]:
        """Write patches in place meanwhile, if all tasks see the same disk and the format allows it."""
        plan = self.plan
        local = (
            is_local(plan.folder) and is_local(plan.scratch) and getattr(self._executor, "in_process", False)
        )
        names = placed_columns(plan) if plan.patches is not None and local else ()
        if not names:
            yield {}
            return
        with alone(plan.folder) as mine:
            if not mine:
                yield {}
                return
            places = [one for layout in layouts for one in layout.places()]
            done = {place.stem for place, rows in places if written_shard(plan, place, rows, {})}
            frames = make_files(plan, layouts, names, done)
            self.plan = replace(plan, in_place=names)
            yield frames

    def _scatter(
        self, chunks: list[Chunk], layouts: tuple[SplitLayout, ...], frames: dict[str, Frame]
    ) -> tuple[list[list[Slice]], Gathered]:
        before = first_ranks(chunks, tuple(layout.name for layout in layouts))
        tasks = [
            Task(
                f"scatter-{place}",
                scatter_chunk,
                (self.plan, chunk, layouts, ranks, self._memory, frames),
                self._label("scatter", chunk.url),
            )
            for place, (chunk, ranks) in enumerate(zip(chunks, before, strict=True))
        ]
        statistics = Gathered(self.plan)
        slices: list[list[Slice]] = [[] for layout in layouts for _ in range(layout.count)]
        for chunk, part in zip(chunks, self._run("scatter", tasks), strict=True):
            statistics.add(part)
            batch = 0
            for shard, count in enumerate(part["counts"]):
                if count:
                    slices[shard].append((spill_path(self.plan, chunk), batch))
                    batch += 1
        if statistics.nulls:
            remove_files(self.plan, frames)
            raise ComputeError(_nulls_text(self._rows.dataset, self.plan, statistics))
        return slices, statistics

    def _gather(
        self,
        layouts: tuple[SplitLayout, ...],
        slices: list[list[Slice]],
        scales: dict[str, dict[str, float]],
        frames: dict[str, Frame],
    ) -> dict[str, tuple[Shard, ...]]:
        tasks = []
        for layout in layouts:
            for place, rows in layout.places():
                mine = tuple(slices[layout.first_shard + place.number])
                tasks.append(
                    Task(
                        place.stem,
                        write_shard,
                        (self.plan, place, rows, mine, scales, self._memory, frames.get(place.stem)),
                        self._label("write", place.stem),
                    )
                )
        shards = self._run("write", tasks)
        return {
            layout.name: tuple(shards[layout.first_shard : layout.first_shard + layout.count])
            for layout in layouts
        }

    def _manifest(
        self,
        chunks: list[Chunk],
        shards: dict[str, tuple[Shard, ...]],
        normalization: dict[str, dict[str, float]],
    ) -> Manifest:
        counted = {
            "in": sum(chunk.rows for chunk in chunks),
            "kept": sum(shard.rows for split in shards.values() for shard in split),
            **{reason: sum(chunk.out[reason] for chunk in chunks) for reason in REASONS.values()},
        }
        if counted["in"] != sum(n for name, n in counted.items() if name != "in"):
            raise ComputeError(f"export: rows do not add up: {counted}. Nothing was committed.")
        return Manifest(
            **self.identity,
            engine=featureflow.__version__,
            format=self._options.format,
            options=self.plan.options,
            columns=self._described,
            roles=_exported_roles(self._rows, self._described),
            splits=shards,
            shuffle=self.plan.seed,
            rows=counted,
            normalization=normalization,
            arrow_schema=base64.b64encode(self.plan.schema.serialize().to_pybytes()).decode(),
        )

    def _commit(self, manifest: Manifest, layouts: tuple[SplitLayout, ...], statistics: Gathered) -> None:
        """Write what belongs beside the shards, remove what does not, and say that all is there."""
        beside = sidecar_files(manifest, self.plan.columns, statistics)
        for layout in layouts:
            if layout.count:
                beside.update(self._index(layout, manifest.splits[layout.name]))
        for path, data in beside.items():
            write_file(self._folder, path, [data])
        inside = {file.path for split in manifest.splits.values() for shard in split for file in shard.files}
        remove_all_but(self._folder, {*beside, *inside, UNFINISHED})
        sync_folders(self._folder)
        write_atomic(join(self._folder, MANIFEST), manifest.to_json().encode())

    def _index(self, layout: SplitLayout, shards: tuple[Shard, ...]) -> dict[str, bytes]:
        options = self.plan.options
        places = [place for place, _ in layout.places()]
        entries = [
            {
                **shard.entry,
                "bytes": {file.path: file.bytes for file in shard.files},
                "xxh3_64": {file.path: file.xxh3_64 for file in shard.files},
            }
            for shard in shards
        ]
        return self._format.index(layout.name, places, entries, self.plan.schema, options)


def _in_order(rows: ExportInput) -> list[RowsFile]:
    files = sorted((file for file in rows.files if file.rows), key=lambda file: file.first_row)
    expected = 0
    for file in files:
        if file.first_row != expected:
            raise PlanError(
                f"export: {file.url} begins with row {file.first_row:,} of the spine, and should with {expected:,}."
            )
        expected += file.rows
    return files


def _options_hash(rows: ExportInput, options: Export) -> str:
    """Name of everything that decides the bytes beside the rows; where they go does not."""
    how = options.model_dump(mode="json", exclude={"path"})
    columns = [[stored, name, role_of(rows.roles, stored, name)] for stored, name in rows.names.items()]
    return fingerprint([LAYOUT, how, columns, list(rows.splits), rows.roles.split, rows.roles.weight])


def _shard_options(options: Export) -> ShardOptions:
    return ShardOptions(compression=options.compression, rows_per_record=options.rows_per_record)


def _required_labels(rows: ExportInput, options: Export) -> tuple[str, ...]:
    """Labels of which one at least must be known, unless `fill` or `indicator` says something about their nulls."""
    labels = {s: n for s, n in rows.names.items() if role_of(rows.roles, s, n) == "label"}
    virtual = {field.name for field in rows.patches.fields} if rows.patches else set()
    labels = {
        s: n for s, n in labels.items() if s not in virtual
    }  # patches are there, whatever is missing in them
    told = any(name in options.fill or name in options.indicator for name in labels.values())
    return () if told else tuple(labels)


def _exported_roles(rows: ExportInput, described: tuple[ShardColumn, ...]) -> Roles:
    """Roles by the names in the shards, without columns that are not there; the split is the folder."""
    there = {name for column in described for name in (column.names or (column.name,))}

    def known(column: str | None) -> str | None:
        exported = column if column is None or column in there else rows.names.get(column)
        return exported if exported in there else None

    found: dict[str, Any] = {}
    for field in fields(Roles):
        played = getattr(rows.roles, field.name)
        many = isinstance(played, tuple)
        found[field.name] = tuple(c for c in map(known, played) if c) if many else known(played)
    return Roles(**found)


def _nulls_text(dataset: str, plan: Plan, statistics: Gathered) -> str:
    by_name = {column.name: column for column in plan.columns}
    found = sorted(statistics.nulls.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{name} ({count:,}, {by_name[name].role})" for name, count in found)
    return (
        f"export of {dataset}: nulls in {len(found)} column{'s' if len(found) > 1 else ''}: {listed}. "
        "Shards have no nulls. Give `fill: {column: value}`, `indicator: [column]`, `encode: … impute` in the "
        "dataset, or `nulls: nan` for floating columns."
    )
