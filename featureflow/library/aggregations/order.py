"""First and last values, by the order of the events: time, then sequence, created, row hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.library.aggregations.entry import Entry, positive_integer

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow.contracts.aggregation import EventColumn, Windows


class _Edge(Entry):
    newest: ClassVar[bool]

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """The column's own type."""
        return self.require_scalar(column)

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """One look-up a window."""
        import numpy as np

        from featureflow.kernels.columns import dense, dense_values, take

        selected = dense(events, windows)
        edge = selected.hi - 1 if self.newest else selected.lo
        found = np.where(selected.counts > 0, edge, -1)
        return take(events, dense_values(events, selected), found)


@dataclass(frozen=True)
class First(_Edge):
    """Oldest value that is not null."""

    name: ClassVar[str] = "first"
    newest: ClassVar[bool] = False


@dataclass(frozen=True)
class Last(_Edge):
    """Newest value that is not null."""

    name: ClassVar[str] = "last"
    newest: ClassVar[bool] = True


@dataclass(frozen=True)
class _EdgeK(Entry):
    k: int
    distinct: bool = False
    newest: ClassVar[bool]

    def __post_init__(self) -> None:
        """Check the parameters."""
        positive_integer(self.name, "k", self.k)
        if not isinstance(self.distinct, bool):
            raise ValueError(f"{self.name}: `distinct` must be true or false; got {self.distinct!r}.")

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """A list of the column's type."""
        import pyarrow as pa

        return pa.list_(self.require_scalar(column))

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """O(k) a window; with ``distinct`` a linked list by recency."""
        from featureflow.kernels.columns import dense, dense_values, lists
        from featureflow.kernels.counting import window_distinct
        from featureflow.kernels.ranks import value_codes
        from featureflow.kernels.recent import window_distinct_edges, window_edges

        selected = dense(events, windows)
        if self.distinct:
            codes, size = value_codes(events, selected)
            found = window_distinct(codes, size, selected)
            edges = window_distinct_edges(codes, size, selected, found, k=self.k, newest=self.newest)
        else:
            edges = window_edges(selected, k=self.k, newest=self.newest)
        return lists(events, dense_values(events, selected), *edges)


@dataclass(frozen=True)
class FirstK(_EdgeK):
    """The k oldest values, oldest first; with ``distinct``, a value only where it comes first."""

    name: ClassVar[str] = "first_k"
    newest: ClassVar[bool] = False


@dataclass(frozen=True)
class LastK(_EdgeK):
    """The k newest values, newest first; with ``distinct``, a value only where it comes last."""

    name: ClassVar[str] = "last_k"
    newest: ClassVar[bool] = True
