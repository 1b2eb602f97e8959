"""Stored chunks of an array one after the other, decoded into memory that is used again.

zarr-python decodes each chunk into new memory and copies it into the result; the system's work for that memory is as
much as the decoding itself. Here the bytes go from the store through zstd to where the caller wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featureflow.core.meter import spent
from featureflow.tables.arrays_layout import compressor
from featureflow.tables.arrays_reading import damage_named, open_group

if TYPE_CHECKING:
    import zarr

#: Decoded bytes of chunks that are asked for together: one wait for all of them.
_TOGETHER = 32 << 20
#: Attributes by which readers change stored values.
_CODED = {"_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype"}
#: First and last position of a box along each dimension, half-open.
Bounds = Sequence[tuple[int, int]]
#: Gives uninitialised memory of a shape and dtype.
Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


def has_plain_chunks(table_url: str, snapshot: str, name: str) -> bool:
    """Whether an array's chunks are objects of their own of plain numbers, compressed as this project does it."""
    array: Any = open_group(table_url, snapshot)[name]
    return bool(
        array.shards is None
        and array.ndim
        and array.dtype.kind in "fiu"
        and array.dtype.isnative
        and array.metadata.zarr_format == 3
        and not array.filters
        and tuple(array.compressors) == (compressor(),)
        and not _CODED & set(array.attrs)
    )


def read_chunks(
    table_url: str, snapshot: str, name: str, bounds: Bounds, allocate: Allocate
) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Give the chunks that a box touches: the position of each one's first value, and its values.

    Parameters
    ----------
    bounds
        Of each dimension, within the array.
    allocate
        Gives memory for a chunk; what is given is overwritten by the next one if that is the same memory.

    Notes
    -----
    Order: C order of the chunks. At the array's ends a chunk reaches beyond it; what is there has no meaning.
    Missing: a chunk that was never written is full of the array's fill value.
    Requires: `has_plain_chunks`.

    Raises
    ------
    CorruptionError
        If a chunk's bytes changed, or its object is gone.
    """
    with damage_named(table_url, name):
        array: Any = open_group(table_url, snapshot)[name]
    shape: tuple[int, ...] = array.chunks
    places = list(
        product(
            *(range(low // size, -(-high // size)) for (low, high), size in zip(bounds, shape, strict=True))
        )
    )
    together = max(1, _TOGETHER // max(prod(shape) * array.dtype.itemsize, 1))
    for first in range(0, len(places), together):
        some = places[first : first + together]
        with spent("remote read"), damage_named(table_url, name):
            packed = _fetch(array, some)
        for place, data in zip(some, packed, strict=True):
            values = allocate(shape, array.dtype)
            with damage_named(table_url, name):
                _decode(array, data, values)
            yield tuple(at * size for at, size in zip(place, shape, strict=True)), values


def _fetch(array: zarr.Array[Any], places: Sequence[tuple[int, ...]]) -> list[Any]:
    """Bytes of chunks as they are stored; None where there is none."""
    import asyncio

    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    store, prototype = array.store, default_buffer_prototype()
    keys = [f"{array.path}/{array.metadata.encode_chunk_key(place)}" for place in places]

    async def fetch() -> list[Any]:
        return list(await asyncio.gather(*(store.get(key, prototype) for key in keys)))

    return [None if found is None else found.as_numpy_array() for found in sync(fetch())]


def _decode(array: zarr.Array[Any], data: Any, values: NDArray[Any]) -> None:
    if data is None:
        values[...] = array.fill_value
        return
    from numcodecs.zstd import decompress  # type: ignore[import-untyped]

    decompress(data, values)
