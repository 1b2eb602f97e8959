"""Points in a cube: our look-ups against xarray's vectorised indexing of the same Zarr store, backed by Dask.

Run by hand: ``python tests/benchmarks/grid_lookups.py --points 1000000``. Both sides run in this process with as many
threads, in turns; the values are compared. Beside them, what bounds both: reading and decoding every chunk once with
the codec alone (of which points along tracks need but some).

The default is what public lakes of weather and sea hold: one map for each day, compressed by Blosc's LZ4, and points at
random places and days, so that every chunk has some. ``--layout boxes`` has chunks with several times (zstd),
``packed`` the same in int16 with scale, offset and fill value; ``--tracks`` has the points of 200 ships in the last 30
days.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import pyarrow as pa
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

#: Chunks (time, lat, lon; 0 is all), compression, and how values are stored.
LAYOUTS: dict[str, tuple[tuple[int, int, int], Any, str]] = {
    "maps": ((1, 0, 0), BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4), "float32"),
    "boxes": ((73, 90, 90), ZstdCodec(), "float32"),
    "packed": ((73, 90, 90), ZstdCodec(), "int16"),
}
_PACKING: dict[str, Any] = {"scale_factor": 0.01, "add_offset": 15.0, "_FillValue": -32768}


def write_cube(path: Path, shape: tuple[int, int, int], layout: str, chunks: tuple[int, ...] | None) -> None:
    """Daily temperatures to hundredths, by latitude and season with some noise, in a Zarr store with coordinates."""
    rng = np.random.default_rng(0)
    root = zarr.create_group(path, overwrite=True)
    dims = ("time", "lat", "lon")
    given, codec, dtype = LAYOUTS[layout]
    cut = tuple(min(part or size, size) for part, size in zip(chunks or given, shape, strict=True))
    packed = dtype == "int16"
    array = root.create_array(
        "sst",
        shape=shape,
        chunks=cut,
        dtype=dtype,
        compressors=codec,
        dimension_names=dims,
        attributes=_PACKING if packed else {},
    )
    days, height, width = shape
    lat, lon = np.linspace(-89.5, 89.5, height), np.linspace(0, 359.5, width)
    step = cut[0] * max(1, 32 // cut[0])
    for first in range(0, days, step):
        day = np.arange(first, min(days, first + step))[:, None, None]
        usual = 28 * np.cos(np.radians(lat))[:, None] + 2 * np.sin(np.radians(3 * lon))
        season = 5 * np.sin(2 * np.pi * day / 365.25 + np.radians(lat)[:, None])
        found = np.round(usual + season + rng.normal(0, 0.05, (len(day), height, width)), 2)
        array[first : first + len(day)] = (np.round((found - 15) * 100) if packed else found).astype(dtype)
    coordinates: dict[str, tuple[Any, dict[str, Any]]] = {
        "time": (np.arange(days), {"units": "days since 2011-01-01", "calendar": "standard"}),
        "lat": (lat, {"units": "degrees_north"}),
        "lon": (lon, {"units": "degrees_east"}),
    }
    for name, (values, attributes) in coordinates.items():
        one = root.create_array(
            name, shape=values.shape, dtype=values.dtype, dimension_names=(name,), attributes=attributes
        )
        one[:] = values


def draw_points(n: int, days: int, *, tracks: bool) -> dict[str, Any]:
    """Places within the centres, and midnights: there nearest and latest are the same step."""
    rng = np.random.default_rng(1)
    start, day = np.datetime64("2011-01-01", "ns"), np.timedelta64(1, "D")
    if not tracks:
        when = rng.integers(0, days, n)
        return {
            "time": start + when * day,
            "lat": rng.uniform(-89.5, 89.5, n),
            "lon": rng.uniform(0, 359.5, n),
        }
    ships, recent = min(200, n), min(30, days)
    each = n // ships
    when = np.tile(np.linspace(days - recent, days - 1, each).astype(int), (ships, 1))
    lat = rng.uniform(-50, 50, (ships, 1)) + np.cumsum(rng.normal(0, 0.05, (ships, each)), 1)
    lon = rng.uniform(20, 340, (ships, 1)) + np.cumsum(rng.normal(0, 0.05, (ships, each)), 1)
    order = np.argsort(when.reshape(-1), kind="stable")
    return {
        "time": start + when.reshape(-1)[order] * day,
        "lat": np.clip(lat, -89.5, 89.5).reshape(-1)[order],
        "lon": np.clip(lon, 0, 359.5).reshape(-1)[order],
    }


def ours(path: Path, points: dict[str, Any], threads: int) -> np.ndarray[Any, Any]:
    """Open the store, look the points up."""
    from featureflow.execute.grids.points import look_up_points
    from featureflow.library.cubes.registry import open_cube
    from featureflow.plan.grid_lookups import GridLookup, grid_input
    from featureflow.spec.models import Source

    cube = open_cube("sst", Source.model_validate({"path": str(path), "format": "zarr"}), "/")
    lookup = GridLookup(
        right=grid_input("sst", cube.outline, "time"),
        at=(("lat", "lat"), ("lon", "lon")),
        columns=(("sst", "sst"),),
        types=(pa.from_numpy_dtype(cube.outline["sst"].dtype),),
        method="nearest",
        ttl_us=None,
        allow_exact=True,
        place="benchmark",
    )
    given = {name: pa.array(points[name]) for name in ("lat", "lon")}
    times = points["time"].astype("datetime64[us]").astype(np.int64)
    (found,) = look_up_points(lookup, cube, given, times, threads=threads)
    return np.asarray(found)


def xarrays(path: Path, points: dict[str, Any], threads: int) -> np.ndarray[Any, Any]:
    """The same as its documentation does it: one vectorised `sel` of a cube whose chunks are Dask's."""
    import dask
    import xarray as xr

    cube = xr.open_zarr(path, chunks={}, consolidated=False)["sst"]
    where = {name: xr.DataArray(values, dims="point") for name, values in points.items()}
    with dask.config.set(scheduler="threads", num_workers=threads):
        return np.asarray(cube.sel(where, method="nearest").values)


def codecs(path: Path, layout: str, threads: int) -> None:
    """Read and decode every chunk once."""
    decode = numcodecs.Blosc().decode if layout == "maps" else numcodecs.Zstd().decode
    files = [each for each in (path / "sst" / "c").rglob("*") if each.is_file()]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(
            lambda mine: [len(decode(each.read_bytes())) for each in mine], _dealt(files, threads)
        ):
            pass


def _dealt(files: list[Path], n: int) -> list[list[Path]]:
    return [files[i::n] for i in range(n)]


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run both in turns; the first round of each, which compiles and imports, does not count."""
    path = folder / "cube.zarr"
    shape = (options.days, options.lat, options.lon)
    write_cube(path, shape, options.layout, options.chunks)
    points = draw_points(options.points, options.days, tracks=options.tracks)
    sides: dict[str, Any] = {
        "featureflow": lambda: ours(path, points, options.threads),
        "xarray": lambda: xarrays(path, points, options.threads),
        "codec": lambda: codecs(path, options.layout, options.threads),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, Any] = {}
    for turn in range(options.runs + 1):
        for name, function in sides.items():
            start, used = time.perf_counter(), time.process_time()
            found[name] = function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - used)
    assert np.array_equal(found["featureflow"], found["xarray"])
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    used_middle = {name: statistics.median(values) for name, values in cpu.items()}
    return {
        "layout": options.layout,
        "points": len(points["time"]),
        "cube_bytes": int(np.prod(shape)) * np.dtype(LAYOUTS[options.layout][2]).itemsize,
        "threads": options.threads,
        "load": os.getloadavg()[0],
        "seconds": middle,
        "cpu_seconds": used_middle,
        "runs": seconds,
        "ratio": middle["xarray"] / middle["featureflow"],
        "cpu_ratio": used_middle["xarray"] / used_middle["featureflow"],
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--lat", type=int, default=360)
    parser.add_argument("--lon", type=int, default=720)
    parser.add_argument("--layout", choices=list(LAYOUTS), default="maps")
    parser.add_argument("--chunks", type=int, nargs=3, help="other chunks than the layout's; 0 is all")
    parser.add_argument("--tracks", action="store_true", help="points of ships in the last 30 days")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    print(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
