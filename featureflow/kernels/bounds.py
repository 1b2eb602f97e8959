"""Windows as index arrays: which events each query row sees."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel

Closed = Literal["left", "right", "both", "none"]
_CLOSED = ("left", "right", "both", "none")


@kernel
def _bounds(
    event_offsets: NDArray[np.int64],
    event_times: NDArray[np.int64],
    query_offsets: NDArray[np.int64],
    query_times: NDArray[np.int64],
    length: int,
    closed_start: bool,
    closed_end: bool,
    delay: int,
    hop: int,
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
) -> None:
    for group in range(event_offsets.size - 1):
        first = event_offsets[group]
        stop = event_offsets[group + 1]
        left = first
        right = first
        for query in range(query_offsets[group], query_offsets[group + 1]):
            end = query_times[query] - delay
            if length >= 0:
                start = end - length
                if hop > 0:
                    # Numba's integer floor division rounds towards minus infinity, as Python's: right before 1970 too
                    start = (start // hop) * hop
                if closed_start:
                    while left < stop and event_times[left] < start:
                        left += 1
                else:
                    while left < stop and event_times[left] <= start:
                        left += 1
            if closed_end:
                while right < stop and event_times[right] <= end:
                    right += 1
            else:
                while right < stop and event_times[right] < end:
                    right += 1
            lo[query] = min(left, right)
            hi[query] = right


def window_bounds(
    event_offsets: NDArray[np.int64],
    event_times: NDArray[np.int64],
    query_offsets: NDArray[np.int64],
    query_times: NDArray[np.int64],
    *,
    length: int | None,
    closed: str,
    delay: int = 0,
    tail_hop: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the events of every query's window.

    Parameters
    ----------
    event_offsets
        Shape (groups + 1,); events of group ``k`` are ``event_offsets[k]:event_offsets[k + 1]``.
    event_times
        Microseconds UTC, shape (n,); never decreasing within a group.
    query_offsets
        Shape (groups + 1,); queries of the same groups.
    query_times
        Microseconds UTC, shape (m,); never decreasing within a group.
    length
        Window length ``w`` in microseconds; None for ``lifetime`` (no start).
    closed
        ``left``: ``t - w <= e < t``; ``right``: ``t - w < e <= t``; ``both``; ``none``.
    delay
        Microseconds by which both ends move back.
    tail_hop
        The start is floored to a multiple of this many microseconds since the epoch; the end is not.

    Returns
    -------
    lo, hi
        int64, shape (m,): the window of query ``i`` is ``events[lo[i]:hi[i]]``. Both never decrease.

    Raises
    ------
    ValueError
        If ``closed`` is unknown, a length or hop is negative, or the offsets disagree.

    Notes
    -----
    Time: events of one time are all in or all out. Times must stay within ±2**62 microseconds.
    Cost: O(events + queries), two pointers per group.

    Examples
    --------
    >>> events, queries = np.array([0, 10, 20]), np.array([20])
    >>> lo, hi = window_bounds(np.array([0, 3]), events, np.array([0, 1]), queries, length=10, closed="left")
    >>> lo.tolist(), hi.tolist()
    ([1], [2])
    """
    if closed not in _CLOSED:
        raise ValueError(f"closed: {closed!r} is unknown. Choose one of {', '.join(_CLOSED)}.")
    if (length is not None and length < 0) or delay < 0 or (tail_hop is not None and tail_hop <= 0):
        raise ValueError(f"length {length}, delay {delay} and tail_hop {tail_hop} can't be negative.")
    if event_offsets.size != query_offsets.size:
        raise ValueError(f"{event_offsets.size - 1} groups of events, {query_offsets.size - 1} of queries.")
    lo = np.zeros(query_times.size, np.int64)
    hi = np.zeros(query_times.size, np.int64)
    _bounds(
        np.asarray(event_offsets, np.int64),
        event_times,
        np.asarray(query_offsets, np.int64),
        query_times,
        -1 if length is None else length,
        closed in ("left", "both"),
        closed in ("right", "both"),
        delay,
        tail_hop or 0,
        lo,
        hi,
    )
    return lo, hi
