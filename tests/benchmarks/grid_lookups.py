"""Points in a cube: our look-ups against xarray's vectorised indexing of the same Zarr store, backed by Dask.

Run by hand: ``python tests/benchmarks/grid_lookups.py --points 1000000``. Both sides run in this process with as many
threads, in turns; the values are compared. Points are at random places and days, so that every chunk has some.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr


def write_cube(path: Path, days: int, height: int, width: int, chunks: tuple[int, int, int]) -> None:
    """Daily float32 values, without gaps, in a Zarr store with coordinates."""
    rng = np.random.default_rng(0)
    root = zarr.create_group(path, overwrite=True)
    dims = ("time", "lat", "lon")
    values = root.create_array(
        "sst", shape=(days, height, width), chunks=chunks, dtype="float32", dimension_names=dims
    )
    for first in range(0, days, chunks[0]):
        stop = min(days, first + chunks[0])
        values[first:stop] = np.round(rng.normal(15, 8, (stop - first, height, width)), 2).astype("float32")
    coordinates: dict[str, tuple[Any, dict[str, str]]] = {
        "time": (np.arange(days), {"units": "days since 2011-01-01", "calendar": "standard"}),
        "lat": (np.linspace(-89.5, 89.5, height), {"units": "degrees_north"}),
        "lon": (np.linspace(0, 359.5, width), {"units": "degrees_east"}),
    }
    for name, (found, attributes) in coordinates.items():
        array = root.create_array(
            name, shape=found.shape, dtype=found.dtype, dimension_names=(name,), attributes=attributes
        )
        array[:] = found


def draw_points(n: int, days: int) -> dict[str, Any]:
    """Places anywhere within the centres, and midnights: there nearest and latest are the same step."""
    rng = np.random.default_rng(1)
    return {
        "time": np.datetime64("2011-01-01", "ns") + rng.integers(0, days, n) * np.timedelta64(1, "D"),
        "lat": rng.uniform(-89.5, 89.5, n),
        "lon": rng.uniform(0, 359.5, n),
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
        types=(pa.float32(),),
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


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run both in turns; the first round of each, which compiles and imports, does not count."""
    path = folder / "cube.zarr"
    write_cube(path, options.days, options.lat, options.lon, tuple(options.chunks))
    points = draw_points(options.points, options.days)
    seconds: dict[str, list[float]] = {"featureflow": [], "xarray": []}
    found: dict[str, Any] = {}
    for turn in range(options.runs + 1):
        for name, function in (("featureflow", ours), ("xarray", xarrays)):
            start = time.perf_counter()
            found[name] = function(path, points, options.threads)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    assert np.array_equal(found["featureflow"], found["xarray"])
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "points": options.points,
        "cube_bytes": 4 * options.days * options.lat * options.lon,
        "threads": options.threads,
        "load": os.getloadavg()[0],
        "seconds": middle,
        "runs": seconds,
        "ratio": middle["xarray"] / middle["featureflow"],
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--lat", type=int, default=360)
    parser.add_argument("--lon", type=int, default=720)
    parser.add_argument("--chunks", type=int, nargs=3, default=[73, 90, 90])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    print(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
