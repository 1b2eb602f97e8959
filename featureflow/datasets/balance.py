"""How a dataset's labels are distributed in each of its splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from featureflow.core.roles import EMBARGOED
from featureflow.datasets.dataset import Dataset

#: Of larger datasets nothing is counted: whoever looks at a version should not wait.
MOST_ROWS = 10_000_000
#: A label of more different values has a mean instead of classes.
MOST_CLASSES = 20
#: What stands for the split of a dataset that has none.
WHOLE = "all"


@dataclass(slots=True)
class _Counts:
    null: int = 0
    known: int = 0
    total: float = 0.0
    classes: Counter[str] | None = field(default_factory=Counter)


def label_balance(
    dataset: Dataset, most_rows: int = MOST_ROWS
) -> dict[str, dict[str, dict[str, Any]]] | None:
    """Count the values of each label in each split.

    Parameters
    ----------
    most_rows
        None is returned for a dataset of more rows than this, or without labels.

    Returns
    -------
    dict or None
        Label, then split (``all`` if there are none; embargoed rows are left out), then ``known`` and ``null`` (rows),
        ``mean`` (None for text), and ``classes`` (rows by value; None for a floating label, or one of more than
        `MOST_CLASSES` values). Labels that are lists have no entry.

    Notes
    -----
    Cost: reads the labels and the split, file by file.
    """
    roles = dataset.roles
    stored = [
        name for name in roles.labels if name in dataset.schema.names
    ]  # those of patches may be patches
    labels = [name for name in stored if _countable(dataset.schema.field(name).type)]
    if not labels or dataset.rows > most_rows:
        return None
    columns = [*labels, *([roles.split] if roles.split else [])]
    splits = [name for name in dataset.splits if name != EMBARGOED] if roles.split else [WHOLE]
    found = {label: {split: _Counts() for split in splits} for label in labels}
    for part in dataset.table.scan_files(tuple(dataset.table.state.files)).tables(columns):
        frame = pl.DataFrame(part)
        for split in splits:
            rows = frame.filter(pl.col(roles.split) == split) if roles.split else frame
            for label in labels:
                _count(found[label][split], rows[label])
    text = {label for label in labels if pa.types.is_string(dataset.schema.field(label).type)}
    return {
        label: {split: _plain(one, text=label in text) for split, one in by.items()}
        for label, by in found.items()
    }


def _countable(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
    )


def _count(counts: _Counts, values: pl.Series) -> None:
    known = values.drop_nulls()
    counts.null += len(values) - len(known)
    counts.known += len(known)
    if values.dtype != pl.String:
        counts.total += float(known.cast(pl.Float64).sum())
    if values.dtype.is_float():
        counts.classes = None
    if counts.classes is not None:
        for value, rows in zip(*known.value_counts().get_columns(), strict=True):
            counts.classes[str(value).lower() if isinstance(value, bool) else str(value)] += rows
        if len(counts.classes) > MOST_CLASSES:
            counts.classes = None


def _plain(counts: _Counts, *, text: bool) -> dict[str, Any]:
    classes = counts.classes
    return {
        "known": counts.known,
        "null": counts.null,
        "mean": None if text or not counts.known else counts.total / counts.known,
        "classes": None
        if classes is None
        else dict(sorted(classes.items(), key=lambda item: (-item[1], item[0]))),
    }
