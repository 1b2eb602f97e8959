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
from featureflow.core.types import parse_type, type_name
from featureflow.kernels.hashing import combine, hash_int64
from featureflow.kernels.totals import Total, group_totals
from featureflow.library.encoders.columns import (
    Key,
    doubles,
    keys_from_json,
    keys_of,
    keys_to_json,
    plain,
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

    The state grows with the number of categories, times folds, times different labels that are no floats.
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
        found, groups = np.unique(folds * (len(keys) + 1) + codes, return_inverse=True)
        known: dict[Any, Any] = {}
        names = [*keys, None]
        cells = [(int(cell) // len(names), names[int(cell) % len(names)]) for cell in found]
        if t.is_floating(kind):
            values = doubles(label.filter(is_known))
            if np.isinf(values).any():
                raise ValueError(f"label {self.label!r} has an infinite value among the train rows.")
            totals = group_totals(values, groups, len(cells))
            known = {cell: total.to_json() for cell, total in zip(cells, totals, strict=True)}
        else:
            places, classes = keys_of(label.filter(is_known))
            pairs, counts = np.unique(groups * max(1, len(classes)) + places, return_counts=True)
            for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
                cell = cells[pair // len(classes)]
                known.setdefault(cell, {})[classes[pair % len(classes)]] = count
        return self._state(type_name(kind), known)

    def _state(self, label: str, cells: dict[Any, Any]) -> Json:
        """Cells in order: fold, category, and the total or the counts of the labels."""
        ordered = sorted(
            cells, key=lambda cell: (cell[0], cell[1] is None, 0 if cell[1] is None else cell[1])
        )
        rows = []
        for fold, key in ordered:
            value = cells[fold, key]
            counted = value if isinstance(value, list) else [[k, value[k]] for k in sorted(value)]
            rows.append([fold, None if key is None else keys_to_json([key])[0], counted])
        return {"label": label, "cells": rows}

    def cells(self, state: Json) -> dict[tuple[int, Key | None], Any]:
        """By fold and category: `Total` of floating labels, or counts by label."""
        floating = t.is_floating(parse_type(state["label"]))
        found: dict[tuple[int, Key | None], Any] = {}
        for fold, key, value in state["cells"]:
            cell = (fold, None if key is None else keys_from_json(self.kind, [key])[0])
            found[cell] = Total.from_json(value) if floating else dict(value)
        return found

    def merge(self, first: Json, second: Json) -> Json:
        """Add what belongs to the same fold and category."""
        merged = self.cells(first)
        for cell, value in self.cells(second).items():
            before = merged.get(cell)
            if before is None:
                merged[cell] = value
            elif isinstance(value, Total):
                merged[cell] = before + value
            else:
                merged[cell] = {k: before.get(k, 0) + value.get(k, 0) for k in {**before, **value}}
        plain_cells = {c: v.to_json() if isinstance(v, Total) else v for c, v in merged.items()}
        return self._state(first["label"], plain_cells)

    def advance(self, search: Json, state: Json) -> tuple[bool, Json]:
        """All is known."""
        return True, state
