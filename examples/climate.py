"""From temperatures on a map to anomalies, versions, and shards of patches: ``examples/climate.py [PICTURE.png]``.

Needs ``pip install hvsampledata``, which carries five days of temperatures over North America (NetCDF); the picture
needs ``matplotlib``. Makes its project in a temporary folder, so that it can be run anywhere and leaves nothing behind.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import featureflow as ff

SPEC = """
featureflow: 1
project: climate

sources:
  air: {path: "AIR", format: netcdf, time: time}

features:
  air_anomaly:
    description: How much warmer than usual at this hour, over the last day.
    source: air
    variables: [air]
    steps:
      - {cast: {air: float32}}
      - {anomaly: {over: time, by: hour, period: ["2014-02-24", "2014-02-26T18:00"]}}
      - {rolling: {dim: time, window: 4, op: mean}}
    chunks: {time: 4, lat: 25, lon: 53}

datasets:
  air_patches:
    spine: {grid: air_anomaly, patch: {time: 4, lat: 8, lon: 8}, stride: {time: 4, lat: 4, lon: 4}, valid: 1}
    split: {by: time, train: "< 2014-02-27", test: rest}
    export: {format: arrow, normalize: {method: standard}}
"""


def data_file() -> Path:
    """The NetCDF file of the installed package, which is found and not imported."""
    found = find_spec("hvsampledata")
    if found is None or found.origin is None:
        sys.exit("This example reads a file of hvsampledata: pip install hvsampledata")
    return Path(found.origin).parent / "_data" / "air_temperature_small.nc"


def draw(anomaly: Any, path: str) -> None:
    """Draw the last day's anomaly as a map."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    last = anomaly.isel(time=-1)
    limit = float(np.abs(last).max())
    drawn = axes.pcolormesh(last.lon, last.lat, last, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(drawn, label="K warmer than usual")
    axes.set(title=f"The day until {str(last.time.values)[:16]}", xlabel="longitude", ylabel="latitude")
    figure.savefig(path, dpi=120)


def main(picture: str | None = None) -> None:
    """Build, look at the grid, load batches of patches."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "featureflow.yaml").write_text(SPEC.replace("AIR", str(data_file())))
        project = ff.Project(
            root / "featureflow.yaml", store=str(root / "store"), scratch=str(root / "scratch")
        )
        project.build()
        anomaly = project.table("air_anomaly").to_xarray()["air"]
        print(
            f"air_anomaly@1: {dict(anomaly.sizes)}, {float(anomaly.isel(time=-1).mean()):+.2f} K at the end"
        )
        patches = project.dataset("air_patches")
        print(f"{patches}: {patches.to_polars()['split'].value_counts(sort=True).rows()}")
        shards = ff.load_shards(root / "store" / "exports" / "air_patches" / "1")
        batch = next(iter(shards.numpy(batch_size=32, split="train", shuffle=True, seed=0)))
        print(f"a batch: air {batch['air'].shape} {batch['air'].dtype}, mean {np.nanmean(batch['air']):+.2f}")
        if picture:
            draw(anomaly, picture)
            print(f"{picture}: the map of the last day")


if __name__ == "__main__":
    main(*sys.argv[1:2])
