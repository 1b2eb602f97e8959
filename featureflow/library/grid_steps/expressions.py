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
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from featureflow.contracts.grid_step import StepMistake
from featureflow.library.grid_steps.axes import hint
from featureflow.library.grid_steps.evaluation import CONSTANTS, Evaluation, WrongOperands, operand
from featureflow.library.grid_steps.formula_functions import FUNCTIONS
from featureflow.library.grid_steps.formula_reading import QUOTED, read
from featureflow.library.grid_steps.statistics import clean


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
        found = node.id.removeprefix(QUOTED)
        return self.quoted[int(found)] if node.id.startswith(QUOTED) and found.isdigit() else node.id

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
        except WrongOperands as wrong:
            raise StepMistake(place, f"{wrong} In {self.text!r}.") from None
        except OverflowError:
            raise StepMistake(
                place, f"a number is beyond 64 bits, in {self.text!r}. Write it as 1e20."
            ) from None

    def evaluate(self, data: xr.Dataset) -> xr.Variable:
        """Compute it; NaN and zero have one bit pattern each."""
        found = {name: data.variables[name] for name in self.names if name in data.variables}
        return self._result(found)

    def _result(self, found: Mapping[str, xr.Variable]) -> xr.Variable:
        with np.errstate(all="ignore"):
            result = Evaluation(self.name_of, {name: operand(one) for name, one in found.items()}).of(
                self.tree
            )
        if isinstance(result, str):
            raise WrongOperands(f"the result is the text {result!r}; it must be a number or a condition.")
        variable = result if isinstance(result, xr.Variable) else xr.Variable((), np.asarray(result))
        values = np.asarray(variable.values)
        if values.dtype.kind not in "biuf":
            raise WrongOperands(f"the result is {values.dtype}; it must be a number or a condition.")
        if values.dtype.kind == "f":
            shared = any(np.may_share_memory(values, one.values) for one in found.values())
            values = clean(values.copy() if shared or not values.flags.writeable else values)
        return xr.Variable(variable.dims, np.ascontiguousarray(values).reshape(variable.shape))


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Formula:
    """Read an expression.

    Raises
    ------
    StepMistake
        If it is none: what is wrong where, and how it is written here.
    """
    return Formula(text, *read(text))


def _sample(cube: xr.Dataset, name: str) -> xr.Variable:
    """One value of a variable's type along each of its dimensions."""
    one = cube.variables[name]
    shape = (1,) * one.ndim
    if one.dtype.kind == "O":  # calendars of models: index coordinates, in memory
        return xr.Variable(one.dims, np.asarray(one[(slice(0, 1),) * one.ndim].values))
    if one.dtype.kind == "M":
        return xr.Variable(one.dims, np.full(shape, np.datetime64("2000-01-01"), one.dtype))
    return xr.Variable(one.dims, np.ones(shape).astype(one.dtype))
