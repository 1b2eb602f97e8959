"""Shards as tar files of one member a value, for webdataset, wids, Hugging Face's `webdataset` and GNU tar.

A row's members are called ``<key>.<column>.<extension>``; the key is its number within the split in 9 digits (or as
many as it takes), from 0. Readers know by the extension how to read a value:

===================================  ==============================================================================
whole numbers, booleans, times       ``.cls``, decimal text (booleans 0 or 1, times microseconds since 1970 in UTC,
                                     dates days); an ``int`` by ``.decode()``
floats, lists of one shape           ``.npy``, of their own dtype and shape
text                                 ``.txt`` in UTF-8
bytes                                ``.bin``, as they are
===================================  ==============================================================================

With `rows_per_record: n` a sample is up to n rows under the first one's number: numbers ``.npy`` of shape (n, …), text
a ``.json`` list.

Readers of compressed shards: `gzip` is a ``.tar.gz`` that webdataset, Hugging Face and tar open as it is. `zstd` is a
``.tar.zst``: ``WebDataset("pipe:zstd -dc part-00000-of-00032.tar.zst")``, or ``tar --zstd``. wids needs plain tar
files. webdataset makes names small: column ``Amount`` is ``sample["amount.npy"]``.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow.contracts.shard_format import Buffer, Encoded, ShardOptions, ShardPlace
from featureflow.core.errors import ComputeError, CorruptionError
from featureflow.kernels.archives import tar_members
from featureflow.kernels.records import (
    Bytes,
    Longs,
    Part,
    Ragged,
    gather_bytes,
    gather_fixed,
    interleave,
)
from featureflow.library.shards.blocks import (
    blocked,
    check_no_blocked_bytes,
    check_records,
    compress,
    decimals,
    decompress,
    is_bytes,
    json_lists,
    main_file,
    ragged,
    record_bounds,
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

_SUFFIXES = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_BLOCK, _NAME = 512, 100
_SIZE_AT, _SUM_AT, _FLAG_AT = (
    124,
    148,
    156,
)  # in a header: size in octal digits, checksum, type and all the rest
_LONGEST_INTEGER = 20
_KEY_DIGITS = 9


def _extension(field: pa.Field, options: ShardOptions) -> str:
    if is_text(field.type):
        if options.rows_per_record > 1:
            return "json"
        return "bin" if is_bytes(field.type) else "txt"
    dtype, shape = numpy_dtype(field.type), element_type_and_shape(field.type)[1]
    return "npy" if shape or options.rows_per_record > 1 or dtype.kind == "f" else "cls"


def _key_digits(place: ShardPlace) -> int:
    return max(_KEY_DIGITS, len(str(max(0, place.split_rows - 1))))


def _member_name(field: pa.Field, options: ShardOptions) -> bytes:
    """What follows the key in a member's name."""
    return f".{field.name}.{_extension(field, options)}".encode()


def _digits(values: Longs, count: int, base: int) -> Bytes:
    """ASCII digits of each value with leading zeros."""
    powers = base ** np.arange(count - 1, -1, -1, dtype=np.int64)
    return (values[:, None] // powers % base + ord("0")).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Body:
    """A member's content in each record: parts with the zeros behind it, and its bytes without them."""

    parts: list[Part]
    sizes: Longs


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    target = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(target, facts)
    return target.getvalue()


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _ragged_body(content: Ragged) -> _Body:
    return _Body([Ragged(content.data, content.offsets, _BLOCK)], content.lengths)


def _integers_body(column: pa.ChunkedArray, name: str) -> _Body:
    values = numpy_column(column, name=name)
    values = values.view(np.uint8) if values.dtype == np.bool_ else values
    text = decimals(values)
    padded = np.zeros((len(values), _LONGEST_INTEGER), np.uint8)
    padded[np.arange(_LONGEST_INTEGER) < text.lengths[:, None]] = text.data
    return _Body([padded, bytes(_BLOCK - _LONGEST_INTEGER)], text.lengths)


def _body(table: pa.Table, field: pa.Field, bounds: Longs, options: ShardOptions) -> _Body:
    column = table[field.name]
    if is_text(field.type):
        offsets, data = string_buffers(column, name=field.name)
        if options.rows_per_record > 1:
            return _ragged_body(json_lists(offsets, data, bounds, ascii_only=False))
        return _ragged_body(Ragged(data, offsets))
    if _extension(field, options) == "cls":
        return _integers_body(column, field.name)
    values = numpy_column(column, name=field.name)
    if options.rows_per_record == 1:
        header, rows = _npy_header(values.dtype, values.shape[1:]), row_bytes(values)
        size = len(header) + rows.shape[1]
        return _Body([header, rows, _padding(size)], np.full(len(values), size, np.int64))
    headers = ragged([_npy_header(values.dtype, (int(n), *values.shape[1:])) for n in np.diff(bounds)])
    return _ragged_body(Ragged(*interleave([headers, blocked(values, bounds)], bounds.size - 1)))


def _header(name: bytes, keys: Bytes, sizes: Longs) -> list[Part]:
    """Tar's header of a member in each record; all are alike but for the key, the size and the checksum."""
    member = tarfile.TarInfo("0" * keys.shape[1] + name.decode())
    member.mode, member.uname, member.gname = 0o444, "featureflow", "featureflow"
    member.size, member.mtime = 0, 0
    like = np.frombuffer(member.tobuf(tarfile.USTAR_FORMAT, "utf-8"), np.uint8)
    # the checksum is the sum of all bytes, its own field taken as spaces; here that of the changing digits moves
    constant = int(like.sum()) - int(like[_SUM_AT:_FLAG_AT].sum()) + 8 * ord(" ")
    same_size = sizes.size > 0 and int(sizes.min()) == int(sizes.max())
    size_digits = _digits(sizes[:1] if same_size else sizes, 11, 8)
    zero = ord("0")
    moved = (keys.sum(axis=1, dtype=np.int64) - zero * keys.shape[1]) + (
        size_digits.sum(axis=1, dtype=np.int64) - zero * 11
    )
    size_part: Part = size_digits.tobytes() if same_size else size_digits
    return [
        keys,
        like[keys.shape[1] : _SIZE_AT].tobytes(),
        size_part,
        like[_SIZE_AT + 11 : _SUM_AT].tobytes(),
        _digits(constant + moved, 6, 8),
        b"\0 ",
        like[_FLAG_AT:].tobytes(),
    ]


class WebDataset:
    """Tar files of one member a value, and ``wids.json`` beside them for random access.

    Notes
    -----
    A shard without rows is an empty tar file, left out of ``wids.json``.
    Order: rows as they come, the members of a row in the order of the columns.
    Determinism: every member has mode 0444, owner ``featureflow`` and time 0, so the same rows are the same bytes.
    Cost: tar takes 1 KiB and more for a value; give `rows_per_record: 256` for tables of numbers.
    """

    name = "webdataset"
    suffix = ".tar"
    compressions = tuple(_SUFFIXES)
    records = True
    equal_shards = False

    def check(self, schema: pa.Schema, options: ShardOptions) -> None:
        """Raise `ComputeError` for columns that are no members of a tar file, and names that readers mix up."""
        check_records(schema, options, name=self.name, compressions=self.compressions)
        check_no_blocked_bytes(schema, options, name=self.name)
        lower: dict[str, str] = {}
        for field in schema:
            name = _member_name(field, options)
            if "/" in field.name or "\0" in field.name:
                raise ComputeError(
                    f"export: column {field.name!r} would be a file in a tar, and '/' and NUL are in no name of one. "
                    "Rename it with `derive:`."
                )
            if len(name) + _KEY_DIGITS + 3 > _NAME:
                raise ComputeError(
                    f"export: column {field.name!r} is too long for the name of a file in a tar ({_NAME} bytes). "
                    "Rename it with `derive:`, or use `layout: matrix`."
                )
            before = lower.setdefault(field.name.lower(), field.name)
            if before != field.name:
                raise ComputeError(
                    f"export: columns {before!r} and {field.name!r} differ in upper and lower case alone, and "
                    "webdataset makes names small. Rename one with `derive:`."
                )

    def encode(self, table: pa.Table, place: ShardPlace, options: ShardOptions) -> Encoded:
        """Encode one shard."""
        bounds = record_bounds(table.num_rows, options.rows_per_record)
        keys = _digits(place.first_row + bounds[:-1], _key_digits(place), 10)
        parts: list[Part] = []
        for field in table.schema:
            body = _body(table, field, bounds, options)
            parts += [*_header(_member_name(field, options), keys, body.sizes), *body.parts]
        data, _ = interleave(parts, bounds.size - 1)
        end = bytes(2 * _BLOCK + -(data.size + 2 * _BLOCK) % tarfile.RECORDSIZE)
        entry = {"samples": bounds.size - 1, "rows": table.num_rows, "raw_bytes": data.size + len(end)}
        path = place.stem + self.suffix + _SUFFIXES[options.compression]
        if options.compression == "none":
            return Encoded({path: [data, end]}, entry)
        whole = np.concatenate([data, np.frombuffer(end, np.uint8)])
        return Encoded({path: [compress(whole, options.compression)]}, entry)

    def index(
        self,
        split: str,
        places: Sequence[ShardPlace],
        entries: Sequence[Mapping[str, Any]],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> dict[str, bytes]:
        """``wids.json`` in the split's folder; none of compressed shards."""
        del schema
        if options.compression != "none":
            return {}
        shards = [
            {
                "url": place.stem.rpartition("/")[2] + self.suffix,
                "nsamples": entry["samples"],
                "filesize": entry["raw_bytes"],
            }
            for place, entry in zip(places, entries, strict=True)
            if entry["samples"]
        ]
        facts = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": split, "shardlist": shards}
        return {f"{split}/wids.json": (json.dumps(facts, indent=1) + "\n").encode()}

    def decode(
        self,
        files: Mapping[str, Buffer],
        place: ShardPlace,
        entry: Mapping[str, Any],
        schema: pa.Schema,
        options: ShardOptions,
    ) -> pa.Table:
        """Read a shard back."""
        path, packed = main_file(files, place, self.suffix + _SUFFIXES[options.compression])
        data = decompress(packed, options.compression, entry["raw_bytes"], path=path)
        try:
            at, sizes = tar_members(data)
            if at.size != entry["samples"] * len(schema):
                raise ValueError(
                    f"{at.size} members for {entry['samples']} records of {len(schema)} columns."
                )
            at, sizes = at.reshape(-1, len(schema)), sizes.reshape(-1, len(schema))
            columns = []
            for i, field in enumerate(schema):
                name = _member_name(field, options)
                found = gather_fixed(data, at[:, i] + _key_digits(place), len(name))
                if (found != np.frombuffer(name, np.uint8)).any():
                    raise ValueError(f"a member that should be of column {field.name!r} has another name.")
                content = gather_bytes(data, at[:, i] + _BLOCK, sizes[:, i])
                columns.append(_column(content, field, options))
        except (ValueError, ComputeError) as error:
            raise CorruptionError(f"{path}: {error} Export again.") from error
        return pa.table(columns, schema=schema)


def _column(content: Ragged, field: pa.Field, options: ShardOptions) -> pa.Array:
    if is_text(field.type):
        if options.rows_per_record > 1:
            return texts_of_json(content, field.type)
        return string_column(content.offsets, content.data, field.type)
    dtype, shape = numpy_dtype(field.type), element_type_and_shape(field.type)[1]
    if _extension(field, options) == "cls":
        stored = np.dtype(np.uint64) if dtype == np.uint64 else np.dtype(np.int64)
        text = string_column(content.offsets, content.data, pa.large_string())
        numbers = numpy_column(text.cast(pa.from_numpy_dtype(stored)))
        return arrow_column(numbers.astype(dtype, copy=False), field.type)
    # the header of a .npy says its own length in two bytes
    headers = (
        gather_fixed(content.data, content.offsets[:-1] + 8, 2).reshape(-1).view(np.uint16).astype(np.int64)
    )
    headers += 10
    values = gather_bytes(content.data, content.offsets[:-1] + headers, content.lengths - headers)
    return arrow_column(rows_of_bytes(values.data, dtype, shape), field.type)


FORMAT = WebDataset()
