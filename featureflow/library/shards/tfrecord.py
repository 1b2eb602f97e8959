"""Shards of tf.train.Example in TFRecord files, for tf.data, DALI and the `tfrecord` package; no TensorFlow is needed.

Which list of an Example a column is, row by row:

===================================  ==============================================================================
whole numbers, booleans, times       ``int64_list`` (booleans 0 or 1, times microseconds since 1970 in UTC, dates days)
float16, float32                     ``float_list``
float64                              ``bytes_list``, 8 bytes little-endian a number: an Example has no such floats.
                                     ``tf.io.decode_raw(value, tf.float64)``
text, bytes                          ``bytes_list``, text in UTF-8
===================================  ==============================================================================

A list of one shape is the same list, flat: ``FixedLenFeature([4, 5], tf.float32)`` gives it back in its shape (of
float64 ``FixedLenFeature([], tf.string)``, then ``decode_raw`` and a reshape). With `rows_per_record: n` an Example
is up to n rows, one after another: ``RaggedFeature`` or ``FixedLenSequenceFeature(shape, …, allow_missing=True)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.shard_format import Buffer, Encoded, ShardOptions, ShardPlace
from featureflow.core.errors import ComputeError, CorruptionError
from featureflow.kernels.checksums import crc32c
from featureflow.kernels.protobuf import read_delimited, read_frames, read_varints, write_varints
from featureflow.kernels.records import Bytes, Longs, Part, Ragged, gather_bytes, gather_fixed, interleave
from featureflow.library.shards.blocks import (
    check_records,
    compress,
    decimals,
    decompress,
    main_file,
    record_bounds,
    row_bytes,
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

_BYTES, _FLOATS, _INTS = 1, 2, 3  # which list, by protobuf's field number
_SUFFIXES = {"none": "", "gzip": ".gz"}
_HEAD, _TAIL = 12, 4  # length and its checksum before a record, the record's own after it


def _kind(arrow_type: pa.DataType) -> int:
    if is_text(arrow_type):
        return _BYTES
    dtype = numpy_dtype(arrow_type)
    if dtype.kind == "f":
        return _FLOATS if dtype.itemsize <= 4 else _BYTES
    return _INTS


def _tag(field: int) -> bytes:
    """Protobuf's mark of a field with a length."""
    return bytes([field << 3 | 2])


def _varint(value: int) -> bytes:
    return write_varints(np.array([value], np.int64)).data.tobytes()


def _numbers(lengths: Longs) -> Part:
    """Each record's length as a varint: the same bytes, or a byte each, if possible."""
    if lengths.size and lengths.min() == lengths.max():
        return _varint(int(lengths[0]))
    if lengths.size and lengths.max() < 128:
        return lengths.astype(np.uint8)[:, None]
    return write_varints(lengths)


def _varint_sizes(lengths: Longs) -> Longs:
    sizes = np.ones_like(lengths)
    longest, bits = int(lengths.max(initial=0)), 7
    while longest >> bits:
        sizes += lengths >= (1 << bits)
        bits += 7
    return sizes


def _values(table: pa.Table, field: pa.Field, bounds: Longs) -> Ragged | Bytes:
    """What stands in a column's list, for each record."""
    if _kind(field.type) == _BYTES:
        if is_text(field.type):
            offsets, data = string_buffers(table[field.name], name=field.name)
            value: Part = Ragged(data, offsets)
            lengths = np.diff(offsets)
        else:
            value = row_bytes(numpy_column(table[field.name], name=field.name))
            lengths = np.full(table.num_rows, value.shape[1], np.int64)
        return _of_records(*interleave([_tag(1), _numbers(lengths), value], table.num_rows), bounds)
    values = numpy_column(table[field.name], name=field.name)
    if _kind(field.type) == _FLOATS:
        rows = row_bytes(np.ascontiguousarray(values, np.float32))
        if bounds.size == table.num_rows + 1:
            return rows
        return Ragged(rows.reshape(-1), bounds * rows.shape[1])
    if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
        raise ComputeError(
            f"export: column {field.name!r} is uint64 with values above 2^63 - 1, which an int64_list can't hold. "
            "Cast it in `derive:`, or use `format: arrow`."
        )
    made = write_varints(np.ascontiguousarray(values, np.int64).reshape(-1))
    each = int(np.prod(values.shape[1:]))
    return Ragged(made.data, made.offsets[bounds * each])


def _of_records(data: Bytes, offsets: Longs, bounds: Longs) -> Ragged:
    return Ragged(data, offsets[bounds])


def _entry(table: pa.Table, field: pa.Field, bounds: Longs) -> tuple[list[Part], Longs]:
    """A column's entry in the map of features, and its bytes in each record."""
    values = _values(table, field, bounds)
    n = bounds.size - 1
    lengths = values.lengths if isinstance(values, Ragged) else np.full(n, values.shape[1], np.int64)
    key = field.name.encode()
    key_part = _tag(1) + _varint(len(key)) + key
    kind = _kind(field.type)
    # bytes_list holds its values one by one; the numbers of the other two are packed behind one more length
    packed = lengths if kind == _BYTES else lengths + 1 + _varint_sizes(lengths)
    feature = packed + 1 + _varint_sizes(packed)
    whole = len(key_part) + 1 + _varint_sizes(feature) + feature
    parts: list[Part] = [
        _tag(1),
        _numbers(whole),
        key_part,
        _tag(2),
        _numbers(feature),
        _tag(kind),
        _numbers(packed),
    ]
    if kind != _BYTES:
        parts += [_tag(1), _numbers(lengths)]
    return [*parts, values], whole + 1 + _varint_sizes(whole)


def _masked(checksums: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """As the format stores a checksum, so that one of bytes with checksums in them is a good one."""
    return ((checksums >> np.uint32(15)) | (checksums << np.uint32(17))) + np.uint32(0xA282EAD8)


def _checksums(data: Bytes, starts: Longs, lengths: Longs) -> Bytes:
    return row_bytes(_masked(crc32c(data, starts, lengths)))


def _put(out: Bytes, starts: Longs, values: Bytes) -> None:
    out[starts[:, None] + np.arange(values.shape[1])] = values


def _idx(offsets: Longs) -> Bytes:
    """Where each record starts and its bytes, in decimal digits: a line each."""
    return interleave([decimals(offsets[:-1]), b" ", decimals(np.diff(offsets)), b"\n"], offsets.size - 1)[0]


class TfRecord:
    """TFRecord files of tf.train.Example, with ``.idx`` files ("offset size" a line) beside them.

    Notes
    -----
    Order: features in the order of their names, as protobuf's deterministic serialisation has them.
    Determinism: every record equals ``Example.SerializeToString(deterministic=True)``.
    A gzip file has no ``.idx``: there are no offsets into it.
    Cost: 2 copies of the rows and a checksum at 1 GB/s; 19 times as fast as `tfrecord`.
    """

    name = "tfrecord"
    suffix = ".tfrecord"
    compressions = ("none", "gzip")
    records = True
    equal_shards = False

    def check(self, schema: pa.Schema, options: ShardOptions) -> None:
        """Raise `ComputeError` for lists of varying length, decimals and structs."""
        check_records(schema, options, name=self.name, compressions=self.compressions)

    def encode(self, table: pa.Table, place: ShardPlace, options: ShardOptions) -> Encoded:
        """Encode one shard."""
        bounds = record_bounds(table.num_rows, options.rows_per_record)
        n = bounds.size - 1
        entries = [_entry(table, table.schema.field(name), bounds) for name in sorted(table.schema.names)]
        features = np.add.reduce([lengths for _, lengths in entries])
        example = features + 1 + _varint_sizes(features)
        blank = bytes(_TAIL)
        head: list[Part] = [row_bytes(example), blank, _tag(1), _numbers(features)]
        data, offsets = interleave([*head, *(part for parts, _ in entries for part in parts), blank], n)
        starts = offsets[:-1]
        _put(data, starts + 8, _checksums(data, starts, np.full(n, 8, np.int64)))
        _put(data, starts + _HEAD + example, _checksums(data, starts + _HEAD, example))
        entry = {"rows": table.num_rows, "raw_bytes": data.size}
        path = place.stem + self.suffix + _SUFFIXES[options.compression]
        if options.compression != "none":
            return Encoded({path: [compress(data, options.compression)]}, entry)
        return Encoded({path: [data], place.stem + ".idx": [_idx(offsets)]}, entry)

    def index(
        self,
        split: str,
        places: Sequence[ShardPlace],
        entries: Sequence[Mapping[str, Any]],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> dict[str, bytes]:
        """There is none over all shards."""
        del split, places, entries, schema, options
        return {}

    def decode(
        self,
        files: Mapping[str, Buffer],
        place: ShardPlace,
        entry: Mapping[str, Any],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> pa.Table:
        """Read a shard back, its checksums compared."""
        path, packed = main_file(files, place, self.suffix + _SUFFIXES[options.compression])
        data = decompress(packed, options.compression, entry["raw_bytes"], path=path)
        try:
            starts, lengths = read_frames(data, _HEAD, _TAIL)
            heads = starts - _HEAD
            for at, size in ((heads, np.full(heads.size, 8, np.int64)), (starts, lengths)):
                if (gather_fixed(data, at + size, _TAIL) != _checksums(data, at, size)).any():
                    raise CorruptionError(f"{path}: a record's checksum is wrong. Export again.")
            columns = _columns(data, starts, lengths, entry["rows"], schema)
        except (ValueError, ComputeError) as error:
            raise CorruptionError(f"{path}: {error} Export again.") from error
        return pa.table([columns[name] for name in schema.names], schema=schema)


def _expect(data: Bytes, at: Longs, expected: bytes) -> Longs:
    """Where each record goes on behind bytes that all must have."""
    found = gather_fixed(data, at, len(expected))
    if (found != np.frombuffer(expected, np.uint8)).any():
        raise ValueError("its records are not those of this table.")
    return at + len(expected)


def _expect_length(data: Bytes, at: Longs, tag: bytes) -> tuple[Longs, Longs]:
    """The length behind a tag, and where each record goes on."""
    lengths, at = read_varints(data, _expect(data, at, tag))
    return lengths[:, 0], at


def _columns(
    data: Bytes, starts: Longs, lengths: Longs, n_rows: int, schema: pa.Schema
) -> dict[str, pa.Array]:
    _, at = _expect_length(data, starts, _tag(1))
    columns = {}
    for name in sorted(schema.names):
        field, key = schema.field(name), name.encode()
        kind = _kind(field.type)
        _, at = _expect_length(data, at, _tag(1))
        _, at = _expect_length(data, _expect(data, at, _tag(1) + _varint(len(key)) + key), _tag(2))
        size, at = _expect_length(data, at, _tag(kind))
        if kind != _BYTES:
            size, at = _expect_length(data, at, _tag(1))
        columns[name] = _column(gather_bytes(data, at, size).data, field, n_rows)
        at = at + size
    if (at != starts + lengths).any():
        raise ValueError("its records are longer or shorter than their columns.")
    return columns


def _column(stream: Bytes, field: pa.Field, n_rows: int) -> pa.Array:
    """A column of all values of its lists, one after another."""
    kind = _kind(field.type)
    if is_text(field.type):
        text = gather_bytes(stream, *read_delimited(stream, _tag(1)[0], n_rows))
        return string_column(text.offsets, text.data, field.type)
    dtype, shape = numpy_dtype(field.type), element_type_and_shape(field.type)[1]
    if kind == _BYTES:
        stored = gather_bytes(stream, *read_delimited(stream, _tag(1)[0], n_rows)).data.view(dtype)
    elif kind == _FLOATS:
        stored = stream.view(np.float32)
    else:
        count = n_rows * int(np.prod(shape))
        values, ends = read_varints(stream, np.zeros(1, np.int64), count)
        if ends[0] != stream.size:
            raise ValueError(f"{count} numbers do not add up to the {stream.size} bytes that are there.")
        stored = values[0]
    return arrow_column(stored.astype(dtype, copy=False).reshape(n_rows, *shape), field.type)


FORMAT = TfRecord()
