"""Arrays as they are stored: which Zarr array an outline's variable becomes, and coordinates that any xarray reads.

Values are stored as they are, compressed by Blosc with LZ4, with a checksum of the compressed bytes: a flipped bit is
an error and never a value. Coordinates are written whole with every change, encoded by xarray by the CF conventions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featureflow.contracts.cube import Region
from featureflow.core.errors import TableError

if TYPE_CHECKING:
    import xarray as xr
    import zarr

#: Levels of compression: of LZ4 within Blosc, and of zstd.
_LZ4_LEVEL, _ZSTD_LEVEL = 5, 1
_KINDS = "fiubcMm"
#: Encodings of a coordinate that say how time is counted; the others are of the file it was read from.
_CALENDARS = ("calendar",)
_EPOCH = "1970-01-01"
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@dataclass(frozen=True)
class ArraySpec:
    """What the arrays of a version look like.

    Parameters
    ----------
    outline
        Dimensions, variables with dtype and attributes, and coordinates with their values. Values of variables are
        never asked for.
    chunks
        Size of a chunk along each dimension; a dimension without one is not cut.
    shards
        Several chunks in one object: size along each dimension, multiples of the chunks'.
    """

    outline: xr.Dataset
    chunks: Mapping[str, int]
    shards: Mapping[str, int] | None = field(default=None)

    def chunk_shape(self, name: str) -> tuple[int, ...]:
        """Shape of a variable's chunks."""
        return self._shape(name, self.chunks)

    def shard_shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a variable's shards, if it has them."""
        return None if self.shards is None else self._shape(name, self.shards)

    def _shape(self, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        variable = self.outline[name]
        return tuple(
            int(sizes.get(str(dim), max(1, size)))
            for dim, size in zip(variable.dims, variable.shape, strict=True)
        )


def check_spec(spec: ArraySpec) -> None:
    """Refuse what can't be stored.

    Raises
    ------
    TableError
        For a dtype without fixed size, a dimension that is unknown, and shards that are not whole chunks.
    """
    for what, sizes in (("chunks", spec.chunks), ("shards", spec.shards or {})):
        for dim, size in sizes.items():
            if dim not in spec.outline.sizes:
                raise TableError(
                    f"{what}: no dimension {dim!r}; there are {', '.join(map(str, spec.outline.sizes))}."
                )
            if size < 1:
                raise TableError(f"{what}: {dim}: must be 1 or more; got {size}.")
    for name in map(str, spec.outline.data_vars):
        kind = spec.outline[name].dtype
        if kind.kind not in _KINDS:
            raise TableError(
                f"variable {name!r}: dtype {kind} has no fixed size and is not stored. Use `cast:`."
            )
        shard = spec.shard_shape(name)
        if shard and any(s % c for s, c in zip(shard, spec.chunk_shape(name), strict=True)):
            raise TableError(
                f"variable {name!r}: shards {shard} are not whole chunks {spec.chunk_shape(name)}; use multiples."
            )


def stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype on disk: times are counted in integers."""
    return np.dtype("int64") if dtype.kind in "Mm" else dtype


def stored_values(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values as they are on disk."""
    return values.view("int64") if values.dtype.kind in "Mm" else values


def _fill(dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "Mm":
        return int(np.iinfo("int64").min)
    if dtype.kind in "fc":
        return dtype.type(np.nan)
    return dtype.type(0)


def attributes_of(variable: xr.DataArray) -> dict[str, Any]:
    """Attributes of a variable as they are stored; raises TableError for what JSON can't say."""
    attributes = {str(k): _json(f"{variable.name}: attribute {k}", v) for k, v in variable.attrs.items()}
    mapping = variable.encoding.get("grid_mapping")
    if mapping is not None:
        attributes["grid_mapping"] = mapping
    kind = variable.dtype
    if kind.kind in "Mm":
        unit = _UNITS.get(np.datetime_data(kind)[0])
        if unit is None:
            raise TableError(f"variable {variable.name!r}: {kind} is not stored; use a unit from s to ns.")
        since = f"{unit} since {_EPOCH}"
        times = {"units": since, "calendar": "proleptic_gregorian"} if kind.kind == "M" else {"units": unit}
        attributes |= {**times, "_FillValue": _fill(kind)}
        if kind.kind == "m":
            attributes["dtype"] = f"timedelta64[{np.datetime_data(kind)[0]}]"
    return attributes


def _json(where: str, value: Any) -> Any:
    """An attribute as JSON; numbers that JSON lacks become text, as in Zarr's own metadata."""
    if isinstance(value, np.ndarray):
        return [_json(where, v) for v in value.tolist()]
    if isinstance(value, np.generic):
        return _json(where, value.item())
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(k): _json(where, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(where, v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TableError(
        f"{where}: {type(value).__name__} {value!r} is not text, number or list; it can't be stored."
    )


# ---------------------------------------------------------------- writing metadata


def prepare(group: zarr.Group, spec: ArraySpec, stored: xr.Dataset | None) -> set[str]:
    """Make a group's arrays those of a spec: grow what is the same but larger, create what is new, drop the rest.

    Parameters
    ----------
    stored
        What is in the group now, decoded; None if it is empty.

    Returns
    -------
    set
        Names of the variables that begin empty.
    """
    import zarr

    wanted = {str(name) for name in spec.outline.data_vars}
    coordinates = _coordinates(spec.outline)
    same = stored is not None and _same_coordinates(coordinates, stored)
    keep = wanted | ({str(n) for n in coordinates.variables} if same else set())
    for name in sorted(set(group.array_keys()) - keep):
        del group[name]
    empty = {name for name in sorted(wanted) if not _prepare_variable(group, spec, name)}
    if not same:
        _write_coordinates(group, coordinates)
        group = zarr.open_group(group.store, mode="r+")  # whose attributes xarray has cleared
    attributes = {str(k): _json(f"attribute {k}", v) for k, v in spec.outline.attrs.items()}
    others = sorted(str(n) for n in coordinates.variables if n not in coordinates.dims)
    if others:
        attributes["coordinates"] = " ".join(others)
    if dict(group.attrs) != attributes:
        group.attrs.put(attributes)
    return empty


def _prepare_variable(group: zarr.Group, spec: ArraySpec, name: str) -> bool:
    """Whether its chunks stay."""
    variable = spec.outline[name]
    attributes = attributes_of(variable)
    dims = tuple(map(str, variable.dims))
    if name in group:
        array: Any = group[name]
        if _matches(array, spec, name):
            if array.shape != variable.shape:
                array.resize(variable.shape)
            if dict(array.attrs) != attributes:
                array.attrs.put(attributes)
            return True
        # chunks belong to the array's identity in Icechunk: what is made anew starts empty
        del group[name]
    group.create_array(
        name,
        shape=variable.shape,
        dtype=stored_dtype(variable.dtype),
        chunks=spec.chunk_shape(name),
        shards=spec.shard_shape(name),
        filters=(),
        compressors=_compressors(spec, name),
        fill_value=_fill(variable.dtype),
        dimension_names=dims,
        attributes=attributes,
    )
    return False


def compressors(dtype: np.dtype[Any], nbytes: int) -> tuple[Any, ...]:
    """Compression of chunks, and a checksum of what it made.

    Parameters
    ----------
    dtype
        Of the values as they are stored. What becomes of objects, texts or numbers, is for the one who encodes them.
    nbytes
        Bytes of a chunk before compression.

    Notes
    -----
    Blosc with LZ4, bytes of equal significance side by side; of values of one byte, bits. The same values give the
    same bytes: zarr-python lets Blosc use no threads of its own, which write blocks in the order they are done in.
    Blosc takes less than 2 GiB at once; zstd, with a checksum of its own, takes more.
    """
    from numcodecs.blosc import MAX_BUFFERSIZE  # type: ignore[import-untyped]
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    if nbytes > MAX_BUFFERSIZE:
        return (ZstdCodec(level=_ZSTD_LEVEL, checksum=True),)
    how: dict[str, Any] = {}  # zarr-python would choose the same, but only says so once an array is made
    if dtype.kind != "O":
        how = {
            "typesize": max(dtype.itemsize, 1),
            "shuffle": "bitshuffle" if dtype.itemsize == 1 else "shuffle",
        }
    return (BloscCodec(cname="lz4", clevel=_LZ4_LEVEL, **how), Crc32cCodec())


def _compressors(spec: ArraySpec, name: str) -> tuple[Any, ...]:
    dtype = stored_dtype(spec.outline[name].dtype)
    return compressors(dtype, math.prod(spec.chunk_shape(name)) * dtype.itemsize)


def _matches(array: Any, spec: ArraySpec, name: str) -> bool:
    variable = spec.outline[name]
    counted = variable.dtype.kind in "Mm"  # by its units; others only say what a number means
    return bool(
        getattr(array, "chunks", None) == spec.chunk_shape(name)
        and array.shards == spec.shard_shape(name)
        and array.dtype == stored_dtype(variable.dtype)
        and tuple(array.compressors) == _compressors(spec, name)
        and array.metadata.dimension_names == tuple(map(str, variable.dims))
        and (not counted or array.attrs.get("units") == attributes_of(variable).get("units"))
    )


def _coordinates(outline: xr.Dataset) -> xr.Dataset:
    """Coordinates ready to be written: text as objects, and nothing left of how another file encoded them."""
    import xarray as xr

    found = outline.coords.to_dataset()
    variables = {}
    for name, variable in found.variables.items():
        values = variable.to_base_variable().load()
        if values.dtype.kind == "U":
            values = values.astype(object)
        attributes = {str(k): _json(f"{name}: attribute {k}", v) for k, v in values.attrs.items()}
        encoding = {k: variable.encoding[k] for k in _CALENDARS if k in variable.encoding}
        variables[name] = xr.Variable(values.dims, values.data, attributes, encoding)
    return xr.Dataset(coords=variables)


def _same_coordinates(wanted: xr.Dataset, stored: xr.Dataset) -> bool:
    found = stored.coords.to_dataset()
    return set(found.variables) == set(wanted.variables) and all(
        _same(wanted.variables[name], found.variables[name]) for name in wanted.variables
    )


def _same(one: xr.Variable, other: xr.Variable) -> bool:
    times = one.dtype.kind == other.dtype.kind and one.dtype.kind in "Mm"  # counted in any unit
    return (times or one.dtype == other.dtype) and bool(one.identical(other.to_base_variable()))  # type: ignore[no-untyped-call]


def _write_coordinates(group: zarr.Group, coordinates: xr.Dataset) -> None:
    if not coordinates.variables:
        return
    encoding = {
        name: {
            "compressors": compressors(variable.dtype, variable.nbytes),
            "chunks": tuple(max(1, size) for size in variable.shape),
            **({"_FillValue": None} if variable.dtype.kind == "f" else {}),
        }
        for name, variable in coordinates.variables.items()
    }
    coordinates.to_zarr(group.store, mode="a", consolidated=False, zarr_format=3, encoding=encoding)


# ---------------------------------------------------------------- regions


def box(array_dims: tuple[str, ...], shape: tuple[int, ...], region: Region) -> tuple[tuple[int, int], ...]:
    """A region in the order of an array's dimensions; a dimension that the region lacks is taken whole."""
    return tuple(region.get(dim, (0, size)) for dim, size in zip(array_dims, shape, strict=True))


def check_aligned(
    name: str, bounds: tuple[tuple[int, int], ...], shape: tuple[int, ...], unit: tuple[int, ...]
) -> None:
    """Refuse a region that cuts a chunk: of two tasks that write parts of one, the later would win silently.

    Raises
    ------
    TableError
        If it does, or is outside.
    """
    for axis, ((low, high), size, step) in enumerate(zip(bounds, shape, unit, strict=True)):
        if not (0 <= low < high <= size) or low % step or (high % step and high != size):
            raise TableError(
                f"variable {name!r}: region {low}:{high} of dimension {axis} is not of whole chunks of {step} within "
                f"{size}. Tasks write whole chunks only."
            )
