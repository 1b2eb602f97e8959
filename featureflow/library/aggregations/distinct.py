"""How many different values, which of them how often, and how evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.library.aggregations.entry import Entry, floats

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow.contracts.aggregation import EventColumn, Windows


class _DistinctCount(Entry):
    null_when_empty: ClassVar[bool] = False

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``int64``."""
        import pyarrow as pa

        self.require_scalar(column)
        return pa.int64()


@dataclass(frozen=True)
class CountDistinct(_DistinctCount):
    """Number of different values, exactly; 0 for an empty window. 0.0 and -0.0 are one value."""

    name: ClassVar[str] = "count_distinct"

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Sliding counts."""
        from featureflow.kernels.columns import counts_array, dense
        from featureflow.kernels.counting import window_distinct
        from featureflow.kernels.ranks import value_codes

        selected = dense(events, windows)
        return counts_array(window_distinct(*value_codes(events, selected), selected))


@dataclass(frozen=True)
class ApproxCountDistinct(_DistinctCount):
    """Number of different values by HyperLogLog: 4,096 registers, standard error 1.6 %; 0 for an empty window."""

    name: ClassVar[str] = "approx_count_distinct"

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Sliding counts of (register, rank)."""
        from featureflow.kernels.columns import counts_array, dense
        from featureflow.kernels.sketches import window_approximate_distinct

        return counts_array(window_approximate_distinct(events, dense(events, windows)))


@dataclass(frozen=True)
class Mode(Entry):
    """Most frequent value; of equally frequent ones the smallest. -0.0 is given as 0.0."""

    name: ClassVar[str] = "mode"

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """The column's own type."""
        return self.require_scalar(column)

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """A tournament tree of counts."""
        from featureflow.kernels.columns import clean_values, dense, take
        from featureflow.kernels.counting import window_modes
        from featureflow.kernels.ranks import chains

        selected = dense(events, windows)
        found = window_modes(chains(events, windows, selected), selected)
        return take(events, clean_values(events, selected), found)


@dataclass(frozen=True)
class Entropy(Entry):
    """Shannon entropy of the values' frequencies, in nats; 0 where all values are equal."""

    name: ClassVar[str] = "entropy"

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``float64``."""
        import pyarrow as pa

        self.require_scalar(column)
        return pa.float64()

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Sliding counts and a sum in fixed point."""
        from featureflow.kernels.columns import dense
        from featureflow.kernels.counting import window_entropy
        from featureflow.kernels.ranks import value_codes

        selected = dense(events, windows)
        return floats(window_entropy(*value_codes(events, selected), selected), selected)


@dataclass(frozen=True)
class Histogram(Entry):
    """How often each value occurs, as a map sorted by value. -0.0 is given as 0.0."""

    name: ClassVar[str] = "histogram"

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``map<type of the column, int64>``."""
        import pyarrow as pa

        return pa.map_(self.require_scalar(column), pa.int64())

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Sliding counts and a bit for each value that is present."""
        from featureflow.kernels.columns import clean_values, dense, maps
        from featureflow.kernels.counting import window_distinct, window_histograms
        from featureflow.kernels.ranks import chains, value_codes

        selected = dense(events, windows)
        distinct = window_distinct(*value_codes(events, selected), selected)
        chained = chains(events, windows, selected)
        return maps(events, clean_values(events, selected), *window_histograms(chained, selected, distinct))
