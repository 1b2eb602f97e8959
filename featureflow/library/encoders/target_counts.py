"""What a target encoder has to know: counts and exact sums of labels, for each category and fold."""

# ruff: noqa: ARG002  (the contract's signatures)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as t
from numpy.typing import NDArray

from featureflow.contracts.encoder import Json, Rows
from featureflow.core.types import type_name
from featureflow.kernels.hashing import combine, hash_int64
from featureflow.kernels.totals import Total, group_totals, ratio
from featureflow.library.encoders.columns import (
    Key,
    doubles,
    keys_from_json,
    keys_of,
    keys_to_json,
    pack,
    plain,
    unpack,
)

#: an integer label with more different values is a quantity, not a class
MOST_CLASSES = 20


def folds_of(hashes: NDArray[np.uint64], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each row, by the hash of the row."""
    start = hash_int64(np.array([seed], np.int64), np.ones(1, np.bool_))
    return (combine(np.repeat(start, hashes.size), hashes) % np.uint64(folds)).astype(np.int64)


def label_type(kind: pa.DataType) -> pa.DataType:
    """Type of a label's values, if it can be a target.

    Raises
    ------
    TypeError
        If it is no boolean, number or text.
    """
    if t.is_boolean(kind) or t.is_integer(kind) or t.is_floating(kind) or t.is_string(kind):
        return kind
    raise TypeError(f"a label of type {kind} is no target. Derive a number, a boolean or a class from it.")


@dataclass(frozen=True, slots=True)
class TargetCounts:
    """Counts by category, fold and label; of floating labels exact sums.

    The state grows with the number of categories, times folds, times different labels that are no floats: 16 bytes for
    each; of floating labels some 50, and some 20 µs to merge, because their sums have any number of bits.
    """

    kind: pa.DataType
    label: str
    folds: int | None
    seed: int

    def start(self) -> Json:
        """One pass is enough."""
        return None

    def chunk(self, search: Json, column: pa.Array, rows: Rows) -> Json:
        """State of some rows; those without a label do not count."""
        label = plain(rows.labels[self.label])
        kind = label_type(label.type)
        is_known = label.is_valid()
        codes, keys = keys_of(column.filter(is_known))
        folds = np.zeros(codes.size, np.int64)
        if self.folds is not None:
            if rows.hashes is None:
                raise ValueError("needs the rows' hashes for its folds.")
            chosen = rows.hashes[is_known.to_numpy(zero_copy_only=False)]
            folds = folds_of(chosen, self.folds, self.seed)
        codes[codes < 0] = len(keys)
        groups = folds * (len(keys) + 1) + codes
        state = {"label": type_name(kind), "keys": keys_to_json(keys)}
        if t.is_floating(kind):
            values = doubles(label.filter(is_known))
            if np.isinf(values).any():
                raise ValueError(f"label {self.label!r} has an infinite value among the train rows.")
            cells, places = np.unique(groups, return_inverse=True)
            totals = group_totals(values, places, cells.size)
            return {**state, "classes": [], "cells": pack(cells), **_written(_arrays(totals))}
        places, classes = keys_of(label.filter(is_known))
        cells, counts = np.unique(groups * max(1, len(classes)) + places, return_counts=True)
        return {**state, "classes": classes, "cells": pack(cells), "counts": pack(counts)}

    def merge(self, first: Json, second: Json) -> Json:
        """Add what belongs to the same fold, category and label."""
        keys: Any = [keys_from_json(self.kind, state["keys"]) for state in (first, second)]
        all_keys = sorted({*keys[0], *keys[1]})
        all_classes = sorted({*first["classes"], *second["classes"]})
        cells = np.concatenate(
            [
                _moved(unpack(state["cells"]), own, all_keys, state["classes"], all_classes)
                for own, state in zip(keys, (first, second), strict=True)
            ]
        )
        merged = {"label": first["label"], "keys": keys_to_json(all_keys), "classes": all_classes}
        found, places = np.unique(cells, return_inverse=True)
        if "totals" in first:
            return {**merged, "cells": pack(found), **_written(_added(first, second, places, found.size))}
        counts = np.zeros(found.size, np.int64)
        np.add.at(counts, places, np.concatenate([unpack(first["counts"]), unpack(second["counts"])]))
        return {**merged, "cells": pack(found), "counts": pack(counts)}

    def advance(self, search: Json, state: Json) -> tuple[bool, Json]:
        """All is known."""
        return True, state


def _moved(
    cells: NDArray[np.int64], keys: list[Key], all_keys: list[Key], classes: list[Key], all_classes: list[Key]
) -> NDArray[np.int64]:
    """Numbers of cells among more categories and labels."""
    place = {key: at for at, key in enumerate(all_keys)}
    codes = np.array([*(place[key] for key in keys), len(all_keys)], np.int64)
    label_place = {key: at for at, key in enumerate(all_classes)}
    labels = np.array([label_place[key] for key in classes] or [0], np.int64)
    groups, own = np.divmod(cells, labels.size)
    folds, code = np.divmod(groups, codes.size)
    return (folds * (len(all_keys) + 1) + codes[code]) * max(1, len(all_classes)) + labels[own]


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts, sums and sums of squares of what is averaged: ``first * 2**low`` and ``second * 2**(2 * low)``.

    Whole numbers by fold and category (null last): as int64 where nothing made of them can overflow, else as Python's.
    """

    count: NDArray[Any]
    first: NDArray[Any]
    second: NDArray[Any]
    low: int

    def over_folds(self) -> Sums:
        """Of all folds together."""
        return Sums(self.count.sum(axis=0), self.first.sum(axis=0), self.second.sum(axis=0), self.low)

    def without(self, fold: int) -> Sums:
        """Of all folds but one."""
        whole = self.over_folds()
        return Sums(
            whole.count - self.count[fold],
            whole.first - self.first[fold],
            whole.second - self.second[fold],
            self.low,
        )

    def everything(self) -> Total:
        """Of all categories together."""
        return Total(int(self.count.sum()), int(self.first.sum()), int(self.second.sum()), self.low)

    def sums(self) -> NDArray[np.float64]:
        """Sum of each category."""
        return ratios(self.first, np.ones_like(self.count), self.low)

    def deviations(self) -> NDArray[np.float64]:
        """Sum of squared deviations from the category's mean; 0 without rows."""
        squares = self.count * self.second - self.first * self.first
        return ratios(squares, np.where(self.count == 0, 1, self.count), 2 * self.low)


def _arrays(totals: list[Total]) -> Sums:
    """Totals that have one ``low``, as arrays of Python's integers."""
    count, first, second = (
        np.array([getattr(total, name) for total in totals], object) for name in ("count", "first", "second")
    )
    return Sums(count, first, second, totals[0].low if totals else 0)


def _written(sums: Sums) -> Json:
    """Sums of cells as plain values: their integers may have thousands of bits."""
    first, second = ([format(value, "x") for value in part.tolist()] for part in (sums.first, sums.second))
    return {"totals": [pack(sums.count.astype(np.int64)), first, second, sums.low]}


def _read(state: Json) -> Sums:
    count, *texts, low = state["totals"]
    first, second = (np.array([int(text, 16) for text in part], object) for part in texts)
    return Sums(unpack(count).astype(object), first, second, low)


def _added(one: Json, other: Json, places: NDArray[np.int64], size: int) -> Sums:
    """Sums of both states' cells, added up where they have the same place."""
    both = [_read(state) for state in (one, other)]
    low = min(sums.low for sums in both)
    count, first, second = (np.zeros(size, object) for _ in range(3))
    np.add.at(count, places, np.concatenate([sums.count for sums in both]))
    np.add.at(first, places, np.concatenate([sums.first << (sums.low - low) for sums in both]))
    np.add.at(second, places, np.concatenate([sums.second << 2 * (sums.low - low) for sums in both]))
    return Sums(count, first, second, low)


def ratios(number: NDArray[Any], by: NDArray[Any], exponent: int) -> NDArray[np.float64]:
    """``number * 2**exponent / by``; Python's integers are rounded once."""
    if number.dtype != object and exponent == 0:
        found: NDArray[np.float64] = number.astype(np.float64) / by.astype(np.float64)
        return found
    pairs = zip(number.tolist(), by.tolist(), strict=True)
    return np.array([ratio(a, b, exponent) for a, b in pairs], np.float64)


def sums_of(state: Json, n_folds: int, hits: list[Any] | None) -> Sums:
    """Sums of a merged state: of the labels, or of 1 for those among ``hits`` and 0 for the others."""
    shape = (n_folds, len(state["keys"]) + 1)
    cells = unpack(state["cells"])
    if "totals" in state:
        read = _read(state)
        arrays = [np.zeros(shape[0] * shape[1], object) for _ in range(3)]
        for array, part in zip(arrays, (read.count, read.first, read.second), strict=True):
            array[cells] = part
        count, first, second = (array.reshape(shape) for array in arrays)
        return Sums(count, first, second, read.low)
    classes, counts = state["classes"], unpack(state["counts"])
    worth = [int(label) if hits is None else int(label in hits) for label in classes] or [0]
    largest = max(1, *(abs(value) for value in worth))
    dtype = np.int64 if int(counts.sum()) ** 2 * largest**2 < 2**62 else object
    groups, labels = np.divmod(cells, len(worth))
    value, number = np.array(worth, dtype)[labels], counts.astype(dtype)
    made = []
    for part in (number, number * value, number * value * value):
        array = np.zeros(shape[0] * shape[1], dtype)
        np.add.at(array, groups, part)
        made.append(array.reshape(shape))
    return Sums(made[0], made[1], made[2], 0)
