"""Look-ups in stored chunks, against xarray's own selection and against boxes of the same cube."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr
import zarr

from featureflow.contracts.cube import Cube
from featureflow.core.errors import CorruptionError
from featureflow.execute.grids.point_chunks import PointReader
from featureflow.execute.grids.points import BLOCK, look_up_points
from featureflow.execute.grids.values import HasChunks
from featureflow.kernels.chunk_points import Addresses, weigh_corners
from featureflow.library.cubes.registry import open_cube
from featureflow.plan.grid_lookups import GridLookup, Method, grid_input, value_type
from featureflow.spec.models import Source

DAYS, HEIGHT, WIDTH = 20, 11, 13


class Boxed:
    """A cube that gives boxes only."""

    def __init__(self, cube: Any) -> None:
        self.outline, self.chunks, self.read, self.pieces = cube.outline, cube.chunks, cube.read, cube.pieces


def sea() -> xr.Dataset:
    rng = np.random.default_rng(0)
    values = rng.normal(15, 3, (DAYS, HEIGHT, WIDTH)).astype("float32")
    values[rng.random(values.shape) < 0.1] = np.nan
    return xr.Dataset(
        {
            "sst": (("time", "lat", "lon"), values),
            "packed": (("time", "lat", "lon"), values.copy()),
            "half": (("time", "lat", "lon"), values.astype("float16")),
            "cold": (("time", "lat", "lon"), values < 14),
            "depth": (("lat", "lon"), rng.integers(0, 5000, (HEIGHT, WIDTH)).astype("int16")),
        },
        {
            "time": np.datetime64("2026-01-01", "ns") + np.arange(DAYS) * np.timedelta64(1, "D"),
            "lat": np.linspace(40, 30, HEIGHT),
            "lon": np.linspace(10, 22, WIDTH),
        },
    )


def stored(path: Path, *, zarr_format: int = 3, shards: bool = False) -> Any:
    encoding: dict[str, dict[str, Any]] = {
        name: {"chunks": (6, 4, 5)} for name in ("sst", "packed", "half", "cold")
    }
    encoding["half"]["chunks"] = (20, 3, 4)
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 10.0, "_FillValue": np.int16(-1)}
    encoding["packed"] |= packing
    if shards:
        encoding["sst"]["shards"] = (12, 8, 10)
    sea().to_zarr(path, encoding=encoding, consolidated=False, zarr_format=zarr_format)
    return open_cube("sst", Source.model_validate({"path": str(path), "format": "zarr"}), "/")


def ask(cube: Cube, names: list[str], n: int, method: Method = "nearest", threads: int = 1) -> list[pa.Array]:
    rng = np.random.default_rng(n)
    lat, lon = rng.uniform(29, 41, n), rng.uniform(9, 23, n)
    lat[::7] = np.nan
    times = rng.integers(-1, DAYS, n) * 86_400_000_000 + 1_767_225_600_000_000
    kinds = [value_type(cube.outline[name].dtype, method) for name in names]
    lookup = GridLookup(
        right=grid_input("sst", cube.outline, "time", method),
        at=(("lat", "y"), ("lon", "x")),
        columns=tuple((name, name) for name in names),
        types=tuple(kind for kind in kinds if kind is not None),
        method=method,
        ttl_us=None,
        allow_exact=True,
        place="test",
    )
    given = {"y": pa.array(lat, from_pandas=True), "x": pa.array(lon)}
    return look_up_points(lookup, cube, given, times, threads=threads)


@pytest.mark.parametrize("how", [{}, {"zarr_format": 2}, {"shards": True}])
@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_chunks_give_what_boxes_give(tmp_path: Path, how: dict[str, Any], method: Method) -> None:
    cube = stored(tmp_path / "sea.zarr", **how)
    names = ["sst", "packed", "half", "depth", *(["cold"] if method == "nearest" else [])]
    assert all(cube.chunks_of(name) is not None for name in names)
    boxed: Any = Boxed(cube)
    assert not isinstance(boxed, HasChunks)
    found, wanted = ask(cube, names, 3000, method), ask(boxed, names, 3000, method)
    for name, one, other in zip(names, found, wanted, strict=True):
        assert one.type == other.type
        assert one.equals(other), name
        assert 0 < one.null_count < len(one)
    assert ask(cube, names, 3000, method, threads=3) == found


def test_values_are_those_of_xarray(tmp_path: Path) -> None:
    cube = stored(tmp_path / "sea.zarr")
    n = 2 * BLOCK + 17  # several blocks, the last of which is short
    rng = np.random.default_rng(5)
    at = {
        "time": rng.integers(0, DAYS, n),
        "lat": rng.integers(0, HEIGHT, n),
        "lon": rng.integers(0, WIDTH, n),
    }
    data = xr.open_zarr(tmp_path / "sea.zarr", consolidated=False, chunks=None)
    lookup = GridLookup(
        right=grid_input("sst", cube.outline, "time"),
        at=(("lat", "y"), ("lon", "x")),
        columns=(("packed", "a"), ("sst", "b")),
        types=(pa.float32(), pa.float32()),
        method="nearest",
        ttl_us=None,
        allow_exact=True,
        place="test",
    )
    given = {"y": pa.array(data["lat"].values[at["lat"]]), "x": pa.array(data["lon"].values[at["lon"]])}
    times = data["time"].values[at["time"]].astype("datetime64[us]").astype(np.int64)
    found = look_up_points(lookup, cube, given, times, threads=2)
    where = {dim: xr.DataArray(places, dims="row") for dim, places in at.items()}
    for name, one in zip(("packed", "sst"), found, strict=True):
        wanted = data[name].load().isel(where).values
        np.testing.assert_array_equal(one.to_numpy(zero_copy_only=False), wanted)
        np.testing.assert_array_equal(one.is_null().to_numpy(zero_copy_only=False), np.isnan(wanted))


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    cube = stored(tmp_path / "sea.zarr")
    chunk = tmp_path / "sea.zarr" / "sst" / "c" / "1" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:40])
    with pytest.raises(CorruptionError, match=r"variable 'sst', region \[6:12, 4:8, 5:10\].*Restore"):
        ask(cube, ["sst"], 3000)


@pytest.mark.parametrize("name", ["sst", "packed"])
def test_chunks_that_were_never_written_are_the_fill_value(tmp_path: Path, name: str) -> None:
    cube = stored(tmp_path / "sea.zarr")
    for chunk in (tmp_path / "sea.zarr" / name / "c").rglob("[0-9]"):
        if chunk.is_file() and chunk.name == "0":
            chunk.unlink()
    boxed: Any = Boxed(cube)
    (found,), (wanted,) = ask(cube, [name], 500), ask(boxed, [name], 500)
    assert found.equals(wanted)
    assert found != ask(stored(tmp_path / "whole.zarr"), [name], 500)[0]


def test_only_chunks_with_points_are_read(tmp_path: Path) -> None:
    cube = stored(tmp_path / "sea.zarr")
    keep = zarr.open_array(tmp_path / "sea.zarr" / "sst", mode="r")
    for chunk in (tmp_path / "sea.zarr" / "sst" / "c").rglob("[0-9]"):
        if chunk.is_file() and chunk.parts[-3:] != ("0", "1", "2"):
            chunk.write_bytes(b"no chunk")
    reader = PointReader(cube, ["sst"], ["time", "lat", "lon"])
    (bounds,) = reader.frames().values()
    points = Addresses.of(bounds, 3)
    points.put(0, [np.array([0, -1, 5]), np.array([4, 4, 7]), np.array([10, 10, 12])])
    found = reader.gather({"sst": points}, lambda function, numbers: list(map(function, numbers)))["sst"]
    np.testing.assert_array_equal(found[[0, 2]], keep.vindex[[0, 5], [4, 7], [10, 12]])


def test_corners_are_weighed_as_numpy_does() -> None:
    rng = np.random.default_rng(1)
    corners = rng.normal(size=(4, 500)).astype("float32")
    corners[1, ::5] = np.nan
    weights = rng.random((2, 500))
    weights[0, ::5] = 0.0
    wanted = np.zeros(500)
    for c in range(4):
        one = weights[0] if c & 1 else 1.0 - weights[0]
        two = weights[1] if c & 2 else 1.0 - weights[1]
        wanted += np.where(one * two == 0, 0.0, corners[c].astype("float64") * (one * two))
    np.testing.assert_array_equal(weigh_corners(corners, weights), wanted)
    assert not np.isnan(wanted).any()
