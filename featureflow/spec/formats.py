"""The format of a source from the suffix of its path."""

from __future__ import annotations

from typing import Any

#: suffix to format; a compressed text file keeps its inner suffix (``.csv.gz``)
SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".delta": "delta",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".zarr": "zarr",
    ".nc": "netcdf",
    ".nc4": "netcdf",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".grib": "grib",
    ".grib2": "grib",
    ".grb": "grib",
    ".grb2": "grib",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".dcm": "dicom",
    ".nii": "nifti",
}
#: formats of N-d data, which grids are made of
GRID_FORMATS = ("zarr", "netcdf", "hdf5", "grib", "tiff", "dicom", "nifti")
_COMPRESSED = (".gz", ".zst", ".zstd")


def format_of(path: Any) -> str | None:
    """The format that all suffixes of a path (text or list of texts) agree on; None if they do not tell.

    Examples
    --------
    >>> format_of("s3://lake/day=*/part-*.parquet"), format_of(["a.csv", "b.csv.gz"]), format_of("lake/")
    ('parquet', 'csv', None)
    """
    paths = [path] if isinstance(path, str) else path
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(one, str) for one in paths):
        return None
    found = {_format_of_one(one) for one in paths}
    return found.pop() if len(found) == 1 else None


def _format_of_one(path: str) -> str | None:
    text = path.rstrip("/").lower()
    for compressed in _COMPRESSED:
        text = text.removesuffix(compressed)
    for suffix, name in SUFFIXES.items():
        if text.endswith(suffix):
            return name
    return None
