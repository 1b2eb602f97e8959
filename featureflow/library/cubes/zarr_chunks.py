"""Stored chunks of a Zarr array, each read and decoded on its own: for points and patches, which need no boxes.

zarr-python assembles boxes: for each chunk it starts tasks, makes a buffer and copies the chunk into the box. Where
values are taken out of single chunks, its bytes and its codecs are all that is needed, and they can be decoded where
the chunk before was: the system's work for new memory is as much as the decoding itself.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import google_crc32c
import numcodecs  # type: ignore[import-untyped]
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from featureflow.library.cubes.zarr_stores import WholeBlosc

#: Position of a chunk along each dimension.
Cell = tuple[int, ...]
#: Makes bytes of bytes; the second ones, if given, are memory where they may be put.
Decode = Callable[[Any, NDArray[np.uint8] | None], Any]
#: Object's name and which of its bytes; None for all.
Want = tuple[str, ByteRequest | None]

#: In an index of a shard: a chunk that is not stored.
_ABSENT = np.iinfo(np.uint64).max
#: Indices of shards that are remembered: neighbours in a shard are read together, so few are in use at a time.
_INDICES = 64
#: Header of Blosc: its bytes, and where it tells those of the values and of the chunk.
_BLOSC_HEADER, _BLOSC_VALUES, _BLOSC_CHUNK = 16, slice(4, 8), slice(12, 16)
_CHECKSUM = 4
_V3 = {ZstdCodec: numcodecs.Zstd, BloscCodec: numcodecs.Blosc, GzipCodec: numcodecs.GZip}
_V2 = (numcodecs.Zstd, numcodecs.Blosc, numcodecs.GZip, numcodecs.Zlib, numcodecs.LZ4)


@dataclass(frozen=True, slots=True)
class PointChunks:
    """Stored chunks of one variable of a cube.

    Parameters
    ----------
    chunks
        What is stored.
    finish
        Makes values of what is stored: scale, offset, fill values; each for itself.
    guard
        Calls a function that reads or decodes a chunk; its errors get the names of the source and variable.
    """

    chunks: ZarrChunks
    finish: Callable[[NDArray[Any]], NDArray[Any]]
    guard: Callable[[Cell, Callable[[], Any]], Any]


class ZarrChunks:
    """Chunks of an array whose codecs are known here.

    Parameters
    ----------
    array
        Open to read.
    dtype
        Of the values in a chunk, with the byte order that they are stored in.
    chunk
        Shape of a chunk; of those within shards, where the array has them.
    steps
        What makes values of a chunk's bytes, in this order.
    """

    def __init__(self, array: Any, dtype: np.dtype[Any], chunk: Cell, steps: Sequence[Decode]) -> None:
        self.dtype, self.shape, self.steps = dtype.newbyteorder("="), chunk, tuple(steps)
        self._stored = dtype
        store, self._path = array.store_path.store, array.store_path.path
        self._store = store._store if isinstance(store, WholeBlosc) else store  # noqa: SLF001  checked here, too
        self._key = array.metadata.encode_chunk_key
        self._shard: Cell | None = array.shards
        self._fill = array.metadata.fill_value
        self._indices: OrderedDict[Cell, NDArray[np.uint64] | None] = OrderedDict()
        self._lock = threading.Lock()
        self._at_start = self._shard is not None and _index_location(array) == "start"

    @property
    def nbytes(self) -> int:
        """Bytes of a decoded chunk."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def in_shards(self) -> bool:
        """Whether chunks are parts of objects."""
        return self._shard is not None

    @property
    def fill(self) -> NDArray[Any]:
        """What values of a chunk that is not stored are; one value."""
        return np.full(1, 0 if self._fill is None else self._fill, self.dtype)

    def fetch(self, cells: Sequence[Cell]) -> list[Any]:
        """Read chunks as they are stored; None for each that is not."""
        if self._shard is None:
            return self._ask([(self._name(cell), None) for cell in cells])
        parts = tuple(whole // part for whole, part in zip(self._shard, self.shape, strict=True))
        shards = [tuple(at // n for at, n in zip(cell, parts, strict=True)) for cell in cells]
        indices = self._indexed(list(dict.fromkeys(shards)), parts)
        wants: list[Want] = []
        placed: list[int] = []
        for i, (cell, shard) in enumerate(zip(cells, shards, strict=True)):
            index = indices[shard]
            if index is None:
                continue
            start, length = (int(n) for n in index[tuple(at % n for at, n in zip(cell, parts, strict=True))])
            if start != _ABSENT:
                wants.append((self._name(shard), RangeByteRequest(start, start + length)))
                placed.append(i)
        found: list[Any] = [None] * len(cells)
        for i, data, (name, _) in zip(placed, self._ask(wants), wants, strict=True):
            if data is None:
                raise ValueError(f"the shard {name} is gone")
            found[i] = data
        return found

    def decode(self, data: Any, memory: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Values of a chunk as they are stored, before scale, offset and fill values; flat, read-only.

        Parameters
        ----------
        memory
            `nbytes` bytes to decode into, where the codec can; the values then last until it is used again.

        Raises
        ------
        ValueError
            If these are not the bytes of a chunk of this array; codecs raise errors of their own.
        """
        last = len(self.steps) - 1
        for i, step in enumerate(self.steps):
            data = step(data, memory if i == last else None)
        view = memoryview(data).cast("B")
        if len(view) != self.nbytes:
            raise ValueError(f"a chunk has {len(view)} bytes, not {self.nbytes}")
        values = np.frombuffer(view, self._stored).astype(self.dtype, copy=False)
        values.flags.writeable = False
        return values

    def _name(self, cell: Cell) -> str:
        key = self._key(cell)
        return f"{self._path}/{key}" if self._path else str(key)

    def _indexed(self, shards: Sequence[Cell], parts: Cell) -> dict[Cell, NDArray[np.uint64] | None]:
        with self._lock:
            known = {shard: self._indices[shard] for shard in shards if shard in self._indices}
        missing = [shard for shard in shards if shard not in known]
        size = 16 * prod(parts) + 4
        part: ByteRequest = RangeByteRequest(0, size) if self._at_start else SuffixByteRequest(size)
        for shard, data in zip(missing, self._ask([(self._name(s), part) for s in missing]), strict=True):
            whole = None if data is None else np.frombuffer(_checked(data, None), "<u8")
            known[shard] = None if whole is None else whole.reshape(*parts, 2)
        with self._lock:
            self._indices.update(known)
            while len(self._indices) > _INDICES:
                self._indices.popitem(last=False)
        return known

    def _ask(self, wants: Sequence[Want]) -> list[Any]:
        if isinstance(self._store, LocalStore):
            return [_local(os.path.join(self._store.root, name), part) for name, part in wants]
        return sync(_together(self._store, wants)) if wants else []


def _index_location(array: Any) -> str:
    codec = array.metadata.codecs[0]
    return str(getattr(codec.index_location, "value", codec.index_location))


async def _together(store: Any, wants: Sequence[Want]) -> list[Any]:
    prototype = default_buffer_prototype()
    found = await asyncio.gather(*(store.get(name, prototype, part) for name, part in wants))
    return [None if each is None else each.as_numpy_array() for each in found]


def _local(path: str, part: ByteRequest | None) -> Any:
    try:
        with open(path, "rb", buffering=0) as file:
            if isinstance(part, RangeByteRequest):
                found = os.pread(file.fileno(), part.end - part.start, part.start)
                if len(found) < part.end - part.start:
                    raise ValueError("the file is cut off")
                return found
            if isinstance(part, SuffixByteRequest):
                file.seek(-part.suffix, os.SEEK_END)
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _checked(data: Any, _: object) -> NDArray[np.uint8]:
    """Bytes before their checksum, if it is theirs."""
    flat = np.frombuffer(data, np.uint8)
    body, told = flat[:-_CHECKSUM], flat[-_CHECKSUM:].tobytes()
    if len(flat) < _CHECKSUM or google_crc32c.value(body) != int.from_bytes(told, "little"):
        raise ValueError("the checksum is not that of the bytes")
    return body


def _blosc(codec: Any, data: Any, memory: NDArray[np.uint8] | None) -> Any:
    """Blosc trusts its header: it reads past the end of what is cut off, and fills no more memory than that tells."""
    if len(data) < _BLOSC_HEADER or len(data) < int.from_bytes(bytes(data[_BLOSC_CHUNK]), "little"):
        raise ValueError(f"a chunk is cut off after {len(data):,} bytes")
    if memory is None or len(memory) != int.from_bytes(bytes(data[_BLOSC_VALUES]), "little"):
        return codec.decode(data)
    return blosc.decompress(data, memory)


def _other(codec: Any, data: Any, _: object) -> Any:
    return codec.decode(data)


def chunks_of(array: Any) -> ZarrChunks | None:
    """Chunks of an open array; None if it is stored in a way that only zarr-python can decode."""
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "biuf" or not array.shape:
        return None
    if array.metadata.zarr_format == 2:
        order, filters = array.metadata.order, array.metadata.filters
        codec = array.metadata.compressor
        if (
            filters
            or (order != "C" and len(array.shape) > 1)
            or not (codec is None or isinstance(codec, _V2))
        ):
            return None
        stored = np.dtype(array.metadata.dtype.to_native_dtype())
        return ZarrChunks(array, stored, tuple(array.chunks), [_step(codec)] if codec else [])
    if type(array.metadata.chunk_grid).__name__ != "RegularChunkGrid":
        return None
    codecs = tuple(array.metadata.codecs)
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):
        index = codecs[0].index_codecs
        plain = len(index) == 2 and isinstance(index[1], Crc32cCodec) and _order(index[0]) == "<"
        codecs = tuple(codecs[0].codecs) if plain else ()
    steps = _steps(codecs[1:])
    order = _order(codecs[0]) if codecs else None
    if steps is None or order is None:
        return None
    return ZarrChunks(array, dtype.newbyteorder(order), tuple(array.chunks), steps)


def _order(codec: Any) -> str | None:
    """Byte order in which a codec stores numbers; None if it is another one."""
    if not isinstance(codec, BytesCodec):
        return None
    endian = getattr(codec.endian, "value", codec.endian) or "little"  # bytes have none
    return "<" if endian == "little" else ">"


def _steps(codecs: Sequence[Any]) -> list[Decode] | None:
    steps: list[Decode] = []
    for codec in reversed(codecs):
        if isinstance(codec, Crc32cCodec):
            steps.append(_checked)
        elif type(codec) in _V3:
            steps.append(_step(_V3[type(codec)]()))
        else:
            return None
    return steps


def _step(codec: Any) -> Decode:
    return partial(_blosc if isinstance(codec, numcodecs.Blosc) else _other, codec)
