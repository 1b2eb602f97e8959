"""Statistics of the exported columns: exact, so that they are the same however the rows are cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError
from featureflow.export.inputs import Column, Plan
from featureflow.kernels.exact_totals import Totals, totals

#: Labels with more different values than this are not counted value by value.
MOST_LABEL_VALUES = 1000


@dataclass(slots=True)
class Measured:
    """What is known about a column's train rows; parts add up.

    Parameters
    ----------
    nulls
        Before they were filled.
    error
        Largest relative error of narrowing to float32.
    """

    nulls: int = 0
    error: float = 0.0
    totals: Totals = field(default_factory=Totals)

    def add(self, other: Measured) -> None:
        """Take in another part."""
        self.nulls += other.nulls
        self.error = max(self.error, other.error)
        self.totals = self.totals + other.totals

    def to_json(self) -> dict[str, Any]:
        """Plain values; big integers as hexadecimal text."""
        plain = asdict(self.totals)
        return {
            "nulls": self.nulls,
            "error": self.error,
            "totals": {**plain, "total": hex(plain["total"]), "squares": hex(plain["squares"])},
        }

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Measured:
        """Read what `to_json` wrote."""
        plain = given["totals"]
        whole = {**plain, "total": int(plain["total"], 16), "squares": int(plain["squares"], 16)}
        return cls(given["nulls"], given["error"], Totals(**whole))


def measure(column: Column, values: NDArray[Any] | None, nulls: int, error: float) -> Measured:
    """Measure train rows of a column; ``values`` is None where only nulls are counted."""
    if values is None:
        return Measured(nulls, error)
    if not column.measured:  # times and dates: their range only
        found = Totals()
        if values.size:
            found = Totals(values.size, 0, 0, 0, 0, int(values.min()), int(values.max()))
        return Measured(nulls, error, found)
    return Measured(nulls, error, totals(values))


def count_values(values: NDArray[Any] | pa.Array) -> dict[str, int] | None:
    """Count the values of a label by their text; None if there are too many different ones."""
    if isinstance(values, np.ndarray):
        if values.ndim > 1:
            return None
        found, counts = np.unique(values, return_counts=True)
        pairs = zip(found.tolist(), counts.tolist(), strict=True)
    else:
        counted = values.value_counts()
        pairs = zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
    result: dict[str, int] = {}
    for value, count in pairs:
        if len(result) == MOST_LABEL_VALUES:
            return None
        text = str(value).lower() if isinstance(value, bool) else str(value)
        result[text] = result.get(text, 0) + count
    return result


class Gathered:
    """Statistics of all parts that came in so far."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.measured: dict[str, Measured] = {}
        #: by label and split; None for too many values
        self.labels: dict[str, dict[str, Counter[str] | None]] = {}
        #: nulls that nothing was said about, by column
        self.nulls: Counter[str] = Counter()

    def add(self, part: dict[str, Any]) -> None:
        """Take in what one task of the first pass found."""
        self.nulls.update(part["nulls"])
        for name, given in part["measured"].items():
            self.measured.setdefault(name, Measured()).add(Measured.from_json(given))
        for name, splits in part["labels"].items():
            known = self.labels.setdefault(name, {})
            for split, counts in splits.items():
                before = known.setdefault(split, Counter())
                if before is None or counts is None:
                    known[split] = None
                    continue
                before.update(counts)
                if len(before) > MOST_LABEL_VALUES:
                    known[split] = None

    def scales(self, method: str) -> dict[str, dict[str, float]]:
        """Mean and scale of each normalised column: ``(x - mean) / scale``; a scale of 0 becomes 1.

        ``standard`` takes the population standard deviation (as scikit-learn does), ``minmax`` minimum and range.

        Raises
        ------
        ComputeError
            If a column has no value in train, or an infinite one.
        """
        found = {}
        for column in self._plan.columns:
            if not column.scaled:
                continue
            known = self.measured.get(column.name, Measured()).totals
            if not known.count or known.infinite:
                why = "infinite values" if known.infinite else "no value"
                raise ComputeError(
                    f"export.normalize: {column.name!r} has {why} in the rows that it is fitted on. "
                    "Leave it out with `normalize: {columns: […]}`, or clip it."
                )
            mean, scale = (known.mean, known.std) if method == "standard" else _range(known)
            found[column.name] = {"mean": float(mean or 0.0), "scale": float(scale or 1.0)}
        return found

    def of(self, column: Column) -> dict[str, Any]:
        """One column's entry in `stats.json`."""
        known = self.measured.get(column.name, Measured())
        entry: dict[str, Any] = {"nulls": known.nulls}
        if column.kind != "number":
            return entry
        found = known.totals
        entry["count"] = found.count
        if column.measured:
            entry.update(mean=found.mean, std=found.std, infinite=found.infinite)
            entry.update(min=found.smallest, max=found.largest, narrowing_error=known.error)
        else:
            entry.update(min=_text(found.smallest, column), max=_text(found.largest, column))
        return entry


def _range(known: Totals) -> tuple[float, float]:
    least, most = float(known.smallest or 0), float(known.largest or 0)
    return least, most - least


def _text(value: float | None, column: Column) -> str | None:
    """A time, given in microseconds or days, as ISO text."""
    if value is None or pa.types.is_nested(column.spilled):
        return None
    days = pa.types.is_date(column.spilled)
    if pa.types.is_duration(column.spilled):
        return f"{value}us"
    kind = pa.timestamp("us")
    scaled = int(value) * (86_400_000_000 if days else 1)
    text = pa.scalar(scaled, kind).cast(pa.string()).as_py()
    return str(text)[:10] if days else f"{text}Z"
