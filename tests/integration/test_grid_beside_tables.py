"""A project with a table, a grid, a look-up and patches: what the plan says is done, and a profile tells them apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import xarray as xr

import featureflow as ff
from featureflow.observe.grid_advice import BOXES

SPEC = """
featureflow: 1
project: mixed
store: "STORE"
sources:
  sst: {path: "sst.zarr"}
  ships: {path: "ships.parquet", time: t}
features:
  warmth:
    source: sst
    steps:
      - {select: {time: ["2000-01-01", "2000-02-29"], lat: [-60, 60]}}
      - {anomaly: {over: time, by: month}}
      - {rolling: {dim: time, window: 5, op: mean}}
      - {coarsen: {lat: 2, lon: 2, op: mean}}
      - {normalize: {dims: [time]}}
    chunks: {time: 20, lat: 64, lon: 64}
  speed: {source: ships, keys: [ship], aggregate: [{column: v, ops: [sum], windows: [3d]}], partition: none}
datasets:
  rows:
    spine: {source: ships, keys: [ship], time: t}
    lookup: [{from: warmth, at: {lat: latitude, lon: longitude}, method: nearest, ttl: 40d}]
  patches: {spine: {grid: warmth, patch: {time: 4, lat: 2, lon: 2}, stride: {time: 4, lat: 1, lon: 1}}}
"""


def made(folder: Path) -> tuple[ff.Project, xr.Dataset]:
    rng = np.random.default_rng(4)
    days = np.datetime64("2000-01-01", "ns") + np.arange(60) * np.timedelta64(1, "D")
    values = rng.normal(285, 4, (60, 8, 6)).astype("float32")
    values[rng.random(values.shape) < 0.02] = np.nan
    coords = {"time": days, "lat": np.linspace(-70, 70, 8), "lon": np.arange(6) * 10.0}
    sst = xr.Dataset({"sst": (("time", "lat", "lon"), values, {"units": "K"})}, coords)
    sst.to_zarr(folder / "sst.zarr", consolidated=False, encoding={"sst": {"chunks": (10, 4, 3)}})
    pl.DataFrame({
        "ship": rng.integers(0, 3, 40),
        "t": days[rng.integers(0, 60, 40)] + np.timedelta64(6, "h"),
        "v": rng.integers(0, 9, 40),
        "latitude": rng.uniform(-75, 75, 40),
        "longitude": rng.uniform(-4, 60, 40),
    }).with_columns(pl.col("t").dt.replace_time_zone("UTC")).write_parquet(folder / "ships.parquet")  # fmt: skip
    spec = folder / "featureflow.yaml"
    spec.write_text(SPEC.replace("STORE", str(folder / "store")))
    return ff.Project(str(spec), scheduler="threads"), sst


def by_hand(sst: xr.Dataset) -> xr.DataArray:
    """The steps in plain xarray."""
    values = sst.sst.sel(lat=slice(-60, 60)).astype("float64")
    months = values.groupby("time.month")
    anomaly = (months - months.mean("time")).drop_vars("month")
    found = anomaly.rolling(time=5).mean().coarsen(lat=2, lon=2).mean()
    return (found - found.min("time")) / (found.max("time") - found.min("time"))


def test_the_chain_of_the_language_beside_tables(tmp_path: Path) -> None:
    project, sst = made(tmp_path)
    planned = {entry.name: entry.plan.estimate["tasks"] for entry in project.plan().datasets}
    report = project.build()
    expected = by_hand(sst)
    found = project.table("warmth").to_xarray().sst.load()
    assert found.dtype == np.float32 and found.attrs["units"] == "1"
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    rows = project.dataset("rows").to_polars()
    times = rows["t"].dt.replace_time_zone(None).to_numpy()
    step = np.searchsorted(found.time.values, times, side="right") - 1
    near = found.sel(
        lat=xr.DataArray(rows["latitude"].to_numpy(), dims="row"),
        lon=xr.DataArray(rows["longitude"].to_numpy(), dims="row"),
        method="nearest",
    ).isel(time=xr.DataArray(step, dims="row"))
    edge = {dim: (found[dim][1] - found[dim][0]).item() / 2 for dim in ("lat", "lon")}
    inside = rows["latitude"].is_between(
        found.lat[0].item() - edge["lat"], found.lat[-1].item() + edge["lat"]
    )
    inside &= rows["longitude"].is_between(
        found.lon[0].item() - edge["lon"], found.lon[-1].item() + edge["lon"]
    )
    np.testing.assert_array_equal(rows["sst"].to_numpy(), np.where(inside, near, np.float32(np.nan)))
    assert 0 < rows["sst"].is_not_null().sum() < len(rows)

    patches = (
        project.dataset("patches")
        .to_arrow(columns=["time_index", "lat_index", "lon_index", "sst"])
        .to_pylist()
    )
    assert len(patches) == 15 * 2 * 2
    for each in patches:
        place = tuple(
            slice(each[f"{dim}_index"], each[f"{dim}_index"] + n)
            for dim, n in (("time", 4), ("lat", 2), ("lon", 2))
        )
        np.testing.assert_array_equal(np.array(each["sst"], "float32").reshape(4, 2, 2), found.values[place])

    done: dict[str, int] = {}
    for stage in report.stages:
        table = stage.name.partition(":")[0]
        done[table] = done.get(table, 0) + stage.tasks
    assert abs(planned["patches"] - done["patches"]) <= 1, "the index is made in a task without a stage"
    profile = json.loads(next((tmp_path / "store" / "runs").glob("*/profile.json")).read_text())
    of_grids = {stage["name"] for stage in profile["stages"] if stage.get("counts", {}).get(BOXES)}
    assert {name.partition(":")[0] for name in of_grids} == {"warmth"}
    again = project.build()
    assert again.status == "nothing to do"
