"""A climate cube: month anomaly, 30-day mean, coarser cells; against xarray on Dask by hand, and against cubed.

Run by hand: ``python tests/benchmarks/grids.py --days 3652 --lat 720 --lon 768`` (8 GB of float32). Peers run in the
Python that is given for them, in turns with ours; outputs are compared value by value. Then one month is appended to
the source, and the build after that is compared with a full one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import Run, median, run, table
from benchmarks.wide_windows import build, remove_store

PEERS = Path(__file__).with_name("grid_peers.py")
SPEC = """\
featureflow: 1
project: bench
sources:
  sst: {{path: "{source}", format: zarr, time: time}}
features:
  sst_anomaly:
    source: sst
    variables: [sst]
    steps:
      - {{anomaly: {{over: time, by: month, period: ["{first}", "{last}"]}}}}
      - {{rolling: {{dim: time, window: 30, op: mean}}}}
      - {{coarsen: {{lat: 4, lon: 4, op: mean}}}}
    chunks: {{time: {chunks[0]}, lat: {chunks[1]}, lon: {chunks[2]}}}
"""


def write_cube(path: Path, days: int, height: int, width: int, *, first: int = 0) -> None:
    """Daily temperatures with seasons and noise, in hundredths of a degree; appended from day ``first`` on."""
    block = (365, 72, 96)
    start = np.datetime64("2011-01-01")
    if not first:
        root = zarr.create_group(path, overwrite=True)
        root.create_array(
            "sst",
            shape=(days, height, width),
            chunks=block,
            dtype="float32",
            dimension_names=("time", "lat", "lon"),
            fill_value=np.nan,
            attributes={"units": "degC"},
        )
        for name, size, low, high in (("lat", height, -89.5, 89.5), ("lon", width, 0.0, 359.5)):
            array = root.create_array(name, shape=(size,), dtype="float64", dimension_names=(name,))
            array[:] = np.linspace(low, high, size)
        time = root.create_array("time", shape=(days,), dtype="int64", dimension_names=("time",))
        time.attrs.update({"units": "days since 2011-01-01", "calendar": "proleptic_gregorian"})
        time[:] = np.arange(days)
    root = zarr.open_group(path, mode="r+")
    root["sst"].resize((days, height, width))
    root["time"].resize((days,))
    root["time"][first:] = np.arange(first, days)
    season = np.cos(
        (start + np.arange(days) - np.datetime64("2011-01-15")).astype(int) * (2 * np.pi / 365.25)
    )
    for low in range(first - first % block[0], days, block[0]):
        high = min(low + block[0], days)
        for top in range(0, height, block[1]):
            random = np.random.default_rng((low, top))
            cells = random.standard_normal((block[0], block[1], width), dtype=np.float32)[: high - low]
            values = 15 + 8 * season[low:high, None, None].astype(np.float32) + cells
            root["sst"][max(low, first) : high, top : top + block[1]] = np.round(values, 2)[
                max(low, first) - low :
            ]


def largest_difference(ours: Path, theirs: Path) -> str:
    """Largest difference of two outputs, and of where values are missing."""
    import featureflow as ff

    a = ff.open(str(ours)).table("sst_anomaly").to_xarray()["sst"]
    b = zarr.open_array(theirs / "sst", mode="r")
    worst, missing = 0.0, 0
    for low in range(0, a.sizes["time"], 100):
        one = a.isel(time=slice(low, low + 100)).to_numpy()
        other = b[low : low + 100]
        worst = max(worst, float(np.nanmax(np.abs(one - other), initial=0.0)))
        missing += int((np.isnan(one) != np.isnan(other)).sum())
    return f"largest difference {worst:.1e}, {missing} values missing on one side only"


def compare(given: Any, folder: Path) -> None:
    """Run everything in turns and print it."""
    source = folder / "sst.zarr"
    if not source.exists():
        write_cube(source, given.days, given.lat, given.lon)
    chunks = (365, 36, 48)
    last = str(np.datetime64("2011-01-01") + given.days - 1)
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.format(source=source, first="2011-01-01", last=last, chunks=chunks))
    store = folder / "store"
    found: dict[str, list[Run]] = {}
    for _ in range(given.runs):
        remove_store(store)
        found.setdefault("featureflow", []).append(build(spec, store, folder / "ours.log", *given.options))
        for peer in given.peers:
            target, scratch = folder / f"{peer}.zarr", folder / f"{peer}-scratch"
            shutil.rmtree(target, ignore_errors=True)
            python = given.cubed_python if peer == "cubed" else given.xarray_python
            command = [python, str(PEERS), peer, str(source), str(target), "--scratch", str(scratch)]
            command += ["--chunks", *map(str, chunks)]
            found.setdefault(peer, []).append(run(command, log=folder / f"{peer}.log"))
            shutil.rmtree(scratch, ignore_errors=True)
    rows = [["", "wall s", "CPU s", "peak MiB"]]
    for name, runs in found.items():
        one = median(runs)
        rows.append([name, f"{one.wall:.1f}", f"{one.cpu:.1f}", f"{one.peak >> 20}"])
    print(table(rows), f"\nload {os.getloadavg()[0]:.1f}")
    for peer in given.peers:
        print(f"{peer}: {largest_difference(store, folder / f'{peer}.zarr')}")
    # a usual of whole chunks of the source: the last one is written again, and would be learned from again
    last = str(np.datetime64("2011-01-01") + given.days // 365 * 365 - 1)
    spec.write_text(SPEC.format(source=source, first="2011-01-01", last=last, chunks=chunks))
    full = build(spec, store, folder / "ours.log", *given.options)
    write_cube(source, given.days + 30, given.lat, given.lon, first=given.days)
    more = build(spec, store, folder / "ours.log", *given.options)
    print(f"one more month: {more.wall:.1f} s, {more.wall / full.wall:.3f} of all of it")
    print(json.dumps({name: [one.wall for one in runs] for name, runs in found.items()}))


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=3652)
    parser.add_argument("--lat", type=int, default=720)
    parser.add_argument("--lon", type=int, default=768)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=["xarray-blocks"])
    parser.add_argument("--xarray-python", default=sys.executable)
    parser.add_argument("--cubed-python", default=sys.executable)
    parser.add_argument("--options", nargs="*", default=[])
    parser.add_argument("--workdir", type=Path)
    given = parser.parse_args(arguments)
    if given.workdir:
        given.workdir.mkdir(parents=True, exist_ok=True)
        compare(given, given.workdir)
        return
    with tempfile.TemporaryDirectory(prefix="grids-") as name:
        compare(given, Path(name))


if __name__ == "__main__":
    main()
