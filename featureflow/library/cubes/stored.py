"""A cube of one or several stored parts: files, or a store of chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import xarray as xr

from featureflow.contracts.cube import CubePiece, Region, Span, slices_of
from featureflow.contracts.outlines import absent
from featureflow.core.errors import SourceError
from featureflow.core.meter import moved
from featureflow.library.cubes.contents import Contents, Stored

if TYPE_CHECKING:
    from featureflow.library.cubes.zarr_chunks import PointChunks

#: identity, region by dimension (empty: the whole part), bytes, variable (None: all)
Named = tuple[str, Region, int, str | None]


class Part(Protocol):
    """A file, or a store of chunks. It pickles small and opens itself where it is read."""

    @property
    def url(self) -> str:
        """Where it is."""

    def contents(self) -> Contents:
        """What it holds; opens it."""

    def read(self, name: str, cut: tuple[slice, ...], stored: Stored) -> np.ndarray[Any, Any]:
        """Values of a variable, decoded: exactly of `stored.dtype`, native, and nobody else's memory."""

    def named(self, variables: Mapping[str, Stored]) -> list[Named]:
        """What is stored, as the store describes it now."""


@runtime_checkable
class HasChunks(Protocol):
    """A part whose chunks can be read one by one."""

    def chunks_of(self, name: str, stored: Stored) -> PointChunks | None:
        """Chunks of a variable; None where the way in which they are stored is not known."""


class StoredCube:
    """Parts that lie one behind the other along a dimension; a `Cube`.

    Parameters
    ----------
    source
        Name in the spec, for errors.
    contents
        Of all parts together.
    parts
        In the order of the dimension.
    starts
        Where each part begins along `along`.
    stacked
        Whether `along` is a dimension that the parts do not have: each is one place of it.
    chunks
        What is read together along each dimension.
    """

    def __init__(
        self,
        source: str,
        contents: Contents,
        parts: Sequence[Part],
        chunks: Mapping[str, tuple[int, ...]],
        *,
        along: str | None = None,
        starts: Sequence[int] = (0,),
        stacked: bool = False,
    ) -> None:
        self.source, self.contents, self.parts = source, contents, tuple(parts)
        self.chunks = dict(chunks)
        self.along, self.starts, self.stacked = along, tuple(starts), stacked

    @cached_property
    def outline(self) -> xr.Dataset:
        """Dimensions, dtypes, attributes, coordinates; no values."""
        variables = {
            name: absent(each.dims, each.shape, each.dtype, each.attrs)
            for name, each in self.contents.variables.items()
        }
        return xr.Dataset(variables, coords=self.contents.coords, attrs=dict(self.contents.attrs))

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the outline, which is made again."""
        return {key: value for key, value in self.__dict__.items() if key != "outline"}

    def __repr__(self) -> str:
        sizes = ", ".join(f"{dim}: {size}" for dim, size in self.contents.sizes.items())
        return f"<{type(self).__name__} {self.source} ({sizes}): {', '.join(self.contents.variables)}>"

    # ------------------------------------------------------------ pieces

    def pieces(self, variables: Sequence[str] | None = None) -> list[CubePiece]:
        """Name everything that is stored, as the store describes it now; together they cover the cube.

        Parameters
        ----------
        variables
            Only what these are stored in; all if None.
        """
        chosen = {name: self._stored(name) for name in (variables or self.contents.variables)}
        found = []
        for i, (part, start) in enumerate(zip(self.parts, self.starts, strict=True)):
            # what does not lie along the dimension is read from the first part
            here = {name: each for name, each in chosen.items() if not i or self.along in each.dims}
            if not here:
                break
            named = part.named({name: self._of_part(each, i) for name, each in here.items()})
            if self.along is None:
                found += [CubePiece(identity, region, size) for identity, region, size, _ in named]
                continue
            for identity, region, size, name in named:
                placed, holds = dict(region), here.values() if name is None else (here[name],)
                if all(self.along in each.dims for each in holds):
                    low, high = region.get(self.along, (0, self._length(i)))
                    placed[self.along] = (start + low, start + high)
                found.append(CubePiece(identity, placed, size))
        return found

    def _length(self, part: int) -> int:
        ends = (*self.starts[1:], self.contents.sizes.get(self.along or "", 0))
        return ends[part] - self.starts[part]

    def _of_part(self, stored: Stored, part: int) -> Stored:
        if self.along not in stored.dims:
            return stored
        at = stored.dims.index(self.along)
        if self.stacked:
            return Stored(stored.dims[1:], stored.shape[1:], stored.dtype, stored.attrs, stored.chunks[1:])
        shape = (*stored.shape[:at], self._length(part), *stored.shape[at + 1 :])
        return Stored(stored.dims, shape, stored.dtype, stored.attrs, stored.chunks)

    # ------------------------------------------------------------ values

    def read(self, region: Region, variables: Sequence[str]) -> xr.Dataset:
        """Read a region into memory, decoded, with its coordinates.

        Raises
        ------
        SourceError
            If there is no such variable, or the source is not what it was when it was opened.
        CorruptionError
            If what is stored can't be decoded.
        Unreachable
            If the store does not answer.
        """
        spans = {dim: region.get(dim, (0, size)) for dim, size in self.contents.sizes.items()}
        values: dict[str, Any] = {}
        for name in variables:
            if name in self.contents.coords:
                continue
            stored = self._stored(name)
            array = self._read(name, stored, spans)
            moved("decode", array.nbytes)
            values[name] = xr.Variable(stored.dims, array, stored.attrs, fastpath=True)
        used = {dim for name in values for dim in values[name].dims}
        cuts = slices_of(spans)
        coords = {
            name: variable[tuple(cuts[str(dim)] for dim in variable.dims)]
            for name, variable in self.contents.coords.items()
            if used.issuperset(str(dim) for dim in variable.dims)
        }
        return xr.Dataset(values, coords=coords, attrs=self.contents.attrs)

    def values(self, region: Region, variables: Sequence[str]) -> list[np.ndarray[Any, Any]]:
        """Read what `read` does, without coordinates: an array for each variable, in its order of dimensions."""
        spans = {dim: region.get(dim, (0, size)) for dim, size in self.contents.sizes.items()}
        found = []
        for name in variables:
            found.append(self._read(name, self._stored(name), spans))
            moved("decode", found[-1].nbytes)
        return found

    def chunks_of(self, name: str) -> PointChunks | None:
        """Stored chunks of a variable, to take single values of; None where only `values` reads them."""
        stored = self._stored(name)
        if self.along is not None and self.along in stored.dims:
            return None
        part = self.parts[0]
        return part.chunks_of(name, stored) if isinstance(part, HasChunks) else None

    def _stored(self, name: str) -> Stored:
        if name not in self.contents.variables:
            known = ", ".join(self.contents.variables)
            raise SourceError(f"source {self.source!r}: there is no variable {name!r}. Known: {known}.")
        return self.contents.variables[name]

    def _read(self, name: str, stored: Stored, spans: Mapping[str, Span]) -> np.ndarray[Any, Any]:
        cut = tuple(slice(*spans[dim]) for dim in stored.dims)
        if self.along is None or self.along not in stored.dims:
            return self.parts[0].read(name, cut, stored)
        at, (low, high) = stored.dims.index(self.along), spans[self.along]
        touched = []
        for i, start in enumerate(self.starts):
            first, last = max(low, start), min(high, start + self._length(i))
            if first < last:
                touched.append((i, first, last))
        if self.stacked:
            out = np.empty([part.stop - part.start for part in cut], stored.dtype)
            for i, _, _ in touched:
                out[i - low] = self.parts[i].read(name, cut[1:], self._of_part(stored, i))
            return out
        if len(touched) == 1:
            i, first, last = touched[0]
            inner = (*cut[:at], slice(first - self.starts[i], last - self.starts[i]), *cut[at + 1 :])
            return self.parts[i].read(name, inner, self._of_part(stored, i))
        out = np.empty([part.stop - part.start for part in cut], stored.dtype)
        for i, first, last in touched:
            inner = (*cut[:at], slice(first - self.starts[i], last - self.starts[i]), *cut[at + 1 :])
            place = (slice(None),) * at + (slice(first - low, last - low),)
            out[place] = self.parts[i].read(name, inner, self._of_part(stored, i))
        return out
