"""Steps that take whole dimensions together: `reduce` to a statistic, `percentile`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.library.grid_steps.attributes import of_statistic
from featureflow.library.grid_steps.axes import check_dim
from featureflow.library.grid_steps.blocks import result
from featureflow.library.grid_steps.chosen import acted_on, names_in, refuse_others, with_variables
from featureflow.library.grid_steps.statistics import clean, over_rows, quantiles_of, result_dtype, statistic

QUANTILE = "quantile"


@dataclass(frozen=True)
class _Together(GridStep):
    """Takes all values along some dimensions together; these go."""

    dims: tuple[str, ...] | None

    def over(self, cube: xr.Dataset) -> tuple[str, ...]:
        """Dimensions that go: all if none are named."""
        for dim in self.dims or ():
            check_dim(cube, dim, ("dims",))
        return tuple(str(dim) for dim in cube.sizes) if self.dims is None else self.dims

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """All of the dimensions that go."""
        dims = self.over(cube)
        kept = {str(dim): region[str(dim)] for dim in cube.sizes if dim not in dims}
        return Needs({**kept, **{dim: (0, int(cube.sizes[dim])) for dim in dims}})


@dataclass(frozen=True)
class Reduce(_Together):
    """One statistic over some dimensions, or all of them; the dimensions go.

    Variables that have none of the dimensions pass unchanged.
    """

    op: str = "mean"
    ddof: int = 0
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Reduce:
        """Make the step from the parameters of a spec."""
        return cls(names_in(params, "dims"), params["op"], params.get("ddof") or 0, names_in(params))

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Without the dimensions; attributes stay, a variance has squared units."""
        dims = self.over(cube)
        refuse_others(cube, self.variables, dims, f"a {self.op}")
        if self.op in ("first", "last") and len(dims) > 1:
            raise StepMistake(("dims",), f"{self.op} goes along one dimension; got {', '.join(dims)}.")
        changed = {}
        for name in acted_on(cube, self.variables, dims, ("dims",)):
            one = cube[name]
            left = [dim for dim in one.dims if dim not in dims]
            dtype, attrs = (
                result_dtype(self.op, one.dtype),
                of_statistic(one.attrs, self.op, [dim for dim in one.dims if dim in dims]),
            )
            changed[name] = absent(left, [cube.sizes[dim] for dim in left], dtype, attrs)
        return with_variables(cube, changed, dims)

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Sums in float64, in the order of the dimensions."""
        arrays = {}
        for name in acted_on(block.data, self.variables, self.over(block.data), ("dims",)):
            one = block.data.variables[name]
            axes = [axis for axis, dim in enumerate(one.dims) if dim not in made[name].dims]
            arrays[name] = statistic(np.asarray(one.values), axes, self.op, self.ddof)
        return result(made, region, arrays, block.within(region))


@dataclass(frozen=True)
class Percentile(_Together):
    """Quantiles over some dimensions, linear between values, along a new dimension `quantile`.

    As xarray's ``quantile``, but of float32 they are float32.
    """

    quantiles: tuple[float, ...] = (0.5,)
    scalar: bool = False
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Percentile:
        """Make the step from the parameters of a spec."""
        return cls(
            names_in(params, "dims"),
            tuple(float(one) for one in params["quantiles"]),
            bool(params.get("scalar", False)),
            names_in(params),
        )

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Without the dimensions; `quantile` comes first."""
        dims = self.over(cube)
        refuse_others(cube, self.variables, dims, "a percentile")
        if QUANTILE in cube.variables or QUANTILE in cube.sizes:
            raise StepMistake((), f"the cube already has a {QUANTILE!r}. Rename or drop it before.")
        lead = () if self.scalar else (QUANTILE,)
        changed = {}
        for name in acted_on(cube, self.variables, dims, ("dims",)):
            one = cube[name]
            left = [dim for dim in one.dims if dim not in dims]
            shape = [*([] if self.scalar else [len(self.quantiles)]), *(cube.sizes[dim] for dim in left)]
            changed[name] = absent((*lead, *left), shape, result_dtype("mean", one.dtype), one.attrs)
        label = xr.Variable(lead, self.quantiles[0] if self.scalar else list(self.quantiles))
        return with_variables(cube, changed, dims).assign_coords({QUANTILE: label})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Sort the values of each output value."""
        low, high = (0, 1) if self.scalar else region[QUANTILE]
        shares = self.quantiles[low:high]
        arrays = {}
        for name in acted_on(block.data, self.variables, self.over(block.data), ("dims",)):
            one = block.data.variables[name]
            axes = [axis for axis, dim in enumerate(one.dims) if dim not in made[name].dims]
            each = over_rows(np.asarray(one.values), axes, _Quantiles(shares), made[name].dtype, len(shares))
            arrays[name] = each[0] if self.scalar else each
        return result(made, region, arrays, block.within(region))


@dataclass(frozen=True)
class _Quantiles:
    """Some quantiles of each row."""

    shares: tuple[float, ...]

    def __call__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with np.errstate(invalid="ignore"):
            return clean(quantiles_of(rows, self.shares))
