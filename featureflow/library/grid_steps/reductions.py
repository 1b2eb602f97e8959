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
from featureflow.library.grid_steps.axes import check_dim, coordinates_within, whole_of
from featureflow.library.grid_steps.chosen import acted_on, cut, with_variables
from featureflow.library.grid_steps.statistics import clean, over_rows, quantiles_of, result_dtype, statistic

QUANTILE = "quantile"


def _checked_dims(cube: xr.Dataset, dims: tuple[str, ...] | None) -> tuple[str, ...]:
    for dim in dims or ():
        check_dim(cube, dim, ("dims",))
    return tuple(str(dim) for dim in cube.sizes) if dims is None else dims


@dataclass(frozen=True)
class Reduce(GridStep):
    """One statistic over some dimensions, or all of them; the dimensions go.

    Variables that have none of the dimensions pass unchanged.
    """

    dims: tuple[str, ...] | None
    op: str
    ddof: int = 0
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Reduce:
        """Make the step from the parameters of a spec."""
        dims, kept = params.get("dims"), params.get("variables")
        return cls(
            None if dims is None else tuple(dims),
            params["op"],
            params.get("ddof") or 0,
            None if kept is None else tuple(kept),
        )

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:  # noqa: ARG002
        """Without the dimensions; attributes stay, a variance has squared units."""
        dims = _checked_dims(cube, self.dims)
        if self.op in ("first", "last") and len(dims) > 1:
            raise StepMistake(("dims",), f"{self.op} goes along one dimension; got {', '.join(dims)}.")
        changed = {}
        for name in acted_on(cube, self.variables, dims, ("dims",)):
            one = cube[name]
            left = [dim for dim in one.dims if dim not in dims]
            dtype, attrs = result_dtype(self.op, one.dtype), of_statistic(one.attrs, self.op)
            changed[name] = absent(left, [cube.sizes[dim] for dim in left], dtype, attrs)
        return with_variables(cube, changed, dims)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """All of the dimensions that go."""
        dims = _checked_dims(cube, self.dims)
        kept = {str(dim): region[str(dim)] for dim in cube.sizes if dim in made.sizes and dim not in dims}
        return Needs(whole_of(kept, cube, dims))

    def apply(
        self,
        block: Block,
        region: Region,
        made: xr.Dataset,
        others: Mapping[str, Block],  # noqa: ARG002
        fitted: xr.Dataset | None,  # noqa: ARG002
    ) -> xr.Dataset:
        """Sums in float64, in the order of the dimensions."""
        dims = _checked_dims(block.data, self.dims)
        passing = cut(block, region)
        found: dict[str, xr.Variable] = {}
        for name, one in block.data.data_vars.variables.items():
            if made[name].dims == one.dims:
                found[str(name)] = passing.variables[name]
                continue
            axes = [axis for axis, dim in enumerate(one.dims) if dim in dims]
            values = statistic(np.asarray(one.values), axes, self.op, self.ddof)
            found[str(name)] = xr.Variable(made[name].dims, values, made[name].attrs)
        return coordinates_within(xr.Dataset(found), made, region)


@dataclass(frozen=True)
class Percentile(GridStep):
    """Quantiles over some dimensions, linear between values, along a new dimension `quantile`.

    As xarray's ``quantile``, but of float32 they are float32.
    """

    dims: tuple[str, ...] | None
    quantiles: tuple[float, ...]
    scalar: bool = False
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Percentile:
        """Make the step from the parameters of a spec."""
        dims, kept = params.get("dims"), params.get("variables")
        return cls(
            None if dims is None else tuple(dims),
            tuple(float(one) for one in params["quantiles"]),
            bool(params.get("scalar", False)),
            None if kept is None else tuple(kept),
        )

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:  # noqa: ARG002
        """Without the dimensions; `quantile` comes first."""
        dims = _checked_dims(cube, self.dims)
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

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """All of the dimensions that go."""
        dims = _checked_dims(cube, self.dims)
        kept = {str(dim): region[str(dim)] for dim in cube.sizes if dim in made.sizes and dim not in dims}
        return Needs(whole_of(kept, cube, dims))

    def apply(
        self,
        block: Block,
        region: Region,
        made: xr.Dataset,
        others: Mapping[str, Block],  # noqa: ARG002
        fitted: xr.Dataset | None,  # noqa: ARG002
    ) -> xr.Dataset:
        """Sort the values of each output value."""
        dims = _checked_dims(block.data, self.dims)
        passing = cut(block, region)
        low, high = (0, 1) if self.scalar else region[QUANTILE]
        shares = self.quantiles[low:high]
        found: dict[str, xr.Variable] = {}
        for name, one in block.data.data_vars.variables.items():
            axes = [axis for axis, dim in enumerate(one.dims) if dim in dims]
            if not axes or made[name].dims == one.dims:
                found[str(name)] = passing.variables[name]
                continue
            values, dtype = np.asarray(one.values), made[name].dtype
            each = over_rows(values, axes, _Quantiles(shares), dtype, len(shares))
            stacked = each[0] if self.scalar else each
            found[str(name)] = xr.Variable(made[name].dims, stacked, made[name].attrs)
        return coordinates_within(xr.Dataset(found), made, region)


@dataclass(frozen=True)
class _Quantiles:
    """Some quantiles of each row."""

    shares: tuple[float, ...]

    def __call__(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with np.errstate(invalid="ignore"):
            return clean(quantiles_of(rows, self.shares))
