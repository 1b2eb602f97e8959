"""`coarsen`: blocks of neighbours along dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Self

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region, Span
from featureflow.contracts.grid_step import KNOWN_AT, Block, GridStep, Needs, StepMistake
from featureflow.kernels import grid_ranges
from featureflow.library.grid_steps.attributes import of_statistic
from featureflow.library.grid_steps.axes import check_dim, is_time, known, with_known
from featureflow.library.grid_steps.bins import TOTALS, latest, statistic
from featureflow.library.grid_steps.blocks import (
    Values,
    along,
    back,
    float_dtype,
    floats,
    is_number,
    reshaped,
    result,
)


def _middles(times: Values, size: int, count: int) -> Values:
    """Means of blocks of times of a model's calendar."""
    middles = np.empty(count, object)
    for k in range(count):
        block = times[k * size : (k + 1) * size]
        middles[k] = block[0] + sum((time - block[0] for time in block[1:]), timedelta()) / len(block)
    return middles


@dataclass(frozen=True)
class Coarsen(GridStep):
    """Statistics of blocks of neighbours, labelled with the mean of their labels as by xarray's ``coarsen``.

    Notes
    -----
    Nulls: NaN is skipped; a block of NaN only is NaN, its sum and number 0. ``pad`` fills the last block with nothing.
    Time: a block over times takes times after its label; ``known_at`` is when the last of them is known.
    Types: ``count`` and sums of integers are int64; integers whose last block is filled become float64.
    """

    sizes: dict[str, int]
    op: str = "mean"
    boundary: Literal["exact", "trim", "pad"] = "exact"
    ddof: int = 0

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Make it of the parameters that a spec has."""
        return cls(**params)

    def _length(self, dim: str, n: int) -> int:
        return math.ceil(n / self.sizes[dim]) if self.boundary == "pad" else n // self.sizes[dim]

    def _dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        if self.op == "count":
            return np.dtype(np.int64)
        if self.op in ("sum", "min", "max") and dtype.kind in "iub" and self.boundary != "pad":
            if self.op == "sum":
                return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)
            return dtype
        return float_dtype(dtype)

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        """Give the blocks; every coordinate along them is averaged, which takes numbers or times."""
        for dim, size in self.sizes.items():
            check_dim(cube, dim, (dim,))
            n = cube.sizes[dim]
            if self.boundary == "exact" and n % size:
                raise StepMistake(
                    (dim,),
                    f"{n} values of {dim!r} are no whole number of blocks of {size}. Use boundary: trim or pad.",
                )
            if not self._length(dim, n):
                raise StepMistake((dim,), f"there are {n} values of {dim!r}, fewer than a block of {size}.")
        new = {dim: self._length(dim, cube.sizes[dim]) for dim in self.sizes}
        variables = {}
        for name, v in cube.data_vars.items():
            if not set(v.dims) & set(new):
                variables[name] = v.variable
                continue
            if not is_number(v):
                raise StepMistake((), f"{name!r} is {v.dtype}; blocks take numbers. Leave it out before.")
            variables[name] = reshaped(
                v,
                new,
                self._dtype(v.dtype),
                of_statistic(v.attrs, self.op, [dim for dim in v.dims if dim in new]),
            )
        made = xr.Dataset(variables, self._coordinates(cube), attrs=cube.attrs)
        for dim in self.sizes:
            if is_time(cube, dim):
                edges = np.minimum(np.arange(new[dim] + 1) * self.sizes[dim], cube.sizes[dim])
                when = latest(known(cube, dim), edges[:-1], edges[1:], made[dim].values)
                made = with_known(made, dim, when)
        return made

    def _coordinates(self, cube: xr.Dataset) -> Mapping[Any, Any]:
        plain = cube.drop_vars(KNOWN_AT, errors="ignore") if self._over_time(cube) else cube
        for name, c in plain.coords.items():
            model_time = c.dims == (name,) and is_time(cube, name)
            if set(c.dims) & set(self.sizes) and c.dtype.kind not in "iufM" and not model_time:
                raise StepMistake(
                    (), f"the coordinate {name!r} is {c.dtype}, which has no mean. Drop it before."
                )
        coords = plain.coords.to_dataset()
        model_times = [
            name for name, c in coords.coords.items() if c.dtype.kind == "O" and set(c.dims) & set(self.sizes)
        ]
        numbers = coords.drop_vars(model_times)
        sizes = {dim: size for dim, size in self.sizes.items() if dim in numbers.sizes}
        found = {
            name: c.values for name, c in numbers.coarsen(sizes, boundary=self.boundary).mean().coords.items()
        }
        for name in model_times:  # xarray can't fill their last block
            found[name] = _middles(
                plain[name].values, self.sizes[str(name)], self._length(str(name), plain[name].size)
            )
        return {
            name: xr.Variable(c.dims, found[name], dict(c.attrs), dict(c.encoding))
            for name, c in plain.coords.items()
        }

    def _over_time(self, cube: xr.Dataset) -> bool:
        return any(is_time(cube, dim) for dim in self.sizes)

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        """Whole blocks."""
        return Needs({dim: self._span(dim, span, cube.sizes[dim]) for dim, span in region.items()})

    def _span(self, dim: str, blocks: Span, end: int) -> Span:
        size = self.sizes.get(dim, 1)
        return blocks[0] * size, min(blocks[1] * size, end)

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        """Compute whole blocks."""
        spans = {dim: self._span(dim, span, block.region[dim][1]) for dim, span in region.items()}
        data = block.within(spans)
        arrays = {}
        for name, v in data.data_vars.items():
            if not set(v.dims) & set(self.sizes):
                continue
            sizes = [self.sizes.get(str(dim), 1) for dim in v.dims]
            shape = [
                n if size == 1 else region[str(dim)][1] - region[str(dim)][0]
                for dim, n, size in zip(v.dims, v.shape, sizes, strict=True)
            ]
            arrays[str(name)] = self._blocks(v.values, sizes, shape, made[name].dtype)
        return result(made, region, arrays, data)

    def _blocks(self, values: Values, sizes: list[int], shape: list[int], dtype: np.dtype[Any]) -> Values:
        split = [i for i, size in enumerate(sizes) if size > 1]
        if not split:
            split = [len(sizes) - 1]
        kind = dtype if dtype.kind == "f" else np.dtype(np.float64)
        if dtype.kind in "iu" and self.op != "count":
            return _whole_numbers(values, sizes, shape, self.op, dtype)
        if len(split) == 1 and (split[0] < len(sizes) - 1 or self.op not in TOTALS):
            axis = split[0]
            x, moved = along(floats(values), axis)
            edges = np.minimum(np.arange(shape[axis] + 1) * sizes[axis], x.shape[1])
            out = np.empty((x.shape[0], shape[axis], x.shape[2]), kind)
            statistic(x, edges[:-1], edges[1:], self.op, self.ddof, out)
            return back(out, values.shape, axis, moved).astype(dtype, copy=False)
        if (
            self.op in TOTALS
            and split[-1] == len(sizes) - 1
            and split in ([len(sizes) - 1], [len(sizes) - 2, len(sizes) - 1])
        ):
            rows, columns = ([1, *sizes])[-2:]
            tall = ([1, *values.shape])[-2]
            x = np.ascontiguousarray(floats(values)).reshape(-1, tall, values.shape[-1])
            out = np.empty((x.shape[0], ([1, *shape])[-2], shape[-1]), kind)
            if out.size:
                grid_ranges.block_totals(x, rows, columns, TOTALS[self.op], out)
            return out.reshape(shape).astype(dtype, copy=False)
        x = _windows(floats(values), sizes, shape)
        out = np.empty((x.shape[0], 1, 1), kind)
        statistic(x, np.array([0]), np.array([x.shape[1]]), self.op, self.ddof, out)
        return out.reshape(shape).astype(dtype, copy=False)


def _windows(values: Values, sizes: list[int], shape: list[int]) -> Values:
    """Give the values of each block side by side, ``(blocks, values, 1)``; a last block that is short ends in NaN."""
    gaps = [(0, n * size - had) for n, size, had in zip(shape, sizes, values.shape, strict=True)]
    if any(gap for _, gap in gaps):
        values = np.pad(values, gaps, constant_values=np.nan)
    split = values.reshape([part for n, size in zip(shape, sizes, strict=True) for part in (n, size)])
    axes = [*range(0, 2 * len(sizes), 2), *range(1, 2 * len(sizes), 2)]
    return np.ascontiguousarray(split.transpose(axes)).reshape(math.prod(shape), math.prod(sizes), 1)


def _whole_numbers(
    values: Values, sizes: list[int], shape: list[int], op: str, dtype: np.dtype[Any]
) -> Values:
    """Sums and extrema of integers, exact."""
    split = values.reshape([part for n, size in zip(shape, sizes, strict=True) for part in (n, size)])
    axes = tuple(range(1, 2 * len(sizes), 2))
    if op == "sum":
        return np.asarray(split.sum(axis=axes, dtype=dtype))
    return np.asarray(split.min(axis=axes) if op == "min" else split.max(axis=axes))
