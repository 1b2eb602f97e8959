"""Shards as chunks of Zarr 3 arrays: one group for each split, one array for each column, one chunk for each shard."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
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
    numpy_dtype,
    string_buffers,
    string_column,
)

Array = np.ndarray[Any, Any]

_LEVEL = 1
#: gzip, which the standard has, too, is left out: at 0.1 million rows a second it is 20 times slower and no smaller
_CODECS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "zstd": [{"name": "zstd", "configuration": {"level": _LEVEL, "checksum": False}}],
}
#: CF's names of what integers mean, which xarray turns into times
_TIMES = {"calendar": "proleptic_gregorian"}


class Zarr:
    """A Zarr 3 group for each split that ``zarr.open_group`` and ``xarray.open_zarr`` open as it is.

    Times are int64 microseconds and dates int32 days since 1970, with CF attributes, so that xarray shows times.
    The chunks of an array have one size: shards have equal numbers of rows, and the last chunk is filled up, as the
    standard wants it.
    """

    name = "zarr"
    suffix = ".zarr"
    compressions = tuple(_CODECS)
    records = False
    equal_shards = True

    def check(self, schema: pa.Schema, options: ShardOptions) -> None:
        """Refuse what is no array of one shape, names that are no names of arrays, and unknown compressions."""
        check_compression(self.name, self.compressions, options)
        check_columns(schema, format_name=self.name)
        check_file_names(schema, format_name=self.name)
        for field in schema:
            element = element_type_and_shape(field.type)[0]
            if pa.types.is_binary(element) or pa.types.is_large_binary(element):
                raise ComputeError(
                    f"export: column {field.name!r} is {field.type}, and Zarr 3 has no type for bytes. "
                    "Leave it out, or use `format: arrow`."
                )

    def encode(self, table: pa.Table, place: ShardPlace, options: ShardOptions) -> Encoded:
        """Write one chunk of each array; numbers are not copied without compression.

        An empty shard has no files: there is no chunk without rows.

        Raises
        ------
        ComputeError
            If the shard's rows are not those of one chunk of the split.
        """
        chunk = _chunk_rows(place)
        expected = max(0, min(chunk, place.split_rows - place.number * chunk))
        if place.first_row != place.number * chunk or table.num_rows != expected:
            raise ComputeError(
                f"{place.stem}: {table.num_rows:,} rows from {place.first_row:,}; zarr shards need equal numbers of "
                f"rows: here {expected:,} from {place.number * chunk:,}."
            )
        if not table.num_rows:
            return Encoded({})
        files: dict[str, list[Buffer]] = {}
        for field, column in zip(table.schema, table.columns, strict=True):
            if is_text(field.type):
                content: list[Buffer] = [_text_chunk(*string_buffers(column, name=field.name), chunk)]
            else:
                values = numpy_column(column, name=field.name)
                content = [values.reshape(-1).view(np.uint8)]
                if missing := (chunk - len(values)) * (values.nbytes // len(values)):
                    content.append(bytes(missing))
            files[_chunk_path(field, place)] = _compress(content, options)
        return Encoded(files)

    def index(
        self,
        split: str,
        places: Sequence[ShardPlace],
        entries: Sequence[Mapping[str, Any]],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> dict[str, bytes]:
        """The split's ``zarr.json`` with the metadata of all its arrays, and one for each array.

        A split without shards is a group of arrays without rows.
        """
        place = places[0] if places else ShardPlace(split, 0, 1, 0, 0)
        arrays = {field.name: _array_metadata(field, place, options) for field in schema}
        # kept in the group, too, as zarr-python and xarray do it: one request opens the group on any store
        together = {"kind": "inline", "must_understand": False, "metadata": arrays}
        group = {"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": together}
        metadata = {"": group, **arrays}
        return {
            "/".join(filter(None, (split, name, "zarr.json"))): (json.dumps(node, indent=2) + "\n").encode()
            for name, node in metadata.items()
        }

    def decode(
        self,
        files: Mapping[str, Buffer],
        place: ShardPlace,
        entry: Mapping[str, Any],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> pa.Table:
        """Read the chunks; numbers are views of them without compression."""
        chunk = _chunk_rows(place)
        rows = max(0, min(chunk, place.split_rows - place.number * chunk))
        if not rows:
            return schema.empty_table()
        columns = []
        for field in schema:
            path = _chunk_path(field, place)
            try:
                content = _decompress(files[path], options, field, chunk)
                if is_text(field.type):
                    columns.append(string_column(*_text_of_chunk(content, rows), field.type))
                    continue
                shape = element_type_and_shape(field.type)[1]
                values = np.frombuffer(content, numpy_dtype(field.type)).reshape(chunk, *shape)
            except (ValueError, OSError, struct.error) as error:
                raise CorruptionError(f"{path} is not a whole chunk: {error}. Export again.") from error
            columns.append(arrow_column(values[:rows], field.type))
        return pa.Table.from_arrays(columns, schema=schema)


def _chunk_rows(place: ShardPlace) -> int:
    return max(1, -(-place.split_rows // place.count))


def _chunk_path(field: pa.Field, place: ShardPlace) -> str:
    zeros = ["0" for _ in element_type_and_shape(field.type)[1]]
    return "/".join(filter(None, (place.split, field.name, "c", str(place.number), *zeros)))


def _array_metadata(field: pa.Field, place: ShardPlace, options: ShardOptions) -> dict[str, Any]:
    element, shape = element_type_and_shape(field.type)
    if is_text(element):
        data_type, fill, serializer = "string", "", {"name": "vlen-utf8", "configuration": {}}
    else:
        dtype = numpy_dtype(element)
        data_type, fill = dtype.name, np.zeros((), dtype).item()
        serializer = {"name": "bytes"}
        if dtype.itemsize > 1:
            serializer["configuration"] = {"endian": "little"}
    attributes: dict[str, str] = {}
    if pa.types.is_timestamp(element):
        attributes = {"units": "microseconds since 1970-01-01", **_TIMES}
    elif pa.types.is_date32(element):
        attributes = {"units": "days since 1970-01-01", **_TIMES}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [place.split_rows, *shape],
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [_chunk_rows(place), *shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [serializer, *_CODECS[options.compression]],
        "attributes": attributes,
        "dimension_names": ["row", *(f"{field.name}_axis{i}" for i in range(1, len(shape) + 1))],
        "storage_transformers": [],
    }


def _compress(content: list[Any], options: ShardOptions) -> list[Any]:
    if options.compression == "none":
        return content
    whole = content[0] if len(content) == 1 else b"".join(content)
    return [pa.Codec("zstd", compression_level=_LEVEL).compress(pa.py_buffer(whole))]


def _decompress(data: Buffer, options: ShardOptions, field: pa.Field, chunk: int) -> Any:
    if options.compression == "none":
        return data
    if is_text(field.type):
        return pa.input_stream(pa.py_buffer(data), compression="zstd").read()
    shape = element_type_and_shape(field.type)[1]
    size = chunk * numpy_dtype(field.type).itemsize * int(np.prod(shape, dtype=np.int64))
    return pa.Codec("zstd").decompress(pa.py_buffer(data), decompressed_size=size)


def _text_chunk(offsets: Array, data: Array, chunk: int) -> Array:
    """``vlen-utf8``: the number of values, then length and bytes of each, lengths as uint32."""
    lengths = np.zeros(chunk, "<u4")
    lengths[: len(offsets) - 1] = np.diff(offsets)
    before = np.full(chunk, offsets[-1])  # bytes of text before each value
    before[: len(offsets) - 1] = offsets[:-1]
    content = np.empty(4 + 4 * chunk + len(data), np.uint8)
    content[:4] = np.array([chunk], "<u4").view(np.uint8)
    heads = 4 + 4 * np.arange(chunk) + before
    for byte in range(4):
        content[heads + byte] = lengths.view(np.uint8)[byte::4]
    content[_text_bytes(heads, len(content))] = data
    return content


def _text_of_chunk(content: Buffer, rows: int) -> tuple[Array, Array]:
    """The opposite of `_text_chunk`. Each length says where the next one is: nothing to do at once."""
    length_at = struct.Struct("<I").unpack_from
    heads, lengths, position = [0] * rows, [0] * rows, 4
    for row in range(rows):
        (length,) = length_at(content, position)
        heads[row], lengths[row] = position, length
        position += 4 + length
    written = np.frombuffer(content, np.uint8)
    if position > len(written):
        raise ValueError("text ends too early")
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, written[:position][_text_bytes(np.array(heads), position)]


def _text_bytes(heads: Array, size: int) -> Array:
    """Which bytes of a chunk are neither the number of values nor a length."""
    chosen = np.ones(size, np.bool_)
    chosen[:4] = False
    for byte in range(4):
        chosen[heads + byte] = False
    return chosen


FORMAT = Zarr()
