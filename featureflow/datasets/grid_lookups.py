"""Joins of a dataset with grids: rows go to the chunks that they lie in, and each chunk is read once.

As in joins with tables, the spine's rows are sent to buckets first; here a bucket is a group of the grid's chunks. The
answers go to one file, by the piece of the dataset that each row belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from featureflow.contracts.cube import Cube
from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending
from featureflow.datasets.spine import TIME, SpineFile, spine_rows
from featureflow.execute.exchange.exchange_file import ROW, exchange_path, finished_rows, write_buckets
from featureflow.execute.exchange.fetching import read_bucket
from featureflow.execute.exchange.manifest import read_list, write_list
from featureflow.execute.grids.points import chunks_of_rows, look_up_points
from featureflow.execute.site import Site
from featureflow.execute.task import Task
from featureflow.execute.windows.arrays import integers
from featureflow.execute.windows.sorted_rows import column, microseconds
from featureflow.kernels.hashing import hash_int64
from featureflow.plan.grid_lookups import GridLookup

#: Part of every file's name: raise it when the same input gives other answers than before.
ENGINE = 1
#: Neighbouring chunks stay together in runs, of which each bucket gets so many: a busy region is no single bucket.
RUNS_PER_BUCKET = 8


@dataclass(frozen=True, slots=True)
class PointRouting:
    """How the spine's rows are sent to groups of chunks; ``mark`` names the grid's content."""

    lookup: GridLookup
    cube: Cube = field(repr=False)
    mark: str
    time: str | None
    n_buckets: int
    folder: str

    def path(self, file: SpineFile) -> str:
        """Where a spine file's rows by bucket are, or will be."""
        what = repr((self.lookup, self.mark, self.time, self.n_buckets))
        return exchange_path(self.folder, fingerprint(["points", ENGINE, what, file.path, file.first]))


@spending("compute:join")
def route_points(job: PointRouting, file: SpineFile, path: str) -> int:
    """Write places, time and number of a spine file's rows, bucket by bucket; returns how many there are."""
    found = finished_rows(path)
    if found is not None:
        return found
    table = spine_rows((file,), file.first, file.first + file.rows).combine_chunks()
    times = None if job.time is None else microseconds(column(table, job.time))
    given = {name: column(table, name) for name in job.lookup.left_keys}
    numbers = np.arange(file.first, file.first + file.rows)
    if job.n_buckets == 1:
        buckets = np.zeros(file.rows, np.int64)
    else:
        chunks, n_chunks = chunks_of_rows(job.lookup, job.cube, given, times)
        run = max(1, n_chunks // (job.n_buckets * RUNS_PER_BUCKET))
        # rows that are in no chunk are answered, too, and by any bucket
        spread = hash_int64(numbers, np.ones(len(numbers), np.bool_), seed=0) % np.uint64(job.n_buckets)
        buckets = np.where(chunks >= 0, chunks // run % job.n_buckets, spread.astype(np.int64))
    routed = {f"k{i}": given[name] for i, name in enumerate(job.lookup.left_keys)}
    routed[TIME] = integers(np.zeros(file.rows, np.int64) if times is None else times)
    routed[ROW] = integers(numbers)
    write_buckets(pa.table(routed), buckets, job.n_buckets, path)
    return file.rows


@dataclass(frozen=True, slots=True)
class PointTask:
    """The look-ups of one group of chunks; ``routed`` lists the spine's files by bucket."""

    lookup: GridLookup
    cube: Cube = field(repr=False)
    mark: str
    bucket: int
    timed: bool
    routed: str
    piece_rows: int
    n_pieces: int
    folder: str

    @property
    def path(self) -> str:
        """Where the answers are, or will be: a name of everything that they depend on."""
        return exchange_path(self.folder, fingerprint([ENGINE, repr(replace(self, folder=""))]))


@spending("compute:join")
def run_points(task: PointTask, path: str) -> int:
    """Answer the rows of one bucket and write the answers, unless they are there; returns how many rows."""
    rows = finished_rows(path)
    if rows is not None:
        return rows
    batches = read_bucket(tuple(file for (file,) in read_list(task.routed)), task.bucket)
    table = pa.Table.from_batches([b.replace_schema_metadata(None) for b in batches]).combine_chunks()
    given = {name: column(table, f"k{i}") for i, name in enumerate(task.lookup.left_keys)}
    times = column(table, TIME).to_numpy() if task.timed else None
    arrays = look_up_points(task.lookup, task.cube, given, times)
    numbers = column(table, ROW)
    answers = pa.table([numbers, *arrays], names=[ROW, *(name for _, name in task.lookup.columns)])
    write_buckets(answers, numbers.to_numpy() // task.piece_rows, task.n_pieces, path)
    return len(numbers)


def look_up_rows(
    site: Site, name: str, routing: PointRouting, files: list[SpineFile], pieces: tuple[int, int]
) -> str:
    """Answer a look-up for all rows of dataset ``name``.

    Parameters
    ----------
    pieces
        Rows of a piece of the dataset, and how many pieces there are.

    Returns
    -------
    str
        The list of the answers' files.
    """
    paths = [routing.path(file) for file in files]
    todo = [
        Task(path, route_points, (routing, file, path), f"{name}: route, {file.path}")
        for path, file in zip(paths, files, strict=True)
    ]
    site.run(todo, lambda *_: None)
    routed = write_list(site.board, [[path] for path in paths])
    stage = f"{name}: look up {routing.lookup.right.name}"
    site.progress.stage(stage, routing.n_buckets)
    tasks = []
    for bucket in range(routing.n_buckets):
        job = PointTask(
            routing.lookup,
            routing.cube,
            routing.mark,
            bucket,
            routing.time is not None,
            routed,
            *pieces,
            routing.folder,
        )
        tasks.append(Task(job.path, run_points, (job, job.path), f"{stage}, bucket {bucket}"))
    site.run(tasks, lambda _, n: site.progress.advance(stage, rows=n))
    return write_list(site.board, [[task.key] for task in tasks])
