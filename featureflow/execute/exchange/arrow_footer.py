"""Where the record batches of an Arrow file lie: what is needed to read one of them by its range of bytes.

Arrow's own reader opens whole files; from an object store or another host we want one batch of each of many files,
with one request each. The footer says where it is; this reads it. The layout is that of the published format (a
flatbuffer ``Footer``); that of the files is what `featureflow.execute.exchange.exchange_file.write_buckets` writes.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

_MAGIC = b"ARROW1"
#: A batch's checksum stands in its message behind this.
_TAG = b"xxh3:"
_SIGNED = re.compile(_TAG + rb"[0-9a-f]{16}")
#: At the end: length of the footer, magic.
_END = 4 + len(_MAGIC)
#: Between the last batch and the footer: a continuation mark without a length.
_END_OF_STREAM = 8
_BLOCK = np.dtype([("offset", "<i8"), ("metadata", "<i4"), ("unused", "<i4"), ("body", "<i8")])
#: Field of the flatbuffer's table that lists the record batches.
_BATCHES = 3


@dataclass(frozen=True, slots=True)
class Footer:
    """Footer of an Arrow file: its schema (with metadata), and where each batch begins and how long it is."""

    schema: pa.Schema
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    file_bytes: int


def footer_bytes(tail: bytes) -> int:
    """How many bytes at the end of the file the footer takes, told by at least its last 10 bytes.

    Raises
    ------
    ValueError
        If this is not the end of an Arrow file.
    """
    if len(tail) < _END or tail[-len(_MAGIC) :] != _MAGIC:
        raise ValueError("not the end of an Arrow file")
    (length,) = struct.unpack_from("<i", tail, len(tail) - _END)
    if length <= 0:
        raise ValueError("not the end of an Arrow file")
    return int(length) + _END


def parse_footer(tail: bytes) -> Footer:
    """Read the footer from the last bytes of a file; there must be at least `footer_bytes` of them.

    Raises
    ------
    ValueError
        If it is damaged, or not all of it is there.
    """
    size = footer_bytes(tail)
    if size > len(tail):
        raise ValueError(f"the footer has {size} bytes, {len(tail)} were given")
    footer = tail[-size:]
    try:
        offset, metadata, body = _blocks(footer)
        with pa.ipc.open_file(pa.py_buffer(_MAGIC + b"\0\0" + footer)) as reader:
            schema = reader.schema
    except (struct.error, pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the footer is damaged: {error}") from error
    lengths = metadata.astype(np.int64) + body
    if len(offset) and (offset.min() < 0 or metadata.min() < 0 or body.min() < 0):
        raise ValueError("the footer is damaged: a batch begins before the file, or has a negative length")
    end = int(offset[-1] + lengths[-1]) if len(offset) else 0
    return Footer(schema, offset.astype(np.int64), lengths, end + _END_OF_STREAM + size)


def _blocks(footer: bytes) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    (root,) = struct.unpack_from("<I", footer, 0)
    (back,) = struct.unpack_from("<i", footer, root)
    table = root - back
    (table_bytes,) = struct.unpack_from("<H", footer, table)
    slot = 4 + 2 * _BATCHES
    (field,) = struct.unpack_from("<H", footer, table + slot) if slot < table_bytes else (0,)
    if field == 0:
        none = np.empty(0, _BLOCK)
        return none["offset"], none["metadata"], none["body"]
    at = root + field
    (relative,) = struct.unpack_from("<I", footer, at)
    (count,) = struct.unpack_from("<I", footer, at + relative)
    try:
        blocks = np.frombuffer(footer, _BLOCK, count, at + relative + 4)
    except ValueError as error:
        raise struct.error(str(error)) from error
    return blocks["offset"], blocks["metadata"], blocks["body"]


def signed(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[bytes, bytes]]:
    """A batch as a reader of it will see it, and what to write beside it: a checksum, which `checked` looks at.

    Cost: one copy of the batch, and hashing at about 10 GB/s.
    """
    plain = pa.ipc.read_record_batch(batch.serialize(), batch.schema)
    return plain, {b"sum": _TAG + _sum(plain)}


def checked(batch: pa.RecordBatch, tag: bytes | None) -> pa.RecordBatch:
    """The batch, if it is the one that was written; batches without a checksum are taken as they are.

    Raises
    ------
    ValueError
        If it is another one: a bit has changed on the disk, or on the way.
    """
    if tag is not None and tag != _TAG + _sum(batch):
        raise ValueError("a slice is damaged: its checksum differs")
    return batch


def _sum(batch: pa.RecordBatch) -> bytes:
    digest = xxhash.xxh3_64(f"{batch.schema.remove_metadata()} {batch.num_rows}".encode())
    for column in batch.columns:
        digest.update(f"{len(column)} {column.null_count}".encode())
        for buffer in column.buffers():
            digest.update(b"-" if buffer is None else buffer)
    return digest.hexdigest().encode()


def read_message(message: pa.Buffer | bytes, schema: pa.Schema) -> pa.RecordBatch:
    """Give the batch that lies in these bytes of a file, without a copy.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        read = pa.ipc.read_message(pa.py_buffer(message))
        found = _SIGNED.search(read.metadata)
        return checked(pa.ipc.read_record_batch(read, schema), found[0] if found else None)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"a slice is damaged: {error}") from error
