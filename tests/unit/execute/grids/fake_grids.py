"""Cubes in memory and plain steps, for tests of how grids are cut, named and put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from featureflow.contracts.cube import CubePiece, Region, slices_of
from featureflow.contracts.grid_step import Block, FittedStep, GridStep, Needs
from featureflow.contracts.outlines import absent, outline_of
from featureflow.execute.grids.units import Lattice
from featureflow.execute.sizing import BASELINE_BYTES, Budget
from featureflow.plan.compile_grid import cells_of, prefixes_of
from featureflow.plan.grid_nodes import CompiledGrid, GridInput, Link


@dataclass
class FakeCube:
    """A dataset in memory, in chunks of one size; remembers what was read."""

    data: xr.Dataset
    sizes: Mapping[str, int]
    reads: list[Region] = field(default_factory=list)
    renamed: dict[tuple[int, ...], str] = field(default_factory=dict)

    @property
    def outline(self) -> xr.Dataset:
        return outline_of(self.data)

    @property
    def lattice(self) -> Lattice:
        return Lattice.of({str(d): n for d, n in self.data.sizes.items()}, self.sizes)

    @property
    def chunks(self) -> dict[str, tuple[int, ...]]:
        return {
            d: tuple(min(step, n - low) for low in range(0, n, step))
            for d, n, step in zip(self.lattice.dims, self.lattice.sizes, self.lattice.steps, strict=True)
        }

    def pieces(self, variables: Sequence[str] | None = None) -> list[CubePiece]:
        found = []
        for cell in self.lattice:
            region = self.lattice.region(cell)
            values = self.data.isel(slices_of(region))
            name = self.renamed.get(cell, f"c{'-'.join(map(str, cell))}-{sorted(values.sizes.items())}")
            found.append(CubePiece(name, region, int(values.nbytes)))
        return found

    def read(self, region: Region, variables: Sequence[str]) -> xr.Dataset:
        self.reads.append(dict(region))
        return self.data[list(variables)].isel(slices_of(region)).copy(deep=True)


@dataclass(frozen=True)
class Keep(GridStep):
    """Positions from one to another along a dimension."""

    dim: str
    low: int
    high: int

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        return outline_of(cube.isel({self.dim: slice(self.low, self.high)}))

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        low, high = region[self.dim]
        return Needs({**region, self.dim: (low + self.low, high + self.low)})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        return block.data


@dataclass(frozen=True)
class Trailing(GridStep):
    """Sum of a value and those before it, as many as there are of ``window``."""

    dim: str
    window: int

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        return cube

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        low, high = region[self.dim]
        return Needs({**region, self.dim: (max(0, low - self.window + 1), high)})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        begin = block.region[self.dim][0]
        low, high = region[self.dim]
        found = {}
        for name, variable in block.data.data_vars.items():
            if self.dim not in variable.dims:
                found[name] = variable
                continue
            axis = variable.dims.index(self.dim)
            values = np.moveaxis(variable.values.astype(np.float64), axis, 0)
            out = np.zeros((high - low, *values.shape[1:]))
            for back in range(self.window - 1, -1, -1):
                first = max(low, back)  # before it there is nothing so far back
                if first < high:
                    out[first - low :] += values[first - back - begin : high - back - begin]
            made_values = np.moveaxis(out, 0, axis).astype(variable.dtype)
            found[name] = (variable.dims, made_values, variable.attrs)
        coords = made.coords.to_dataset().isel(slices_of(region), missing_dims="ignore")
        return xr.Dataset(found, coords.coords)


@dataclass(frozen=True)
class Pairs(GridStep):
    """Sum of each two neighbours along a dimension, which becomes half as long."""

    dim: str

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        n = cube.sizes[self.dim] // 2
        index = cube[self.dim].values[: 2 * n : 2]
        variables = {
            name: absent(v.dims, [n if d == self.dim else s for d, s in v.sizes.items()], v.dtype, v.attrs)
            for name, v in cube.data_vars.items()
        }
        coords = {name: c for name, c in cube.coords.items() if self.dim not in c.dims}
        return xr.Dataset(variables, {**coords, self.dim: (self.dim, index)})

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        low, high = region[self.dim]
        return Needs({**region, self.dim: (2 * low, 2 * high)})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        even = block.data.isel({self.dim: slice(0, None, 2)})
        odd = block.data.isel({self.dim: slice(1, None, 2)}).assign_coords({self.dim: even[self.dim]})
        found = xr.Dataset(
            {
                name: even[name] + odd[name] if self.dim in even[name].dims else even[name]
                for name in even.data_vars
            }
        )
        return found[list(made.data_vars)].assign_coords(even.coords)


@dataclass(frozen=True)
class Centred(FittedStep):
    """Minus the mean over a dimension, of its first ``period`` positions."""

    dim: str
    period: int

    def outline(self, cube: xr.Dataset, others: Mapping[str, xr.Dataset]) -> xr.Dataset:
        return cube

    def needs(self, region: Region, cube: xr.Dataset, made: xr.Dataset) -> Needs:
        return Needs(dict(region), fitted={d: span for d, span in region.items() if d != self.dim})

    def fit_region(self, cube: xr.Dataset) -> Region:
        found = {str(d): (0, int(n)) for d, n in cube.sizes.items()}
        return {**found, self.dim: (0, min(self.period, int(cube.sizes[self.dim])))}

    @property
    def over(self) -> tuple[str, ...]:
        return (self.dim,)

    def fitted_outline(self, cube: xr.Dataset) -> xr.Dataset:
        variables = {
            name: absent(
                [d for d in v.dims if d != self.dim], [n for d, n in v.sizes.items() if d != self.dim], "f8"
            )
            for name, v in cube.data_vars.items()
        }
        coords = {name: c for name, c in cube.coords.items() if self.dim not in c.dims}
        return xr.Dataset(variables, coords)

    def partial(self, block: Block, cube: xr.Dataset) -> xr.Dataset:
        found = {}
        for name, v in block.data.data_vars.items():
            if self.dim in v.dims:
                found[name] = v.astype(np.float64).sum(self.dim)
                found[f"{name}#"] = v.notnull().sum(self.dim)
            else:
                found[name], found[f"{name}#"] = v.astype(np.float64) * 0.0, v.notnull().astype(np.int64)
        return xr.Dataset(found)

    def combine(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def finish(self, sums: xr.Dataset) -> xr.Dataset:
        names = [name for name in sums.data_vars if not str(name).endswith("#")]
        return xr.Dataset({name: sums[name] / np.maximum(sums[f"{name}#"], 1) for name in names})

    def apply(self, block: Block, region: Region, made: xr.Dataset) -> xr.Dataset:
        fitted = block.fitted
        assert fitted is not None
        found = {}
        for name, v in block.data.data_vars.items():
            assert all(fitted.sizes[d] == v.sizes[d] for d in v.dims if d != self.dim)
            found[name] = (v.astype(np.float64) - fitted[name]).astype(v.dtype).transpose(*v.dims)
            found[name].attrs = v.attrs
        return xr.Dataset(found, block.data.coords)


def plain(data: xr.Dataset, steps: Sequence[GridStep]) -> xr.Dataset:
    """What the steps mean, said with xarray over the whole cube."""
    for step in steps:
        if isinstance(step, Keep):
            data = data.isel({step.dim: slice(step.low, step.high)})
        elif isinstance(step, Trailing):
            wide = data.astype("f8").fillna(-1e300)
            summed = xr.zeros_like(wide)
            for back in range(step.window):
                summed = summed + wide.shift({step.dim: back}, fill_value=0.0)
            lacks = [name for name in data.data_vars if step.dim not in data[name].dims]
            made = summed.where(summed > -1e200).astype("f4")
            data = made.assign({name: data[name] for name in lacks})
        elif isinstance(step, Pairs):
            n = data.sizes[step.dim] // 2 * 2
            cut = data.isel({step.dim: slice(0, n)})
            lacks = [name for name in data.data_vars if step.dim not in data[name].dims]
            pairs = cut.drop_vars(lacks).coarsen({step.dim: 2}).construct({step.dim: (step.dim, "pair")})
            made = pairs.drop_vars(step.dim).sum("pair", skipna=False)
            made = made.assign_coords({step.dim: cut[step.dim][::2]})
            data = made.assign({name: data[name] for name in lacks})
        elif isinstance(step, Centred):
            fit = data.isel({step.dim: slice(0, step.period)}).astype("f8")
            lacks = [name for name in data.data_vars if step.dim not in data[name].dims]
            made = (data.astype("f8") - fit.mean(step.dim).fillna(0.0)).astype("f4")
            data = made.assign({name: data[name] for name in lacks})
    return data


def compiled(cube: FakeCube, steps: Sequence[GridStep], chunks: Mapping[str, int]) -> CompiledGrid:
    """A grid without a spec."""
    taken, links = cube.outline, []
    for step in steps:
        made = step.outline(taken, {})
        links.append(
            Link(type(step).__name__.lower(), step, taken, made, cells_of(taken, chunks, cube.chunks))
        )
        taken = made
    shape = {str(d): min(int(chunks.get(str(d), n)), int(n)) for d, n in taken.sizes.items()}
    named = [[link.name, repr(link.step)] for link in links]
    source = GridInput("source", "fake", cube.outline, cube.chunks, "id", cube)
    return CompiledGrid(
        name="g",
        source=source,
        others={},
        start=cube.outline,
        links=tuple(links),
        chunks=shape,
        shards=None,
        given=shape,
        definition={"source": ["fake"], "steps": named},
        definition_hash="d" * 32,
        prefixes=prefixes_of(["fake"], named, tuple(links)),
        lineage={},
    )


def values(shape: Mapping[str, int], *, seed: int = 0, missing: float = 0.1) -> xr.Dataset:
    """Days, latitudes and longitudes: a field of all three, one of two, and one of another order."""
    rng = np.random.default_rng(seed)
    t, y, x = shape["time"], shape["lat"], shape["lon"]
    field_values = rng.normal(10, 5, (t, y, x)).astype("f4")
    field_values[rng.random(field_values.shape) < missing] = np.nan
    coords = {
        "time": pd.date_range("2000-01-01", periods=t, freq="D").as_unit("ns"),
        "lat": np.linspace(-60, 60, y),
        "lon": np.linspace(0, 350, x),
    }
    return xr.Dataset(
        {
            "sst": (("time", "lat", "lon"), field_values, {"units": "K"}),
            "fixed": (("lat", "lon"), rng.random((y, x)).astype("f4")),
            "turned": (("lon", "time"), rng.normal(0, 1, (x, t)).astype("f4")),
        },
        coords,
    )


def budget(task_bytes: int) -> Budget:
    """Memory of which one task may use so much."""
    return Budget(BASELINE_BYTES + task_bytes, 1)
