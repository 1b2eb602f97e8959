"""The step `concat`: sources one after the other along a dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from featureflow.contracts.cube import Region, Span
from featureflow.contracts.grid_step import KNOWN_AT, Block, GridStep, Needs, StepMistake
from featureflow.contracts.outlines import absent
from featureflow.library.grid_steps.alignment import aligned
from featureflow.library.grid_steps.axes import hint
from featureflow.library.grid_steps.blocks import result


@dataclass(frozen=True)
class Concat(GridStep):
    """The input and other sources, one after the other along a dimension, or along a new one that comes first.

    All have the input's variables and the same coordinates along all other dimensions.
    """

    sources: tuple[str, ...]
    dim: str
    seen: dict[str, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Concat:
        """Make the step from the parameters of a spec."""
        return cls(tuple(params["sources"]), params["dim"])

    @property
    def others(self) -> tuple[str, ...]:  # type: ignore[override]
        """The sources that follow."""
        return self.sources

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Longer along the dimension; types that hold the values of all."""
        parts = {"": cube, **{name: others[name] for name in self.sources}}
        for name in self.sources:
            self._check(cube, name, others[name])
        self.seen.clear()
        self.seen.update(
            {name: {str(d): int(n) for d, n in part.sizes.items()} for name, part in parts.items()}
        )
        size = sum(self._length(name) for name in parts)
        variables = {}
        for key, one in cube.data_vars.items():
            dims = one.dims
            if self.dim not in cube.sizes:
                dims = (self.dim, *dims)  # a new one
            if self.dim in dims:
                dtype = np.result_type(*(part[key].dtype for part in parts.values()))
                shape = [size if dim == self.dim else cube.sizes[dim] for dim in dims]
                variables[key] = absent(dims, shape, dtype, one.attrs)
            else:
                variables[key] = one.variable
        return xr.Dataset(dict(variables), self._coords(cube, parts), cube.attrs)

    def _check(self, cube: xr.Dataset, name: str, other: xr.Dataset) -> None:
        missing = [str(one) for one in cube.data_vars if one not in other.data_vars]
        if missing:
            text = f"{name!r} has no variable {missing[0]!r}. {hint(missing[0], other.data_vars)}"
            raise StepMistake(("source",), text)
        for one in map(str, cube.data_vars):
            mine, theirs = set(cube[one].dims), set(other[one].dims)
            if mine != theirs:
                text = f"{one!r} has dimensions {sorted(map(str, theirs))} in {name!r}, not {sorted(map(str, mine))}."
                raise StepMistake(("source",), text)
            if cube[one].attrs.get("units") != other[one].attrs.get("units"):
                units = (
                    f"{cube[one].attrs.get('units')!r} here and {other[one].attrs.get('units')!r} in {name!r}"
                )
                text = (
                    f"the units of {one!r} are {units}. Convert one of them with derive in a grid of its own."
                )
                raise StepMistake(("source",), text)
        for dim in cube.sizes:
            if dim == self.dim:
                continue
            if (
                dim in cube.indexes
                and dim in other.indexes
                and not cube.indexes[dim].equals(other.indexes[dim])
            ):
                aligned(cube[[dim]], other[[dim]], name, ("source",), shrink=False)
                text = f"{dim!r} has other labels in {name!r}, or the same in another order. Select what both have."
                raise StepMistake(("source",), text)
            if cube.sizes[dim] != other.sizes.get(dim):
                text = f"{dim!r} has {cube.sizes[dim]} positions here and {other.sizes.get(dim)} in {name!r}."
                raise StepMistake(("source",), text)

    def _coords(self, cube: xr.Dataset, parts: Mapping[str, xr.Dataset]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for name, one in cube.coords.variables.items():
            if self.dim not in one.dims:
                found[name] = one
                continue
            lacking = [other for other, part in parts.items() if name not in part.coords]
            if lacking and name != KNOWN_AT:
                raise StepMistake(
                    ("source",), f"{lacking[0]!r} has no coordinate {name!r}, which the input has."
                )
        if self.dim in cube.indexes:
            found[self.dim] = self._index(parts)
        known = any(KNOWN_AT in part.coords for part in parts.values())
        rest = [
            n
            for n, one in cube.coords.variables.items()
            if self.dim in one.dims and n not in (self.dim, KNOWN_AT)
        ]
        for name in [*rest, *([KNOWN_AT] if known and self.dim in cube.sizes else [])]:
            mine = [part.coords[name if name in part.coords else self.dim] for part in parts.values()]
            axis = mine[0].dims.index(self.dim)
            values = np.concatenate([np.asarray(one.transpose(*mine[0].dims).values) for one in mine], axis)
            found[name] = xr.Variable(mine[0].dims, values, mine[0].attrs if name in cube.coords else {})
        return found

    def _index(self, parts: Mapping[str, xr.Dataset]) -> Any:
        """Join the labels; they must go on as the input's do, since nothing after it could be told apart otherwise."""
        indexes = [part.indexes[self.dim] for part in parts.values()]
        try:
            joined = indexes[0].append(list(indexes[1:]))
        except TypeError as error:
            raise StepMistake(
                ("source",), f"labels of {self.dim!r} are of different kinds: {error}."
            ) from None
        if joined.dtype != indexes[0].dtype and {joined.dtype.kind, indexes[0].dtype.kind} - set("iufM"):
            raise StepMistake(("source",), f"labels of {self.dim!r} are of different kinds.")
        if not joined.is_unique:
            twice = joined[joined.duplicated()][0]
            text = (
                f"label {twice} of {self.dim!r} is there more than once. Select what each source is to give."
            )
            raise StepMistake(("source",), text)
        rises = all(index.is_monotonic_increasing for index in indexes) and len(indexes[0]) > 1
        if rises and not joined.is_monotonic_increasing:
            text = f"labels of {self.dim!r} do not go on. Name sources in the order of their labels."
            raise StepMistake(("source",), text)
        first = parts[""].coords.variables[self.dim]
        return xr.Variable((self.dim,), joined if isinstance(joined, pd.Index) else first, first.attrs)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """Of each source what is in the region; one position where nothing is."""
        spans = self._spans(region[self.dim])
        found: dict[str, Region] = {}
        for name, sizes in self.seen.items():
            # of dimensions that only variables have which are not used, one position is enough
            found[name] = {dim: region.get(dim, (0, min(1, size))) for dim, size in sizes.items()}
            if self.dim in sizes:
                found[name][self.dim] = _inside(spans[name], sizes[self.dim])
        return Needs(found.pop(""), found)

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Values as they are, in the type of all."""
        spans = self._spans(region[self.dim])
        blocks = {"": block, **block.others}
        there = [name for name, span in spans.items() if span[0] < span[1]]
        arrays = {}
        for key in block.data.data_vars:
            name = str(key)
            dims, dtype = made[name].dims, made[name].dtype
            if self.dim not in dims:
                continue
            pieces = [blocks[source].data.variables[name] for source in there]
            pieces = [
                p if self.dim in p.dims else xr.Variable((self.dim, *p.dims), np.asarray(p.data)[None])
                for p in pieces
            ]
            parts = [np.asarray(piece.transpose(*dims).values).astype(dtype, copy=False) for piece in pieces]
            arrays[name] = np.concatenate(parts, dims.index(self.dim))
        return result(made, region, arrays, block.data)

    def _length(self, name: str) -> int:
        return self.seen[name].get(self.dim, 1)

    def _spans(self, wanted: Span) -> dict[str, Span]:
        """What of a range each source has, counted from its own start; an empty range if nothing."""
        found, start = {}, 0
        for name in self.seen:
            size = self._length(name)
            low, high = max(0, wanted[0] - start), min(size, wanted[1] - start)
            found[name] = (low, high) if low < high else (0, 0)
            start += size
        return found


def _inside(span: Span, size: int) -> Span:
    """Give a range of at least one position: some formats have no empty reads."""
    return span if span[0] < span[1] else (0, min(1, size))
