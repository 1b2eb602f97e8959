"""What a source format must implement, and the plain values that pass between planning and reading a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Protocol, runtime_checkable

import pyarrow as pa

from featureflow.core.raw_files import RawFile


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One tabular source, as the YAML says it; paths are already resolved against the spec's folder.

    Parameters
    ----------
    name
        Name of the source, for messages.
    path
        Files, globs, folders, or the root of a Delta table.
    format
        ``parquet csv json jsonlines delta arrow``; None: from the suffix.
    time, created, sequence
        Names of the columns for event time, knowledge time and ties.
    timezone
        IANA zone of times that are stored without one.
    columns
        Type name by column: cast on read. ``float64?`` also lets the column be missing in a file (null).
    options
        What is given of the format's own options, by name.
    nulls_for_missing, ignore_extra
        Whether any column may be missing in a file (null there), and whether columns that the first file lacks are
        left out; otherwise both are errors.
    where
        SQL condition; rows where it is false or null are dropped.
    derive
        SQL expression by new column, in order.
    fill, clip, mask
        As in the YAML: value by column; (low, high) by column, None for no bound; ``sha256`` or ``drop`` by column.
    version
        Version of a Delta table to read; None: the latest.
    """

    name: str
    path: tuple[str, ...]
    format: str | None = None
    time: str | None = None
    created: str | None = None
    sequence: str | None = None
    timezone: str = "UTC"
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    nulls_for_missing: bool = False
    ignore_extra: bool = False
    where: str | None = None
    derive: Mapping[str, str] = field(default_factory=dict)
    fill: Mapping[str, Any] = field(default_factory=dict)
    clip: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    mask: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A part of a file that can be read alone: a Parquet row group, an Arrow record batch, or the whole file.

    ``min_time`` and ``max_time`` are microseconds UTC of the event time, both inclusive; None when the group has no
    time that is not null, or the source has no time column.
    """

    index: int
    rows: int
    bytes: int
    min_time: int | None = None
    max_time: int | None = None
    null_times: int = 0


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What planning knows about one file; plain JSON both ways, so that it can be cached by path, size and version.

    ``fields`` are (column, type name) in the order of the file, without hive columns.
    """

    file: RawFile
    fields: tuple[tuple[str, str], ...]
    rows: int
    groups: tuple[Group, ...]

    def to_json(self) -> dict[str, Any]:
        """As dicts, lists, strings and numbers. `asdict` takes a second for ten thousand files."""
        file = self.file
        return {
            "file": {"path": file.path, "size": file.size, "version": file.version, "hive": dict(file.hive)},
            "fields": [list(field) for field in self.fields],
            "rows": self.rows,
            "groups": [{name: getattr(group, name) for name in Group.__slots__} for group in self.groups],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FileFacts:
        """Read what :meth:`to_json` gave, also after a round trip through JSON text."""
        return cls(
            RawFile(**value["file"]),
            _same_fields(tuple((name, kind) for name, kind in value["fields"])),
            value["rows"],
            tuple(Group(**group) for group in value["groups"]),
        )


@lru_cache(maxsize=64)
def _same_fields(fields: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """One object for the equal fields of 100,000 files."""
    return fields


@dataclass(frozen=True, slots=True)
class Column:
    """One raw column of a source: its type in the files, and the one that it is read as.

    ``optional`` columns may be missing in a file (null there). ``hive`` columns come from folder names.
    """

    name: str
    stored: str
    type: str
    optional: bool = False
    hive: bool = False


@dataclass(frozen=True, slots=True)
class SourceSchema:
    """The schema that every file of a source has; plain values, picklable, for tasks and fingerprints."""

    columns: tuple[Column, ...]

    def names(self) -> list[str]:
        """Raw columns in order."""
        return [column.name for column in self.columns]

    def to_json(self) -> list[dict[str, Any]]:
        """As a list of dicts, for a fingerprint or a lock file."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, value: Sequence[Mapping[str, Any]]) -> SourceSchema:
        """Read what :meth:`to_json` gave."""
        return cls(tuple(Column(**column) for column in value))


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """What a format must know to find the times of a file: the column, its declared type, the zone of naive ones."""

    name: str
    declared: str | None
    timezone: str


@runtime_checkable
class Format(Protocol):
    """A file format. One with options is a frozen dataclass that has them as fields.

    Text formats (``typed`` is False) store no types: their facts check every value against the ``declared`` type of
    its column, else the ``pinned`` one (type names by column), and where there is neither they infer from the whole
    of the file.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    typed: ClassVar[bool]

    def facts(
        self,
        file: RawFile,
        *,
        time: TimeColumn | None,
        declared: Mapping[str, str],
        pinned: Mapping[str, str] | None,
        timezone: str,
    ) -> FileFacts:
        """Describe a file.

        Raises
        ------
        SourceError
            If the file is damaged, empty or not of this format; names it.
        """

    def read(
        self,
        file: RawFile,
        *,
        columns: Sequence[str],
        groups: Sequence[int] | None,
        stored: Mapping[str, str],
    ) -> pa.Table:
        """Read the named columns of the named groups (None: all), in order, with the types of the file.

        ``stored`` are the stored types of the schema, which text formats parse into; columns that the file lacks
        are left out of the result.
        """
