"""What every step of a grid must keep, whatever it computes; shares no code with the engine.

`check_step` runs a step over a whole cube and compares it with plain xarray (given by the caller), then over random
partitions of its output into boxes: each must be given no more than what it asked for, and return the same bytes.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from hypothesis import strategies as st

from featureflow.contracts.cube import Region, whole
from featureflow.contracts.grid_step import KNOWN_AT, Block, FittedStep, GridStep
from featureflow.contracts.outlines import outline_of

#: boxes of a partition that are computed; other examples compute others
AT_MOST = 5
CALENDARS = ("days", "gaps", "hours", "noleap", "360_day")


def times(kind: str, size: int, seed: int = 0) -> Any:
    """Ascending times: regular days, days with gaps, hours, or of a model's calendar."""
    if kind in ("noleap", "360_day"):
        return xr.date_range("2001-02-25", periods=size, freq="D", calendar=kind, use_cftime=True)
    if kind == "hours":
        return pd.date_range("2000-12-31T20:00", periods=size, freq="h").as_unit("ns")
    steps = np.ones(size, int) if kind == "days" else np.random.default_rng(seed).integers(1, 40, size)
    return pd.DatetimeIndex(pd.Timestamp("2000-02-25") + pd.to_timedelta(steps.cumsum(), unit="D")).as_unit(
        "ns"
    )


def array(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, nan: float, inf: bool) -> np.ndarray:
    """Values of mixed size with missing ones; infinities if asked."""
    values = rng.normal(10, 20, shape) * rng.choice([1, 1, 1e3], shape)
    if dtype.startswith(("int", "uint")):
        return np.abs(values.round()).astype(dtype)
    values = np.where(rng.random(shape) < nan, np.nan, values)
    if inf:
        values = np.where(rng.random(shape) < 0.05, rng.choice([np.inf, -np.inf], shape), values)
    return values.astype(dtype)


@st.composite
def cubes(
    draw: st.DrawFn,
    *,
    dtypes: tuple[str, ...] = ("float32", "float64"),
    calendars: tuple[str, ...] = CALENDARS,
    least: Mapping[str, int] | None = None,
    most: Mapping[str, int] | None = None,
    inf: bool = False,
    extra: bool = True,
) -> xr.Dataset:
    """A cube of `a` (time, lat, lon), `b` (lon, time, with other order of dimensions) and `fixed` (lat, lon).

    Latitudes descend or ascend, longitudes have uneven steps; with ``extra`` there are coordinates that are no
    index: `week` along time and `area` over (lat, lon), and a scalar `height`.
    """
    least, most = (
        {"time": 1, "lat": 1, "lon": 1, **(least or {})},
        {"time": 24, "lat": 6, "lon": 5, **(most or {})},
    )
    sizes = {dim: draw(st.integers(least[dim], most[dim])) for dim in ("time", "lat", "lon")}
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nan, kind = draw(st.sampled_from([0.0, 0.1, 0.6])), draw(st.sampled_from(dtypes))
    lat = np.linspace(-60, 60, sizes["lat"]).round(3)
    coords: dict[str, Any] = {
        "time": times(draw(st.sampled_from(calendars)), sizes["time"], int(rng.integers(99))),
        "lat": ("lat", lat[::-1].copy() if draw(st.booleans()) else lat, {"units": "degrees_north"}),
        "lon": ("lon", rng.integers(1, 9, sizes["lon"]).cumsum() / 2, {"units": "degrees_east"}),
    }
    if extra and draw(st.booleans()):
        coords["week"] = ("time", np.arange(sizes["time"]) // 7)
        coords["area"] = (("lat", "lon"), rng.random((sizes["lat"], sizes["lon"])), {"units": "m2"})
        coords["height"] = ((), 2.0, {"units": "m"})
    with_inf = inf and draw(st.booleans())

    def variable(*dims: str) -> tuple[Any, ...]:
        values = array(rng, tuple(sizes[d] for d in dims), kind, nan, with_inf)
        return dims, values, {"units": "K", "standard_name": "air_temperature"}

    data = {
        "a": variable("time", "lat", "lon"),
        "b": variable("lon", "time"),
        "fixed": variable("lat", "lon"),
    }
    return xr.Dataset(data, coords, {"title": "made by a test"})


def cut(data: xr.Dataset, region: Mapping[str, tuple[int, int]]) -> xr.Dataset:
    """A copy of a region, without anything around it."""
    part = data.isel({d: slice(*region[d]) for d in region if d in data.dims})
    return part.copy(deep=True)


def block(data: xr.Dataset, region: Region) -> Block:
    assert set(region) == set(data.sizes), f"needs name {sorted(region)}, the input has {sorted(data.sizes)}"
    for dim, (low, high) in region.items():
        assert 0 <= low <= high <= data.sizes[dim], f"{dim}: {(low, high)} of {data.sizes[dim]}"
    return Block(cut(data, region), dict(region))


def spans(sizes: Mapping[str, int], chunks: Mapping[str, int], inside: Region | None = None) -> list[Region]:
    """Boxes of a regular grid of chunks, in their order, cut to a region."""
    axes = []
    for dim, size in sizes.items():
        low, high = (0, size) if inside is None else inside[dim]
        step = chunks.get(dim, size) or 1
        cells = [(max(low, s), min(high, s + step)) for s in range(0, size, step)]
        axes.append([cell for cell in cells if cell[0] < cell[1]])
    return [dict(zip(sizes, box, strict=True)) for box in itertools.product(*axes)]


def fit(step: FittedStep, data: xr.Dataset, chunks: Mapping[str, int]) -> xr.Dataset:
    """Fit as the engine does: sums of cells, combined in their order for each tile of the dimensions that stay."""
    cube = outline_of(data)
    within = step.fit_region(cube)
    tiles: dict[tuple[tuple[str, tuple[int, int]], ...], list[xr.Dataset]] = {}
    for cell in spans(data.sizes, chunks, within):
        kept = tuple((d, s) for d, s in cell.items() if d not in step.over)
        tiles.setdefault(kept, []).append(step.partial(block(data, cell), cube))
    fitted = step.fitted_outline(cube)
    values = {name: np.empty(one.shape, one.dtype) for name, one in fitted.data_vars.items()}
    for kept, parts in tiles.items():
        learned = step.finish(step.combine(parts))
        assert set(learned.data_vars) == set(values)
        for name, one in learned.data_vars.items():
            promised = fitted[name]
            assert one.dims == promised.dims and one.dtype == promised.dtype, name
            place = tuple(slice(*dict(kept).get(dim, (0, size))) for dim, size in promised.sizes.items())
            assert values[name][place].shape == one.shape, name
            values[name][place] = one.values
    return fitted.assign({name: (fitted[name].dims, found) for name, found in values.items()})


def run_step(
    step: GridStep,
    data: xr.Dataset,
    region: Region | None = None,
    *,
    others: Mapping[str, xr.Dataset] | None = None,
    fitted: xr.Dataset | None = None,
    chunks: Mapping[str, int] | None = None,
) -> xr.Dataset:
    """Compute a region of a step's output, or all of it, from nothing but what it asks for."""
    others = others or {}
    step = pickle.loads(pickle.dumps(step))
    cube, outlines = outline_of(data), {name: outline_of(other) for name, other in others.items()}
    made = step.outline(cube, outlines)
    region = whole(made) if region is None else region
    assert set(step.others) <= set(others), f"the step reads {step.others}"
    needs = step.needs(dict(region), cube, made)
    if isinstance(step, FittedStep):
        fitted = fit(step, data, chunks or {}) if fitted is None else fitted
        fitted = cut(fitted, needs.fitted)
    blocks = {name: block(others[name], box) for name, box in needs.others.items()}
    given = replace(block(data, needs.region), others=blocks, fitted=fitted)
    result = step.apply(given, region, made)
    assert_fits(result, made, region)
    return result


def assert_fits(result: xr.Dataset, made: xr.Dataset, region: Region) -> None:
    """A computed region has the dimensions, coordinates, dtypes and attributes that the outline promised."""
    promised = made.isel({dim: slice(*span) for dim, span in region.items()})
    assert dict(result.sizes) == dict(promised.sizes)
    assert set(result.data_vars) == set(promised.data_vars)
    assert set(result.coords) == set(promised.coords), set(result.coords) ^ set(promised.coords)
    for name in result.variables:
        got, wanted = result[name], promised[name]
        assert got.dims == wanted.dims, f"{name}: {got.dims}, promised {wanted.dims}"
        assert got.dtype == wanted.dtype, f"{name}: {got.dtype}, promised {wanted.dtype}"
        assert got.attrs == wanted.attrs, f"{name}: {got.attrs}, promised {wanted.attrs}"
    for name in result.coords:
        assert result[name].variable.equals(promised[name].variable), f"coordinate {name}"
    assert result.attrs == promised.attrs


def assert_same_bytes(part: xr.Dataset, full: xr.Dataset, region: Region) -> None:
    """A region that was computed alone has the bytes that it has in the whole."""
    wanted = full.isel({dim: slice(*span) for dim, span in region.items()})
    for name in full.data_vars:
        a, b = np.ascontiguousarray(part[name].values), np.ascontiguousarray(wanted[name].values)
        if a.tobytes() != b.tobytes():
            where = np.flatnonzero((a.reshape(-1) != b.reshape(-1)) & ~((a != a) & (b != b)).reshape(-1))
            raise AssertionError(
                f"{name} in {region}: other bytes, e.g. at {where[:5]}:\n{a}\nin the whole\n{b}"
            )


def partitions(draw: Any, sizes: Mapping[str, int], cuts: int = 3) -> list[Region]:
    """Boxes that cover everything, with random ends along every dimension."""
    axes = []
    for size in sizes.values():
        inner = (
            draw(st.lists(st.integers(1, max(1, size - 1)), max_size=cuts, unique=True)) if size > 1 else []
        )
        ends = [0, *sorted(inner), size]
        axes.append(list(itertools.pairwise(ends)))
    return [dict(zip(sizes, box, strict=True)) for box in itertools.product(*axes)]


def check_step(
    step: GridStep,
    data: xr.Dataset,
    expected: xr.Dataset | None,
    draw: Any,
    *,
    others: Mapping[str, xr.Dataset] | None = None,
    rtol: float = 0.0,
    atol: float = 0.0,
    chunks: Mapping[str, int] | None = None,
) -> xr.Dataset:
    """Check one step on one cube; returns the whole result.

    Parameters
    ----------
    expected
        From plain xarray: values (within ``rtol`` and ``atol``; exactly by default), dimensions and their order,
        dtypes, and the coordinates that it has. None: only the partitions are checked.
    draw
        ``data.draw`` of Hypothesis' ``st.data()``.
    chunks
        Cells of a fit; all in one by default.
    """
    fitted = fit(step, data, chunks or {}) if isinstance(step, FittedStep) else None
    full = run_step(step, data, others=others, fitted=fitted)
    if expected is not None:
        assert_equals_xarray(full, expected, rtol, atol)
    regions = partitions(draw, full.sizes)
    for at in np.random.default_rng(len(regions)).permutation(len(regions))[:AT_MOST]:
        region = regions[at]
        part = run_step(step, data, region, others=others, fitted=fitted)
        assert_same_bytes(part, full, region)
    return full


def assert_equals_xarray(
    result: xr.Dataset, expected: xr.Dataset, rtol: float = 0.0, atol: float = 0.0
) -> None:
    """The same values, dtypes, dimensions and coordinates; `known_at` is ours alone."""
    plain = result.drop_vars(KNOWN_AT, errors="ignore") if KNOWN_AT not in expected.coords else result
    assert set(plain.data_vars) == set(expected.data_vars)
    assert set(plain.coords) == set(expected.coords), set(plain.coords) ^ set(expected.coords)
    for name in expected.coords:
        assert plain[name].variable.equals(expected[name].variable), f"coordinate {name}"
    for name in expected.data_vars:
        got, wanted = plain[name], expected[name]
        assert got.dims == wanted.dims, f"{name}: {got.dims}, plain xarray has {wanted.dims}"
        assert got.dtype == wanted.dtype, f"{name}: {got.dtype}, plain xarray has {wanted.dtype}"
        if rtol == atol == 0.0:
            np.testing.assert_array_equal(got.values, wanted.values, err_msg=str(name))
        else:
            np.testing.assert_allclose(got.values, wanted.values, rtol, atol, err_msg=str(name))
