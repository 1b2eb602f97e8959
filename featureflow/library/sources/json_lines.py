"""JSON lines: one object per line. A key that a line lacks is null there; one that no line has is a missing column.

Numbers are int64 or float64 as the first file has them; dates and times are strings in JSON, and are read as such
where all of a column look alike (ISO 8601), or where ``columns:`` says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import polars as pl
import pyarrow as pa
import pyarrow.json as pajson

from featureflow.contracts.source import FileFacts, TimeColumn
from featureflow.core.raw_files import RawFile
from featureflow.library.sources.csv import text_facts
from featureflow.library.sources.files import open_stream, reading

_LONG_INTEGER = re.compile(rb"[:\[,\s]-?\d{16,}(?![\d.eE])")
_LARGEST_BLOCK = 2**31 - 1


class JsonLines:
    """Newline-delimited JSON objects. Compressed files are recognised by their suffix."""

    name: ClassVar[str] = "json"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json", ".jsonlines")
    typed: ClassVar[bool] = False

    def facts(
        self,
        file: RawFile,
        *,
        time: TimeColumn | None,
        declared: Mapping[str, str],
        pinned: Mapping[str, str] | None,
        timezone: str,
    ) -> FileFacts:
        """Parse the whole file once."""
        table = _parse(file)
        frame = {name: _series(name, table.column(name)) for name in table.column_names}
        return text_facts(file, frame, table.num_rows, time, declared, pinned, timezone)

    def read(
        self,
        file: RawFile,
        *,
        columns: Sequence[str],
        groups: Sequence[int] | None,
        stored: Mapping[str, str],
    ) -> pa.Table:
        """Read with JSON's own types; the caller casts."""
        del groups, stored
        table = _parse(file)
        return table.select([name for name in columns if name in table.column_names])


def _series(name: str, column: pa.ChunkedArray) -> pl.Series:
    return pl.Series(name, column)


def _parse(file: RawFile) -> pa.Table:
    with reading(file, "JSON lines"):
        with open_stream(file) as stream:
            data = stream.read()
        if not data.strip():
            raise ValueError("the file has no line")
        data.decode()  # Arrow's JSON reader lets bytes through that are not UTF-8
        # one block: types must not depend on where a block ends
        options = pajson.ReadOptions(block_size=min(max(len(data) + 1, 1 << 16), _LARGEST_BLOCK))
        table = pajson.read_json(pa.BufferReader(data), read_options=options)
        guessed = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
        if guessed:  # Arrow drops what a time is written with; the text is parsed by our rules instead
            schema = pa.schema([pa.field(name, pa.string()) for name in guessed])
            parse = pajson.ParseOptions(explicit_schema=schema)
            table = pajson.read_json(pa.BufferReader(data), read_options=options, parse_options=parse)
        _refuse_rounded(table, data)
        return table


def _refuse_rounded(table: pa.Table, data: bytes) -> None:
    """Refuse integers that Arrow read as floats and so rounded: those beyond 2^63, and beyond 2^53 among floats."""
    suspects = []
    for field in table.schema:
        if pa.types.is_floating(field.type):
            largest = pl.Series(field.name, table.column(field.name)).fill_nan(None).abs().max()
            if largest is not None and float(largest) >= 2**53:  # type: ignore[arg-type]
                suspects.append(field.name)
    if not suspects or not _LONG_INTEGER.search(data):
        return
    for number, line in enumerate(data.splitlines(), start=1):  # slow, but hardly ever needed
        values = json.loads(line) if line.strip() else {}
        for name in suspects:
            if isinstance(values.get(name), int) and abs(values[name]) > 2**53:
                raise ValueError(
                    f"column {name!r}, line {number}: {values[name]} has more digits than a float64 holds; write the "
                    "column's numbers as strings"
                )
