"""Logarithm and power of two from additions, multiplications and divisions alone.

NumPy and the C library pick other code on other processors, and their results differ in the last bit. A table built by
workers of two kinds would then not be equal to the byte; these functions are the same everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LN2_HIGH = 0.693147180369123816490  # 32 bits: k * _LN2_HIGH is exact for the k of any double
_LN2_LOW = 1.90821492927058770002e-10
_LN2 = 0.6931471805599453
_SQRT2 = 1.4142135623730951


def natural_log(values: NDArray[Any]) -> NDArray[np.float64]:
    """Natural logarithm of positive numbers, within 2 ulp.

    Examples
    --------
    >>> natural_log(np.array([1.0, 2.0])).tolist()
    [0.0, 0.6931471805599453]
    """
    mantissa, exponent = np.frexp(values.astype(np.float64))
    small = mantissa < _SQRT2 / 2
    mantissa = np.where(small, mantissa * 2.0, mantissa)
    exponent = exponent - small
    # ln m = 2 artanh(s), s = (m - 1) / (m + 1); |s| < 0.172, so 12 terms reach beyond the last bit
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = np.zeros_like(s)
    for k in range(11, 0, -1):
        series = (series + 1.0 / (2 * k + 1)) * square
    return exponent * _LN2_HIGH + (2.0 * s + (2.0 * s * series + exponent * _LN2_LOW))


def power_of_two(fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """``2**fraction`` for fractions in [0, 1), within 3 ulp.

    Examples
    --------
    >>> power_of_two(np.array([0.0])).tolist()
    [1.0]
    """
    x = np.where(fraction == 0.0, 0.0, (fraction - 0.5) * _LN2)
    total = np.ones_like(x)
    for k in range(15, 0, -1):
        total = 1.0 + x * total / k
    return np.where(fraction == 0.0, 1.0, total * _SQRT2)
