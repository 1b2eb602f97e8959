"""Small projects with grids: a Zarr source, a spec, and what plain xarray says."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from featureflow.api import Project

SPEC = """
project: climate
sources:
  sst: {path: sst.zarr, format: zarr}
features:
  calm:
    description: A week's mean of what is unusual for the month.
    source: sst
    variables: [sst]
    steps:
      - {select: {time: ["2000-01-11", null], lat: [-45, 45]}}
      - {anomaly: {over: time, by: month, period: ["2000-01-11", "2000-06-30"]}}
      - {rolling: {dim: time, window: 7, op: mean}}
      - {coarsen: {lat: 2, lon: 2, op: mean}}
    chunks: {time: 50, lat: 4, lon: 6}
"""


def sea(days: int) -> xr.Dataset:
    """Daily temperatures on a coarse globe, some of them missing; a longer one begins with the same values."""
    rows = [np.random.default_rng(day).normal(280, 10, (16, 24)).astype("f4") for day in range(days)]
    data = np.stack(rows)
    data[:, 3, 4] = np.nan
    data[5, :, 2] = np.nan
    return xr.Dataset(
        {"sst": (("time", "lat", "lon"), data, {"units": "K", "long_name": "temperature"})},
        {
            "time": pd.date_range("2000-01-01", periods=days, freq="D").as_unit("ns"),
            "lat": ("lat", np.linspace(-75, 75, 16), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(24) * 15.0, {"units": "degrees_east"}),
        },
    )


def write(
    folder: Path, data: xr.Dataset, name: str = "sst.zarr", *, stored: dict[str, int] | None = None
) -> None:
    """Write a dataset as a Zarr store."""
    sizes = stored or {"time": 60, "lat": 8, "lon": 12}
    chunks = tuple(sizes[str(dim)] for dim in data.sst.dims)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Zarr, about consolidated metadata
        data.to_zarr(folder / name, mode="w", encoding={"sst": {"chunks": chunks}}, consolidated=False)


def append(folder: Path, data: xr.Dataset, since: int) -> None:
    """Add the days from ``since`` on to the store that is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.isel(time=slice(since, None)).to_zarr(folder / "sst.zarr", append_dim="time", consolidated=False)


def project(folder: Path, spec: str = SPEC, **where: Any) -> Project:
    """A project in a folder, with its store there."""
    (folder / "featureflow.yaml").write_text(spec)
    given = {"scheduler": "threads", "workers": 2, **where}
    return Project(
        folder / "featureflow.yaml", store=str(folder / "store"), scratch=folder / "scratch", **given
    )


def expected(data: xr.Dataset) -> xr.Dataset:
    """What `SPEC` means, said with xarray."""
    chosen = data.sel(time=slice("2000-01-11", None), lat=slice(-45, 45))
    normal = chosen.sel(time=slice(None, "2000-06-30")).astype("f8").groupby("time.month").mean()
    unusual = (chosen.astype("f8").groupby("time.month") - normal).astype("f4").drop_vars("month")
    return unusual.rolling(time=7).mean().coarsen(lat=2, lon=2).mean()


def digests(table: Any) -> dict[tuple[str, tuple[int, ...]], str]:
    """Digest of every chunk."""
    rows = table.to_polars().to_dicts()
    return {(row["variable"], tuple(row["chunk"])): row["digest"] for row in rows}


def stored(table: Any) -> xr.Dataset:
    """Values of a version, in memory."""
    found: xr.Dataset = table.to_xarray().load()
    return found
