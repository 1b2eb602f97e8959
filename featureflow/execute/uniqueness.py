"""The stage that finds repeated rows of a source over all of its files."""

from __future__ import annotations

import os

from featureflow.execute.driver import Task, run_tasks
from featureflow.execute.duplicates import Duplicates, find_duplicates, write_drop_lists
from featureflow.execute.exchange import Rekey, rekey
from featureflow.execute.executors import Executor
from featureflow.execute.inputs import Readable, unfinished, with_drops
from featureflow.observe.progress import Progress

#: Bytes of unique columns that one task compares.
BUCKET_BYTES = 256 << 20


def drop_duplicates(
    executor: Executor, readable: Readable, unique: tuple[str, ...], scratch: str, progress: Progress
) -> Readable:
    """Find the rows that repeat an earlier one, and have the readers drop them."""
    if not readable.chunks:
        return readable
    found = repeated_rows(executor, unfinished(readable), unique, scratch, progress)
    lists = write_drop_lists(found, len(readable.chunks), os.path.join(scratch, "drops"))
    return with_drops(
        readable, {chunk.id: path for chunk, path in zip(readable.chunks, lists, strict=True) if path}
    )


def repeated_rows(
    executor: Executor, readable: Readable, unique: tuple[str, ...], scratch: str, progress: Progress
) -> list[Duplicates]:
    """Find the rows that repeat an earlier one in the unique columns, by chunk and position.

    Cost: reads the new chunks once, the unique columns of all; an exchange of these columns is kept on scratch.
    """
    source = readable.input
    roles = [name for name in (source.created, source.sequence, source.time) if name]
    columns = tuple(dict.fromkeys((*unique, *roles)))
    n_buckets = max(1, sum(chunk.rows for chunk in readable.chunks) * 24 * len(columns) // BUCKET_BYTES)
    job = Rekey(
        readable.reader,
        columns,
        unique,
        n_buckets,
        os.path.join(scratch, "exchange"),
        source.time,
        hashed=tuple(source.columns),
    )
    paths = [job.path(chunk) for chunk in readable.chunks]
    stage = f"{source.name}: find repeated rows"
    progress.stage(stage, len(paths) + n_buckets)
    tasks = [
        Task(os.path.basename(path), rekey, (job, chunk, path, None), f"{stage}, {path}")
        for chunk, path in zip(readable.chunks, paths, strict=True)
    ]
    run_tasks(executor, tasks, lambda _, handle: progress.advance(stage, rows=handle.rows))
    found: list[Duplicates] = []
    searches = [
        Task(
            f"{bucket}",
            find_duplicates,
            (tuple(paths), bucket, unique, source.created, source.sequence, source.time),
            f"{stage}, bucket {bucket}",
        )
        for bucket in range(n_buckets)
    ]

    def done(_: Task, duplicates: Duplicates) -> None:
        found.append(duplicates)
        progress.advance(stage)

    run_tasks(executor, searches, done)
    return found
