"""What a version remembers: ``<name>.json`` for people, ``<name>.files`` for its files and their statistics.

Both are written once, before the commit that points to them, and are covered by digests: the commit knows the
record's, the record knows the files'.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from io import BytesIO
from typing import Any

import pyarrow as pa

from featureflow.core import storage
from featureflow.core.errors import CorruptionError, TableError
from featureflow.core.fingerprints import canonical_json
from featureflow.tables import layout
from featureflow.tables.parquet_files import StagedFile

FORMAT = 1
"""Raised when an older featureflow could misread a record."""

_FILES_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("footer_digest", pa.string()),
        pa.field("schema_hash", pa.string()),
        pa.field("delta_stats", pa.string()),
        pa.field("columns_json", pa.string()),
    ]
)


#: Files are packed and unpacked so many at a time: a table has 100,000, with kilobytes of statistics each.
_BATCH_FILES = 4096


def digest(data: bytes) -> str:
    """Digest of a small object."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def write_record(table_url: str, record: dict[str, Any], files: list[StagedFile]) -> tuple[str, str]:
    """Write both parts; gives the record's name, relative to the table, and its digest.

    The name holds the version that the build hopes for, the build and a random part: a build that lost a race tries
    again under a new name, and never writes over what another process may be reading.
    """
    name = f"{layout.RECORDS}/{record['version']:09d}-{record['build']}-{uuid.uuid4().hex[:8]}"
    packed = _pack(files)
    record = {"format": FORMAT, **record, "files_digest": digest(packed)}
    text = _lines(record)
    for suffix, data in ((".files", packed), (".json", text)):
        if not storage.write_new(storage.join(table_url, name + suffix), data):
            raise TableError(
                f"{table_url}/{name}{suffix} is there already, although its name is random. Try again."
            )
    return name, digest(text)


def _lines(record: dict[str, Any]) -> bytes:
    """JSON with a line for each entry: indented all through, the list of 100,000 inputs takes seconds and 100 MB."""
    content = BytesIO()
    for place, name in enumerate(sorted(record)):
        content.write(b",\n" if place else b"{\n")
        content.write(f" {json.dumps(name)}: ".encode())
        content.write(json.dumps(record[name], sort_keys=True, allow_nan=False).encode())
    content.write(b"\n}")
    return content.getvalue()


def read_record(table_url: str, name: str, expected_digest: str) -> dict[str, Any]:
    """Read a record.

    Raises
    ------
    CorruptionError
        If its bytes are not those that the commit points to.
    TableError
        If it was written by a newer featureflow.
    """
    data = _read(table_url, f"{name}.json", expected_digest)
    record: dict[str, Any] = json.loads(data)
    if record["format"] > FORMAT:
        raise TableError(
            f"{table_url}: {name} was written by a newer featureflow (record format {record['format']}; "
            f"this one reads up to {FORMAT}). Upgrade featureflow."
        )
    return record


def read_files(table_url: str, name: str, record: dict[str, Any]) -> list[StagedFile]:
    """The files of a version, sorted by path."""
    data = _read(table_url, f"{name}.files", record["files_digest"])
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        return [
            StagedFile.of(**row)
            for i in range(reader.num_record_batches)
            for row in reader.get_batch(i).to_pylist()
        ]


def _read(table_url: str, name: str, expected_digest: str) -> bytes:
    try:
        data = storage.read_bytes(storage.join(table_url, name))
    except FileNotFoundError as error:
        raise CorruptionError(f"{table_url}/{name}: is missing, though a version points to it.") from error
    if digest(data) != expected_digest:
        raise CorruptionError(
            f"{table_url}/{name}: its bytes are not those that were written (digest differs)."
        )
    return data


def _pack(files: list[StagedFile]) -> bytes:
    ordered = sorted(files, key=lambda f: f.path)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, _FILES_SCHEMA, options=options) as writer:
        for start in range(0, len(ordered), _BATCH_FILES):
            some = ordered[start : start + _BATCH_FILES]
            arrays = [
                pa.array([getattr(file, field.name) for file in some], field.type) for field in _FILES_SCHEMA
            ]
            writer.write_batch(pa.record_batch(arrays, schema=_FILES_SCHEMA))
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def sealed(content: dict[str, Any]) -> bytes:
    """A small JSON object with a digest of itself."""
    text = canonical_json({**content, "digest": digest(canonical_json(content).encode())})
    return text.encode() + b"\n"


def unseal(data: bytes, where: str) -> dict[str, Any]:
    """Read what :func:`sealed` wrote.

    Raises
    ------
    CorruptionError
        If any byte changed.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        given = content.pop("digest")
        whole = digest(canonical_json(content).encode()) == given and sealed(content) == data
    except (ValueError, KeyError, AttributeError, TypeError):
        whole = False
    if not whole:
        raise CorruptionError(
            f"{where}: its bytes are not those that were written. `featureflow verify` says what else is."
        )
    return content
