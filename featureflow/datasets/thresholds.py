"""Where one split ends and the next begins: shares of [0, 1), or instants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featureflow.spec.splits import TRAIN, Before, Share, Split, Values

#: shares that sum to 1 but for this are everything: 0.7 + 0.2 + 0.1 is not 1.0 in binary
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Splits in order, and where each ends.

    Parameters
    ----------
    names
        Names of the splits.
    shares
        Share of [0, 1) below the end of each; ``by: time`` and ``column`` have none.
    ends
        End of each in microseconds UTC, exclusive; None for ``rest``. Empty but for ``by: time``.
    values
        Values of each, as text; None for ``rest``. Empty but for ``by: column``.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...] = ()
    ends: tuple[int | None, ...] = ()
    values: tuple[tuple[str, ...] | None, ...] = ()

    @classmethod
    def of(cls, split: Split) -> Thresholds:
        """Read them off a spec; a split without parts (only ``folds``) is all train."""
        parts = dict(split.parts)
        if split.by == "time":
            ends = tuple(part.us if isinstance(part, Before) else None for part in parts.values())
            return cls(tuple(parts) or (TRAIN,), ends=ends or (None,))
        if split.by == "column":
            values = [tuple(map(text, p.values)) if isinstance(p, Values) else None for p in parts.values()]
            return cls(tuple(parts), values=tuple(values))
        reached, shares = 0.0, []
        for part in parts.values():
            reached = reached + part.share if isinstance(part, Share) else 1.0
            shares.append(1.0 if reached > 1.0 - _ROUNDING else reached)
        return cls(tuple(parts) or (TRAIN,), shares=tuple(shares) or (1.0,))

    def codes_of_shares(self, units: NDArray[np.float64]) -> NDArray[np.int64]:
        """Position of the split that each number in [0, 1) falls into; ``len(names)`` behind the last."""
        return np.searchsorted(np.array(self.shares), units, side="right").astype(np.int64)

    def codes_of_times(
        self, times: NDArray[np.int64], embargo: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Position of the split of each time, and whether it is too close before that split's end."""
        last = np.iinfo(np.int64).max
        ends = np.array([last if end is None else end for end in self.ends], np.int64)
        bounded = np.array([end is not None for end in self.ends])
        # `rest` takes what is left, also the largest time there is
        codes = np.searchsorted(ends[bounded], times, side="right").astype(np.int64)
        end = np.append(ends, last)[codes]
        close = (end != last) & (times > end - embargo)
        return codes, close

    def without(self, name: str, units: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers of [0, 1) without a split's part, stretched to [0, 1) again; those of that split mean nothing."""
        if name not in self.names:
            return units
        place = self.names.index(name)
        low, high = (0.0, *self.shares)[place : place + 2]
        rest = self.shares[-1] - (high - low)
        moved = np.where(units < low, units, np.maximum(units - high, 0.0) + low)
        return np.asarray(moved / rest) if rest > 0 else np.zeros_like(units)


def text(value: object) -> str:
    """A value of a column as Arrow and YAML write it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
