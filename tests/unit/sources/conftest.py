"""A small language for writing raw files and reading them as a source."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featureflow.contracts.source import FileFacts, SourceSchema, SourceSpec
from featureflow.library.sources.inspection import Inspected, inspect_source
from featureflow.library.sources.reader import SourceReader

UTC = dt.UTC


class Lake:
    """Raw files in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def parquet(self, name: str, columns: Mapping[str, Any] | pa.Table, **options: Any) -> Path:
        """Write a Parquet file; values are lists or Arrow arrays."""
        path = self._path(name)
        table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
        pq.write_table(table, path, **options)
        return path

    def text(self, name: str, content: str | bytes) -> Path:
        """Write text or bytes."""
        path = self._path(name)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def _path(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def inspect(self, pattern: str | tuple[str, ...] = "", **spec: Any) -> tuple[SourceSpec, Inspected]:
        """Inspect as planning does; facts and schema take the way through JSON that a cache has."""
        patterns = (pattern,) if isinstance(pattern, str) else pattern
        source = SourceSpec("raw", tuple(str(self.root / each) for each in patterns), **spec)
        found = inspect_source(source)
        facts = tuple(FileFacts.from_json(json.loads(json.dumps(each.to_json()))) for each in found.facts)
        schema = SourceSchema.from_json(json.loads(json.dumps(found.schema.to_json())))
        assert (facts, schema) == (found.facts, found.schema)
        return source, found

    def reader(self, pattern: str | tuple[str, ...] = "", **spec: Any) -> tuple[SourceReader, Inspected]:
        """A reader that came through pickle, as a task's does."""
        source, found = self.inspect(pattern, **spec)
        reader = pickle.loads(pickle.dumps(SourceReader(source, found.schema, found.format)))
        return reader, found

    def read(self, pattern: str | tuple[str, ...] = "", **spec: Any) -> pl.DataFrame:
        """All files, one after the other; types are those that the reader promised."""
        reader, found = self.reader(pattern, **spec)
        assert reader.problems == []
        frame = pl.concat([reader.read(facts) for facts in found.facts])
        assert dict(frame.schema) == reader.output_schema
        return frame


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.fixture
def at() -> Callable[..., dt.datetime]:
    """An instant in UTC."""
    return lambda *parts: dt.datetime(*parts, tzinfo=UTC)
