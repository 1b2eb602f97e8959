"""A grid of zones is an ordinary table: a row for each zone and time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import xarray as xr
from integration.grid_projects import append, project, sea, write

SPEC = """
project: climate
sources:
  sst: {path: sst.zarr, format: zarr}
features:
  belts:
    source: sst
    steps:
      - select: {time: ["2000-01-03", null]}
      - zonal:
          polygons:
            north: [[-1, 0], [350, 0], [350, 90], [-1, 90]]
            south: [[-1, -90], [350, -90], [350, 0], [-1, 0]]
          x: lon
          y: lat
          ops: [mean, count]
    chunks: {time: 25}
"""


def rows(data: xr.Dataset) -> pl.DataFrame:
    """What the spec means, said with xarray and Polars."""
    chosen = data.sst.sel(time=slice("2000-01-03", None)).astype("f8")
    found = []
    for zone, part in (("north", chosen.where(chosen.lat > 0)), ("south", chosen.where(chosen.lat < 0))):
        found.append(
            pl.DataFrame(
                {
                    "zone": [zone] * chosen.sizes["time"],
                    "time": chosen.time.values,
                    "mean": part.mean(("lat", "lon")).values,
                    "count": part.count(("lat", "lon")).values,
                }
            )
        )
    return pl.concat(found)


def check(found: pl.DataFrame, data: xr.Dataset) -> None:
    want = rows(data)
    assert found["zone"].to_list() == want["zone"].to_list()
    np.testing.assert_array_equal(
        found["time"].dt.replace_time_zone(None).to_numpy().astype("M8[us]"),
        want["time"].to_numpy().astype("M8[us]"),
    )
    np.testing.assert_allclose(found["sst_mean"].to_numpy(), want["mean"].to_numpy(), rtol=1e-6)
    np.testing.assert_array_equal(found["sst_count"].to_numpy(), want["count"].to_numpy())


def test_zones_are_rows_and_grow_by_what_is_new(tmp_path: Path) -> None:
    write(tmp_path, sea(60), stored={"time": 20, "lat": 8, "lon": 12})
    made = project(tmp_path, SPEC)
    made.build()
    table = made.table("belts")
    assert (table.keys, table.time, table.rows) == (["zone"], "time", 116)
    check(table.to_polars(), sea(60))
    assert made.build().status == "nothing to do"
    append(tmp_path, sea(100), 60)
    plan = made.plan().grids[0].plan
    assert (plan.change, sorted(plan.missing)) == ("new data", [(0, 2), (0, 3)])
    made.build()
    check(made.table("belts").to_polars(), sea(100))
    grown = made.table("belts").to_polars()
    made.build(full=True)
    assert made.table("belts").to_polars().equals(grown)
    assert made.table("belts@1").rows == 116
