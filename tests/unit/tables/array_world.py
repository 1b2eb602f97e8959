"""Small grids, and builds of their arrays without a planner: every chunk of a span of times is written."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr
import xxhash

from featureflow.tables.arrays import ArraySpec, ArrayWrite, begin, write_region
from featureflow.tables.commit import Published, publish
from featureflow.tables.layout import file_path
from featureflow.tables.parquet_files import write_file
from featureflow.tables.state import current_state

CHUNKS = {"time": 4, "lat": 9, "lon": 8}  # large enough to be objects of their own


def cube(times: int, *, seed: int = 0, missing: bool = True) -> xr.Dataset:
    """A field with every kind of coordinate; a longer one begins with the same values."""
    rng = np.random.default_rng(seed)
    values = np.stack([np.random.default_rng((seed, i)).random((17, 14)) for i in range(times)]).astype(
        "float32"
    )
    if missing:
        values[:, 1, 2] = np.nan
        values[:4, :9, :8] = np.nan  # a chunk without any value
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
            "lat": ("lat", np.linspace(-60, 60, 17), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(14.0), {"units": "degrees_east"}),
            "known_at": ("time", begin_of + pd.Timedelta("31D")),
            "area": (("lat", "lon"), rng.random((17, 14))),
            "station": ("lat", np.array(["é", *("s" * i for i in range(16))], dtype=object)),
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


def rows_of(data: xr.Dataset) -> pa.Table:
    """One row for each variable and chunk, by hand."""
    rows = []
    for region in regions(data):
        for name, block in part(data, region).data_vars.items():
            values = np.ascontiguousarray(block.values)
            there = values[~np.isnan(values)] if values.dtype.kind == "f" else values
            spans = {f"{d}_{e}": region[d][i] for d in block.dims for i, e in enumerate(("start", "stop"))}
            some = bool(there.size)
            rows.append(
                {
                    "variable": name,
                    "chunk": [region[d][0] // CHUNKS[d] for d in block.dims],
                    **{f"{d}_{e}": None for d in data.sizes for e in ("start", "stop")},
                    **spans,
                    "fingerprint": "f",
                    "digest": xxhash.xxh3_128(values.tobytes()).hexdigest(),
                    "count": there.size,
                    "nulls": values.size - there.size,
                    "min": float(there.min()) if some else None,
                    "max": float(there.max()) if some else None,
                    "mean": float(there.mean(dtype="float64")) if some else None,
                    "bytes": values.nbytes,
                }
            )
    integers = ("count", "nulls", "bytes", *(f"{d}_{e}" for d in data.sizes for e in ("start", "stop")))
    columns: dict[str, Any] = {name: pa.string() for name in ("variable", "fingerprint", "digest")}
    columns |= dict.fromkeys(integers, pa.int64()) | dict.fromkeys(("min", "max", "mean"), pa.float64())
    columns["chunk"] = pa.list_(pa.int64())
    return pa.Table.from_pylist(rows, pa.schema([(name, columns[name]) for name in rows[0]]))


def publish_grid(url: str, data: xr.Dataset, build_id: str, **options: Any) -> Published:
    """Build arrays on the latest version and publish them as the next one."""
    state = current_state(url)
    base = state.record["arrays"]["snapshot"] if state else None
    snapshot = build(url, data, build_id, base, first=options.pop("first", 0))
    rows = rows_of(data)
    path = file_path(None, None, 0, xxhash.xxh3_128(str(rows.to_pylist()).encode()).hexdigest())
    staged = write_file(rows, url, path, keys=["variable"], time=None)
    outline = {
        "snapshot": snapshot,
        "dims": list(data.sizes),
        "sizes": dict(data.sizes),
        "chunks": CHUNKS,
        "shards": None,
        "variables": {
            name: {
                "dims": list(variable.dims),
                "dtype": str(variable.dtype),
                "units": variable.attrs.get("units"),
                "attrs": {key: str(value) for key, value in variable.attrs.items()},
            }
            for name, variable in data.data_vars.items()
        },
        "attrs": {},
    }
    arguments: dict[str, Any] = {
        "schema": rows.schema,
        "partition": "none",
        "keys": ["variable"],
        "time": None,
        "adds": [staged],
        "removes": [file.path for file in state.files if file.path != staged.path] if state else [],
        "record": {
            "build": build_id,
            "definition_hash": "h",
            "definition": {},
            "kind": "grid",
            "arrays": outline,
        },
        "expected_version": state.version if state else None,
    }
    return publish(url, **{**arguments, **options})
