"""Least-squares slope of windows, from exact sums.

With u the time of a value in microseconds since the column's first, the slope is
``(n Sux - Su Sx) / (n Suu - Su**2)``. All of them are integers, so where u starts changes nothing, not even the last
bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.aggregation import EventColumn
from featureflow.kernels.columns import Dense, dense_times
from featureflow.kernels.exact_sums import decoded, infinities
from featureflow.kernels.jit import kernel, multiply_high
from featureflow.kernels.limbs import (
    SPARE,
    Limbs,
    add_product,
    add_signed,
    leading,
    limbs_for,
    magnitude,
    multiply,
    multiply_small,
    scale,
)

_0 = np.uint64(0)
_MICROSECONDS_A_DAY = 86_400_000_000.0


@kernel
def _move(
    m: Limbs,
    stride: int,
    widths: NDArray[np.int64],
    product: int,
    mantissa: int,
    shift: int,
    u: np.uint64,
    enter: bool,
) -> None:
    """Add one event to the sums of x, u, u*x and u*u, or take it out."""
    size = np.uint64(mantissa) if mantissa >= 0 else _0 - np.uint64(mantissa)
    for which in range(4):
        # the first factor is x or u, the second 1 or u
        factor = size if which % 2 == 0 else u
        m[product] = factor
        m[product + 1] = _0
        if which >= 2:
            m[product] = factor * u
            m[product + 1] = multiply_high(factor, u)
        below_zero = which % 2 == 0 and mantissa < 0
        up = shift if which % 2 == 0 else 0
        add_product(m, which * stride, widths[which], product, 2, up, enter == below_zero)


@kernel
def _difference(
    m: Limbs, stride: int, widths: NDArray[np.int64], n: int, a: int, b: int, c: int, scratch: int
) -> tuple[float, int]:
    """``n a - b c`` for three of the sums, as a float and an exponent."""
    acc, x, y, product = scratch, scratch + stride, scratch + 2 * stride, scratch + 3 * stride
    width = widths[a] + 2
    for j in range(width):
        m[acc + j] = _0
    negative = magnitude(m, a * stride, widths[a], x)
    multiply_small(m, x, widths[a], n, product)
    add_signed(m, acc, width, product, widths[a] + 1, negative)
    negative = magnitude(m, b * stride, widths[b], x) != magnitude(m, c * stride, widths[c], y)
    multiply(m, x, widths[b], y, widths[c], product)
    add_signed(m, acc, width, product, min(widths[b] + widths[c], width), not negative)
    below_zero = magnitude(m, acc, width, x)
    value, up = leading(m, x, width)
    return (-value if below_zero else value), up


@kernel
def _slopes(
    mantissa: NDArray[np.int64],
    shift: NDArray[np.int16],
    times: NDArray[np.int64],
    origin: int,
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    low: int,
    widths: NDArray[np.int64],
    out: NDArray[np.float64],
    defined: NDArray[np.bool_],
) -> None:
    room = 3 * widths.max() + 2 * SPARE
    # four sums, four stretches of scratch, one product
    m = np.zeros(9 * room, np.uint64)
    values = np.zeros(2, np.float64)
    ups = np.zeros(2, np.int64)
    left = right = 0
    for i in range(lo.size):
        if lo[i] >= right:
            m[: 4 * room] = _0
            left = right = lo[i]
        for k in range(hi[i] - right + lo[i] - left):
            j = right + k
            enter = j < hi[i]
            if not enter:
                j = left + j - hi[i]
            u = np.uint64(times[j] - origin)
            _move(m, room, widths, 8 * room, mantissa[j], shift[j], u, enter)
        left = lo[i]
        right = hi[i]
        n = hi[i] - lo[i]
        out[i] = 0.0
        # events of one time say nothing about a trend: times ascend, so the ends tell
        defined[i] = n >= 2 and times[hi[i] - 1] > times[lo[i]]
        if not defined[i]:
            continue
        for part in range(2):  # n Sux - Su Sx, then n Suu - Su Su
            value, up = _difference(m, room, widths, n, 2 + part, 1, part, 4 * room)
            values[part] = value
            ups[part] = up
        out[i] = scale(values[0] / values[1] * _MICROSECONDS_A_DAY, ups[0] - ups[1] + low)


def window_slopes(events: EventColumn, selected: Dense) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Slope of each window's values on their times, per day, and where it is defined.

    Returns
    -------
    values, defined
        Undefined with fewer than two distinct times. NaN where the window holds an infinity.

    Notes
    -----
    Determinism: a pure function of the window's values and times, within a few ulp of the true slope.
    Cost: O(n + m) big-integer steps; memory does not depend on n.
    """
    column, times = decoded(events, selected), dense_times(events, selected)
    out, defined = np.empty(selected.lo.size, np.float64), np.empty(selected.lo.size, np.bool_)
    if times.size == 0:
        return np.zeros(out.size, np.float64), np.zeros(out.size, np.bool_)
    origin = int(times.min())
    span = (int(times.max()) - origin).bit_length()
    head = int(selected.size).bit_length() + 1
    bits = (column.bits, span, span + column.bits, 2 * span)
    widths = np.array([limbs_for(b + head) for b in bits], np.int64)
    windows = (selected.lo, selected.hi, column.low)
    _slopes(column.mantissa, column.shift, times, origin, *windows, widths, out, defined)
    found = infinities(column, selected)
    if found is not None:
        out[(found[0] | found[1]) & defined] = np.nan
    return out, defined
