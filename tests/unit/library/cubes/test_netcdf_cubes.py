"""NetCDF and HDF5 files as cubes: what xarray gives, calendars, damage."""

from __future__ import annotations

import os
import pickle
import warnings

import cftime
import h5netcdf
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow.core.errors import CorruptionError, SourceError

PART = {"time": (2, 7), "lat": (1, 6), "lon": (0, 3)}
CUT = {"time": slice(2, 7), "lat": slice(1, 6), "lon": slice(0, 3)}


@pytest.mark.parametrize("kind", [{"engine": "h5netcdf"}, {"engine": "scipy", "format": "NETCDF3_64BIT"}])
def test_both_versions_give_what_xarray_gives(tmp_path, opened, weather, kind):
    weather.assign(land=weather["land"].astype("i4")).to_netcdf(tmp_path / "a.nc", **kind)
    cube = opened("a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as expected:
        xr.testing.assert_identical(cube.read(PART, ["sst", "land"]), expected.isel(CUT).load())
        assert {n: v.dtype for n, v in cube.outline.variables.items()} == {
            n: v.dtype for n, v in expected.variables.items()
        }
    [piece] = cube.pieces()
    assert piece.size == os.stat(tmp_path / "a.nc").st_size
    assert len(pickle.dumps(cube)) < 3000


def test_chunks_are_those_of_the_largest_variable(tmp_path, opened, weather):
    encoding = {"sst": {"chunksizes": (5, 2, 8)}, "land": {"chunksizes": (6, 4)}}
    weather.to_netcdf(tmp_path / "a.nc", encoding=encoding)
    assert opened("a.nc").chunks == {"time": (5, 5), "lat": (2, 2, 2), "lon": (8,)}
    assert opened("a.nc", chunks={"time": 4}).chunks["time"] == (4, 4, 2)
    with pytest.raises(SourceError, match="`chunks` names 'day'; the dimensions are time, lat, lon"):
        opened("a.nc", chunks={"day": 4})


PACKINGS = [
    {"dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768},
    {"dtype": "i2", "scale_factor": np.float32(0.01), "_FillValue": -32768},
    {"dtype": "u1", "scale_factor": 2.0, "add_offset": 200.0, "_FillValue": 255},
    {"dtype": "f4", "_FillValue": np.float32(-9999.0)},
    {"dtype": "f8", "_FillValue": np.nan},
    {"dtype": "f4", "_FillValue": None},
    {"dtype": ">f4", "_FillValue": np.float32(1e20)},
    {"dtype": "f4", "zlib": True, "fletcher32": True, "_FillValue": None, "missing_value": np.float32(-1.0)},
]


@settings(max_examples=25)
@given(
    packing=st.sampled_from(PACKINGS),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_packed_values_are_decoded_as_xarray_does(tmp_path_factory, packing, shape, seed, data):
    from featureflow.library.cubes.registry import open_cube
    from featureflow.spec.sources import Source

    folder = tmp_path_factory.mktemp("packed")
    rng = np.random.default_rng(seed)
    values = rng.integers(201, 281, shape).astype("f8")
    if "_FillValue" in packing and packing["_FillValue"] is not None:
        values[rng.random(shape) < 0.3] = np.nan
    xr.Dataset({"v": (("y", "x"), values, {"units": "K"})}).to_netcdf(
        folder / "a.nc", encoding={"v": packing}
    )
    cube = open_cube("weather", Source.model_validate({"path": "a.nc"}), str(folder))
    region = {}
    for dim, size in zip(("y", "x"), shape, strict=True):
        low = data.draw(st.integers(0, size - 1))
        region[dim] = (low, data.draw(st.integers(low + 1, size)))
    with xr.open_dataset(folder / "a.nc") as expected:
        cut = expected.isel({dim: slice(*span) for dim, span in region.items()}).load()
    got = cube.read(region, ["v"])
    xr.testing.assert_identical(got, cut)
    assert got["v"].dtype == cut["v"].dtype == cube.outline["v"].dtype
    assert got["v"].dtype.isnative


@pytest.mark.parametrize(
    "attrs",
    [
        {"_FillValue": np.int8(-1), "missing_value": np.int8(-2)},
        {"_FillValue": np.int8(-1), "missing_value": np.int8(-1), "scale_factor": 0.1},
        {
            "_FillValue": np.int8(-1),
            "_Unsigned": "true",
            "scale_factor": np.float32(0.1),
            "add_offset": np.float32(3),
        },
        {"_Unsigned": "true"},
        {"add_offset": 5.0},
    ],
)
def test_attributes_that_old_programs_write(tmp_path, opened, attrs):
    with h5netcdf.File(tmp_path / "a.nc", "w") as file:
        file.dimensions = {"x": 300}
        fill = attrs.get("_FillValue")
        found = file.create_variable("v", ("x",), "i1", fillvalue=fill)
        found[:] = (np.arange(300) % 256 - 128).astype("i1")
        found.attrs.update({key: value for key, value in attrs.items() if key != "_FillValue"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = xr.open_dataset(tmp_path / "a.nc").load()
    cube = opened("a.nc")
    got = cube.read({"x": (10, 290)}, ["v"])["v"]
    np.testing.assert_array_equal(got, expected["v"][10:290])
    assert got.dtype == expected["v"].dtype == cube.outline["v"].dtype


def test_large_regions_are_unpacked_in_pieces(tmp_path, opened):
    values = np.random.default_rng(3).integers(0, 1000, (3, 70_001)) / 10
    values[1, 69_000] = np.nan
    packing = {"dtype": "i2", "scale_factor": 0.1, "_FillValue": -1}
    xr.Dataset({"v": (("y", "x"), values)}).to_netcdf(tmp_path / "a.nc", encoding={"v": packing})
    with xr.open_dataset(tmp_path / "a.nc") as expected:
        np.testing.assert_array_equal(opened("a.nc").read({}, ["v"])["v"], expected["v"])


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian", "standard", "proleptic_gregorian"])
def test_calendars(tmp_path, opened, weather, calendar):
    units = "days since 2000-02-26"
    days = weather.drop_vars("time").assign_coords(
        time=("time", np.arange(10), {"units": units, "calendar": calendar})
    )
    days.to_netcdf(tmp_path / "a.nc")
    got = opened("a.nc").outline["time"]
    with xr.open_dataset(tmp_path / "a.nc") as expected:
        xr.testing.assert_identical(got, expected["time"].load())
    if calendar == "360_day":
        assert got.values[4] == cftime.Datetime360Day(2000, 2, 30)
    if calendar == "noleap":
        assert got.values[3] == cftime.DatetimeNoLeap(2000, 3, 1)
    assert got.encoding == {"units": units, "calendar": calendar}
    assert opened("a.nc").read({"time": (4, 5)}, ["sst"])["time"].values[0] == got.values[4]


def test_years_beyond_nanoseconds_are_cftime(tmp_path, opened, weather):
    old = weather.drop_vars("time").assign_coords(
        time=("time", np.arange(10), {"units": "days since 0850-01-01", "calendar": "standard"})
    )
    old.to_netcdf(tmp_path / "a.nc")
    assert opened("a.nc").outline["time"].values[1] == cftime.DatetimeGregorian(850, 1, 2)


def test_units_that_nothing_knows(tmp_path, opened, weather):
    weather.drop_vars("time").assign_coords(
        time=("time", np.arange(10), {"units": "fortnights since 2000-01-01"})
    ).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(SourceError, match=r"'weather'.*a\.nc.*metadata.*fortnights"):
        opened("a.nc")


def test_bounds_and_grid_mappings_are_no_variables(tmp_path, opened, weather):
    data = weather.assign(
        lat_bnds=(("lat", "bnds"), np.zeros((6, 2))), crs=((), 0, {"grid_mapping_name": "latitude_longitude"})
    )
    data["lat"].attrs["bounds"] = "lat_bnds"
    data["sst"].attrs["grid_mapping"] = "crs"
    data.to_netcdf(tmp_path / "a.nc")
    cube = opened("a.nc")
    assert set(cube.outline.data_vars) == {"sst", "land"}
    assert set(cube.outline.coords) == {"time", "lat", "lon", "crs"}
    assert cube.outline["crs"].attrs == {"grid_mapping_name": "latitude_longitude"}


def test_curvilinear_coordinates_are_read(tmp_path, opened, weather):
    data = weather.drop_vars(["lat", "lon"]).rename(lat="y", lon="x")
    data = data.assign_coords(lat=(("y", "x"), np.arange(48.0).reshape(6, 8)))
    data.to_netcdf(tmp_path / "a.nc")
    got = opened("a.nc").read({"y": (2, 4), "x": (1, 3)}, ["sst"])
    xr.testing.assert_identical(got["lat"], data.isel(y=slice(2, 4), x=slice(1, 3))["lat"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [0, 1, 3, 2, 4, 5, 6, 7],
            r"'lon' is not sorted: 3\.0 at position 2 is followed by 2\.0, where it rose",
        ),
        (
            [9, 8, 7, 6, 5, 5.5, 4, 3],
            r"'lon' is not sorted: 5\.0 at position 4 is followed by 5\.5, where it fell",
        ),
        ([0, 1, 2, 2, 4, 5, 6, 7], r"'lon' has 2\.0 twice, at positions 2 and 3"),
        ([0, 1, 2, 3, np.nan, 5, 6, 7], r"'lon' has no value at position 4"),
    ],
)
def test_coordinates_that_name_no_place(tmp_path, opened, weather, values, said):
    weather.assign_coords(lon=np.array(values, float)).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(SourceError, match=rf"'weather': .*a\.nc: coordinate {said}"):
        opened("a.nc")


def test_names_need_no_order(tmp_path, opened, weather):
    weather.assign_coords(lon=list("badcfehg")).to_netcdf(tmp_path / "a.nc")
    assert opened("a.nc").outline["lon"].values.tolist() == list("badcfehg")
    weather.assign_coords(lon=list("badcfebg")).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(SourceError, match="'lon' has 'b' twice, at positions 0 and 6"):
        opened("b.nc")


# ---------------------------------------------------------------- damage


def test_a_damaged_chunk_is_an_error_that_names_it(tmp_path, opened, weather):
    weather.to_netcdf(
        tmp_path / "a.nc", encoding={"sst": {"chunksizes": (5, 6, 8), "zlib": True, "fletcher32": True}}
    )
    with h5py.File(tmp_path / "a.nc") as file:
        place = file["sst"].id.get_chunk_info(1)
    stat = os.stat(tmp_path / "a.nc")
    with open(tmp_path / "a.nc", "r+b") as file:
        file.seek(place.byte_offset + place.size // 2)
        file.write(b"damage!")
    os.utime(tmp_path / "a.nc", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    cube = opened("a.nc")
    cube.read({"time": (0, 5)}, ["sst"])
    with pytest.raises(CorruptionError, match=r"'weather'.*a\.nc: variable 'sst', region \[5:8, 0:6, 0:8\]"):
        cube.read({"time": (5, 8)}, ["sst"])


@pytest.mark.parametrize(
    "content", [b"", b"no netcdf at all", b"CDF\x05 of another kind", b"\x89HDF\r\n\x1a\n cut"]
)
def test_files_that_are_no_netcdf(tmp_path, opened, content):
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.nc"):
        opened("a.nc")


def test_a_file_that_was_replaced_is_refused(tmp_path, opened, weather):
    from featureflow.library.cubes import handles

    weather.to_netcdf(tmp_path / "a.nc")
    cube = opened("a.nc")
    handles.close_all()
    weather.isel(time=slice(0, 5)).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(SourceError, match="was replaced since it was listed"):
        cube.read(PART, ["sst"])
    with pytest.raises(SourceError, match="was replaced since it was listed"):
        cube.pieces()
    assert opened("a.nc").outline.sizes["time"] == 5, "opened again, it is the new one"


# ---------------------------------------------------------------- HDF5


def test_hdf5_without_names_of_dimensions(tmp_path, opened):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scan"] = np.arange(24, dtype="i4").reshape(2, 3, 4)
        file["gain"] = np.arange(3.0)
    with pytest.raises(
        SourceError, match=r"scan \(2, 3, 4\).*lengths \(2, 3, 4\) in this order by `options: {dims"
    ):
        opened("a.h5", format="hdf5")
    cube = opened("a.h5", format="hdf5", options={"dims": ["z", "y", "x"]})
    got = cube.read({"z": (1, 2), "y": (0, 2), "x": (1, 4)}, ["scan", "gain"])
    np.testing.assert_array_equal(got["scan"], np.arange(24).reshape(2, 3, 4)[1:2, 0:2, 1:4])
    assert got["gain"].dims == ("y",)
    with pytest.raises(SourceError, match="2 names were given"):
        opened("a.h5", format="hdf5", options={"dims": ["z", "y"]})
