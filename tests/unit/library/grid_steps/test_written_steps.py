"""Steps as people write them: read by the spec, made by the library, equal to plain xarray."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from oracle.grid_conformance import assert_same_bytes, run_step

from featureflow.contracts.cube import whole
from featureflow.library.grid_steps.registry import STEPS, make_step
from featureflow.spec.grid_steps import read_step
from featureflow.spec.grid_table import GRID_STEPS

RNG = np.random.default_rng(3)
KELVIN = np.where(RNG.random((20, 5, 4)) < 0.3, np.nan, RNG.normal(280, 10, (20, 5, 4))).astype("f4")
CUBE = xr.Dataset(
    {"sst": (("time", "lat", "lon"), KELVIN, {"units": "K"})},
    {
        "time": pd.date_range("2000-01-20", periods=20),
        "lat": [60.0, 30.0, 0.0, -30.0, -60.0],
        "lon": [0.0, 90.0, 180.0, 270.0],
    },
)
LAND = xr.Dataset({"mask": (("lat", "lon"), RNG.integers(0, 2, (5, 4)))}, {"lat": CUBE.lat, "lon": CUBE.lon})
LATER = CUBE.assign_coords(time=CUBE.time + np.timedelta64(20, "D"))


def filled(limit: int) -> xr.Dataset:
    """The last value before, by pandas."""
    columns = CUBE.sst.values.reshape(20, 20)
    return CUBE.assign(
        sst=CUBE.sst.copy(data=pd.DataFrame(columns).ffill(limit=limit).values.reshape(20, 5, 4))
    )


def lines_from_north_to_south() -> xr.Dataset:
    """xarray's own lines want a coordinate that rises."""
    return CUBE.astype("f8").sortby("lat").interpolate_na("lat").sortby("lat", ascending=False).astype("f4")


def slopes() -> xr.Dataset:
    """Latitudes are evenly spaced, so both neighbours are enough."""
    return CUBE.astype("f8").differentiate("lat").astype("f4")


#: as written, and the same in plain xarray; None: compared elsewhere
WRITTEN = [
    (
        {"select": {"time": ["2000-01-25", "2000-01"], "lat": [-30, 60]}},
        CUBE.sel(time=slice("2000-01-25", "2000-01"), lat=slice(60, -30)),
    ),
    ({"select": {"lat": 30.0}}, CUBE.sel(lat=30.0)),
    ({"isel": {"lat": -1, "time": [0, 10]}}, CUBE.isel(lat=-1, time=slice(0, 10))),
    ({"where": "sst > 280 AND lat >= 0"}, CUBE.where((CUBE.sst > 280) & (CUBE.lat >= 0))),
    ({"derive": {"celsius": "sst - 273.15"}}, CUBE.assign(celsius=CUBE.sst - np.float32(273.15))),
    ({"cast": "float64"}, CUBE.astype("f8")),
    ({"fill": 0}, CUBE.fillna(0)),
    ({"fill": {"method": "ffill", "dim": "time", "limit": 2}}, filled(2)),
    ({"fill": {"method": "linear", "dim": "lat"}}, lines_from_north_to_south()),
    ({"fill": {"method": "linear", "dim": "time", "limit": 1}}, None),
    ({"mask": {"source": "land"}}, CUBE.where(LAND["mask"] != 0)),
    ({"mask": {"source": "land", "keep": [0]}}, CUBE.where(LAND["mask"] == 0)),
    ({"reduce": {"dims": "time", "op": "max"}}, CUBE.max("time")),
    ({"percentile": {"dims": ["time"], "q": [5, 95]}}, CUBE.quantile([0.05, 0.95], "time").astype("f4")),
    ({"percentile": {"dims": "time", "q": 50}}, CUBE.quantile(0.5, "time").astype("f4")),
    ({"groupby": {"dim": "time", "by": "month", "op": "min"}}, CUBE.groupby("time.month").min()),
    ({"cumulative": {"dim": "time", "op": "max"}}, CUBE.rolling(time=20, min_periods=1).max()),
    ({"lag": {"dim": "time", "n": 1}}, CUBE.shift(time=1)),
    ({"lag": {"dim": "time", "n": [1, 7]}}, CUBE.assign({f"sst_lag{n}": CUBE.sst.shift(time=n) for n in (1, 7)})),
    ({"diff": {"dim": "time"}}, CUBE.diff("time")),
    ({"gradient": {"dim": "lat"}}, slopes()),
    ({"concat": {"source": ["later"], "dim": "time"}}, xr.concat([CUBE, LATER], "time")),
    ({"mask": {"source": "land", "keep": "mask = 0"}}, CUBE.where(LAND["mask"] == 0)),
    ({"merge": {"source": "land"}}, CUBE.assign(mask=LAND["mask"])),
]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "expected"), WRITTEN, ids=lambda x: str(x) if isinstance(x, dict) else ""
)
def test_written_steps_equal_plain_xarray(written, expected):
    others = {name: cube for name, cube in (("land", LAND), ("later", LATER)) if name in str(written)}
    step = make_step(*read_step(written))
    result = run_step(step, CUBE, others=others)
    for dim, size in result.sizes.items():  # one label at a time: every seam that there can be
        for at in range(size):
            region = {**whole(result), dim: (at, at + 1)}
            assert_same_bytes(run_step(step, CUBE, region, others=others), result, region)
    if expected is None:
        return
    xr.testing.assert_allclose(result.drop_vars("known_at", errors="ignore"), expected, rtol=2e-6)
    assert {n: v.dtype for n, v in result.data_vars.items()} == {
        n: v.dtype for n, v in expected.data_vars.items()
    }


def test_the_spec_and_the_library_know_the_same_steps():
    assert set(STEPS) <= set(GRID_STEPS)
    tested = {next(iter(written)) for written, _ in WRITTEN}
    mine = {"selection", "formulas", "values", "filling", "masking", "reductions", "grouping"}
    mine |= {"cumulative", "shifting", "gradients", "combining", "merging", "differences"}
    assert {name for name, (module, _) in STEPS.items() if module in mine} == tested
