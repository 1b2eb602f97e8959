"""What the record formats (mds, litdata, tfrecord, webdataset) share: rows of a record, and whole-file compression."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.shard_format import Buffer, ShardOptions, ShardPlace
from featureflow.core.errors import ComputeError, CorruptionError
from featureflow.kernels.records import Bytes, Longs, Ragged
from featureflow.library.shards.checks import check_columns, check_compression
from featureflow.library.shards.columns import is_text, string_buffers, string_column

_GZIP = 31  # zlib's window bits for a gzip file; it writes no time and no name, so the same bytes every time
_LEVELS = {"zstd": 3, "gzip": 6}


def check_records(
    schema: pa.Schema, options: ShardOptions, *, name: str, compressions: tuple[str, ...]
) -> None:
    """Refuse what no record format holds: see `check_columns`, and bytes in blocked records.

    Raises
    ------
    ComputeError
        Naming the column or the option, and what to do.
    """
    check_columns(schema, format_name=name)
    check_compression(name, compressions, options)
    if not len(schema):
        raise ComputeError(f"export: {name} shards need a column, and there is none.")
    twice = sorted({column for column in schema.names if schema.names.count(column) > 1})
    if twice:
        raise ComputeError(
            f"export: {name} shards name columns, and {twice[0]!r} is there twice. Rename one."
        )


def is_bytes(arrow_type: pa.DataType) -> bool:
    """Whether a column of `is_text` holds bytes, not text."""
    return bool(
        pa.types.is_binary(arrow_type)
        or pa.types.is_large_binary(arrow_type)
        or pa.types.is_binary_view(arrow_type)
    )


def check_no_blocked_bytes(schema: pa.Schema, options: ShardOptions, *, name: str) -> None:
    """Refuse columns of bytes in records of several rows, which are JSON there."""
    for field in schema:
        if options.rows_per_record > 1 and is_text(field.type) and is_bytes(field.type):
            raise ComputeError(
                f"export: column {field.name!r} is {field.type}, and a record of {name} with several rows is JSON "
                "where it is text, which holds no bytes. Use `rows_per_record: 1`, or leave it out."
            )


def row_bytes(values: NDArray[Any]) -> Bytes:
    """Bytes of each row of a contiguous array, ``(n, bytes of a row)``; no copy."""
    width = values.dtype.itemsize * int(np.prod(values.shape[1:]))
    flat: Bytes = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return flat.reshape(len(values), width)


def rows_of_bytes(data: Bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Take the bytes of `row_bytes` as an array of ``(n, *shape)``; the opposite of it."""
    return np.ascontiguousarray(data).reshape(-1).view(dtype).reshape(-1, *shape)


def record_bounds(n_rows: int, rows_per_record: int) -> Longs:
    """First row of each record, and the number of rows at the end; the last record may have fewer rows."""
    return np.append(np.arange(0, n_rows, rows_per_record, dtype=np.int64), np.int64(n_rows))


def blocked(values: NDArray[Any], bounds: Longs) -> Ragged:
    """Bytes of the rows of each record, one row after another; no copy."""
    rows = row_bytes(values)
    return Ragged(rows.reshape(-1), bounds * rows.shape[1])


def ragged(parts: list[bytes]) -> Ragged:
    """Bytes of each record, given one by one."""
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return Ragged(np.frombuffer(b"".join(parts), np.uint8), offsets)


def decimals(values: NDArray[Any]) -> Ragged:
    """Whole numbers as text."""
    offsets, data = string_buffers(pa.array(values).cast(pa.large_string()))
    return Ragged(data, offsets)


def json_lists(offsets: Longs, data: Bytes, bounds: Longs, *, ascii_only: bool = True) -> Ragged:
    """Texts of each record as a JSON list."""
    texts = string_column(offsets, data, pa.large_string()).to_pylist()
    return ragged(
        [json.dumps(texts[a:b], ensure_ascii=ascii_only).encode() for a, b in pairwise(bounds.tolist())]
    )


def texts_of_json(lists: Ragged, arrow_type: pa.DataType) -> pa.Array:
    """Texts of all records; the opposite of `json_lists`."""
    data = lists.data.tobytes()
    texts = [text for a, b in pairwise(lists.offsets.tolist()) for text in json.loads(data[a:b])]
    return pa.array(texts, arrow_type)


def compress(data: Bytes, compression: str) -> Buffer:
    """Compress a whole file; ``none`` gives it back as it is.

    Notes
    -----
    Determinism: the same bytes from the same release of zlib or zstd; another release may pack them otherwise.
    """
    if compression == "none":
        return data
    if compression == "gzip":
        packer = zlib.compressobj(_LEVELS["gzip"], zlib.DEFLATED, _GZIP)
        return packer.compress(data.data) + packer.flush()
    return pa.Codec(compression, _LEVELS[compression]).compress(pa.py_buffer(data))


def decompress(data: Buffer, compression: str, size: int, *, path: str) -> Bytes:
    """Undo `compress`; ``size`` is that of the result.

    Raises
    ------
    CorruptionError
        If it is not what `compress` made.
    """
    try:
        if compression == "gzip":
            data = zlib.decompress(data, _GZIP)
        elif compression != "none":
            data = pa.Codec(compression).decompress(pa.py_buffer(data), decompressed_size=size)
    except (zlib.error, OSError, pa.ArrowException) as error:
        raise CorruptionError(f"{path}: not whole: {error}. Export again.") from error
    found = np.frombuffer(data, np.uint8)
    if found.size != size:
        raise CorruptionError(f"{path}: {found.size} bytes, and {size} were written. Export again.")
    return found


def main_file(files: Mapping[str, Buffer], place: ShardPlace, suffix: str) -> tuple[str, Buffer]:
    """Path and bytes of the shard's own file among those of `encode`."""
    path = place.stem + suffix
    if path not in files:
        raise CorruptionError(f"{path} is not there. Export again.")
    return path, files[path]


def count_and_offsets(n_records: int, offsets: Longs, extra: bytes, *, path: str) -> bytes:
    """The head that mds and litdata share: the number of records, where each starts and the last ends, ``extra``.

    Raises
    ------
    ComputeError
        If the file would have 4 GiB or more: the offsets have 32 bits.
    """
    first = 4 * (n_records + 2) + len(extra)
    if first + int(offsets[-1]) >= 1 << 32:
        raise ComputeError(
            f"export: {path} would have {first + int(offsets[-1]):,} bytes, and its format counts them in 32 bits. "
            "Give a smaller `shard_size`."
        )
    return np.uint32(n_records).tobytes() + (offsets + first).astype(np.uint32).tobytes() + extra


def record_offsets(data: Bytes, *, path: str) -> Longs:
    """Read the head of `count_and_offsets`: where each record starts and the last ends, inside ``data``.

    Raises
    ------
    CorruptionError
        If the file is cut off or its offsets do not rise up to its end.
    """
    count = int(data[:4].view(np.uint32)[0]) if data.size >= 4 else 0
    if data.size < 4 * (count + 2):
        raise CorruptionError(f"{path}: cut off within its offsets. Export again.")
    offsets = np.frombuffer(data, np.uint32, count + 1, 4).astype(np.int64)
    if offsets[0] < 4 * (count + 2) or (np.diff(offsets) < 0).any() or offsets[-1] != data.size:
        raise CorruptionError(f"{path}: its offsets do not lead to its end. Export again.")
    return offsets
