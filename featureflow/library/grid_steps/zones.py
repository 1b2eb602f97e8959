"""`zonal`: statistics of zones, given as an array of labels or as polygons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.kernels import grid_weights
from featureflow.library.grid_steps.attributes import of_statistic
from featureflow.library.grid_steps.axes import check_dim, check_variables, hint
from featureflow.library.grid_steps.axis_weights import is_latitude, is_longitude, numbers_of
from featureflow.library.grid_steps.blocks import Values, float_dtype, floats, is_number, result
from featureflow.library.grid_steps.polygons import Rings, inside, read_geojson, rings_of

ZONE = "zone"
_OPS = {
    "mean": grid_weights.MEAN,
    "sum": grid_weights.SUM,
    "min": grid_weights.MIN,
    "max": grid_weights.MAX,
    "count": grid_weights.COUNT,
    "var": grid_weights.VAR,
    "std": grid_weights.STD,
    "median": grid_weights.MEDIAN,
}


@dataclass(frozen=True)
class Zonal(GridStep):
    """Statistics of all cells of each zone, ``<variable>_<op>`` along ``zone`` and the dimensions that zones lack.

    Zones are the labels of an array, in ascending order, or polygons, in the order in which they are written: a cell
    is in those that its middle is in.

    Notes
    -----
    Nulls: cells that are NaN are skipped; a zone without values is NaN, its sum and count are 0. A cell without a label
    (NaN) is in no zone.
    Determinism: sums in double precision in the order of the cells.
    Cost: a task holds all cells of its times at once.
    """

    labels: tuple[str, str | None] | None
    polygons: tuple[tuple[str, Rings], ...] | None
    x: str | None = None
    y: str | None = None
    ops: tuple[str, ...] = ("mean",)
    ddof: int = 0
    weights: str | None = None
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Make it of the parameters that a spec has; a file of polygons is read now."""
        labels, given = params.get("labels"), params.get("polygons")
        polygons = (
            None if given is None else tuple((str(name), rings_of(ring)) for name, ring in given.items())
        )
        if params.get("file"):
            polygons = tuple(read_geojson(params["file"], params["property"]).items())
        return cls(
            None if labels is None else (labels["source"], labels.get("variable")),
            polygons,
            params.get("x"),
            params.get("y"),
            tuple(params["ops"]),
            params.get("ddof") or 0,
            params.get("weights"),
            None if params.get("variables") is None else tuple(params["variables"]),
        )

    @property
    def others(self) -> tuple[str, ...]:  # type: ignore[override]
        """The source of labels."""
        return () if self.labels is None else (self.labels[0],)

    @property
    def loaded(self) -> Mapping[str, str | None]:  # type: ignore[override]
        """Labels decide which zones there are."""
        return {} if self.labels is None else {self.labels[0]: self.labels[1]}

    def _array(self, others: Mapping[str, xr.Dataset]) -> xr.DataArray:
        """Give the array of labels."""
        if self.labels is None:
            raise TypeError("zones are polygons")
        source, name = self.labels
        other = others[source]
        if name is None:
            if len(other.data_vars) != 1:
                raise StepMistake(
                    ("labels",),
                    f"{source!r} has several variables. Name one as variable: {hint('', other.data_vars)}",
                )
            name = str(next(iter(other.data_vars)))
        if name not in other.data_vars:
            raise StepMistake(
                ("labels",), f"{source!r} has no variable {name!r}. {hint(name, other.data_vars)}"
            )
        return other[name]

    def _dims(self, made: xr.Dataset) -> tuple[str, ...]:
        """Dimensions that zones cover; kept as an attribute of the coordinate, since the output lacks them."""
        return tuple(made[ZONE].attrs["of"].split())

    def _zones(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> tuple[Values, tuple[str, ...]]:
        """Labels of the zones, and the dimensions that they cover."""
        if self.polygons is not None:
            for dim, place in ((self.x, "x"), (self.y, "y")):
                check_dim(cube, str(dim), (place,))
                numbers_of(cube, str(dim), (place,))
            return np.array([name for name, _ in self.polygons]), (str(self.y), str(self.x))
        array = self._array(others)
        dims = tuple(str(dim) for dim in array.dims)
        for dim in dims:
            check_dim(cube, dim, ("labels",))
            if cube.sizes[dim] != array.sizes[dim] or (
                dim in cube.indexes
                and dim in array.indexes
                and not cube.indexes[dim].equals(array.indexes[dim])
            ):
                raise StepMistake(
                    ("labels",),
                    f"the labels of {dim!r} are not those of the grid, so cells do not match. Use regrid before.",
                )
        return _distinct(array), dims

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give zones first, then dimensions that they lack; others than those asked for are left out."""
        zones, dims = self._zones(cube, others)
        for asked in self.variables or ():
            check_variables(cube, [asked], ("variables",))
            if not is_number(cube[asked]) or not set(dims) <= set(cube[asked].dims):
                text = f"{asked!r} is {cube[asked].dtype} of the dimensions {', '.join(map(str, cube[asked].dims))};"
                raise StepMistake(("variables",), f"{text} zones take numbers of {', '.join(dims)}.")
        if ZONE in set(cube.sizes) - set(dims) or (ZONE in cube.coords and not cube[ZONE].dims):
            raise StepMistake((), f"the grid already has a {ZONE!r}. Drop or rename it before.")
        variables = {}
        for name, v in cube.data_vars.items():
            if self.variables is not None and name not in self.variables:
                continue
            if not is_number(v) or not set(dims) <= set(v.dims):
                continue
            kept = [dim for dim in v.dims if dim not in dims]
            for op in self.ops:
                dtype = np.dtype(np.int64) if op == "count" else float_dtype(v.dtype)
                shape = [zones.size, *(v.sizes[dim] for dim in kept)]
                variables[f"{name}_{op}"] = absent(
                    (ZONE, *kept), shape, dtype, of_statistic(v.attrs, op, dims)
                )
        if not variables:
            raise StepMistake(
                (), f"no variable of numbers has the dimensions {', '.join(dims)} of the zones."
            )
        coords = {name: c.variable for name, c in cube.coords.items() if not set(c.dims) & set(dims)}
        label = xr.Variable((ZONE,), zones, {"of": " ".join(dims)})
        return xr.Dataset(variables, {**coords, ZONE: label}, attrs=cube.attrs)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """All cells, and all labels."""
        dims = self._dims(made)
        found = {
            str(dim): (0, int(size)) if dim in dims else region.get(str(dim), (0, int(size)))
            for dim, size in cube.sizes.items()
        }
        if self.labels is None:
            return Needs(found)
        return Needs(found, others={self.labels[0]: {dim: found[dim] for dim in dims}})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Gather the cells of each zone, in their order."""
        dims = self._dims(made)
        data = block.within({dim: span for dim, span in region.items() if dim in block.data.dims})
        zones = made[ZONE].values[slice(*region[ZONE])]
        offsets, cells = self._members(data, zones, block.others, dims)
        weights = self._weights(data, dims)[cells]
        arrays = {}
        for name, v in data.data_vars.items():
            if f"{name}_{self.ops[0]}" not in made.data_vars or not set(dims) <= set(v.dims):
                continue
            axes = [v.dims.index(dim) for dim in dims]
            kept = [n for axis, n in enumerate(v.shape) if axis not in axes]
            ends = range(-len(dims), 0)
            table = np.ascontiguousarray(np.moveaxis(floats(v.values), axes, ends)).reshape(
                int(np.prod(kept)), -1
            )
            for op in self.ops:
                out = np.empty((len(table), zones.size))
                grid_weights.zone_statistics(table, offsets, cells, weights, _OPS[op], self.ddof, out)
                arrays[f"{name}_{op}"] = np.ascontiguousarray(out.T).reshape(zones.size, *kept)
        return result(made, region, arrays, data)

    def _members(
        self, data: xr.Dataset, zones: Values, others: Mapping[str, Block], dims: tuple[str, ...]
    ) -> tuple[Values, Values]:
        """Cells of each zone: where each zone starts, and positions of cells."""
        if self.polygons is not None:
            x, y = (np.asarray(data[dim].values, np.float64) for dim in (str(self.x), str(self.y)))
            around = 360.0 if is_longitude(data[str(self.x)]) else None
            wanted = dict(self.polygons)
            found = [np.flatnonzero(inside(wanted[str(zone)], x, y, around)) for zone in zones]
        else:
            array = self._array({name: one.data for name, one in others.items()}).transpose(*dims)
            flat = array.values.reshape(-1)
            order = np.argsort(flat, kind="stable")
            low, high = (np.searchsorted(flat, zones, side=side, sorter=order) for side in ("left", "right"))
            found = [order[a:b] for a, b in zip(low, high, strict=True)]
        offsets = np.cumsum([0, *(len(one) for one in found)]).astype(np.int64)
        return offsets, np.concatenate([*found, np.empty(0, np.int64)]).astype(np.int64)

    def _weights(self, data: xr.Dataset, dims: tuple[str, ...]) -> Values:
        """Weight of each cell: 1, or the cosine of its latitude."""
        shape = [data.sizes[dim] for dim in dims]
        north = [dim for dim in dims if dim in data.coords and is_latitude(data[dim])]
        if self.weights != "area" or not north:
            return np.ones(int(np.prod(shape)))
        cosines = np.cos(np.deg2rad(np.asarray(data[north[0]].values, np.float64)))
        along = [-1 if dim == north[0] else 1 for dim in dims]
        return np.ascontiguousarray(np.broadcast_to(cosines.reshape(along), shape)).reshape(-1)


def _distinct(array: xr.DataArray) -> Values:
    """Labels that are there, in ascending order: from the values in memory, or those that CF attributes list."""
    if isinstance(array.variable._data, np.ndarray):  # noqa: SLF001  `.values` would read what is not in memory
        values = array.values
        if values.dtype.kind == "f":
            values = values[~np.isnan(values)]
    elif "flag_values" in array.attrs:
        values = np.atleast_1d(np.asarray(array.attrs["flag_values"]))
    else:
        raise StepMistake(
            ("labels",),
            f"which zones {array.name!r} has is known from its values alone, and it has no attribute flag_values.",
        )
    found = np.unique(values)
    if not found.size:
        raise StepMistake(("labels",), f"{array.name!r} has no label: everything is missing.")
    if found.dtype.kind == "f" and np.array_equal(found, np.round(found)):
        return found.astype(np.int64)
    return found
