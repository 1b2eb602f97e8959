"""Statistics of numbers and of categories that add up without rounding."""

# ruff: noqa: ARG002  (the contract's signatures)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as t

from featureflow.contracts.encoder import Json, Rows
from featureflow.kernels.totals import Total
from featureflow.library.encoders.columns import (
    Key,
    doubles,
    keys_from_json,
    keys_of,
    keys_to_json,
)

INFINITE = (
    "has an infinite value among the train rows, so there is no finite fit. "
    "Put `clip` with `low:` and `high:` before it, or make the value null in a `derive`."
)


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, nulls, exact sum and sum of squares, smallest and largest of numbers."""

    def start(self) -> Json:
        """One pass is enough."""
        return None

    def chunk(self, search: Json, column: pa.Array, rows: Rows) -> Json:
        """State of some rows; an infinite value is an error."""
        values = doubles(column)
        values = values[~np.isnan(values)]
        if np.isinf(values).any():
            raise ValueError(INFINITE)
        return {
            "total": Total.of(values).to_json(),
            "rows": len(column),
            "min": float(values.min()) if values.size else None,
            "max": float(values.max()) if values.size else None,
        }

    def merge(self, first: Json, second: Json) -> Json:
        """Add the totals, keep the ends."""
        ends = {
            end: pick([s[end] for s in (first, second) if s[end] is not None], default=None)
            for end, pick in (("min", min), ("max", max))
        }
        total = Total.from_json(first["total"]) + Total.from_json(second["total"])
        return {"total": total.to_json(), "rows": first["rows"] + second["rows"], **ends}

    def advance(self, search: Json, state: Json) -> tuple[bool, Json]:
        """All is known."""
        return True, state


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each value occurs; the state grows with the number of different values."""

    kind: pa.DataType

    def start(self) -> Json:
        """One pass is enough."""
        return None

    def chunk(self, search: Json, column: pa.Array, rows: Rows) -> Json:
        """Count the values of some rows."""
        codes, keys = keys_of(column)
        counts = np.bincount(codes[codes >= 0], minlength=len(keys)).tolist()
        return {"keys": keys_to_json(keys), "counts": counts, "nulls": int((codes < 0).sum())}

    def merge(self, first: Json, second: Json) -> Json:
        """Add the counts of equal values."""
        counts: dict[Key, int] = {}
        for state in (first, second):
            keys = keys_from_json(self.kind, state["keys"])
            for key, count in zip(keys, state["counts"], strict=True):
                counts[key] = counts.get(key, 0) + count
        ordered: list[Any] = sorted(counts)
        return {
            "keys": keys_to_json(ordered),
            "counts": [counts[key] for key in ordered],
            "nulls": first["nulls"] + second["nulls"],
        }

    def advance(self, search: Json, state: Json) -> tuple[bool, Json]:
        """All is known."""
        return True, state


def typed(kind: pa.DataType, value: Any) -> Any:
    """A parameter's value as a value of a column of this type.

    Raises
    ------
    TypeError
        If it is none.
    """
    if t.is_boolean(kind) and isinstance(value, bool):
        return value
    if t.is_integer(kind) and isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if float(value).is_integer() else float(value)
    if t.is_floating(kind) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if t.is_string(kind) and isinstance(value, str):
        return value
    raise TypeError(f"value {value!r} is none of a column of type {kind}.")
