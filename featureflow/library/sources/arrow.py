"""Arrow IPC files and streams (Feather version 2 is an IPC file)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pyarrow as pa
from pyarrow import ipc

from featureflow.contracts.source import FileFacts, TimeColumn
from featureflow.core.raw_files import RawFile
from featureflow.core.types import type_name
from featureflow.library.sources.files import group_of, open_file, reading

_MAGIC = b"ARROW1"


class Arrow:
    """Arrow IPC; a file of several record batches is read by batch, a stream as a whole."""

    name: ClassVar[str] = "arrow"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".ipc", ".feather", ".arrows")
    typed: ClassVar[bool] = True

    def facts(
        self,
        file: RawFile,
        *,
        time: TimeColumn | None,
        declared: Mapping[str, str],
        pinned: Mapping[str, str] | None,
        timezone: str,
    ) -> FileFacts:
        """Read the schema and the time column."""
        del declared, pinned, timezone
        with reading(file, "Arrow IPC"):
            schema, batches = _batches(file)
            groups, first_row = [], 0
            for i, batch in enumerate(batches):
                there = time is not None and time.name in schema.names
                column = (
                    batch.column(schema.get_field_index(time.name)) if time is not None and there else None
                )
                groups.append(
                    group_of(
                        file,
                        column,
                        time,
                        index=i,
                        first_row=first_row,
                        size=batch.nbytes,
                        rows=batch.num_rows,
                    )
                )
                first_row += batch.num_rows
            fields = tuple((field.name, type_name(field.type)) for field in schema)
            return FileFacts(file, fields, first_row, tuple(groups))

    def read(
        self,
        file: RawFile,
        *,
        columns: Sequence[str],
        groups: Sequence[int] | None,
        stored: Mapping[str, str],
    ) -> pa.Table:
        """Read the named batches and columns."""
        del stored
        with reading(file, "Arrow IPC"):
            schema, batches = _batches(file)
            chosen = batches if groups is None else [batches[i] for i in groups]
            table = pa.Table.from_batches(chosen, schema=schema)
            return table.select([name for name in columns if name in schema.names])


def _batches(file: RawFile) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    with open_file(file) as source:
        data = source.read_buffer()
    if data.size == 0:
        raise ValueError("the file has no bytes")
    if bytes(data[: len(_MAGIC)]) == _MAGIC:
        reader = ipc.open_file(data)
        return reader.schema, [reader.get_batch(i) for i in range(reader.num_record_batches)]
    stream = ipc.open_stream(data)
    return stream.schema, list(stream)
