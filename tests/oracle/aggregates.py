"""What every aggregation means, on the rows of one window: plain Python, clarity first.

Nothing here is shared with featureflow. Sums are exact rational numbers, rounded once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

#: (time in microseconds, value, value of the `of` column)
Cell = tuple[int, Any, Any]

DAY = 86_400 * 1_000_000
UNITS = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": DAY, "w": 7 * DAY}
COUNTS = ("count", "count_distinct", "approx_count_distinct")


def aggregate(op: str, params: Mapping[str, Any], cells: Sequence[Cell], at: int) -> Any:
    """Value of one aggregation for one window.

    Parameters
    ----------
    op, params
        Name and parameters as a spec writes them.
    cells
        Rows of the window whose value is not null, in the order of the events; without a column, all rows of the
        window with None as value.
    at
        Time of the row that asks, in microseconds.
    """
    if op in ("argmax", "argmin"):
        return extreme_of(cells, largest=op == "argmax")
    if not cells:
        return 0 if op in COUNTS else None
    times = [time for time, _, _ in cells]
    values = [value for _, value, _ in cells]
    if op in ("slope", "ewm_mean"):
        return slope(times, values) if op == "slope" else decayed_mean(times, values, params["half_life"])
    if op in ("seconds_since_last", "seconds_since_first", "mean_gap_seconds"):
        return elapsed(op, times, at)
    return FUNCTIONS[op](values, **params)


# ---------------------------------------------------------------- sums


def infinite(values: Sequence[Any]) -> bool:
    return any(isinstance(value, float) and math.isinf(value) for value in values)


def infinite_sum(values: Sequence[Any]) -> float:
    """What remains beside an infinity; the finite ones must not get there first: 1e308 + 1e308."""
    return sum(value for value in values if isinstance(value, float) and math.isinf(value))


def to_float(number: Fraction) -> float:
    """Nearest double; infinite beyond the largest."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def total(values: Sequence[Any]) -> Any:
    if not isinstance(values[0], float):
        return sum(int(value) for value in values)
    return infinite_sum(values) if infinite(values) else to_float(sum(map(Fraction, values), Fraction(0)))


def mean(values: Sequence[Any]) -> float:
    if infinite(values):
        return infinite_sum(values)
    return to_float(sum(map(Fraction, values), Fraction(0)) / len(values))


def central_moment(values: Sequence[Any], order: int) -> Fraction:
    """Mean of the powers of distances from the mean."""
    exact = [Fraction(value) for value in values]
    middle = sum(exact, Fraction(0)) / len(exact)
    return sum(((value - middle) ** order for value in exact), Fraction(0)) / len(exact)


def square_root(number: Fraction) -> float:
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10**6, -(10**6)
        root = (Decimal(number.numerator) / Decimal(number.denominator)).sqrt()
        return to_float(Fraction(root))


def variance(values: Sequence[Any], *, sample: bool, root: bool) -> float | None:
    n = len(values)
    if sample and n < 2:
        return None
    if infinite(values):
        return math.nan
    spread = central_moment(values, 2) * n / (n - 1 if sample else n)
    return square_root(spread) if root else to_float(spread)


def skew(values: Sequence[Any]) -> float | None:
    if infinite(values):
        return math.nan if len(values) > 1 else None
    second, third = central_moment(values, 2), central_moment(values, 3)
    if second == 0:
        return None
    size = square_root(third**2 / second**3)
    return -size if third < 0 else size


def kurtosis(values: Sequence[Any]) -> float | None:
    if infinite(values):
        return math.nan if len(values) > 1 else None
    second = central_moment(values, 2)
    return None if second == 0 else to_float(central_moment(values, 4) / second**2 - 3)


def slope(times: Sequence[int], values: Sequence[Any]) -> float | None:
    if len(set(times)) < 2:
        return None
    if infinite(values):
        return math.nan
    days = [Fraction(time, DAY) for time in times]
    middle = sum(days, Fraction(0)) / len(days)
    average = sum(map(Fraction, values), Fraction(0)) / len(values)
    above = sum((d - middle) * (Fraction(v) - average) for d, v in zip(days, values, strict=True))
    return to_float(above / sum((d - middle) ** 2 for d in days))


def decayed_mean(times: Sequence[int], values: Sequence[Any], half_life: str) -> float:
    """Weights ``2**(e / h)``: dividing all weights by one number, such as ``2**(t / h)``, changes no mean.

    An event that is more than 1074 whole half-lives (of the grid since the epoch) older than the newest weighs 0.
    """
    if infinite(values):
        return infinite_sum(values)
    number = half_life.rstrip("abcdefghijklmnopqrstuvwxyz")
    length = int(number) * UNITS[half_life[len(number) :]]
    newest = max(times) // length
    wholes = [time // length - newest for time in times]
    rests = [2.0 ** ((time % length) / length) for time in times]
    weights = [
        Fraction(rest) * Fraction(2) ** whole if whole >= -1074 else Fraction(0)
        for whole, rest in zip(wholes, rests, strict=True)
    ]
    weighted = sum((w * Fraction(v) for w, v in zip(weights, values, strict=True)), Fraction(0))
    return to_float(weighted / sum(weights))


# ---------------------------------------------------------------- order, ranks, counts


def plain(value: Any) -> Any:
    """-0.0 and 0.0 are one value."""
    return 0.0 if isinstance(value, float) and value == 0 else value


def first_k(values: Sequence[Any], k: int, distinct: bool = False) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        if not distinct or value not in kept:
            kept.append(value)
    return kept[:k]


def last_k(values: Sequence[Any], k: int, distinct: bool = False) -> list[Any]:
    return first_k(list(reversed(values)), k, distinct)


def mode(values: Sequence[Any]) -> Any:
    counts = Counter(plain(value) for value in values)
    return min(value for value, count in counts.items() if count == max(counts.values()))


def entropy(values: Sequence[Any]) -> float:
    shares = [count / len(values) for count in Counter(plain(value) for value in values).values()]
    return -math.fsum(share * math.log(share) for share in shares)


def histogram(values: Sequence[Any]) -> list[tuple[Any, int]]:
    return sorted(Counter(plain(value) for value in values).items())


def quantile(values: Sequence[Any], q: float) -> float:
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below, fraction = math.floor(position), position - math.floor(position)
    low, high = ordered[below], ordered[math.ceil(position)]
    if fraction == 0 or low == high:
        return float(low)
    if infinite([low, high]):
        return low + high
    return to_float(Fraction(low) + (Fraction(high) - Fraction(low)) * Fraction(fraction))


def approx_quantile(values: Sequence[Any], q: float) -> float:
    """The exact value that the sketch may miss by 1 %."""
    return float(sorted(values)[math.floor(q * (len(values) - 1))])


def extreme_of(cells: Sequence[Cell], *, largest: bool) -> Any:
    """The value where the other column is extreme; the earliest of equal ones."""
    both = [(value, other) for _, value, other in cells if other is not None]
    if not both:
        return None
    best = max(other for _, other in both) if largest else min(other for _, other in both)
    return next(value for value, other in both if other == best)


def elapsed(op: str, times: Sequence[int], at: int) -> float | None:
    if op == "seconds_since_last":
        return float(Fraction(at - times[-1], 10**6))
    if op == "seconds_since_first":
        return float(Fraction(at - times[0], 10**6))
    return None if len(times) < 2 else float(Fraction(times[-1] - times[0], (len(times) - 1) * 10**6))


FUNCTIONS: dict[str, Any] = {
    "count": len,
    "sum": total,
    "mean": mean,
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "stddev_samp": lambda values: variance(values, sample=True, root=True),
    "stddev_pop": lambda values: variance(values, sample=False, root=True),
    "var_samp": lambda values: variance(values, sample=True, root=False),
    "var_pop": lambda values: variance(values, sample=False, root=False),
    "skew": skew,
    "kurtosis": kurtosis,
    "count_distinct": lambda values: len(set(values)),
    "approx_count_distinct": lambda values: len(set(values)),
    "mode": mode,
    "entropy": entropy,
    "median": lambda values: quantile(values, 0.5),
    "quantile": quantile,
    "approx_quantile": approx_quantile,
    "first_k": first_k,
    "last_k": last_k,
    "top_k": lambda values, k: sorted(map(plain, values), reverse=True)[:k],
    "bottom_k": lambda values, k: sorted(map(plain, values))[:k],
    "histogram": histogram,
    "any": any,
    "all": all,
}
