"""Sources of N-d data by format. A format's module is imported when a source of it is opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from featureflow.core.errors import CubeMistake, SourceError

if TYPE_CHECKING:
    from featureflow.library.cubes.contents import Contents
    from featureflow.library.cubes.stored import StoredCube
    from featureflow.spec.sources import Source

#: formats that are files, each a module and a class
FILES = {
    "netcdf": ("netcdf", "NetcdfPart"),
    "hdf5": ("netcdf", "NetcdfPart"),
    "grib": ("grib", "GribPart"),
    "tiff": ("tiff", "TiffPart"),
    "dicom": ("dicom", "DicomPart"),
    "nifti": ("nifti", "NiftiPart"),
}
FORMATS = ("zarr", *FILES)
#: where files of a format lie one behind the other, if the spec does not say
_ALONG = {"dicom": "z"}


def open_cube(name: str, source: Source, root: str) -> StoredCube:
    """Open a source of N-d data: metadata and coordinates are read, no values.

    Parameters
    ----------
    name
        Of the source, for errors.
    source
        As the spec describes it.
    root
        Folder that relative paths start at.

    Raises
    ------
    CubeMistake
        If parts do not fit together (names both files), a coordinate is not sorted or has a value twice (names it and
        the position), or the spec names a dimension or group that there is not.
    SourceError
        If nothing is there, or it is of another format.
    Unreachable
        If the store does not answer.

    Notes
    -----
    Cost: a few requests for a Zarr store; for files, each is opened once, and what it holds is remembered until it
    changes. Values that mean missing are NaN; times without a place in nanoseconds or of other calendars are cftime.
    """
    from featureflow.library.cubes.joining import cube_of

    urls = tuple(_url(path, root) for path in source.path)
    if source.format == "zarr":
        parts = _zarr_parts(name, urls, source)
    elif source.format in FILES:
        parts = _file_parts(name, urls, source)
    else:
        raise SourceError(
            f"source {name!r}: format {source.format!r} is no format of arrays: {', '.join(FORMATS)}."
        )
    concat = source.concat or _ALONG.get(source.format)
    cube = cube_of(name, parts, concat if len(parts) > 1 else None, dict(source.chunks))
    if source.time is not None:
        _check_time(name, cube.contents, source.time)
    return cube


def _check_time(name: str, contents: Contents, dim: str) -> None:
    if dim not in contents.sizes:
        raise CubeMistake(
            ("time",),
            f"source {name!r}: has no dimension {dim!r}; its dimensions are {', '.join(contents.sizes)}.",
        )
    found = contents.coords.get(dim)
    if found is None or not (
        found.dtype.kind == "M"
        or (found.dtype.kind == "O" and found.size and hasattr(found.values[0], "calendar"))
    ):
        what = "no coordinate" if found is None else f"values of type {found.dtype}"
        raise CubeMistake(
            ("time",),
            f"source {name!r}: dimension {dim!r} has {what}, and times are needed to go by time. Write times "
            f"with units such as 'days since 2000-01-01' along it, or leave `time` out.",
        )


def _url(path: str, root: str) -> str:
    return os.path.join(root, os.path.expanduser(path)) if "://" not in path else path


def _zarr_parts(name: str, urls: tuple[str, ...], source: Source) -> list[Any]:
    from featureflow.library.cubes.zarr import ZarrPart

    return [ZarrPart.at(url.rstrip("/"), source.options.group or "", name) for url in urls]


def _file_parts(name: str, urls: tuple[str, ...], source: Source) -> list[Any]:
    import importlib

    from featureflow.library.cubes.files import file_parts

    module, kind = FILES[source.format]
    part = getattr(importlib.import_module(f"featureflow.library.cubes.{module}"), kind)
    options = source.options
    given = {"group": options.group, "engine": options.engine, "dims": options.dims}
    found = file_parts(part, urls, name, given)
    if source.format == "dicom":
        from featureflow.library.cubes.dicom import of_one_series

        return list(of_one_series(found, options.group))
    return found
