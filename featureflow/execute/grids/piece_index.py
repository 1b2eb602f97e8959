"""Which named parts of a cube a box touches: what a chunk's fingerprint is made of, and what reading it costs."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.cube import CubePiece, Region, Span

#: Positions along a dimension of a lattice: a slice where they lie side by side.
Positions = slice | NDArray[np.int64]
Name = bytes

_EVERYWHERE = (0, 2**62)
_DIGEST_BYTES = 16
#: A lattice with so many more places than pieces is not laid out.
_MOSTLY_EMPTY = 8


class PieceIndex:
    """Pieces by where they are. Cost of a question: what it finds, whatever else there is.

    Pieces that name the same dimensions lie on a lattice, whose rows along a dimension are the ranges that occur. Where
    they don't (files that are cut in different ways), each question looks at all of them.
    """

    def __init__(self, pieces: Iterable[CubePiece], dims: Iterable[str]) -> None:
        self.dims = tuple(dims)
        self.pieces = list(pieces)
        self.sizes = np.array([piece.size for piece in self.pieces], np.int64)
        kinds: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for i, piece in enumerate(self.pieces):
            kinds[tuple(dim for dim in self.dims if dim in piece.region)].append(i)
        self._groups = [_group(self.pieces, dims, found) for dims, found in kinds.items()]

    def numbers(self, region: Region) -> NDArray[np.int64]:
        """Numbers of all pieces that have a position in a box, ascending."""
        if any(high <= low for low, high in region.values()):
            return np.empty(0, np.int64)
        found = [group.numbers(region) for group in self._groups]
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)

    def touching(self, region: Region) -> list[CubePiece]:
        """All pieces that have a position in a box, in the order in which they were given."""
        return [self.pieces[i] for i in self.numbers(region)]

    def bytes_of(self, region: Region) -> int:
        """Stored bytes of all pieces that a box touches: what reading it fetches."""
        return int(self.sizes[self.numbers(region)].sum())

    @property
    def bytes(self) -> int:
        """Stored bytes of all pieces."""
        return int(self.sizes.sum())

    def layout(self, dim: str, span: Span) -> Name:
        """Where pieces begin and end along a dimension, counted from the beginning of a range of it."""
        return b"|".join(group.layout(dim, span) for group in self._groups)

    def named(self, region: Region) -> Iterator[Name]:
        """Names of the pieces that a box touches; with the layout along each dimension they say what lies where."""
        if not any(high <= low for low, high in region.values()):
            for group in self._groups:
                yield group.named(region)


class _Lattice:
    """Pieces at most one of each variable on every place of a lattice."""

    def __init__(
        self, pieces: Sequence[CubePiece], dims: tuple[str, ...], found: list[int], spans: list[list[Span]]
    ) -> None:
        self.dims, self._spans = dims, [np.array(one, np.int64).reshape(-1, 2) for one in spans]
        self._sorted = [bool((np.diff(one[:, 1]) >= 0).all()) for one in self._spans]
        places = [{span: i for i, span in enumerate(one)} for one in spans]
        shape = tuple(len(one) for one in spans)
        flat = [
            int(
                np.ravel_multi_index(
                    [at[pieces[i].region[dim]] for at, dim in zip(places, dims, strict=True)], shape
                )
            )
            if dims
            else 0
            for i in found
        ]
        order = np.argsort(np.array(flat, np.int64), kind="stable")
        self._found = np.array(found, np.int64)[order]
        counts = np.bincount(np.array(flat, np.int64), minlength=prod(shape))
        self._counts = counts.reshape(shape)
        self._starts = (np.cumsum(counts) - counts).reshape(shape)
        together: dict[int, list[str]] = defaultdict(list)
        for place, i in zip(flat, found, strict=True):
            together[place].append(pieces[i].id)
        names = np.zeros((prod(shape), _DIGEST_BYTES), np.uint8)
        for place, ids in together.items():
            names[place] = np.frombuffer(_digest("\n".join(ids)), np.uint8)
        self._names = names.reshape(*shape, _DIGEST_BYTES)
        self._along: Any = lru_cache(maxsize=1 << 16)(self._positions)

    def _positions(self, axis: int, span: Span) -> Positions:
        spans = self._spans[axis]
        if self._sorted[axis]:
            first = int(np.searchsorted(spans[:, 1], span[0], "right"))
            return slice(first, max(first, int(np.searchsorted(spans[:, 0], span[1], "left"))))
        return np.flatnonzero((spans[:, 0] < span[1]) & (spans[:, 1] > span[0]))

    def _place(self, region: Region) -> tuple[Any, ...]:
        along = [self._along(axis, region.get(dim, _EVERYWHERE)) for axis, dim in enumerate(self.dims)]
        if all(isinstance(one, slice) for one in along):
            return tuple(along)
        whole = [np.arange(one.start, one.stop) if isinstance(one, slice) else one for one in along]
        return np.ix_(*whole)

    def numbers(self, region: Region) -> NDArray[np.int64]:
        place = self._place(region)
        counts, starts = (
            np.atleast_1d(self._counts[place]).ravel(),
            np.atleast_1d(self._starts[place]).ravel(),
        )
        found = self._found
        if (counts == 1).all():
            return np.asarray(found[starts])
        before = np.cumsum(counts) - counts
        return np.asarray(
            found[np.arange(counts.sum()) - np.repeat(before, counts) + np.repeat(starts, counts)]
        )

    def named(self, region: Region) -> bytes:
        return bytes(self._names[self._place(region)].tobytes())

    def layout(self, dim: str, span: Span) -> bytes:
        if dim not in self.dims:
            return b""
        axis = self.dims.index(dim)
        return bytes((self._spans[axis][self._along(axis, span)] - span[0]).tobytes())


class _Scattered:
    """Pieces of any ranges."""

    def __init__(self, pieces: Sequence[CubePiece], dims: tuple[str, ...], found: list[int]) -> None:
        self.dims, self._pieces, self._found = dims, [pieces[i] for i in found], np.array(found, np.int64)
        self._spans = np.array([[one.region[dim] for dim in dims] for one in self._pieces], np.int64)

    def _there(self, region: Region) -> NDArray[np.int64]:
        wanted = np.array([region.get(dim, _EVERYWHERE) for dim in self.dims], np.int64)
        inside = (self._spans[:, :, 0] < wanted[:, 1]) & (self._spans[:, :, 1] > wanted[:, 0])
        return np.flatnonzero(inside.all(axis=1))

    def numbers(self, region: Region) -> NDArray[np.int64]:
        return self._found[self._there(region)]

    def named(self, region: Region) -> bytes:
        there = self._there(region)
        starts = np.array([region.get(dim, _EVERYWHERE)[0] for dim in self.dims], np.int64)
        ids = "\n".join(self._pieces[i].id for i in there)
        return _digest(ids) + (self._spans[there] - starts[None, :, None]).tobytes()

    def layout(self, dim: str, span: Span) -> bytes:  # noqa: ARG002  the names say it
        return b""


def _group(pieces: Sequence[CubePiece], dims: tuple[str, ...], found: list[int]) -> _Lattice | _Scattered:
    spans = [sorted({pieces[i].region[dim] for i in found}) for dim in dims]
    if prod(len(one) for one in spans) > _MOSTLY_EMPTY * len(found):
        return _Scattered(pieces, dims, found)
    return _Lattice(pieces, dims, found, spans)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
