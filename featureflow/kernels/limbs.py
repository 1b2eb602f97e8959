"""Integers of any fixed width as arrays of 64-bit limbs, least significant first.

Accumulators are two's complement modulo 2**(64 * width): adding a value and taking it away again leaves exactly what
was there before, which floating point never promises. All functions write in place; callers own the scratch arrays.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.jit import float_of_bits, kernel, leading_zeros, multiply_high

Limbs = NDArray[np.uint64]
#: limbs that every accumulator has beyond its width, so that a shifted product never writes outside
SPARE = 6

_0 = np.uint64(0)
_1 = np.uint64(1)
_64 = np.uint64(64)


def limbs_for(bits: int) -> int:
    """Limbs that hold a signed integer of this many bits."""
    return bits // 64 + 1


@kernel
def add_product(acc: Limbs, width: int, product: Limbs, size: int, shift: int) -> None:
    """``acc += product << shift``, for a product of ``size`` limbs."""
    i = shift >> 6
    r = np.uint64(shift & 63)
    carry = _0
    below = _0
    for j in range(size + 1):
        limb = product[j] if j < size else _0
        piece = limb << r
        if r != _0:
            piece |= below >> (_64 - r)
        below = limb
        before = acc[i + j]
        total = before + piece
        after = total + carry
        carry = np.uint64(total < before) | np.uint64(after < total)
        acc[i + j] = after
    k = i + size + 1
    while carry != _0 and k < width:
        acc[k] += _1
        carry = np.uint64(acc[k] == _0)
        k += 1


@kernel
def subtract_product(acc: Limbs, width: int, product: Limbs, size: int, shift: int) -> None:
    """``acc -= product << shift``."""
    i = shift >> 6
    r = np.uint64(shift & 63)
    borrow = _0
    below = _0
    for j in range(size + 1):
        limb = product[j] if j < size else _0
        piece = limb << r
        if r != _0:
            piece |= below >> (_64 - r)
        below = limb
        before = acc[i + j]
        total = before - piece
        after = total - borrow
        borrow = np.uint64(total > before) | np.uint64(after > total)
        acc[i + j] = after
    k = i + size + 1
    while borrow != _0 and k < width:
        borrow = np.uint64(acc[k] == _0)
        acc[k] -= _1
        k += 1


@kernel
def powers(mantissa: int, order: int, out: Limbs) -> None:
    """Write ``|mantissa| ** p`` for p = 1..order, each of p limbs, one behind the other (1, 2, 3, 4 limbs)."""
    m = np.uint64(mantissa) if mantissa >= 0 else _0 - np.uint64(mantissa)
    out[0] = m
    at = 0
    for p in range(2, order + 1):
        to = at + p - 1
        carry = _0
        for j in range(p - 1):
            low = out[at + j] * m
            total = low + carry
            carry = multiply_high(out[at + j], m) + np.uint64(total < low)
            out[to + j] = total
        out[to + p - 1] = carry
        at = to


@kernel
def move_powers(
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
def magnitude(acc: Limbs, width: int, out: Limbs) -> bool:
    """Write ``|acc|`` and return whether ``acc`` is negative."""
    if (acc[width - 1] >> np.uint64(63)) == _0:
        for j in range(width):
            out[j] = acc[j]
        return False
    carry = _1
    for j in range(width):
        flipped = ~acc[j]
        out[j] = flipped + carry
        carry = np.uint64(carry == _1 and out[j] == _0)
    return True


@kernel
def multiply(a: Limbs, a_size: int, b: Limbs, b_size: int, out: Limbs) -> None:
    """``out = a * b``, unsigned, of ``a_size + b_size`` limbs; ``out`` is neither of them."""
    for j in range(a_size + b_size):
        out[j] = _0
    for i in range(a_size):
        x = a[i]
        if x == _0:
            continue
        carry = _0
        for j in range(b_size):
            low = x * b[j]
            high = multiply_high(x, b[j])
            total = low + out[i + j]
            high += np.uint64(total < low)
            final = total + carry
            carry = high + np.uint64(final < total)
            out[i + j] = final
        out[i + b_size] = carry


@kernel
def multiply_small(a: Limbs, size: int, factor: int, out: Limbs) -> None:
    """``out = a * factor`` for ``0 <= factor < 2**63``, of ``size + 1`` limbs; may be done in place."""
    x = np.uint64(factor)
    carry = _0
    for j in range(size):
        low = x * a[j]
        high = multiply_high(x, a[j])
        total = low + carry
        carry = high + np.uint64(total < low)
        out[j] = total
    out[size] = carry


@kernel
def add_signed(acc: Limbs, width: int, value: Limbs, size: int, negative: bool) -> None:
    """``acc += value`` or ``acc -= value``, for a magnitude of ``size <= width`` limbs."""
    carry = _0
    for j in range(width):
        piece = value[j] if j < size else _0
        before = acc[j]
        if negative:
            total = before - piece
            after = total - carry
            carry = np.uint64(total > before) | np.uint64(after > total)
        else:
            total = before + piece
            after = total + carry
            carry = np.uint64(total < before) | np.uint64(after < total)
        acc[j] = after


@kernel
def leading(value: Limbs, width: int) -> tuple[float, int]:
    """Round an unsigned integer to ``x * 2**e``, half to even; ``x`` is 0.0 or in [2**63, 2**64]."""
    top = width - 1
    while top >= 0 and value[top] == _0:
        top -= 1
    if top < 0:
        return 0.0, 0
    zeros = leading_zeros(value[top])
    bits = value[top] << np.uint64(zeros)
    if top > 0:
        below = value[top - 1]
        if zeros > 0:
            bits |= below >> np.uint64(64 - zeros)
            below <<= np.uint64(zeros)
        # everything further down only decides ties: one sticky bit, far below the 53 that stay
        sticky = below != _0
        j = top - 2
        while not sticky and j >= 0:
            sticky = value[j] != _0
            j -= 1
        if sticky:
            bits |= _1
    return np.float64(bits), 64 * top - zeros


@kernel
def scale(x: float, exponent: int) -> float:
    """``x * 2**exponent`` for ``x`` of [2**-64, 2**65]; rounds only where the result is subnormal."""
    if -900 < exponent < 900:
        power: float = float_of_bits((exponent + 1023) << 52)
        return x * power
    return math.ldexp(x, exponent)


def power_widths(bits: int, size: int, order: int) -> NDArray[np.int64]:
    """Limbs of the accumulators for the sums of ``size`` values' powers 1..order, of ``bits`` bits each value."""
    head = int(size).bit_length() + 1
    return np.array([limbs_for(p * bits + head) for p in range(1, order + 1)], np.int64)
