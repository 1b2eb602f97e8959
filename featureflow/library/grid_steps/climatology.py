"""Differences from a climatology: the mean of each month, day of the year or hour over a stated period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import xarray as xr

from featureflow.contracts.grid_step import StepMistake
from featureflow.contracts.outlines import absent
from featureflow.kernels import grid_groups
from featureflow.library.grid_steps.attributes import of_difference
from featureflow.library.grid_steps.axes import is_time
from featureflow.library.grid_steps.blocks import Values, float_dtype
from featureflow.library.grid_steps.learning import LearningStep, Period, added, period_of

#: groups of a time: how many there are, and the first one's number
GROUPS = {"month": (12, 1), "dayofyear": (366, 1), "hour": (24, 0), "season": (4, 0), "none": (1, 0)}
_SEASON = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0])  # winter from December; by month


@dataclass(frozen=True)
class Anomaly(LearningStep):
    """Values minus the mean of their group (month, day of the year, hour) at their place, over the stated period.

    Equal to ``x - x.groupby("time.month").mean()[month of x]`` in xarray, but that the means are kept in float64.

    Notes
    -----
    Nulls: NaN is skipped by the means; a group without values in the period has no mean, so its anomalies are NaN.
    Time: the means know the whole period, so values within it are compared with later ones; that is what it states.
    Determinism: sums of cells in the order of times, cells in their order.
    Cost: the period is read once for the means; a block that holds the whole period is read once altogether.
    """

    over_dim: str
    by: str = "month"
    period: Period = None
    variables: tuple[str, ...] | None = None
    place = ("over",)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Make it of the parameters that a spec has."""
        chosen = params.get("variables")
        return cls(
            params["over"],
            params.get("by", "month"),
            period_of(params.get("period")),
            None if chosen is None else tuple(chosen),
        )

    @property
    def dims(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one dimension."""
        return (self.over_dim,)

    @property
    def statistics(self) -> tuple[str, ...]:
        """The mean."""
        return ("mean",)

    @property
    def group_dim(self) -> tuple[str, int] | None:
        """Groups of a year or a day, all of them whether or not there are such times."""
        return None if self.by == "none" else (f"{self.over_dim}_{self.by}", GROUPS[self.by][0])

    def groups(self, coordinate: xr.DataArray) -> Values:
        """Number of the group of each time."""
        if self.by == "season":
            return np.asarray(_SEASON[coordinate.dt.month.values - 1], np.int64)
        found = getattr(coordinate.dt, self.by).values
        return np.asarray(found, np.int64) - GROUPS[self.by][1]

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give the same dimensions and units; integers become float64."""
        self.check(cube)
        if self.by != "none" and not is_time(cube, self.over_dim):
            raise StepMistake(
                ("over",), f"{self.over_dim!r} holds no times, so it has no {self.by}. Use by: none."
            )
        made = cube.copy(deep=False)
        for name in self.names(cube):
            v = cube[name]
            made[name] = absent(v.dims, v.shape, float_dtype(v.dtype), of_difference(v.attrs))
        return made

    def sums(self, table: Values, groups: Values) -> dict[str, Values]:
        """Sums and numbers of values."""
        total = np.zeros((self._count, table.shape[1]))
        count = np.zeros_like(total)
        grid_groups.group_sums(table, groups, total, count)
        return {"sum": total, "count": count}

    def combine(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        """Add them up in their order."""
        return added(parts, {"sum": np.add, "count": np.add})

    def finish(self, sums: xr.Dataset) -> xr.Dataset:
        """Divide; NaN where there is nothing."""
        found = {}
        for name, v in sums.data_vars.items():
            variable, statistic = str(name).rsplit(":", 1)
            if statistic == "sum":
                with np.errstate(all="ignore"):
                    found[f"{variable}:mean"] = (v.dims, v.values / sums[f"{variable}:count"].values)
        return xr.Dataset(found)

    def compare(self, table: Values, groups: Values, learned: Sequence[Values], out: Values) -> None:
        """Subtract the mean of the group."""
        grid_groups.compare(table, groups, learned[0], learned[0], grid_groups.MINUS, out)
