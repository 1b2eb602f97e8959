"""A cube with two dimensions of times: the one that the source names is that of look-ups and patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xarray as xr

import featureflow as ff
from featureflow.core.errors import SpecError
from featureflow.plan.grid_chunks import choose_chunks

SPEC = """
featureflow: 1
project: forecasts
store: store
sources:
  rain: {{path: rain.nc{time}}}
  towns: {{path: towns.parquet, time: t}}
features:
  drizzle: {{source: rain, steps: [{{clip: {{rain: [0, 1000]}}}}]}}
  lower: {{source: drizzle}}
datasets:
  at_towns:
    spine: {{source: towns, keys: [town]}}
    lookup: [{{from: lower, at: {{valid: about}}}}]
  boxes:
    spine: {{grid: lower, patch: {{issued: 2, valid: 2}}}}
"""


@pytest.fixture
def forecasts(tmp_path):
    days = np.datetime64("2024-01-01", "ns") + np.arange(6) * np.timedelta64(1, "D")
    data = np.arange(24.0).reshape(4, 6)
    xr.Dataset({"rain": (("valid", "issued"), data)}, {"valid": days[:4], "issued": days}).to_netcdf(
        tmp_path / "rain.nc"
    )
    pl.DataFrame(
        {
            "town": [1, 2],
            "t": ["2024-01-03T12:00", "2024-01-05T00:00"],
            "about": ["2024-01-02T00:00", "2024-01-04T00:00"],
        }
    ).with_columns(pl.col("t", "about").str.to_datetime("%Y-%m-%dT%H:%M", time_zone="UTC")).write_parquet(
        tmp_path / "towns.parquet"
    )
    return tmp_path, data


def _project(folder: Path, time: str) -> ff.Project:
    (folder / "ff.yaml").write_text(SPEC.format(time=time))
    return ff.Project(folder / "ff.yaml", store=str(folder / "store"), scheduler="threads")


def test_look_ups_and_patches_go_by_the_time_that_the_source_names(forecasts):
    folder, data = forecasts
    project = _project(folder, ", time: issued")
    project.build()
    rows = ff.open(folder / "store").dataset("at_towns").to_polars().sort("town")
    assert rows["rain"].to_list() == [
        data[1, 2],
        data[3, 4],
    ]  # issued before the row's time, about the day asked for
    boxes = ff.open(folder / "store").dataset("boxes").to_polars()
    known = boxes.select("issued_index", day=pl.col("issued").dt.day())
    assert known.rows() == [(0, 2), (2, 4), (4, 6)] * 2  # the last of its steps


def test_two_dimensions_of_times_and_no_name_are_a_mistake(forecasts):
    folder, _ = forecasts
    with pytest.raises(SpecError, match="say where the rows are on issued"):
        _project(folder, "").compile_datasets()


def test_chunks_grow_along_the_time_that_the_source_names():
    days = np.datetime64("2024-01-01", "ns") + np.arange(4000) * np.timedelta64(1, "D")
    empty = np.broadcast_to(np.float32(0), (4000, 4000))
    outline = xr.Dataset({"rain": (("valid", "issued"), empty)}, {"valid": days, "issued": days})
    near = {"valid": 1000, "issued": 1000}
    assert choose_chunks(outline, {}, near) == {"valid": 4000, "issued": 1000}
    assert choose_chunks(outline, {}, near, time="issued") == {"valid": 1000, "issued": 4000}
