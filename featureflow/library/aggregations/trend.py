"""Which way values go: slope, and a mean that favours the newest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.core.durations import Duration
from featureflow.library.aggregations.entry import BOOLEANS, NUMBERS, Entry, floats

if TYPE_CHECKING:
    import pyarrow as pa

    from featureflow.contracts.aggregation import EventColumn, Windows


class _Trend(Entry):
    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``float64``."""
        import pyarrow as pa

        self.require(column, NUMBERS, BOOLEANS)
        return pa.float64()


@dataclass(frozen=True)
class Slope(_Trend):
    """Least-squares slope of value on time, per day; null with fewer than two distinct times."""

    name: ClassVar[str] = "slope"

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Exact: :mod:`featureflow.kernels.trend`."""
        import pyarrow as pa

        from featureflow.kernels.columns import dense, fixed_width
        from featureflow.kernels.trend import window_slopes

        return fixed_width(*window_slopes(events, dense(events, windows)), pa.float64())


@dataclass(frozen=True)
class EwmMean(_Trend):
    """Mean with weights ``2**-((t - e) / half_life)``: an event counts half as much after every half-life."""

    half_life: str
    name: ClassVar[str] = "ewm_mean"

    def __post_init__(self) -> None:
        """Check the parameter."""
        self.microseconds()

    def microseconds(self) -> int:
        """The half-life.

        Raises
        ------
        ValueError
            If it is no positive duration.
        """
        try:
            length = Duration.parse(self.half_life).microseconds
        except ValueError as error:
            raise ValueError(f"{self.name}: `half_life`: {error}") from None
        if not length:
            raise ValueError(f"{self.name}: `half_life` must be positive and finite; got {self.half_life!r}.")
        return length

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Exact sums of weighted values: :mod:`featureflow.kernels.decay`."""
        from featureflow.kernels.columns import dense
        from featureflow.kernels.decay import window_decayed_means

        selected = dense(events, windows)
        return floats(window_decayed_means(events, selected, half_life=self.microseconds()), selected)
