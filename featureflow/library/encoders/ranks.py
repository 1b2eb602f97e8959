"""Exact order statistics of numbers in any number of files, in bounded memory.

A double has an unsigned key of 64 bits that sorts as it does. The state holds the different keys and how often each
occurs. Where there are more than ``LIMIT`` of them, the last four bits are dropped from all of them, again and again,
until they are few enough; so the merged state depends only on the values. Then the next pass looks only at the rows
whose shortened key holds a wanted rank, with full keys again. Each pass gets at least four bits further; with a
few quantiles, two passes do for some hundred million different values.
"""

# ruff: noqa: ARG002  (the contract's signatures)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.encoder import Json, Rows
from featureflow.library.encoders.columns import doubles, pack, unpack
from featureflow.library.encoders.statistics import INFINITE

#: different keys that a state holds at most (or 16 for each wanted rank)
LIMIT = 1 << 17
_DROPPED = 4
_SIGN = np.uint64(1 << 63)


def sort_keys(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Unsigned keys that sort as the values; ``-0.0`` is ``0.0``."""
    bits = (values + 0.0).view(np.uint64)
    return np.where(bits & _SIGN != 0, ~bits, bits | _SIGN)


def from_sort_keys(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Values of keys."""
    return np.where(keys & _SIGN != 0, keys & ~_SIGN, ~keys).view(np.float64)


def _places(n: int, q: float, method: str) -> tuple[int, int, float]:
    """The two ranks between which a quantile lies and how far, as NumPy defines it."""
    if method == "linear":
        virtual = (n - 1) * q
        low = math.floor(virtual)
        part = virtual - low
    else:  # averaged_inverted_cdf
        virtual = n * q - 1
        low = math.floor(virtual)
        part = 0.5 if virtual == low else 1.0
    return min(max(low, 0), n - 1), min(max(low + 1, 0), n - 1), part


def _between(low: float, high: float, part: float) -> float:
    """Linear interpolation, rounded as NumPy does it."""
    if low == high:
        return low
    if math.isinf(low) or math.isinf(high):
        return low if part == 0 else high if part == 1 or math.isfinite(low) else low
    step = high - low
    if math.isinf(step):  # too far apart for a double
        return low * (1 - part) + high * part
    return high - step * (1 - part) if part >= 0.5 else low + step * part


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Exact quantiles of the values that are not null.

    Parameters
    ----------
    shares
        From 0 to 1; or a number of evenly spaced ones, at most as many as there are rows, nulls included.
    method
        As NumPy names them: ``linear`` or ``averaged_inverted_cdf``.
    infinite
        Whether infinities may be among the values.
    """

    shares: tuple[float, ...] | int
    method: str = "linear"
    infinite: bool = False

    @property
    def limit(self) -> int:
        """Different keys that a state holds at most."""
        return max(LIMIT, 32 * (self.shares if isinstance(self.shares, int) else len(self.shares)))

    def _shares(self, rows: int) -> list[float]:
        if isinstance(self.shares, int):
            even = np.linspace(0, 1, max(1, min(self.shares, rows)))
            shares: list[float] = (even * 100 / 100).tolist()  # scikit-learn asks NumPy for percentiles
            return shares
        return list(self.shares)

    def start(self) -> Json:
        """Look at all rows."""
        return {"ranks": None}

    def chunk(self, search: Json, column: pa.Array, rows: Rows) -> Json:
        """State of some rows."""
        values = doubles(column)
        values = values[~np.isnan(values)]
        if not self.infinite and np.isinf(values).any():
            raise ValueError(INFINITE)
        keys = sort_keys(values)
        if search["ranks"] is not None:
            wanted = np.unique(unpack(search["prefixes"], np.uint64))
            prefix = keys >> np.uint64(search["dropped"])
            at = np.minimum(np.searchsorted(wanted, prefix), wanted.size - 1)
            keys = keys[wanted[at] == prefix]
        found, counts = np.unique(keys, return_counts=True)
        return self._state(found, counts, 0, len(column) - values.size)

    def _state(self, keys: NDArray[Any], counts: NDArray[Any], dropped: int, nulls: int) -> Json:
        """Drop bits until there are few enough different keys."""
        while keys.size > self.limit:
            keys, counts = _add_up(keys >> np.uint64(_DROPPED), counts)
            dropped += _DROPPED
        return {"keys": pack(keys), "counts": pack(counts), "dropped": dropped, "nulls": nulls}

    def merge(self, first: Json, second: Json) -> Json:
        """Add the counts of equal keys, shortened to the same number of bits."""
        dropped = max(first["dropped"], second["dropped"])
        keys, counts = [], []
        for state in (first, second):
            keys.append(unpack(state["keys"], np.uint64) >> np.uint64(dropped - state["dropped"]))
            counts.append(unpack(state["counts"]))
        nulls = first["nulls"] + second["nulls"]
        return self._state(*_add_up(np.concatenate(keys), np.concatenate(counts)), dropped, nulls)

    def advance(self, search: Json, state: Json) -> tuple[bool, Json]:
        """Quantiles, if the keys at all ranks are whole; else where to look further.

        What is found: ``values`` (None without rows), ``count`` and ``nulls``.
        """
        keys, counts = unpack(state["keys"], np.uint64), unpack(state["counts"])
        ends = np.cumsum(counts)
        if search["ranks"] is None:
            n = int(ends[-1]) if ends.size else 0
            if n == 0:
                return True, {"values": None, "count": 0, "nulls": state["nulls"]}
            shares = self._shares(n + state["nulls"])
            places = [_places(n, share, self.method) for share in shares]
            search = {"count": n, "nulls": state["nulls"]}
            ranks = np.unique(np.array([place[:2] for place in places], np.int64))
            at = np.searchsorted(ends, ranks, side="right")
            within = ranks - (ends[at] - counts[at])
        else:
            ranks = unpack(search["ranks"])
            prefixes = unpack(search["prefixes"], np.uint64)
            starts = np.searchsorted(keys >> np.uint64(search["dropped"] - state["dropped"]), prefixes)
            before = np.concatenate(([0], ends))[starts]
            offsets = before + unpack(search["within"])
            at = np.searchsorted(ends, offsets, side="right")
            within = offsets - (ends[at] - counts[at])
        if state["dropped"]:
            return False, {
                "count": search["count"],
                "nulls": search["nulls"],
                "ranks": pack(ranks),
                "prefixes": pack(keys[at]),
                "within": pack(within),
                "dropped": state["dropped"],
            }
        return True, self._found(search, ranks, from_sort_keys(keys[at]))

    def _found(self, search: Json, ranks: NDArray[np.int64], values: NDArray[np.float64]) -> Json:
        value = dict(zip(ranks.tolist(), values.tolist(), strict=True))
        found = []
        for share in self._shares(search["count"] + search["nulls"]):
            low, high, part = _places(search["count"], share, self.method)
            found.append(_between(value[low], value[high], part))
        return {"values": found, "count": search["count"], "nulls": search["nulls"]}


def _add_up(keys: NDArray[Any], counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Different keys, ascending, with the sums of their counts."""
    found, at = np.unique(keys, return_inverse=True)
    total = np.zeros(found.size, np.int64)
    np.add.at(total, at, counts)
    return found, total
