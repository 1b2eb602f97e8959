"""How much of a key's history an aggregation needs for its ``lifetime`` window.

A few rows stand for all (``max``: the largest), or the rows can be added up (``sum``), or everything has to be there
(``median``). What is known here lets a build start from a small state instead of from the first event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from featureflow.library.aggregations.distinct import CountDistinct
from featureflow.library.aggregations.extrema import ArgMax, ArgMin, Max, Min
from featureflow.library.aggregations.logical import All
from featureflow.library.aggregations.logical import Any as AnyTrue
from featureflow.library.aggregations.moments import Count, Mean, Sum
from featureflow.library.aggregations.order import First, FirstK, Last, LastK
from featureflow.library.aggregations.quantiles import BottomK, TopK
from featureflow.library.aggregations.recency import SecondsSinceFirst, SecondsSinceLast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from featureflow.contracts.aggregation import Aggregation, EventColumn

    Rows = NDArray[np.int64]

#: by name: is it the newest row that counts?
_EDGES = {First.name: False, SecondsSinceFirst.name: False, Last.name: True, SecondsSinceLast.name: True}
#: by name: is it the largest value that counts?
_EXTREMES = {
    **dict.fromkeys((Min.name, ArgMin.name, BottomK.name), False),
    **dict.fromkeys((Max.name, ArgMax.name, TopK.name), True),
}
_DISTINCT = (CountDistinct.name, AnyTrue.name, All.name)
_SUMS = (Count.name, Sum.name, Mean.name)

History = Literal["rows", "sums", "all"]


def history_of(operation: str) -> History:
    """Say by an aggregation's name what stands for the history: some rows, their count and exact sum, or all of it.

    Examples
    --------
    >>> history_of("max"), history_of("mean"), history_of("median")
    ('rows', 'sums', 'all')
    """
    if operation in _SUMS:
        return "sums"
    return "rows" if operation in (*_EDGES, *_EXTREMES, *_DISTINCT, FirstK.name, LastK.name) else "all"


def kept_rows(operation: Aggregation, events: EventColumn, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the rows that stand for all in ``lifetime`` windows that hold all of them.

    Parameters
    ----------
    operation
        An aggregation of which ``history_of`` says ``rows``.
    events
        The history; rows that do not count are not ``valid``.
    codes
        Code of each row's key, never decreasing.
    """
    import numpy as np

    from featureflow.kernels.columns import order_keys
    from featureflow.kernels.compaction import distinct_rows, edge_rows

    rows = np.flatnonzero(events.valid)
    if isinstance(operation, FirstK | LastK) and not operation.distinct:
        return rows[edge_rows(codes[rows], k=operation.k, newest=operation.newest)]
    if operation.name in _EDGES:
        return rows[edge_rows(codes[rows], newest=_EDGES[operation.name])]
    if isinstance(operation, ArgMin | ArgMax) and events.other is not None:
        # the key's first row besides: `fill_empty` asks whether the column has a value at all
        first = rows[edge_rows(codes[rows])]
        events = events.other
        rows = rows[events.valid[rows]]
        return np.union1d(first, _extremes(operation, events, codes, rows))
    if operation.name in _EXTREMES:
        return _extremes(operation, events, codes, rows)
    keys = order_keys(_values(events)[rows])
    if isinstance(operation, FirstK | LastK):
        return rows[distinct_rows(codes[rows], keys, newest=operation.newest, k=operation.k)]
    return rows[distinct_rows(codes[rows], keys)]


def _extremes(operation: Aggregation, events: EventColumn, codes: NDArray[np.int64], rows: Rows) -> Rows:
    from featureflow.kernels.columns import order_keys
    from featureflow.kernels.compaction import extreme_rows

    k = operation.k if isinstance(operation, BottomK | TopK) else 1
    keys = order_keys(_values(events)[rows])
    return rows[extreme_rows(codes[rows], keys, largest=_EXTREMES[operation.name], k=k)]


def _values(events: EventColumn) -> NDArray[np.generic]:
    if events.values is None:
        raise TypeError("rows without a column have no values.")
    return events.values
