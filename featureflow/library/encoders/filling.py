"""Missing values: impute."""

# ruff: noqa: ARG002  (the contract's signatures)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.types as t

from featureflow.contracts.encoder import Json, Output, Rows, Statistic
from featureflow.kernels.totals import Total
from featureflow.library.encoders.columns import keys_from_json, keys_to_json, need_number, valid_rows
from featureflow.library.encoders.ranks import Quantiles
from featureflow.library.encoders.statistics import Counts, Moments, typed


@dataclass(frozen=True, slots=True)
class Impute:
    """Put a value in place of nulls (scikit-learn's `SimpleImputer`), and say where, with ``indicator``.

    Of several most frequent values the smallest is taken. A column that is null in all train rows gets 0 (false), as
    with scikit-learn's ``keep_empty_features``; text, dates and times stay null. The mean and the median of integers
    are doubles; otherwise the column keeps its type.
    """

    strategy: str = "mean"
    value: Any = None
    indicator: bool = False
    name: ClassVar[str] = "impute"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Moments, the median, or counts; nothing for a constant."""
        if self.strategy == "constant":
            typed(kind, self.value)
            return None
        if self.strategy == "most_frequent":
            return Counts(kind)
        need_number(kind)
        return Moments() if self.strategy == "mean" else Quantiles((0.5,))

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """The value to put in."""
        empty = (
            0.0 if t.is_floating(kind) else 0 if t.is_integer(kind) else False if t.is_boolean(kind) else None
        )
        if self.strategy == "constant":
            value = typed(kind, self.value)
        elif self.strategy == "most_frequent":
            counts = found["counts"]
            value = found["keys"][counts.index(max(counts))] if counts else empty
        elif self.strategy == "mean":
            total = Total.from_json(found["total"])
            value = total.mean if total.count else 0.0
        else:
            value = 0.0 if found["values"] is None else found["values"][0]
        return {"value": keys_to_json([value])[0]}

    def _type(self, kind: pa.DataType, fitted: Json) -> pa.DataType:
        if self.strategy in {"mean", "median"}:
            return pa.float64()
        return pa.float64() if t.is_integer(kind) and isinstance(fitted["value"], float) else kind

    def outputs(self, kind: pa.DataType, fitted: Json, name: str) -> tuple[Output, ...]:
        """The filled column, and where it was null."""
        filled = Output(name, self._type(kind, fitted))
        return (filled, Output(f"{name}_missing", pa.uint8(), extra=True)) if self.indicator else (filled,)

    def transform(
        self,
        kind: pa.DataType,
        fitted: Json,
        column: pa.Array,
        train: Rows | None,
    ) -> tuple[pa.Array, ...]:
        """Fill nulls."""
        target, value = self._type(kind, fitted), fitted["value"]
        filled = column.cast(pa.uint8()).cast(target) if t.is_boolean(kind) and target != kind else column
        filled = filled if filled.type == target else filled.cast(target, safe=False)
        if value is not None and filled.null_count:
            if t.is_date(kind) or t.is_timestamp(kind):
                raw = pa.int32() if t.is_date(kind) else pa.int64()
                scalar = pa.scalar(value, raw).cast(kind)
            else:
                scalar = pa.scalar(keys_from_json(target, [value])[0], target)
            filled = filled.fill_null(scalar)
        if not self.indicator:
            return (filled,)
        return filled, pa.array((~valid_rows(column)).astype(np.uint8))
