"""Several files as one cube: their order, what must fit, the names of pieces."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow.core.errors import SourceError
from featureflow.library.cubes.registry import open_cube
from featureflow.spec.sources import Source


@settings(max_examples=15)
@given(
    cuts=st.lists(st.integers(1, 9), max_size=3, unique=True),
    names=st.permutations("abcde"),
    falls=st.booleans(),
    data=st.data(),
)
def test_files_in_any_order_are_the_whole(tmp_path_factory, cuts, names, falls, data):
    folder = tmp_path_factory.mktemp("parts")
    values = np.random.default_rng(1).normal(size=(3, 10)).astype("f4")
    x = np.arange(10.0)[::-1] if falls else np.arange(10.0)
    # at most four files of ten places: one of them shows in which direction the coordinate runs
    whole = xr.Dataset(
        {"v": (("y", "x"), values), "c": ("y", np.int32([1, 2, 3]))},
        coords={"x": x, "y": np.int32([0, 1, 2])},
    )
    ends = [0, *sorted(cuts), 10]
    for name, low, high in zip(names, ends[:-1], ends[1:], strict=False):
        whole.isel(x=slice(low, high)).to_netcdf(folder / f"{name}.nc", engine="scipy")
    cube = open_cube("weather", Source.model_validate({"path": "*.nc"}), str(folder))
    low = data.draw(st.integers(0, 9))
    region = {"x": (low, data.draw(st.integers(low + 1, 10))), "y": (1, 3)}
    expected = whole.isel({dim: slice(*span) for dim, span in region.items()})
    xr.testing.assert_identical(cube.read(region, ["v", "c"]), expected)
    found = [piece.region.get("x", (0, 10)) for piece in cube.pieces(["v"])]
    assert found == list(itertools.pairwise(ends))


def split(weather: xr.Dataset, folder, *ends: int) -> None:
    for i, (low, high) in enumerate(zip((0, *ends), (*ends, 10), strict=True)):
        weather.isel(time=slice(low, high)).to_netcdf(folder / f"p{i}.nc")


def test_new_files_change_no_names(tmp_path, opened, weather):
    split(weather.isel(time=slice(0, 7)), tmp_path, 3)
    before = [piece.id for piece in opened("*.nc").pieces(["sst"])]
    (tmp_path / "more").mkdir()
    split(weather, tmp_path / "more", 7)
    os.rename(tmp_path / "more/p1.nc", tmp_path / "p9.nc")
    cube = opened("*.nc")
    after = [piece.id for piece in cube.pieces(["sst"])]
    assert after[:2] == before
    assert len(after) == 3
    assert [piece.region for piece in cube.pieces(["sst"])] == [
        {"time": (0, 3)},
        {"time": (3, 7)},
        {"time": (7, 10)},
    ]
    assert cube.pieces()[0].region == {}, "land is read from it, at any time"
    assert [piece.id for piece in cube.pieces(["land"])] == before[:1]


def test_stores_follow_one_another_too(tmp_path, opened, weather):
    for i, cut in enumerate([slice(0, 4), slice(4, 10)]):
        weather.isel(time=cut).to_zarr(
            tmp_path / f"{i}.zarr", zarr_format=3, consolidated=False, encoding={"sst": {"chunks": (3, 6, 8)}}
        )
    cube = opened(["1.zarr", "0.zarr"], format="zarr")
    assert cube.chunks["time"] == (3, 1, 3, 3)
    xr.testing.assert_identical(cube.read({}, ["sst", "land"]).drop_encoding(), weather)
    assert [piece.region["time"] for piece in cube.pieces(["sst"])] == [(0, 3), (3, 4), (4, 7), (7, 10)]
    [land] = cube.pieces(["land"])
    assert "time" not in land.region


def test_files_with_a_scale_each(tmp_path, opened, weather):
    for i, (cut, scale) in enumerate([(slice(0, 4), 0.01), (slice(4, 10), 0.02)]):
        packing = {"dtype": "i2", "scale_factor": scale, "add_offset": 280.0, "_FillValue": -32768}
        weather[["sst"]].isel(time=cut).to_netcdf(tmp_path / f"{i}.nc", encoding={"sst": packing})
    parts = [xr.open_dataset(tmp_path / f"{i}.nc").load() for i in (0, 1)]
    got = opened("*.nc").read({"time": (2, 6)}, ["sst"])["sst"]
    expected = xr.concat([part["sst"] for part in parts], "time").isel(time=slice(2, 6))
    xr.testing.assert_equal(got, expected)
    assert got.attrs == expected.attrs


def test_days_counted_from_different_days(tmp_path, opened, weather):
    for i, cut in enumerate([slice(0, 4), slice(4, 10)]):
        part = weather.isel(time=cut)
        part.to_netcdf(tmp_path / f"{i}.nc", encoding={"time": {"units": f"hours since 200{i}-01-01"}})
    xr.testing.assert_equal(opened("*.nc").outline["time"], weather["time"])


def test_files_without_the_dimension_are_stacked(tmp_path, opened, weather):
    for i in (0, 1, 2, 10):
        weather.isel(time=i % 10, drop=True).assign_attrs(n=i).to_netcdf(tmp_path / f"day{i}.nc")
    with pytest.raises(SourceError, match=r"day0\.nc and .*day1\.nc: no coordinate differs .* by `concat:`"):
        opened("*.nc")
    cube = opened("*.nc", concat="day")
    assert dict(cube.outline.sizes) == {"day": 4, "lat": 6, "lon": 8}
    assert "day" not in cube.outline.coords
    got = cube.read({"day": (1, 3), "lat": (0, 2)}, ["sst"])["sst"]
    np.testing.assert_array_equal(got, weather["sst"].values[[1, 2], :2])
    assert [piece.region for piece in cube.pieces(["sst"])] == [{"day": (i, i + 1)} for i in range(4)]
    assert cube.parts[3].url.endswith("day10.nc"), "10 comes after 2"


def test_a_scalar_time_becomes_the_coordinate(tmp_path, opened, weather):
    for i in (3, 1, 2):
        weather[["sst"]].isel(time=i).to_netcdf(tmp_path / f"{9 - i}.nc")
    got = opened("*.nc").read({}, ["sst"])
    xr.testing.assert_identical(got.drop_encoding(), weather[["sst"]].isel(time=slice(1, 4)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda d: d.assign_coords(time=d.time - pd.Timedelta("2D")),
            "overlap along 'time': the first ends at 2000-02",
        ),
        (lambda d: d.assign(sst=d["sst"].astype("f8")), "'sst' is of type float32 and float64"),
        (lambda d: d.assign(sst=d["sst"].assign_attrs(units="degC")), "has the units 'K' and 'degC'"),
        (lambda d: d.assign_coords(lat=d.lat + 1), "coordinates 'time' and 'lat' differ"),
        (lambda d: d.isel(lat=slice(0, 5)), "coordinates 'time' and 'lat' differ"),
        (lambda d: d.drop_vars("land"), "variable 'land' is in one of them only"),
        (lambda d: d.drop_vars("lat"), "coordinate 'lat' is in one of them only"),
        (
            lambda d: d.transpose("time", "lon", "lat"),
            r"dimensions \('time', 'lat', 'lon'\) and \('time', 'lon'",
        ),
        (lambda d: d.convert_calendar("noleap"), "coordinate 'time' is of different types or calendars"),
    ],
)
def test_files_that_do_not_fit_are_both_named(tmp_path, opened, weather, change, said):
    weather.isel(time=slice(0, 4)).to_netcdf(tmp_path / "one.nc")
    change(weather.isel(time=slice(4, 10))).to_netcdf(tmp_path / "two.nc")
    with pytest.raises(SourceError, match=rf"'weather': .*(one|two)\.nc and .*(one|two)\.nc: .*{said}"):
        opened("*.nc")


def test_another_grid_along_a_named_dimension(tmp_path, opened, weather):
    weather.isel(time=slice(0, 4)).to_netcdf(tmp_path / "one.nc")
    weather.isel(time=slice(4, 10)).assign_coords(lat=weather.lat + 1).to_netcdf(tmp_path / "two.nc")
    with pytest.raises(SourceError, match=r"one\.nc and .*two\.nc: coordinate 'lat' differs between them"):
        opened("*.nc", concat="time")


def test_repetitions_within_a_file_show_in_the_whole(tmp_path, opened, weather):
    split(weather.assign_coords(time=weather.time.values[[0, 1, 2, 3, 4, 5, 6, 6, 8, 9]]), tmp_path, 3)
    with pytest.raises(SourceError, match="'time' has 2000-03-02T00:00:00 twice, at positions 6 and 7"):
        opened("*.nc")
