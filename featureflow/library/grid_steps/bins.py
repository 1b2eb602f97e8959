"""Statistics of bins along a dimension, and when they are known."""

from __future__ import annotations

import numpy as np

from featureflow.kernels import grid_ranges
from featureflow.library.grid_steps.blocks import Values

#: statistics of one pass, as the kernels name them
TOTALS = {
    "mean": grid_ranges.MEAN,
    "sum": grid_ranges.SUM,
    "min": grid_ranges.MIN,
    "max": grid_ranges.MAX,
    "count": grid_ranges.COUNT,
    "first": grid_ranges.FIRST,
    "last": grid_ranges.LAST,
}


def statistic(x: Values, starts: Values, stops: Values, op: str, ddof: int, out: Values) -> None:
    """Give one statistic of ranges, as `featureflow.kernels.grid_ranges` has them."""
    if not out.size:
        return
    if op in TOTALS:
        grid_ranges.range_totals(x, starts, stops, TOTALS[op], out)
    elif op == "median":
        grid_ranges.range_medians(x, starts, stops, out)
    else:
        grid_ranges.range_moments(x, starts, stops, ddof, op == "std", out)


def latest(when: Values, starts: Values, stops: Values, labels: Values) -> Values:
    """When the last value of each bin is known; for an empty bin its label."""
    latest = labels.astype(when.dtype)
    there = stops > starts
    if there.any():
        # bins lie side by side, so that each one ends where the next with values begins
        latest[there] = np.maximum.reduceat(when[: stops[there][-1]], starts[there])
    return latest
