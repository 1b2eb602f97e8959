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


# Terms as (a, b, power of n, coefficient), where a and b name S1, S2, S3, S4, S1**2 and 1. A table instead of ten
# calls: every call of a big-integer function is compiled again where it stands.
_S1, _S2, _S3, _S4, _SQUARE, _ONE = range(6)
_M2 = ((_S2, _ONE, 1, 1), (_S1, _S1, 0, -1))
_M3 = ((_S3, _ONE, 2, 1), (_S1, _S2, 1, -3), (_SQUARE, _S1, 0, 2))
_M4 = (
    (_S4, _ONE, 3, 1),
    (_S1, _S3, 2, -4),
    (_SQUARE, _S2, 1, 12),
    (_S2, _S2, 2, -3),
    (_SQUARE, _SQUARE, 0, -6),
)


@kernel
def _polynomial(
    m: Limbs,
    terms: NDArray[np.int64],
    first: int,
    stop: int,
    n: int,
    x: int,
    stride: int,
    sizes: NDArray[np.int64],
    negatives: NDArray[np.bool_],
    acc: int,
    width: int,
) -> tuple[float, int]:
    """Sum of some of the terms as a float and an exponent; the magnitudes start at ``x``, scratch at ``acc``."""
    product = acc + stride
    for j in range(width):
        m[acc + j] = _0
    for k in range(first, stop):
        a, b = terms[k, 0], terms[k, 1]
        multiply(m, x + a * stride, sizes[a], x + b * stride, sizes[b], product)
        size = sizes[a] + sizes[b]
        for j in range(terms[k, 2] + 1):
            multiply_small(m, product, size, n if j > 0 else abs(terms[k, 3]), product)
            size += 1
        below_zero = (negatives[a] != negatives[b]) != (terms[k, 3] < 0)
        add_signed(m, acc, width, product, min(size, width), below_zero)
    below_zero = magnitude(m, acc, width, product)
    value, up = leading(m, product, width)
    return (-value if below_zero else value), up


@kernel
def _shapes(
    mantissa: NDArray[np.int64],
    shift: NDArray[np.int16],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    widths: NDArray[np.int64],
    terms: NDArray[np.int64],
    out: NDArray[np.float64],
    defined: NDArray[np.bool_],
) -> None:
    order = widths.size
    width = order * widths[0] + 2
    room = 2 * width + 2 * widths.max() + 2 * SPARE
    # four sums, the six factors of the terms, two stretches of scratch, the powers of one value
    x, acc, power = 4 * room, 10 * room, 12 * room
    m = np.zeros(13 * room, np.uint64)
    sizes = np.ones(6, np.int64)
    sizes[:order] = widths
    sizes[_SQUARE] = 2 * widths[0]
    m[x + _ONE * room] = np.uint64(1)
    negatives = np.zeros(6, np.bool_)
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
            move_powers(m, 0, room, widths, power, mantissa[j], shift[j], enter)
        left = lo[i]
        right = hi[i]
        n = hi[i] - lo[i]
        for p in range(order):
            negatives[p] = magnitude(m, p * room, widths[p], x + p * room)
        multiply(m, x, widths[0], x, widths[0], x + _SQUARE * room)
        for part in range(2):  # the second moment, then the third or fourth
            first, stop = (0, 2) if part == 0 else (2, terms.shape[0])
            value, up = _polynomial(m, terms, first, stop, n, x, room, sizes, negatives, acc, width)
            values[part] = value
            ups[part] = up
        out[i] = 0.0
        defined[i] = values[0] > 0.0
        if not defined[i]:
            continue
        if order == 3:
            if ups[0] & 1 != 0:
                values[0] *= 2.0
                ups[0] -= 1
            out[i] = scale(values[1] / (values[0] * math.sqrt(values[0])), ups[1] - 3 * (ups[0] >> 1))
        else:
            out[i] = scale(values[1] / (values[0] * values[0]), ups[1] - 2 * ups[0])


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
    terms = np.array(_M2 + (_M3 if order == 3 else _M4), np.int64)
    _shapes(column.mantissa, column.shift, selected.lo, selected.hi, widths, terms, out, defined)
    found = infinities(column, selected)
    if found is not None:
        spoiled = (found[0] | found[1]) & (selected.counts >= 2)
        out[spoiled] = np.nan
        defined |= spoiled
    return out, defined
