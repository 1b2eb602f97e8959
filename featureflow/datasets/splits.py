"""Which split and fold each row of a dataset is in: a function of the row alone.

No row's split depends on how the rows are cut into chunks, and rows that are added move no other: by time, keys,
group and column wherever they stand, by random when they stand behind the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.core.errors import PlanError, SourceError
from featureflow.core.roles import EMBARGOED
from featureflow.datasets.thresholds import Thresholds, text
from featureflow.kernels.draws import draws, even_draws
from featureflow.kernels.hashing import hash_column, hash_rows
from featureflow.spec.splits import Split

#: purposes of draws; part of the product: a row's split comes from them
SPLIT, FOLD = 1, 2
#: a column of more values than this is no class to stratify by
MOST_CLASSES = 1_000
#: the split whose rows have no fold: cross-validation does not touch what the model is judged on at last
TEST = "test"


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """How many rows went where; those of two chunks add up.

    Parameters
    ----------
    rows
        Rows by split, `EMBARGOED` among them.
    embargo, no_time, outside
        Why rows are in no split: too close before a threshold; no time; behind the last threshold or share.
    border
        The same of patches: they lie across a border between two splits.
    folds
        Rows by fold.
    classes
        Rows by value of the ``stratify`` column (as text; null is ``null``), by split.
    """

    rows: dict[str, int] = field(default_factory=dict)
    embargo: int = 0
    no_time: int = 0
    outside: int = 0
    folds: dict[int, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    border: int = 0

    def __add__(self, other: SplitCounts) -> SplitCounts:
        """Counts of both chunks."""
        names = [*self.classes, *(name for name in other.classes if name not in self.classes)]
        return SplitCounts(
            _added(self.rows, other.rows),
            self.embargo + other.embargo,
            self.no_time + other.no_time,
            self.outside + other.outside,
            dict(sorted(_added(self.folds, other.folds).items())),
            {name: _added(self.classes.get(name, {}), other.classes.get(name, {})) for name in sorted(names)},
            self.border + other.border,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a report; what is empty is left out."""
        reasons = {
            "embargo": self.embargo,
            "no_time": self.no_time,
            "outside": self.outside,
            "border": self.border,
        }
        return {
            "rows": self.rows,
            **({"embargoed": {k: v for k, v in reasons.items() if v}} if any(reasons.values()) else {}),
            **({"folds": {str(fold): rows for fold, rows in self.folds.items()}} if self.folds else {}),
            **({"classes": self.classes} if self.classes else {}),
        }


@dataclass(frozen=True, slots=True)
class SplitColumns:
    """Split and fold of each row of a chunk, and their counts.

    Parameters
    ----------
    split
        String; never null, `EMBARGOED` for a row outside all splits.
    fold
        Int32; null for rows of ``test`` and for embargoed ones. None without ``folds``.
    """

    split: pa.StringArray
    fold: pa.Int32Array | None
    counts: SplitCounts


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """How many rows of each class some rows have; those of two chunks add up."""

    counts: dict[int, int] = field(default_factory=dict)

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """Counts of both."""
        return ClassCounts(dict(Counter(self.counts) + Counter(other.counts)))


def needs_class_counts(split: Split) -> bool:
    """Whether `assign_splits` has to know the classes of all rows before a chunk."""
    return split.by == "random" and split.stratify is not None


def count_classes(table: pa.Table, split: Split) -> ClassCounts:
    """Count the rows of each class, for the chunks that follow.

    Raises
    ------
    PlanError
        If there are more than 1,000 classes.
    """
    found, rows = np.unique(hash_column(table.column(str(split.stratify))), return_counts=True)
    _refuse_many_classes(len(found), split)
    return ClassCounts(dict(zip(found.tolist(), rows.tolist(), strict=True)))


def assign_splits(
    table: pa.Table,
    split: Split,
    *,
    keys: tuple[str, ...],
    time: str | None,
    row_ids: NDArray[np.int64],
    before: ClassCounts | None = None,
) -> SplitColumns:
    """Find the split and fold of each row.

    Parameters
    ----------
    table
        Rows of the dataset, any chunk of them, with the columns that the split names, the keys and the time.
    split
        As the spec says.
    keys, time
        The spine's key columns and its time (``timestamp[us, UTC]``).
    row_ids
        Place of each row in the whole spine, from 0.
    before
        With ``by: random`` and ``stratify`` (`needs_class_counts`): the class counts of all rows before this chunk,
        whose rows then are neighbours in the spine's order. Not needed for a chunk that begins with row 0.

    Notes
    -----
    Nulls: rows with the same keys are one entity, nulls among them too: who they belong to is not known, so they may
    not be parted. A null group is a group. A null time is in no split. A null in the column of ``by: column``
    is in the split of ``rest``, or else an error.
    Time: a row is before a threshold T if ``t < T``; with an embargo e it is left out if also ``t + e > T``.
    Order: shares fill [0, 1) in the order they are written: raising the first moves only rows into it.
    Small data: ``by: random`` meets the shares (of each class with ``stratify``) within a few rows. ``by: keys`` and
    ``group`` throw dice for each entity and cannot: of n entities a share s is missed by about
    ``sqrt(s (1 - s) / n)``. ``stratify`` beside them moves no row, for it would tear entities apart; it counts
    the classes.
    Folds: of the rows of all splits but ``test``, by random evenly in each class, else by hash of the group or of
    the keys: an entity is in one fold.
    Cost: one hash of the key columns, about 20 ns a row; by random about 150 ns.

    Raises
    ------
    SourceError
        If ``by: column`` finds a value that is in no split.
    PlanError
        If the time is needed and there is none; if ``before`` is needed and not given; for too many classes.
    """
    names = _names(split)
    if split.by == "time":
        codes, counts = _by_time(table, split, time)
        units = None
    elif split.by == "column":
        codes, counts, units = _by_column(table, split), SplitCounts(), None
    else:
        units = _units(table, split, keys, row_ids, before)
        codes = Thresholds.of(split).codes_of_shares(units)
        counts = SplitCounts(outside=int((codes == len(names)).sum()))
    fold = _folds(table, split, keys, codes, row_ids, units, split.folds) if split.folds else None
    assigned = pa.array([*names, EMBARGOED], pa.string()).take(pa.array(codes))
    return SplitColumns(assigned, fold, counts + _counted(table, split, codes, fold))


def _names(split: Split) -> list[str]:
    return list(Thresholds.of(split).names)


def _units(
    table: pa.Table,
    split: Split,
    keys: tuple[str, ...],
    row_ids: NDArray[np.int64],
    before: ClassCounts | None,
) -> NDArray[np.float64]:
    """A number in [0, 1) for each row; equal for rows that may not be parted."""
    if split.by != "random":
        return draws(_entities(table, split, keys), seed=split.seed, purpose=SPLIT)
    if split.stratify is None:
        classes = np.zeros(len(row_ids), np.uint64)
        return even_draws(row_ids, classes, seed=split.seed, purpose=SPLIT)
    if before is None and len(row_ids) and row_ids[0] != 0:
        raise PlanError(
            f"stratify: {split.stratify}: a chunk that begins with row {row_ids[0]} needs the classes of "
            "the rows before it. Pass `before`, the sum of count_classes of the chunks before."
        )
    classes = hash_column(table.column(split.stratify))
    return even_draws(_places(classes, split, before), classes, seed=split.seed, purpose=SPLIT)


def _entities(table: pa.Table, split: Split, keys: tuple[str, ...]) -> NDArray[np.uint64]:
    """Hash of what may not be parted: the group, or the keys."""
    if split.by == "group":
        return hash_column(table.column(str(split.column)))
    return hash_rows([table.column(key) for key in keys])


def _places(classes: NDArray[np.uint64], split: Split, before: ClassCounts | None) -> NDArray[np.int64]:
    """Number of each row among the rows of its class in the whole spine."""
    found, codes, rows = np.unique(classes, return_inverse=True, return_counts=True)
    _refuse_many_classes(len(found), split)
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum(rows) - rows
    places = np.empty(len(classes), np.int64)
    places[order] = np.arange(len(classes)) - np.repeat(starts, rows)
    known = before.counts if before else {}
    return np.asarray(places + np.array([known.get(c, 0) for c in found.tolist()], np.int64)[codes])


def _refuse_many_classes(n_classes: int, split: Split) -> None:
    if n_classes > MOST_CLASSES:
        raise PlanError(
            f"stratify: {split.stratify}: has more than {MOST_CLASSES:,} different values. "
            "Name a column of few classes, such as the label, or make one with `derive`."
        )


def _by_time(table: pa.Table, split: Split, time: str | None) -> tuple[NDArray[np.int64], SplitCounts]:
    if time is None:
        raise PlanError("split: by time needs a time. Give the spine a `time:`.")
    thresholds = Thresholds.of(split)
    column = table.column(time).cast(pa.timestamp("us", "UTC"))
    missing = np.asarray(column.is_null())
    times = np.asarray(column.cast(pa.int64()).fill_null(0))
    placed, close = thresholds.codes_of_times(times, split.embargo.microseconds or 0)
    outside = placed == len(thresholds.names)
    codes = np.where(close | missing, len(thresholds.names), placed)
    return codes, SplitCounts(
        embargo=int((close & ~missing).sum()),
        no_time=int(missing.sum()),
        outside=int((outside & ~missing).sum()),
    )


def _by_column(table: pa.Table, split: Split) -> NDArray[np.int64]:
    """Position of each row's split; `EMBARGOED` is a value of every column of splits."""
    thresholds = Thresholds.of(split)
    n_splits = len(thresholds.names)
    place = {EMBARGOED: n_splits}
    for number, mine in enumerate(thresholds.values):
        place |= dict.fromkeys(mine or (), number)
    values = table.column(str(split.column)).cast(pa.string()).combine_chunks()
    found = pc.index_in(values, pa.array(list(place), pa.string()))
    if found.null_count and None in thresholds.values:
        place["rest"] = thresholds.values.index(None)
        found = found.fill_null(len(place) - 1)
    if found.null_count:
        other = pc.value_counts(values.filter(found.is_null())).to_pylist()
        worst = sorted(other, key=lambda item: (-item["counts"], str(item["values"])))[:5]
        given = ", ".join(f"{item['values']!r} ({item['counts']:,} rows)" for item in worst)
        raise SourceError(
            f"split: column {split.column!r} has values that are in no split: {given}. Known: "
            f"{', '.join(place)}. Name them beside a split, `test: [{worst[0]['values']}]`, or `test: rest`."
        )
    codes: NDArray[np.int64] = np.array(list(place.values()), np.int64)[np.asarray(found)]
    return codes


def _folds(
    table: pa.Table,
    split: Split,
    keys: tuple[str, ...],
    codes: NDArray[np.int64],
    row_ids: NDArray[np.int64],
    units: NDArray[np.float64] | None,
    n_folds: int,
) -> pa.Int32Array:
    thresholds = Thresholds.of(split)
    if split.by == "random" and units is not None:
        # the rest of the number that chose the split: even, too, among the rows that have folds
        places = thresholds.without(TEST, units)
    elif keys or split.by == "group":
        places = draws(_entities(table, split, keys), seed=split.seed, purpose=FOLD)
    else:
        places = even_draws(row_ids, np.zeros(len(row_ids), np.uint64), seed=split.seed, purpose=FOLD)
    folds = np.minimum((places * n_folds).astype(np.int32), n_folds - 1)
    names = thresholds.names
    none = (codes == len(names)) | (codes == (names.index(TEST) if TEST in names else -1))
    return pa.array(folds, pa.int32(), mask=none)


def _counted(
    table: pa.Table, split: Split, codes: NDArray[np.int64], fold: pa.Int32Array | None
) -> SplitCounts:
    names = [*_names(split), EMBARGOED]
    rows = np.bincount(codes, minlength=len(names))
    counts = {name: int(n) for name, n in zip(names, rows, strict=True) if n or name != EMBARGOED}
    folds: dict[int, int] = {}
    if fold is not None:
        numbers = np.asarray(fold.drop_null())
        folds = {k: int(n) for k, n in enumerate(np.bincount(numbers, minlength=split.folds or 0))}
    classes: dict[str, dict[str, int]] = {}
    if split.stratify is not None:
        column = pc.dictionary_encode(table.column(split.stratify).combine_chunks(), null_encoding="encode")
        _refuse_many_classes(len(column.dictionary), split)
        cells = np.asarray(column.indices).astype(np.int64) * len(names) + codes
        grid = np.bincount(cells, minlength=len(column.dictionary) * len(names)).reshape(-1, len(names))
        for value, mine in zip(column.dictionary.to_pylist(), grid.tolist(), strict=True):
            classes[text(value)] = {name: n for name, n in zip(names, mine, strict=True) if n}
    return SplitCounts(counts, folds=folds, classes=dict(sorted(classes.items())))


def _added(one: dict[Any, int], two: dict[Any, int]) -> dict[Any, int]:
    return {name: one.get(name, 0) + two.get(name, 0) for name in _first_seen([*one, *two])}


def _first_seen(names: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(names))
