"""The stage that finds repeated rows of a source over all of its files."""

from __future__ import annotations

from dataclasses import replace

from featureflow.core.storage import join
from featureflow.execute.checks.checking import BoundCheck
from featureflow.execute.checks.duplicates import Duplicates, find_duplicates, joined, write_drop_lists
from featureflow.execute.exchange.exchange_file import Chunk, Rekey, Rekeyed, rekey
from featureflow.execute.exchange.rekeying import file_of, make_files, reads_of
from featureflow.execute.inputs import Readable, only_where, unfinished, with_drops
from featureflow.execute.site import Site
from featureflow.execute.sizing import frame_row_bytes
from featureflow.execute.task import Task

#: Bytes of unique columns that one task compares.
BUCKET_BYTES = 256 << 20
#: A task holds them about so often: as they are, as numbers, as ranks, sorted.
COPIES = 6


def drop_duplicates(site: Site, readable: Readable, unique: tuple[str, ...]) -> Readable:
    """Find the rows that repeat an earlier one, and have the readers drop them."""
    found, _ = repeated_rows(site, unfinished(readable), unique)
    return with_drops(readable, _lists(readable, found, _folder(site)))


def put_aside_repeated(site: Site, readable: Readable, check: BoundCheck) -> Readable:
    """Find the rows that a ``unique`` check puts into quarantine: all of a value but the first known one."""
    looked_at = readable if check.where is None else only_where(readable, check.where)
    found, _ = repeated_rows(site, looked_at, check.columns())
    aside = _lists(readable, found, _folder(site))
    drops = dict(readable.drops)
    for chunk, path in aside.items():
        drops[chunk] = joined(drops[chunk], path, _folder(site)) if chunk in drops else path
    return replace(with_drops(readable, drops), repeated={**readable.repeated, check.id: aside})


def _folder(site: Site) -> str:
    return join(site.board, "drops")


def _lists(readable: Readable, found: list[Duplicates], folder: str) -> dict[str, str]:
    lists = write_drop_lists(found, len(readable.chunks), folder)
    return {chunk.id: path for chunk, path in zip(readable.chunks, lists, strict=True) if path}


def repeated_rows(site: Site, readable: Readable, unique: tuple[str, ...]) -> tuple[list[Duplicates], int]:
    """Find the rows that repeat an earlier one, by chunk and position; and how many rows there are in all.

    Cost: reads the new chunks once, the unique columns of all; an exchange of these columns is kept.
    """
    if not readable.chunks:
        return [], 0
    source = readable.input
    roles = [name for name in (source.created, source.sequence, source.time) if name]
    columns = tuple(dict.fromkeys((*unique, *roles)))
    bucket_bytes = min(BUCKET_BYTES, site.budget.task_bytes // COPIES)
    n_buckets = max(1, sum(chunk.rows for chunk in readable.chunks) * 24 * len(columns) // bucket_bytes)
    job = Rekey(
        readable.reader,
        columns,
        unique,
        n_buckets,
        site.slices,
        source.time,
        hashed=tuple(source.columns),
        row_bytes=frame_row_bytes(source.columns, tuple(source.columns)),
        room_bytes=site.budget.task_bytes,
    )
    drops = [readable.drops.get(chunk.id) for chunk in readable.chunks]
    paths = [job.path(chunk, drop or "") for chunk, drop in zip(readable.chunks, drops, strict=True)]
    stage = f"{source.name}: find repeated rows"
    site.progress.stage(stage, len(paths) + n_buckets)
    tasks = [
        (path, _rekeying(stage, readable, job, chunk, path, drop))
        for chunk, path, drop in zip(readable.chunks, paths, drops, strict=True)
    ]
    rows = 0

    def read(handle: Rekeyed) -> None:
        nonlocal rows
        rows += handle.rows
        site.progress.advance(stage, rows=handle.rows)

    make_files(site, tasks, read)
    manifest = site.remaking.write(site.board, [(path, None, None, False) for path in paths])
    found: list[Duplicates] = []
    searches = [
        Task(
            f"{bucket}",
            find_duplicates,
            (manifest, bucket, unique, source.created, source.sequence, source.time),
            f"{stage}, bucket {bucket}",
        )
        for bucket in range(n_buckets)
    ]

    def done(_: Task, duplicates: Duplicates) -> None:
        found.append(duplicates)
        site.progress.advance(stage)

    site.run(searches, done)
    return found, rows


def _rekeying(stage: str, readable: Readable, job: Rekey, chunk: Chunk, path: str, drop: str | None) -> Task:
    label = f"{stage}, {file_of(chunk)}"
    return Task(path.rpartition("/")[2], rekey, (job, chunk, path, drop), label, reads_of(readable, chunk))
