"""Every step that the language documents goes through a build and comes back as plain xarray has it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

import featureflow as ff
from featureflow.spec.grid_steps import GRID_STEPS

#: forty grids are built, read back and compared
pytestmark = pytest.mark.slow
Make = Callable[[xr.Dataset], xr.Dataset]


def cube() -> xr.Dataset:
    chance = np.random.default_rng(5)
    a = chance.normal(10, 3, (60, 6, 8)).astype(np.float32)
    a[chance.random(a.shape) < 0.1] = np.nan
    return xr.Dataset(
        {"a": (("time", "lat", "lon"), a), "b": (("time", "lat", "lon"), chance.integers(0, 99, a.shape))},
        coords={
            "time": np.datetime64("2000-01-20", "ns") + np.arange(60) * np.timedelta64(12, "h"),
            "lat": [10.0, 11, 12, 13, 14, 15],
            "lon": np.arange(8.0),
        },
    )


CUBE = cube()
LAND = xr.Dataset(
    {"kind": (("lat", "lon"), (np.arange(48).reshape(6, 8) % 3).astype(np.int8))},
    coords={"lat": CUBE.lat, "lon": CUBE.lon},
)
LATER = CUBE.assign_coords(time=CUBE.time + np.timedelta64(30, "D"))
ALL = "period: all"
IN_FEBRUARY = {"time": slice("2000-02-01", "2000-02-10")}


def minus_climatology(given: xr.Dataset, by: str, fitted: xr.Dataset) -> xr.Dataset:
    return given.groupby(f"time.{by}") - fitted.groupby(f"time.{by}").mean()


def minmax(given: xr.Dataset, low: xr.Dataset | float, high: xr.Dataset | float) -> xr.Dataset:
    return (given - low) / (high - low)


#: a step, and the same in plain xarray; in doubles, for those of the engine are at least as exact as float32
STEPS: dict[str, tuple[str, Make]] = {
    "select_range": (
        "select: {time: [2000-01-25, 2000-02], lat: [11, 13]}",
        lambda d: d.sel(time=slice("2000-01-25", "2000-02"), lat=slice(11, 13)),
    ),
    "select_one": ("select: {lat: 12}", lambda d: d.sel(lat=12)),
    "select_some": ("select: {lat: [10, 15, 12], variables: a}", lambda d: d[["a"]].sel(lat=[10, 15, 12])),
    "select_near": (
        "select: {lat: {value: 12.4, method: nearest}}",
        lambda d: d.sel(lat=12.4, method="nearest"),
    ),
    "isel_range": ("isel: {time: [5, -5], lon: -1}", lambda d: d.isel(time=slice(5, -5), lon=-1)),
    "isel_steps": (
        "isel: {time: {start: 1, step: 3}, lon: [7, 0, 3]}",
        lambda d: d.isel(time=slice(1, None, 3), lon=[7, 0, 3]),
    ),
    "where": ('where: "a > 9 and b < 50"', lambda d: d.where((d.a > 9) & (d.b < 50))),
    "derive": (
        'derive: {c: "a * 2 + b", d: "c - 1"}',
        lambda d: d.assign(c=d.a * 2 + d.b, d=d.a * 2 + d.b - 1),
    ),
    "cast": ("cast: {b: float32}", lambda d: d.assign(b=d.b.astype("float32"))),
    "fill_value": ("fill: {a: -1}", lambda d: d.fillna({"a": -1})),
    "fill_last": (
        "fill: {method: ffill, dim: time, limit: 1}",
        lambda d: d.where(d.notnull(), d.shift(time=1)),
    ),
    "fill_line": (
        "fill: {method: linear, dim: lon, variables: a}",
        lambda d: d.assign(a=d.a.interpolate_na("lon")),
    ),
    "mask": ("mask: {source: land, keep: [1, 2]}", lambda d: d.where(LAND.kind.isin([1, 2]))),
    "mask_sql": (
        'mask: {source: land, variable: kind, keep: "kind < 1", variables: [a]}',
        lambda d: d.assign(a=d.a.where(LAND.kind < 1)),
    ),
    "resample_days": ("resample: {time: 1D, op: mean}", lambda d: d.resample(time="1D").mean()),
    "resample_months": ("resample: {dim: time, every: MS, op: max}", lambda d: d.resample(time="MS").max()),
    "rolling": (
        "rolling: {dim: time, window: 5, op: mean, min_periods: 3}",
        lambda d: d.rolling(time=5, min_periods=3).mean(),
    ),
    "rolling_center": (
        "rolling: {dim: lat, window: 3, op: max, center: true}",
        lambda d: d.rolling(lat=3, center=True).max(),
    ),
    "coarsen": ("coarsen: {lat: 2, lon: 4, op: mean}", lambda d: d.coarsen(lat=2, lon=4).mean()),
    "coarsen_trim": (
        "coarsen: {time: 7, op: sum, boundary: trim}",
        lambda d: d.coarsen(time=7, boundary="trim").sum(),
    ),
    "anomaly": (f"anomaly: {{over: time, by: month, {ALL}}}", lambda d: minus_climatology(d, "month", d)),
    "anomaly_hours": (
        "anomaly: {over: time, by: hour, period: [2000-02-01, 2000-02-10], variables: a}",
        lambda d: d.assign(a=minus_climatology(d[["a"]], "hour", d[["a"]].sel(IN_FEBRUARY)).a),
    ),
    "normalize": (
        "normalize: {dims: [time], period: [2000-02-01, 2000-02-10], variables: a}",
        lambda d: d.assign(a=minmax(d.a, d.a.sel(IN_FEBRUARY).min("time"), d.a.sel(IN_FEBRUARY).max("time"))),
    ),
    "normalize_to": ("normalize: {min: 0, max: 20, to: [-1, 1]}", lambda d: minmax(d, 0, 20) * 2 - 1),
    "standardize": (
        f"standardize: {{ddof: 1, {ALL}, variables: [a]}}",
        lambda d: d.assign(a=(d.a - d.a.mean()) / d.a.std(ddof=1)),
    ),
    "clip": ("clip: {a: [8, 12]}", lambda d: d.assign(a=d.a.clip(8, 12))),
    "clip_shares": (
        f"clip: {{quantiles: [0.1, 0.9], dims: [time], {ALL}, variables: a}}",
        lambda d: d.assign(a=d.a.clip(*(d.a.quantile(q, "time").drop_vars("quantile") for q in (0.1, 0.9)))),
    ),
    "percentile": ("percentile: {dims: [time], q: [5, 50]}", lambda d: d.quantile([0.05, 0.5], "time")),
    "gradient": (
        "gradient: {dim: time, unit: h, variables: a}",
        lambda d: d.assign(a=d.a.differentiate("time", datetime_unit="h")),
    ),
    "diff": ("diff: {dim: time, n: 2}", lambda d: d.diff("time", n=2)),
    "lag": (
        "lag: {dim: time, n: [1, 3], variables: a}",
        lambda d: d.assign(a_lag1=d.a.shift(time=1), a_lag3=d.a.shift(time=3)),
    ),
    "cumulative": (
        "cumulative: {dim: time, op: sum, variables: a}",
        lambda d: d.assign(a=d.a.cumsum("time")),
    ),
    "reduce": ("reduce: {dims: [lat, lon], op: mean}", lambda d: d.mean(["lat", "lon"])),
    "reduce_all": ("reduce: {op: max}", lambda d: d.max()),
    "groupby": ("groupby: {dim: time, by: month, op: mean}", lambda d: d.groupby("time.month").mean()),
    "regrid": (
        "regrid: {to: {lat: [10.5, 12.25], lon: {start: 1, stop: 2, step: 0.5}}}",
        lambda d: d.interp(lat=[10.5, 12.25], lon=[1, 1.5, 2]),
    ),
    "concat": ("concat: {source: later, dim: time}", lambda d: xr.concat([d, LATER], "time")),
    "merge": ("merge: {source: land, prefix: its_}", lambda d: d.assign(its_kind=LAND.kind)),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> ff.Project:
    folder = tmp_path_factory.mktemp("grids")
    CUBE.to_netcdf(folder / "cube.nc")
    LAND.to_netcdf(folder / "land.nc")
    LATER.to_netcdf(folder / "later.nc")
    grids = "\n".join(f"  {name}: {{source: cube, steps: [{{{step}}}]}}" for name, (step, _) in STEPS.items())
    (folder / "featureflow.yaml").write_text(
        f"sources: {{cube: {{path: cube.nc}}, land: {{path: land.nc}}, later: {{path: later.nc}}}}\n"
        f"features:\n{grids}\n"
        "  zones: {source: cube, steps: [{zonal: {labels: land.kind, ops: [mean, count], variables: a}}]}\n"
    )
    project = ff.Project(
        folder / "featureflow.yaml",
        store=str(folder / "store"),
        scheduler="threads",
        workers=1,
        scratch=str(folder / "scratch"),
    )
    project.build()
    return project


def test_every_step_is_here() -> None:
    assert {step.split(":")[0] for step, _ in STEPS.values()} | {"zonal"} == set(GRID_STEPS)


@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_is_what_xarray_has(built: ff.Project, name: str) -> None:
    found = built.table(name).to_xarray()
    exact = CUBE.assign(a=CUBE.a.astype("float64"))
    expected = STEPS[name][1](exact)
    assert set(found.data_vars) == set(expected.data_vars)
    for variable, array in expected.data_vars.items():
        mine = found[variable]
        assert set(mine.dims) == set(array.dims), variable
        np.testing.assert_allclose(
            mine.transpose(*array.dims).values.astype("float64"), array.values, rtol=2e-5, atol=2e-5
        )
        for dim in array.dims:
            if dim in expected.coords:
                np.testing.assert_array_equal(found[dim], expected[dim])


def test_zones(built: ff.Project) -> None:
    found = built.table("zones").to_xarray()
    assert set(found.data_vars) == {"a_mean", "a_count"}
    exact = CUBE.a.astype("float64")
    for zone in (0, 1, 2):
        cells = exact.where(LAND.kind == zone)
        np.testing.assert_allclose(found.a_mean.sel(zone=zone), cells.mean(["lat", "lon"]), rtol=1e-5)
        np.testing.assert_array_equal(found.a_count.sel(zone=zone), cells.count(["lat", "lon"]))
    assert found.to_dataframe().shape == (3 * 60, 2)
