"""Images and volumes as cubes, against the libraries that read them; files are those that the libraries ship."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import xarray as xr
from pydicom.data import get_testdata_file

from featureflow.core.errors import CorruptionError, SourceError
from featureflow.library.cubes import handles

VOLUMES = Path(nibabel.__file__).parent / "tests" / "data"

# ---------------------------------------------------------------- NIfTI


@pytest.mark.parametrize(
    "name", ["anatomical.nii", "example4d.nii.gz", "functional.nii", "example_nifti2.nii.gz"]
)
def test_nifti_volumes(opened, name):
    cube = opened(str(VOLUMES / name), format="nifti")
    image = nibabel.load(VOLUMES / name)
    expected = np.asarray(image.dataobj)
    outline = cube.outline["image"]
    assert outline.shape == expected.shape
    assert outline.dtype == expected.dtype.newbyteorder("=")
    got = cube.read({}, ["image"])["image"]
    np.testing.assert_array_equal(got, expected)
    assert got.dtype.isnative
    region = {dim: (size // 3, size // 3 + 2) for dim, size in outline.sizes.items() if size > 5}
    box = tuple(slice(*region.get(dim, (0, None))) for dim in outline.dims)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(cube)).read(region, ["image"])["image"], expected[box]
    )
    assert outline.attrs["affine"] == image.affine.ravel().tolist()
    assert outline.attrs["orientation"] == "".join(nibabel.aff2axcodes(image.affine))


def test_scaled_volumes_with_places_in_the_world(tmp_path, opened):
    values = np.arange(2 * 3 * 4, dtype="i2").reshape(4, 3, 2)
    affine = np.array([[0, 2.0, 0, 10], [-3.0, 0, 0, 20], [0, 0, 4.0, 30], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(0.5, 7)
    nibabel.save(image, tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    for name in ("a.nii", "b.nii.gz"):
        got = opened(name, format="nifti").read({}, ["image"])["image"]
        assert got.dims == ("y", "x", "z")
        np.testing.assert_array_equal(got, nibabel.load(tmp_path / "a.nii").get_fdata())
        assert got["y"].values.tolist() == [20, 17, 14, 11]
        assert got["x"].values.tolist() == [10, 12, 14]
        assert got["z"].attrs == {"units": "mm"}


def test_tilted_volumes_have_distances(tmp_path, opened):
    angle = np.deg2rad(30)
    turn = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(turn) @ np.diag([2, 3, 4])
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), "f4"), affine), tmp_path / "a.nii")
    outline = opened("a.nii", format="nifti").outline
    np.testing.assert_allclose(outline["y"], [0, 3, 6])
    assert outline["y"].attrs["long_name"] == "distance from the first voxel"
    assert outline["z"].values.tolist() == [0, 4, 8, 12]


def test_functional_volumes_have_seconds(opened):
    outline = opened(str(VOLUMES / "functional.nii"), format="nifti").outline
    step = nibabel.load(VOLUMES / "functional.nii").header.get_zooms()[3]
    assert outline["image"].dims == ("x", "y", "z", "t")
    np.testing.assert_allclose(outline["t"], np.arange(outline.sizes["t"]) * step)


def test_damaged_volumes(tmp_path, opened):
    data = (VOLUMES / "anatomical.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(data[: len(data) // 2])
    with pytest.raises((CorruptionError, SourceError), match=r"a\.nii"):
        opened("a.nii", format="nifti").read({}, ["image"])
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data)[:5000])
    with pytest.raises(SourceError, match=r"b\.nii\.gz"):
        opened("b.nii.gz", format="nifti")


# ---------------------------------------------------------------- TIFF


@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_stacks_of_pages_and_tiles(tmp_path, opened, tile, compression):
    values = np.random.default_rng(3).integers(0, 60000, (5, 40, 64)).astype(">u2")
    tifffile.imwrite(
        tmp_path / "a.tif",
        values,
        tile=tile,
        compression=compression,
        metadata={"axes": "ZYX"},
        byteorder=">",
    )
    cube = opened("a.tif", format="tiff")
    assert cube.chunks == (
        {"z": (1,) * 5, "y": (40,), "x": (64,)}
        if tile is None
        else {"z": (1,) * 5, "y": (16, 16, 8), "x": (32, 32)}
    )
    got = cube.read({"z": (1, 4), "y": (10, 33), "x": (20, 60)}, ["image"])["image"]
    np.testing.assert_array_equal(got, values[1:4, 10:33, 20:60])
    assert got.dtype == np.dtype("u2")


def test_a_file_a_slice(tmp_path, opened):
    values = np.random.default_rng(3).normal(size=(12, 5, 6)).astype("f4")
    for i, page in enumerate(values):
        tifffile.imwrite(tmp_path / f"slice{i}.tif", page)
    cube = opened("*.tif", format="tiff", concat="z")
    np.testing.assert_array_equal(cube.read({"z": (1, 11)}, ["image"])["image"], values[1:11])
    assert len(cube.pieces()) == 12


def test_imagej_and_ome_say_where(tmp_path, opened):
    values = np.zeros((3, 2, 4, 5), "u1")
    tifffile.imwrite(
        tmp_path / "a.tif",
        values,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "ZCYX", "spacing": 1.5, "unit": "um"},
    )
    outline = opened("a.tif", format="tiff").outline
    assert outline["image"].dims == ("z", "c", "y", "x")
    assert outline["z"].values.tolist() == [0, 1.5, 3]
    np.testing.assert_allclose(outline["x"], np.arange(5) / 4)
    np.testing.assert_allclose(outline["y"], np.arange(4) / 2)
    assert outline["x"].attrs == {"units": "um"}
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 0.5, "PhysicalSizeZUnit": "mm"}
    tifffile.imwrite(tmp_path / "b.ome.tif", values, metadata={"axes": "ZCYX", **sizes})
    outline = opened("b.ome.tif", format="tiff").outline
    np.testing.assert_allclose(outline["y"], np.arange(4) * 0.2)
    assert outline["z"].attrs == {"units": "mm"}


def test_names_for_axes(tmp_path, opened):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4, 5), "u1"), photometric="minisblack")
    assert opened("a.tif", format="tiff").outline["image"].dims == ("page", "y", "x")
    cube = opened("a.tif", format="tiff", options={"dims": ["depth", "y", "x"]})
    assert cube.outline["image"].dims == ("depth", "y", "x")
    with pytest.raises(SourceError, match=r"has 3 dimensions \(3, 4, 5\), and `options\.dims` names 2"):
        opened("a.tif", format="tiff", options={"dims": ["y", "x"]})


def test_stacks_that_packages_ship(opened):
    skimage = pytest.importorskip("skimage")
    path = Path(skimage.__file__).parent / "data" / "multipage.tif"
    got = opened(str(path), format="tiff").read({}, ["image"])["image"]
    np.testing.assert_array_equal(got, tifffile.imread(path))
    assert got.ndim == 3


def test_maps_have_places(opened):
    samples = pytest.importorskip("hvsampledata")
    path = Path(samples.__file__).parent / "_data" / "landsat_rgb.tif"
    outline = opened(str(path), format="tiff").outline
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].geotiff_tags
    step, first = tags["ModelPixelScale"], tags["ModelTiepoint"]
    assert outline["x"].values[0] == pytest.approx(first[3] + step[0] / 2)
    assert outline["y"].values[1] == pytest.approx(first[4] - step[1] * 1.5)


def test_damaged_pages(tmp_path, opened):
    values = np.random.default_rng(3).integers(0, 255, (4, 50, 50)).astype("u1")
    tifffile.imwrite(
        tmp_path / "a.tif", values, compression="zlib", photometric="minisblack", metadata={"axes": "ZYX"}
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset, size = file.pages[2].dataoffsets[0], file.pages[2].databytecounts[0]
    with open(tmp_path / "a.tif", "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * size)
    cube = opened("a.tif", format="tiff")
    np.testing.assert_array_equal(cube.read({"z": (0, 2)}, ["image"])["image"], values[:2])
    with pytest.raises(CorruptionError, match=r"a\.tif: variable 'image', region \[1:3"):
        cube.read({"z": (1, 3)}, ["image"])


# ---------------------------------------------------------------- DICOM


def scan(folder: Path, *places: float, **changes) -> None:
    """Slices of a CT at these places, named so that names say nothing."""
    for i, z in enumerate(places):
        data = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        data.ImagePositionPatient = [-158.135803, -179.035797, z]
        data.PixelData = (data.pixel_array + i).astype("i2").tobytes()
        data.update(changes)
        data.save_as(folder / f"{len(places) - i}.dcm")


def test_a_series_is_sorted_by_position_and_in_hounsfield_units(tmp_path, opened):
    scan(tmp_path, 5.0, -2.5, 0.0, 2.5)
    cube = opened("*.dcm", format="dicom")
    got = cube.read({"z": (1, 4), "y": (10, 100)}, ["image"])["image"]
    source = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    units = source.pixel_array.astype(int) * int(source.RescaleSlope) + int(source.RescaleIntercept)
    np.testing.assert_array_equal(got, np.stack([units + 2, units + 3, units])[:, 10:100])
    assert got["z"].values.tolist() == [0, 2.5, 5]
    assert got.dtype == np.dtype("i4")
    assert got.attrs["units"] == "HU"
    spacing = source.PixelSpacing
    np.testing.assert_allclose(got["x"], -158.135803 + spacing[1] * np.arange(128), atol=1e-3)
    np.testing.assert_allclose(got["y"], -179.035797 + spacing[0] * np.arange(10, 100), atol=1e-3)
    assert [piece.region for piece in cube.pieces()] == [{"z": (i, i + 1)} for i in range(4)]
    assert not any("patient" in key.lower() for key in got.attrs), "outlines are written into stores"


def test_slopes_that_are_fractions(tmp_path, opened):
    scan(tmp_path, 0.0, RescaleSlope="0.5", RescaleIntercept="0")
    got = opened("*.dcm", format="dicom").read({}, ["image"])["image"]
    data = pydicom.dcmread(tmp_path / "1.dcm")
    np.testing.assert_array_equal(got, data.pixel_array * 0.5)
    assert got.dtype == np.dtype("f8")


def test_a_place_twice(tmp_path, opened):
    scan(tmp_path, 0.0, 2.5, 2.5)
    with pytest.raises(SourceError, match=r"[12]\.dcm and .*[12]\.dcm: overlap along 'z'"):
        opened("*.dcm", format="dicom")


def test_several_series_are_not_mixed(tmp_path, opened):
    scan(tmp_path, 0.0, 2.5)
    shutil.copy(get_testdata_file("MR_small.dcm"), tmp_path / "mr.dcm")
    with pytest.raises(SourceError, match=r"there are 2 series.*\(CT, 2 files\); .*\(MR, 1 files\)"):
        opened("*.dcm", format="dicom")
    chosen = pydicom.dcmread(tmp_path / "mr.dcm").SeriesInstanceUID
    cube = opened("*.dcm", format="dicom", options={"group": chosen})
    got = cube.read({}, ["image"])["image"]
    np.testing.assert_array_equal(got, pydicom.dcmread(tmp_path / "mr.dcm").pixel_array)
    with pytest.raises(SourceError, match=r"there is no series '1\.2'"):
        opened("*.dcm", format="dicom", options={"group": "1.2"})


def test_doses_are_volumes(opened):
    path = get_testdata_file("rtdose.dcm")
    data = pydicom.dcmread(path)
    got = opened(path, format="dicom").read({"z": (3, 15)}, ["image"])["image"]
    np.testing.assert_allclose(got, data.pixel_array[3:] * data.DoseGridScaling)
    np.testing.assert_allclose(np.diff(got["z"]), np.diff(np.array(data.GridFrameOffsetVector, float))[3:])
    assert data.DoseUnits == "RELATIVE"
    assert got.attrs["units"] == "1"


def test_colours_and_frames(opened):
    path = get_testdata_file("SC_rgb_rle_2frame.dcm")
    got = opened(path, format="dicom").read({"frame": (1, 2), "x": (3, 9)}, ["image"])["image"]
    assert got.dims == ("frame", "y", "x", "sample")
    np.testing.assert_array_equal(got, pydicom.dcmread(path).pixel_array[1:2, :, 3:9])


def test_dicom_without_an_image(tmp_path, opened):
    with pytest.raises(SourceError, match=r"has no image \(SR\)"):
        opened(get_testdata_file("test-SR.dcm"), format="dicom")
    (tmp_path / "a.dcm").write_bytes(b"nothing of the kind")
    with pytest.raises(SourceError, match=r"a\.dcm: can't be opened as DICOM"):
        opened("a.dcm", format="dicom")
    data = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    (tmp_path / "a.dcm").write_bytes(data[:-1000])
    handles.close_all()
    with pytest.raises(CorruptionError, match=r"a\.dcm: variable 'image'"):
        opened("a.dcm", format="dicom").read({}, ["image"])


# ---------------------------------------------------------------- others


def test_grib(opened):
    pytest.importorskip("cfgrib")
    path = Path(xr.__file__).parent / "tests" / "data" / "example.grib"
    before = sorted(os.listdir(path.parent))
    cube = opened(str(path), format="grib")
    with xr.open_dataset(path, engine="cfgrib", backend_kwargs={"indexpath": ""}) as expected:
        for name, variable in expected.data_vars.items():
            got = cube.read({}, [str(name)])[name]
            np.testing.assert_array_equal(got, variable)
            assert got.dims == variable.dims
            assert cube.outline[name].dtype == got.dtype == variable.dtype
            xr.testing.assert_equal(got["time"], variable["time"])
    assert sorted(os.listdir(path.parent)) == before, "no index beside the file"


def test_a_missing_extra_is_named(tmp_path, opened, monkeypatch):
    import sys

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), "u1"))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(SourceError, match=r'a\.tif: pip install "featureflow\[imaging\]"'):
        opened("a.tif", format="tiff")


def test_air_temperature(opened):
    samples = pytest.importorskip("hvsampledata")
    path = Path(samples.__file__).parent / "_data" / "air_temperature_small.nc"
    cube = opened(str(path))
    with xr.open_dataset(path) as expected:
        names = [str(name) for name in expected.data_vars]
        xr.testing.assert_identical(
            cube.read({"time": (3, 20)}, names), expected.isel(time=slice(3, 20)).load()
        )
