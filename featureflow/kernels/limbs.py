"""Integers of any fixed width as arrays of 64-bit limbs, least significant first.

Accumulators are two's complement modulo 2**(64 * width): adding a value and taking it away again leaves exactly what
was there before, which floating point never promises.

All numbers of a kernel live in one array ``m``, its memory, and are named by where they start in it. Numba counts
references to every view of an array, and removing those counts from loops takes it longer than all other compiling.
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
def add_product(m: Limbs, acc: int, width: int, product: int, size: int, shift: int, negative: bool) -> None:
    """``acc += product << shift`` (``-=`` if ``negative``), for a product of ``size`` limbs.

    ``a - b`` is ``~(~a + b)``: one loop serves both, which halves what has to be compiled.
    """
    flip = ~_0 if negative else _0
    at = acc + (shift >> 6)
    r = np.uint64(shift & 63)
    carry = _0
    below = _0
    for j in range(size + 1):
        limb = m[product + j] if j < size else _0
        piece = limb << r
        if r != _0:
            piece |= below >> (_64 - r)
        below = limb
        total = (m[at + j] ^ flip) + piece
        after = total + carry
        carry = np.uint64(total < piece) | np.uint64(after < total)
        m[at + j] = after ^ flip
    k = at + size + 1
    while carry != _0 and k < acc + width:
        after = (m[k] ^ flip) + _1
        m[k] = after ^ flip
        carry = np.uint64(after == _0)
        k += 1


@kernel
def powers(m: Limbs, out: int, mantissa: int, order: int) -> None:
    """Write ``|mantissa| ** p`` for p = 1..order, each of p limbs, one behind the other (1, 2, 3, 4 limbs)."""
    x = np.uint64(mantissa) if mantissa >= 0 else _0 - np.uint64(mantissa)
    m[out] = x
    at = out
    for p in range(2, order + 1):
        to = at + p - 1
        carry = _0
        for j in range(p - 1):
            low = m[at + j] * x
            total = low + carry
            carry = multiply_high(m[at + j], x) + np.uint64(total < low)
            m[to + j] = total
        m[to + p - 1] = carry
        at = to


@kernel
def move_powers(
    m: Limbs,
    sums: int,
    stride: int,
    widths: NDArray[np.int64],
    power: int,
    mantissa: int,
    shift: int,
    enter: bool,
) -> None:
    """Add a value's powers to the sums, which lie ``stride`` limbs apart, or take them out; ``power`` is scratch."""
    powers(m, power, mantissa, widths.size)
    at = power
    for p in range(1, widths.size + 1):
        negative = enter == (mantissa < 0 and p % 2 == 1)
        add_product(m, sums + (p - 1) * stride, widths[p - 1], at, p, p * shift, negative)
        at += p


@kernel
def magnitude(m: Limbs, acc: int, width: int, out: int) -> bool:
    """Write ``|acc|`` and return whether ``acc`` is negative."""
    negative = (m[acc + width - 1] >> np.uint64(63)) != _0
    flip = ~_0 if negative else _0
    carry = _1 if negative else _0
    for j in range(width):
        limb = (m[acc + j] ^ flip) + carry
        carry = np.uint64(carry != _0 and limb == _0)
        m[out + j] = limb
    return bool(negative)


@kernel
def multiply(m: Limbs, a: int, a_size: int, b: int, b_size: int, out: int) -> None:
    """``out = a * b``, unsigned, of ``a_size + b_size`` limbs; ``out`` is neither of them."""
    for j in range(a_size + b_size):
        m[out + j] = _0
    for i in range(a_size):
        x = m[a + i]
        if x == _0:
            continue
        carry = _0
        for j in range(b_size):
            low = x * m[b + j]
            high = multiply_high(x, m[b + j])
            total = low + m[out + i + j]
            high += np.uint64(total < low)
            final = total + carry
            carry = high + np.uint64(final < total)
            m[out + i + j] = final
        m[out + i + b_size] = carry


@kernel
def multiply_small(m: Limbs, a: int, size: int, factor: int, out: int) -> None:
    """``out = a * factor`` for ``0 <= factor < 2**63``, of ``size + 1`` limbs; may be done in place."""
    x = np.uint64(factor)
    carry = _0
    for j in range(size):
        limb = m[a + j]
        low = x * limb
        high = multiply_high(x, limb)
        total = low + carry
        carry = high + np.uint64(total < low)
        m[out + j] = total
    m[out + size] = carry


@kernel
def add_signed(m: Limbs, acc: int, width: int, value: int, size: int, negative: bool) -> None:
    """``acc += value`` or ``acc -= value``, for a magnitude of ``size <= width`` limbs."""
    flip = ~_0 if negative else _0
    carry = _0
    for j in range(width):
        piece = m[value + j] if j < size else _0
        total = (m[acc + j] ^ flip) + piece
        after = total + carry
        carry = np.uint64(total < piece) | np.uint64(after < total)
        m[acc + j] = after ^ flip


@kernel
def leading(m: Limbs, value: int, width: int) -> tuple[float, int]:
    """Round an unsigned integer to ``x * 2**e``, half to even; ``x`` is 0.0 or in [2**63, 2**64]."""
    top = width - 1
    while top >= 0 and m[value + top] == _0:
        top -= 1
    if top < 0:
        return 0.0, 0
    zeros = leading_zeros(m[value + top])
    bits = m[value + top] << np.uint64(zeros)
    if top > 0:
        below = m[value + top - 1]
        if zeros > 0:
            bits |= below >> np.uint64(64 - zeros)
            below <<= np.uint64(zeros)
        # everything further down only decides ties: one sticky bit, far below the 53 that stay
        sticky = below != _0
        j = top - 2
        while not sticky and j >= 0:
            sticky = m[value + j] != _0
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
