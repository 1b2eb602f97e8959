"""Skew and kurtosis of windows from exact power sums.

With the power sums S1..S4 of n values, all integers (see :mod:`featureflow.kernels.exact_sums`),

- ``M2 = n S2 - S1**2`` is ``n**2`` times the second central moment,
- ``M3 = n**2 S3 - 3 n S1 S2 + 2 S1**3`` is ``n**3`` times the third, and
- ``M4 = n**3 S4 - 4 n**2 S1 S3 + 6 n S1**2 S2 - 3 S1**4`` is ``n**4`` times the fourth.

So skew is ``M3 / M2**1.5`` and excess kurtosis ``(M4 - 3 M2**2) / M2**2``, in which nothing cancels after rounding.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.aggregation import EventColumn
from featureflow.kernels.columns import Dense
from featureflow.kernels.exact_sums import decoded, infinities
from featureflow.kernels.jit import kernel
from featureflow.kernels.limbs import (
    SPARE,
    Limbs,
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
def _term(
    acc: Limbs,
    width: int,
    a: Limbs,
    a_size: int,
    b: Limbs,
    b_size: int,
    factors: tuple[int, int, int],
    negative: bool,
    product: Limbs,
) -> None:
    """``acc += a * b * factors``, or minus it; what lies beyond the width is zero."""
    multiply(a, a_size, b, b_size, product)
    size = a_size + b_size
    for factor in factors:
        if factor != 1:
            multiply_small(product, size, factor, product)
            size += 1
    add_signed(acc, width, product, min(size, width), negative)


@kernel
def _skew(
    n: int, s: NDArray[np.uint64], signs: NDArray[np.bool_], widths: NDArray[np.int64], w: NDArray[np.uint64]
) -> tuple[float, int]:
    """``M3`` as a float and an exponent; ``w`` is scratch."""
    w1, w2, w3 = widths[0], widths[1], widths[2]
    width = 3 * w1 + 2
    acc, square, product, one = w[0], w[1], w[2], w[3]
    acc[:width] = _0
    one[0] = np.uint64(1)
    multiply(s[0], w1, s[0], w1, square)
    _term(acc, width, s[2], w3, one, 1, (n, n, 1), signs[2], product)
    _term(acc, width, s[0], w1, s[1], w2, (n, 3, 1), not signs[0], product)
    _term(acc, width, square, 2 * w1, s[0], w1, (2, 1, 1), signs[0], product)
    negative = magnitude(acc, width, product)
    x, up = leading(product, width)
    return (-x if negative else x), up


@kernel
def _excess(
    n: int, s: NDArray[np.uint64], signs: NDArray[np.bool_], widths: NDArray[np.int64], w: NDArray[np.uint64]
) -> tuple[float, int]:
    """``M4 - 3 M2**2`` as a float and an exponent, all terms collected; ``w`` is scratch."""
    w1, w2, w3, w4 = widths[0], widths[1], widths[2], widths[3]
    width = 4 * w1 + 2
    acc, square, product, one = w[0], w[1], w[2], w[3]
    acc[:width] = _0
    one[0] = np.uint64(1)
    multiply(s[0], w1, s[0], w1, square)
    _term(acc, width, s[3], w4, one, 1, (n, n, n), False, product)
    _term(acc, width, s[0], w1, s[2], w3, (n, n, 4), signs[0] == signs[2], product)
    _term(acc, width, square, 2 * w1, s[1], w2, (n, 12, 1), False, product)
    _term(acc, width, s[1], w2, s[1], w2, (n, n, 3), True, product)
    _term(acc, width, square, 2 * w1, square, 2 * w1, (6, 1, 1), True, product)
    negative = magnitude(acc, width, product)
    x, up = leading(product, width)
    return (-x if negative else x), up


@kernel
def _shapes(
    mantissa: NDArray[np.int64],
    shift: NDArray[np.int16],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    widths: NDArray[np.int64],
    order: int,
    out: NDArray[np.float64],
    defined: NDArray[np.bool_],
) -> None:
    room = 6 * widths[0] + 2 * widths.max() + 2 * SPARE
    sums = np.zeros((4, room), np.uint64)
    s = np.zeros((4, room), np.uint64)
    w = np.zeros((4, room), np.uint64)
    signs = np.zeros(4, np.bool_)
    power = np.zeros(10, np.uint64)
    left = right = 0
    for i in range(lo.size):
        if lo[i] >= right:
            sums[:] = _0
            left = right = lo[i]
        for j in range(right, hi[i]):
            move_powers(sums, widths, order, mantissa[j], shift[j], power, True)
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            move_powers(sums, widths, order, mantissa[j], shift[j], power, False)
        left = lo[i]
        n = hi[i] - lo[i]
        out[i] = 0.0
        defined[i] = False
        if n < 2:
            continue
        for p in range(order):
            signs[p] = magnitude(sums[p], widths[p], s[p])
        width = 2 * widths[0] + 2
        w[0, :width] = _0
        w[1, 0] = np.uint64(1)
        _term(w[0], width, s[1], widths[1], w[1], 1, (n, 1, 1), False, w[2])
        _term(w[0], width, s[0], widths[0], s[0], widths[0], (1, 1, 1), True, w[2])
        spread, spread_up = leading(w[0], width)
        if spread == 0.0:
            continue
        defined[i] = True
        if order == 3:
            x, up = _skew(n, s, signs, widths, w)
            if spread_up & 1 != 0:
                spread *= 2.0
                spread_up -= 1
            out[i] = scale(x / (spread * math.sqrt(spread)), up - 3 * (spread_up >> 1))
        else:
            x, up = _excess(n, s, signs, widths, w)
            out[i] = scale(x / (spread * spread), up - 2 * spread_up)


def window_shapes(
    events: EventColumn, selected: Dense, *, order: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Skew (``order`` 3) or excess kurtosis (4) of each window's population, and where it is defined.

    Returns
    -------
    values, defined
        Undefined where fewer than two values differ. NaN where the window holds an infinity.

    Notes
    -----
    Determinism: a pure function of the window's values, within a few ulp of the true value.
    Cost: O(n + m) big-integer steps, some hundred nanoseconds a window; memory does not depend on n.
    """
    column = decoded(events, selected)
    out, defined = np.empty(selected.lo.size, np.float64), np.empty(selected.lo.size, np.bool_)
    widths = power_widths(column.bits, selected.size, order)
    _shapes(column.mantissa, column.shift, selected.lo, selected.hi, widths, order, out, defined)
    found = infinities(column, selected)
    if found is not None:
        spoiled = (found[0] | found[1]) & (selected.counts >= 2)
        out[spoiled] = np.nan
        defined |= spoiled
    return out, defined
