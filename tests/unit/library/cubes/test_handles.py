"""Open files of a process: opened once, never closed while they are read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
import xarray as xr

from featureflow.library.cubes import handles


class Handle:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def none_open():
    handles.close_all()
    yield
    handles.close_all()


def test_many_threads_open_once():
    started, made = threading.Barrier(8), []

    def opener():
        made.append(Handle())
        return made[-1]

    def use():
        started.wait()
        with handles.borrowed("a", opener) as handle:
            assert not handle.closed
            return handle

    with ThreadPoolExecutor(8) as pool:
        used = [each.result() for each in [pool.submit(use) for _ in range(8)]]
    assert len(made) == 1
    assert set(used) == set(made)


def test_the_least_used_are_closed_but_none_in_use(monkeypatch):
    monkeypatch.setattr(handles, "MOST", 2)
    found = {key: Handle() for key in "abcd"}
    with handles.borrowed("a", lambda: found["a"]):
        for key in "bcd":
            with handles.borrowed(key, lambda key=key: found[key]):
                pass
        assert [found[key].closed for key in "abcd"] == [False, True, True, False]
    with handles.borrowed("c", Handle) as again:
        assert again is not found["c"], "opened anew"


def test_what_can_not_be_opened_is_tried_again():
    def fails():
        raise OSError("not now")

    for _ in range(2):
        with pytest.raises(OSError, match="not now"), handles.borrowed("a", fails):
            pass
    with handles.borrowed("a", Handle) as handle:
        assert not handle.closed


@pytest.mark.parametrize("kind", ["netcdf", "zarr", "tiff"])
def test_threads_read_the_same_files(tmp_path, opened, kind, monkeypatch):
    monkeypatch.setattr(handles, "MOST", 1)
    values = np.random.default_rng(5).integers(0, 2**15, (24, 40, 50)).astype("i4")
    for i, part in enumerate(np.split(values, 3)):
        if kind == "tiff":
            tifffile.imwrite(
                tmp_path / f"{i}.tif",
                part,
                compression="zlib",
                metadata={"axes": "ZYX"},
                photometric="minisblack",
            )
            continue
        data = xr.Dataset({"image": (("z", "y", "x"), part)}, coords={"z": np.arange(8) + 8 * i})
        if kind == "zarr":
            encoding = {"image": {"chunks": (3, 20, 20)}}
            data.to_zarr(tmp_path / f"{i}.zarr", zarr_format=3, consolidated=False, encoding=encoding)
        else:
            encoding = {"image": {"chunksizes": (3, 20, 20), "zlib": True}}
            data.to_netcdf(tmp_path / f"{i}.nc", encoding=encoding)
    ends = {"netcdf": "*.nc", "tiff": "*.tif", "zarr": [f"{i}.zarr" for i in range(3)]}
    cube = opened(ends[kind], format=kind, **({"concat": "z"} if kind == "tiff" else {}))

    def read(low: int) -> bool:
        got = cube.read({"z": (low, low + 5), "y": (3, 37)}, ["image"])["image"]
        return np.array_equal(got, values[low : low + 5, 3:37])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, list(range(19)) * 3))
