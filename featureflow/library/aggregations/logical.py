"""Whether any or all values are true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.library.aggregations.entry import BOOLEANS, Entry

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from featureflow.contracts.aggregation import EventColumn, Windows


class _Logical(Entry):
    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``bool``."""
        return self.require(column, BOOLEANS)

    def decide(self, true: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Result from how many are true, of how many."""
        raise NotImplementedError

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Count the true ones."""
        import pyarrow as pa

        from featureflow.kernels.columns import dense, fixed_width
        from featureflow.kernels.exact_sums import window_integer_sums

        selected = dense(events, windows)
        true = window_integer_sums(events, selected, what=self.name)
        return fixed_width(self.decide(true, selected.counts), selected.counts > 0, pa.bool_())


@dataclass(frozen=True)
class Any(_Logical):
    """Whether at least one value is true; null for an empty window."""

    name: ClassVar[str] = "any"

    def decide(self, true: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.bool_]:
        """At least one."""
        return true > 0


@dataclass(frozen=True)
class All(_Logical):
    """Whether every value is true; null for an empty window."""

    name: ClassVar[str] = "all"

    def decide(self, true: NDArray[np.int64], n: NDArray[np.int64]) -> NDArray[np.bool_]:
        """As many as there are."""
        every: NDArray[np.bool_] = true == n
        return every
