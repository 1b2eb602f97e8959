"""Values by rank: quantiles, exact and approximate, and the k largest or smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.library.aggregations.entry import NUMBERS, Entry, floats, positive_integer

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow.contracts.aggregation import EventColumn, Windows


def _exact_quantiles(events: EventColumn, windows: Windows, q: float) -> pa.Array:
    import numpy as np

    from featureflow.kernels.columns import dense, dense_values
    from featureflow.kernels.ranks import chains, interpolate, window_quantile_neighbours

    selected = dense(events, windows)
    values = dense_values(events, selected)
    if values.size == 0:
        return floats(np.zeros(selected.lo.size, np.float64), selected)
    below, above = window_quantile_neighbours(chains(events, windows, selected), selected, q=q)
    position = q * np.maximum(selected.counts - 1, 0)
    return floats(interpolate(values[below], values[above], position - np.floor(position)), selected)


class _Quantile(Entry):
    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``float64``."""
        import pyarrow as pa

        self.require(column, NUMBERS)
        return pa.float64()


@dataclass(frozen=True)
class Median(_Quantile):
    """Middle value, exact; the mean of the two middle ones of an even number."""

    name: ClassVar[str] = "median"

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """An order-statistic tree."""
        return _exact_quantiles(events, windows, 0.5)


@dataclass(frozen=True)
class _QuantileAt(_Quantile):
    q: float
    prefix: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the parameter."""
        if isinstance(self.q, bool) or not isinstance(self.q, int | float) or not 0 <= self.q <= 1:
            raise ValueError(f"{self.name}: `q` must be a number from 0 to 1, such as 0.95; got {self.q!r}.")

    def label(self) -> str:
        """``p95`` for 0.95, ``p99_9`` for 0.999, ``p5`` for 0.05."""
        from decimal import Decimal

        percent = (Decimal(repr(self.q)) * 100).normalize()
        return f"{self.prefix}p{percent:f}".replace(".", "_")


@dataclass(frozen=True)
class Quantile(_QuantileAt):
    """Quantile ``q``, exact, linear between the neighbours (NumPy's and Polars' ``linear``)."""

    name: ClassVar[str] = "quantile"
    prefix: ClassVar[str] = ""

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """An order-statistic tree."""
        return _exact_quantiles(events, windows, float(self.q))


@dataclass(frozen=True)
class ApproxQuantile(_QuantileAt):
    """Quantile ``q`` within 1 % of the value at rank ``floor(q (n - 1))``, by a sketch with buckets of fixed width."""

    name: ClassVar[str] = "approx_quantile"
    prefix: ClassVar[str] = "approx_"

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Sliding counts of buckets."""
        from featureflow.kernels.columns import dense
        from featureflow.kernels.sketches import window_approximate_quantiles

        selected = dense(events, windows)
        return floats(window_approximate_quantiles(events, selected, q=float(self.q)), selected)


@dataclass(frozen=True)
class _BestK(Entry):
    k: int
    largest: ClassVar[bool]

    def __post_init__(self) -> None:
        """Check the parameter."""
        positive_integer(self.name, "k", self.k)

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """A list of the column's type."""
        import pyarrow as pa

        return pa.list_(self.require_scalar(column))

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """An order-statistic tree, asked k times a window."""
        from featureflow.kernels.columns import clean_values, dense, lists
        from featureflow.kernels.ranks import chains, window_best

        selected = dense(events, windows)
        best = window_best(chains(events, windows, selected), selected, k=self.k, largest=self.largest)
        return lists(events, clean_values(events, selected), *best)


@dataclass(frozen=True)
class TopK(_BestK):
    """The k largest values, largest first, duplicates kept. -0.0 is given as 0.0."""

    name: ClassVar[str] = "top_k"
    largest: ClassVar[bool] = True


@dataclass(frozen=True)
class BottomK(_BestK):
    """The k smallest values, smallest first, duplicates kept. -0.0 is given as 0.0."""

    name: ClassVar[str] = "bottom_k"
    largest: ClassVar[bool] = False
