"""Which named parts of a cube a box touches: what a chunk's fingerprint is made of, and what reading it costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product

import numpy as np

from featureflow.contracts.cube import CubePiece, Region, Span


class PieceIndex:
    """Pieces by where they are. Cost of a question: what it finds, whatever else there is."""

    def __init__(self, pieces: Iterable[CubePiece], dims: Iterable[str]) -> None:
        self.dims = tuple(dims)
        self.pieces = list(pieces)
        spans: list[dict[Span | None, int]] = [{} for _ in self.dims]
        found: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, piece in enumerate(self.pieces):
            place = []
            for dim, known in zip(self.dims, spans, strict=True):
                place.append(known.setdefault(piece.region.get(dim), len(known)))
            found[tuple(place)].append(i)
        self._at = dict(found)
        # a piece of a variable without the dimension is touched by every box
        self._low = [np.array([0 if s is None else s[0] for s in known], np.int64) for known in spans]
        self._high = [np.array([2**62 if s is None else s[1] for s in known], np.int64) for known in spans]
        self._along = lru_cache(maxsize=1 << 14)(self._spans_along)

    def _spans_along(self, axis: int, low: int, high: int) -> tuple[int, ...]:
        return tuple(np.flatnonzero((self._low[axis] < high) & (self._high[axis] > low)).tolist())

    def touching(self, region: Region) -> list[CubePiece]:
        """All pieces that have a position in a box, in the order in which they were given."""
        return [self.pieces[i] for i in sorted(self._touching(region))]

    def _touching(self, region: Region) -> Iterator[int]:
        if any(high <= low for low, high in region.values()):
            return
        along = [self._along(axis, *region.get(dim, (0, 2**62))) for axis, dim in enumerate(self.dims)]
        for place in product(*along):
            yield from self._at.get(place, ())

    def bytes_of(self, region: Region) -> int:
        """Stored bytes of all pieces that a box touches: what reading it fetches."""
        return sum(self.pieces[i].size for i in self._touching(region))

    @property
    def bytes(self) -> int:
        """Stored bytes of all pieces."""
        return sum(piece.size for piece in self.pieces)
