"""Where everything of a table lives, and what can be stored in it.

::

    <table>/
      _delta_log/00000000000000000006.json    the commit: the only thing that makes files visible
      day=2026-01-01/b003-<fingerprint>.parquet
      _ff/records/<version>-<build>-<n>.json  what a version remembers; written before the commit
      _ff/records/<version>-<build>-<n>.files  its files, with their statistics (Arrow IPC)
      _ff/versions/000000007.json             projection of a commit, written after it
      _ff/tags/<tag>/000000002.json           moves of a tag; the highest number counts
      _ff/expired/000000003.json              versions that gc has taken away
      _ff/state/<fingerprint>-b003.arrow      what lifetime windows begin with; can be deleted at any time
      _ff/arrays/                             of a grid: an Icechunk repository
      _ff/seals/<snapshot>.json               digests of a snapshot's metadata; written before the commit

Names that begin with an underscore are invisible to Delta readers and to Delta's vacuum.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

import pyarrow as pa

from featureflow.core.errors import TableError
from featureflow.core.types import storage_type

PARTITIONS = ("day", "month", "year", "none")
NULL_SLICE = "__HIVE_DEFAULT_PARTITION__"
#: Folders of a store.
FEATURES, DATASETS = "features", "datasets"
RECORDS = "_ff/records"
VERSIONS = "_ff/versions"
TAGS = "_ff/tags"
EXPIRED = "_ff/expired"
ARRAYS = "_ff/arrays"
#: What a grid's builds have finished and not published, what steps learned from parts of their input.
PROGRESS, FIT_PARTS = "_ff/progress", "_ff/fits/parts"
LOG = "_delta_log"

_FILE = re.compile(
    r"(?:(?P<column>[a-z_]+)=(?P<slice>[^/]+)/)?b(?P<bucket>\d{3,})-(?P<fingerprint>[0-9a-f]+)\.parquet"
)
_SLICE = {
    "day": re.compile(r"-?\d{4,6}-\d\d-\d\d"),
    "month": re.compile(r"-?\d{4,6}-\d\d"),
    "year": re.compile(r"-?\d{4,6}"),
}


def partition_column(partition: str, columns: list[str]) -> str | None:
    """Name of the storage column of a table partitioned by ``day``, ``month`` or ``year``; None for ``none``.

    A data column of the same name (case does not matter to Spark) keeps its name; the storage column
    then takes underscores until it is free: ``day_``.
    """
    if partition not in PARTITIONS:
        raise TableError(f"partition must be one of {', '.join(PARTITIONS)}; got {partition!r}.")
    if partition == "none":
        return None
    taken = {name.lower() for name in columns}
    name = partition
    while name in taken:
        name += "_"
    return name


def partition_type(partition: str) -> pa.DataType:
    """Type of the storage column: a date for days, which every engine prunes on; text for longer slices."""
    return pa.date32() if partition == "day" else pa.string()


def file_path(column: str | None, slice_: str | None, bucket: int, fingerprint: str) -> str:
    """Path of a unit's file, relative to the table. The fingerprint names the content, so it is never rewritten.

    Examples
    --------
    >>> file_path("day", "2026-01-01", 3, "ab12")
    'day=2026-01-01/b003-ab12.parquet'
    """
    name = f"b{bucket:03d}-{fingerprint}.parquet"
    return name if column is None else f"{column}={NULL_SLICE if slice_ is None else slice_}/{name}"


def parse_path(path: str) -> tuple[str | None, str | None, int, str]:
    """Take :func:`file_path` apart: storage column, slice, bucket, fingerprint.

    Raises
    ------
    TableError
        If the path was not made by :func:`file_path`.
    """
    match = _FILE.fullmatch(path)
    if match is None:
        raise TableError(
            f"{path!r} is not a file of a feature table; expected day=2026-01-01/b003-<fingerprint>.parquet."
        )
    slice_ = match["slice"]
    return (
        match["column"],
        None if slice_ == NULL_SLICE else slice_,
        int(match["bucket"]),
        match["fingerprint"],
    )


def check_slice(partition: str, slice_: str | None) -> None:
    """Refuse a slice that is not spelt as the partition wants it: it would become another folder."""
    if slice_ is None:
        return
    if partition == "none" or _SLICE[partition].fullmatch(slice_) is None:
        raise TableError(f"slice {slice_!r} does not fit partition: {partition}.")


def delta_path(path: str) -> str:
    """A path as the Delta log spells it (RFC 2396, percent-encoded)."""
    return quote(path, safe="/=-_.~")


@lru_cache(maxsize=256)
def storable(schema: pa.Schema) -> pa.Schema:
    """The schema as it is stored (:func:`featureflow.core.types.storage_type`), without metadata.

    Raises
    ------
    TableError
        For a type or a name that Delta tables don't have, or two names that differ in case only.
    """
    names: dict[str, str] = {}
    for name in schema.names:
        other = names.setdefault(name.lower(), name)
        if other != name or schema.names.count(name) > 1:
            raise TableError(
                f"columns {other!r} and {name!r} differ in case only, which Spark and Delta take for one."
            )
        if re.search(r"[ ,;{}()\n\t=]", name) or not name:
            raise TableError(
                f"column {name!r} can't be stored: no spaces and none of ,;{{}}()= in a name. Use `as:`."
            )
    return pa.schema([pa.field(field.name, _stored(field)) for field in schema])


def _stored(field: pa.Field) -> pa.DataType:
    try:
        return storage_type(field.type)
    except ValueError as error:
        raise TableError(f"column {field.name!r}: {error}") from None
