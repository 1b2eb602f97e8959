"""What users write by hand for the same grid: run by grids.py as ``python grid_peers.py PEER SOURCE TARGET``."""

from __future__ import annotations

import argparse
from typing import Any

WINDOW, FACTOR = 30, 4


def features(cube: Any) -> Any:
    """Month anomaly, trailing mean, coarser cells, of an xarray array, lazy or not."""
    months = cube.groupby("time.month")
    anomaly = (months - months.mean("time")).drop_vars("month")
    return anomaly.rolling(time=WINDOW).mean().coarsen(lat=FACTOR, lon=FACTOR).mean().astype("float32")


def with_xarray(source: str, target: str, *, blocks: bool, chunks: dict[str, int]) -> None:
    """With xarray on Dask's threads.

    ``blocks``: as an expert writes it, one eager function for each block that has all times; else as it reads best.
    """
    import xarray as xr

    cube = xr.open_zarr(source, chunks={}).sst
    if blocks:
        cube = cube.chunk(time=-1)
        small = cube.isel(lat=slice(None, None, FACTOR), lon=slice(None, None, FACTOR))
        coordinates = {name: cube[name].coarsen({name: FACTOR}).mean() for name in ("lat", "lon")}
        made = cube.map_blocks(features, template=small.assign_coords(coordinates))
    else:
        made = features(cube)
    made = made.rename("sst").chunk(chunks)
    made.encoding.clear()
    made.to_dataset().to_zarr(target, mode="w", zarr_format=3, consolidated=False)


def with_cubed(source: str, target: str, *, chunks: dict[str, int], memory: str, scratch: str) -> None:
    """The same with cubed's operations; a window is a difference of cumulative sums, which is what it has."""
    import cubed
    import cubed.array_api as xp
    import numpy as np
    import xarray as xr

    spec = cubed.Spec(work_dir=scratch, allowed_mem=memory)
    lazy = xr.open_zarr(source, chunks=None)
    month = lazy.time.dt.month.values - 1
    raw = cubed.from_zarr(f"{source}/sst", spec=spec)
    n = raw.shape[0]
    raw = raw.rechunk((n, *raw.chunksize[1:]))

    def columns(block: Any) -> Any:  # all times of its cells
        wide = block.astype(np.float64)
        out = np.empty_like(wide)
        for one in range(12):
            out[month == one] = wide[month == one] - wide[month == one].mean(axis=0)
        total = np.cumsum(out, axis=0)
        out[: WINDOW - 1] = np.nan
        out[WINDOW - 1] = total[WINDOW - 1] / WINDOW
        out[WINDOW:] = (total[WINDOW:] - total[:-WINDOW]) / WINDOW
        times, rows, cells = out.shape
        grouped = out.reshape(times, rows // FACTOR, FACTOR, cells // FACTOR, FACTOR)
        return grouped.mean(axis=(2, 4)).astype(np.float32)

    made = cubed.map_blocks(
        columns,
        raw,
        dtype=xp.float32,
        chunks=((n,), tuple(c // FACTOR for c in raw.chunks[1]), tuple(c // FACTOR for c in raw.chunks[2])),
    )
    made = made.rechunk((chunks["time"], chunks["lat"], chunks["lon"]))
    cubed.to_zarr(made, f"{target}/sst", executor=cubed.runtime.create.create_executor("threads"))


def main() -> None:
    """Run one peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["xarray", "xarray-blocks", "cubed"])
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--chunks", type=int, nargs=3, default=(365, 90, 96))
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--scratch", default="")
    given = parser.parse_args()
    chunks = dict(zip(("time", "lat", "lon"), given.chunks, strict=True))
    if given.peer == "cubed":
        with_cubed(given.source, given.target, chunks=chunks, memory=given.memory, scratch=given.scratch)
    else:
        with_xarray(given.source, given.target, blocks=given.peer == "xarray-blocks", chunks=chunks)


if __name__ == "__main__":
    main()
