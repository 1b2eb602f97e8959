"""A table that tests can publish versions of in one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featureflow.tables.commit import Published, publish
from featureflow.tables.layout import file_path, partition_column, storable
from featureflow.tables.parquet_files import StagedFile, write_file
from featureflow.tables.state import current_state
from featureflow.tables.store import open_table
from featureflow.tables.table import Table

START = datetime(2026, 1, 1, tzinfo=UTC)


def events(rows: list[tuple[Any, ...]]) -> pa.Table:
    """Rows of (key, minutes since 2026-01-01 or None, amount)."""
    times = [None if t is None else START + timedelta(minutes=t) for _, t, _ in rows]
    return pa.table(
        {
            "card": pa.array([k for k, _, _ in rows], pa.int64()),
            "ts": pa.array(times, pa.timestamp("us", "UTC")),
            "amount": pa.array([a for _, _, a in rows], pa.float64()),
        }
    )


@dataclass
class Maker:
    """Publishes versions; a unit is (slice, bucket), its content a list of rows."""

    root: Path
    partition: str = "day"
    keys: list[str] = field(default_factory=lambda: ["card"])
    builds: int = 0

    @property
    def url(self) -> str:
        """Root of the table."""
        return str(self.root / "features" / "spend")

    def stage(self, slice_: str | None, bucket: int, rows: pa.Table, fingerprint: str) -> StagedFile:
        """Write one file."""
        rows = rows.cast(storable(rows.schema))
        column = partition_column(self.partition, rows.schema.names)
        path = file_path(column, slice_, bucket, fingerprint)
        return write_file(rows, self.url, path, keys=self.keys, time="ts")

    def publish(
        self,
        units: Mapping[tuple[str | None, int], pa.Table],
        *,
        schema: pa.Schema | None = None,
        **options: Any,
    ) -> Published:
        """Publish a version that replaces the given units (all, if the schema is a new one)."""
        self.builds += 1
        state = current_state(self.url)
        adds = [self.stage(s, b, rows, f"{self.builds:04x}") for (s, b), rows in units.items()]
        first = next(iter(units.values())).schema if units else pa.schema([])
        schema = schema or (state.schema if state and not units else storable(first))
        replaced = [] if state is None else [f.path for u, f in state.units.items() if u in units]
        if state is not None and not schema.equals(state.schema):
            replaced = [file.path for file in state.files]
        record = {"build": f"build-{self.builds}", "definition_hash": "h", "definition": {"n": self.builds}}
        arguments: dict[str, Any] = {
            "schema": schema,
            "partition": self.partition,
            "keys": self.keys,
            "time": "ts",
            "adds": adds,
            "removes": replaced,
            "record": {**record, **options.pop("record", {})},
            "expected_version": state.version if state else None,
        }
        return publish(self.url, **{**arguments, **options})

    def open(self, which: str = "latest") -> Table:
        """Open a version."""
        return open_table(self.url, "spend", which)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """A table that was never published."""
    return Maker(tmp_path)


@pytest.fixture
def make_events() -> Callable[[list[tuple[Any, ...]]], pa.Table]:
    """Rows of (key, minutes since 2026-01-01 or None, amount) as a table."""
    return events
