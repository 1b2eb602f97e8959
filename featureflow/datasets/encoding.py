"""Fit a dataset's encoders on the train rows of its pieces, as tasks; and encode the pieces."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending
from featureflow.core.storage import join, read_bytes, write_atomic
from featureflow.datasets.fitted import Fitted
from featureflow.datasets.fitting import Fitting, begin, merge
from featureflow.datasets.selection import Selecting, Selection
from featureflow.datasets.selection import merge as merge_selections
from featureflow.execute.exchange.exchange_file import exchange_path, finished_rows, write_buckets
from featureflow.execute.exchange.fetching import read_bucket
from featureflow.execute.exchange.ranges import read_all
from featureflow.execute.site import Site
from featureflow.execute.task import Task
from featureflow.plan.dataset_nodes import CompiledDataset

#: Behind the name of an encoded column where it is stored, beside the raw one.
SUFFIX = "__encoded"
TRAIN = "train"
#: Statistics of so many pieces are read in one go.
_AT_ONCE = 32

#: Reads a piece of the dataset: split, not encoded.
Reader = Callable[[int], pa.Table]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Fitted encoders of a dataset, where all workers see them.

    Parameters
    ----------
    path
        The fitted encoders as JSON.
    known
        What was known before each train row, for target encoders with ``folds: time``; None if there are none.
    """

    path: str
    known: str | None

    @property
    def fitted(self) -> Fitted:
        """The fitted encoders."""
        return _fitted(self.path)

    @spending("compute:transform")
    def columns(self, table: pa.Table, split: str | None, train_before: int) -> pa.Table:
        """Encoded columns of a piece, as they are stored; ``train_before`` counts the train rows before it."""
        mask = train_rows(table, split)
        known = None
        if self.known is not None:
            (batch,) = read_bucket((self.known,), 0)
            rows = pa.Table.from_batches([batch.replace_schema_metadata(None)])
            known = rows.slice(train_before, int(mask.sum()))
        made = self.fitted.transform(table, mask, known)
        return made.rename_columns([f"{name}{SUFFIX}" for name in made.schema.names])


@lru_cache(maxsize=8)
def _fitted(path: str) -> Fitted:
    return Fitted.from_json(json.loads(read_bytes(path)))


@lru_cache(maxsize=8)
def _fitting(path: str) -> Fitting:
    return Fitting.from_json(json.loads(read_bytes(path)))


def train_rows(table: pa.Table, split: str | None) -> NDArray[np.bool_]:
    """Which rows encoders learn from: those of the train split, all if there are no splits."""
    if split is None:
        return np.ones(table.num_rows, np.bool_)
    mask = pc.equal(table.column(split), TRAIN).fill_null(False)
    return np.asarray(mask.combine_chunks().to_numpy(zero_copy_only=False), np.bool_)


def _of_train(table: pa.Table, split: str | None, columns: tuple[str, ...]) -> pa.Table:
    chosen = table.select(list(columns))
    return chosen if split is None else chosen.filter(pa.array(train_rows(table, split)))


@spending("compute:fit")
def fit_chunk(read: Reader, piece: int, fitting: str, split: str | None, path: str) -> str:
    """Take the statistics of one piece's train rows; returns where they are."""
    job = _fitting(fitting)
    write_atomic(path, job.chunk(_of_train(read(piece), split, job.columns)), durable=False)
    return path


@spending("compute:fit")
def gather_chunk(read: Reader, piece: int, fitted: str, split: str | None, path: str) -> str:
    """Write what out-of-time encoders need of one piece's train rows."""
    if finished_rows(path) is None:
        job = _fitted(fitted)
        rows = job.gather(_of_train(read(piece), split, job.gather_columns))
        write_buckets(rows, np.zeros(rows.num_rows, np.int64), 1, path)
    return path


@spending("compute:fit")
def know_before(gathered: tuple[str, ...], fitted: str, path: str) -> str:
    """Encode all train rows with what was known before each."""
    if finished_rows(path) is None:
        batches = [batch.replace_schema_metadata(None) for batch in read_bucket(gathered, 0)]
        made = _fitted(fitted).known_before(pa.Table.from_batches(batches).combine_chunks())
        write_buckets(made, np.zeros(made.num_rows, np.int64), 1, path)
    return path


def plan_encoders(dataset: CompiledDataset, schema: pa.Schema) -> Fitting:
    """Plan the fit of a dataset's encoders.

    Raises
    ------
    PlanError
        If an encoder can't take its column, or misses a label or a time.
    """
    return begin(
        dataset.spec.encode,
        schema,
        labels={label.name: label.reach_us for label in dataset.labels},
        time=dataset.time,
        identity=(*dataset.keys, *([dataset.time] if dataset.time else [])),
    )


def fit_encoders(
    dataset: CompiledDataset, schema: pa.Schema, read: Reader, n_pieces: int, mark: str, site: Site
) -> Encoding | None:
    """Fit the encoders of a dataset; None if it has none.

    Notes
    -----
    Cost: one pass over the train rows for each step of the longest chain, more for quantiles of many values.
    Determinism: the same train rows give the same encoders to the byte, however they are cut.
    """
    if not dataset.spec.encode:
        return None
    split = "split" if dataset.spec.split is not None else None
    fitting = plan_encoders(dataset, schema)
    folder = site.shelf
    stage = f"{dataset.name}: fit encoders"
    done = 0
    while not fitting.done:
        place = _write(folder, fitting.to_json())
        names = [fingerprint([mark, "fit", place, i]) for i in range(n_pieces)]
        paths = [join(folder, name[:2], f"{name}.json") for name in names]
        tasks = [
            Task(path, fit_chunk, (read, i, place, split, path), f"{stage}, pass {done + 1}, piece {i}")
            for i, path in enumerate(paths)
        ]
        _run(site, stage, tasks)
        fitting = fitting.advance(merge(_parts(paths)))
        done += 1
    fitted = fitting.fitted
    place = _write(folder, fitted.to_json())
    if not fitted.by_time:
        return Encoding(place, None)
    names = [fingerprint([mark, "gather", place, i]) for i in range(n_pieces)]
    gathered = tuple(exchange_path(folder, name) for name in names)
    _run(
        site,
        stage,
        [
            Task(path, gather_chunk, (read, i, place, split, path), f"{stage}, gather, piece {i}")
            for i, path in enumerate(gathered)
        ],
    )
    name = fingerprint([mark, "known", place])
    known = exchange_path(folder, name)
    _run(site, stage, [Task(known, know_before, (gathered, place, known), f"{stage}, out of time")])
    return Encoding(place, known)


@spending("compute:select")
def select_chunk(
    read: Reader, piece: int, selecting: Selecting, encoding: Encoding | None, split: str | None, path: str
) -> str:
    """Take the statistics that a selection needs of one piece's train rows, as they are after encoding."""
    rows = read(piece)
    rows = rows.filter(pa.array(train_rows(rows, split)))
    if encoding is not None:
        # what a row knew of its own label does not matter for whether a feature is kept
        made = encoding.fitted.transform(rows)
        rows = rows.drop_columns([name for name in made.schema.names if name in rows.schema.names])
        rows = pa.table([*rows.columns, *made.columns], names=[*rows.schema.names, *made.schema.names])
    write_atomic(path, selecting.chunk(rows.select(list(selecting.columns))), durable=False)
    return path


def select_features(
    dataset: CompiledDataset,
    features: tuple[str, ...],
    read: Reader,
    encoding: Encoding | None,
    n_pieces: int,
    mark: str,
    site: Site,
) -> Selection | None:
    """Choose features on the train rows; None without ``select:``."""
    spec = dataset.spec
    if spec.select is None:
        return None
    split = "split" if spec.split is not None else None
    names = (*dataset.keys, *([dataset.time] if dataset.time else []))
    identity = tuple(name for name in names if name not in features)
    selecting = Selecting(spec.select, features, label=spec.select.label, identity=identity)
    place = "" if encoding is None else encoding.path
    marks = [fingerprint([mark, "select", place, i]) for i in range(n_pieces)]
    folder = site.shelf
    paths = [join(folder, name[:2], f"{name}.bin") for name in marks]
    stage = f"{dataset.name}: select"
    tasks = [
        Task(path, select_chunk, (read, i, selecting, encoding, split, path), f"{stage}, piece {i}")
        for i, path in enumerate(paths)
    ]
    _run(site, stage, tasks)
    return selecting.decide(merge_selections(_parts(paths)))


def _run(site: Site, stage: str, tasks: list[Task]) -> None:
    site.progress.stage(stage, len(tasks))
    site.run(tasks, lambda *_: site.progress.advance(stage))


def _write(folder: str, content: object) -> str:
    text = json.dumps(content)
    name = fingerprint(text)
    path = join(folder, name[:2], f"{name}.json")
    write_atomic(path, text.encode(), durable=False)
    return path


def _parts(paths: list[str]) -> Iterator[bytes]:
    """Contents of files, a few at a time."""
    for start in range(0, len(paths), _AT_ONCE):
        yield from read_all(paths[start : start + _AT_ONCE])
