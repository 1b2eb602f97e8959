"""Expressions over the variables and coordinates of a cube: parsed once, checked against an outline, then evaluated.

They are read with Python's parser and evaluated node by node: nothing that is not in a list here can run. SQL's
spellings are understood, too: ``=``, ``<>``, ``AND OR NOT IN``, ``IS NULL``, names in double quotes.

* Variables are broadcast by the names of their dimensions, as in xarray.
* A comparison with NaN is false. ``and``, ``or``, ``not`` take conditions only.
* Integers count as int64, and become float64 where a fraction can come out. float32 stays float32 with plain numbers.
* Times are compared with texts: ``time >= '2000-06-01'``, in the calendar of the data.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.grid_step import StepMistake
from featureflow.library.grid_steps.axes import hint
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
from featureflow.library.grid_steps.statistics import clean

LONGEST = 4096
CONSTANTS = {"pi": np.pi, "nan": np.nan, "inf": np.inf, "true": True, "false": False}
_TOKEN = re.compile(
    r"('(?:[^']|'')*')|\"([^\"]+)\"|`([^`]+)`|([A-Za-z_]\w*)|(<>|<=|>=|!=|==|=)|(\s+|.)", re.DOTALL
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "true", "false", "null"})
_QUOTED = "quoted_name_"


@dataclass(frozen=True)
class Formula:
    """A parsed expression.

    Examples
    --------
    >>> cube = xr.Dataset({"t": ("x", [270.0, 280.0])}, {"x": [0, 1]})
    >>> parse("where(t > 273.15, t - 273.15, 0) + x").evaluate(cube).values.round(2).tolist()
    [0.0, 7.85]
    """

    text: str
    tree: ast.expr
    quoted: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names that it reads, each once."""
        called = {id(node.func) for node in ast.walk(self.tree) if isinstance(node, ast.Call)}
        names = [n for n in ast.walk(self.tree) if isinstance(n, ast.Name) and id(n) not in called]
        return tuple(dict.fromkeys(self.name_of(node) for node in names if node.id != "null"))

    def name_of(self, node: ast.Name) -> str:
        """Name as it was written."""
        found = node.id.removeprefix(_QUOTED)
        return self.quoted[int(found)] if node.id.startswith(_QUOTED) and found.isdigit() else node.id

    def check(self, cube: xr.Dataset, place: tuple[str | int, ...] = ()) -> xr.Variable:
        """Dimensions and dtype of the result, from an outline: computed on one made-up value of each.

        Raises
        ------
        StepMistake
            Unknown name, with the nearest known one; operands that do not go together.
        """
        known = [*cube.data_vars, *(name for name in cube.coords if name in cube.variables)]
        found = {}
        for name in self.names:
            if name in cube.variables:
                found[name] = _sample(cube, name)
            elif name not in CONSTANTS:
                extra = f" {name!r} is a function; call it." if name in FUNCTIONS else ""
                raise StepMistake(
                    place, f"unknown name {name!r} in {self.text!r}.{extra} {hint(name, known)}"
                )
        try:
            return self._result(found)
        except _Wrong as wrong:
            raise StepMistake(place, f"{wrong} In {self.text!r}.") from None

    def evaluate(self, data: xr.Dataset) -> xr.Variable:
        """Compute it; NaN and zero have one bit pattern each."""
        found = {name: data.variables[name] for name in self.names if name in data.variables}
        return self._result(found)

    def _result(self, found: Mapping[str, xr.Variable]) -> xr.Variable:
        with np.errstate(all="ignore"):
            result = _Evaluation(self, {name: _operand(one) for name, one in found.items()}).of(self.tree)
        if isinstance(result, str):
            raise _Wrong(f"the result is the text {result!r}; it must be a number or a condition.")
        variable = result if isinstance(result, xr.Variable) else xr.Variable((), np.asarray(result))
        values = np.asarray(variable.values)
        if values.dtype.kind not in "biuf":
            raise _Wrong(f"the result is {values.dtype}; it must be a number or a condition.")
        values = clean(values.copy()) if values.dtype.kind == "f" else values
        return xr.Variable(variable.dims, np.ascontiguousarray(values).reshape(variable.shape))


class _Wrong(ValueError):
    """Operands that do not go together."""


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Formula:
    """Read an expression.

    Raises
    ------
    StepMistake
        If it is none: what is wrong where, and how it is written here.
    """
    if len(text) > LONGEST:
        raise StepMistake((), f"an expression has at most {LONGEST} characters; this one has {len(text)}.")
    quoted: list[str] = []
    try:
        tree = ast.parse(
            "".join(_python(token, quoted) for token in _TOKEN.findall(text)).strip(), mode="eval"
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        detail = error.msg if isinstance(error, SyntaxError) else str(error)
        spelled = 'Write it as in "where(t > 273.15 and lat < 60, t - 273.15, 0)".'
        raise StepMistake((), f"{text!r} is no expression: {detail}. {spelled}") from None
    formula = Formula(text, tree.body, tuple(quoted))
    _allowed(formula, tree.body)
    return formula


def _python(token: tuple[str, ...], quoted: list[str]) -> str:
    literal, double, back, word, operator, other = token
    if literal:
        return repr(literal[1:-1].replace("''", "'"))
    if double or back:
        quoted.append(double or back)
        return f"{_QUOTED}{len(quoted) - 1}"
    if word:
        return word.lower() if word.lower() in _KEYWORDS else word
    if operator:
        return {"=": "==", "<>": "!="}.get(operator, operator)
    return " " if other.isspace() else other


def _allowed(formula: Formula, node: ast.AST, depth: int = 0) -> None:
    """Refuse everything that is no expression of numbers, before anything is evaluated."""
    if depth > 64:
        raise StepMistake(
            (), f"{formula.text[:60]!r}… is nested more than 64 deep. Split it into derive steps."
        )
    hints: dict[type[ast.AST], str] = {
        ast.BitXor: "Write x ** y for a power.",
        ast.BitAnd: "Write and.",
        ast.BitOr: "Write or.",
        ast.Invert: "Write not.",
        ast.FloorDiv: "Write floor(x / y).",
        ast.IfExp: "Write where(condition, x, y).",
    }
    inner: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name):
            raise StepMistake((), f"{ast.unparse(node)!r} in {formula.text!r} can't be called.")
        _check_call(formula, node, node.func.id)
        inner = list(node.args)
    elif type(node) in hints or not isinstance(node, _NODES):
        shown = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
        advice = hints.get(
            type(node), "Known are numbers, names, arithmetic, comparisons, and, or, not, functions."
        )
        raise StepMistake((), f"{shown!r} can't be used in {formula.text!r}. {advice}")
    if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
        raise StepMistake((), f"{ast.unparse(node)!r} can't be used in {formula.text!r}.")
    for one in inner:
        _allowed(formula, one, depth + 1)


def _check_call(formula: Formula, node: ast.Call, name: str) -> None:
    known = {**FUNCTIONS, **dict.fromkeys(TIME_PARTS, Function(np.abs))}
    if name not in known:
        raise StepMistake((), f"unknown function {name!r} in {formula.text!r}. {hint(name, known)}")
    if node.keywords:
        raise StepMistake((), f"{name}() takes no names of arguments, in {formula.text!r}.")
    least, most = known[name].least, known[name].most
    if not least <= len(node.args) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        text = f"{name}() takes {wanted} arguments; {len(node.args)} are given, in {formula.text!r}."
        raise StepMistake((), text)


_NODES: tuple[type[ast.AST], ...] = (
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Name, ast.Constant, ast.Load, ast.Tuple, ast.List),
    *(ast.And, ast.Or, ast.Not, ast.In, ast.NotIn, ast.Is, ast.IsNot),
    *OPERATORS,
    *COMPARISONS,
)


def _sample(cube: xr.Dataset, name: str) -> xr.Variable:
    """One value of a variable's type along each of its dimensions."""
    one = cube.variables[name]
    shape = (1,) * one.ndim
    if one.dtype.kind == "O":  # calendars of models: index coordinates, in memory
        return xr.Variable(one.dims, np.asarray(one[(slice(0, 1),) * one.ndim].values))
    if one.dtype.kind == "M":
        return xr.Variable(one.dims, np.full(shape, np.datetime64("2000-01-01"), one.dtype))
    return xr.Variable(one.dims, np.ones(shape).astype(one.dtype))


def _operand(one: xr.Variable) -> xr.Variable:
    """Values side by side; integers as int64, so that they do not wrap."""
    values = np.asarray(one.values)
    if values.dtype.kind in "iu" and values.dtype != np.uint64:
        values = values.astype(np.int64)
    return xr.Variable(one.dims, np.ascontiguousarray(values).reshape(one.shape))


class _Evaluation:
    """Computes the nodes of one formula."""

    def __init__(self, formula: Formula, found: Mapping[str, xr.Variable]) -> None:
        self.formula, self.found = formula, found

    def of(self, node: ast.expr) -> Any:
        """Value of a node: a variable, a Python number or a text."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            name = self.formula.name_of(node)
            if name in self.found or name in CONSTANTS:
                return self.found[name] if name in self.found else CONSTANTS[name]
            raise _Wrong("null stands only after 'is' or 'is not'.")
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
        raise _Wrong("a list stands only after 'in'.")

    def function(self, name: str, args: Sequence[ast.expr]) -> Any:
        """Call a function of the lists above."""
        values = [self.of(one) for one in args]
        if name in TIME_PARTS:
            return _time_part(values[0], name)
        if name == "where":
            values[0] = self.condition(values[0], args[0])
        if name == "round" and len(values) > 1 and not isinstance(values[1], int):
            raise _Wrong("round() takes a whole number of digits.")
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
                    raise _Wrong("'is' stands only before null or not null.")
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
            raise _Wrong("after 'in' there must be a list such as (1, 2).")
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
            raise _Wrong(f"{' and '.join(sorted(kinds))} can't be compared.")
        return self.call(function, sides, numbers=False)

    def condition(self, value: Any, node: ast.expr) -> Any:
        """Refuse what is neither true nor false."""
        if isinstance(value, bool) or (isinstance(value, xr.Variable) and value.dtype.kind == "b"):
            return value
        raise _Wrong(f"{ast.unparse(node)!r} is no condition: compare it with something.")

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
        raise _Wrong(f"{_kind(value)} are no numbers: compare them, or take month(…), hour(…).")
    if isinstance(value, str):
        raise _Wrong(f"the text {value!r} is no number.")
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
            raise _Wrong(f"{text!r} is no time. Write it as 2000-06-01 or 2000-06-01T12:00.") from None
    if other.dtype.kind == "O" and other.size and hasattr(other.values.reshape(-1)[0], "calendar"):
        try:
            return time_label(xr.CFTimeIndex(other.values.reshape(-1)[:1]), text, ())  # type: ignore[no-untyped-call]
        except StepMistake as mistake:
            raise _Wrong(mistake.message) from None
    return text


def _time_part(value: Any, part: str) -> xr.Variable:
    if not isinstance(value, xr.Variable) or _kind(value) != "times":
        raise _Wrong(f"{part}() takes times.")
    found = getattr(xr.DataArray(value).dt, part)
    return xr.Variable(value.dims, np.asarray(found.values, np.int64))
