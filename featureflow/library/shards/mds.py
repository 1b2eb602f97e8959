"""Shards for MosaicML's StreamingDataset, to the byte as its own MDSWriter writes them.

What a column is there: whole numbers and times `int` (64 bits) or the name of their width (`int32`), floats
`float32` or `float64`, booleans `uint8` (0 or 1), text `str`, bytes `bytes`, lists of one shape `ndarray:float32:4,5`.
Times are microseconds since 1970 in UTC, dates days. With `rows_per_record: n` a sample is up to n rows: arrays of
shape (n, …) as `ndarray:float32`, text as `json` lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

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

_HASH = "xxh3_64"
#: our name of a compression to the library's, which is also the suffix
_COMPRESSIONS = {"none": None, "zstd": "zstd", "gzip": "gz"}


def _stored_dtype(field: pa.Field) -> np.dtype[Any]:
    """The dtype in the file: the library has no arrays of booleans."""
    dtype = numpy_dtype(field.type)
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype


def _encoding(field: pa.Field, options: ShardOptions) -> tuple[str, int | None]:
    """The library's name of a column's encoding, and its bytes in a sample if they are always as many."""
    if is_text(field.type):
        kind = "bytes" if is_bytes(field.type) else "str"
        return ("json" if options.rows_per_record > 1 else kind), None
    dtype, shape = _stored_dtype(field), element_type_and_shape(field.type)[1]
    if options.rows_per_record > 1:
        return f"ndarray:{dtype.name}", None
    if shape:
        return f"ndarray:{dtype.name}:{','.join(map(str, shape))}", dtype.itemsize * int(np.prod(shape))
    return ("int" if dtype == np.int64 else dtype.name), dtype.itemsize


def _config(schema: pa.Schema, options: ShardOptions) -> dict[str, Any]:
    names = sorted(schema.names)
    encodings = [_encoding(schema.field(name), options) for name in names]
    return {
        "column_encodings": [encoding for encoding, _ in encodings],
        "column_names": names,
        "column_sizes": [size for _, size in encodings],
        "compression": _COMPRESSIONS[options.compression],
        "format": "mds",
        "hashes": [_HASH],
        "size_limit": None,  # the exporter cuts shards
        "version": 2,
    }


def _shape_header(shape: tuple[int, ...]) -> bytes:
    """How an array says its own shape: ndim and the width of the numbers in a byte, then the numbers."""
    width = next(w for w in range(4) if max(shape) < 1 << (8 << w))
    return bytes([len(shape) << 2 | width]) + np.array(shape, f"u{1 << width}").tobytes()


def _part(table: pa.Table, name: str, bounds: Longs, options: ShardOptions) -> Part:
    field = table.schema.field(name)
    if is_text(field.type):
        offsets, data = string_buffers(table[name], name=name)
        return Ragged(data, offsets) if options.rows_per_record == 1 else json_lists(offsets, data, bounds)
    values = numpy_column(table[name], name=name)
    values = values.view(np.uint8) if values.dtype == np.bool_ else values
    if options.rows_per_record == 1:
        return row_bytes(values)
    headers = ragged([_shape_header((int(n), *values.shape[1:])) for n in np.diff(bounds)])
    return Ragged(*interleave([headers, blocked(values, bounds)], bounds.size - 1))


class Mds:
    """MosaicML streaming: ``StreamingDataset(local="…/train", validate_hash="xxh3_64")``.

    Notes
    -----
    Order: columns stand in the order of their names, as the library has them.
    A shard has less than 4 GiB. One without rows is left out of ``index.json``: the library can't open it.
    Determinism: uncompressed shards and ``index.json`` equal the library's own, byte for byte.
    Cost: 1 to 2 copies of the rows; 26 times as fast as the library's writer (CPU, docs/benchmarks.md).
    """

    name = "mds"
    suffix = ".mds"
    compressions = tuple(_COMPRESSIONS)
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
        names = sorted(table.schema.names)
        parts = [_part(table, name, bounds, options) for name in names]
        sizes: list[Part] = [
            part.lengths.astype(np.uint32)[:, None].view(np.uint8)
            for part in parts
            if isinstance(part, Ragged)
        ]
        body, offsets = interleave([*sizes, *parts], n)
        config = json.dumps(_config(table.schema, options), sort_keys=True).encode()
        head = count_and_offsets(n, offsets, config, path=place.stem + self.suffix)
        if options.compression == "none":
            hashed = xxhash.xxh3_64(head)
            hashed.update(body.data)
            entry = {"samples": n, "raw_bytes": len(head) + body.size, "raw_hash": hashed.hexdigest()}
            return Encoded({place.stem + self.suffix: [head, body]}, entry)
        raw = np.concatenate([np.frombuffer(head, np.uint8), body])
        packed = compress(raw, options.compression)
        entry = {
            "samples": n,
            "raw_bytes": raw.size,
            "raw_hash": xxhash.xxh3_64(raw.data).hexdigest(),
            "zip_bytes": len(packed),
            "zip_hash": xxhash.xxh3_64(packed).hexdigest(),
        }
        return Encoded({place.stem + self._suffix(options): [packed]}, entry)

    def index(
        self,
        split: str,
        places: Sequence[ShardPlace],
        entries: Sequence[Mapping[str, Any]],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> dict[str, bytes]:
        """``index.json`` in the split's folder."""
        shards = []
        for place, entry in zip(places, entries, strict=True):
            if not entry["samples"]:
                continue
            name = place.stem.rpartition("/")[2] + self.suffix
            packed = None
            if options.compression != "none":
                packed = {
                    "basename": name.removesuffix(self.suffix) + self._suffix(options),
                    "bytes": entry["zip_bytes"],
                    "hashes": {_HASH: entry["zip_hash"]},
                }
            raw = {"basename": name, "bytes": entry["raw_bytes"], "hashes": {_HASH: entry["raw_hash"]}}
            facts = {"samples": entry["samples"], "raw_data": raw, "zip_data": packed}
            shards.append({**facts, **_config(schema, options)})
        text = json.dumps({"version": 2, "shards": shards}, sort_keys=True)
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
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _suffix(self, options: ShardOptions) -> str:
        library_name = _COMPRESSIONS[options.compression]
        return self.suffix + (f".{library_name}" if library_name else "")


def _columns(data: Bytes, offsets: Longs, schema: pa.Schema, options: ShardOptions) -> dict[str, pa.Array]:
    names = sorted(schema.names)
    fixed_sizes = {name: _encoding(schema.field(name), options)[1] for name in names}
    any_length = [name for name in names if fixed_sizes[name] is None]
    sizes = gather_fixed(data, offsets[:-1], 4 * len(any_length)).reshape(-1).view(np.uint32)
    lengths = dict(
        zip(any_length, sizes.reshape(offsets.size - 1, len(any_length)).T.astype(np.int64), strict=True)
    )
    at = offsets[:-1] + 4 * len(any_length)
    columns = {}
    for name in names:
        field, size = schema.field(name), fixed_sizes[name]
        if size is None:
            part = gather_bytes(data, at, lengths[name])
            columns[name] = _ragged_column(part, field, options)
            at = at + lengths[name]
        else:
            columns[name] = _fixed_column(gather_fixed(data, at, size), field)
            at = at + size
    if (at != offsets[1:]).any():
        raise ValueError("its records are longer or shorter than their columns.")
    return columns


def _fixed_column(data: Bytes, field: pa.Field) -> pa.Array:
    shape = element_type_and_shape(field.type)[1]
    return arrow_column(rows_of_bytes(data, numpy_dtype(field.type), shape), field.type)


def _ragged_column(part: Ragged, field: pa.Field, options: ShardOptions) -> pa.Array:
    if is_text(field.type):
        if options.rows_per_record > 1:
            return texts_of_json(part, field.type)
        return string_column(part.offsets, part.data, field.type)
    ndim = 1 + len(element_type_and_shape(field.type)[1])
    starts = part.offsets[:-1]
    widths = 1 << (gather_fixed(part.data, starts, 1)[:, 0].astype(np.int64) & 3)
    header = 1 + ndim * widths
    values = gather_bytes(part.data, starts + header, part.lengths - header)
    return _fixed_column(values.data, field)


FORMAT = Mds()
