"""Exponentially weighted means of windows, from exact sums.

The weight of an event at ``e`` seen at ``t`` is ``2**-((t - e) / h)``. In a mean the factor ``2**(-t / h)`` cancels, so
an event's weight can be ``2**(e / h)``, the same in every window: a power of two for the whole half-lives since the
epoch, times a double in [1, 2) for the rest. Sums of such products are exact integers and slide without drift.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.aggregation import EventColumn
from featureflow.kernels.columns import Dense, dense_times
from featureflow.kernels.elementary import power_of_two
from featureflow.kernels.exact_sums import decoded, infinities
from featureflow.kernels.jit import kernel, multiply_high
from featureflow.kernels.limbs import Limbs, leading, limbs_for, scale

_0 = np.uint64(0)
#: half-lives before the newest event after which a weight is zero, as 2**-1075 is in doubles
_REACH = 1074


@kernel
def _add(ring: Limbs, low: np.uint64, high: np.uint64, position: int, enter: bool) -> None:
    """Add ``(high, low) << position`` to a never negative integer on a ring of limbs, or take it out."""
    width = ring.size
    at = (position >> 6) % width
    r = np.uint64(position & 63)
    p0 = low << r
    p1 = high << r
    p2 = _0
    if r != _0:
        p1 |= low >> (np.uint64(64) - r)
        p2 = high >> (np.uint64(64) - r)
    carry = _0
    k = 0
    while k < 3 or carry != _0:
        piece = _0
        if k == 0:
            piece = p0
        elif k == 1:
            piece = p1
        elif k == 2:
            piece = p2
        before = ring[at]
        if enter:
            total = before + piece
            after = total + carry
            carry = np.uint64(total < before) | np.uint64(after < total)
        else:
            total = before - piece
            after = total - carry
            carry = np.uint64(total > before) | np.uint64(after > total)
        ring[at] = after
        at += 1
        if at == width:
            at = 0
        k += 1


@kernel
def _unroll(plus: Limbs, minus: Limbs, top: int, out: Limbs) -> tuple[float, int]:
    """``plus - minus`` as a float and an exponent from the lowest limb of the ring on; ``top`` is the highest limb."""
    width = plus.size
    at = (top + 1) % width
    borrow = _0
    for k in range(width):
        total = plus[at] - minus[at]
        after = total - borrow
        borrow = np.uint64(total > plus[at]) | np.uint64(after > total)
        out[k] = after
        at += 1
        if at == width:
            at = 0
    if borrow != _0:
        carry = np.uint64(1)
        for k in range(width):
            out[k] = ~out[k] + carry
            carry = np.uint64(carry != _0 and out[k] == _0)
    x, up = leading(out, 0, width)
    return (-x if borrow != _0 else x), up


@kernel
def _decayed_means(
    mantissa: NDArray[np.int64],
    shift: NDArray[np.int16],
    whole: NDArray[np.int64],
    weight: NDArray[np.uint64],
    lo: NDArray[np.int64],
    hi: NDArray[np.int64],
    low: int,
    head: int,
    width: int,
    out: NDArray[np.float64],
) -> None:
    plus = np.zeros(width, np.uint64)
    minus = np.zeros(width, np.uint64)
    weights = np.zeros(width, np.uint64)
    nothing = np.zeros(width, np.uint64)
    scratch = np.zeros(width, np.uint64)
    left = right = 0
    for i in range(lo.size):
        out[i] = 0.0
        if lo[i] >= hi[i]:
            continue
        newest = whole[hi[i] - 1]
        # older events weigh nothing; below `first` there is none that a later query of this chain could want
        first = max(lo[i], left if lo[i] < right else lo[i])
        while whole[first] < newest - _REACH:
            first += 1
        if first >= right:
            plus[:] = _0
            minus[:] = _0
            weights[:] = _0
            left = right = first
        # leave before enter: the ring has room for the reach of one window only
        for j in range(left, first):
            m = mantissa[j]
            size = np.uint64(m) if m >= 0 else _0 - np.uint64(m)
            ring = plus if m >= 0 else minus
            _add(ring, size * weight[j], multiply_high(size, weight[j]), whole[j] + shift[j], False)
            _add(weights, weight[j], _0, whole[j], False)
        left = first
        for j in range(right, hi[i]):
            m = mantissa[j]
            size = np.uint64(m) if m >= 0 else _0 - np.uint64(m)
            ring = plus if m >= 0 else minus
            _add(ring, size * weight[j], multiply_high(size, weight[j]), whole[j] + shift[j], True)
            _add(weights, weight[j], _0, whole[j], True)
        right = max(right, hi[i])
        top = (newest + head) >> 6
        above, above_up = _unroll(plus, minus, top, scratch)
        below, below_up = _unroll(weights, nothing, top, scratch)
        out[i] = scale(above / below, above_up - below_up + low)


def window_decayed_means(events: EventColumn, selected: Dense, *, half_life: int) -> NDArray[np.float64]:
    """Mean of each window with weights that halve every ``half_life`` microseconds; 0.0 for an empty one.

    Notes
    -----
    Infinities: a window with one kind gives it, with both NaN.
    Time: weights that are 2**-1074 of the newest event's or less are zero, as they are in doubles.
    Determinism: a pure function of the window's values and times, within a few ulp.
    Cost: O(n + m) big-integer steps; memory does not depend on n.
    """
    column, times = decoded(events, selected), dense_times(events, selected)
    out = np.zeros(selected.lo.size, np.float64)
    if times.size == 0:
        return out
    whole = times // half_life
    fraction = (times - whole * half_life) / half_life
    weight = (power_of_two(fraction) * 2.0**52).astype(np.uint64)
    # half-lives are counted from the column's first: whole numbers, so every window's sums only move along the ring
    whole -= whole.min()
    head = column.bits + 53 + int(selected.size).bit_length() + 1
    width = limbs_for(_REACH + head) + 3
    windows = (selected.lo, selected.hi, column.low)
    _decayed_means(column.mantissa, column.shift, whole, weight, *windows, head, width, out)
    found = infinities(column, selected)
    if found is not None:
        out[found[0]] = np.inf
        out[found[1]] = -np.inf
        out[found[0] & found[1]] = np.nan
    return out
