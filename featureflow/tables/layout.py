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

Names that begin with an underscore are invisible to Delta readers and to Delta's vacuum.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import pyarrow as pa

from featureflow.core.errors import TableError

PARTITIONS = ("day", "month", "year", "none")
NULL_SLICE = "__HIVE_DEFAULT_PARTITION__"
RECORDS = "_ff/records"
VERSIONS = "_ff/versions"
TAGS = "_ff/tags"
EXPIRED = "_ff/expired"
LOG = "_delta_log"

_FILE = re.compile(
    r"(?:(?P<column>[a-z_]+)=(?P<slice>[^/]+)/)?b(?P<bucket>\d{3,})-(?P<fingerprint>[0-9a-f]+)\.parquet"
)
_SLICE = {
    "day": re.compile(r"-?\d{4,6}-\d\d-\d\d"),
    "month": re.compile(r"-?\d{4,6}-\d\d"),
    "year": re.compile(r"-?\d{4,6}"),
}
_WIDENED = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}
_PLAIN = (
    pa.types.is_boolean,
    pa.types.is_signed_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_string,
    pa.types.is_binary,
    pa.types.is_date32,
)


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


def storable(schema: pa.Schema) -> pa.Schema:
    """The schema as it is stored: types that every reader of the table gives back unchanged.

    Unsigned integers become the next larger signed type, large and view strings plain ones, dictionaries
    their values. Nothing that loses a value is done: such a type is an error.

    Raises
    ------
    TableError
        For a type without a lossless place in a Delta table, or two names that differ in case only.
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
                f"column {name!r} can't be stored: a Delta name has no space and none of , ; {{ }} ( ) =. Use `as:`."
            )
    return pa.schema([pa.field(field.name, _storable(field.type, field.name)) for field in schema])


def _storable(kind: pa.DataType, name: str) -> pa.DataType:
    if kind in _WIDENED:
        return _WIDENED[kind]
    if pa.types.is_dictionary(kind):
        return _storable(kind.value_type, name)
    if pa.types.is_timestamp(kind) and kind.unit == "us" and kind.tz in ("UTC", "+00:00"):
        return pa.timestamp("us", "UTC")
    if pa.types.is_decimal128(kind) or any(test(kind) for test in _PLAIN):
        return kind
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", _storable(kind.value_type, name)))
    if pa.types.is_map(kind):
        return pa.map_(_storable(kind.key_type, name), _storable(kind.item_type, name))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _storable(f.type, f"{name}.{f.name}")) for f in kind])
    hint = " Times are timestamp[us, UTC]." if pa.types.is_timestamp(kind) else " Cast it with `derive:`."
    raise TableError(f"column {name!r}: type {kind} has no lossless place in a Delta table.{hint}")
