"""Make a dataset's files from its pieces: split, weigh, encode, check, write."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from featureflow.contracts.encoder import Json
from featureflow.core.errors import PlanError
from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending
from featureflow.core.roles import Roles
from featureflow.core.storage import write_atomic
from featureflow.datasets.assembly import Assembly, assemble
from featureflow.datasets.encoding import SUFFIX, TRAIN, Encoding, fit_encoders, select_features
from featureflow.datasets.fitted import Fitted
from featureflow.datasets.leaks import LeakSummary, check_leaks, leak_summary
from featureflow.datasets.patch_splits import split_patches
from featureflow.datasets.planning import ALL
from featureflow.datasets.sampling import sample_weights
from featureflow.datasets.selection import Selection
from featureflow.datasets.splits import (
    ClassCounts,
    SplitColumns,
    SplitCounts,
    assign_splits,
    count_classes,
    needs_class_counts,
)
from featureflow.execute.checks.checking import BoundCheck, findings
from featureflow.execute.exchange.exchange_file import exchange_path, finished_rows, write_buckets
from featureflow.execute.exchange.fetching import read_bucket
from featureflow.execute.profiling.profiler import during
from featureflow.execute.site import Site
from featureflow.execute.task import Task
from featureflow.execute.windows.run import Unit
from featureflow.execute.windows.window_task import note_path
from featureflow.plan.dataset_nodes import CompiledDataset
from featureflow.spec.splits import Split
from featureflow.tables.layout import file_path, storable
from featureflow.tables.parquet_files import StagedFile, write_file

SPLIT, FOLD = "split", "fold"


@dataclass(frozen=True, slots=True)
class Finishing:
    """What every piece goes through; ``mark`` names all that the dataset is made from."""

    assembly: Assembly
    table_url: str
    mark: str
    checks: tuple[BoundCheck, ...]
    notes: str
    folder: str

    @property
    def dataset(self) -> CompiledDataset:
        """The dataset."""
        return self.assembly.dataset

    def path(self, piece: int, kind: str) -> str:
        """Where a piece is kept until it is finished."""
        name = fingerprint([kind, self.mark, piece, self.assembly.piece_rows])
        return exchange_path(self.folder, name)


@dataclass(frozen=True, slots=True)
class Made:
    """What is known of a piece once it is put together."""

    rows: int
    counts: SplitCounts = field(default_factory=SplitCounts)
    classes: ClassCounts = field(default_factory=ClassCounts)
    leaks: LeakSummary = field(default_factory=LeakSummary)


@dataclass(slots=True)
class Finished:
    """A dataset that is written but not visible."""

    assembly: Assembly
    schema: pa.Schema
    roles: Roles
    files: list[StagedFile]
    counts: SplitCounts
    warnings: tuple[str, ...]
    encoder: Json = None
    selection: Selection | None = None
    patches: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """What the version remembers."""
        return {
            "roles": self.roles.to_json(),
            "rows": self.assembly.rows,
            "piece_rows": self.assembly.piece_rows,
            "split": self.counts.to_json(),
            "splits": list(self.counts.rows),
            "warnings": list(self.warnings),
            # as text: a record sorts its mappings, and the order of features means something
            "encoder": None if self.encoder is None else json.dumps(self.encoder),
            "selection": None if self.selection is None else json.dumps(self.selection.report),
            **({} if self.patches is None else {"patches": json.dumps(self.patches)}),
        }


def make_piece(job: Finishing, piece: int) -> Made:
    """Put a piece together; and split it, if that needs nothing of the pieces before it."""
    split = job.dataset.spec.split
    later = split is not None and needs_class_counts(split)
    path = job.path(piece, "whole" if later else "split")
    table = _kept(path)
    if table is None:
        table = assemble(job.assembly, piece)
        if not later:
            table = _divided(job, piece, table, None)
        write_buckets(table, np.zeros(table.num_rows, np.int64), 1, path)
    if later and split is not None:
        return Made(table.num_rows, classes=count_classes(table, split))
    return _facts(job, piece, table)


def split_piece(job: Finishing, piece: int, before: ClassCounts) -> Made:
    """Split a piece, knowing the classes of all rows before it."""
    table = _kept(job.path(piece, "split"))
    if table is None:
        table = _divided(job, piece, read_piece(job, piece, "whole"), before)
        write_buckets(table, np.zeros(table.num_rows, np.int64), 1, job.path(piece, "split"))
    return _facts(job, piece, table, before)


def read_piece(job: Finishing, piece: int, kind: str = "split") -> pa.Table:
    """Rows of a piece that was made."""
    (batch,) = read_bucket((job.path(piece, kind),), 0)
    return pa.Table.from_batches([batch.replace_schema_metadata(None)])


def _kept(path: str) -> pa.Table | None:
    if finished_rows(path) is None:
        return None
    (batch,) = read_bucket((path,), 0)
    return pa.Table.from_batches([batch.replace_schema_metadata(None)])


def _row_ids(job: Finishing, piece: int) -> Any:
    return np.arange(*job.assembly.range(piece), dtype=np.int64)


@spending("compute:split")
def _divided(job: Finishing, piece: int, table: pa.Table, before: ClassCounts | None) -> pa.Table:
    """Add the columns of split, fold and weight that the spec asks for."""
    spec = job.dataset.spec
    assigned = None
    if spec.split is not None:
        found = _assigned(job, piece, table, spec.split, before)
        assigned = found.split
        if SPLIT not in table.schema.names:
            table = table.append_column(SPLIT, assigned)
        if found.fold is not None:
            table = table.append_column(FOLD, found.fold)
    if spec.sample is not None:
        weights = sample_weights(
            table.column(spec.sample.column), spec.sample, row_ids=_row_ids(job, piece), split=assigned
        )
        table = table.append_column(spec.sample.weight, weights)
    return table


def _assigned(
    job: Finishing, piece: int, table: pa.Table, split: Split, before: ClassCounts | None
) -> SplitColumns:
    dataset = job.dataset
    row_ids = _row_ids(job, piece)
    if dataset.patches is None:
        return assign_splits(
            table, split, keys=dataset.keys, time=dataset.time, row_ids=row_ids, before=before
        )
    return split_patches(
        table,
        split,
        dataset.patches,
        keys=dataset.keys,
        time=dataset.time,
        row_ids=row_ids,
        before=before,
    )


def _facts(job: Finishing, piece: int, table: pa.Table, before: ClassCounts | None = None) -> Made:
    dataset, split = job.dataset, job.dataset.spec.split
    if split is None:
        return Made(table.num_rows)
    found = _assigned(job, piece, table, split, before)
    leaks = leak_summary(
        table, found.split, split, keys=dataset.keys, time=dataset.time, reach=dataset.spec.horizon
    )
    return Made(table.num_rows, found.counts, leaks=leaks)


def write_piece(
    job: Finishing, piece: int, schema: pa.Schema, encoding: Encoding | None, train_before: int
) -> StagedFile:
    """Encode and check a piece, and write its file; visible to nobody until the commit."""
    table = read_piece(job, piece)
    if encoding is not None:
        split = SPLIT if job.dataset.spec.split is not None else None
        made = encoding.columns(table, split, train_before)
        for name in made.schema.names:
            table = table.append_column(name, made.column(name))
    table = pa.table([table.column(f.name).cast(f.type) for f in schema], schema=schema)
    if job.checks:
        plain = [f.name for f in schema if not pa.types.is_map(f.type)]
        frame = pl.DataFrame(table.select(plain))
        none = pl.Series(np.zeros(frame.height, np.bool_))
        found = findings(job.checks, frame, none, job.dataset.time)
        note = note_path(job.notes, Unit(ALL, job.mark), piece)
        write_atomic(note, json.dumps(found).encode(), durable=False)
    path = file_path(None, None, piece, job.mark)
    return write_file(table, job.table_url, path, keys=list(job.dataset.keys), time=job.dataset.time)


def finish_pieces(job: Finishing, site: Site) -> Finished:
    """Make, split, encode, check and write every piece.

    Raises
    ------
    CheckFailed
        If rows leak between splits.
    """
    dataset, n_pieces = job.dataset, job.assembly.n_pieces
    made = _make(job, site)
    counts, leaks = SplitCounts(), LeakSummary()
    for one in made:
        counts, leaks = counts + one.counts, leaks + one.leaks
    warnings: tuple[str, ...] = ()
    if dataset.spec.split is not None:
        warnings = check_leaks(
            leaks, dataset.spec.split, reach=dataset.spec.horizon, where=f"datasets.{dataset.name}.split"
        )
    raw = read_piece(job, 0).schema
    with during("fit encoders"):
        encoding = fit_encoders(dataset, raw, partial(read_piece, job), n_pieces, job.mark, site)
    fitted = None if encoding is None else encoding.fitted
    roles = _roles(dataset, fitted)
    taken = set(raw.names) - set({} if fitted is None else fitted.sources)
    if clash := [name for name in roles.features if name in taken and name not in _raw_features(dataset)]:
        raise PlanError(
            f"datasets.{dataset.name}: encode makes a column {clash[0]!r}, which there is already."
        )
    with during("select"):
        selection = select_features(
            dataset, roles.features, partial(read_piece, job), encoding, n_pieces, job.mark, site
        )
    if selection is not None:
        roles = replace(roles, features=selection.kept)
    extra = [] if fitted is None else [pa.field(f"{o.name}{SUFFIX}", o.type) for o in fitted.outputs]
    schema = storable(pa.schema([*raw, *extra]))
    before = np.cumsum([0, *(one.counts.rows.get(TRAIN, one.rows) for one in made)]).tolist()
    stage = f"{dataset.name}: write"
    site.progress.stage(stage, n_pieces)
    files: list[StagedFile] = []

    def done(_: Task, staged: StagedFile) -> None:
        files.append(staged)
        site.progress.advance(stage, rows=staged.rows, bytes=staged.size)

    tasks = [
        Task(
            f"{job.mark}-write-{i}", write_piece, (job, i, schema, encoding, before[i]), f"{stage}, piece {i}"
        )
        for i in range(n_pieces)
    ]
    site.run(tasks, done)
    files.sort(key=lambda staged: staged.bucket)
    with during("fit encoders"):
        encoder = None if fitted is None and selection is None else _encoder(dataset, fitted, selection, raw)
    return Finished(job.assembly, schema, roles, files, counts, warnings, encoder, selection)


def _raw_features(dataset: CompiledDataset) -> list[str]:
    """Raw columns that features are made of; what is encoded is meant for the model, also a column of the spine."""
    encoded = [name for entry in dataset.spec.encode for name in entry.columns]
    return list(dict.fromkeys([*dataset.features, *encoded]))


def _encoder(
    dataset: CompiledDataset, fitted: Fitted | None, selection: Selection | None, raw: pa.Schema
) -> Json:
    """The fitted encoders and the selection as the version remembers them."""
    from featureflow.datasets.encoder import DatasetEncoder

    spec = dataset.spec
    made = DatasetEncoder.of(
        fitted or Fitted((), {}, dataset.time, ()),
        pa.schema([raw.field(name) for name in _raw_features(dataset)]),
        encode=spec.encode,
        select=spec.select,
        kept=None if selection is None else selection.kept,
        label_delay=str(spec.horizon),
    )
    return made.to_json()


def _roles(dataset: CompiledDataset, fitted: Fitted | None) -> Roles:
    """Parts of the columns; of an encoded feature, what is made of it."""
    spec = dataset.spec
    made = {} if fitted is None else fitted.sources
    patches = dataset.patches
    fields = patches.fields if patches else ()
    features = [field.name for field in fields if field.role == "feature"]
    features += [name for feature in _raw_features(dataset) for name in made.get(feature, (feature,))]
    labels = [field.name for field in fields if field.role == "label"]
    labels += [patches.label.name] if patches and patches.label else []
    return Roles(
        keys=dataset.keys,
        time=dataset.time,
        features=tuple(features),
        labels=(*labels, *(label.name for label in dataset.labels)),
        split=None if spec.split is None else SPLIT,
        fold=FOLD if spec.split is not None and spec.split.folds else None,
        weight=None if spec.sample is None else spec.sample.weight,
    )


def _make(job: Finishing, site: Site) -> list[Made]:
    """Put all pieces together and split them; returns what is known of each, in order."""
    n_pieces, name = job.assembly.n_pieces, job.dataset.name
    made: dict[str, Made] = {}
    stage = f"{name}: assemble"
    site.progress.stage(stage, n_pieces)

    def done(task: Task, found: Made) -> None:
        made[task.key] = found
        site.progress.advance(stage, rows=found.rows)

    keys = [f"{job.mark}-make-{i}" for i in range(n_pieces)]
    tasks = [Task(key, make_piece, (job, i), f"{stage}, piece {i}") for i, key in enumerate(keys)]
    site.run(tasks, done)
    split = job.dataset.spec.split
    if split is None or not needs_class_counts(split):
        return [made[key] for key in keys]
    before = [ClassCounts()]
    for key in keys:
        before.append(before[-1] + made[key].classes)
    site.progress.stage(stage, n_pieces)
    again = [Task(key, split_piece, (job, i, before[i]), f"{stage}, piece {i}") for i, key in enumerate(keys)]
    site.run(again, done)
    return [made[key] for key in keys]
