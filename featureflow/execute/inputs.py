"""What the stages read: raw sources and feature tables, as chunks that one task can take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from featureflow.core.chunk_cache import labelled
from featureflow.core.errors import CorruptionError
from featureflow.core.expressions import compile_condition
from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending
from featureflow.core.remote_parquet import open_stored
from featureflow.core.storage import is_local, join
from featureflow.execute.checks.checking import BoundCheck
from featureflow.execute.exchange.exchange_file import Chunk, RowReader
from featureflow.execute.stages import Piece
from featureflow.library.sources.reader import SourceReader
from featureflow.plan.functions import call
from featureflow.plan.nodes import CompiledTable, Derived, Input
from featureflow.plan.scan import ScannedSource
from featureflow.plan.slices import NULL_SLICE, Slice, to_us
from featureflow.tables.parquet_files import StagedFile

#: A raw file is cut into chunks of about this many stored bytes, at row-group borders.
CHUNK_BYTES = 96 << 20


@dataclass(slots=True)
class Readable:
    """An input with its reader and chunks; ``drops`` names, by chunk id, the rows that repeat earlier ones.

    ``repeated`` names, by ``unique`` check and chunk id, those of them that go to quarantine: the others are gone.
    ``last_us`` is the latest time of any row, None without times; chunks of a table only say where their slice ends.
    """

    input: Input
    reader: RowReader
    chunks: tuple[Chunk, ...]
    files: list[dict[str, Any]]
    drops: dict[str, str] = field(default_factory=dict)
    delta_version: int | None = None
    repeated: dict[str, dict[str, str]] = field(default_factory=dict)
    last_us: int | None = None

    def pieces(self) -> list[Piece]:
        """The chunks by name and time. A chunk with dropped rows has another name than without."""
        return [
            Piece(self.drop_name(chunk), chunk.min_us, chunk.max_us, chunk.null_times, chunk.rows, chunk.size)
            for chunk in self.chunks
        ]

    def drop_name(self, chunk: Chunk) -> str:
        """Name of a chunk together with its list of dropped rows."""
        drop = self.drops.get(chunk.id)
        return chunk.id if drop is None else fingerprint([chunk.id, drop.rsplit("/", 1)[-1]])


@dataclass(frozen=True, slots=True)
class SourceChunks:
    """Reads chunks of a raw source through its row steps, Python functions and quarantine checks.

    With ``finish`` False it stops before fill, clip and mask: what a deduplication compares.
    """

    id: str
    source: SourceReader
    udfs: tuple[Derived, ...] = ()
    quarantine: tuple[BoundCheck, ...] = ()
    finish: bool = True
    condition: str | None = None

    def read(
        self, chunk: Chunk, columns: tuple[str, ...], *, row_position: str | None = None
    ) -> pl.DataFrame:
        """See `RowReader`."""
        with labelled(self.label(chunk)):
            return self._read(chunk, columns, row_position)

    def label(self, chunk: Chunk) -> str:
        """See `RowReader`."""
        file = chunk.file.file
        return _label(file.path, file.version, chunk.row_groups)

    def _read(self, chunk: Chunk, columns: tuple[str, ...], row_position: str | None) -> pl.DataFrame:
        needed = dict.fromkeys((*columns, *self._checked()))
        made = self._made(needed)
        given = (*needed, *(name for udf in made for name in udf.inputs))
        names = {udf.name for udf in made}
        frame = self.source.read(
            chunk.file,
            list(dict.fromkeys(name for name in given if name not in names)),
            groups=chunk.row_groups,
            row_position=row_position is not None,
            finish=self.finish and not made,
        )
        for udf in made:
            frame = frame.with_columns(call(udf, [frame[name] for name in udf.inputs]))
        if made and self.finish:
            frame = self.source.finish(frame)  # fill, clip and mask come after Python functions
        for check in self.quarantine:
            frame = frame.filter(~check.bad(frame))
        if self.condition is not None:
            frame = frame.filter(compile_condition(self.condition, frame.schema).mask(frame))
        return frame.select([*columns, *([row_position] if row_position else [])])

    def _checked(self) -> list[str]:
        """Columns that the quarantine checks look at."""
        schema = {**self.source.output_schema, **{udf.name: udf.dtype or pl.Null() for udf in self.udfs}}
        found = [name for check in self.quarantine for name in check.columns_read(schema)]
        return (
            found if self.condition is None else [*found, *compile_condition(self.condition, schema).columns]
        )

    def _made(self, needed: Iterable[str]) -> list[Derived]:
        """Functions that these columns need, in their order; one may use the results of those before it."""
        names = set(needed)
        made = []
        for udf in reversed(self.udfs):
            if udf.name in names:
                names.update(udf.inputs)
                made.append(udf)
        return made[::-1]


@dataclass(frozen=True, slots=True)
class TableChunks:
    """Reads files of a feature table; page checksums are verified."""

    id: str
    root: str

    @spending("decode")
    def read(
        self, chunk: Chunk, columns: tuple[str, ...], *, row_position: str | None = None
    ) -> pl.DataFrame:
        """See `RowReader`."""
        url = join(self.root, chunk.file)
        try:
            if is_local(url):
                with pq.ParquetFile(url, page_checksum_verification=True) as file:
                    frame = pl.DataFrame(file.read(columns=list(columns)))
            else:
                with labelled(self.label(chunk)):
                    frame = pl.DataFrame(open_stored(url).read(columns))
        except (OSError, pa.ArrowInvalid) as error:
            raise CorruptionError(
                f"{url}: {error}. Run `featureflow verify`, or build again with --full."
            ) from error
        frame = frame.select(columns)
        return frame if row_position is None else frame.with_row_index(row_position)

    def label(self, chunk: Chunk) -> str:
        """See `RowReader`."""
        return _label(join(self.root, chunk.file), "", chunk.row_groups)


def _label(url: str, version: str, row_groups: tuple[int, ...] | None) -> str:
    """Name of a part of a remote object, whoever reads it; empty for a local file, which no cache holds."""
    return "" if is_local(url) else fingerprint([url, version, list(row_groups or ())])


def readable_source(scanned: ScannedSource, checks: tuple[BoundCheck, ...] = ()) -> Readable:
    """Cut a scanned source into chunks."""
    chunks = []
    for facts in scanned.facts:
        name = [facts.file.path, facts.file.size, facts.file.version]
        for groups in _cut(facts.groups):
            whole = len(groups) == len(facts.groups)
            timed = [g for g in groups if g.min_time is not None]
            no_time = scanned.input.time is None
            chunks.append(
                Chunk(
                    file=facts,
                    row_groups=None if whole else tuple(g.index for g in groups),
                    rows=sum(g.rows for g in groups),
                    size=sum(g.bytes for g in groups),
                    min_us=0 if no_time else min((g.min_time for g in timed), default=None),
                    max_us=0 if no_time else max((g.max_time for g in timed), default=None),
                    null_times=sum(g.null_times for g in groups),
                    id=fingerprint([scanned.id, *name, [g.index for g in groups]]),
                )
            )
    files = [
        {"path": f.file.path, "size": f.file.size, "version": f.file.version, "rows": f.rows}
        for f in scanned.facts
    ]
    quarantine = tuple(check for check in checks if check.quarantines and check.spec.kind != "unique")
    reader = SourceChunks(scanned.id, scanned.reader, scanned.udfs, quarantine)
    last = max((chunk.max_us for chunk in chunks if chunk.max_us is not None), default=None)
    return Readable(
        scanned.input, reader, tuple(chunks), files, delta_version=scanned.delta_version, last_us=last
    )


def unchecked(readable: Readable) -> Readable:
    """The same source with the rows that its checks put into quarantine."""
    if not isinstance(readable.reader, SourceChunks):
        return readable
    return replace(readable, reader=replace(readable.reader, quarantine=()))


def unfinished(readable: Readable) -> Readable:
    """The same source as read before fill, clip and mask, and so before its checks."""
    if not isinstance(readable.reader, SourceChunks):
        return readable
    name = f"{readable.reader.id}-unfinished"
    return replace(readable, reader=replace(readable.reader, id=name, finish=False, quarantine=()))


def only_where(readable: Readable, condition: str) -> Readable:
    """The rows of a source for which a condition is true."""
    if not isinstance(readable.reader, SourceChunks):
        return readable
    name = fingerprint([readable.reader.id, condition])
    return replace(readable, reader=replace(readable.reader, id=name, condition=condition))


def _cut(groups: Any) -> list[list[Any]]:
    runs: list[list[Any]] = []
    size = 0
    for group in groups:
        if runs and size + group.bytes <= CHUNK_BYTES:
            runs[-1].append(group)
            size += group.bytes
        else:
            runs.append([group])
            size = group.bytes
    return runs


def readable_table(
    table: CompiledTable, root: str, source: Input, files: list[tuple[Slice, StagedFile]]
) -> Readable:
    """Take the files of a feature table's new version as chunks."""
    chunks = tuple(
        Chunk(
            file=staged.path,
            row_groups=None,
            rows=staged.rows,
            size=staged.size,
            min_us=None if part == NULL_SLICE else part.start_us,
            max_us=None if part == NULL_SLICE else part.end_us - 1,
            null_times=staged.rows if part.holds_timeless else 0,
            id=staged.path,
        )
        for part, staged in files
    )
    reader = TableChunks(fingerprint([table.name, root]), root)
    return Readable(source, reader, chunks, [], last_us=_latest(table, files))


def _latest(table: CompiledTable, files: list[tuple[Slice, StagedFile]]) -> int | None:
    """The latest time in a table, from the statistics of the files of its last slice that has times."""
    if table.time is None or not files:
        return None
    last = max(part.end_us for part, _ in files)
    found = [staged.columns[table.time].get("max") for part, staged in files if part.end_us == last]
    return max((to_us(datetime.fromisoformat(text)) for text in found if isinstance(text, str)), default=None)


def with_drops(readable: Readable, drops: dict[str, str]) -> Readable:
    """Say which rows of which chunks repeat earlier ones."""
    return replace(readable, drops=drops)
