"""Rolling windows: trailing unless they are asked to be centred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.kernels import grid_windows
from featureflow.library.grid_steps.attributes import of_statistic
from featureflow.library.grid_steps.axes import check_dim, is_time, known, latest_within, with_known
from featureflow.library.grid_steps.blocks import (
    Values,
    along,
    back,
    float_dtype,
    floats,
    result,
)
from featureflow.library.grid_steps.chosen import acted_on

_TOTALS = {
    "mean": grid_windows.MEAN,
    "sum": grid_windows.SUM,
    "min": grid_windows.MIN,
    "max": grid_windows.MAX,
    "count": grid_windows.COUNT,
}


@dataclass(frozen=True)
class Rolling(GridStep):
    """A statistic of the last ``window`` values along a dimension, the value itself included; xarray's ``rolling``.

    Notes
    -----
    Nulls: NaN is skipped; with fewer than ``min_periods`` values the result is NaN.
    Time: a window ends at its label, so nothing later is used. A centred one ends ``(window - 1) // 2`` later, and
    says so in ``known_at``.
    Determinism: a value is made of the values of its window in an order that depends on the window's length alone.
    Cost: one pass; about ``2 log2(window)`` operations a value, for the median ``window / 2`` moves.
    """

    dim: str
    window: int | None = None
    window_us: int | None = None
    op: str = "mean"
    min_periods: int | None = None
    center: bool = False
    ddof: int = 0
    variables: tuple[str, ...] | None = field(default=None)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Make it of the parameters that a spec has."""
        given = dict(params)
        if given.get("variables") is not None:
            given["variables"] = tuple(given["variables"])
        step = cls(**given)
        if step.window is not None and step.min_periods is not None and step.min_periods > step.window:
            raise StepMistake(
                ("min_periods",),
                f"a window of {step.window} values never has {step.min_periods}. Use at most {step.window}.",
            )
        return step

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give the same dimensions; ``count`` is float64, as in xarray, because it can be missing."""
        check_dim(cube, self.dim, ("dim",))
        self.length(cube)
        made = cube.copy(deep=False)
        for name in acted_on(cube, self.variables, (self.dim,), ("dim",)):
            v = cube[name]
            dtype = np.dtype(np.float64) if self.op == "count" else float_dtype(v.dtype)
            made[name] = absent(v.dims, v.shape, dtype, of_statistic(v.attrs, self.op, [self.dim]))
        if is_time(cube, self.dim):
            before, after = self._reach(cube)
            return with_known(made, self.dim, latest_within(known(cube, self.dim), before, after))
        return made

    def length(self, cube: xr.Dataset) -> int:
        """Number of positions of a window.

        Raises
        ------
        StepMistake
            If it is a duration and the coordinate is no regular one of times, or the duration no multiple of its step.
        """
        if self.window is not None:
            return self.window
        if self.window_us is None:
            raise StepMistake(("window",), "a window is a number of values, or a duration such as 30d.")
        if not is_time(cube, self.dim):
            raise StepMistake(
                ("window",),
                f"{self.dim!r} holds no times, so a window on it is a number of values, not a duration.",
            )
        step = _regular_step(cube, self.dim)
        if self.window_us % step:
            raise StepMistake(
                ("window",),
                f"is no multiple of the step of {self.dim!r}, which is {_shown(step)}. Use one, or a number of values.",
            )
        return self.window_us // step

    def _reach(self, cube: xr.Dataset) -> tuple[int, int]:
        """How many positions before and after its label a window takes."""
        length = self.length(cube)
        before = length // 2 if self.center else length - 1
        return before, length - 1 - before

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """The windows of the region, as far as there is input."""
        before, after = self._reach(cube)
        low, high = region[self.dim]
        return Needs({**region, self.dim: (max(0, low - before), min(cube.sizes[self.dim], high + after))})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Compute the windows that end, or have their middle, in the region."""
        before, after = self._reach(made)
        length = before + 1 + after
        minimum = self.min_periods or (length if self.window is not None else 1)
        low, high = region[self.dim]
        data = block.within({dim: span for dim, span in region.items() if dim != self.dim})
        arrays: dict[str, Values] = {}
        for name in acted_on(made, self.variables, (self.dim,), ("dim",)):
            values, axis = data[name].values, data[name].dims.index(self.dim)
            x, moved = along(floats(values), axis)
            out = np.empty((x.shape[0], high - low, x.shape[2]), made[name].dtype)
            if out.size:
                self._compute(x, length, low + after - block.region[self.dim][0], minimum, out)
            arrays[name] = back(out, values.shape, axis, moved)
        passed = data.isel(
            {self.dim: slice(low - block.region[self.dim][0], high - block.region[self.dim][0])}
        )
        return result(made, region, arrays, passed)

    def _compute(self, x: Values, length: int, first: int, minimum: int, out: Values) -> None:
        if self.op in _TOTALS:
            ring = grid_windows.ring_for(length, x.shape[2])
            grid_windows.window_totals(x, length, first, minimum, _TOTALS[self.op], ring, out)
        elif self.op == "median":
            grid_windows.window_medians(x, length, first, minimum, out)
        else:
            ring = grid_windows.ring_for(length, x.shape[2], arrays=3)
            grid_windows.window_moments(x, length, first, minimum, self.ddof, self.op == "std", ring, out)


def _regular_step(cube: xr.Dataset, dim: str) -> int:
    """Microseconds from one time to the next."""
    times = cube[dim].values
    if times.size < 2:
        raise StepMistake(
            ("window",), f"{dim!r} has one time, so its step is unknown. Use a number of values."
        )
    gaps = np.unique(np.diff(times))
    if gaps.size > 1:
        raise StepMistake(
            ("window",),
            f"a duration needs regular times, and those of {dim!r} are {_shown(_microseconds(gaps[0]))} to"
            f" {_shown(_microseconds(gaps[-1]))} apart. Use a number of values.",
        )
    step = _microseconds(gaps[0])
    if step <= 0:
        raise StepMistake(
            ("dim",), f"{dim!r} runs backwards, so a trailing window would take what comes later."
        )
    return step


def _microseconds(gap: Any) -> int:
    return int(np.timedelta64(gap) / np.timedelta64(1, "us"))


def _shown(microseconds: int) -> str:
    return str(np.timedelta64(microseconds, "us").astype("timedelta64[s]").item())
