"""The state of a table at its latest version, for whoever plans the next one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from featureflow.tables import records, versions
from featureflow.tables.parquet_files import StagedFile
from featureflow.tables.schema_json import schema_from_json
from featureflow.tables.versions import Version

Unit = tuple[str | None, int]
"""(time slice, bucket): what a file holds."""


@dataclass(frozen=True, slots=True)
class TableState:
    """A version with its record and files.

    Parameters
    ----------
    info
        The version itself.
    record
        Everything that was remembered, the builder's own entries included.
    schema
        Columns in order, without the storage column.
    units
        The file of each (slice, bucket).
    """

    info: Version
    record: dict[str, Any] = field(repr=False)
    schema: pa.Schema = field(repr=False)
    units: dict[Unit, StagedFile] = field(repr=False)

    @property
    def version(self) -> int:
        """Number of the version."""
        return self.info.version

    @property
    def delta_version(self) -> int:
        """Number of its Delta commit."""
        return self.info.delta_version

    @property
    def definition_hash(self) -> str:
        """Hash of the definition that made it."""
        return self.info.definition_hash

    @property
    def partition(self) -> str:
        """``day``, ``month``, ``year`` or ``none``."""
        return str(self.record["partition"])

    @property
    def partition_column(self) -> str | None:
        """Name of the storage column, or None."""
        return self.record["partition_column"]  # type: ignore[no-any-return]

    @property
    def keys(self) -> list[str]:
        """Key columns."""
        return list(self.record["keys"])

    @property
    def time(self) -> str | None:
        """Time column."""
        return self.record["time"]  # type: ignore[no-any-return]

    @property
    def files(self) -> list[StagedFile]:
        """All files, sorted by path."""
        return list(self.units.values())


def read_state(table_url: str, info: Version) -> TableState:
    """Everything about one version.

    Raises
    ------
    CorruptionError
        If the record is missing or damaged.
    """
    record = records.read_record(table_url, info.record, info.record_digest)
    files = records.read_files(table_url, info.record, record)
    units = {(file.slice, file.bucket): file for file in files}
    return TableState(info, record, schema_from_json(record["schema"]), units)


def current_state(table_url: str) -> TableState | None:
    """The latest version, or None if the table was never published."""
    head = versions.head(table_url)
    return None if head is None or head.latest is None else read_state(table_url, head.latest)
