"""Shards as plain NumPy files, one for each column: ``numpy.load`` is all that a reader needs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow.contracts.shard_format import Buffer, Encoded, ShardOptions, ShardPlace
from featureflow.core.errors import ComputeError, CorruptionError
from featureflow.library.shards.checks import check_columns, check_compression, check_file_names
from featureflow.library.shards.columns import (
    arrow_column,
    element_type_and_shape,
    is_text,
    numpy_column,
    string_buffers,
    string_column,
)

Array = np.ndarray[Any, Any]


class Npy:
    """One ``.npy`` file for each column and shard, ``train/<column>/part-00000-of-00032.npy``; never pickled.

    Times are ``datetime64[us]`` (UTC), dates ``datetime64[D]``, durations ``timedelta64[us]``. Text has two files,
    ``<column>.bytes`` (UTF-8) and ``<column>.offsets`` (int64, one more than rows): NumPy's own text types would have
    another width in every shard, cost four bytes a letter of the longest value, and lose zeros at the end.
    """

    name = "npy"
    suffix = ".npy"
    compressions = ("none",)
    records = False
    equal_shards = False

    def check(self, schema: pa.Schema, options: ShardOptions) -> None:
        """Refuse what is no array of one shape, names that are no file names, and compression."""
        check_compression(self.name, self.compressions, options)
        check_columns(schema, format_name=self.name)
        check_file_names(schema, format_name=self.name)
        seen: set[str] = set()
        for field in schema:
            folders = set(_folders(field))
            if folders & seen:
                raise ComputeError(
                    f"export: column {field.name!r} is one of two that npy shards would write to the same folder. "
                    "Rename it."
                )
            seen |= folders

    def encode(self, table: pa.Table, place: ShardPlace, options: ShardOptions) -> Encoded:
        """Write the files; numbers are not copied."""
        files: dict[str, list[Buffer]] = {}
        for field, column in zip(table.schema, table.columns, strict=True):
            for path, values in zip(_paths(field, place), _arrays(field, column), strict=True):
                files[path] = [_header(values.dtype, values.shape), values.reshape(-1).view(np.uint8)]
        return Encoded(files)

    def index(
        self,
        split: str,
        places: Sequence[ShardPlace],
        entries: Sequence[Mapping[str, Any]],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> dict[str, bytes]:
        """None: each file says all about itself."""
        return {}

    def decode(
        self,
        files: Mapping[str, Buffer],
        place: ShardPlace,
        entry: Mapping[str, Any],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> pa.Table:
        """Read the files; numbers are views of them."""
        columns = []
        for field in schema:
            arrays = [_load(files[path], path) for path in _paths(field, place)]
            if is_text(field.type):
                columns.append(string_column(arrays[0], arrays[1], field.type))
                continue
            values = arrays[0].view(np.int64) if arrays[0].dtype.kind in "mM" else arrays[0]
            if pa.types.is_date32(element_type_and_shape(field.type)[0]):
                values = values.astype(np.int32)  # NumPy's days are int64
            columns.append(arrow_column(values, field.type))
        return pa.Table.from_arrays(columns, schema=schema)


def _folders(field: pa.Field) -> list[str]:
    return [f"{field.name}.offsets", f"{field.name}.bytes"] if is_text(field.type) else [field.name]


def _paths(field: pa.Field, place: ShardPlace) -> list[str]:
    split, _, part = place.stem.rpartition("/")
    return ["/".join(filter(None, (split, folder, f"{part}.npy"))) for folder in _folders(field)]


def _arrays(field: pa.Field, column: pa.ChunkedArray) -> Iterator[Array]:
    """Arrays to store, in the order of `_folders`."""
    if is_text(field.type):
        yield from string_buffers(column, name=field.name)
        return
    values = numpy_column(column, name=field.name)
    element = element_type_and_shape(field.type)[0]
    if pa.types.is_timestamp(element):
        yield values.view("<M8[us]")
    elif pa.types.is_duration(element):
        yield values.view("<m8[us]")
    elif pa.types.is_date32(element):
        yield values.astype(np.int64).view("<M8[D]")
    else:
        yield values


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Head of a file of version 1.0; written here because NumPy's own padding differs between its versions."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def _load(data: Buffer, path: str) -> Array:
    view = memoryview(data).cast("B")
    try:
        head = io.BytesIO(view[: 10 + int.from_bytes(view[8:10], "little")])
        version = np.lib.format.read_magic(head)
        shape, _, dtype = np.lib.format.read_array_header_1_0(head)
        values: Array = np.frombuffer(view[head.tell() :], dtype).reshape(shape)
    except ValueError as error:
        raise CorruptionError(f"{path} is not a whole NumPy file: {error}. Export again.") from error
    if version != (1, 0):
        raise CorruptionError(f"{path} is a NumPy file of version {version}, not one that was exported.")
    return values


FORMAT = Npy()
