"""Ticks of ``at: {every: …}`` (spec section 6)."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featureflow.core.errors import PlanError
from featureflow.plan.nodes import Grid
from featureflow.plan.slices import to_datetime

_DAY_US = 86_400_000_000


def ticks_between(grid: Grid, first_us: int, last_us: int) -> NDArray[np.int64]:
    """List the ticks of the grid in the closed range, ascending.

    On UTC the grid is counted from the Unix epoch. In another zone it is counted on the local clock from local
    midnight of 1970-01-01, so that daily ticks are local midnights on both sides of a clock change: a local time that
    does not exist has no tick, one that exists twice has its first.
    """
    if last_us < first_us:
        return np.empty(0, np.int64)
    every = grid.every_us
    if grid.timezone == "UTC":
        return np.arange(-(-first_us // every) * every, last_us + 1, every, dtype=np.int64)
    low = _local_us(first_us - _DAY_US, grid.timezone)
    high = _local_us(last_us + _DAY_US, grid.timezone)
    local = np.arange(low // every * every, high + 1, every, dtype=np.int64)
    moments = (
        pl.Series(local)
        .cast(pl.Datetime("us"))
        .dt.replace_time_zone(grid.timezone, ambiguous="earliest", non_existent="null")
    )
    ticks = np.unique(moments.drop_nulls().dt.timestamp("us").to_numpy())
    return ticks[(ticks >= first_us) & (ticks <= last_us)]


def last_tick(grid: Grid, last_event_us: int) -> int:
    """Find where the grid ends when ``to`` is not given: the first tick at or after the latest event.

    At that tick every event is known, and no row is made of a time that the data has not reached.
    """
    reach = max(grid.every_us, _DAY_US) * 2
    bounds = tick_bounds(grid, last_event_us, last_event_us + reach)
    if bounds is None:
        raise PlanError(
            f"{grid.timezone}: no tick of the grid follows {to_datetime(last_event_us).isoformat()}."
        )
    return bounds[0]


def tick_bounds(grid: Grid, first_us: int, last_us: int) -> tuple[int, int] | None:
    """First and last tick in the closed range, without listing those between: a second's grid over years is long."""
    every = grid.every_us
    if grid.timezone == "UTC":
        low, high = -(-first_us // every) * every, last_us // every * every
        return (low, high) if low <= high else None
    span = 2 * max(every, _DAY_US)
    head = ticks_between(grid, first_us, min(last_us, first_us + span))
    tail = ticks_between(grid, max(first_us, last_us - span), last_us)
    return (int(head[0]), int(tail[-1])) if len(head) and len(tail) else None


def _local_us(us: int, timezone: str) -> int:
    from zoneinfo import ZoneInfo

    offset = to_datetime(us).astimezone(ZoneInfo(timezone)).utcoffset() or timedelta(0)
    return us + offset // timedelta(microseconds=1)
