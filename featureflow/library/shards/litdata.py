"""Shards for Lightning's litdata (experimental: its index grows keys from release to release).

What a column is there: whole numbers and times `int`, floats `float` (64 bits: exact for narrower ones), booleans
`bool`, text `str`, bytes `bytes`, lists of one shape NumPy arrays of their own dtype. Times are microseconds since
1970 in UTC, dates days. With `rows_per_record: n` an item is up to n rows: arrays of shape (n, …), text as lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.shard_format import Buffer, Encoded, ShardOptions, ShardPlace
from featureflow.core.errors import ComputeError, CorruptionError
from featureflow.kernels.records import Bytes, Longs, Part, Ragged, gather_bytes, gather_fixed, interleave
from featureflow.library.shards.blocks import (
    blocked,
    check_no_blocked_bytes,
    check_records,
    compress,
    count_and_offsets,
    decompress,
    is_bytes,
    json_lists,
    main_file,
    ragged,
    record_bounds,
    record_offsets,
    row_bytes,
    rows_of_bytes,
    texts_of_json,
)
from featureflow.library.shards.columns import (
    arrow_column,
    element_type_and_shape,
    is_text,
    numpy_column,
    numpy_dtype,
    string_buffers,
    string_column,
)

#: the library's numbers of dtypes: their places in a list of its own, checked against it by the tests with readers
_DTYPE_NUMBERS = {
    "int8": 0,
    "int16": 1,
    "int32": 2,
    "int64": 3,
    "uint8": 4,
    "uint16": 5,
    "uint32": 6,
    "uint64": 7,
    "float16": 8,
    "float32": 9,
    "float64": 10,
    "bool": 13,
}
_SCALARS = {"b": "bool", "i": "int", "u": "int", "f": "float"}


def _array_shape(field: pa.Field, options: ShardOptions) -> tuple[int, ...] | None:
    """Shape of an item's array, 0 for its number of rows; None where it is a Python number."""
    shape = element_type_and_shape(field.type)[1]
    if options.rows_per_record > 1:
        return (0, *shape)
    return shape or None


def _kind(field: pa.Field, options: ShardOptions) -> tuple[str, Any]:
    """The library's names of a column's serializer and of its type."""
    if is_text(field.type):
        kind = "bytes" if is_bytes(field.type) else "str"
        return ("json", {"type": "list", "value": kind}) if options.rows_per_record > 1 else (kind, kind)
    dtype, shape = numpy_dtype(field.type), _array_shape(field, options)
    if shape is None:
        return _SCALARS[dtype.kind], _SCALARS[dtype.kind]
    return ("numpy" if len(shape) > 1 else f"no_header_numpy:{_DTYPE_NUMBERS[dtype.name]}"), "json"


def _stored_dtype(field: pa.Field, options: ShardOptions) -> np.dtype[Any]:
    dtype = numpy_dtype(field.type)
    if _array_shape(field, options) is not None or dtype.kind == "b":
        return dtype
    return np.dtype(np.float64 if dtype.kind == "f" else np.int64)


def _scalars(values: NDArray[Any], stored: np.dtype[Any], name: str) -> NDArray[Any]:
    """Python's numbers: int64, float64, bool."""
    if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
        raise ComputeError(
            f"export: column {name!r} is uint64 with values above 2^63 - 1, which an `int` of litdata can't hold. "
            "Cast it in `derive:`, or use `format: arrow`."
        )
    return np.ascontiguousarray(values, stored)


def _array_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return np.array([_DTYPE_NUMBERS[dtype.name], len(shape), *shape], np.uint32).tobytes()


def _parts(table: pa.Table, field: pa.Field, bounds: Longs, options: ShardOptions) -> list[Part]:
    """A column's bytes in each record."""
    column = table[field.name]
    if is_text(field.type):
        offsets, data = string_buffers(column, name=field.name)
        if options.rows_per_record > 1:
            return [json_lists(offsets, data, bounds, ascii_only=False)]
        return [Ragged(data, offsets)]
    values, shape = numpy_column(column, name=field.name), _array_shape(field, options)
    if shape is None:
        return [row_bytes(_scalars(values, _stored_dtype(field, options), field.name))]
    if options.rows_per_record == 1:
        header = [_array_header(values.dtype, shape)] if len(shape) > 1 else []
        return [*header, row_bytes(values)]
    rows = blocked(values, bounds)
    if len(shape) == 1:
        return [rows]
    headers = [_array_header(values.dtype, (int(n), *values.shape[1:])) for n in np.diff(bounds)]
    return [ragged(headers), rows]


def _length(parts: list[Part], n: int) -> Longs:
    total = np.zeros(n, np.int64)
    for part in parts:
        total += (
            part.lengths
            if isinstance(part, Ragged)
            else len(part)
            if isinstance(part, bytes)
            else part.shape[1]
        )
    return total


class Litdata:
    """Lightning's litdata: ``StreamingDataset("…/train")``; experimental.

    Notes
    -----
    Order: columns as in the dataset.
    A shard has less than 4 GiB; one without rows is left out of ``index.json``: the library can't open it.
    Determinism: chunks with an array in them equal the library's own, byte for byte. Of rows of Python numbers and
    text alone its newest writer makes Arrow files; ours are always the plain chunks that it reads as well.
    Cost: 1 to 2 copies of the rows; 37 times as fast as the library's writer (CPU, docs/benchmarks.md).
    """

    name = "litdata"
    suffix = ".bin"
    compressions = ("none", "zstd")
    records = True
    equal_shards = False

    def check(self, schema: pa.Schema, options: ShardOptions) -> None:
        """Raise `ComputeError` for lists of varying length, decimals, structs, and bytes in blocked records."""
        check_records(schema, options, name=self.name, compressions=self.compressions)
        check_no_blocked_bytes(schema, options, name=self.name)

    def encode(self, table: pa.Table, place: ShardPlace, options: ShardOptions) -> Encoded:
        """Encode one shard."""
        bounds = record_bounds(table.num_rows, options.rows_per_record)
        n = bounds.size - 1
        columns = [_parts(table, field, bounds, options) for field in table.schema]
        sizes = np.stack([_length(parts, n) for parts in columns], axis=1).astype(np.uint32)
        parts = [row_bytes(sizes), *(part for column in columns for part in column)]
        body, offsets = interleave(parts, n)
        head = count_and_offsets(n, offsets, b"", path=place.stem + self.suffix)
        entry = {"items": n, "raw_bytes": len(head) + body.size}
        if options.compression == "none":
            return Encoded({place.stem + self.suffix: [head, body]}, entry)
        raw = np.concatenate([np.frombuffer(head, np.uint8), body])
        return Encoded({place.stem + self._suffix(options): [compress(raw, options.compression)]}, entry)

    def index(
        self,
        split: str,
        places: Sequence[ShardPlace],
        entries: Sequence[Mapping[str, Any]],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> dict[str, bytes]:
        """``index.json`` in the split's folder."""
        chunks = [
            {
                "chunk_bytes": entry["raw_bytes"],
                "chunk_size": entry["items"],
                "dim": None,
                "filename": place.stem.rpartition("/")[2] + self._suffix(options),
            }
            for place, entry in zip(places, entries, strict=True)
            if entry["items"]
        ]
        kinds = [_kind(field, options) for field in schema]
        leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
        tree = {
            "type": "builtins.dict",
            "context": json.dumps(schema.names),
            "children_spec": [leaf] * len(schema),
        }
        config = {
            "chunk_bytes": None,
            "chunk_size": max((entry["items"] for entry in entries), default=0),
            "compression": None if options.compression == "none" else options.compression,
            "compression_batch_size": None,
            "compression_level": None,
            "data_format": [serializer for serializer, _ in kinds],
            "data_spec": json.dumps([1, tree]),
            "encryption": None,
            "ipc_compression": None,
            "item_loader": "PyTreeLoader",
            "types": dict(zip(schema.names, (kind for _, kind in kinds), strict=True)),
        }
        text = json.dumps({"chunks": chunks, "config": config}, sort_keys=True)
        return {f"{split}/index.json": text.encode()}

    def decode(
        self,
        files: Mapping[str, Buffer],
        place: ShardPlace,
        entry: Mapping[str, Any],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> pa.Table:
        """Read a shard back."""
        path, packed = main_file(files, place, self._suffix(options))
        data = decompress(packed, options.compression, entry["raw_bytes"], path=path)
        offsets = record_offsets(data, path=path)
        try:
            columns = _columns(data, offsets, schema, options)
        except (ValueError, ComputeError) as error:
            raise CorruptionError(f"{path}: {error} Export again.") from error
        return pa.table(columns, schema=schema)

    def _suffix(self, options: ShardOptions) -> str:
        # the library looks for the compression before the suffix
        return self.suffix if options.compression == "none" else f".{options.compression}{self.suffix}"


def _columns(data: Bytes, offsets: Longs, schema: pa.Schema, options: ShardOptions) -> list[pa.Array]:
    sizes = gather_fixed(data, offsets[:-1], 4 * len(schema)).reshape(-1).view(np.uint32)
    at = offsets[:-1] + 4 * len(schema)
    columns = []
    for field, lengths in zip(schema, sizes.reshape(-1, len(schema)).T.astype(np.int64), strict=True):
        columns.append(_column(gather_bytes(data, at, lengths), field, options))
        at = at + lengths
    if (at != offsets[1:]).any():
        raise ValueError("its records are longer or shorter than their columns.")
    return columns


def _column(part: Ragged, field: pa.Field, options: ShardOptions) -> pa.Array:
    if is_text(field.type):
        if options.rows_per_record > 1:
            return texts_of_json(part, field.type)
        return string_column(part.offsets, part.data, field.type)
    shape, stored = _array_shape(field, options), _stored_dtype(field, options)
    if shape is not None and len(shape) > 1:
        header = 4 * (2 + len(shape))
        part = gather_bytes(part.data, part.offsets[:-1] + header, part.lengths - header)
    values = rows_of_bytes(part.data, stored, element_type_and_shape(field.type)[1])
    return arrow_column(values.astype(numpy_dtype(field.type), copy=False), field.type)


FORMAT = Litdata()
