"""As-of look-ups on one partition (spec section 5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError
from featureflow.core.meter import spending
from featureflow.execute.windows.arrays import positions
from featureflow.execute.windows.keycodes import encode_pair
from featureflow.execute.windows.sorted_rows import NO_TIME, column, microseconds, rank, sort_rows
from featureflow.kernels.asof import asof_match_valid, tied_matches
from featureflow.kernels.ordering import group_order, offsets_from_codes
from featureflow.plan.nodes import Lookup


@spending("compute:lookup")
def look_up(
    lookup: Lookup, left_keys: list[pa.Array], left_times: NDArray[np.int64], right: pa.Table
) -> list[pa.Array]:
    """Find for each left row the latest known right row at or before its time.

    Parameters
    ----------
    lookup
        What to match and how.
    left_keys, left_times
        Key columns and times (microseconds, `NO_TIME` for none) of the left rows, in any order.
    right
        Rows of the right side with ``lookup.needed``, in any order; all that can match must be there.

    Returns
    -------
    list of pyarrow.Array
        One array for each of ``lookup.columns``; row i belongs to left row i; null where nothing matches.

    Notes
    -----
    Nulls: a left row without a key or time matches nothing; null never equals null.
    Cost: O((n + m) log) for the sorts of both sides; the match itself is one merge.
    """
    if lookup.right.time is None:
        raise ComputeError(f"{lookup.place}: {lookup.right.name!r} has no time column.")
    order = tuple(name for name in (lookup.right.sequence, lookup.right.created) if name)
    rows = sort_rows(right, lookup.right_keys, lookup.right.time, order)
    events = rows.events
    left_codes, right_codes, n_keys = encode_pair(
        left_keys, [column(events, key) for key in lookup.right_keys]
    )
    left_codes = np.where(left_times == NO_TIME, -1, left_codes)
    permutation = group_order(left_codes + 1, left_times).astype(np.int64, copy=False)
    n_apart = int(np.searchsorted(left_codes[permutation], 0))
    wanted = permutation[n_apart:]
    left_offsets = offsets_from_codes(left_codes[wanted], n_keys)
    right_offsets = offsets_from_codes(right_codes, n_keys)
    sides = (right_offsets, rows.times), (left_offsets, left_times[wanted])
    known = _known_at(lookup, events, rows.times)
    whole = _match(lookup, sides, known, np.ones(len(rows.times), np.bool_))
    if lookup.on_tie == "error":
        _refuse_ties(lookup, sides, known, whole, events)
    results = []
    for name, _ in lookup.columns:
        values = column(events, name)
        found = whole
        if lookup.skip_nulls and values.null_count:
            found = _match(lookup, sides, known, values.is_valid().to_numpy(zero_copy_only=False))
        target = np.full(len(left_times), -1, np.int64)
        target[wanted] = found
        results.append(values.take(positions(target)))
    return results


Side = tuple[NDArray[np.int64], NDArray[np.int64]]


def _match(
    lookup: Lookup, sides: tuple[Side, Side], known: NDArray[np.int64] | None, usable: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Row of the right side for each left row, -1 for none; only usable right rows count."""
    return asof_match_valid(
        usable, *sides[0], *sides[1], right_known=known, allow_exact=lookup.allow_exact, ttl=lookup.ttl_us
    )


def _known_at(lookup: Lookup, events: pa.Table, times: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """When each right row became known; None if it is known at its own time."""
    known = None
    if lookup.knowledge == "created" and lookup.right.created is not None:
        known = microseconds(column(events, lookup.right.created))
        known = np.where(known == NO_TIME, np.iinfo(np.int64).max, known)  # never known
    if lookup.interval_us is not None:
        available = (times // lookup.interval_us + 1) * lookup.interval_us + lookup.availability_delay_us
        known = available if known is None else np.maximum(known, available)
    elif lookup.availability_delay_us:
        available = times + lookup.availability_delay_us
        known = available if known is None else np.maximum(known, available)
    return known


def _refuse_ties(
    lookup: Lookup,
    sides: tuple[Side, Side],
    known: NDArray[np.int64] | None,
    found: NDArray[np.int64],
    events: pa.Table,
) -> None:
    (offsets, times), (_, left_times) = sides
    # what a declared column orders is no tie: rows are compared by their place among (time, sequence, created)
    order = [name for name in (lookup.right.sequence, lookup.right.created) if name]
    changed = np.diff(times, prepend=times[:1]) != 0
    for name in order:
        changed |= np.diff(rank(column(events, name)), prepend=0) != 0
    tied = tied_matches(found, offsets, np.cumsum(changed), left_times, right_known=known)
    if not tied.any():
        return
    row = int(found[np.flatnonzero(tied)[0]])
    keys = ", ".join(f"{key}={column(events, key)[row].as_py()!r}" for key in lookup.right_keys)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(times[row]))
    raise ComputeError(
        f"{lookup.place}: {lookup.right.name!r} has more than one latest row for {keys} at {moment.isoformat()} "
        "and on_tie is 'error'. Deduplicate the source, declare a `sequence` column, or set on_tie: latest."
    )
