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
from featureflow.library.grid_steps.axes import (
    check_dim,
    coordinates_within,
    is_time,
    known,
    with_known,
)
from featureflow.library.grid_steps.chosen import acted_on, cut, with_variables


@dataclass(frozen=True)
class Lag(GridStep):
    """The value some positions before, as xarray's ``shift``; NaN where there is none.

    One number with ``scalar`` replaces values, a list gives new variables ``{variable}_lag{n}`` beside the old ones.
    A negative lag reads what comes later; along time such values are known only then, and `known_at` says so.
    """

    dim: str
    n: tuple[int, ...]
    scalar: bool = False
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Lag:
        """Make the step from the parameters of a spec."""
        given, kept = params["n"], params.get("variables")
        lags = (given,) if isinstance(given, int) else tuple(given)
        return cls(
            params["dim"], lags, bool(params.get("scalar", False)), None if kept is None else tuple(kept)
        )

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:  # noqa: ARG002
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
            there = slice(lag, None) if lag >= 0 else slice(None, lag)
            given = when[: max(0, len(when) - lag)] if lag >= 0 else when[-lag:]
            latest[there] = np.maximum(latest[there], given)
        return with_known(made, self.dim, latest)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:  # noqa: ARG002
        """As far back as the longest lag, as far ahead as the most negative one."""
        low, high = region[self.dim]
        size = int(cube.sizes[self.dim])
        back, ahead = max(*self.n, 0), max(0, *(-lag for lag in self.n))
        if not self._passes(cube):  # only shifted values: not those between
            shifted = [(max(0, low - lag), min(size, high - lag)) for lag in self.n]
            there = [span for span in shifted if span[0] < span[1]] or [(min(low, size - 1), low + 1)]
            low, high = min(span[0] for span in there), max(span[1] for span in there)
            return Needs({**region, self.dim: (low, high)})
        return Needs({**region, self.dim: (max(0, low - back), min(size, high + ahead))})

    def apply(
        self,
        block: Block,
        region: Region,
        made: xr.Dataset,
        others: Mapping[str, Block],  # noqa: ARG002
        fitted: xr.Dataset | None,  # noqa: ARG002
    ) -> xr.Dataset:
        """Copy what is there, NaN where nothing is."""
        found: dict[str, xr.Variable] = {}
        chosen = self._chosen(block.data)
        if self._passes(block.data):
            found = {str(n): one for n, one in cut(block, region).data_vars.variables.items()}
        for name in chosen:
            one = block.data.variables[name]
            for lag in self.n:
                new = name if self.scalar else f"{name}_lag{lag}"
                values = self._shifted(one, made[new].dtype, block.region[self.dim], region[self.dim], lag)
                found[new] = xr.Variable(one.dims, values, one.attrs)
        ordered = {name: found[str(name)] for name in made.data_vars}
        return coordinates_within(xr.Dataset(ordered), made, region)

    def _chosen(self, cube: xr.Dataset) -> list[str]:
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
