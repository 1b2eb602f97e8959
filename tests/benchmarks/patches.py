"""Patches of a grid: their export to shards, and the loading of these, in bytes of patches a second.

Run by hand: ``python tests/benchmarks/patches.py --gigabytes 2 --peers``. A grid of float32 is built, then cut into
patches of 8 x 64 x 64 that do not overlap. Peers that are not installed are named and left out. xbatcher cuts patches
out of the stored grid; for MDS and webdataset the grid is read whole into memory, cut, and written as shards of their
own, in one thread. One runs after the other, and the sums of all values must be equal.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import featureflow as ff

PATCH = (8, 64, 64)
SPEC = """
project: benchmark
sources: {{field: {{path: field.zarr, format: zarr}}}}
features:
  grid: {{source: field, steps: [{{cast: {{x: float32}}}}], chunks: {{time: 32, lat: 256, lon: 256}}}}
datasets:
  cut:
    spine: {{grid: grid, patch: {patch}}}
    export: {{format: arrow, shard_size: 128MB, keys: false{shuffle}}}
"""


def write_field(folder: Path, sizes: tuple[int, int, int]) -> int:
    """Smooth values with little noise, in a Zarr store; returns their bytes."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=sizes[1:]).astype("f4")
    steps = np.sin(np.arange(sizes[0]) / 20).astype("f4")
    data = xr.DataArray(
        np.round(15 + 8 * steps[:, None, None] + noise, 2).astype("f4"),
        dims=("time", "lat", "lon"),
        coords={"time": np.datetime64("2020-01-01", "ns") + np.arange(sizes[0]) * np.timedelta64(1, "D")},
        name="x",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Zarr, about consolidated metadata
        data.to_dataset().to_zarr(
            folder / "field.zarr", encoding={"x": {"chunks": (32, 256, 256)}}, consolidated=False
        )
    return int(data.nbytes)


def timed(function: Callable[[], float], runs: int) -> dict[str, Any]:
    """Seconds of wall and CPU, medians, and what the function returns."""
    walls, cpus, found = [], [], 0.0
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        found = function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": statistics.median(walls), "cpu": statistics.median(cpus), "sum": found}


def load(folder: str, *, verify: bool, add: bool) -> float:
    """All batches once; the sum of their values if it is wanted, else each array is only had."""
    total = 0.0
    for batch in ff.load_shards(folder, verify=verify).numpy(64, "all", seed=1):
        total += float(batch["x"].sum(dtype=np.float64)) if add else batch["x"].nbytes
    return total


def by_xbatcher(cube: xr.Dataset) -> float:
    """Cut by xbatcher out of a lazy Dataset, one patch after the other."""
    import xbatcher

    sizes = dict(zip(("time", "lat", "lon"), PATCH, strict=True))
    total = 0.0
    for one in xbatcher.BatchGenerator(cube, input_dims=sizes):
        total += float(one["x"].values.sum(dtype=np.float64))
    return total


def cut_all(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """All patches: ``(n, 8, 64, 64)``."""
    a, b, c = (size // patch for size, patch in zip(values.shape, PATCH, strict=True))
    cut = values[: a * PATCH[0], : b * PATCH[1], : c * PATCH[2]]
    return cut.reshape(a, PATCH[0], b, PATCH[1], c, PATCH[2]).transpose(0, 2, 4, 1, 3, 5).reshape(-1, *PATCH)


def write_mds(cube: xr.Dataset, folder: Path) -> float:
    """Read the grid and write its patches with MDS."""
    from streaming import MDSWriter

    shutil.rmtree(folder, ignore_errors=True)
    shape = ",".join(map(str, PATCH))
    with MDSWriter(out=str(folder), columns={"x": f"ndarray:float32:{shape}"}, size_limit=128 << 20) as out:
        for patch in cut_all(cube["x"].values):
            out.write({"x": np.ascontiguousarray(patch)})
    return 0.0


def read_mds(folder: Path) -> float:
    """Read them again, in order."""
    from streaming import LocalDataset

    data = LocalDataset(str(folder))
    return sum(float(data[i]["x"].sum(dtype=np.float64)) for i in range(len(data)))


def write_webdataset(cube: xr.Dataset, folder: Path) -> float:
    """Read the grid and write its patches with webdataset."""
    import webdataset

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxsize=128 << 20, verbose=0) as out:
        for number, patch in enumerate(cut_all(cube["x"].values)):
            out.write({"__key__": f"{number:09d}", "x.npy": np.ascontiguousarray(patch)})
    return 0.0


def read_webdataset(folder: Path) -> float:
    """Read them again, in order."""
    import webdataset

    urls = sorted(str(path) for path in folder.glob("*.tar"))
    data = webdataset.WebDataset(urls, shardshuffle=False).decode()
    return sum(float(one["x.npy"].sum(dtype=np.float64)) for one in data)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Build the grid and the dataset, then export and load them."""
    n_bytes = write_field(folder, tuple(options.sizes))
    patch = "{time: %d, lat: %d, lon: %d}" % PATCH  # noqa: UP031  braces are YAML's
    (folder / "p.yaml").write_text(SPEC.format(patch=patch, shuffle=""))
    project = ff.Project(
        folder / "p.yaml",
        store=str(folder / "store"),
        scheduler="threads",
        workers=options.workers,
        scratch=folder / "scratch",
    )
    project.build()
    found: dict[str, Any] = {"bytes": n_bytes, "workers": options.workers, "load_average": os.getloadavg()[0]}

    def export() -> float:
        shutil.rmtree(folder / "shards", ignore_errors=True)
        shutil.rmtree(folder / "scratch", ignore_errors=True)
        project.export("cut", {"format": "arrow", "shard_size": "128MB", "path": str(folder / "shards")})
        return 0.0

    shards = str(folder / "shards" / "cut")
    cases: dict[str, Callable[[], float]] = {
        "export": export,
        "load, batches only": lambda: load(shards, verify=False, add=False),
        "load, checksums": lambda: load(shards, verify=True, add=False),
        "load, checksums, summed": lambda: load(shards, verify=True, add=True),
    }
    cube = ff.open(str(folder / "store")).table("grid").to_xarray()
    peers: dict[str, dict[str, Callable[[], float]]] = {
        "xbatcher": {"xbatcher, summed": lambda: by_xbatcher(cube)},
        "streaming": {
            "MDS write": lambda: write_mds(cube, folder / "mds"),
            "MDS read, summed": lambda: read_mds(folder / "mds"),
        },
        "webdataset": {
            "webdataset write": lambda: write_webdataset(cube, folder / "wds"),
            "webdataset read, summed": lambda: read_webdataset(folder / "wds"),
        },
    }
    for name, given in peers.items() if options.peers else ():
        if importlib.util.find_spec(name) is None:
            found[name] = "not installed"
        else:
            cases |= given
    for name, function in cases.items():
        took = timed(function, options.runs)
        rates = {f"gb_per_{of}_s": n_bytes / took[of] / 1e9 for of in ("wall", "cpu")}
        found[name] = took | rates
    sums = [each["sum"] for name, each in found.items() if name.endswith("summed")]
    assert np.allclose(sums, sums[0], rtol=1e-9)
    return found


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=3, default=[512, 1024, 1024], help="time, lat, lon: 2 GB")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--workdir", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="patches-") as name:
        found = measure(options, Path(name))
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
