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
    subtract_product,
)

_0 = np.uint64(0)
_MICROSECONDS_A_DAY = 86_400_000_000.0


@kernel
def _move(
    sums: NDArray[np.uint64],
    widths: NDArray[np.int64],
    mantissa: int,
    shift: int,
    u: np.uint64,
    product: Limbs,
    enter: bool,
) -> None:
    """Add one event to the sums of x, u, u*x and u*u, or take it out."""
    m = np.uint64(mantissa) if mantissa >= 0 else _0 - np.uint64(mantissa)
    plus = enter == (mantissa >= 0)
    product[0] = m
    if plus:
        add_product(sums[0], widths[0], product, 1, shift)
    else:
        subtract_product(sums[0], widths[0], product, 1, shift)
    product[0] = m * u
    product[1] = multiply_high(m, u)
    if plus:
        add_product(sums[2], widths[2], product, 2, shift)
    else:
        subtract_product(sums[2], widths[2], product, 2, shift)
    product[0] = u
    if enter:
        add_product(sums[1], widths[1], product, 1, 0)
    else:
        subtract_product(sums[1], widths[1], product, 1, 0)
    product[0] = u * u
    product[1] = multiply_high(u, u)
    if enter:
        add_product(sums[3], widths[3], product, 2, 0)
    else:
        subtract_product(sums[3], widths[3], product, 2, 0)


@kernel
def _difference(
    n: int, a: Limbs, wa: int, b: Limbs, wb: int, c: Limbs, wc: int, width: int, w: NDArray[np.uint64]
) -> tuple[float, int]:
    """``n a - b c`` for signed accumulators, as a float and an exponent; ``w`` is scratch."""
    acc, x, y, product = w[0], w[1], w[2], w[3]
    acc[:width] = _0
    negative = magnitude(a, wa, x)
    multiply_small(x, wa, n, product)
    add_signed(acc, width, product, min(wa + 1, width), negative)
    negative = magnitude(b, wb, x) != magnitude(c, wc, y)
    multiply(x, wb, y, wc, product)
    add_signed(acc, width, product, min(wb + wc, width), not negative)
    below = magnitude(acc, width, x)
    value, up = leading(x, width)
    return (-value if below else value), up


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
    sums = np.zeros((4, room), np.uint64)
    w = np.zeros((4, room), np.uint64)
    product = np.zeros(3, np.uint64)
    left = right = 0
    for i in range(lo.size):
        if lo[i] >= right:
            sums[:] = _0
            left = right = lo[i]
        for j in range(right, hi[i]):
            _move(sums, widths, mantissa[j], shift[j], np.uint64(times[j] - origin), product, True)
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            _move(sums, widths, mantissa[j], shift[j], np.uint64(times[j] - origin), product, False)
        left = lo[i]
        n = hi[i] - lo[i]
        out[i] = 0.0
        # events of one time say nothing about a trend: times ascend, so the ends tell
        defined[i] = n >= 2 and times[hi[i] - 1] > times[lo[i]]
        if not defined[i]:
            continue
        wx, wu, wux, wuu = widths
        above, above_up = _difference(n, sums[2], wux, sums[1], wu, sums[0], wx, wux + 2, w)
        below, below_up = _difference(n, sums[3], wuu, sums[1], wu, sums[1], wu, wuu + 2, w)
        out[i] = scale(above / below * _MICROSECONDS_A_DAY, above_up - below_up + low)


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
