"""Pages, slices, volumes and messages that lie in a store or behind HTTP: cubes as of the same files on a disk."""

from __future__ import annotations

import functools
import gzip
import http.server
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import xarray as xr
from pydicom.data import get_testdata_file

from featureflow.core import s3 as client
from featureflow.core import storage
from featureflow.core.errors import SourceError, Unreachable
from featureflow.core.meter import metering
from featureflow.library.cubes import handles, remote_file
from featureflow.library.cubes.registry import open_cube
from featureflow.library.cubes.stored import StoredCube
from featureflow.spec.sources import Source


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    handles.close_all()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, ranges of bytes included, and says nothing about it."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Send a file, or the part that is asked for."""
        path, asked = Path(self.translate_path(self.path)), self.headers.get("Range")
        if not path.is_file() or asked is None:
            super().do_GET()
            return
        data = path.read_bytes()
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(params=["s3", "http", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Puts the files of a folder somewhere; gives the URL of where they are."""
    if request.param == "http":
        (tmp_path / "www").mkdir()
        with served(tmp_path / "www") as url:

            def copy(folder: Path) -> str:
                shutil.copytree(folder, tmp_path / "www", dirs_exist_ok=True)
                return url

            yield copy
        return
    base = request.getfixturevalue("bucket") if request.param == "s3" else f"memory://{tmp_path.name}"

    def upload(folder: Path) -> str:
        for path in folder.iterdir():
            storage.write_atomic(f"{base}/{path.name}", path.read_bytes())
        return str(base)

    yield upload


def tiffs(folder: Path) -> None:
    rng = np.random.default_rng(3)
    for i in range(3):
        values = rng.integers(0, 60000, (40, 64)).astype("u2")
        tifffile.imwrite(folder / f"{i}.tif", values, tile=(16, 32), compression="zlib")


def stack(folder: Path) -> None:
    values = np.random.default_rng(4).normal(size=(5, 30, 20)).astype("f4")
    tifffile.imwrite(folder / "a.tif", values, metadata={"axes": "ZYX"})


def scan(folder: Path) -> None:
    for i, z in enumerate([5.0, 0.0, 2.5]):
        data = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        data.ImagePositionPatient = [-158.135803, -179.035797, z]
        data.PixelData = (data.pixel_array + i).astype("i2").tobytes()
        data.save_as(folder / f"{i}.dcm")


def volume(folder: Path) -> None:
    values = np.random.default_rng(5).integers(0, 900, (7, 8, 9)).astype("i2")
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0])), folder / "a.nii")


def packed(folder: Path) -> None:
    volume(folder)
    (folder / "a.nii.gz").write_bytes(gzip.compress((folder / "a.nii").read_bytes()))
    (folder / "a.nii").unlink()


def grib(folder: Path) -> None:
    pytest.importorskip("cfgrib")
    shutil.copy(Path(xr.__file__).parent / "tests" / "data" / "example.grib", folder / "a.grib")


def netcdf(folder: Path) -> None:
    xr.Dataset(
        {"t": (("y", "x"), np.random.default_rng(6).normal(size=(5, 6)))}, {"y": np.arange(5.0)}
    ).to_netcdf(folder / "a.nc")


CASES: dict[str, tuple[Callable[[Path], None], list[str], dict[str, Any]]] = {
    "slices": (tiffs, ["0.tif", "1.tif", "2.tif"], {"format": "tiff", "concat": "z"}),
    "stack": (stack, ["a.tif"], {"format": "tiff"}),
    "scan": (scan, ["0.dcm", "1.dcm", "2.dcm"], {"format": "dicom"}),
    "volume": (volume, ["a.nii"], {"format": "nifti"}),
    "packed volume": (packed, ["a.nii.gz"], {"format": "nifti"}),
    "messages": (grib, ["a.grib"], {"format": "grib"}),
    "netcdf": (netcdf, ["a.nc"], {"format": "netcdf"}),
}


def opened(paths: list[str], given: dict[str, Any]) -> StoredCube:
    cube = open_cube("it", Source.model_validate({"path": paths, **given}), "/")
    assert isinstance(cube, StoredCube)
    return cube


@pytest.mark.parametrize("whole", [1 << 20, 0])
@pytest.mark.parametrize("case", CASES)
def test_a_cube_is_that_of_the_files_on_a_disk(
    place: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, whole: int
) -> None:
    monkeypatch.setattr(remote_file, "WHOLE", whole)
    make, names, given = CASES[case]
    folder = tmp_path / "files"
    folder.mkdir()
    make(folder)
    url = place(folder)
    local = opened([str(folder / name) for name in names], given)
    remote = opened([f"{url}/{name}" for name in names], given)
    xr.testing.assert_identical(
        remote.outline.drop_vars(remote.outline.data_vars), local.outline.drop_vars(local.outline.data_vars)
    )
    assert remote.chunks == local.chunks
    assert [(p.region, p.size) for p in remote.pieces()] == [(p.region, p.size) for p in local.pieces()]
    assert [p.id for p in remote.pieces()] == [
        p.id for p in opened([f"{url}/{name}" for name in names], given).pieces()
    ]
    variables = [str(name) for name in local.outline.data_vars]
    sizes = {str(dim): int(n) for dim, n in local.outline[variables[0]].sizes.items()}
    part = {dim: (n // 3, n // 3 + max(1, n // 2)) for dim, n in sizes.items()}
    handles.close_all()
    again = pickle.loads(pickle.dumps(remote))
    with metering() as found:
        got = again.read(part, variables)
    xr.testing.assert_identical(got.drop_encoding(), local.read(part, variables).drop_encoding())
    assert got[variables[0]].size
    assert found.bytes["remote read"] > 0


@pytest.mark.parametrize("whole", [1 << 20, 0])
@pytest.mark.parametrize("case", [name for name in CASES if name != "netcdf"])
def test_what_was_replaced_since_it_was_listed_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, whole: int
) -> None:
    monkeypatch.setattr(remote_file, "WHOLE", whole)
    make, names, given = CASES[case]
    make(tmp_path)
    urls = [f"{bucket}/{name}" for name in names]
    for url, name in zip(urls, names, strict=True):
        storage.write_atomic(url, (tmp_path / name).read_bytes())
    cube = opened(urls, given)
    variable = str(next(iter(cube.outline.data_vars)))
    handles.close_all()
    storage.write_atomic(urls[0], (tmp_path / names[0]).read_bytes() + b"more")
    with pytest.raises(SourceError, match=r"s3://.*(replaced|fewer bytes)"):
        cube.read({}, [variable])
    if case == "packed volume":
        with pytest.raises(SourceError, match=r"'it': .*a\.nii\.gz: can't be opened as NIfTI"):
            opened(urls, given)
    else:
        changed = {piece.id for piece in opened(urls, given).pieces()} - {piece.id for piece in cube.pieces()}
        assert len(changed) == 1


def test_globs_and_folders_of_a_web_server(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    tiffs(tmp_path / "deep")
    local = opened([str(tmp_path / "deep")], CASES["slices"][2])
    with served(tmp_path) as url:
        for path in (f"{url}/deep/*.tif", f"{url}/deep/"):
            cube = opened([path], CASES["slices"][2])
            xr.testing.assert_identical(cube.read({}, ["image"]), local.read({}, ["image"]))
        with pytest.raises(SourceError, match=r"'it': .*no file is there"):
            opened([f"{url}/deep/*.png"], {"format": "tiff"})
        with pytest.raises(SourceError, match=r"'it': .*no file is there"):
            opened([f"{url}/none.tif"], {"format": "tiff"})
        handles.close_all()
    with pytest.raises(Unreachable, match="can't be reached"):
        cube.read({}, ["image"])


def test_messages_are_the_same_whenever_and_wherever_they_are_opened(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        grib(tmp_path / name)
    outlines = [
        opened([str(tmp_path / name / "a.grib")], CASES["messages"][2]).outline for name in ("here", "there")
    ]
    assert "history" not in outlines[0].attrs
    assert outlines[0].attrs == outlines[1].attrs


def test_an_open_store_is_not_asked_when_the_endpoint_is_another(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = xr.Dataset({"t": (("y", "x"), np.arange(12.0).reshape(3, 4))}, {"y": np.arange(3.0)})
    data.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    for path in (path for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()):
        storage.write_atomic(f"{bucket}/{path.relative_to(tmp_path)}", path.read_bytes())
    cube = opened([f"{bucket}/a.zarr"], {"format": "zarr"})
    np.testing.assert_array_equal(cube.read({}, ["t"])["t"], data["t"])
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        elsewhere.setattr(client, "PATIENCE", client.BRIEF)
        elsewhere.setattr(client, "FIRST", client.BRIEF)
        with pytest.raises(Unreachable, match="can't be reached"):
            cube.read({}, ["t"])
    np.testing.assert_array_equal(cube.read({}, ["t"])["t"], data["t"])
