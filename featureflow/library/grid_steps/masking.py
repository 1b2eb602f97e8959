"""The step `mask`: keep values where another source says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region
from featureflow.contracts.grid_step import Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.library.grid_steps.alignment import Beside, aligned, known_with, sizes_of, taken_from
from featureflow.library.grid_steps.axes import hint
from featureflow.library.grid_steps.blocks import result
from featureflow.library.grid_steps.chosen import names_in, with_variables
from featureflow.library.grid_steps.expressions import parse
from featureflow.library.grid_steps.formulas import kept_by, kept_where, parsed
from featureflow.library.grid_steps.shifting import with_missing


@dataclass(frozen=True)
class Mask(GridStep):
    """Keep values where a variable of another source has some labels, or where an expression over it is true.

    Without either, values are kept where it is not 0 and not missing. The source has the input's coordinates along the
    dimensions that it has; it may have more labels, in another order.
    """

    source: str
    variable: str | None = None
    values: tuple[Any, ...] | None = None
    expression: str | None = None
    variables: tuple[str, ...] | None = None
    seen: dict[str, Beside] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Mask:
        """Make the step from the parameters of a spec."""
        return cls(
            params["source"],
            params.get("variable"),
            names_in(params, "values"),
            params.get("expression"),
            names_in(params),
        )

    @property
    def others(self) -> tuple[str, ...]:  # type: ignore[override]
        """The source of the mask."""
        return (self.source,)

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Integers become floats that have a NaN."""
        other = self._used(others[self.source])
        condition = self._condition(other)
        extra = [str(dim) for dim in condition.dims if dim not in cube.sizes]
        if extra:
            text = f"the mask has the dimension {extra[0]!r}, which the input lacks. {hint(extra[0], cube.sizes)}"
            raise StepMistake(("source",), text)
        found = aligned(cube, other, self.source, ("source",), shrink=False)
        self.seen[self.source] = Beside(sizes_of(other, others[self.source]), found)
        changed = {}
        for name in kept_by(cube, self.variables, condition.dims, ("source",)):
            one = cube[name]
            changed[name] = absent(one.dims, one.shape, with_missing(one.dtype), one.attrs)
        return known_with(with_variables(cube, changed), other, found)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """The same region of the input; of the source what has its labels."""
        return Needs(dict(region), {self.source: self.seen[self.source].region_of(region)})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Values as they are, or NaN."""
        data = block.within(region)
        beside = taken_from(block.others[self.source], made, region, self.seen[self.source].found)
        condition = self._true(beside)
        chosen = kept_by(data, self.variables, condition.dims, ("source",))
        return result(made, region, kept_where(data, condition, chosen), data)

    def _used(self, other: xr.Dataset) -> xr.Dataset:
        """What the mask is made of: one variable, or those of the expression."""
        if self.expression is not None:
            names = parsed(self.expression, ("keep",)).names
            return other[list(names)] if names and set(names) <= set(other.data_vars) else other
        if self.variable is not None:
            if self.variable not in other.data_vars:
                text = f"{self.source!r} has no variable {self.variable!r}. {hint(self.variable, other.data_vars)}"
                raise StepMistake(("variable",), text)
            return other[[self.variable]]
        if len(other.data_vars) != 1:
            text = f"{self.source!r} has {len(other.data_vars)} variables. Say which: variable: name."
            raise StepMistake(("variable",), f"{text} {hint('', other.data_vars)}")
        return other

    def _condition(self, other: xr.Dataset) -> xr.Variable:
        """Outline of the condition."""
        if self.expression is not None:
            condition = parsed(self.expression, ("keep",)).check(other, ("keep",))
            if condition.dtype.kind != "b":
                text = (
                    f"{self.expression!r} is no condition but {condition.dtype}. Compare it with something."
                )
                raise StepMistake(("keep",), text)
            return condition
        one: xr.Variable = next(iter(other.data_vars.variables.values()))
        texts = any(isinstance(value, str) for value in self.values or ())
        if one.dtype.kind not in ("UST" if texts else "biuf"):
            raise StepMistake(("variable",), f"the mask is {one.dtype}, which has no such labels.")
        return one

    def _true(self, beside: xr.Dataset) -> xr.Variable:
        if self.expression is not None:
            return parse(self.expression).evaluate(beside)
        one = beside.variables[self.variable or next(iter(beside.data_vars))]
        found = np.asarray(one.values)
        if self.values is not None:
            return xr.Variable(one.dims, np.isin(found, list(self.values)))
        return xr.Variable(one.dims, (found != 0) & ~np.isnan(found))
