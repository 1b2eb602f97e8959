"""Variance, skew and kurtosis of windows from exact power sums.

The power sums S1..S4 of a window are integers (see :mod:`featureflow.kernels.exact_sums`), kept by adding the events that enter and
subtracting those that leave. Central moments are integers too: ``n*S2 - S1**2`` is ``n**2`` times the population variance,
with nothing rounded before the last step. So 100000…100001 and 1e15 next to 1 lose no digit.
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
    add_product,
    add_signed,
    leading,
    limbs_for,
    magnitude,
    multiply,
    multiply_small,
    powers,
    scale,
    subtract_product,
)

_0 = np.uint64(0)


@kernel
def _move(
    sums: NDArray[np.uint64],
    widths: NDArray[np.int64],
    order: int,
    mantissa: int,
    shift: int,
    power: Limbs,
    enter: bool,
) -> None:
    """Add a value's powers to the sums, or take them out."""
    powers(mantissa, order, power)
    at = 0
    for p in range(1, order + 1):
        negative = mantissa < 0 and p % 2 == 1
        if enter != negative:
            add_product(sums[p - 1], widths[p - 1], power[at:], p, p * shift)
        else:
            subtract_product(sums[p - 1], widths[p - 1], power[at:], p, p * shift)
        at += p


@kernel
def _second(
    sums: NDArray[np.uint64], widths: NDArray[np.int64], count: int, first: Limbs, square: Limbs, total: Limbs
) -> int:
    """Write ``n*S2 - S1**2`` to ``total``; returns its limbs."""
    size = 2 * int(widths[0])
    magnitude(sums[0], widths[0], first)
    multiply(first, widths[0], first, widths[0], square)
    multiply_small(sums[1], widths[1], count, total)
    width = max(size, int(widths[1]) + 1)
    for j in range(widths[1] + 1, width):
        total[j] = _0
    add_signed(total, width, square, size, True)
    return width


@kernel
def _variances(
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
    room = 2 * widths.max() + 2 * SPARE
    sums = np.zeros((2, room), np.uint64)
    first = np.zeros(room, np.uint64)
    square = np.zeros(room, np.uint64)
    total = np.zeros(room, np.uint64)
    power = np.zeros(3, np.uint64)
    left = 0
    right = 0
    for i in range(lo.size):
        if lo[i] >= right:
            sums[:] = _0
            left = right = lo[i]
        for j in range(right, hi[i]):
            if mantissa[j] != 0:
                _move(sums, widths, 2, mantissa[j], shift[j], power, True)
        right = max(right, hi[i])
        for j in range(left, lo[i]):
            if mantissa[j] != 0:
                _move(sums, widths, 2, mantissa[j], shift[j], power, False)
        left = lo[i]
        count = hi[i] - lo[i]
        if count <= sample:
            out[i] = 0.0
            continue
        width = _second(sums, widths, count, first, square, total)
        x, up = leading(total, width)
        exponent = up + 2 * low
        x = x / (np.float64(count) * np.float64(count - sample))
        if root:
            # the square root halves the exponent, so it must be even; taken before scaling, it can't overflow
            if exponent % 2 != 0:
                x *= 2.0
                exponent -= 1
            out[i] = scale(math.sqrt(x), exponent // 2)
        else:
            out[i] = scale(x, exponent)


def _widths(bits: int, size: int, order: int) -> NDArray[np.int64]:
    head = int(size).bit_length() + 1
    return np.array([limbs_for(p * bits + head) for p in range(1, order + 1)], np.int64)


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
    out = np.empty(selected.lo.size, np.float64)
    _variances(
        column.mantissa,
        column.shift,
        selected.lo,
        selected.hi,
        column.low,
        _widths(column.bits, selected.size, 2),
        1 if sample else 0,
        root,
        out,
    )
    _spoil(out, column_infinite=infinities(column, selected))
    return out


def _spoil(
    out: NDArray[np.float64], *, column_infinite: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None
) -> None:
    if column_infinite is not None:
        out[column_infinite[0] | column_infinite[1]] = np.nan
