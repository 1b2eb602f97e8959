"""Patches of a grid: their export to shards, and the loading of these, in bytes of patches a second.

Run by hand: ``python tests/benchmarks/patches.py --peers --peers-python PATH``. A grid of float32 is built, then cut
into patches of 8 x 64 x 64 that do not overlap, and exported: shuffled (the default) as Arrow, MDS and webdataset; in
their own order as Arrow. Peers that are not installed are named and left out: xbatcher cuts patches out of the stored
grid, in this interpreter; mosaicml-streaming and webdataset (in that of ``--peers-python``) are given the grid decoded
in memory, in one thread, and write shards in order. One runs after the other; the sums of all values must be equal.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
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


def other_library(name: str, python: str, values: Path, folder: Path, runs: int) -> dict[str, Any]:
    """Write and read by a library of another interpreter; empty if it is not there."""
    known = subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False)
    if known.returncode:
        return {}
    script = Path(__file__).with_name("patch_peers.py")
    command = [python, str(script), name, str(values), str(folder), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        f"{name} {what}": {
            "wall": statistics.median(took["wall"]),
            "cpu": statistics.median(took["cpu"]),
            "sum": took["sum"],
        }
        for what, took in found.items()
    }


def add_peers(found: dict[str, Any], options: argparse.Namespace, folder: Path, cube: xr.Dataset) -> None:
    """What other libraries take."""
    if importlib.util.find_spec("xbatcher") is None:
        found["xbatcher"] = "not installed"
    else:
        found["xbatcher, summed"] = timed(lambda: by_xbatcher(cube), options.runs)
    values = folder / "values.npy"
    np.save(values, cube["x"].values)
    for name in ("streaming", "webdataset"):
        took = other_library(name, options.peers_python, values, folder / name, options.runs)
        found |= took or {name: "not installed"}
        shutil.rmtree(folder / name, ignore_errors=True)


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """How many times as fast as each peer, by wall."""
    loaded = "load, checksums, summed"
    pairs = [
        ("export mds", "streaming write"),
        ("export webdataset", "webdataset write"),
        (loaded, "xbatcher, summed"),
        (loaded, "streaming read, summed"),
        (loaded, "webdataset read, summed"),
    ]
    return {
        f"{ours} : {peer}": found[peer]["wall"] / found[ours]["wall"]
        for ours, peer in pairs
        if ours in found and peer in found
    }


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

    def export(form: str, **more: Any) -> float:
        shutil.rmtree(folder / form, ignore_errors=True)
        shutil.rmtree(folder / "scratch", ignore_errors=True)
        path = str(folder / form)
        project.export("cut", {"format": form, "shard_size": "128MB", "keys": False, "path": path, **more})
        return 0.0

    shards = str(folder / "arrow" / "cut")
    cases: dict[str, Callable[[], float]] = {
        "export mds": lambda: export("mds"),
        "export webdataset": lambda: export("webdataset"),
        "export in order": lambda: export("arrow", shuffle=False),
        "export": lambda: export("arrow"),
        "load, batches only": lambda: load(shards, verify=False, add=False),
        "load, checksums": lambda: load(shards, verify=True, add=False),
        "load, checksums, summed": lambda: load(shards, verify=True, add=True),
    }
    for name, function in cases.items():
        found[name] = timed(function, options.runs)
        for form in ("mds", "webdataset"):
            shutil.rmtree(folder / form, ignore_errors=True)
    if options.peers:
        add_peers(found, options, folder, ff.open(str(folder / "store")).table("grid").to_xarray())
    for took in found.values():
        if isinstance(took, dict):
            took |= {f"gb_per_{of}_s": n_bytes / took[of] / 1e9 for of in ("wall", "cpu")}
    sums = [each["sum"] for name, each in found.items() if name.endswith("summed")]
    assert np.allclose(sums, sums[0], rtol=1e-9)
    found["times as fast"] = ratios(found)
    return found


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=3, default=[512, 1024, 1024], help="time, lat, lon: 2 GB")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--peers-python", default=sys.executable, help="has mosaicml-streaming, webdataset")
    parser.add_argument("--workdir", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="patches-") as name:
        found = measure(options, Path(name))
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
