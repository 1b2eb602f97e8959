"""Stored chunks of an array one after the other, decoded into memory that is used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.core.meter import spent
from featureflow.library.cubes.zarr_chunks import ZarrChunks, chunks_of
from featureflow.tables.arrays_reading import damage_named, open_group

#: Decoded bytes of chunks that are asked for together: one wait for all of them.
_TOGETHER = 32 << 20
#: Attributes by which readers change stored values.
_CODED = {"_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype"}
#: First and last position of a box along each dimension, half-open.
Bounds = Sequence[tuple[int, int]]
#: Gives uninitialised memory of a shape and dtype.
Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


def stored_chunks(table_url: str, snapshot: str, name: str) -> ZarrChunks | None:
    """Chunks of an array; None where its values are not the stored numbers, or only zarr-python can decode them."""
    with damage_named(table_url, name):
        array: Any = open_group(table_url, snapshot)[name]
    return None if _CODED & set(array.attrs) else chunks_of(array)


def read_chunks(
    table_url: str, name: str, chunks: ZarrChunks, bounds: Bounds, allocate: Allocate
) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Give the chunks that a box touches: the position of each one's first value, and its values, read-only.

    Parameters
    ----------
    table_url, name, chunks
        The array: `stored_chunks`.
    bounds
        Of each dimension, within the array.
    allocate
        Gives memory for a chunk; what is given is overwritten by the next one if that is the same memory.

    Notes
    -----
    Order: C order of the chunks. At the array's ends a chunk reaches beyond it; what is there has no meaning.
    Missing: a chunk that was never written is full of the array's fill value.

    Raises
    ------
    CorruptionError
        If a chunk's bytes changed, or its object is gone.
    """
    shape = chunks.shape
    cells = list(
        product(
            *(range(low // size, -(-high // size)) for (low, high), size in zip(bounds, shape, strict=True))
        )
    )
    together = max(1, _TOGETHER // max(chunks.nbytes, 1))
    for first in range(0, len(cells), together):
        some = cells[first : first + together]
        with spent("remote read"), damage_named(table_url, name):
            packed = chunks.fetch(some)
        for i, cell in enumerate(some):
            data, packed[i] = packed[i], None
            memory = allocate((chunks.nbytes,), np.dtype(np.uint8))
            if data is None:
                values = memory.view(chunks.dtype)
                values[...] = chunks.fill
                values.flags.writeable = False
            else:
                with damage_named(table_url, name):
                    values = chunks.decode(data, memory)
            yield tuple(at * size for at, size in zip(cell, shape, strict=True)), values.reshape(shape)
