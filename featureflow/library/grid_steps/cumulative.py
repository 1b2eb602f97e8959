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
from featureflow.library.grid_steps.axes import check_dim, coordinates_within, is_time, known, with_known
from featureflow.library.grid_steps.chosen import acted_on, cut, with_variables
from featureflow.library.grid_steps.statistics import clean, result_dtype

Array = np.ndarray[Any, Any]


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
        kept = params.get("variables")
        return cls(params["dim"], params["op"], None if kept is None else tuple(kept))

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:  # noqa: ARG002
        """Types as those of the statistic."""
        check_dim(cube, self.dim, ("dim",))
        changed = {
            name: absent(
                cube[name].dims, cube[name].shape, result_dtype(self.op, cube[name].dtype), cube[name].attrs
            )
            for name in acted_on(cube, self.variables, [self.dim], ("dim",))
        }
        made = with_variables(cube, changed)
        if is_time(cube, self.dim):  # a value that was known late is in all totals after it
            made = with_known(made, self.dim, np.maximum.accumulate(known(cube, self.dim)))
        return made

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:  # noqa: ARG002
        """Everything before."""
        return Needs({**region, self.dim: (0, region[self.dim][1])})

    def apply(
        self,
        block: Block,
        region: Region,
        made: xr.Dataset,
        others: Mapping[str, Block],  # noqa: ARG002
        fitted: xr.Dataset | None,  # noqa: ARG002
    ) -> xr.Dataset:
        """One value after the other, in float64."""
        passing = cut(block, region)
        low, high = (end - block.region[self.dim][0] for end in region[self.dim])
        chosen = acted_on(block.data, self.variables, [self.dim], ("dim",))
        found: dict[str, xr.Variable] = {}
        for name, one in block.data.data_vars.variables.items():
            if name not in chosen:
                found[str(name)] = passing.variables[name]
                continue
            axis = one.dims.index(self.dim)
            totals = running(np.moveaxis(np.asarray(one.values), axis, 0), self.op)[low:high]
            values = np.moveaxis(totals, 0, axis).astype(made[name].dtype)
            found[str(name)] = xr.Variable(one.dims, clean(np.ascontiguousarray(values)), one.attrs)
        return coordinates_within(xr.Dataset(found), made, region)


def running(rows: Array, op: str) -> Array:
    """Running totals along the first axis."""
    if op in ("min", "max"):
        return np.asarray((np.fmin if op == "min" else np.fmax).accumulate(rows, axis=0))
    whole = rows.dtype.kind in "iub"
    if op == "sum" and whole:
        return np.add.accumulate(rows, axis=0, dtype=result_dtype("sum", rows.dtype))
    there = np.ones(rows.shape, bool) if whole else ~np.isnan(rows)
    sums = np.add.accumulate(np.where(there, rows, 0).astype(np.float64), axis=0)
    if op == "sum":
        return sums
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / np.add.accumulate(there, axis=0, dtype=np.int64))
