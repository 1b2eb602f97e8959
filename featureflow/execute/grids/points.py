"""Values of a grid at the places and times of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.contracts.cube import Cube
from featureflow.contracts.grid_step import KNOWN_AT
from featureflow.core.meter import carried, spending
from featureflow.execute.grids.point_chunks import PointReader, Run, read_box
from featureflow.execute.windows.arrays import booleans, integers
from featureflow.kernels.axes import Axis, Steps
from featureflow.kernels.chunk_points import Addresses, chunk_bounds, count_chunks, weigh_corners
from featureflow.plan.grid_lookups import GridLookup

if TYPE_CHECKING:
    import xarray as xr

#: units and names by which a coordinate says that it goes around the Earth (CF conventions 4.2)
_EAST = {"degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"}
_LONGITUDE = {"longitude", "lon"}

#: Rows whose places are worked out at once.
BLOCK = 1 << 16
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
    Cost: each chunk with a point is read once. Memory: ``8 * k + 2**k * (16 + 2 * value)`` bytes a row, where k
    dimensions are interpolated and a row's values have so many bytes, and the chunks in work.
    """
    names = [variable for variable, _ in lookup.columns]
    placing = Placing(lookup, cube.outline, given, times)
    results: dict[str, pa.Array] = {}
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        run = partial(_all, pool)
        for dims in dict.fromkeys(tuple(str(d) for d in cube.outline[name].dims) for name in names):
            mine = [name for name in names if tuple(cube.outline[name].dims) == dims]
            for name, corners in _corners(cube, mine, dims, placing, run).items():
                results[name] = _answers(*corners, lookup.types[names.index(name)])
    return [results[name] for name in names]


def chunks_of_rows(
    lookup: GridLookup, cube: Cube, given: Mapping[str, pa.Array], times: Longs | None
) -> tuple[Longs, int]:
    """Number of the chunk that each row's nearest cell is in, -1 for none; and how many chunks there are."""
    dims = [str(dim) for dim in cube.outline[lookup.columns[0][0]].dims]
    if not dims:
        return np.zeros(0 if times is None else len(times), np.int64), 1
    placing = Placing(lookup, cube.outline, given, times, nearest=True)
    found = Addresses.of([chunk_bounds(cube.chunks[dim]) for dim in dims], placing.n_rows)
    for low in range(0, placing.n_rows, BLOCK):
        placed = placing.block(dims, low)
        found.put(low, [_side(placed[dim], 0) for dim in dims])
    return found.numbers.astype(np.int64), count_chunks(found.bounds)


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


class Placing:
    """Where rows are along the dimensions of a grid, worked out block by block: a block's numbers stay in the cache.

    Parameters
    ----------
    lookup, given, times
        As those of `look_up_points`.
    nearest
        Whatever the look-up's method is.
    """

    def __init__(
        self,
        lookup: GridLookup,
        outline: xr.Dataset,
        given: Mapping[str, pa.Array],
        times: Longs | None,
        *,
        nearest: bool = False,
    ) -> None:
        self.n_rows = len(times) if times is not None else len(given[lookup.at[0][1]]) if lookup.at else 0
        self._linear = lookup.method == "linear" and not nearest
        self._given = {dim: given[column] for dim, column in lookup.at}
        used = {str(dim) for name, _ in lookup.columns for dim in outline[name].dims}
        self._axes = {dim: _names_or_axis(outline, dim) for dim in self._given if dim in used}
        self._time, self._times, self._steps = lookup.right.time or "", times, None
        self._ttl, self._allow_exact = lookup.ttl_us, lookup.allow_exact
        if self._time in used and times is not None:
            self._steps = steps_of(outline, self._time)

    def between(self, dims: Sequence[str]) -> list[str]:
        """Those of some dimensions along which values are interpolated."""
        return [dim for dim in dims if self._linear and isinstance(self._axes.get(dim), Axis)]

    def block(self, dims: Sequence[str], low: int) -> dict[str, Longs | Between]:
        """Positions along some dimensions of the next `BLOCK` rows; -1 outside of the grid."""
        return {dim: self._along(dim, low) for dim in dims}

    def _along(self, dim: str, low: int) -> Longs | Between:
        if dim == self._time and self._steps is not None and self._times is not None:
            # no time is before all times
            asked = self._times[low : low + BLOCK]
            return self._steps.latest(asked, ttl=self._ttl, allow_exact=self._allow_exact)
        values, axis = self._given[dim].slice(low, BLOCK), self._axes[dim]
        if isinstance(axis, Axis):
            return axis.between(_doubles(values)) if self._linear else axis.nearest(_doubles(values))
        found = pc.index_in(values.cast(pa.string()), axis, skip_nulls=True)
        return np.asarray(found.fill_null(-1), np.int64)


def _names_or_axis(outline: xr.Dataset, dim: str) -> Axis | pa.Array:
    if dim in outline.coords and outline[dim].dtype.kind in "OSU":
        return pa.array([str(value) for value in outline[dim].values], pa.string())
    return axis_of(outline, dim)


def _doubles(values: pa.Array) -> NDArray[np.float64]:
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
    whole = values.cast(pa.float64(), safe=False)
    return np.asarray(whole.fill_null(float("nan")) if whole.null_count else whole, np.float64)


def _corners(
    cube: Cube, names: Sequence[str], dims: tuple[str, ...], placing: Placing, run: Run
) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.float64]]]:
    """Of each variable the values around each row, which rows are outside, the weights of the upper sides.

    Values are ``(corners, rows)``, one corner if nothing is interpolated; weights ``(dimensions interpolated, rows)``.
    """
    n, between = placing.n_rows, placing.between(dims)
    n_corners = 1 << len(between)
    weights = np.empty((len(between), n))
    if not dims:
        outside = np.zeros(n, np.bool_)
        return {
            name: (np.full((1, n), value), outside, weights)
            for name, value in zip(names, read_box(cube, names, dims, ()), strict=True)
        }
    reader = PointReader(cube, names, dims)
    frames = reader.frames()
    unique = {id(bounds): Addresses.of(bounds, n_corners * n) for bounds in frames.values()}

    def place(k: int) -> None:
        low = k * BLOCK
        placed = placing.block(dims, low)
        for i, dim in enumerate(between):
            weights[i, low : low + BLOCK] = placed[dim][2]
        for corner in range(n_corners):
            sides = [
                _side(placed[dim], (corner >> between.index(dim)) & 1 if dim in between else 0)
                for dim in dims
            ]
            for each in unique.values():
                each.put(corner * n + low, sides)

    run(place, range(-(-n // BLOCK)))
    addresses = {name: unique[id(bounds)] for name, bounds in frames.items()}
    outside = addresses[names[0]].numbers[:n] < 0
    found = reader.gather(addresses, run)
    return {name: (found[name].reshape(n_corners, n), outside, weights) for name in names}


def _all(pool: ThreadPoolExecutor | None, function: Callable[[int], None], numbers: Sequence[int]) -> None:
    for _ in map(function, numbers) if pool is None else pool.map(carried(function), numbers):
        pass


def _side(place: Longs | Between, above: int) -> Longs:
    if isinstance(place, np.ndarray):
        return place
    return place[1] if above else place[0]


def _answers(
    corners: NDArray[Any], outside: NDArray[np.bool_], weights: NDArray[np.float64], kind: pa.DataType
) -> pa.Array:
    missing, values = outside, corners[0]
    if len(weights):
        values = weigh_corners(corners, weights).astype(kind.to_pandas_dtype(), copy=False)
    if values.dtype.kind == "f":
        missing = missing | np.isnan(values)
    if pa.types.is_timestamp(kind):
        missing = missing | (values == np.iinfo(np.int64).min)  # NaT
        return pc.if_else(booleans(~missing), integers(values, kind), pa.scalar(None, kind))
    plain = booleans(values) if values.dtype.kind == "b" else _numbers(values)
    return pc.if_else(booleans(~missing), plain, pa.scalar(None, plain.type)) if missing.any() else plain


def _numbers(values: NDArray[Any]) -> pa.Array:
    whole = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(whole.dtype), len(whole), [None, pa.py_buffer(whole)])
