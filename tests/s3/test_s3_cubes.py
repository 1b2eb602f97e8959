"""Cubes on S3: the values and names of local ones, counted, and errors of the store that have a meaning."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from featureflow.core import s3 as client
from featureflow.core import storage
from featureflow.core.errors import CorruptionError, SourceError, Unreachable
from featureflow.core.meter import metering
from featureflow.library.cubes import handles, remote_file
from featureflow.library.cubes.registry import open_cube
from featureflow.spec.sources import Source

PART = {"time": (2, 7), "lat": (1, 6), "lon": (0, 3)}


@pytest.fixture
def weather() -> xr.Dataset:
    values = np.random.default_rng(7).normal(280, 9, (10, 6, 8)).astype("f4")
    return xr.Dataset(
        {"sst": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": pd.date_range("2000-02-25", periods=10),
            "lat": np.linspace(50, -50, 6),
            "lon": np.arange(8.0),
        },
    )


@pytest.fixture(autouse=True)
def closed():
    yield
    handles.close_all()


def upload(folder, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write_atomic(f"{url}/{path.relative_to(folder)}", path.read_bytes())


def opened(path, **given):
    return open_cube("weather", Source.model_validate({"path": path, **given}), "/")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("group", [None, "deep"])
def test_zarr(bucket, tmp_path, weather, zarr_format, group):
    encoding = {"sst": {"chunks": (4, 6, 8)}}
    weather.to_zarr(
        tmp_path / "a.zarr", zarr_format=zarr_format, group=group, consolidated=False, encoding=encoding
    )
    upload(tmp_path / "a.zarr", f"{bucket}/a.zarr")
    cube = pickle.loads(pickle.dumps(opened(f"{bucket}/a.zarr", options={"group": group})))
    handles.close_all()
    with metering() as found:
        got = cube.read(PART, ["sst"])
    cut = {dim: slice(*span) for dim, span in PART.items()}
    xr.testing.assert_identical(got.drop_encoding(), weather.isel(cut))
    before = cube.pieces(["sst"])
    assert [piece.region["time"] for piece in before] == [(0, 4), (4, 8), (8, 10)]
    assert found.bytes["remote read"] >= before[0].size + before[1].size
    assert found.seconds["remote read"] > 0
    assert "etag:" in before[0].id
    key = "1.0.0" if zarr_format == 2 else "c/1/0/0"
    name = "/".join(filter(None, [bucket, "a.zarr", group, "sst", key]))
    data = storage.read_bytes(name)
    storage.write_atomic(name, data)
    assert cube.pieces() == opened(f"{bucket}/a.zarr", options={"group": group}).pieces()
    assert [piece.id for piece in cube.pieces(["sst"])] == [piece.id for piece in before], (
        "the same bytes again"
    )
    storage.write_atomic(name, data[:-30])
    assert [a.id == b.id for a, b in zip(before, cube.pieces(["sst"]), strict=True)] == [True, False, True]
    with pytest.raises(CorruptionError, match=r"a\.zarr.*variable 'sst', region \[4:5"):
        cube.read({"time": (4, 5)}, ["sst"])


@pytest.mark.parametrize("whole", [1 << 20, 0])
def test_netcdf(bucket, tmp_path, weather, monkeypatch, whole):
    monkeypatch.setattr(remote_file, "WHOLE", whole)
    for i, cut in enumerate([slice(0, 4), slice(4, 10)]):
        weather.isel(time=cut).to_netcdf(tmp_path / f"{i}.nc", encoding={"sst": {"zlib": True}})
    weather.astype("f8").to_netcdf(tmp_path / "old.nc", engine="scipy")
    upload(tmp_path, bucket)
    cube = opened(f"{bucket}/[01].nc")
    handles.close_all()
    with metering() as found:
        got = cube.read(PART, ["sst"])
    xr.testing.assert_identical(got, weather.isel({dim: slice(*span) for dim, span in PART.items()}))
    assert found.bytes["remote read"] > 1000
    assert [piece.size for piece in cube.pieces()] == [os.stat(tmp_path / f"{i}.nc").st_size for i in (0, 1)]
    classic = opened(f"{bucket}/old.nc")
    xr.testing.assert_equal(classic.read(PART, ["sst"]), got.astype("f8"))
    handles.close_all()
    storage.write_atomic(f"{bucket}/0.nc", (tmp_path / "1.nc").read_bytes())
    with pytest.raises(SourceError, match=r"replaced|fewer bytes"):
        cube.read(PART, ["sst"])


def test_nothing_there(bucket):
    with pytest.raises(SourceError, match=r"'weather': .*none\.zarr: nothing is there"):
        opened(f"{bucket}/none.zarr")
    with pytest.raises(SourceError, match=r"'weather': .*none\.nc: no file is there"):
        opened(f"{bucket}/none.nc")


def test_a_store_that_does_not_answer(bucket, tmp_path, weather, monkeypatch):
    weather.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    upload(tmp_path / "a.zarr", f"{bucket}/a.zarr")
    weather.to_netcdf(tmp_path / "a.nc")
    storage.write_atomic(f"{bucket}/a.nc", (tmp_path / "a.nc").read_bytes())
    zarr, netcdf = opened(f"{bucket}/a.zarr"), opened(f"{bucket}/a.nc")
    handles.close_all()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(client, "PATIENCE", client.BRIEF)
    monkeypatch.setattr(client, "FIRST", client.BRIEF)
    for cube in (zarr, netcdf):
        with pytest.raises(Unreachable, match="can't be reached"):
            cube.read(PART, ["sst"])
    with pytest.raises(Unreachable, match="can't be reached"):
        zarr.pieces()
    with pytest.raises(Unreachable, match="can't be reached"):
        opened(f"{bucket}/a.zarr")
