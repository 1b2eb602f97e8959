"""Values of a grid at the places and times of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.contracts.cube import Cube
from featureflow.contracts.grid_step import KNOWN_AT
from featureflow.core.meter import spending
from featureflow.execute.grids.values import read_values
from featureflow.execute.windows.arrays import booleans, integers
from featureflow.execute.windows.sorted_rows import NO_TIME
from featureflow.kernels.axes import Axis, Steps
from featureflow.kernels.chunk_points import chunk_bounds, chunk_numbers, gather_points
from featureflow.plan.grid_lookups import GridLookup

if TYPE_CHECKING:
    import xarray as xr

#: units and names by which a coordinate says that it goes around the Earth (CF conventions 4.2)
_EAST = {"degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"}
_LONGITUDE = {"longitude", "lon"}

#: Small chunks that lie side by side are read together up to so many bytes: each read costs about a millisecond.
READ_BYTES = 8 << 20
Longs = NDArray[np.int64]
#: Positions below and above along a dimension, and the weight of the one above.
Between = tuple[Longs, Longs, NDArray[np.float64]]


@spending("compute:lookup")
def look_up_points(
    lookup: GridLookup, cube: Cube, given: Mapping[str, pa.Array], times: Longs | None, *, threads: int = 1
) -> list[pa.Array]:
    """Find the values of a grid for rows.

    Parameters
    ----------
    given
        The rows' columns that ``lookup.at`` names.
    times
        Microseconds, `NO_TIME` for none; not looked at for a grid without a dimension of time.
    threads
        How many chunks are read at a time.

    Returns
    -------
    list of pyarrow.Array
        One for each of ``lookup.columns``; row i belongs to row i.

    Notes
    -----
    Nulls: where a row has no place or no time, is outside of the grid (more than half a cell beyond its outermost
    centres), where no step is known yet or it is older than the ttl, and where the value is missing (NaN).
    Time: the latest step whose time, and ``known_at`` where the grid has it, are not after the row's. Values are
    interpolated in space alone.
    Cost: each chunk with a point is read once. Memory: ``8 * (dimensions + 2**k * (3 + variables))`` bytes a row, where
    k dimensions are interpolated, and the chunks in work.
    """
    outline = cube.outline
    names = [variable for variable, _ in lookup.columns]
    linear = lookup.method == "linear"
    placed = _placed(lookup, outline, given, times)
    results: dict[str, pa.Array] = {}
    for dims in dict.fromkeys(tuple(str(d) for d in outline[name].dims) for name in names):
        mine = [name for name in names if tuple(outline[name].dims) == dims]
        split = [dim for dim in dims if linear and not isinstance(placed[dim], np.ndarray)]
        values = _corners(cube, mine, dims, placed, split, threads)
        for name, found in zip(mine, values, strict=True):
            kind = lookup.types[names.index(name)]
            results[name] = _answers(found, kind, dims, placed, split)
    return [results[name] for name in names]


def chunks_of_rows(
    lookup: GridLookup, cube: Cube, given: Mapping[str, pa.Array], times: Longs | None
) -> tuple[Longs, int]:
    """Number of the chunk that each row's nearest cell is in, -1 for none; and how many chunks there are."""
    outline = cube.outline
    first = outline[lookup.columns[0][0]]
    dims = [str(dim) for dim in first.dims]
    placed = _placed(lookup, outline, given, times, nearest=True)
    bounds = [chunk_bounds(cube.chunks[dim]) for dim in dims]
    n_chunks = int(np.prod([len(edges) - 1 for edges in bounds], dtype=np.int64))
    if not dims:
        return np.zeros(0 if times is None else len(times), np.int64), 1
    return chunk_numbers([_side(placed[dim], 0) for dim in dims], bounds), n_chunks


def axis_of(outline: xr.Dataset, dim: str) -> Axis:
    """The axis of a dimension of numbers or times; positions where it has no coordinate."""
    if dim not in outline.coords:
        return Axis(np.arange(outline.sizes[dim], dtype=np.float64))
    coordinate = outline[dim]
    if coordinate.dtype.kind == "M":
        return Axis(_microseconds(coordinate.values).astype(np.float64))
    return Axis(coordinate.values.astype(np.float64), longitude=is_longitude(coordinate))


def is_longitude(coordinate: xr.DataArray) -> bool:
    """Whether values that are 360 apart are one place: by CF's units or standard name, else by its own name."""
    units = str(coordinate.attrs.get("units", "")).strip().lower()
    if units:
        return units in _EAST
    standard = str(coordinate.attrs.get("standard_name", "")).strip().lower()
    return standard == "longitude" or (not standard and str(coordinate.name).lower() in _LONGITUDE)


def steps_of(outline: xr.Dataset, time: str) -> Steps:
    """Times of a grid, and when each step is known."""
    times = _microseconds(outline[time].values)
    known = _microseconds(outline[KNOWN_AT].values) if KNOWN_AT in outline.coords else times
    return Steps(times, known)


def _microseconds(values: NDArray[Any]) -> Longs:
    """Times, rounded up: a step is never known before its time."""
    micro = values.astype("datetime64[us]")
    return np.asarray(micro.astype(np.int64) + (micro < values), np.int64)


def _placed(
    lookup: GridLookup,
    outline: xr.Dataset,
    given: Mapping[str, pa.Array],
    times: Longs | None,
    *,
    nearest: bool = False,
) -> dict[str, Longs | Between]:
    """Where the rows are along each dimension."""
    used = {str(dim) for name, _ in lookup.columns for dim in outline[name].dims}
    placed: dict[str, Longs | Between] = {}
    for dim, column in lookup.at:
        if dim in used:
            placed[dim] = _along(
                outline, dim, given[column], linear=lookup.method == "linear" and not nearest
            )
    if lookup.right.time in used and times is not None:
        known = times != NO_TIME
        asked = np.where(known, times, 0)
        steps = steps_of(outline, lookup.right.time or "")
        found = steps.latest(asked, ttl=lookup.ttl_us, allow_exact=lookup.allow_exact)
        placed[lookup.right.time or ""] = np.where(known, found, -1)
    return placed


def _along(outline: xr.Dataset, dim: str, values: pa.Array, *, linear: bool) -> Longs | Between:
    if dim in outline.coords and outline[dim].dtype.kind in "OSU":
        known = pa.array([str(value) for value in outline[dim].values], pa.string())
        found = pc.index_in(values.cast(pa.string()), known, skip_nulls=True)
        return np.asarray(found.fill_null(-1), np.int64)
    axis = axis_of(outline, dim)
    numbers = _doubles(values)
    return axis.between(numbers) if linear else axis.nearest(numbers)


def _doubles(values: pa.Array) -> NDArray[np.float64]:
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
    whole = values.cast(pa.float64(), safe=False)
    return np.asarray(whole.fill_null(float("nan")) if whole.null_count else whole, np.float64)


def _corners(
    cube: Cube,
    names: Sequence[str],
    dims: tuple[str, ...],
    placed: Mapping[str, Longs | Between],
    split: Sequence[str],
    threads: int,
) -> list[NDArray[Any]]:
    """Values around each row: ``(corners, rows)``; one corner if nothing is interpolated."""
    n_corners = 1 << len(split)
    sides = [
        [
            _side(placed[dim], (corner >> split.index(dim)) & 1 if dim in split else 0)
            for corner in range(n_corners)
        ]
        for dim in dims
    ]
    read = partial(_read, cube, list(names), dims)
    dtypes = [_plain(cube.outline[name].dtype) for name in names]
    if not dims:
        n = len(next(iter(placed.values()))) if placed else 0
        return [np.full((1, n), values) for values in read(())]
    points = [side[0] if n_corners == 1 else np.concatenate(side) for side in sides]
    bounds = [chunk_bounds(cube.chunks[dim]) for dim in dims]
    width = sum(dtype.itemsize for dtype in dtypes) * prod(max(cube.chunks[dim]) for dim in dims)
    together = max(1, READ_BYTES // max(width, 1))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            found = gather_points(points, bounds, read, dtypes, partial(_all, pool), together=together)
    else:
        found = gather_points(points, bounds, read, dtypes, together=together)
    return [values.reshape(n_corners, -1) for values in found]


def _all(pool: ThreadPoolExecutor, function: Callable[[int], None], numbers: Sequence[int]) -> None:
    for _ in pool.map(function, numbers):
        pass


def _read(cube: Cube, names: list[str], dims: tuple[str, ...], box: tuple[slice, ...]) -> list[NDArray[Any]]:
    region = {dim: (part.start, part.stop) for dim, part in zip(dims, box, strict=True)}
    return [_plainly(values) for values in read_values(cube, region, names)]


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What the values of an array are carried as."""
    return np.dtype(np.int64) if dtype.kind == "M" else np.dtype(np.float32) if dtype == np.float16 else dtype


def _plainly(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "M":
        micro = values.astype("datetime64[us]").astype(np.int64)
        return np.asarray(micro)
    return values.astype(_plain(values.dtype.newbyteorder("=")), copy=False)


def _side(place: Longs | Between, above: int) -> Longs:
    if isinstance(place, np.ndarray):
        return place
    return place[1] if above else place[0]


def _answers(
    corners: NDArray[Any],
    kind: pa.DataType,
    dims: tuple[str, ...],
    placed: Mapping[str, Longs | Between],
    split: Sequence[str],
) -> pa.Array:
    missing = np.zeros(corners.shape[1], np.bool_)
    for dim in dims:
        missing |= _side(placed[dim], 0) < 0
    if not split:
        values = corners[0]
    else:
        values = _weighted(corners, [placed[dim][2] for dim in split])
        values = values.astype(kind.to_pandas_dtype(), copy=False)
    if values.dtype.kind == "f":
        missing |= np.isnan(values)
    if pa.types.is_timestamp(kind):
        missing |= values == np.iinfo(np.int64).min  # NaT
        return pc.if_else(booleans(~missing), integers(values, kind), pa.scalar(None, kind))
    plain = booleans(values) if values.dtype.kind == "b" else _numbers(values)
    return pc.if_else(booleans(~missing), plain, pa.scalar(None, plain.type)) if missing.any() else plain


def _numbers(values: NDArray[Any]) -> pa.Array:
    whole = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(whole.dtype), len(whole), [None, pa.py_buffer(whole)])


def _weighted(corners: NDArray[Any], weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Sum of the corners by their weights, in float64 and in their order; one of weight 0 does not count."""
    total = np.zeros(corners.shape[1], np.float64)
    for number, values in enumerate(corners):
        weight = np.ones(corners.shape[1], np.float64)
        for place, above in enumerate(weights):
            weight *= above if (number >> place) & 1 else 1.0 - above
        total += np.where(weight == 0.0, 0.0, values.astype(np.float64) * weight)
    return total
