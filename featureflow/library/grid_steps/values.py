"""The step `cast`: other types of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.core.errors import ComputeError
from featureflow.library.grid_steps.axes import check_variables
from featureflow.library.grid_steps.blocks import result
from featureflow.library.grid_steps.chosen import acted_on, with_variables

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Cast(GridStep):
    """Convert values to another type; strict: what does not fit is an error, never another number.

    Fractions are cut towards zero, as NumPy does; NaN and infinities do not fit into integers, and neither does what
    is beyond their range.
    """

    dtype: str | None
    each: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Cast:
        """Make the step from the parameters of a spec."""
        return cls(params.get("dtype"), tuple((params.get("each") or {}).items()))

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """With the new types."""
        check_variables(cube, [name for name, _ in self.each], ())
        wanted = dict(self.each)
        if self.dtype is not None:
            wanted = dict.fromkeys(acted_on(cube, None, (), ("dtype",)), self.dtype)
        for name in wanted:
            if cube[name].dtype.kind not in "biuf":
                raise StepMistake((name,), f"{name!r} is {cube[name].dtype}, which is no number.")
        changed = {
            name: absent(cube[name].dims, cube[name].shape, dtype, cube[name].attrs)
            for name, dtype in wanted.items()
        }
        return with_variables(cube, changed)

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Check the range, then convert."""
        data = block.within(region)
        arrays = {
            str(name): converted(np.asarray(one.values), made[name].dtype, str(name))
            for name, one in data.data_vars.variables.items()
        }
        return result(made, region, arrays, data)


def converted(values: Array, dtype: np.dtype[Any], name: str) -> Array:
    """Convert numbers.

    Raises
    ------
    ComputeError
        If one does not fit; says which.
    """
    if dtype == values.dtype:
        return values
    wrong = _misfits(values, dtype)
    if wrong is not None and wrong.any():
        first = values[wrong].reshape(-1)[0].item()
        raise ComputeError(
            f"cast: {name} has {first!r}, which does not fit into {dtype} ({int(wrong.sum())} of {wrong.size} values "
            "of this part). Use fill, where or clip before."
        )
    return values.astype(dtype)


def _misfits(values: Array, dtype: np.dtype[Any]) -> Array | None:
    """Which values another type cannot hold; None if it can hold all."""
    if dtype.kind == "b":
        return np.asarray(~((values == 0) | (values == 1)))
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if values.dtype.kind != "f":
            return np.asarray((values < limits.min) | (values > limits.max))
        whole = np.trunc(values)  # the greatest int64 is no float64: the power of two after it is
        return ~((whole >= float(limits.min)) & (whole < 2.0 ** (limits.bits - (dtype.kind == "i"))))
    if values.dtype.kind == "f" and dtype.itemsize < values.dtype.itemsize:
        return np.asarray(np.isfinite(values) & (np.abs(values) > np.finfo(dtype).max))
    return None
