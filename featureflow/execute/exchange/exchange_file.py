"""The exchange: rows of one raw chunk, re-keyed into buckets, in one Arrow file on scratch.

Two passes through files instead of a shuffle between workers: a map task writes one Arrow IPC file with one record
batch a bucket; a window task maps the files into memory and takes the batch of its bucket from each. The file's name
is the hash of everything that went into it (raw file, columns, row steps, bucket keys, number of buckets), so a raw
chunk is re-keyed once, ever; a file that exists is complete, since it is renamed into place.

A file lies on a disk that all hosts see, on the scratch disk of the host that wrote it, or in the store: see
`featureflow.execute.exchange.places`, and `featureflow.execute.exchange.fetching` for how slices are read.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import moved, spending, spent
from featureflow.core.storage import is_local, join, read_bytes, write_atomic
from featureflow.execute.exchange.arrow_footer import signed
from featureflow.execute.exchange.disk_space import write_error
from featureflow.execute.exchange.fetching import store_footers
from featureflow.execute.exchange.places import SCRATCH, here, on_disk
from featureflow.execute.exchange.rekeying_pieces import gathered, parts_of
from featureflow.execute.windows.spilling import spill_folder
from featureflow.kernels.gather import take_rows

#: Part of every exchange file's name; raise it when the layout of the files changes.
LAYOUT = 1
#: A handle names the rows of at most so many buckets: with thousands of buckets and files, the driver can't hold all.
NAMED_BUCKETS = 64
#: Rows of more than this are taken bucket by bucket while they are written.
LARGE_BYTES = 32 << 20
#: Column that holds a row's position in its chunk, for dropping duplicates by position.
ROW = "__row"
#: Column that holds a hash over all columns of a row.
ROW_HASH = "__hash"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a raw file that one task reads: some of its row groups, or all of it.

    ``id`` names the bytes: path, size, version and row groups. Times are microseconds; None if the chunk has no row
    with a time.
    """

    file: Any
    row_groups: tuple[int, ...] | None
    rows: int
    size: int
    min_us: int | None
    max_us: int | None
    null_times: int
    id: str


class RowReader(Protocol):
    """Reads chunks of one input, applying its row steps; picklable, and named by its content."""

    @property
    def id(self) -> str:
        """Name of everything about how the rows are made."""

    def read(
        self, chunk: Chunk, columns: tuple[str, ...], *, row_position: str | None = None
    ) -> pl.DataFrame:
        """Read these columns of a chunk; with ``row_position`` also each row's position, as UInt32."""

    def label(self, chunk: Chunk) -> str:
        """Name under which a host's cache holds what is read of a chunk; empty if no cache does."""


@dataclass(frozen=True, slots=True)
class Rekey:
    """How an input is re-keyed: which columns go along, into how many buckets, by which keys.

    ``folder`` is a place for the files (`featureflow.execute.exchange.places`). ``dropped`` names a folder with the
    positions of duplicate rows, one file a chunk; None if nothing is dropped. ``hashed`` adds a hash over these columns
    to each row.
    ``room_bytes`` is what a task may hold, of rows of about ``row_bytes``; 0 for no limit. The rows of
    the file do not depend on it.
    """

    reader: RowReader
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    n_buckets: int
    folder: str
    time: str | None
    hashed: tuple[str, ...] = ()
    dropped: str | None = None
    row_bytes: int = 0
    room_bytes: int = 0
    scratch: str = ""

    def path(self, chunk: Chunk, drop_id: str = "") -> str:
        """Where the exchange file of a chunk is, or will be; ``drop_id`` names the list of its dropped rows."""
        content = [
            LAYOUT,
            self.reader.id,
            chunk.id,
            drop_id.rpartition("/")[2],
            list(self.columns),
            list(self.keys),
            self.n_buckets,
            list(self.hashed),
        ]
        return exchange_path(self.folder, fingerprint(content))


def exchange_path(folder: str, name: str) -> str:
    """Where the exchange file of a name is, or will be, below a folder, URL or place."""
    return join(folder, name[:2], f"{name}.arrow")


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """Handle of a finished exchange file.

    ``largest`` are the largest buckets with their rows, as many as a small handle has room for; the others share the
    rest about evenly, since keys are hashed. With few buckets it is all of them. ``disk`` names the scratch disk that
    has the file, and ``address`` a worker that sees it, if not all do.
    """

    path: str
    rows: int
    size: int
    reused: bool
    largest: tuple[tuple[int, int], ...] = ()
    disk: str = ""
    address: str = ""


def rekey(job: Rekey, chunk: Chunk, path: str, drop_path: str | None = None) -> Rekeyed:
    """Read a chunk and write its exchange file, unless that is there already.

    Notes
    -----
    Order: rows of a bucket keep the order of the chunk.
    Nulls: a null key is a key like any other here; its rows go to one bucket.
    Cost: O(rows); peak memory about twice the chunk's decoded columns.
    """
    done = held(path)
    if done is not None:
        return done
    parts = parts_of(chunk, job.row_bytes, job.room_bytes)
    if len(parts) == 1:
        table = _read(job, chunk, drop_path)
        buckets = bucket_of(table, job.keys, job.n_buckets)
        write_buckets(table, buckets, job.n_buckets, path)
        return _handle(path, np.bincount(buckets, minlength=job.n_buckets), reused=False)
    by_bucket, counts, remove = gathered(
        (_by_bucket(job, _read(job, part, drop_path)) for part in parts),
        job.n_buckets,
        spill_folder(job.scratch),
        _write_file,
    )
    try:
        _write_exchange(path, by_bucket, counts)
    finally:
        remove()
    return _handle(path, counts, reused=False)


def _read(job: Rekey, chunk: Chunk, drop_path: str | None) -> pa.Table:
    """Rows of a chunk, in its order, with the columns of the exchange."""
    position = ROW if drop_path or job.hashed else None
    needed = tuple(dict.fromkeys((*job.columns, *job.hashed)))
    frame = job.reader.read(chunk, needed, row_position=position)
    if drop_path:
        frame = frame.filter(~np.isin(frame[ROW].to_numpy(), read_positions(drop_path)))
    if job.hashed:
        from featureflow.kernels.hashing import hash_rows

        row_hash = hash_rows(frame.select(job.hashed).to_arrow())
        frame = frame.with_columns(pl.Series(ROW_HASH, row_hash, dtype=pl.UInt64))
    elif position:
        frame = frame.drop(position)
    return plain_arrow(frame.select(*job.columns, *((ROW, ROW_HASH) if job.hashed else ())))


def _by_bucket(job: Rekey, table: pa.Table) -> tuple[pa.Table, NDArray[np.int64]]:
    buckets = bucket_of(table, job.keys, job.n_buckets)
    counts = np.bincount(buckets, minlength=job.n_buckets)
    return take_rows(table, stable_order(buckets)).combine_chunks(), counts


def held(path: str) -> Rekeyed | None:
    """Handle of an exchange file that is there; None if it is not, or not on this host."""
    if finished_rows(path) is None:
        return None
    return _handle(path, bucket_rows(path), reused=True)


def _handle(path: str, counts: NDArray[np.int64], *, reused: bool) -> Rekeyed:
    largest = np.argsort(-counts, kind="stable")[:NAMED_BUCKETS]
    named = tuple(zip(largest.tolist(), counts[largest].tolist(), strict=True))
    size = os.path.getsize(on_disk(path)) if is_local(path) else store_footers([path])[path].file_bytes
    if not path.startswith(SCRATCH):
        return Rekeyed(path, int(counts.sum()), size, reused, named)
    own = here()
    disk, address = ("", "") if own is None else (own.disk, own.address)
    return Rekeyed(path, int(counts.sum()), size, reused, named, disk, address)


class BucketRows:
    """Rows of each bucket over many files, from their handles: exact with few buckets, else about."""

    def __init__(self, n_buckets: int) -> None:
        self._named = np.zeros(n_buckets)
        self._even = 0.0

    def add(self, handle: Rekeyed) -> None:
        """Count a file; what its handle does not name is spread evenly over the other buckets."""
        places = [bucket for bucket, _ in handle.largest]
        rows = [n for _, n in handle.largest]
        others = len(self._named) - len(places)
        share = (handle.rows - sum(rows)) / others if others else 0.0
        self._even += share
        self._named[places] += np.array(rows, np.float64) - share

    def counts(self) -> list[int]:
        """Rows by bucket."""
        return np.rint(self._named + self._even).astype(np.int64).tolist()  # type: ignore[no-any-return]


@spending("compute:hash")
def bucket_of(table: pa.Table, keys: tuple[str, ...], n_buckets: int) -> NDArray[np.int64]:
    """Assign each row a bucket by a hash of its keys that is the same on every machine."""
    if n_buckets == 1 or table.num_rows == 0:
        return np.zeros(table.num_rows, np.int64)
    from featureflow.kernels.hashing import hash_rows

    # the upper bits: a sketch or a split of the same keys uses the lower ones
    return ((hash_rows(table.select(list(keys))) >> np.uint64(32)) % np.uint64(n_buckets)).astype(np.int64)


def stable_order(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions by group, in their order within a group; NumPy sorts 16-bit integers by radix, five times faster."""
    few = len(groups) == 0 or groups.max() < 2**15
    return np.argsort(groups.astype(np.int16) if few else groups, kind="stable")


def write_buckets(table: pa.Table, buckets: NDArray[np.int64], n_buckets: int, path: str) -> None:
    """Write rows as one record batch a bucket, atomically."""
    with spent("exchange"):
        counts = np.bincount(buckets, minlength=n_buckets)
        if n_buckets > 1 and table.nbytes > LARGE_BYTES:
            order = stable_order(buckets)
            _write_exchange(path, lambda: _taken(table, order, counts), counts)
            return
        if n_buckets > 1:
            table = take_rows(table, stable_order(buckets))
        table = table.combine_chunks()
        _write_exchange(path, lambda: _slices(table, counts), counts)


def _taken(table: pa.Table, order: NDArray[np.int64], counts: NDArray[np.int64]) -> Iterator[pa.Table]:
    """The same of rows in any order, a sixteenth of them at a time: no second copy of all."""
    ends = np.cumsum(counts)
    start = first = 0
    while first < len(counts):
        last = max(first + 1, int(np.searchsorted(ends, start + table.num_rows // 16, side="right")))
        end = int(ends[last - 1])
        yield from _slices(take_rows(table, order[start:end]).combine_chunks(), counts[first:last])
        first, start = last, end


def _slices(table: pa.Table, counts: NDArray[np.int64]) -> Iterator[pa.Table]:
    """Rows of one bucket after the other, of rows in the order of the buckets."""
    start = 0
    for count in counts.tolist():
        yield table.slice(start, count)
        start += count


def _write_exchange(path: str, rows: Callable[[], Iterator[pa.Table]], counts: NDArray[np.int64]) -> None:
    with spent("exchange"):
        if is_local(path):
            _write_whole(on_disk(path), rows, counts)
            return
        sink = pa.BufferOutputStream()
        _write_batches(sink, rows, counts)
        data = sink.getvalue().to_pybytes()
        write_atomic(path, data)
        moved("exchange:written", len(data))


def _write_file(path: str, table: pa.Table, counts: NDArray[np.int64]) -> None:
    _write_whole(path, lambda: _slices(table, counts), counts)


def _write_whole(path: str, rows: Callable[[], Iterator[pa.Table]], counts: NDArray[np.int64]) -> None:
    temporary = f"{path}.{os.getpid()}.{threading.get_ident()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with pa.OSFile(temporary, "wb") as sink:
            _write_batches(sink, rows, counts)
        moved("exchange:written", os.path.getsize(temporary))
        os.replace(temporary, path)
    except OSError as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise write_error(path, error) from error


def _write_batches(
    sink: pa.NativeFile, rows: Callable[[], Iterator[pa.Table]], counts: NDArray[np.int64]
) -> None:
    metadata = {b"rows": json.dumps(counts.tolist()).encode()}
    writer: pa.RecordBatchFileWriter | None = None
    with ExitStack() as stack:
        for piece in rows():
            if writer is None:
                writer = stack.enter_context(pa.ipc.new_file(sink, piece.schema.with_metadata(metadata)))
            batches = piece.to_batches() or [pa.RecordBatch.from_pylist([], schema=piece.schema)]
            batch, told = signed(batches[0].replace_schema_metadata(metadata))
            writer.write_batch(batch, custom_metadata=told)


def plain_arrow(frame: pl.DataFrame) -> pa.Table:
    """Convert to Arrow with plain strings and binaries (Polars' views can't be mapped by every reader)."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = [field.with_type(_plain(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields)) if fields != list(table.schema) else table


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    return kind


def bucket_rows(path: str) -> NDArray[np.int64]:
    """Rows of each bucket in an exchange file."""
    if not is_local(path):
        found = store_footers([path])
        if path not in found:
            raise FileNotFoundError(path)
        return _rows_in(found[path].schema)
    with pa.memory_map(on_disk(path)) as file, pa.ipc.open_file(file) as reader:
        return _rows_in(reader.schema)


def _rows_in(schema: pa.Schema) -> NDArray[np.int64]:
    return np.array(json.loads(schema.metadata[b"rows"]), np.int64)


def finished_rows(path: str) -> int | None:
    """Rows of a finished file of `write_buckets`; None if it is not there.

    A power cut may leave a file that was renamed but not flushed: as good as none.
    """
    if is_local(path):
        place = on_disk(path)
        if not os.path.exists(place):
            return None
        with suppress(OSError):
            os.utime(place)  # used now: what was used longest ago is removed first
    with suppress(pa.ArrowInvalid, OSError, ValueError):
        rows: int = bucket_rows(path).sum().item()
        return rows
    return None


def write_positions(path: str, positions: NDArray[np.uint32]) -> None:
    """Write row positions atomically, to a path or URL."""
    sink = io.BytesIO()
    np.save(sink, positions, allow_pickle=False)
    write_atomic(path, sink.getvalue(), durable=False)


def read_positions(path: str) -> NDArray[np.uint32]:
    """Read row positions written by `write_positions`."""
    return np.asarray(np.load(io.BytesIO(read_bytes(path)), allow_pickle=False), np.uint32)
