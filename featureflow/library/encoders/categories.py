"""Categories to numbers: onehot, ordinal, hash; and numbers to categories: bucketize."""

# ruff: noqa: ARG002  (the contract's signatures)

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.encoder import Json, Output, Rows, Statistic
from featureflow.kernels.hashing import combine, hash_column, hash_int64
from featureflow.library.encoders.columns import (
    codes_in,
    doubles,
    key_text,
    keys_from_json,
    need_number,
    numeric,
)
from featureflow.library.encoders.ranks import Quantiles
from featureflow.library.encoders.statistics import Counts, Moments

#: the column of rare categories, as scikit-learn names it
INFREQUENT = "infrequent_sklearn"
#: columns that one column may become
MOST_COLUMNS = 10_000


def _unseen(column: pa.Array, codes: NDArray[np.int64]) -> ValueError:
    """Error that shows values which no train row has."""
    values = column.filter(pa.array(codes == -2)).unique().to_pylist()
    shown = ", ".join(repr(value) for value in values[:5]) + (", …" if len(values) > 5 else "")
    return ValueError(
        f"has values that no train row has: {shown}. Encode them as zeros with `unknown: ignore`."
    )


@dataclass(frozen=True, slots=True)
class OneHot:
    """One column of 0 and 1 for each category, in the order of the categories (scikit-learn's `OneHotEncoder`).

    A null is a category like others if a train row is null (``channel_nan``, the last). Categories of fewer than
    ``min_count`` train rows, or beyond the ``max_categories - 1`` most frequent, share the last column
    (``channel_infrequent_sklearn``). A value that no train row has gives zeros, or with ``unknown: error`` an error.
    """

    min_count: int | None = None
    max_categories: int | None = None
    drop: str = "none"
    unknown: str = "ignore"
    name: ClassVar[str] = "onehot"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """How often each category occurs."""
        return Counts(kind)

    def _infrequent(self, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        rare = counts < (self.min_count or 0)
        # scikit-learn counts the column of rare categories, also where there is none yet
        if self.max_categories is not None and self.max_categories < counts.size - rare.sum() + 1:
            kept = self.max_categories - 1
            smallest = np.argsort(counts, kind="stable")
            rare[smallest[:-kept] if kept else smallest] = True
        return rare

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """The column of each category (null last), and the columns' names; -1 for a column that is dropped."""
        keys = keys_from_json(kind, found["keys"])
        names = [key_text(kind, key) for key in keys] + ([key_text(kind, None)] if found["nulls"] else [])
        counts = np.array([*found["counts"], *([found["nulls"]] if found["nulls"] else [])], np.int64)
        rare = self._infrequent(counts)
        places = np.where(rare, np.count_nonzero(~rare), np.cumsum(~rare) - 1)
        columns = [name for name, is_rare in zip(names, rare, strict=True) if not is_rare]
        columns += [INFREQUENT] if rare.any() else []
        if len(columns) > MOST_COLUMNS:
            raise ValueError(
                f"makes {len(columns)} columns; {MOST_COLUMNS} are the most. Use max_categories or min_count, or the "
                "encoders hash or target."
            )
        if self.drop == "first" or (self.drop == "if_binary" and len(columns) == 2):
            places, columns = places - 1, columns[1:]
        return {
            "keys": found["keys"],
            "null": bool(found["nulls"]),
            "places": places.tolist(),
            "columns": columns,
        }

    def outputs(self, kind: pa.DataType, fitted: Json, name: str) -> tuple[Output, ...]:
        """``{name}_{category}`` for each category that is not rare."""
        return tuple(Output(f"{name}_{column}", pa.uint8()) for column in fitted["columns"])

    def transform(
        self,
        kind: pa.DataType,
        fitted: Json,
        column: pa.Array,
        train: Rows | None,
    ) -> tuple[pa.Array, ...]:
        """One column for each category."""
        codes = codes_in(column, keys_from_json(kind, fitted["keys"]))
        places = np.array(fitted["places"], np.int64)
        if fitted["null"]:
            codes[codes == -1] = places.size - 1
        else:
            codes[codes == -1] = -2
        if self.unknown == "error" and (codes == -2).any():
            raise _unseen(column, codes)
        at = np.full(codes.size, -1, np.int64)
        known = codes >= 0
        at[known] = places[codes[known]]
        return tuple(pa.array((at == place).astype(np.uint8)) for place in range(len(fitted["columns"])))


@dataclass(frozen=True, slots=True)
class Ordinal:
    """Place of the category among the sorted ones, from 0 (scikit-learn's `OrdinalEncoder`).

    A value that no train row has gives ``unknown_value``; a null gives ``missing_value``, or stays null.
    """

    unknown_value: int = -1
    missing_value: int | None = None
    name: ClassVar[str] = "ordinal"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """The different categories."""
        return Counts(kind)

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Categories in order."""
        for name in ("unknown_value", "missing_value"):
            value = getattr(self, name)
            if value is not None and 0 <= value < len(found["keys"]):
                raise ValueError(
                    f"{name} {value} is also the place of a category; there are {len(found['keys'])}. "
                    "Choose a negative one."
                )
        return {"keys": found["keys"]}

    def outputs(self, kind: pa.DataType, fitted: Json, name: str) -> tuple[Output, ...]:
        """One column of integers."""
        return (Output(name, pa.int64()),)

    def transform(
        self,
        kind: pa.DataType,
        fitted: Json,
        column: pa.Array,
        train: Rows | None,
    ) -> tuple[pa.Array, ...]:
        """Places of the categories."""
        codes = codes_in(column, keys_from_json(kind, fitted["keys"]))
        missing, unknown = codes == -1, codes == -2
        codes[unknown] = self.unknown_value
        if self.missing_value is not None:
            codes[missing] = self.missing_value
            return (numeric(codes, np.ones(codes.size, np.bool_)),)
        return (numeric(codes, ~missing),)


@dataclass(frozen=True, slots=True)
class Hash:
    """A number below ``buckets`` by a hash of the value; nothing is fitted, and a null has a bucket as others have."""

    buckets: int
    seed: int = 0
    name: ClassVar[str] = "hash"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Nothing to fit."""
        return None

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Nothing to fit."""
        return {}

    def outputs(self, kind: pa.DataType, fitted: Json, name: str) -> tuple[Output, ...]:
        """One column of integers."""
        return (Output(name, pa.int64()),)

    def transform(
        self,
        kind: pa.DataType,
        fitted: Json,
        column: pa.Array,
        train: Rows | None,
    ) -> tuple[pa.Array, ...]:
        """Buckets."""
        seeds = hash_int64(np.array([self.seed], np.int64), np.ones(1, np.bool_))
        hashes = combine(np.repeat(seeds, len(column)), hash_column(column))
        return (pa.array((hashes % np.uint64(self.buckets)).astype(np.int64)),)


@dataclass(frozen=True, slots=True)
class Bucketize:
    """Number of the interval that a value lies in, from 0; null stays null.

    ``edges`` are the borders: below the first is 0, from an edge on the next number. ``n_bins`` finds them in the
    train rows as scikit-learn's `KBinsDiscretizer` does (``averaged_inverted_cdf`` of all rows): of equal counts, or of
    equal widths (``uniform``); bins no wider than 1e-8 are joined.
    """

    edges: tuple[float, ...] | None = None
    n_bins: int | None = None
    strategy: str = "quantile"
    name: ClassVar[str] = "bucketize"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Ends or exact quantiles of numbers; nothing if the edges are given."""
        need_number(kind)
        if self.n_bins is None:
            return None
        if self.strategy == "uniform":
            return Moments()
        levels = np.linspace(0, 100, self.n_bins + 1) / 100
        return Quantiles(tuple(levels.tolist()), method="averaged_inverted_cdf")

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Borders between the intervals."""
        if self.n_bins is None:
            return {"edges": list(self.edges or ())}
        if self.strategy == "uniform":
            low, high = found["min"], found["max"]
            if low is None or low == high:
                return {"edges": []}
            return {"edges": np.linspace(low, high, self.n_bins + 1)[1:-1].tolist()}
        if found["values"] is None or found["values"][0] == found["values"][-1]:
            return {"edges": []}
        borders = np.array(found["values"])
        borders = borders[np.ediff1d(borders, to_begin=np.inf) > 1e-8]
        return {"edges": borders[1:-1].tolist()}

    def outputs(self, kind: pa.DataType, fitted: Json, name: str) -> tuple[Output, ...]:
        """One column of integers."""
        return (Output(name, pa.int64()),)

    def transform(
        self,
        kind: pa.DataType,
        fitted: Json,
        column: pa.Array,
        train: Rows | None,
    ) -> tuple[pa.Array, ...]:
        """Numbers of intervals."""
        values = doubles(column)
        places = np.searchsorted(np.array(fitted["edges"], np.float64), values, side="right")
        return (numeric(places.astype(np.int64), ~np.isnan(values)),)
