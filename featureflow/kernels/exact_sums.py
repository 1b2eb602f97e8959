"""Sums of doubles and integers by exact integer arithmetic.

Every finite double is an odd integer times a power of two. A column is taken apart once into such pairs; measured
from the lowest set bit of the column, all of them are integers, and sums of integers neither round nor drift. So the
sum of a window equals ``math.fsum`` of it to the last bit, whatever lies outside the window, wherever the partition
was cut, and in whatever order events of one time come.

Usual columns span fewer than 126 bits, sum included: there a prefix of 128-bit integers gives every window of every
length by one subtraction. Wider ones (1e300 next to 1e-300) slide an accumulator of as many limbs as they need.
Both give the same correctly rounded result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.aggregation import EventColumn
from featureflow.core.errors import ComputeError
from featureflow.kernels.columns import Dense, dense_values
from featureflow.kernels.jit import kernel, leading_zeros, trailing_zeros
from featureflow.kernels.limbs import (
    SPARE,
    add_product,
    leading,
    limbs_for,
    magnitude,
    powers,
    scale,
)

_0 = np.uint64(0)
_PREFIX_BITS = 126
#: 53 bits of a double, 32 places, and 2**41 values to add fit the prefix
_BAND_BITS = 32


@dataclass(slots=True)
class Decoded:
    """A column as ``mantissa * 2**(low + shift)``, all integers.

    Parameters
    ----------
    mantissa
        int64, shape (n,); 0 for zeros and infinities.
    shift
        int16, shape (n,); never negative.
    low
        Exponent of the column's lowest set bit.
    bits
        Bits from there to the column's highest set bit.
    infinite
        int8, shape (n,): 1 for +inf, -1 for -inf; None when the column is finite.
    """

    mantissa: NDArray[np.int64]
    shift: NDArray[np.int16]
    low: int
    bits: int
    infinite: NDArray[np.int8] | None


@kernel
def _decode(
    bits: NDArray[np.uint64],
    mantissa: NDArray[np.int64],
    exponent: NDArray[np.int16],
    infinite: NDArray[np.int8],
) -> tuple[int, int, int]:
    low = 2000
    high = -2000
    infinities = 0
    for i in range(bits.size):
        b = bits[i]
        raw: Any = np.int64((b >> np.uint64(52)) & np.uint64(0x7FF))
        fraction = b & np.uint64(0xF_FFFF_FFFF_FFFF)
        negative = (b >> np.uint64(63)) != _0
        if raw == 0x7FF:
            infinities += 1
            infinite[i] = -1 if negative else 1
            fraction = _0
        elif raw == 0:
            raw = 1
        else:
            fraction |= np.uint64(1 << 52)
        if fraction == _0:
            mantissa[i] = 0
            exponent[i] = 0
            continue
        zeros = trailing_zeros(fraction)
        fraction >>= np.uint64(zeros)
        lowest = raw - 1075 + zeros
        low = min(low, lowest)
        high = max(high, lowest + 64 - leading_zeros(fraction))
        mantissa[i] = -np.int64(fraction) if negative else np.int64(fraction)
        exponent[i] = lowest
    return low, high, infinities


@kernel
def _rebase(mantissa: NDArray[np.int64], exponent: NDArray[np.int16], low: int) -> None:
    for i in range(mantissa.size):
        if mantissa[i] != 0:
            exponent[i] -= low


def decode(values: NDArray[Any]) -> Decoded:
    """Take a column of doubles, integers or booleans apart, exactly."""
    if values.dtype != np.float64:
        integers = values.astype(np.int64, copy=False)
        bits = 0
        if integers.size:
            bits = max(int(integers.max()).bit_length(), int(integers.min()).bit_length())
        return Decoded(integers, np.zeros(integers.size, np.int16), 0, bits, None)
    mantissa = np.empty(values.size, np.int64)
    exponent = np.empty(values.size, np.int16)
    infinite = np.zeros(values.size, np.int8)
    low, high, infinities = _decode(
        np.ascontiguousarray(values).view(np.uint64), mantissa, exponent, infinite
    )
    if high < low:  # nothing but zeros and infinities
        low = high = 0
    _rebase(mantissa, exponent, low)
    return Decoded(mantissa, exponent, low, high - low, infinite if infinities else None)


def decoded(events: EventColumn, selected: Dense) -> Decoded:
    """Decoded rows of ``events`` that count; shared through the cache."""
    if "decoded" not in events.cache:
        events.cache["decoded"] = decode(dense_values(events, selected))
    result: Decoded = events.cache["decoded"]
    return result


@kernel
def _prefix(mantissa: NDArray[np.int64], shift: NDArray[np.int16], out: NDArray[np.uint64]) -> None:
    low = _0
    high = _0
    out[0, 0] = low
    out[0, 1] = high
    for i in range(mantissa.size):
        m = mantissa[i]
        s = np.int64(shift[i])
        if s == 0:
            term_low = np.uint64(m)
            term_high = np.uint64(m >> 63)
        elif s < 64:
            term_low = np.uint64(m) << np.uint64(s)
            term_high = np.uint64(m >> (64 - s))
        else:
            term_low = _0
            term_high = np.uint64(m) << np.uint64(s - 64)
        low += term_low
        high += term_high + np.uint64(low < term_low)
        out[i + 1, 0] = low
        out[i + 1, 1] = high


@kernel
def window_128(prefix: NDArray[np.uint64], left: int, right: int) -> tuple[np.uint64, np.uint64]:
    """Sum of ``[left, right)`` as a signed 128-bit integer, two limbs."""
    low = prefix[right, 0] - prefix[left, 0]
    high = prefix[right, 1] - prefix[left, 1] - np.uint64(prefix[right, 0] < prefix[left, 0])
    return low, high


@kernel
def _float_sums(
    prefix: NDArray[np.uint64],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    counts: NDArray[np.int64],
    exponent: int,
    divide: bool,
    out: NDArray[np.float64],
) -> None:
    for i in range(lo.size):
        count = counts[i]
        if hi[i] <= lo[i]:
            out[i] = 0.0
            continue
        low, high = window_128(prefix, lo[i], hi[i])
        negative = (high >> np.uint64(63)) != _0
        if negative:
            low = ~low + np.uint64(1)
            high = ~high + np.uint64(low == _0)
        shift = 0
        if high != _0:
            zeros = leading_zeros(high)
            shift = 64 - zeros
            if zeros > 0:
                rest = low << np.uint64(zeros)
                low = (high << np.uint64(zeros)) | (low >> np.uint64(64 - zeros))
            else:
                rest = low
                low = high
            low |= np.uint64(rest != _0)
        x = np.float64(low) / count if divide else np.float64(low)
        x = np.float64(scale(x, exponent + shift))
        out[i] = -x if negative else x


@kernel
def _integer_sums(
    prefix: NDArray[np.uint64], lo: NDArray[np.int64], hi: NDArray[np.int64], out: NDArray[np.int64]
) -> int:
    overflow = -1
    for i in range(lo.size):
        low, high = window_128(prefix, lo[i], hi[i])
        out[i] = np.int64(low)
        if np.int64(high) != (np.int64(low) >> 63):
            overflow = i
    return overflow


@kernel
def _wide_sums(
    mantissa: NDArray[np.int64],
    shift: NDArray[np.int16],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    counts: NDArray[np.int64],
    exponent: int,
    width: int,
    divide: bool,
    out: NDArray[np.float64],
) -> None:
    # the sum, its magnitude, one value
    acc, absolute, power = 0, width + SPARE, 2 * (width + SPARE)
    m = np.zeros(3 * (width + SPARE), np.uint64)
    left = right = 0
    for i in range(lo.size):
        if lo[i] >= right:
            m[:] = _0
            left = right = lo[i]
        for k in range(hi[i] - right + lo[i] - left):
            j = right + k
            enter = j < hi[i]
            if not enter:
                j = left + j - hi[i]
            powers(m, power, mantissa[j], 1)
            add_product(m, acc, width, power, 1, shift[j], enter == (mantissa[j] < 0))
        left = lo[i]
        right = hi[i]
        count = counts[i]
        if hi[i] <= lo[i]:
            out[i] = 0.0
            continue
        negative = magnitude(m, acc, width, absolute)
        x, up = leading(m, absolute, width)
        if divide:
            x /= count
        x = scale(x, exponent + up)
        out[i] = -x if negative else x


def prefix_sums(events: EventColumn, column: Decoded) -> NDArray[np.uint64] | None:
    """128-bit prefix sums, two limbs a row; None if a sum, or 2**126 in size, could not fit. Shared by the cache."""
    if "prefix" not in events.cache:
        prefix = None
        if column.bits + int(column.mantissa.size).bit_length() <= _PREFIX_BITS:
            prefix = np.empty((column.mantissa.size + 1, 2), np.uint64)
            _prefix(column.mantissa, column.shift, prefix)
        events.cache["prefix"] = prefix
    result: NDArray[np.uint64] | None = events.cache["prefix"]
    return result


def banded_prefix_sums(column: Decoded) -> Iterator[tuple[NDArray[np.uint64], int]]:
    """Prefix sums of a column of any width, as several of 128 bits, each with the exponent of its lowest bit.

    The sum of a window is the sum over the bands, each of the values whose lowest bit is among ``_BAND_BITS`` places.
    """
    place = column.shift // _BAND_BITS
    for band in np.unique(place[column.mantissa != 0]).tolist():
        inside = np.where(place == band, column.mantissa, 0)
        prefix = np.empty((inside.size + 1, 2), np.uint64)
        _prefix(inside, np.where(place == band, column.shift - band * _BAND_BITS, 0).astype(np.int16), prefix)
        yield prefix, column.low + band * _BAND_BITS


def infinities(column: Decoded, selected: Dense) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Which windows hold +inf, and which -inf; None for a finite column."""
    if column.infinite is None:
        return None
    found = []
    for sign in (1, -1):
        count = np.zeros(selected.size + 1, np.int64)
        np.cumsum(column.infinite == sign, out=count[1:])
        found.append(count[selected.hi] > count[selected.lo])
    return found[0], found[1]


def window_sums(events: EventColumn, selected: Dense, *, divide: bool = False) -> NDArray[np.float64]:
    """Sum of each window, rounded once (half to even); with ``divide``, the mean.

    Returns
    -------
    NDArray[np.float64]
        0.0 for an empty window. A window with one kind of infinity gives it, with both NaN (as IEEE adds them).

    Notes
    -----
    Determinism: a pure function of the window's values; a sum is the double nearest to the true sum. A mean is
    that sum (before it could overflow) divided by the count: at most 1 ulp from the true mean.
    Cost: O(n) once per column for the prefix (16 bytes a row), then O(1) a window.
    """
    column = decoded(events, selected)
    prefix = prefix_sums(events, column)
    out = np.empty(selected.lo.size, np.float64)
    windows = (selected.lo, selected.hi, selected.counts)
    if prefix is not None:
        _float_sums(prefix, *windows, column.low, divide, out)
    else:
        width = limbs_for(column.bits + int(selected.size).bit_length() + 1)
        _wide_sums(column.mantissa, column.shift, *windows, column.low, width, divide, out)
    found = infinities(column, selected)
    if found is not None:
        positive, negative = found
        out[positive] = np.inf
        out[negative] = -np.inf
        out[positive & negative] = np.nan
    return out


def window_integer_sums(events: EventColumn, selected: Dense, *, what: str = "sum") -> NDArray[np.int64]:
    """Sum of each window of an integer or boolean column.

    Raises
    ------
    ComputeError
        If a sum does not fit 64 bits; nothing ever wraps around.
    """
    column = decoded(events, selected)
    prefix = prefix_sums(events, column)
    if prefix is None:  # 64 bits of value and 62 of count fit: not in any memory that exists
        raise ComputeError(f"{what}: {selected.size} rows in one partition are more than 2**62.")
    out = np.empty(selected.lo.size, np.int64)
    overflow = _integer_sums(prefix, selected.lo, selected.hi, out)
    if overflow >= 0:
        raise ComputeError(
            f"{what}: the sum of window {overflow} does not fit int64 (beyond 9223372036854775807). "
            "Cast the column to float64 in the source's `columns:`."
        )
    return out
