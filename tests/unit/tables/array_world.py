"""Small grids, and builds of their arrays without a planner: every chunk of a span of times is written."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from featureflow.tables.arrays import ArraySpec, ArrayWrite, begin, write_region

CHUNKS = {"time": 4, "lat": 3, "lon": 4}


def cube(times: int, *, seed: int = 0, missing: bool = True) -> xr.Dataset:
    """A field with every kind of coordinate; a longer one begins with the same values."""
    rng = np.random.default_rng(seed)
    values = np.stack([np.random.default_rng((seed, i)).random((5, 6)) for i in range(times)]).astype(
        "float32"
    )
    if missing:
        values[:, 1, 2] = np.nan
        values[:4, :3, :4] = np.nan  # a chunk without any value
    begin_of = pd.date_range("2000-01-01", periods=times, freq="D")
    return xr.Dataset(
        {
            "sst": (
                ("time", "lat", "lon"),
                values,
                {"units": "K", "grid_mapping": "crs", "long_name": "sea"},
            ),
            "n": (("time",), np.arange(times), {"flags": np.array([1, 2])}),
        },
        coords={
            "time": begin_of,
            "lat": ("lat", np.linspace(-60, 60, 5), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(6.0), {"units": "degrees_east"}),
            "known_at": ("time", begin_of + pd.Timedelta("31D")),
            "area": (("lat", "lon"), rng.random((5, 6))),
            "station": ("lat", np.array(["a", "bb", "ccc", "dddd", "é"], dtype=object)),
            "crs": ((), 0, {"grid_mapping_name": "latitude_longitude"}),
        },
        attrs={"title": "a small sea", "levels": [1, 2.5]},
    )


def regions(
    data: xr.Dataset, chunks: dict[str, int] = CHUNKS, first: int = 0
) -> list[dict[str, tuple[int, int]]]:
    """Boxes of one chunk each, those from a time on."""
    spans = []
    for dim in ("time", "lat", "lon"):
        size, step = data.sizes[dim], chunks[dim]
        begins = range(first if dim == "time" else 0, size, step)
        spans.append([(low, min(low + step, size)) for low in begins])
    return [dict(zip(("time", "lat", "lon"), one, strict=True)) for one in itertools.product(*spans)]


def part(data: xr.Dataset, region: dict[str, tuple[int, int]]) -> xr.Dataset:
    """What a task computes: a variable without some dimension belongs to the first chunk along it."""
    cut = data.isel({dim: slice(*span) for dim, span in region.items()})
    away = [
        name
        for name in cut.data_vars
        if any(region[d][0] for d in ("lat", "lon") if d not in data[name].dims)
    ]
    return cut.drop_vars(away)


def write_all(write: ArrayWrite, data: xr.Dataset, *, first: int = 0) -> list[bytes]:
    """Every chunk from a time on, a fork each."""
    fork = write.fork()
    return [write_region(fork, region, part(data, region)) for region in regions(data, first=first)]


def build(url: str, data: xr.Dataset, build_id: str, base: str | None = None, **options: Any) -> str:
    """Write everything, commit."""
    first = options.pop("first", 0)
    write = begin(url, ArraySpec(data, CHUNKS, **options), build_id, base)
    write.merge(write_all(write, data, first=first))
    return write.commit("chunks")
