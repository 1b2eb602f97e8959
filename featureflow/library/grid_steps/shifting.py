"""The step `lag`: earlier values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region, Span
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.library.grid_steps.axes import check_dim, is_time, known, with_known
from featureflow.library.grid_steps.blocks import result
from featureflow.library.grid_steps.chosen import acted_on, names_in, refuse_others, with_variables


@dataclass(frozen=True)
class Lag(GridStep):
    """The value some positions before, as xarray's ``shift``; NaN where there is none.

    One number with ``scalar`` replaces values, a list gives new variables ``{variable}_lag{n}`` beside the old ones.
    Variables of other types can't be missing: with one number, which would leave them where they are, they are refused.
    """

    dim: str
    n: tuple[int, ...]
    scalar: bool = False
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Lag:
        """Make the step from the parameters of a spec."""
        return cls(params["dim"], tuple(params["n"]), bool(params.get("scalar", False)), names_in(params))

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Integers become floats that have a NaN, as in xarray."""
        check_dim(cube, self.dim, ("dim",))
        changed: dict[str, xr.Variable] = {}
        for name in acted_on(cube, self.variables, [self.dim], ("dim",), "iuf"):
            one = cube[name]
            for lag in self.n:
                new = name if self.scalar else f"{name}_lag{lag}"
                if not self.scalar and new in cube.variables:
                    raise StepMistake(("n",), f"there is a variable {new!r} already.")
                changed[new] = absent(one.dims, one.shape, with_missing(one.dtype), one.attrs)
        made = with_variables(cube, changed)
        if not is_time(cube, self.dim):
            return made
        when = known(cube, self.dim)
        # with unshifted values beside them, a row is known when all of it is
        latest = (when if self._passes(cube) else np.asarray(cube[self.dim].values)).copy()
        for lag in self.n:
            latest[lag:] = np.maximum(latest[lag:], when[: max(0, len(when) - lag)])
        return with_known(made, self.dim, latest)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """As far back as the longest lag; only that far where nothing but shifted values is asked for."""
        low, high = region[self.dim]
        if self._passes(cube):
            return Needs({**region, self.dim: (max(0, low - max(self.n)), high)})
        (lag,) = self.n
        shifted = (max(0, low - lag), high - lag)
        return Needs({**region, self.dim: shifted if shifted[1] > 0 else (low, low + 1)})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Copy what is there, NaN where nothing is."""
        arrays = {}
        for name in self._chosen(block.data):
            one = block.data.variables[name]
            for lag in self.n:
                new = name if self.scalar else f"{name}_lag{lag}"
                arrays[new] = self._shifted(
                    one, made[new].dtype, block.region[self.dim], region[self.dim], lag
                )
        return result(made, region, arrays, block.within(region))

    def _chosen(self, cube: xr.Dataset) -> list[str]:
        if self.scalar:
            refuse_others(cube, self.variables, [self.dim], "a lag", "iuf")
        return acted_on(cube, self.variables, [self.dim], ("dim",), "iuf")

    def _passes(self, cube: xr.Dataset) -> bool:
        """Whether values are there that are not shifted."""
        return not self.scalar or len(self._chosen(cube)) < len(cube.data_vars)

    def _shifted(
        self, one: xr.Variable, dtype: np.dtype[Any], has: Span, wanted: Span, lag: int
    ) -> np.ndarray[Any, Any]:
        axis = one.dims.index(self.dim)
        rows = np.moveaxis(np.asarray(one.values), axis, 0)
        out = np.full((wanted[1] - wanted[0], *rows.shape[1:]), np.nan, dtype)
        low, high = max(has[0], wanted[0] - lag), min(has[1], wanted[1] - lag)
        if low < high:
            out[low + lag - wanted[0] : high + lag - wanted[0]] = rows[low - has[0] : high - has[0]]
        return np.ascontiguousarray(np.moveaxis(out, 0, axis))


def with_missing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type that has a NaN, as xarray promotes: int8 and int16 to float32, other integers to float64."""
    return np.dtype(xr.Variable(("x",), np.zeros(1, dtype)).shift(x=1).dtype)  # type: ignore[no-untyped-call]
