"""Does a split keep its word: checked on the rows as they are written, before a version becomes visible."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.core.durations import Duration
from featureflow.core.errors import CheckFailed, PlanError
from featureflow.core.meter import spending
from featureflow.core.roles import EMBARGOED
from featureflow.datasets.thresholds import Thresholds
from featureflow.kernels.hashing import hash_column, hash_rows
from featureflow.spec.splits import Split

#: entities that a summary remembers; of more, those with the smallest hashes, which is a fair sample. 10 bytes each
MOST_ENTITIES = 1 << 24
#: bits of `LeakSummary.splits`
MOST_SPLITS = 16
_EVERY = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class LeakSummary:
    """What a leak check needs to know of some rows; two of them merge, in any order, to that of all the rows.

    Parameters
    ----------
    first, last
        Earliest and latest time of each split's rows, microseconds UTC.
    reaching
        Rows of each split whose label window ends behind the split's end.
    entities, splits
        Sorted hashes of the entities, and the splits that each is in: bit i stands for the i-th.
    limit
        Only entities with a hash below it are known; the largest hash if all are.
    """

    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    reaching: dict[str, int] = field(default_factory=dict)
    entities: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    splits: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    limit: np.uint64 = _EVERY

    def __add__(self, other: LeakSummary) -> LeakSummary:
        """Summary of the rows of both."""
        hashes, bits, limit = _distinct(
            np.concatenate([self.entities, other.entities]),
            np.concatenate([self.splits, other.splits]),
            min(self.limit, other.limit),
        )
        return LeakSummary(
            {**other.first, **{k: min(v, other.first.get(k, v)) for k, v in self.first.items()}},
            {**other.last, **{k: max(v, other.last.get(k, v)) for k, v in self.last.items()}},
            {**other.reaching, **{k: v + other.reaching.get(k, 0) for k, v in self.reaching.items()}},
            hashes,
            bits,
            limit,
        )


@spending("compute:leaks")
def leak_summary(
    table: pa.Table,
    assigned: pa.Array,
    split: Split,
    *,
    keys: tuple[str, ...],
    time: str | None,
    reach: Duration,
) -> LeakSummary:
    """Summarize the rows of a chunk.

    Parameters
    ----------
    table
        Any rows of the dataset, with its keys and time and the split's group.
    assigned
        Split of each row.
    reach
        How far the labels look ahead: the longest ``gap + horizon``.

    Notes
    -----
    Nulls: a row without a time takes no part in checks of time; null keys are an entity.
    Cost: a hash and a sort of the chunk's entities; at most 16 million entities are kept.

    Raises
    ------
    PlanError
        For more than 16 splits.
    """
    names = Thresholds.of(split).names
    if len(names) > MOST_SPLITS:
        raise PlanError(f"split: {len(names)} splits; at most {MOST_SPLITS} can be checked for leaks.")
    codes = pc.index_in(assigned, pa.array(names, pa.string())).fill_null(-1)
    places = np.asarray(codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes)
    first, last, reaching = _times(table, split, time, places, reach)
    inside = places >= 0
    if split.by == "time" or not (keys or split.by == "group"):
        return LeakSummary(first, last, reaching)
    hashes = (
        hash_column(table.column(str(split.column)))
        if split.by == "group"
        else hash_rows([table.column(key) for key in keys])
    )
    bits = (np.uint16(1) << places[inside].astype(np.uint16)).astype(np.uint16)
    return LeakSummary(first, last, reaching, *_distinct(hashes[inside], bits, _EVERY))


def check_leaks(summary: LeakSummary, split: Split, *, reach: Duration, where: str) -> tuple[str, ...]:
    """Refuse a split that leaks; list what its author should know.

    Parameters
    ----------
    summary
        Of all rows of the dataset.
    reach
        How far the labels look ahead.
    where
        Place in the spec, for messages: ``datasets.fraud_train.split``.

    Returns
    -------
    tuple of str
        Warnings: label windows of earlier splits that reach into a later one's time (`embargo` is shorter than the
        labels' reach), and entities that a random or given split has in several splits.

    Raises
    ------
    CheckFailed
        If an entity or group of a split by keys or group is in two splits, or a row of a split by time is not
        before its threshold by the embargo.
    """
    if split.by == "time":
        _check_times(summary, split, where)
        return _reaching(summary, split, reach, where)
    torn = int((summary.splits & (summary.splits - np.uint16(1)) != 0).sum())
    if not torn:
        return ()
    n_seen = f"of {len(summary.entities):,}" + (" looked at" if summary.limit != _EVERY else "")
    if split.by in ("keys", "group"):
        what = "groups" if split.by == "group" else "entities"
        raise CheckFailed(
            f"{where}: {torn:,} {what} {n_seen} are in more than one split. Nothing was published. "
            "This is a bug of featureflow; please report it."
        )
    known = (
        f"{where}: {torn:,} entities {n_seen} have rows in more than one split, so that a model can know "
        "them from training. If it will meet new ones, split `by: keys`."
    )
    return (known,)


def _times(
    table: pa.Table, split: Split, time: str | None, places: NDArray[np.int32], reach: Duration
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    reaching: dict[str, int] = {}
    if split.by != "time" or time is None:
        return first, last, reaching
    thresholds = Thresholds.of(split)
    column = table.column(time).cast(pa.timestamp("us", "UTC"))
    known = np.asarray(column.is_valid())
    moments = np.asarray(column.cast(pa.int64()).fill_null(0))
    for place, name in enumerate(thresholds.names):
        mine = moments[known & (places == place)]
        if not len(mine):
            continue
        first[name], last[name] = int(mine.min()), int(mine.max())
        end = thresholds.ends[place]
        if end is not None:
            reaching[name] = int((mine > end - (reach.microseconds or 0)).sum())
    return first, last, reaching


def _distinct(
    hashes: NDArray[np.uint64], bits: NDArray[np.uint16], limit: np.uint64
) -> tuple[NDArray[np.uint64], NDArray[np.uint16], np.uint64]:
    """Each entity once with all its splits; of too many, those with the smallest hashes."""
    order = np.argsort(hashes)
    hashes, bits = hashes[order], bits[order]
    starts = np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1]))) if len(hashes) else order
    hashes = hashes[starts]
    bits = np.bitwise_or.reduceat(bits, starts) if len(starts) else bits
    if len(hashes) > MOST_ENTITIES:
        limit = min(limit, hashes[MOST_ENTITIES])
    n_kept = len(hashes) if limit == _EVERY else int(np.searchsorted(hashes, limit))
    return hashes[:n_kept].copy(), bits[:n_kept].copy(), limit


def _check_times(summary: LeakSummary, split: Split, where: str) -> None:
    thresholds = Thresholds.of(split)
    embargo = split.embargo.microseconds or 0
    start: int | None = None
    for name, end in zip(thresholds.names, thresholds.ends, strict=True):
        late = end is not None and name in summary.last and not _before(summary.last[name], end, embargo)
        if late or (start is not None and summary.first.get(name, start) < start):
            raise CheckFailed(
                f"{where}: {name} has rows from {_text(summary.first[name])} to {_text(summary.last[name])}, "
                f"outside its time with an embargo of {split.embargo}. Nothing was published. "
                "This is a bug of featureflow; please report it."
            )
        start = end


def _before(moment: int, end: int, embargo: int) -> bool:
    return moment < end and moment + embargo <= end


def _reaching(summary: LeakSummary, split: Split, reach: Duration, where: str) -> tuple[str, ...]:
    if (split.embargo.microseconds or 0) >= (reach.microseconds or 0):
        return ()
    names = Thresholds.of(split).names
    later = {name: names[place + 1] for place, name in enumerate(names[:-1])}
    return tuple(
        f"{where}: the labels of {rows:,} {name} rows look up to {_length(reach)} ahead, into the time of "
        f"{later[name]!r}: {name} knows outcomes from there. Set `embargo: {_length(reach)}` to leave them "
        f"out ({EMBARGOED})."
        for name, rows in summary.reaching.items()
        if rows and name in later
    )


def _text(us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).isoformat()


def _length(duration: Duration) -> str:
    """A duration in its largest whole unit."""
    us = duration.microseconds or 0
    for unit, size in {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000}.items():
        if us % size == 0:
            return f"{us // size}{unit}"
    return f"{us}us"
