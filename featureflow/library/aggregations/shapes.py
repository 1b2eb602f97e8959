"""The shape of the values' distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.library.aggregations.entry import BOOLEANS, NUMBERS, Entry

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow.contracts.aggregation import EventColumn, Windows


class _Shape(Entry):
    order: ClassVar[int]

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``float64``."""
        import pyarrow as pa

        self.require(column, NUMBERS, BOOLEANS)
        return pa.float64()

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Exact: :mod:`featureflow.kernels.shapes`."""
        import pyarrow as pa

        from featureflow.kernels.columns import dense, fixed_width
        from featureflow.kernels.shapes import window_shapes

        return fixed_width(*window_shapes(events, dense(events, windows), order=self.order), pa.float64())


@dataclass(frozen=True)
class Skew(_Shape):
    """Population skewness ``m3 / m2**1.5``; null where fewer than two values differ."""

    name: ClassVar[str] = "skew"
    order: ClassVar[int] = 3


@dataclass(frozen=True)
class Kurtosis(_Shape):
    """Excess kurtosis of the population ``m4 / m2**2 - 3``; null where fewer than two values differ."""

    name: ClassVar[str] = "kurtosis"
    order: ClassVar[int] = 4
