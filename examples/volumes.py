"""From a brain scan to scaled volumes and shards of patches: ``examples/volumes.py [PICTURE.png]``.

Needs ``pip install nibabel``, which reads NIfTI and carries a small MR volume; the picture needs ``matplotlib``. Makes
its project in a temporary folder, so that it can be run anywhere and leaves nothing behind.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import featureflow as ff

SPEC = """
featureflow: 1
project: volumes

sources:
  scan: {path: "SCAN", format: nifti}

features:
  intensity:
    description: From 0 to 1, without the brightest and darkest hundredth.
    source: scan
    steps:
      - {cast: float32}
      - {clip: {quantiles: [0.01, 0.99], period: all}}
      - {normalize: {period: all}}
    chunks: {x: 16, y: 16, z: 16}

  edges:
    description: How steep the intensity is along the body's left and right.
    source: intensity
    steps:
      - {gradient: {dim: x}}
    chunks: {x: 16, y: 16, z: 16}

datasets:
  cubes:
    spine: {grid: intensity, patch: {x: 8, y: 8, z: 8}, stride: {x: 4, y: 4, z: 4}, valid: 1}
    split: {by: block, block: {x: 16, y: 16, z: 50}, train: 0.7, test: rest}
    export: {format: webdataset}
"""


def data_file() -> Path:
    """The NIfTI file of the installed package, which is found and not imported."""
    found = find_spec("nibabel")
    if found is None or found.origin is None:
        sys.exit("This example reads a file of nibabel: pip install nibabel")
    return Path(found.origin).parent / "tests" / "data" / "anatomical.nii"


def draw(volumes: list[tuple[str, Any]], path: str) -> None:
    """Draw the middle slice of each volume."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    for axes, (title, volume) in zip(figure.subplots(1, len(volumes)), volumes, strict=True):
        middle = volume.isel(z=volume.sizes["z"] // 2)
        drawn = axes.pcolormesh(middle.x, middle.y, middle.T, cmap="gray")
        axes.set(title=title, xlabel="x (mm)", ylabel="y (mm)", aspect="equal")
        figure.colorbar(drawn)
    figure.savefig(path, dpi=120)


def main(picture: str | None = None) -> None:
    """Build, look at the grids, load batches of patches."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "featureflow.yaml").write_text(SPEC.replace("SCAN", str(data_file())))
        project = ff.Project(
            root / "featureflow.yaml", store=str(root / "store"), scratch=str(root / "scratch")
        )
        project.build()
        intensity = project.table("intensity").to_xarray()["image"]
        edges = project.table("edges").to_xarray()["image"]
        print(f"intensity@1: {dict(intensity.sizes)}, {float(intensity.min())} to {float(intensity.max())}")
        rows = project.dataset("cubes").to_polars()
        print(f"cubes@1: {dict(sorted(rows['split'].value_counts().rows()))}")
        shards = ff.load_shards(root / "store" / "exports" / "cubes" / "1")
        batch = next(iter(shards.numpy(batch_size=16, split="train", shuffle=True, seed=0)))
        print(f"a batch: image {batch['image'].shape} {batch['image'].dtype}")
        if picture:
            draw([("intensity", intensity), ("edges", edges)], picture)
            print(f"{picture}: a slice of both")


if __name__ == "__main__":
    main(*sys.argv[1:2])
