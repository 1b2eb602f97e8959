"""Mistakes in sources of N-d data are told when a spec is compiled, where the spec says it."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import xarray as xr

import featureflow
from featureflow.core.errors import CubeMistake, SourceError, SpecError

SPEC = """
featureflow: 1
project: sea
sources:
  weather:
    path: "{path}"
    format: netcdf
    {more}
features:
  mean:
    source: weather
    steps: [{{reduce: {{dims: [lon], op: mean}}}}]
"""


def problems(folder, more: str = "time: time", path: str = "*.nc") -> list[str]:
    (folder / "featureflow.yaml").write_text(SPEC.format(more=more, path=path))
    with pytest.raises(SpecError) as raised:
        featureflow.Project(str(folder / "featureflow.yaml"), store=str(folder / "store")).compile_grids()
    return str(raised.value).splitlines()


def test_places_in_the_spec(tmp_path, weather):
    weather.to_netcdf(tmp_path / "a.nc")
    [said] = problems(tmp_path, "chunks: {day: 3}")
    assert re.search(
        r"featureflow\.yaml:8:\d+: sources\.weather\.chunks\.day: .*the dimensions are time, lat", said
    )
    [said] = problems(tmp_path, "time: day")
    assert re.search(r"featureflow\.yaml:8:\d+: sources\.weather\.time: .*has no dimension 'day'", said)
    [said] = problems(tmp_path, "time: lat")
    assert "'lat' has values of type float64, and times are needed" in said


def test_a_coordinate_that_is_not_sorted(tmp_path, weather):
    lon = weather["lon"].values.copy()
    lon[[2, 3]] = lon[[3, 2]]
    weather.assign_coords(lon=lon).to_netcdf(tmp_path / "a.nc")
    [said] = problems(tmp_path)
    assert re.search(
        r"featureflow\.yaml:\d+:\d+: sources\.weather: .*a\.nc: coordinate 'lon' is not sorted: 3\.0", said
    )
    assert "at position 2 is followed by 2.0" in said


def test_files_that_do_not_fit(tmp_path, weather):
    weather.isel(time=slice(0, 5)).to_netcdf(tmp_path / "a.nc")
    weather.isel(time=slice(4, 10)).to_netcdf(tmp_path / "b.nc")
    [said] = problems(tmp_path)
    assert re.search(
        r"featureflow\.yaml:6:\d+: sources\.weather\.path: .*a\.nc and .*b\.nc: overlap along 'time'", said
    )


def test_nothing_there_is_no_mistake_of_the_spec(tmp_path):
    (tmp_path / "featureflow.yaml").write_text(SPEC.format(more="time: time", path="none.nc"))
    project = featureflow.Project(str(tmp_path / "featureflow.yaml"), store=str(tmp_path / "store"))
    with pytest.raises(SourceError, match=r"'weather': .*none\.nc: no file is there"):
        project.compile_grids()


def test_mistakes_travel():
    mistake = pickle.loads(pickle.dumps(CubeMistake(("chunks", "day"), "what to do")))
    assert (mistake.place, str(mistake)) == (("chunks", "day"), "what to do")
    assert isinstance(mistake, SourceError)


def test_a_time_axis_of_another_calendar_is_one(tmp_path, opened, weather):
    weather.drop_vars("time").assign_coords(
        time=("time", np.arange(10), {"units": "days since 2000-02-26", "calendar": "noleap"})
    ).to_netcdf(tmp_path / "a.nc")
    assert opened("a.nc", time="time").outline["time"].dtype == object


def test_an_empty_dimension(tmp_path, opened, weather):
    weather.isel(time=slice(0, 0)).to_netcdf(tmp_path / "a.nc")
    cube = opened("a.nc", time="time")
    assert cube.outline.sizes["time"] == 0
    assert cube.chunks["time"] == ()
    xr.testing.assert_equal(cube.read({}, ["sst"]), weather[["sst"]].isel(time=slice(0, 0)))
