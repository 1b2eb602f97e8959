"""Exact sums and sums of squares of groups of values, as whole numbers of a power of two.

They add up without rounding, so a mean or a variance made from them is the same however the rows were cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featureflow.kernels.exact_sums import decode
from featureflow.kernels.jit import kernel
from featureflow.kernels.limbs import SPARE, move_powers, power_widths

_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Total:
    """Count, sum and sum of squares of values: ``first * 2**low`` and ``second * 2**(2 * low)``, exactly.

    Examples
    --------
    >>> (Total.of([0.1] * 10) + Total.of([1e300])).mean == (10 * 0.1 + 1e300) / 11
    True
    """

    count: int = 0
    first: int = 0
    second: int = 0
    low: int = 0

    @classmethod
    def of(cls, values: Any) -> Total:
        """Total of finite numbers."""
        array = np.asarray(values)
        return group_totals(array, np.zeros(array.size, np.int64), 1)[0]

    def __add__(self, other: Total) -> Total:
        if not other.count:
            return self
        if not self.count:
            return other
        low = min(self.low, other.low)
        a, b = self.low - low, other.low - low
        return Total(
            self.count + other.count,
            (self.first << a) + (other.first << b),
            (self.second << 2 * a) + (other.second << 2 * b),
            low,
        )

    def __sub__(self, part: Total) -> Total:
        """Total of the values without those of ``part``, which must be among them."""
        return self + Total(-part.count, -part.first, -part.second, part.low) if part.count else self

    @property
    def sum(self) -> float:
        """The double nearest to the sum."""
        return ratio(self.first, 1, self.low)

    @property
    def mean(self) -> float:
        """The double nearest to the mean; NaN without values."""
        return ratio(self.first, self.count, self.low) if self.count else float("nan")

    @property
    def deviations(self) -> float:
        """The double nearest to the sum of squared deviations from the mean."""
        return (
            ratio(self.count * self.second - self.first**2, self.count, 2 * self.low) if self.count else 0.0
        )

    @property
    def variance(self) -> float:
        """The double nearest to the population variance; NaN without values."""
        if not self.count:
            return float("nan")
        return ratio(self.count * self.second - self.first**2, self.count**2, 2 * self.low)

    @property
    def is_constant(self) -> bool:
        """Whether scikit-learn takes the values for a constant: within the rounding of its own algorithm."""
        variance, mean, n = self.variance, self.mean, self.count
        return bool(variance <= n * _EPSILON * variance + (n * mean * _EPSILON) ** 2)

    def to_json(self) -> list[Any]:
        """Plain values; of equal totals the same, whatever they were added up from."""
        if not self.first and not self.second:
            return [self.count, "0", "0", 0]
        # bits that no value of the total has are cut off
        spare = min(_twos(self.first), _twos(self.second) // 2)
        return [
            self.count,
            format(self.first >> spare, "x"),
            format(self.second >> 2 * spare, "x"),
            self.low + spare,
        ]

    @classmethod
    def from_json(cls, given: list[Any]) -> Total:
        """Read what `to_json` wrote."""
        return cls(given[0], int(given[1], 16), int(given[2], 16), given[3])


def _twos(number: int) -> int:
    """How often 2 divides a number; of 0, more often than any other."""
    return (number & -number).bit_length() - 1 if number else 1 << 20


def ratio(number: int, by: int, exponent: int) -> float:
    """``number * 2**exponent / by``, rounded once; infinite where no double is that large."""
    try:
        return (number << exponent) / by if exponent >= 0 else number / (by << -exponent)
    except OverflowError:
        return float("-inf") if number < 0 else float("inf")


@kernel
def _accumulate(
    mantissa: NDArray[np.int64],
    shift: NDArray[np.int16],
    groups: NDArray[np.int64],
    widths: NDArray[np.int64],
    stride: int,
    m: NDArray[np.uint64],
    power: int,
) -> None:
    for i in range(mantissa.size):
        if groups[i] >= 0 and mantissa[i] != 0:
            at = groups[i] * stride * widths.size
            move_powers(m, at, stride, widths, power, mantissa[i], int(shift[i]), True)


def group_totals(values: NDArray[Any], groups: NDArray[np.int64], n_groups: int) -> list[Total]:
    """Totals of values by the number of their group; a group below 0 is left out.

    Parameters
    ----------
    values
        Finite doubles, integers or booleans.

    Notes
    -----
    Cost: O(n) time; about 150 bytes a group.
    """
    column = decode(values)
    widths = power_widths(column.bits, values.size, 2)
    stride = int(widths.max()) + SPARE
    m = np.zeros(2 * n_groups * stride + 4, np.uint64)
    _accumulate(column.mantissa, column.shift, groups, widths, stride, m, 2 * n_groups * stride)
    counts = np.bincount(groups[groups >= 0], minlength=n_groups).tolist()
    raw = m.tobytes()
    ends = [int(width) * 8 for width in widths]

    def integer(group: int, power: int) -> int:
        at = (2 * group + power) * stride * 8
        return int.from_bytes(raw[at : at + ends[power]], "little", signed=True)

    return [Total(count, integer(g, 0), integer(g, 1), column.low) for g, count in enumerate(counts)]
