"""Files of every format and chunks of Zarr stores that were cut off anywhere: refused, or all is there."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import xarray as xr
from zarr.codecs import BloscCodec

from featureflow.core.errors import CorruptionError, SourceError
from featureflow.library.cubes import handles
from featureflow.library.cubes.registry import open_cube
from featureflow.spec.sources import Source

STACK = np.random.default_rng(3).integers(1, 250, (5, 30, 34)).astype("u1")


def sea() -> xr.Dataset:
    values = np.random.default_rng(4).normal(280, 9, (6, 5, 7)).astype("f4")
    return xr.Dataset({"sst": (("time", "y", "x"), values)}, {"time": np.arange(6.0)})


def netcdf(path: Path, **how: Any) -> None:
    sea().to_netcdf(path, engine="h5netcdf", **how)


def classic(path: Path, **how: Any) -> None:
    sea().to_netcdf(path, engine="scipy", format="NETCDF3_64BIT", **how)


def tiff(path: Path, **how: Any) -> None:
    pytest.importorskip("tifffile").imwrite(path, STACK, **{"photometric": "minisblack", **how})


def pages(path: Path) -> None:
    """One after the other, and nothing says how many."""
    with pytest.importorskip("tifffile").TiffWriter(path) as writer:
        for page in STACK:
            writer.write(page, metadata=None, contiguous=False)


def nifti(path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(STACK.astype("i2"), np.diag([2.0, 2, 3, 1])), path)


def dicom(path: Path) -> None:
    found = pytest.importorskip("pydicom.data").get_testdata_file(path.name)
    shutil.copyfile(found, path)


FILES: dict[str, tuple[str, str, Callable[..., None], dict[str, Any]]] = {
    "NetCDF 4": ("a.nc", "netcdf", netcdf, {}),
    "NetCDF 4, grown": ("a.nc", "netcdf", netcdf, {"unlimited_dims": ["time"]}),
    "NetCDF 4, compressed": ("a.nc", "netcdf", netcdf, {"encoding": {"sst": {"zlib": True}}}),
    "NetCDF 3": ("a.nc", "netcdf", classic, {}),
    "NetCDF 3, grown": ("a.nc", "netcdf", classic, {"unlimited_dims": ["time"]}),
    "TIFF": ("a.tif", "tiff", tiff, {}),
    "TIFF, big": ("a.tif", "tiff", tiff, {"bigtiff": True, "byteorder": ">"}),
    "TIFF, page by page": ("a.tif", "tiff", pages, {}),
    "TIFF, tiles": ("a.tif", "tiff", tiff, {"tile": (16, 16)}),
    "TIFF, compressed": ("a.tif", "tiff", tiff, {"compression": "zlib", "rowsperstrip": 8}),
    "TIFF of ImageJ": ("a.tif", "tiff", tiff, {"imagej": True}),
    "NIfTI": ("a.nii", "nifti", nifti, {}),
    "NIfTI, compressed": ("a.nii.gz", "nifti", nifti, {}),
    "DICOM": ("MR_small.dcm", "dicom", dicom, {}),
    "DICOM, compressed": ("MR_small_RLE.dcm", "dicom", dicom, {}),
}


def read(path: Path, kind: str) -> dict[str, np.ndarray[Any, Any]]:
    """All values and coordinates."""
    try:
        cube = open_cube("weather", Source.model_validate({"path": str(path), "format": kind}), "/")
        cube.pieces()
        found = cube.read({}, list(cube.contents.variables))
        return {str(name): variable.values for name, variable in found.variables.items()}
    finally:
        handles.close_all()


def is_refused_or_right(path: Path, kind: str, right: dict[str, np.ndarray[Any, Any]]) -> bool:
    """Whether it was refused; fails if there are other values."""
    try:
        found = read(path, kind)
    except (CorruptionError, SourceError) as error:
        assert str(path) in str(error)
        return True
    assert found.keys() == right.keys()
    for name, values in right.items():
        np.testing.assert_array_equal(found[name], values)
    return False


@pytest.mark.filterwarnings("ignore:The end of the file was reached:UserWarning")
@pytest.mark.parametrize("what", FILES)
def test_files_that_are_cut_off(what: str, tmp_path: Path) -> None:
    name, kind, make, how = FILES[what]
    make(tmp_path / name, **how)
    right, data = read(tmp_path / name, kind), (tmp_path / name).read_bytes()
    places = {0, 1, 7, len(data) // 2, len(data) - 400, *random.Random(5).sample(range(len(data)), 10)}
    refused = 0
    for place in sorted(places):
        cut = tmp_path / f"cut{place}" / name
        cut.parent.mkdir()
        cut.write_bytes(data[:place])
        refused += is_refused_or_right(cut, kind, right)
    assert refused >= len(places) - 3  # what a format has behind its values, readers do without


STORES: dict[str, tuple[int, dict[str, Any]]] = {
    "version 2": (2, {}),
    "version 2, plain": (2, {"compressors": None}),
    "version 2, Blosc": (2, {"compressors": numcodecs.Blosc()}),
    "version 2, LZ4": (2, {"compressors": numcodecs.LZ4()}),
    "version 3": (3, {}),
    "version 3, plain": (3, {"compressors": None}),
    "version 3, Blosc": (3, {"compressors": BloscCodec()}),
    "shards": (3, {"shards": (6, 5, 7)}),
    "shards of Blosc": (3, {"shards": (6, 5, 7), "compressors": BloscCodec()}),
}


@pytest.mark.parametrize("what", STORES)
def test_chunks_that_are_cut_off(what: str, tmp_path: Path) -> None:
    version, how = STORES[what]
    encoding = {"sst": {"chunks": (2, 5, 7), **how}}
    sea().to_zarr(tmp_path / "a.zarr", zarr_format=version, consolidated=False, encoding=encoding)
    right = read(tmp_path / "a.zarr", "zarr")
    chunk = next(path for path in (tmp_path / "a.zarr/sst").rglob("*0") if path.is_file())
    data = chunk.read_bytes()
    for place in [0, 1, 15, len(data) // 2, len(data) - 1]:
        chunk.write_bytes(data[:place])
        assert is_refused_or_right(tmp_path / "a.zarr", "zarr", right), place
