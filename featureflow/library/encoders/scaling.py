"""Numbers to numbers on another scale: standard, minmax, robust, quantile, log1p, clip.

Nulls do not count in the fit and stay null. Infinite train values stop a fit that needs finite ones; when encoding,
an infinity is a value like others. A column that is null in all train rows has no fit: all its encodings are null.
"""

# ruff: noqa: ARG002  (the contract's signatures)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.encoder import Json, Output, Rows, Statistic
from featureflow.kernels.elementary import natural_log
from featureflow.kernels.totals import Total
from featureflow.library.encoders.columns import doubles, need_number, numeric
from featureflow.library.encoders.ranks import Quantiles
from featureflow.library.encoders.statistics import Moments

_EPSILON = float(np.finfo(np.float64).eps)
#: how far from the ends scikit-learn keeps a share before it becomes a normal deviate
_BOUND = 1e-7


class _Number:
    """Shared by all encoders that make one double of one number, under the same name."""

    def outputs(self, kind: pa.DataType, fitted: Json, name: str) -> tuple[Output, ...]:
        """One column of doubles."""
        return (Output(name, pa.float64()),)

    def transform(
        self,
        kind: pa.DataType,
        fitted: Json,
        column: pa.Array,
        train: Rows | None,
    ) -> tuple[pa.Array, ...]:
        """Encode row by row."""
        if fitted is None:
            return (pa.nulls(len(column), pa.float64()),)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            return (numeric(self.scaled(fitted, doubles(column))),)

    def scaled(self, fitted: Json, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Encode values; NaN for null."""
        raise NotImplementedError


def _one_if_tiny(scale: float) -> float:
    """Scale to divide by: 1 for a column without spread."""
    return 1.0 if scale < 10 * _EPSILON else scale


@dataclass(frozen=True, slots=True)
class Standard(_Number):
    """Minus the mean, over the standard deviation (scikit-learn's `StandardScaler`).

    The mean and the variance are those of exact arithmetic. A constant column gives 0.
    """

    with_mean: bool = True
    with_std: bool = True
    name: ClassVar[str] = "standard"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Moments of numbers."""
        need_number(kind)
        return Moments()

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Mean and scale."""
        total = Total.from_json(found["total"])
        if not total.count:
            return None
        variance = total.variance
        if math.isinf(variance):
            raise ValueError("has a variance beyond the largest double. Put `clip` before it.")
        scale = 1.0 if total.is_constant else math.sqrt(variance)
        return {
            "mean": total.mean if self.with_mean else 0.0,
            "scale": scale if self.with_std else 1.0,
        }

    def scaled(self, fitted: Json, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Centre, then scale."""
        return (values - float(fitted["mean"])) / float(fitted["scale"])


@dataclass(frozen=True, slots=True)
class MinMax(_Number):
    """To a range, linearly (scikit-learn's `MinMaxScaler`); new values may lie outside unless ``clip`` is on."""

    range: tuple[float, float] = (0.0, 1.0)
    clip: bool = False
    name: ClassVar[str] = "minmax"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Ends of numbers."""
        need_number(kind)
        return Moments()

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Factor and summand."""
        if found["min"] is None:
            return None
        low, high = self.range
        spread = found["max"] - found["min"]
        if math.isinf(spread):
            raise ValueError("spans more than the largest double. Put `clip` before it.")
        factor = (high - low) / _one_if_tiny(spread)
        return {"factor": factor, "summand": low - found["min"] * factor}

    def scaled(self, fitted: Json, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale, then move."""
        made = values * float(fitted["factor"]) + float(fitted["summand"])
        return np.clip(made, *self.range) if self.clip else made


@dataclass(frozen=True, slots=True)
class Robust(_Number):
    """Minus the median, over the distance of two percentiles (scikit-learn's `RobustScaler`)."""

    low: float = 25.0
    high: float = 75.0
    with_centering: bool = True
    with_scaling: bool = True
    name: ClassVar[str] = "robust"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Exact percentiles."""
        need_number(kind)
        return Quantiles((self.low / 100, 0.5, self.high / 100))

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Centre and scale."""
        if found["values"] is None:
            return None
        low, middle, high = found["values"]
        if math.isinf(high - low):
            raise ValueError("spans more than the largest double. Put `clip` before it.")
        return {
            "center": middle if self.with_centering else 0.0,
            "scale": _one_if_tiny(high - low) if self.with_scaling else 1.0,
        }

    def scaled(self, fitted: Json, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Centre, then scale."""
        return (values - float(fitted["center"])) / float(fitted["scale"])


@dataclass(frozen=True, slots=True)
class Quantile(_Number):
    """To the share of train rows below, by interpolation (scikit-learn's `QuantileTransformer`, all rows).

    scikit-learn takes a random sample of 10 000 rows unless told otherwise; here all train rows count.
    """

    n_quantiles: int = 1000
    output: str = "uniform"
    name: ClassVar[str] = "quantile"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Exact quantiles at even shares."""
        need_number(kind)
        return Quantiles(self.n_quantiles)

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Values at even shares."""
        return None if found["values"] is None else {"quantiles": found["values"]}

    def scaled(self, fitted: Json, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Interpolate from both sides, so that a value that fills several quantiles gets their middle."""
        quantiles = np.array(fitted["quantiles"])
        shares = np.linspace(0, 1, quantiles.size)
        margin = _BOUND if self.output == "normal" else 0.0
        first, last = quantiles[0], quantiles[-1]
        below = values - margin < first if margin else values == first
        above = values + margin > last if margin else values == last
        made = 0.5 * (
            np.interp(values, quantiles, shares) - np.interp(-values, -quantiles[::-1], -shares[::-1])
        )
        made[above] = 1.0
        made[below] = 0.0
        if self.output == "normal":
            from scipy.special import ndtri  # type: ignore[import-untyped]

            ends = ndtri(np.array([_BOUND - np.spacing(1), 1 - (_BOUND - np.spacing(1))]))
            made = np.clip(ndtri(made), *ends)
        made[np.isnan(values)] = np.nan  # of one quantile, NumPy makes a value of NaN
        return made


@dataclass(frozen=True, slots=True)
class Log1p(_Number):
    """Natural logarithm of 1 + value: -1 gives minus infinity, less than -1 is null."""

    name: ClassVar[str] = "log1p"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Nothing to fit."""
        need_number(kind)
        return None

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Nothing to fit."""
        return {}

    def scaled(self, fitted: Json, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The logarithm, from operations that round alike on every processor."""
        above = 1.0 + values
        regular = np.isfinite(values) & (above > 0) & (above != 1.0)
        # the logarithm of the rounded sum, times what the rounding lost: exact to a few units in the last place
        inner = np.where(regular, above, 2.0)
        made = natural_log(inner) * (np.where(regular, values, 1.0) / (inner - 1.0))
        made = np.where(regular, made, np.where(values < -1.0, np.nan, values))
        return np.where(values == -1.0, -np.inf, made)


@dataclass(frozen=True, slots=True)
class Clip(_Number):
    """Values beyond an end become the end; ``low_q`` and ``high_q`` are quantiles of the train rows."""

    low: float | None = None
    high: float | None = None
    low_q: float | None = None
    high_q: float | None = None
    name: ClassVar[str] = "clip"

    def statistic(self, kind: pa.DataType) -> Statistic | None:
        """Exact quantiles, if any end is one."""
        need_number(kind)
        shares = tuple(share for share in (self.low_q, self.high_q) if share is not None)
        return Quantiles(shares, infinite=True) if shares else None

    def finish(self, kind: pa.DataType, found: Json) -> Json:
        """Both ends; an infinite one is none."""
        given: dict[str, Any] = {"low": self.low, "high": self.high}
        if found is not None:
            if found["values"] is None:
                return None
            values = iter(found["values"])
            for end, share in (("low", self.low_q), ("high", self.high_q)):
                if share is not None:
                    given[end] = next(values)
        return {end: None if v is None or math.isinf(v) else v for end, v in given.items()}

    def scaled(self, fitted: Json, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cut off both ends."""
        if fitted["low"] is None and fitted["high"] is None:
            return values
        made: NDArray[np.float64] = np.clip(values, fitted["low"], fitted["high"])
        return made
