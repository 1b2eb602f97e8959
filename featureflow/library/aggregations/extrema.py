"""Smallest and largest values, and another column's value where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.library.aggregations.entry import Entry

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow.contracts.aggregation import EventColumn, Windows


class _Extreme(Entry):
    largest: ClassVar[bool]

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """The column's own type."""
        return self.require_scalar(column)

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Monotonic queue; of equal values (0.0 and -0.0) the earliest is returned."""
        from featureflow.kernels.columns import dense, dense_keys, dense_values, take
        from featureflow.kernels.extrema import window_extrema

        selected = dense(events, windows)
        keys = dense_keys(events, selected)
        found = window_extrema(keys, selected.lo, selected.hi, largest=self.largest)
        return take(events, dense_values(events, selected), found)


@dataclass(frozen=True)
class Min(_Extreme):
    """Smallest value; strings by bytes, false before true."""

    name: ClassVar[str] = "min"
    largest: ClassVar[bool] = False


@dataclass(frozen=True)
class Max(_Extreme):
    """Largest value; strings by bytes, true after false."""

    name: ClassVar[str] = "max"
    largest: ClassVar[bool] = True


@dataclass(frozen=True)
class _ExtremeOf(Entry):
    """The value of the column in the row where the column ``of`` is extreme."""

    of: str
    largest: ClassVar[bool]

    def __post_init__(self) -> None:
        """Refuse anything but a column name."""
        if not isinstance(self.of, str) or not self.of:
            raise ValueError(f"{self.name}: `of` must be the name of a column; got {self.of!r}.")

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """The column's own type."""
        return self.require_scalar(column)

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Only rows where both columns have a value take part; of equal extremes the earliest wins."""
        from featureflow.contracts.aggregation import EventColumn
        from featureflow.kernels.columns import dense, dense_keys, take
        from featureflow.kernels.extrema import window_extrema

        other = events.other
        if other is None or events.values is None:
            raise TypeError(f"{self.name}: the column {self.of!r} was not handed over with the events.")
        key = f"with {self.of}"
        if key not in events.cache:
            valid = events.valid & other.valid
            events.cache[key] = EventColumn(other.values, valid, events.times, other.type)
        both: EventColumn = events.cache[key]
        selected = dense(both, windows)
        found = window_extrema(dense_keys(both, selected), selected.lo, selected.hi, largest=self.largest)
        values = events.values if selected.rows is None else events.values[selected.rows]
        return take(events, values, found)


@dataclass(frozen=True)
class ArgMax(_ExtremeOf):
    """The value of the column in the row where the column ``of`` is largest."""

    name: ClassVar[str] = "argmax"
    largest: ClassVar[bool] = True


@dataclass(frozen=True)
class ArgMin(_ExtremeOf):
    """The value of the column in the row where the column ``of`` is smallest."""

    name: ClassVar[str] = "argmin"
    largest: ClassVar[bool] = False
