"""Functions and operators of the expressions of grids, on arrays of NumPy."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Function:
    """A function of arrays that are broadcast against each other.

    Parameters
    ----------
    compute
        On arrays and Python numbers.
    least, most
        How many arguments it takes.
    exact
        Whether IEEE 754 fixes every bit. Others are computed on whole contiguous arrays, as NumPy has several
        implementations of them and chooses by the layout in memory.
    fraction
        Whether integers become float64 first.
    """

    compute: Callable[..., Any]
    least: int = 1
    most: int = 1
    exact: bool = True
    fraction: bool = False


def _where(condition: Any, there: Any, otherwise: Any = np.nan) -> Any:
    return np.where(condition, _room(there, otherwise), otherwise)


def _room(values: Any, other: Any) -> Any:
    """Integers that may become NaN are float64."""
    fraction = isinstance(other, float) and isinstance(values, np.ndarray) and values.dtype.kind in "iu"
    return values.astype(np.float64) if fraction else values


def _isnan(values: Any) -> Any:
    array = np.asarray(values)
    if array.dtype.kind == "M":
        return np.isnat(array)
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)


def _coalesce(*values: Any) -> Any:
    found = values[-1]
    for one in reversed(values[:-1]):
        found = np.where(_isnan(one), found, one)
    return found


def _nullif(values: Any, other: Any) -> Any:
    return _where(np.not_equal(values, other), values)


def _round(values: Any, digits: int = 0) -> Any:
    return np.round(values, digits)


def _fold(two: Callable[..., Any]) -> Callable[..., Any]:
    def compute(first: Any, *others: Any) -> Any:
        for one in others:
            first = two(first, one)
        return first

    return compute


def _inexact(compute: Callable[..., Any], count: int = 1) -> Function:
    return Function(compute, count, count, exact=False, fraction=True)


_MANY = 32
FUNCTIONS: dict[str, Function] = {
    **{name: Function(getattr(np, name), fraction=True) for name in ("sqrt", "floor", "ceil", "rint")},
    "abs": Function(np.abs),
    "sign": Function(np.sign),
    "isnan": Function(_isnan),
    "round": Function(_round, 1, 2, fraction=True),
    **{
        name: _inexact(getattr(np, name))
        for name in (
            *("exp", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan"),
            *("sinh", "cosh", "tanh", "radians", "degrees"),
        )
    },
    "ln": _inexact(np.log),
    "asin": _inexact(np.arcsin),
    "acos": _inexact(np.arccos),
    "atan": _inexact(np.arctan),
    "arcsin": _inexact(np.arcsin),
    "arccos": _inexact(np.arccos),
    "arctan": _inexact(np.arctan),
    "arctan2": _inexact(np.arctan2, 2),
    "atan2": _inexact(np.arctan2, 2),
    "hypot": _inexact(np.hypot, 2),
    "pow": _inexact(np.power, 2),
    "power": _inexact(np.power, 2),
    "minimum": Function(_fold(np.minimum), 2, _MANY),
    "maximum": Function(_fold(np.maximum), 2, _MANY),
    "min": Function(_fold(np.minimum), 2, _MANY),
    "max": Function(_fold(np.maximum), 2, _MANY),
    "least": Function(_fold(np.fmin), 2, _MANY),
    "greatest": Function(_fold(np.fmax), 2, _MANY),
    "clip": Function(np.clip, 3, 3),
    "where": Function(_where, 2, 3),
    "coalesce": Function(_coalesce, 2, _MANY),
    "nullif": Function(_nullif, 2, 2),
}
#: functions of times
TIME_PARTS = ("year", "month", "day", "hour", "minute", "dayofyear", "dayofweek")
OPERATORS: dict[type[ast.AST], Function] = {
    ast.Add: Function(np.add, 2, 2),
    ast.Sub: Function(np.subtract, 2, 2),
    ast.Mult: Function(np.multiply, 2, 2),
    ast.Div: Function(np.true_divide, 2, 2, fraction=True),
    ast.Mod: Function(np.mod, 2, 2),
    ast.Pow: Function(np.power, 2, 2, exact=False, fraction=True),
    ast.USub: Function(np.negative),
    ast.UAdd: Function(np.positive),
}
COMPARISONS: dict[type[ast.AST], Function] = {
    ast.Eq: Function(np.equal, 2, 2),
    ast.NotEq: Function(np.not_equal, 2, 2),
    ast.Lt: Function(np.less, 2, 2),
    ast.LtE: Function(np.less_equal, 2, 2),
    ast.Gt: Function(np.greater, 2, 2),
    ast.GtE: Function(np.greater_equal, 2, 2),
}
AND, OR, NOT = Function(np.logical_and, 2, 2), Function(np.logical_or, 2, 2), Function(np.logical_not)
