"""Loading what every task needs before the first one comes: modules, and machine code of the usual kernels.

Measured on a fresh worker process, CPU of its first small build: 1.6 s without, 0.1 to 0.3 s with it, 0.05 s for the
second one. Of these 1.5 s are modules; kernels are 0.5 s from Numba's cache on disk, 5.9 s where they are compiled.
"""

from __future__ import annotations

import importlib
import logging

log = logging.getLogger(__name__)

#: What tasks of builds import.
MODULES = (
    "featureflow.execute.exchange.rekeying",
    "featureflow.execute.windows.window_task",
    "featureflow.execute.windows.evaluate",
    "featureflow.library.sources.registry",
)
#: The aggregations that most specs have; others are loaded when they come.
OPS = ("count", "sum", "mean", "min", "max", "first", "last", "stddev_samp")


def load_modules() -> None:
    """Import them."""
    for name in MODULES:
        importlib.import_module(name)


def warm_kernels() -> int:
    """Compute three rows with each of the usual aggregations, of integers and of floats.

    Returns
    -------
    int
        How many computations worked; one that does not is left to the task that needs it, which says why.
    """
    import numpy as np
    import pyarrow as pa

    from featureflow.contracts.aggregation import EventColumn, Windows
    from featureflow.execute.exchange.exchange_file import stable_order
    from featureflow.execute.windows.sorted_rows import sort_rows
    from featureflow.kernels.bounds import window_bounds
    from featureflow.library.aggregations import make

    times = np.array([0, 1, 2], np.int64)
    offsets = np.array([0, 3], np.int64)
    moments = pa.array(times).cast(pa.timestamp("us", "UTC"))
    stable_order(offsets)
    sort_rows(pa.table({"key": pa.array([1, 1, 1]), "time": moments}), ("key",), "time")
    windows = Windows(*window_bounds(offsets, times, offsets, times, length=10, closed="left"), times, 10)
    worked = 0
    for kind, dtype in ((pa.int64(), np.int64), (pa.float64(), np.float64)):
        values = np.array([1, 2, 3], dtype)
        for op in OPS:
            try:
                make(op).compute(EventColumn(values, np.ones(3, np.bool_), times, kind), windows)
                worked += 1
            except Exception:
                log.debug("warming %s of %s failed", op, kind, exc_info=True)
    return worked
