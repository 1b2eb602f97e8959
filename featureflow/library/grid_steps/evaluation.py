"""Values of an expression's nodes, one after the other."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.grid_step import StepMistake
from featureflow.library.grid_steps.formula_functions import (
    AND,
    COMPARISONS,
    FUNCTIONS,
    NOT,
    OPERATORS,
    OR,
    TIME_PARTS,
    Array,
    Function,
)
from featureflow.library.grid_steps.labels import time_label

CONSTANTS = {"pi": np.pi, "nan": np.nan, "inf": np.inf, "true": True, "false": False}


class WrongOperands(ValueError):
    """Operands that do not go together."""


def operand(one: xr.Variable) -> xr.Variable:
    """Values side by side; integers as int64, so that they do not wrap."""
    values = np.asarray(one.values)
    if values.dtype.kind in "iu" and values.dtype != np.uint64:
        values = values.astype(np.int64)
    return xr.Variable(one.dims, np.ascontiguousarray(values).reshape(one.shape))


class Evaluation:
    """Computes the nodes of one formula."""

    def __init__(self, name_of: Callable[[ast.Name], str], found: Mapping[str, xr.Variable]) -> None:
        self.name_of, self.found = name_of, found

    def of(self, node: ast.expr) -> Any:
        """Value of a node: a variable, a Python number or a text."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            name = self.name_of(node)
            if name in self.found or name in CONSTANTS:
                return self.found[name] if name in self.found else CONSTANTS[name]
            raise WrongOperands("null stands only after 'is' or 'is not'.")
        if isinstance(node, ast.BinOp):
            return self.call(OPERATORS[type(node.op)], [self.of(node.left), self.of(node.right)])
        if isinstance(node, ast.UnaryOp):
            inner = self.of(node.operand)
            if isinstance(node.op, ast.Not):
                return self.call(NOT, [self.condition(inner, node.operand)], numbers=False)
            return self.call(OPERATORS[type(node.op)], [inner])
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(self.of(one), one) for one in node.values]
            both = AND if isinstance(node.op, ast.And) else OR
            return functools.reduce(lambda a, b: self.call(both, [a, b], numbers=False), parts)
        if isinstance(node, ast.Compare):
            return self.compare(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self.function(node.func.id, node.args)
        raise WrongOperands("a list stands only after 'in'.")

    def function(self, name: str, args: Sequence[ast.expr]) -> Any:
        """Call a function of the lists above."""
        values = [self.of(one) for one in args]
        if name in TIME_PARTS:
            return _time_part(values[0], name)
        if name == "where":
            values[0] = self.condition(values[0], args[0])
        if name == "round" and len(values) > 1 and not isinstance(values[1], int):
            raise WrongOperands("round() takes a whole number of digits.")
        checked = values[1:] if name == "where" else values
        for one in checked if name != "isnan" else []:
            _number(one)
        if name == "round":
            return self.call(
                Function(lambda x: FUNCTIONS["round"].compute(x, *values[1:]), fraction=True), values[:1]
            )
        return self.call(FUNCTIONS[name], values, numbers=name not in ("where", "isnan"))

    def compare(self, node: ast.Compare) -> Any:
        """``a < b < c``, ``a in (1, 2)``, ``a is null``."""
        left, parts = self.of(node.left), []
        for op, other in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                parts.append(self.membership(left, op, other))
            elif isinstance(op, ast.Is | ast.IsNot):
                if not (isinstance(other, ast.Name) and other.id == "null"):
                    raise WrongOperands("'is' stands only before null or not null.")
                missing = self.call(FUNCTIONS["isnan"], [left], numbers=False)
                parts.append(missing if isinstance(op, ast.Is) else self.call(NOT, [missing], numbers=False))
            else:
                right = self.of(other)
                parts.append(self.compared(COMPARISONS[type(op)], left, right))
                left = right
        return functools.reduce(lambda a, b: self.call(AND, [a, b], numbers=False), parts)

    def membership(self, left: Any, op: ast.cmpop, other: ast.expr) -> Any:
        """Whether values are among some."""
        if not isinstance(other, ast.Tuple | ast.List) or not other.elts:
            raise WrongOperands("after 'in' there must be a list such as (1, 2).")
        equal = [self.compared(COMPARISONS[ast.Eq], left, self.of(one)) for one in other.elts]
        found = functools.reduce(lambda a, b: self.call(OR, [a, b], numbers=False), equal)
        return self.call(NOT, [found], numbers=False) if isinstance(op, ast.NotIn) else found

    def compared(self, function: Function, left: Any, right: Any) -> Any:
        """One comparison; a text beside times is a time."""
        sides = [left, right]
        for i, one in enumerate(sides):
            other = sides[1 - i]
            if isinstance(one, str) and isinstance(other, xr.Variable):
                sides[i] = _like(one, other)
        kinds = {_kind(one) for one in sides}
        if len(kinds) > 1:
            raise WrongOperands(f"{' and '.join(sorted(kinds))} can't be compared.")
        return self.call(function, sides, numbers=False)

    def condition(self, value: Any, node: ast.expr) -> Any:
        """Refuse what is neither true nor false."""
        if isinstance(value, bool) or (isinstance(value, xr.Variable) and value.dtype.kind == "b"):
            return value
        raise WrongOperands(f"{ast.unparse(node)!r} is no condition: compare it with something.")

    def call(self, function: Function, values: list[Any], *, numbers: bool = True) -> Any:
        """Broadcast by dimensions, then compute."""
        if numbers:
            values = [_number(one) for one in values]
        if not any(isinstance(one, xr.Variable) for one in values):
            result = function.compute(*values)  # stays a Python number: it does not make float32 wider
            return result.item() if isinstance(result, np.generic | np.ndarray) else result
        if function.fraction:
            values = [_fraction(one) for one in values]
        return _broadcast(function, values)


def _broadcast(function: Function, values: list[Any]) -> xr.Variable:
    variables = [one for one in values if isinstance(one, xr.Variable)]
    dims = tuple(dict.fromkeys(dim for one in variables for dim in one.dims))
    arrays = [_spread(one, dims) if isinstance(one, xr.Variable) else one for one in values]
    if not function.exact:
        shape = np.broadcast_shapes(*(one.shape for one in arrays if isinstance(one, np.ndarray)))
        arrays = [_side_by_side(one, shape) if isinstance(one, np.ndarray) else one for one in arrays]
    return xr.Variable(dims, np.asarray(function.compute(*arrays)))


def _spread(one: xr.Variable, dims: Sequence[Hashable]) -> Array:
    """Give an array one axis for each dimension, of length 1 where it does not vary."""
    ordered = one.transpose(*[dim for dim in dims if dim in one.dims])
    return np.asarray(ordered.values).reshape([one.sizes.get(dim, 1) for dim in dims])


def _side_by_side(values: Array, shape: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(np.broadcast_to(values, shape)).reshape(shape)


def _number(value: Any) -> Any:
    """Refuse what is no number; a condition counts as 0 or 1."""
    if isinstance(value, xr.Variable):
        if value.dtype.kind == "b":
            return value.astype(np.int64)
        if value.dtype.kind in "iuf":
            return value
        raise WrongOperands(f"{_kind(value)} are no numbers: compare them, or take month(…), hour(…).")
    if isinstance(value, str):
        raise WrongOperands(f"the text {value!r} is no number.")
    return value


def _fraction(value: Any) -> Any:
    whole = isinstance(value, xr.Variable) and value.dtype.kind in "iu"
    return value.astype(np.float64) if whole else value


def _kind(value: Any) -> str:
    if isinstance(value, str) or (isinstance(value, xr.Variable) and value.dtype.kind in "UST"):
        return "texts"
    if isinstance(value, xr.Variable):
        return {"M": "times", "O": "times", "m": "durations"}.get(value.dtype.kind, "numbers")
    return "times" if hasattr(value, "year") or isinstance(value, np.datetime64) else "numbers"


def _like(text: str, other: xr.Variable) -> Any:
    """Give a text beside times as a time of their kind."""
    if other.dtype.kind == "M":
        try:
            return np.datetime64(text.removesuffix("Z")).astype(other.dtype)
        except ValueError:
            raise WrongOperands(f"{text!r} is no time. Write it as 2000-06-01 or 2000-06-01T12:00.") from None
    if other.dtype.kind == "O" and other.size and hasattr(other.values.reshape(-1)[0], "calendar"):
        try:
            return time_label(xr.CFTimeIndex(other.values.reshape(-1)[:1]), text, ())  # type: ignore[no-untyped-call]
        except StepMistake as mistake:
            raise WrongOperands(mistake.message) from None
    return text


def _time_part(value: Any, part: str) -> xr.Variable:
    if not isinstance(value, xr.Variable) or _kind(value) != "times":
        raise WrongOperands(f"{part}() takes times.")
    found = getattr(xr.DataArray(value).dt, part)
    return xr.Variable(value.dims, np.asarray(found.values, np.int64))
