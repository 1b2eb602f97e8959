"""What a source of N-d data must implement: its outline without values, its parts with names, and reading a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import xarray as xr

#: half-open range of positions along one dimension
Span = tuple[int, int]
#: part of a cube: a range for every one of its dimensions
Region = dict[str, Span]


def whole(outline: xr.Dataset) -> Region:
    """All of a cube."""
    return {str(dim): (0, int(size)) for dim, size in outline.sizes.items()}


def slices_of(region: Mapping[str, Span], base: Mapping[str, Span] | None = None) -> dict[str, slice]:
    """Give a region as slices of positions, for ``isel``; counted from the start of ``base`` if that is given."""
    starts = {dim: 0 if base is None else base[dim][0] for dim in region}
    return {dim: slice(low - starts[dim], high - starts[dim]) for dim, (low, high) in region.items()}


@dataclass(frozen=True, slots=True)
class CubePiece:
    """A named part of a source: a file, or a stored chunk. Another content has another ``id``.

    Its region leaves out dimensions along which it is not cut: it is everywhere along them.
    """

    id: str
    region: Region
    size: int


@runtime_checkable
class Cube(Protocol):
    """N-d data on disk or in a store. It can be pickled to a task, and holds no values but those of coordinates."""

    @property
    def outline(self) -> xr.Dataset:
        """All variables that can be read, with dimensions, dtype after decoding (CF scale, offset, fill value,
        calendar) and attributes; index coordinates are in memory, variables are lazy and must never be computed.
        """  # noqa: D205

    @property
    def chunks(self) -> dict[str, tuple[int, ...]]:
        """Sizes of the stored chunks along each dimension: what is read together."""

    def pieces(self, variables: Sequence[str] | None = None) -> list[CubePiece]:
        """Name everything that is stored, as the store describes it now; together they cover the cube.

        Parameters
        ----------
        variables
            Only what these are stored in; all if None.
        """

    def read(self, region: Region, variables: Sequence[str]) -> xr.Dataset:
        """Read a region into memory, decoded, with its coordinates."""
