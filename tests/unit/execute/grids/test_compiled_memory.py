"""A chunk that no task can hold is a mistake of the spec, told by `compile` from metadata alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zarr

import featureflow
from featureflow.core.errors import SpecError

SPEC = """
featureflow: 1
sources: {cells: {path: cells.zarr, format: zarr}}
features:
  high:
    source: cells
    steps: [{percentile: {dims: [time], q: 90}}]
    chunks: {lat: LAT, lon: 500}
targets:
  large: {cluster: {class: dask_jobqueue.SLURMCluster}, workers: 2, threads: 1, memory: 200GB}
  unknown: {scheduler: "tcp://127.0.0.1:1", memory: 1GB}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 GB of values, none of which is written."""
    found = tmp_path_factory.mktemp("cells")
    root = zarr.create_group(found / "cells.zarr")
    shape, dims = (20_000, 500, 500), ("time", "lat", "lon")
    root.create_array("x", shape=shape, chunks=(100, 500, 500), dtype="f4", dimension_names=dims)
    for dim, n in zip(dims, shape, strict=True):
        root.create_array(dim, data=np.arange(n), dimension_names=(dim,))
    return found


def compiled(folder: Path, lat: int, **options: object) -> dict[str, object]:
    (folder / "featureflow.yaml").write_text(SPEC.replace("LAT", str(lat)))
    return featureflow.Project(folder / "featureflow.yaml", **options).compile_grids()


def test_it_is_told_with_its_place_and_the_numbers(folder: Path) -> None:
    with pytest.raises(SpecError) as caught:
        compiled(folder, 500, scheduler="threads", workers=2, memory="4GB")
    assert re.search(
        r"featureflow\.yaml:8:13: features\.high\.chunks: a task for one chunk \(lat 500, lon 500\) needs "
        r"\d+(\.\d)? GB of memory, and \d\.\d GB are allowed\. .*'percentile' .*time 20000: 20\.0 GB",
        str(caught.value),
    )


def test_small_chunks_more_memory_and_a_cluster_that_is_large_enough_are_no_mistake(folder: Path) -> None:
    assert "high" in compiled(folder, 5, scheduler="threads", workers=2, memory="4GB")
    assert "high" in compiled(folder, 500, scheduler="threads", workers=1, memory="200GB")
    assert "high" in compiled(folder, 500, target="large")


def test_a_cluster_that_would_have_to_be_asked_is_not(folder: Path) -> None:
    assert "high" in compiled(folder, 500, target="unknown")
