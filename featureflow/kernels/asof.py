"""As-of matches: for each left row, the latest right row that was there, and known, at its time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import kernel
from featureflow.kernels.ordering import group_order

#: knowledge time of a row that is never known (a null ``created``)
NEVER = np.iinfo(np.int64).max


@kernel
def _match(
    right_offsets: NDArray[np.int64],
    right_times: NDArray[np.int64],
    active: NDArray[np.int64],
    order: NDArray[np.int64],
    left_offsets: NDArray[np.int64],
    left_times: NDArray[np.int64],
    ttl: int,
    out: NDArray[np.int64],
) -> None:
    for group in range(right_offsets.size - 1):
        stop = right_offsets[group + 1]
        at = right_offsets[group]
        best = -1
        for i in range(left_offsets[group], left_offsets[group + 1]):
            t = left_times[i]
            # a row never becomes unknown again: the best so far is the last in order of all that are active
            while at < stop and active[order[at]] <= t:
                best = max(best, order[at])
                at += 1
            out[i] = best
            if best >= 0 and ttl >= 0 and right_times[best] < t - ttl:
                out[i] = -1


@kernel
def _match_by_time(
    right_offsets: NDArray[np.int64],
    right_times: NDArray[np.int64],
    left_offsets: NDArray[np.int64],
    left_times: NDArray[np.int64],
    later: int,
    ttl: int,
    out: NDArray[np.int64],
) -> None:
    for group in range(right_offsets.size - 1):
        first = right_offsets[group]
        stop = right_offsets[group + 1]
        at = first
        for i in range(left_offsets[group], left_offsets[group + 1]):
            t = left_times[i]
            while at < stop and right_times[at] <= t - later:
                at += 1
            out[i] = at - 1 if at > first else -1
            if at > first and ttl >= 0 and right_times[at - 1] < t - ttl:
                out[i] = -1


def _check(
    right_offsets: NDArray[np.int64], left_offsets: NDArray[np.int64], ttl: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    if right_offsets.size != left_offsets.size:
        raise ValueError(
            f"{right_offsets.size - 1} groups at the right, {left_offsets.size - 1} at the left."
        )
    if ttl is not None and ttl < 0:
        raise ValueError(f"ttl can't be negative; got {ttl}.")
    right, left = np.asarray(right_offsets, np.int64), np.asarray(left_offsets, np.int64)
    return right, left, -1 if ttl is None else ttl


def asof_match(
    right_offsets: NDArray[np.int64],
    right_times: NDArray[np.int64],
    left_offsets: NDArray[np.int64],
    left_times: NDArray[np.int64],
    *,
    allow_exact: bool = True,
    ttl: int | None = None,
) -> NDArray[np.int64]:
    """Find, for each left row, the last right row of its group with ``e <= t``.

    Parameters
    ----------
    right_offsets, left_offsets
        Shape (groups + 1,); rows of group ``k`` are ``offsets[k]:offsets[k + 1]`` on each side.
    right_times, left_times
        Microseconds UTC; never decreasing within a group. Right rows of one time come in tie order.
    allow_exact
        False asks for ``e < t``.
    ttl
        Only ``e >= t - ttl`` (inclusive), microseconds; None for no limit.

    Returns
    -------
    NDArray[np.int64]
        Position among the right rows, or -1.

    Notes
    -----
    Cost: O(left + right).

    Examples
    --------
    >>> offsets, times = np.array([0, 2]), np.array([10, 20])
    >>> asof_match(offsets, times, offsets, np.array([9, 25])).tolist()
    [-1, 1]
    """
    right, left, limit = _check(right_offsets, left_offsets, ttl)
    out = np.full(left_times.size, -1, np.int64)
    _match_by_time(right, right_times, left, left_times, 0 if allow_exact else 1, limit, out)
    return out


def asof_match_known(
    right_offsets: NDArray[np.int64],
    right_times: NDArray[np.int64],
    right_known: NDArray[np.int64],
    left_offsets: NDArray[np.int64],
    left_times: NDArray[np.int64],
    *,
    allow_exact: bool = True,
    ttl: int | None = None,
) -> NDArray[np.int64]:
    """:func:`asof_match` among the rows that were known at the left row's time.

    Parameters
    ----------
    right_known
        When each right row became known, microseconds UTC; :data:`NEVER` for a row that never does.

    Notes
    -----
    Time: only right rows with ``known <= t`` count; a late correction is seen from its knowledge time on, and an older
    event that became known later never hides a newer one.
    Cost: one radix sort of the right rows by when they become visible (``max(e, known)``), then O(left + right).
    """
    right, left, limit = _check(right_offsets, left_offsets, ttl)
    out = np.full(left_times.size, -1, np.int64)
    visible = np.maximum(right_times if allow_exact else right_times + 1, right_known)
    codes = np.repeat(np.arange(right.size - 1), np.diff(right))
    order = group_order(codes, visible)
    _match(right, right_times, visible, order, left, left_times, limit, out)
    return out


def asof_match_valid(
    valid: NDArray[np.bool_],
    right_offsets: NDArray[np.int64],
    right_times: NDArray[np.int64],
    left_offsets: NDArray[np.int64],
    left_times: NDArray[np.int64],
    *,
    right_known: NDArray[np.int64] | None = None,
    allow_exact: bool = True,
    ttl: int | None = None,
) -> NDArray[np.int64]:
    """Match among the right rows where ``valid`` holds: ``nulls: skip`` for one column.

    Returns
    -------
    NDArray[np.int64]
        Positions among all right rows, or -1.
    """
    rows = np.flatnonzero(valid)
    rank = np.zeros(valid.size + 1, np.int64)
    np.cumsum(valid, out=rank[1:])
    offsets, times = rank[right_offsets], right_times[rows]
    if right_known is None:
        match = asof_match(offsets, times, left_offsets, left_times, allow_exact=allow_exact, ttl=ttl)
    else:
        match = asof_match_known(
            offsets, times, right_known[rows], left_offsets, left_times, allow_exact=allow_exact, ttl=ttl
        )
    if rows.size == 0:
        return match
    return np.where(match >= 0, rows[np.maximum(match, 0)], -1)


@kernel
def _tied(
    match: NDArray[np.int64],
    right_times: NDArray[np.int64],
    right_known: NDArray[np.int64],
    groups: NDArray[np.int64],
    left_times: NDArray[np.int64],
    out: NDArray[np.bool_],
) -> None:
    for i in range(match.size):
        best = match[i]
        j = best - 1
        while best >= 0 and j >= 0 and groups[j] == groups[best] and right_times[j] == right_times[best]:
            if right_known.size == 0 or right_known[j] <= left_times[i]:
                out[i] = True
                break
            j -= 1


def tied_matches(
    match: NDArray[np.int64],
    right_offsets: NDArray[np.int64],
    right_times: NDArray[np.int64],
    left_times: NDArray[np.int64],
    *,
    right_known: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Which matches were decided by tie order alone (``on_tie: error``): another right row has the same time.

    With ``right_known``, only rows known at the left row's time count as rivals. ``match`` is the result of
    :func:`asof_match` or :func:`asof_match_known` for the same rows.
    """
    out = np.zeros(match.size, np.bool_)
    groups = np.repeat(np.arange(right_offsets.size - 1), np.diff(right_offsets))
    known = np.zeros(0, np.int64) if right_known is None else right_known
    _tied(match, right_times, known, groups, left_times, out)
    return out
