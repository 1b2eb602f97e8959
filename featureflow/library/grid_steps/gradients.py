"""The step `gradient`: change per unit of a coordinate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.kernels import grid_slopes
from featureflow.library.grid_steps.attributes import per
from featureflow.library.grid_steps.axes import check_dim, is_time, known, latest_within, with_known
from featureflow.library.grid_steps.blocks import along, back, floats, result
from featureflow.library.grid_steps.chosen import acted_on, names_in, with_variables
from featureflow.library.grid_steps.statistics import clean, result_dtype

Array = np.ndarray[Any, Any]
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "D": 86400.0}
_UNIT_NAMES = {"s": "s", "min": "min", "h": "h", "D": "day"}


@dataclass(frozen=True)
class Gradient(GridStep):
    """Central differences per unit of the coordinate, one-sided at its ends: xarray's ``differentiate``.

    A value depends on both neighbours, so along time it is known when the next one is, and `known_at` says so.
    """

    dim: str
    edge_order: int = 1
    unit: str = "s"
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Gradient:
        """Make the step from the parameters of a spec."""
        return cls(params["dim"], params.get("edge_order") or 1, params.get("unit") or "s", names_in(params))

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Units per units of the coordinate."""
        check_dim(cube, self.dim, ("dim",))
        if self.dim not in cube.indexes:
            text = f"dimension {self.dim!r} has no coordinate, so there are no units to change by."
            raise StepMistake(("dim",), text)
        if cube.sizes[self.dim] < self.edge_order + 1:
            text = f"a slope needs {self.edge_order + 1} labels or more; {self.dim!r} has {cube.sizes[self.dim]}."
            raise StepMistake(("dim",), text)
        if cube[self.dim].dtype.kind not in "iufM" and not is_time(cube, self.dim):
            raise StepMistake(("dim",), f"labels of {self.dim!r} are no numbers and no times.")
        if not (np.diff(positions(cube, self.dim, self.unit)) != 0).all():
            raise StepMistake(("dim",), f"neighbours along {self.dim!r} have the same label: no distance.")
        time = is_time(cube, self.dim)
        unit = _UNIT_NAMES[self.unit] if time else cube[self.dim].attrs.get("units")
        changed = {
            name: absent(
                cube[name].dims,
                cube[name].shape,
                result_dtype("mean", cube[name].dtype),
                per(cube[name].attrs, unit),
            )
            for name in self._chosen(cube)
        }
        made = with_variables(cube, changed)
        if not time:
            return made
        when = known(cube, self.dim)
        latest = latest_within(when, 1, 1)
        reach = self.edge_order + 1  # the values that are one-sided
        latest[0], latest[-1] = when[:reach].max(), when[-reach:].max()
        return with_known(made, self.dim, latest)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """Both neighbours, and as many values as the ends take."""
        low, high = region[self.dim]
        size, reach = int(cube.sizes[self.dim]), self.edge_order + 1
        start, stop = max(0, low - 1), min(size, high + 1)
        if low == 0:
            stop = max(stop, reach)
        if high == size:
            start = min(start, size - reach)
        return Needs({**region, self.dim: (start, stop)})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Differences in float64, by the weights that the whole coordinate gives."""
        gradients = stencil(positions(made, self.dim, self.unit), self.edge_order)
        arrays = {}
        for name in self._chosen(block.data):
            one = block.data.variables[name]
            axis = one.dims.index(self.dim)
            x, moved = along(floats(one.values), axis)
            out = np.empty((x.shape[0], region[self.dim][1] - region[self.dim][0], x.shape[2]), x.dtype)
            gradients(x, *region[self.dim], block.region[self.dim][0], out)
            arrays[name] = clean(back(out, one.shape, axis, moved))
        return result(made, region, arrays, block.within(region))

    def _chosen(self, cube: xr.Dataset) -> list[str]:
        return acted_on(cube, self.variables, [self.dim], ("dim",), "iuf")


def positions(cube: xr.Dataset, dim: str, unit: str) -> Array:
    """Coordinate as float64 numbers; times in a unit since the first one."""
    values = cube[dim].values
    if cube[dim].dtype.kind == "M":
        ticks = (values - values[0]) / np.timedelta64(1, "ns")
        return np.asarray(ticks / (_SECONDS[unit] * 1e9))
    if cube[dim].dtype.kind == "O":
        return np.array([(one - values[0]).total_seconds() / _SECONDS[unit] for one in values])
    return values.astype(np.float64)


@dataclass(frozen=True)
class Stencil:
    """How each position's gradient is made: of two values, or of three.

    Parameters
    ----------
    low, high, apart
        Two values: ``(f[high] - f[low]) / apart``.
    of_three
        Where three values are taken instead: those from ``first`` on, each times its weight, ``(3, positions)``.
    """

    low: Array
    high: Array
    apart: Array
    of_three: Array
    first: Array
    weights: Array

    def __call__(self, x: Array, start: int, stop: int, offset: int, out: Array) -> None:
        """Gradients of the positions from ``start`` to ``stop``; ``x`` has those from ``offset`` on in its middle."""
        here = slice(start, stop)
        grid_slopes.slopes(
            x,
            self.low[here] - offset,
            self.high[here] - offset,
            self.apart[here],
            self.of_three[here],
            self.first[here] - offset,
            np.ascontiguousarray(self.weights[:, here]),
            out,
        )


def stencil(x: Array, edge_order: int) -> Stencil:
    """Work out how gradients along a coordinate are made, as ``numpy.gradient`` does.

    A position takes both neighbours if they are equally far, the three-point formula of second order if not; the ends
    take two values with ``edge_order`` 1, three with 2. NumPy asks whether *all* points are evenly spaced, so that a
    label that is appended could change values far from it; here only the neighbours count.
    """
    size, steps = len(x), np.diff(x)
    at = np.arange(size)
    low, high = np.maximum(at - 1, 0), np.minimum(at + 1, size - 1)
    of_three = np.zeros(size, bool)
    of_three[[0, -1]] = edge_order == 2
    apart = np.concatenate([steps[:1], 2.0 * steps[:-1], steps[-1:]])
    first = np.clip(at - 1, 0, max(0, size - 3))
    weights = np.zeros((3, size))
    if size > 2:
        before, after = steps[:-1], steps[1:]
        of_three[1:-1] = before != after
        weights[0, 1:-1] = -after / (before * (before + after))
        weights[1, 1:-1] = (after - before) / (before * after)
        weights[2, 1:-1] = before / (after * (before + after))
        weights[:, 0] = _end_weights(steps[0], steps[1])
        weights[:, -1] = -_end_weights(steps[-1], steps[-2])[::-1]
    return Stencil(low, high, apart, of_three, first, weights)


def _end_weights(near: float, far: float) -> Array:
    """Weights of the first three values for the gradient at the first."""
    both = near + far
    return np.array([-(near + both) / (near * both), both / (near * far), -near / (far * both)])
