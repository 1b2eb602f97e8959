"""Zarr, versions 2 and 3, sharded or not, on a disk or in an object store."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from featureflow.core import storage
from featureflow.core.errors import CorruptionError, SourceError
from featureflow.core.meter import spent
from featureflow.library.cubes import decoding, handles, objects, zarr_stores
from featureflow.library.cubes.contents import Contents, Stored, contents_of
from featureflow.library.cubes.errors import opening, values_of
from featureflow.library.cubes.zarr_chunks import Cell, PointChunks, ZarrChunks, chunks_of

if TYPE_CHECKING:
    from featureflow.library.cubes.stored import Named

#: attributes that say how numbers become values; others may be rewritten without anything being computed again
_DECODING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "dtype", "calendar")


class OpenZarr:
    """An open store: arrays, and how each is decoded."""

    def __init__(self, url: str, group: str, where: str) -> None:
        with opening(where, url, "Zarr"), decoding.ALONE:
            store, prefix = zarr_stores.open_store(url)
            path = "/".join(part for part in (prefix, group.strip("/")) if part)
            raw = self._open(store, path)
            blosc = tuple(f"{array.path}/" for array in self.arrays.values() if _has_blosc(array))
            if blosc:
                raw = self._open(zarr_stores.WholeBlosc(store, blosc), path)
            self.raw, self.decoded = raw, decoding.decode(raw, where)
        self.fills = {
            str(name): decoding.fill_of(variable, self.decoded.variables[name])
            for name, variable in raw.variables.items()
        }
        self.version = _digest({name: _metadata(array) for name, array in self.arrays.items()})

    def _open(self, store: Any, path: str) -> xr.Dataset:
        group = zarr.open_group(store, path=path, mode="r")
        consolidated = group.metadata.consolidated_metadata is not None
        raw: xr.Dataset = xr.open_zarr(
            store, group=path or None, chunks=None, decode_cf=False, consolidated=consolidated
        )
        self.arrays: dict[str, Any] = {str(name): group[str(name)] for name in raw.variables}
        return raw

    def close(self) -> None:
        """Nothing is held but memory."""


def _has_blosc(array: Any) -> bool:
    """Whether chunks, or those in shards, are compressed by Blosc."""
    return any(
        isinstance(codec, BloscCodec) or getattr(codec, "codec_id", "") == "blosc"
        for codec in array.compressors
    )


def _metadata(array: Any) -> dict[str, Any]:
    with decoding.ALONE:
        found: dict[str, Any] = array.metadata.to_dict()
    return found


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class ZarrPart:
    """A Zarr group."""

    url: str
    group: str
    source: str
    version: str

    @classmethod
    def at(cls, url: str, group: str, source: str) -> ZarrPart:
        """Open what is there now."""
        opened = OpenZarr(url, group, f"source {source!r}: {url}")
        part = cls(url, group, source, opened.version)
        with handles.borrowed(part, lambda: opened):
            return part

    @property
    def where(self) -> str:
        """For errors."""
        return f"source {self.source!r}: {storage.join(self.url, self.group) if self.group else self.url}"

    def _open(self) -> Any:
        return handles.borrowed(self, lambda: OpenZarr(self.url, self.group, self.where))

    def contents(self) -> Contents:
        """What it holds, in an order of its own: a store lists its arrays as they come, each time in another order."""
        with self._open() as opened, opening(self.where, self.url, "Zarr"):
            found = contents_of(opened.decoded, self.where)
        variables = sorted(found.variables.items(), key=lambda item: (-len(item[1].dims), item[0]))
        return replace(found, variables=dict(variables), coords=dict(sorted(found.coords.items())))

    def read(self, name: str, cut: tuple[slice, ...], stored: Stored) -> np.ndarray[Any, Any]:
        """Values of a variable, decoded."""
        with self._open() as opened:
            array = self._same(opened, name, stored)
            kind = "decode" if storage.is_local(self.url) else "remote read"
            with spent(kind), values_of(self.where, self.url, name, cut):
                fills = opened.fills[name]
                if fills is None:
                    raw, decoded = opened.raw.variables[name], opened.decoded.variables[name]
                    if decoding.is_elementwise(raw, decoded):
                        return decoding.unpack(raw, np.asarray(array[cut]), decoded.dtype)
                    return decoding.read_decoded(decoded, cut)
                return decoding.mask(np.asarray(array[cut]), fills)

    def chunks_of(self, name: str, stored: Stored) -> PointChunks | None:
        """Stored chunks of a variable, to take single values of; None where that is not enough to decode them."""
        with self._open() as opened:
            found = chunks_of(self._same(opened, name, stored))
            fills, raw, decoded = (
                opened.fills[name],
                opened.raw.variables[name],
                opened.decoded.variables[name],
            )
        if found is None or len(found.shape) != len(stored.dims):
            return None
        if fills is not None:
            return PointChunks(
                found, partial(decoding.mask, fills=fills), partial(self._guarded, name, found)
            )
        if not decoding.is_elementwise(raw, decoded):
            return None
        finish = partial(decoding.unpack, raw, dtype=decoded.dtype)
        return PointChunks(found, finish, partial(self._guarded, name, found))

    def _guarded(self, name: str, chunks: ZarrChunks, cell: Cell, ask: Callable[[], Any]) -> Any:
        cut = tuple(slice(at * size, (at + 1) * size) for at, size in zip(cell, chunks.shape, strict=True))
        kind = "decode" if storage.is_local(self.url) else "remote read"
        with spent(kind), values_of(self.where, self.url, name, cut):
            return ask()

    def _same(self, opened: OpenZarr, name: str, stored: Stored) -> Any:
        """The array, if it is still what it was when the source was opened; it may have grown."""
        now = opened.decoded.variables.get(name)
        if (
            now is None
            or now.dtype != stored.dtype
            or now.dims != stored.dims
            or any(size < before for size, before in zip(now.shape, stored.shape, strict=True))
        ):
            raise SourceError(
                f"{self.where}: variable {name!r} is another one than when the source was opened. Was it written "
                "again meanwhile? Run again."
            )
        return opened.arrays[name]

    def named(self, variables: Mapping[str, Stored]) -> list[Named]:
        """A piece for each chunk, or shard, of each array; also for those that are not stored and mean fill values."""
        found: list[Named] = []
        with self._open() as opened:
            for name, stored in variables.items():
                array = self._same(opened, name, stored)
                folder = storage.join(self.url, *filter(None, (self.group.strip("/"), name)))
                with spent("remote read"):
                    there = objects.list_objects(folder)
                found += _pieces(folder, name, stored, array, there)
        return found


def _pieces(
    folder: str, name: str, stored: Stored, array: Any, there: Mapping[str, objects.Object]
) -> list[Named]:
    how = {key: value for key, value in _metadata(array).items() if key not in ("shape", "attributes")}
    how |= {key: array.attrs[key] for key in _DECODING if key in array.attrs}
    units = array.attrs.get("units")
    if isinstance(units, str) and " since " in units:
        how["units"] = units
    prefix = _digest([folder, how])
    sizes = array.shards or array.chunks
    shape = (
        *stored.shape,
        *array.shape[len(stored.shape) :],
    )  # characters of texts have a dimension of their own
    dims, known = stored.dims, len(stored.dims)
    spans = [
        [(low, min(low + chunk, size)) for low in range(0, size, chunk)]
        for size, chunk in zip(shape, sizes, strict=True)
    ]
    key_of = array.metadata.encode_chunk_key
    found: list[Named] = []
    for at in itertools.product(*(range(len(each)) for each in spans)):
        bytes_there, version = there.get(key_of(at), (0, "absent"))
        if not bytes_there and version != "absent":  # an empty shard reads as one that was never written
            raise CorruptionError(
                f"{storage.join(folder, key_of(at))}: the stored chunk is empty: cut off. Restore it from a copy."
            )
        region = {dims[i]: spans[i][at[i]] for i in range(known)}
        identity = f"{prefix}:{'.'.join(map(str, at))}:{bytes_there}:{version}"
        found.append((identity, region, bytes_there, name))
    return found
