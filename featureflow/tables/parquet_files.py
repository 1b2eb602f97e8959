"""One immutable Parquet file for one unit (bucket, time slice), written inside a worker task.

A file's footer carries everything that a commit needs to know about it, so a build that was killed finds its
finished files again without computing or reading anything twice.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from featureflow.core import storage
from featureflow.core.errors import CorruptionError, TableError
from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import measuring, moved, spending, spent
from featureflow.tables import layout
from featureflow.tables.delta_stats import delta_stats
from featureflow.tables.encodings import Encoding, choose_encoding
from featureflow.tables.parquet_footer import footer_digest, read_footer, read_tail, seal_of, tail_of
from featureflow.tables.schema_json import schema_to_json
from featureflow.tables.statistics import ColumnStats, column_statistics, table_statistics

ROW_GROUP_ROWS: Final = 131_072
PAGE_BYTES: Final = 1 << 20
_METADATA_KEY: Final = b"featureflow"
_TOLD: Final = frozenset({"path", "rows", "schema_hash", "delta_stats", "columns_json"})


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A finished file that no version shows yet. Small, picklable and JSON-serialisable.

    Parameters
    ----------
    path
        Relative to the table's root.
    size, rows
        Bytes and rows.
    footer_digest
        BLAKE2b of the Parquet footer. Pages carry their own checksums; the footer that finds them does not.
    schema_hash
        Hash of names and types.
    delta_stats
        The ``stats`` text of Delta's add action: rows, and least, greatest and nulls of keys and time.
    packed
        Statistics of every column, for the version's statistics: JSON text, deflated. A driver holds 100,000 of these.
    """

    path: str
    size: int
    rows: int
    footer_digest: str
    schema_hash: str
    delta_stats: str
    packed: bytes = field(repr=False)

    @classmethod
    def of(
        cls,
        *,
        path: str,
        size: int,
        rows: int,
        footer_digest: str,
        schema_hash: str,
        delta_stats: str,
        columns_json: str,
    ) -> StagedFile:
        """A handle with the statistics of its columns as JSON text."""
        packed = zlib.compress(columns_json.encode(), 3)
        return cls(path, size, rows, footer_digest, sys.intern(schema_hash), delta_stats, packed)

    @property
    def columns_json(self) -> str:
        """Statistics of every column as JSON text."""
        return zlib.decompress(self.packed).decode()

    @property
    def slice(self) -> str | None:
        """The partition's value; None for rows without a time and for unpartitioned tables."""
        return layout.parse_path(self.path)[1]

    @property
    def bucket(self) -> int:
        """The bucket of the keys."""
        return layout.parse_path(self.path)[2]

    @property
    def fingerprint(self) -> str:
        """Hash of everything that went into the file."""
        return layout.parse_path(self.path)[3]

    @property
    def columns(self) -> dict[str, ColumnStats]:
        """Statistics of every column."""
        return json.loads(self.columns_json)  # type: ignore[no-any-return]

    def to_json(self) -> dict[str, Any]:
        """A plain dict; ``StagedFile.of(**that)`` gives the file back."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "packed"}
        return {**plain, "columns_json": self.columns_json}


@spending("encode")
def write_file(
    table: pa.Table,
    table_url: str,
    path: str,
    *,
    keys: list[str],
    time: str | None,
    encoding: Encoding | None = None,
) -> StagedFile:
    """Write one unit and return its handle.

    The file appears under its name only when it is complete. Writing it twice is harmless: the same rows give the
    same bytes.

    Parameters
    ----------
    table
        The rows, in their final order (by keys and time), without the partition column. Columns must already have
        storable types (:func:`featureflow.tables.layout.storable`); nothing is cast silently.
    table_url, path
        Root of the table and the name made by :func:`featureflow.tables.layout.file_path`.
    keys, time
        Columns that get statistics in the file and in the Delta log; readers prune by these.
    encoding
        Measured choice by default; given by tests and benchmarks.

    Notes
    -----
    Cost: see docs/adr on encodings; about 3 ns a value of CPU.
    Determinism: bytes depend on the rows and the pyarrow version only.
    """
    layout.parse_path(path)
    if table.schema.names != layout.storable(table.schema).names or not table.schema.equals(
        layout.storable(table.schema)
    ):
        raise TableError(
            f"{path}: columns must have stored types; cast to layout.storable(schema) first. Got {table.schema}"
        )
    table = _contiguous(table)
    pruning = [name for name in [*keys, *([time] if time else [])] if name in table.schema.names]
    staged: dict[str, Any] = {
        "path": path,
        "rows": table.num_rows,
        "schema_hash": fingerprint(schema_to_json(table.schema)),
        "delta_stats": delta_stats(table, pruning),
        "columns_json": json.dumps(
            table_statistics(table), sort_keys=True, separators=(",", ":"), allow_nan=False
        ),
    }
    moved("encode", table.nbytes)
    return _published(table_url, staged, table.schema, [table], pruning, encoding)


@spending("encode")
def write_in_groups(
    schema: pa.Schema,
    rows: int,
    column: Callable[[str], pa.Array],
    groups: Iterable[pa.Table],
    table_url: str,
    path: str,
    *,
    keys: list[str],
    time: str | None,
) -> StagedFile:
    """Write one unit that memory can't hold; the same bytes as `write_file`.

    Parameters
    ----------
    schema, rows
        Of all rows together.
    column
        Gives a whole column as one array; called once for each, and nothing is kept.
    groups
        All rows in their order, `ROW_GROUP_ROWS` at a time, the last ones fewer; one chunk a column.
    table_url, path, keys, time
        As for `write_file`.

    Notes
    -----
    Memory: one column of all rows, or all columns of a row group.
    """
    layout.parse_path(path)
    pruning = [name for name in [*keys, *([time] if time else [])] if name in schema.names]
    statistics: dict[str, ColumnStats] = {}
    delta: dict[str, Any] = {"minValues": {}, "maxValues": {}, "nullCount": {}}
    for name in schema.names:
        array = column(name)
        statistics[name] = column_statistics(array)
        if name in pruning:
            for kind, found in json.loads(delta_stats(pa.table({name: array}), [name])).items():
                if kind in delta:
                    delta[kind].update(found)
    staged = {
        "path": path,
        "rows": rows,
        "schema_hash": fingerprint(schema_to_json(schema)),
        "delta_stats": json.dumps({"numRecords": rows, **delta}, sort_keys=True, separators=(",", ":")),
        "columns_json": json.dumps(statistics, sort_keys=True, separators=(",", ":"), allow_nan=False),
    }
    return _published(table_url, staged, schema, groups, pruning, None)


def _published(
    table_url: str,
    staged: dict[str, Any],
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    pruning: list[str],
    encoding: Encoding | None,
) -> StagedFile:
    path = str(staged["path"])
    url, told = storage.join(table_url, path), json.dumps({**staged, "seal": "0" * 32}, sort_keys=True)
    chosen = encoding or choose_encoding(schema)
    if storage.is_local(url):
        with _published_whole(url) as sink:
            _write(schema, tables, sink, pruning, chosen, told)
        tail, size = read_tail(url)
    else:
        tail, size = _uploaded(url, lambda sink: _write(schema, tables, sink, pruning, chosen, told))
    return StagedFile.of(size=size, footer_digest=footer_digest(memoryview(tail), path), **staged)


@contextmanager
def _published_whole(url: str) -> Iterator[Any]:
    """A sink whose bytes appear at a local ``url`` together or not at all.

    They are not synced one by one, which takes longer than computing them: the commit flushes all files at once.
    """
    target = storage.local_path(url)
    with storage.full_disks_named(target), _temporary(target) as temporary:
        with _open_local(temporary) as sink:
            yield sink
        with open(temporary, "r+b") as file:
            size = file.seek(0, 2)
            place, seal = seal_of(
                tail_of(lambda start, stop: (file.seek(start), file.read(stop - start))[1], size)
            )
            file.seek(size - place)
            file.write(seal)
        os.chmod(temporary, 0o644)  # mkstemp gives 0600, and a store is shared
        os.replace(temporary, target)


@contextmanager
def _temporary(target: str) -> Iterator[str]:
    """A file beside the target that is gone afterwards, unless it was renamed."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=os.path.dirname(target))
    os.close(handle)
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _uploaded(url: str, write: Callable[[Any], None]) -> tuple[bytes, int]:
    """Write into memory and upload that at once; gives the last bytes and the size, as :func:`read_tail` would."""
    sink = pa.BufferOutputStream()
    write(sink)
    data = bytearray(sink.getvalue())
    place, seal = seal_of(tail_of(lambda start, stop: bytes(data[start:stop]), len(data)))
    data[len(data) - place : len(data) - place + len(seal)] = seal
    with spent("write"):
        moved("write", len(data))
        storage.write_atomic(url, memoryview(data))
    return tail_of(lambda start, stop: bytes(data[start:stop]), len(data)), len(data)


class _MeasuredFile(io.RawIOBase):
    """A file whose writes are measured: encoding and writing take turns within one call of the encoder."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115  closed with this one

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        moved("write", len(left))
        with spent("write"):
            while left:
                left = left[self._file.write(left) :]
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_local(path: str) -> Any:
    if not measuring():
        return pa.OSFile(path, "wb")
    # a megabyte at a time: the encoder itself writes a page, or its header of some bytes
    return pa.BufferedOutputStream(pa.PythonFile(_MeasuredFile(path), "w"), 1 << 20)


def _write(
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    sink: Any,
    pruning: list[str],
    encoding: Encoding,
    staged: str,
) -> None:
    with (
        pq.ParquetWriter(
            sink,
            schema.remove_metadata(),
            # One statistics entry per column would be read by every planner for columns that nobody filters by.
            write_statistics=pruning or False,
            write_page_checksum=True,  # off: one flipped bit goes unnoticed in nine reads of ten
            write_page_index=False,
            store_schema=False,  # the Arrow schema in the footer is redundant for storable types, and version-dependent
            use_compliant_nested_type=True,
            data_page_size=PAGE_BYTES,
            max_rows_per_page=ROW_GROUP_ROWS,
            use_dictionary=encoding.dictionary or False,
            compression=encoding.compression,
            compression_level=encoding.levels,
            column_encoding=encoding.column_encoding or None,
        ) as writer
    ):
        writer.add_key_value_metadata({_METADATA_KEY: staged.encode()})
        for table in tables:
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def _contiguous(table: pa.Table) -> pa.Table:
    """One chunk a column: chunk borders would move page borders, and so the bytes."""
    return table if all(c.num_chunks <= 1 for c in table.columns) else table.combine_chunks()


def find_staged(table_url: str, path: str) -> StagedFile | None:
    """A finished file of this name, or None. Its footer says what :func:`write_file` returned.

    A file under its final name is complete, because it appears there only when it is; what is checked is that the
    footer is whole and was written for this path. A local file is touched, so that gc takes it for a running build's.

    Raises
    ------
    CorruptionError
        If the footer is damaged; delete the file and build again.
    """
    url = storage.join(table_url, path)
    try:
        if storage.is_local(url):
            os.utime(storage.local_path(url))
        tail, size = read_tail(url)
    except FileNotFoundError:
        return None
    damaged = f"{url}: the Parquet footer is damaged (digest differs). Delete it and build again."
    place, seal = seal_of(tail)
    if place and tail[len(tail) - place :][:32] != seal:  # before anything is parsed
        raise CorruptionError(damaged)
    metadata = read_footer(tail, url).metadata or {}
    if _METADATA_KEY not in metadata:
        raise CorruptionError(f"{url}: was not written by featureflow. Delete it and build again.")
    try:
        staged = json.loads(metadata[_METADATA_KEY])
        sealed = staged.pop("seal", None) is not None  # files of older builds are not
    except (ValueError, AttributeError) as error:
        raise CorruptionError(damaged) from error
    if staged.keys() != _TOLD or sealed != bool(place):
        raise CorruptionError(damaged)
    if staged["path"] != path:
        raise CorruptionError(f"{url}: holds the file {staged['path']}. Delete it and build again.")
    return StagedFile.of(size=size, footer_digest=footer_digest(memoryview(tail), url), **staged)
