"""`regrid`: values at other points, or in other cells, along dimensions of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region, Span
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.kernels import grid_weights
from featureflow.library.grid_steps.axes import check_dim, is_time
from featureflow.library.grid_steps.axis_weights import (
    Numbers,
    cells,
    is_latitude,
    is_longitude,
    neighbours,
    numbers_of,
    overlaps,
    sparse,
)
from featureflow.library.grid_steps.blocks import (
    Values,
    along,
    back,
    float_dtype,
    floats,
    is_number,
    reshaped,
    result,
)


@dataclass(frozen=True)
class Regrid(GridStep):
    """Values between labels (``linear``, ``nearest``) as xarray's ``interp``, or means over cells (``conservative``).

    ``conservative`` takes each label to be the middle of a cell that reaches halfway to the next, and gives the mean
    of what lies in a target cell by area: sines of latitudes, and longitudes around the globe. Each dimension has its
    own weights, so grids are rectilinear.

    Notes
    -----
    Nulls: a neighbour that is NaN makes NaN, as in xarray; means over cells leave NaN out, and are NaN where nothing is
    left. Outside of the input there is NaN.
    Types: float32 stays, where xarray's ``interp`` gives float64; integers become float64.
    Coordinates along the dimensions that are no index are left out.
    """

    to: tuple[tuple[str, tuple[float, ...] | str], ...]
    like: str | None = None
    method: str = "linear"

    @property
    def others(self) -> tuple[str, ...]:  # type: ignore[override]
        """Grids whose labels are taken."""
        named = [target for _, target in self.to if isinstance(target, str)]
        return tuple(dict.fromkeys(named if self.like is None else [*named, self.like]))

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Make it of the parameters that a spec has."""
        found: list[tuple[str, tuple[float, ...] | str]] = []
        for dim, target in (params.get("to") or {}).items():
            if target["kind"] == "like":
                found.append((dim, str(target["source"])))
            elif target["kind"] == "range":
                step = range(target["count"])
                found.append((dim, tuple(float(target["start"] + i * target["step"]) for i in step)))
            else:
                found.append((dim, tuple(float(value) for value in target["values"])))
        return cls(tuple(found), params.get("like"), params.get("method", "linear"))

    def targets(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> dict[str, Numbers]:
        """Labels of the output along each dimension that changes."""
        if self.like is not None:
            other = others[self.like]
            dims = [str(d) for d in cube.sizes if d in other.indexes and not is_time(cube, d)]
            if not dims:
                raise StepMistake(("like",), f"{self.like!r} has no labels of a dimension of this grid.")
            # `needs` and `apply` do not see the other grid: the contract's callers ask for an outline first
            object.__setattr__(self, "_dims", tuple(dims))
            return {dim: numbers_of(other, dim, ("like",)) for dim in dims}
        found = {}
        for dim, target in self.to:
            check_dim(cube, dim, (dim,))
            if isinstance(target, str):
                check_dim(others[target], dim, (dim,))
                found[dim] = numbers_of(others[target], dim, (dim,))
            else:
                found[dim] = np.array(target)
        return found

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give the new labels, with the attributes of the old ones."""
        targets = self.targets(cube, others)
        for dim, target in targets.items():
            place = ("like",) if self.like is not None else (dim,)
            axis = numbers_of(cube, dim, place)
            if self.method == "conservative" and (axis.size < 2 or target.size < 2):
                raise StepMistake(
                    place, f"one label of {dim!r} has no cell: its width is unknown. Use nearest."
                )
            turns = np.diff(target)
            if not ((turns > 0).all() or (turns < 0).all()):
                raise StepMistake(place, f"the new labels of {dim!r} neither rise nor fall all the way.")
        sizes = {dim: target.size for dim, target in targets.items()}
        variables = {}
        for name, v in cube.data_vars.items():
            touched = set(v.dims) & set(targets)
            if touched and not is_number(v):
                raise StepMistake(
                    (), f"{name!r} is {v.dtype}; there is nothing between its values. Leave it out before."
                )
            variables[name] = reshaped(v, sizes, float_dtype(v.dtype), v.attrs) if touched else v.variable
        coords = {name: c.variable for name, c in cube.coords.items() if not set(c.dims) & set(targets)}
        labels = {dim: xr.Variable((dim,), target, dict(cube[dim].attrs)) for dim, target in targets.items()}
        return xr.Dataset(variables, {**coords, **labels}, attrs=cube.attrs)

    def _changed(self) -> tuple[str, ...]:
        """Dimensions that change, in the order in which they do: as written, or the cube's."""
        if self.like is None:
            return tuple(dim for dim, _ in self.to)
        found: tuple[str, ...] = getattr(self, "_dims", ())
        if not found:
            raise RuntimeError(f"which dimensions {self.like!r} has is known after `outline`")
        return found

    def _weights(self, axis: xr.DataArray, new: xr.DataArray, span: Span) -> Numbers:
        """Overlaps of the target cells in a span with the cells of an axis."""
        north = is_latitude(new) or is_latitude(axis)
        source = cells(np.asarray(axis.values, np.float64), north)
        target = cells(np.asarray(new.values, np.float64), north)
        period = 360.0 if is_longitude(new) or is_longitude(axis) else None
        return overlaps(source, (target[0][slice(*span)], target[1][slice(*span)]), period)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """From the first to the last label that takes part; for cells one more on each side, for their edges."""
        found = dict(region)
        for dim in self._changed():
            size = int(cube.sizes[dim])
            if self.method == "conservative":
                used = np.flatnonzero(self._weights(cube[dim], made[dim], region[dim]).any(axis=0))
                low, high = (used[0] - 1, used[-1] + 2) if used.size else (0, 2)
            else:
                points = made[dim].values[slice(*region[dim])]
                axis = np.asarray(cube[dim].values, np.float64)
                # two neighbours also where one is nearest, since it takes both to see which one is
                ends = np.concatenate(neighbours(axis, points, "linear")[:2])
                ends = ends[ends >= 0]
                low, high = (ends.min(), ends.max() + 1) if ends.size else (0, 1)
            found[dim] = (max(0, int(low)), min(size, int(high)))
        return Needs(found)

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Go from axis to axis in double precision, one dimension after the other."""
        changed = self._changed()
        data = block.within({dim: span for dim, span in region.items() if dim not in changed})
        arrays = {}
        for name, v in data.data_vars.items():
            dims = [dim for dim in changed if dim in v.dims]
            if not dims:
                continue
            axes = {dim: v.dims.index(dim) for dim in dims}
            if self.method == "conservative":
                weights = {axes[d]: sparse(self._weights(data[d], made[d], region[d])) for d in dims}
                arrays[str(name)] = _means(floats(v.values), weights)
            else:
                found = floats(v.values)
                for dim, axis in axes.items():
                    points = made[dim].values[slice(*region[dim])]
                    found = _between(
                        found, axis, neighbours(np.asarray(data[dim].values, np.float64), points, self.method)
                    )
                arrays[str(name)] = found
        return result(made, region, arrays, data)


def _between(values: Values, axis: int, found: tuple[Numbers, Numbers, Numbers]) -> Values:
    x, moved = along(values, axis)
    out = np.empty((x.shape[0], found[0].size, x.shape[2]))
    grid_weights.between(x, *found, out)
    return back(out, values.shape, axis, moved)


def _means(values: Values, weights: Mapping[int, tuple[Numbers, Numbers, Numbers]]) -> Values:
    """Means by weights along some axes."""
    sums: Values | None = None
    covered: Values | None = None
    for axis, (offsets, places, share) in weights.items():
        shape = values.shape if sums is None else sums.shape
        if sums is None or covered is None:
            x, moved = along(values, axis)
            new = [np.empty((x.shape[0], offsets.size - 1, x.shape[2])) for _ in range(2)]
            grid_weights.overlap_values(x, offsets, places, share, new[0], new[1])
        else:
            new = []
            for one in (sums, covered):
                x, moved = along(one, axis)
                new.append(np.empty((x.shape[0], offsets.size - 1, x.shape[2])))
                grid_weights.overlap_sums(x, offsets, places, share, new[-1])
        sums, covered = (back(one, shape, axis, moved) for one in new)
    if sums is None or covered is None:
        return values
    with np.errstate(all="ignore"):
        found = sums / covered
    found[~(covered > 0) | np.isnan(found)] = np.nan
    return found
