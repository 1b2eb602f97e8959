"""The stage that re-keys an input: one exchange file for each chunk that is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from featureflow.core.errors import ComputeError
from featureflow.execute.exchange.disk_space import free_bytes
from featureflow.execute.exchange.exchange_file import BucketRows, Chunk, Rekey, Rekeyed, rekey
from featureflow.execute.exchange.whole_parts import judge_whole_parts, whole_parts
from featureflow.execute.inputs import Readable, SourceChunks
from featureflow.execute.site import Site
from featureflow.execute.sizing import frame_row_bytes, least_row_bytes
from featureflow.execute.task import Task
from featureflow.library.sources.registry import format_named
from featureflow.plan.nodes import Input


def rekey_chunks(
    site: Site,
    owner: str,
    readable: Readable,
    found: Input,
    columns: tuple[str, ...],
    keys: tuple[str, ...],
    n_buckets: int,
    chunks: list[Chunk],
) -> tuple[str, list[int]]:
    """Make sure that the exchange files of some chunks are there, for the table or dataset ``owner``.

    Returns
    -------
    tuple
        Their manifest, and the rows of each bucket.
    """
    job = rekey_job(site, readable, found, columns, keys, n_buckets)
    say_what_is_whole(site, job, readable, found, chunks)
    paths = {chunk.id: job.path(chunk, readable.drops.get(chunk.id, "")) for chunk in chunks}
    stage = f"{owner}: re-key {found.name}"
    site.progress.stage(stage, len(chunks))
    tasks = [
        (
            paths[chunk.id],
            Task(
                paths[chunk.id].rpartition("/")[2],
                rekey,
                (job, chunk, paths[chunk.id], readable.drops.get(chunk.id)),
                f"{stage}, {file_of(chunk)}",
                reads_of(readable, chunk),
            ),
        )
        for chunk in chunks
    ]
    _refuse_without_space(site, stage, [(paths[chunk.id], chunk.rows) for chunk in chunks], found, columns)
    rows = BucketRows(n_buckets)

    def done(handle: Rekeyed) -> None:
        rows.add(handle)
        site.progress.advance(stage, rows=handle.rows, bytes=handle.size)

    make_files(site, tasks, done)
    entries = sorted((paths[c.id], c.min_us, c.max_us, c.null_times > 0) for c in chunks)
    return site.remaking.write(site.board, [(e[0], e[1], e[2], e[3]) for e in entries]), rows.counts()


def rekey_job(
    site: Site,
    readable: Readable,
    found: Input,
    columns: tuple[str, ...],
    keys: tuple[str, ...],
    n_buckets: int,
) -> Rekey:
    """How an input is re-keyed here."""
    return Rekey(
        readable.reader,
        columns,
        keys,
        n_buckets,
        site.slices,
        found.time,
        row_bytes=frame_row_bytes(found.columns, columns),
        room_bytes=site.budget.task_bytes,
        scratch=site.scratch,
    )


def say_what_is_whole(
    site: Site, job: Rekey, readable: Readable, found: Input, chunks: Iterable[Chunk]
) -> str:
    """What to tell of row groups and files of text that are more than a task may hold; empty if there are none.

    Raises
    ------
    PlanError
        If one is more than all memory of a worker.
    """
    if not isinstance(readable.reader, SourceChunks):
        return ""
    source = readable.reader.source
    least = least_row_bytes(found.columns, job.columns)
    is_text = not format_named(source.format_name, source.spec.options).typed
    parts = whole_parts(job, chunks, readable.drops, least, text=is_text)
    return judge_whole_parts(found.name, parts, job.columns, site.budget)


def _refuse_without_space(
    site: Site, stage: str, files: list[tuple[str, int]], found: Input, columns: tuple[str, ...]
) -> None:
    """Refuse to begin what can't end: the scratch disk has less than the exchange files will take at the least.

    Raises
    ------
    ComputeError
        With path, bytes needed and free. Only where all see one scratch folder: elsewhere this process can't know.
    """
    if not site.slices.startswith(site.scratch):
        return
    width = least_row_bytes(found.columns, columns)
    needed = sum(rows for path, rows in files if not os.path.exists(path)) * width
    free = free_bytes(site.scratch)
    if needed > free:
        raise ComputeError(
            f"{stage}: the exchange files take at least {needed:,} bytes, and the scratch disk of {site.scratch} has "
            f"{free:,} free. Free some, or set --scratch to a folder on a larger disk. Nothing was begun."
        )


def make_files(site: Site, tasks: Sequence[tuple[str, Task]], done: Callable[[Rekeyed], None]) -> None:
    """Run the tasks of exchange files that no host has; ``done`` gets the handle of every file.

    Who has a file is only asked where hosts have disks of their own: elsewhere its task finds it.
    """
    known: dict[str, Rekeyed] = {}
    if site.exchange == "local":
        known = site.remaking.find(site.executor, [path for path, _ in tasks])
    site.remaking.remember(tasks)
    for handle in known.values():
        done(handle)

    def made(_: Task, handle: Rekeyed) -> None:
        site.remaking.learn(handle)
        done(handle)

    site.run([task for path, task in tasks if path not in known], made)


def reads_of(readable: Readable, chunk: Chunk) -> tuple[tuple[str, int], ...]:
    """What a task reads that a host may have on its disk."""
    label = readable.reader.label(chunk)
    return ((label, chunk.size),) if label else ()


def file_of(chunk: Chunk) -> str:
    """Path of a chunk's file and its row groups, for people."""
    path = chunk.file if isinstance(chunk.file, str) else chunk.file.file.path
    groups = chunk.row_groups
    return path if not groups else f"{path}, row groups {groups[0]} … {groups[-1]}"
