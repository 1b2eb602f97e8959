"""How long ago, and how often: times of the values, not the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featureflow.library.aggregations.entry import Entry, floats

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from featureflow.contracts.aggregation import EventColumn, Windows

_MICROSECONDS = 1_000_000.0


class _Seconds(Entry):
    at_least: ClassVar[int] = 1

    def output_type(self, column: pa.DataType | None) -> pa.DataType:
        """``float64``, for any column or none."""
        import pyarrow as pa

        return pa.float64()

    def seconds(
        self, first: NDArray[np.int64], last: NDArray[np.int64], at: NDArray[np.int64], n: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Result from the times of the first and last value, the query's time and the count."""
        raise NotImplementedError

    def compute(self, events: EventColumn, windows: Windows) -> pa.Array:
        """Two look-ups a window."""
        import numpy as np

        from featureflow.kernels.columns import dense, dense_times

        selected = dense(events, windows)
        times = dense_times(events, selected)
        if times.size == 0:
            return floats(np.zeros(selected.lo.size, np.float64), selected, at_least=self.at_least)
        first = times[np.minimum(selected.lo, times.size - 1)]
        last = times[np.maximum(selected.hi - 1, 0)]
        n = np.maximum(selected.counts, 2)
        return floats(self.seconds(first, last, windows.at, n), selected, at_least=self.at_least)


@dataclass(frozen=True)
class SecondsSinceLast(_Seconds):
    """Seconds from the newest value (or row) of the window to the row's own time."""

    name: ClassVar[str] = "seconds_since_last"

    def seconds(
        self, first: NDArray[np.int64], last: NDArray[np.int64], at: NDArray[np.int64], n: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """``t`` minus the last time."""
        return (at - last) / _MICROSECONDS


@dataclass(frozen=True)
class SecondsSinceFirst(_Seconds):
    """Seconds from the oldest value (or row) of the window to the row's own time."""

    name: ClassVar[str] = "seconds_since_first"

    def seconds(
        self, first: NDArray[np.int64], last: NDArray[np.int64], at: NDArray[np.int64], n: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """``t`` minus the first time."""
        return (at - first) / _MICROSECONDS


@dataclass(frozen=True)
class MeanGapSeconds(_Seconds):
    """Mean seconds between neighbouring values (or rows): (last - first) / (n - 1); null for fewer than two."""

    name: ClassVar[str] = "mean_gap_seconds"
    at_least: ClassVar[int] = 2

    def seconds(
        self, first: NDArray[np.int64], last: NDArray[np.int64], at: NDArray[np.int64], n: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Distance of the ends over the gaps between."""
        return (last - first) / ((n - 1) * _MICROSECONDS)
