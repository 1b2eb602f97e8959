"""Variance of windows from exact power sums.

The power sums S1 and S2 of a window are integers (see :mod:`featureflow.kernels.exact_sums`), kept by adding the events
that enter and subtracting those that leave. The second central moment is an integer too: ``n*S2 - S1**2`` is ``n**2``
times the population variance, with nothing rounded before the last step. So 100000…100001 and 1e15 next to 1 lose no
digit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.aggregation import EventColumn
from featureflow.kernels.columns import Dense
from featureflow.kernels.exact_sums import decoded, infinities, prefix_sums, window_128
from featureflow.kernels.jit import kernel, leading_zeros, multiply_high
from featureflow.kernels.limbs import (
    SPARE,
    add_signed,
    leading,
    magnitude,
    move_powers,
    multiply,
    multiply_small,
    power_widths,
    scale,
)

_0 = np.uint64(0)


@kernel
def _square(low: Any, high: Any) -> tuple[Any, Any, Any, Any]:
    """Square of a signed 128-bit integer of magnitude below 2**126, as four limbs."""
    if (high >> np.uint64(63)) != _0:
        low = ~low + np.uint64(1)
        high = ~high + np.uint64(low == _0)
    a0 = low * low
    a1 = multiply_high(low, low)
    b0 = low * high
    b1 = multiply_high(low, high)
    # the cross term counts twice; it stays below 2**128 because `high` is below 2**62
    b1 = (b1 << np.uint64(1)) | (b0 >> np.uint64(63))
    b0 <<= np.uint64(1)
    c0 = high * high
    c1 = multiply_high(high, high)
    s1 = a1 + b0
    carry = np.uint64(s1 < b0)
    s2 = b1 + carry
    carry = np.uint64(s2 < carry)
    s2 += c0
    carry += np.uint64(s2 < c0)
    return a0, s1, s2, c1 + carry


@kernel
def _add4(
    x0: Any, x1: Any, x2: Any, x3: Any, y0: Any, y1: Any, y2: Any, y3: Any
) -> tuple[Any, Any, Any, Any]:
    z0 = x0 + y0
    carry = np.uint64(z0 < y0)
    z1 = x1 + carry
    carry = np.uint64(z1 < carry)
    z1 += y1
    carry += np.uint64(z1 < y1)
    z2 = x2 + carry
    carry = np.uint64(z2 < carry)
    z2 += y2
    carry += np.uint64(z2 < y2)
    return z0, z1, z2, x3 + y3 + carry


@kernel
def _subtract4(
    x0: Any, x1: Any, x2: Any, x3: Any, y0: Any, y1: Any, y2: Any, y3: Any
) -> tuple[Any, Any, Any, Any]:
    z0, z1, z2, z3 = _add4(~x0, ~x1, ~x2, ~x3, y0, y1, y2, y3)
    return ~z0, ~z1, ~z2, ~z3


@kernel
def _scaled4(x0: Any, x1: Any, x2: Any, x3: Any, count: int) -> tuple[Any, Any, Any, Any]:
    factor = np.uint64(count)
    z1 = multiply_high(x0, factor)
    low = x1 * factor
    z1 += low
    z2 = multiply_high(x1, factor) + np.uint64(z1 < low)
    low = x2 * factor
    z2 += low
    z3 = multiply_high(x2, factor) + np.uint64(z2 < low)
    return x0 * factor, z1, z2, z3 + x3 * factor


@kernel
def _leading4(x0: Any, x1: Any, x2: Any, x3: Any) -> tuple[float, int]:
    """:func:`featureflow.kernels.limbs.leading` without an array."""
    up = 192
    while x3 == _0 and up > 0:
        x3, x2, x1, x0 = x2, x1, x0, _0
        up -= 64
    if x3 == _0:
        return 0.0, 0
    zeros = leading_zeros(x3)
    bits = x3 << np.uint64(zeros)
    if zeros > 0:
        bits |= x2 >> np.uint64(64 - zeros)
        x2 <<= np.uint64(zeros)
    bits |= np.uint64((x2 | x1 | x0) != _0)
    return np.float64(bits), up - zeros


@kernel
def _root_or_scaled(x: float, exponent: int, root: bool) -> float:
    if not root:
        return scale(x, exponent)
    # the square root halves the exponent, so it must be even; taken before scaling, it can't overflow
    if exponent & 1 != 0:
        x *= 2.0
        exponent -= 1
    return scale(math.sqrt(x), exponent >> 1)


@kernel
def _variances(
    prefix: NDArray[np.uint64],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    low: int,
    sample: int,
    root: bool,
    out: NDArray[np.float64],
) -> None:
    """Variances where everything fits 256 bits; squares of events come from neighbours in the prefix of sums."""
    s0 = s1 = s2 = s3 = _0
    left = 0
    right = 0
    for i in range(lo.size):
        if lo[i] >= right:
            s0 = s1 = s2 = s3 = _0
            left = right = lo[i]
        for j in range(right, hi[i]):
            x, y = window_128(prefix, j, j + 1)
            q0, q1, q2, q3 = _square(x, y)
            s0, s1, s2, s3 = _add4(s0, s1, s2, s3, q0, q1, q2, q3)
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            x, y = window_128(prefix, j, j + 1)
            q0, q1, q2, q3 = _square(x, y)
            s0, s1, s2, s3 = _subtract4(s0, s1, s2, s3, q0, q1, q2, q3)
        left = lo[i]
        count = hi[i] - lo[i]
        if count <= sample:
            out[i] = 0.0
            continue
        x, y = window_128(prefix, lo[i], hi[i])
        q0, q1, q2, q3 = _square(x, y)
        t0, t1, t2, t3 = _scaled4(s0, s1, s2, s3, count)
        t0, t1, t2, t3 = _subtract4(t0, t1, t2, t3, q0, q1, q2, q3)
        value, up = _leading4(t0, t1, t2, t3)
        value /= np.float64(count) * np.float64(count - sample)
        out[i] = _root_or_scaled(value, up + 2 * low, root)


@kernel
def _wide_variances(
    mantissa: NDArray[np.int64],
    shift: NDArray[np.int16],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    low: int,
    widths: NDArray[np.int64],
    sample: int,
    root: bool,
    out: NDArray[np.float64],
) -> None:
    # S1 and S2, then |S1|, its square, n * S2, the powers of one value: each in a stretch of its own
    room = 2 * widths.max() + 2 * SPARE
    first, square, total, power = 2 * room, 3 * room, 4 * room, 5 * room
    m = np.zeros(6 * room, np.uint64)
    left = right = 0
    for i in range(lo.size):
        if lo[i] >= right:
            m[: 2 * room] = _0
            left = right = lo[i]
        for k in range(hi[i] - right + lo[i] - left):
            j = right + k
            enter = j < hi[i]
            if not enter:
                j = left + j - hi[i]
            move_powers(m, 0, room, widths, power, mantissa[j], shift[j], enter)
        left = lo[i]
        right = hi[i]
        count = hi[i] - lo[i]
        if count <= sample:
            out[i] = 0.0
            continue
        magnitude(m, 0, widths[0], first)
        multiply(m, first, widths[0], first, widths[0], square)
        multiply_small(m, room, widths[1], count, total)
        width = max(2 * widths[0], widths[1] + 1)
        m[total + widths[1] + 1 : total + width] = _0
        add_signed(m, total, width, square, 2 * widths[0], True)
        x, up = leading(m, total, width)
        x = x / (np.float64(count) * np.float64(count - sample))
        out[i] = _root_or_scaled(x, up + 2 * low, root)


def window_variances(
    events: EventColumn, selected: Dense, *, sample: bool, root: bool
) -> NDArray[np.float64]:
    """Variance (or standard deviation, with ``root``) of each window.

    Parameters
    ----------
    events, selected
        The column and its windows.
    sample
        Divide by ``n - 1`` instead of ``n``.
    root
        Take the square root.

    Returns
    -------
    NDArray[np.float64]
        0.0 where there are too few values; NaN where the window holds an infinity (``inf - inf``, as IEEE has it).

    Notes
    -----
    Determinism: a pure function of the window's values, within 2 ulp of the true variance.
    Cost: O(n) moves of events and O(1) big-integer steps a window; memory does not depend on n.
    """
    column = decoded(events, selected)
    prefix = prefix_sums(events, column)
    out = np.empty(selected.lo.size, np.float64)
    windows = (selected.lo, selected.hi, column.low)
    if prefix is not None:
        _variances(prefix, *windows, int(sample), root, out)
    else:
        widths = power_widths(column.bits, selected.size, 2)
        _wide_variances(column.mantissa, column.shift, *windows, widths, int(sample), root, out)
    _spoil(out, column_infinite=infinities(column, selected))
    return out


def _spoil(
    out: NDArray[np.float64], *, column_infinite: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None
) -> None:
    if column_infinite is not None:
        out[column_infinite[0] | column_infinite[1]] = np.nan
