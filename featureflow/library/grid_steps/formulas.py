"""Steps with an expression: `where` keeps values, `derive` makes variables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.library.grid_steps.blocks import result
from featureflow.library.grid_steps.chosen import acted_on, names_in, with_variables
from featureflow.library.grid_steps.expressions import Formula, parse
from featureflow.library.grid_steps.shifting import with_missing

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Where(GridStep):
    """Keep values where a condition over variables and coordinates is true; elsewhere they are missing.

    It acts on variables that have all dimensions of the condition; others pass unchanged.
    """

    expression: str
    variables: tuple[str, ...] | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Where:
        """Make the step from the parameters of a spec."""
        return cls(params["expression"], names_in(params))

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Integers become floats that have a NaN, as in xarray."""
        condition = parsed(self.expression, ("expression",)).check(cube, ("expression",))
        if condition.dtype.kind != "b":
            text = f"{self.expression!r} is no condition but {condition.dtype}. Compare it with something."
            raise StepMistake(("expression",), text)
        changed = {}
        for name in kept_by(cube, self.variables, condition.dims, ("expression",)):
            one = cube[name]
            changed[name] = absent(one.dims, one.shape, with_missing(one.dtype), one.attrs)
        return with_variables(cube, changed)

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Values as they are, or NaN."""
        data = block.within(region)
        condition = parse(self.expression).evaluate(data)
        chosen = kept_by(data, self.variables, condition.dims, ("expression",))
        return result(made, region, kept_where(data, condition, chosen), data)


@dataclass(frozen=True)
class Derive(GridStep):
    """Make variables from expressions, in order; later ones may use earlier ones.

    A new variable has no attributes: its units are those of the expression, which nobody has stated.
    """

    expressions: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Derive:
        """Make the step from the parameters of a spec."""
        return cls(tuple(params["expressions"].items()))

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """With the new variables."""
        for name, text in self.expressions:
            if name in cube.coords or name in cube.sizes:
                raise StepMistake((name,), f"{name!r} is a coordinate or a dimension. Choose another name.")
            found = parsed(text, (name,)).check(cube, (name,))
            shape = [cube.sizes[dim] for dim in found.dims]
            cube = with_variables(cube, {name: absent(found.dims, shape, found.dtype)})
        return cube

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Evaluate one after the other."""
        data = block.within(region)
        for name, text in self.expressions:
            data = data.drop_vars(name, errors="ignore").assign({name: parse(text).evaluate(data)})
        return result(made, region, {}, data)


def kept_by(
    cube: xr.Dataset,
    variables: tuple[str, ...] | None,
    dims: tuple[Hashable, ...],
    place: tuple[str | int, ...],
) -> list[str]:
    """Variables that a condition with some dimensions is applied to."""
    found = acted_on(cube, variables, (), place, "iuf")
    fits = [name for name in found if set(dims) <= set(cube[name].dims)]
    if variables is not None and len(fits) < len(found):
        name = next(name for name in found if name not in fits)
        missing = ", ".join(str(dim) for dim in dims if dim not in cube[name].dims)
        text = f"the condition varies along {missing}, but {name!r} has no such dimension."
        raise StepMistake(("variables",), text)
    if not fits:
        text = f"no variable has the dimensions of the condition: {', '.join(map(str, dims))}."
        raise StepMistake(place, text)
    return fits


def kept_where(data: xr.Dataset, condition: xr.Variable, chosen: list[str]) -> dict[str, Array]:
    """Give the values of some variables, NaN where a condition is false."""
    found = {}
    for name in chosen:
        one = data.variables[name]
        spread = condition.set_dims({dim: one.sizes[dim] for dim in one.dims}).transpose(*one.dims)  # type: ignore[no-untyped-call]
        dtype = with_missing(one.dtype)
        values = np.where(np.asarray(spread.values), np.asarray(one.values), dtype.type(np.nan))
        found[name] = values.astype(dtype, copy=False)
    return found


def parsed(text: str, place: tuple[str | int, ...]) -> Formula:
    """Read an expression that stands at a place of a step."""
    try:
        return parse(text)
    except StepMistake as mistake:
        raise StepMistake(place, mistake.message) from None
