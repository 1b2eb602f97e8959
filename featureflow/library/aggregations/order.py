"""First and last values, by the order of the events: time, then sequence, created, row hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.library.aggregations.entry import Entry

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
