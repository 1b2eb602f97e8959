"""Counts, sums and means, and what measures spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.library.aggregations.entry import BOOLEANS, NUMBERS, Entry, floats

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow.contracts.aggregation import EventColumn, Windows


@dataclass(frozen=True)
class Count(Entry):
    """Number of rows, or of non-null values of a column; 0 for an empty window."""

    name: ClassVar[str] = "count"
    null_when_empty: ClassVar[bool] = False

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``int64``, for any column or none."""
        import pyarrow as pa

        return pa.int64()

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Subtract two positions a window."""
        from featureflow.kernels.columns import counts_array, dense

        return counts_array(dense(events, windows).counts)


@dataclass(frozen=True)
class Sum(Entry):
    """Sum; of integers and booleans ``int64`` (an overflow is an error), of floats ``float64``, rounded once."""

    name: ClassVar[str] = "sum"

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``int64`` for integers and booleans, ``float64`` for floats."""
        import pyarrow as pa

        kind = self.require(column, NUMBERS, BOOLEANS)
        return pa.float64() if pa.types.is_floating(kind) else pa.int64()

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Exact: :mod:`featureflow.kernels.exact_sums`."""
        import pyarrow as pa

        from featureflow.kernels.columns import dense, fixed_width
        from featureflow.kernels.exact_sums import window_integer_sums, window_sums

        selected = dense(events, windows)
        if self.output_type(events.type) == pa.float64():
            return floats(window_sums(events, selected), selected)
        return fixed_width(window_integer_sums(events, selected), selected.counts > 0, pa.int64())


@dataclass(frozen=True)
class Mean(Entry):
    """Arithmetic mean as ``float64``; of booleans the share of true ones."""

    name: ClassVar[str] = "mean"

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``float64``."""
        import pyarrow as pa

        self.require(column, NUMBERS, BOOLEANS)
        return pa.float64()

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Exact sum over count."""
        from featureflow.kernels.columns import dense
        from featureflow.kernels.exact_sums import window_sums

        selected = dense(events, windows)
        return floats(window_sums(events, selected, divide=True), selected)


class _Spread(Entry):
    sample: ClassVar[bool]
    root: ClassVar[bool]

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``float64``."""
        import pyarrow as pa

        self.require(column, NUMBERS, BOOLEANS)
        return pa.float64()

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Exact: :mod:`featureflow.kernels.moments`."""
        from featureflow.kernels.columns import dense
        from featureflow.kernels.moments import window_variances

        selected = dense(events, windows)
        values = window_variances(events, selected, sample=self.sample, root=self.root)
        return floats(values, selected, at_least=2 if self.sample else 1)


@dataclass(frozen=True)
class StddevSamp(_Spread):
    """Sample standard deviation (divides by n - 1); null for fewer than two values."""

    name: ClassVar[str] = "stddev_samp"
    sample: ClassVar[bool] = True
    root: ClassVar[bool] = True


@dataclass(frozen=True)
class StddevPop(_Spread):
    """Population standard deviation (divides by n); 0 for one value."""

    name: ClassVar[str] = "stddev_pop"
    sample: ClassVar[bool] = False
    root: ClassVar[bool] = True


@dataclass(frozen=True)
class VarSamp(_Spread):
    """Sample variance (divides by n - 1); null for fewer than two values."""

    name: ClassVar[str] = "var_samp"
    sample: ClassVar[bool] = True
    root: ClassVar[bool] = False


@dataclass(frozen=True)
class VarPop(_Spread):
    """Population variance (divides by n); 0 for one value."""

    name: ClassVar[str] = "var_pop"
    sample: ClassVar[bool] = False
    root: ClassVar[bool] = False
