"""The step `cumulative`: running totals from the start of a dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, Needs
from featureflow.contracts.outlines import absent
from featureflow.kernels import grid_reductions
from featureflow.library.grid_steps.attributes import of_statistic
from featureflow.library.grid_steps.axes import check_dim, is_time, known, with_known
from featureflow.library.grid_steps.blocks import Values, along, back, floats, result
from featureflow.library.grid_steps.chosen import acted_on, names_in, with_variables
from featureflow.library.grid_steps.statistics import clean, result_dtype

_OPS = {
    "mean": grid_reductions.MEAN,
    "sum": grid_reductions.SUM,
    "min": grid_reductions.MIN,
    "max": grid_reductions.MAX,
}


@dataclass(frozen=True)
class Cumulative(GridStep):
    """Sum, mean, maximum or minimum of a value and all before it; along time it never reads what comes later.

    NaN is no value: a sum stays what it was, as xarray's ``cumsum`` has it. Mean and extrema of no value are NaN.
    Every region needs everything from the start of the dimension: the sum of a value does not depend on where its
    block begins.
    """

    dim: str
    op: str
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Cumulative:
        """Make the step from the parameters of a spec."""
        return cls(params["dim"], params["op"], names_in(params))

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Types as those of the statistic."""
        check_dim(cube, self.dim, ("dim",))
        changed = {
            name: absent(
                cube[name].dims,
                cube[name].shape,
                result_dtype(self.op, cube[name].dtype),
                of_statistic(cube[name].attrs, self.op),
            )
            for name in acted_on(cube, self.variables, [self.dim], ("dim",))
        }
        made = with_variables(cube, changed)
        if is_time(cube, self.dim):  # a value that was known late is in all totals after it
            made = with_known(made, self.dim, np.maximum.accumulate(known(cube, self.dim)))
        return made

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """Everything before."""
        return Needs({**region, self.dim: (0, region[self.dim][1])})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """One value after the other, in float64."""
        low, high = (end - block.region[self.dim][0] for end in region[self.dim])
        arrays = {}
        for name in acted_on(block.data, self.variables, [self.dim], ("dim",)):
            one = block.data.variables[name]
            axis, values = one.dims.index(self.dim), np.asarray(one.values)
            if values.dtype.kind in "iub" and self.op != "mean":
                arrays[name] = _whole(np.moveaxis(values, axis, 0), self.op)[low:high]
                arrays[name] = np.moveaxis(arrays[name], 0, axis)
                continue
            x, moved = along(floats(values), axis)
            out = np.empty((x.shape[0], high - low, x.shape[2]), made[name].dtype)
            grid_reductions.running(x, low, _OPS[self.op], out)
            arrays[name] = clean(back(out, values.shape, axis, moved))
        return result(made, region, arrays, block.within(region))


def _whole(rows: Values, op: str) -> Values:
    """Running totals of whole numbers along the first axis, exact."""
    if op == "sum":
        return np.add.accumulate(rows, axis=0, dtype=result_dtype("sum", rows.dtype))
    return np.asarray((np.minimum if op == "min" else np.maximum).accumulate(rows, axis=0))
