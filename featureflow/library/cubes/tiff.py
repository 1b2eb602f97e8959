"""TIFF images and stacks: pages, tiles, channels; OME, ImageJ and GeoTIFF metadata where they are there."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import xarray as xr
import zarr

from featureflow.core import storage
from featureflow.core.errors import CubeMistake, SourceError
from featureflow.library.cubes.files import FilePart
from featureflow.library.cubes.lazy import LazyArray, lazy_variable, needed
from featureflow.library.cubes.remote_file import open_remote


@dataclass(frozen=True, slots=True)
class TiffPart(FilePart):
    """A TIFF file: the variable ``image``; dimensions are the small letters of its axes (t, c, z, y, x, s), or page."""

    @property
    def format_name(self) -> str:
        """For errors."""
        return "TIFF"

    def open_raw(self) -> xr.Dataset:
        """Open lazily; tiles or pages are decoded when they are needed."""
        tifffile = needed("tifffile", "imaging", self.where)
        local = storage.is_local(self.url)
        file = tifffile.TiffFile(storage.local_path(self.url) if local else open_remote(self.file))
        try:
            found = self._described(file)
        except BaseException:
            file.close()
            raise
        found.set_close(file.close)
        return found

    def _described(self, file: Any) -> xr.Dataset:
        if len(file.series) > 1:
            shapes = ", ".join(str(series.shape) for series in file.series[:5])
            said = f"holds {len(file.series)} images of different kinds (shapes {shapes})"
            raise SourceError(f"{self.where}: {said}. Write each into a file of its own.")
        series = file.series[0]
        _must_be_whole(file, series, self.where)
        stored = zarr.open_array(series.aszarr(level=0), mode="r")
        dims = self._dims(series)
        # pages that hold nothing are not stored, and a damaged one must not look like them: tifffile raises
        array = LazyArray(stored.shape, stored.dtype, lambda box: np.asarray(stored[box]))
        attrs = _missing(series.keyframe, stored.dtype)
        chunks = dict(zip(dims, stored.chunks, strict=True))
        return xr.Dataset(
            {"image": lazy_variable(dims, array, attrs, chunks)}, coords=_coords(file, series, dims)
        )

    def _dims(self, series: Any) -> tuple[str, ...]:
        given = dict(self.options).get("dims")
        if given is not None:
            if len(given) != len(series.shape):
                raise CubeMistake(
                    ("options", "dims"),
                    f"{self.where}: has {len(series.shape)} dimensions {series.shape}, and `options.dims` names "
                    f"{len(given)}.",
                )
            return tuple(given)
        names = ["page" if axis in "IQ" else axis.lower() for axis in series.axes]
        return tuple(name if names.count(name) == 1 else f"{name}{i}" for i, name in enumerate(names))


def _must_be_whole(file: Any, series: Any, where: str) -> None:
    """Refuse a file that was cut off: its first pages alone look like a smaller image.

    Pages are a chain, each with the place of the next, and the library that reads them takes one that leads nowhere for
    the end. Stacks of one page say in their description how many images follow it.
    """
    handle, kind = file.filehandle, file.tiff
    place, seen = int(file.pages.first.offset), set[int]()
    while place and place not in seen:  # a damaged chain can lead back
        handle.seek(place)
        head = handle.read(kind.tagnosize)
        n_tags = struct.unpack(kind.tagnoformat, head)[0] if len(head) == kind.tagnosize else 0
        handle.seek(place + kind.tagnosize + n_tags * kind.tagsize)
        after = handle.read(kind.offsetsize)
        if not n_tags or len(after) != kind.offsetsize:
            raise SourceError(
                f"{where}: is cut off: its page {len(seen)} should be at byte {place:,} of {handle.size:,}. Restore "
                "the file from a copy."
            )
        seen.add(place)
        place = struct.unpack(kind.offsetformat, after)[0]
    told = int((file.imagej_metadata or {}).get("images", 1)) if file.is_imagej else 1
    images = series.size // max(1, series.keyframe.size)
    if told > images:
        raise SourceError(
            f"{where}: is cut off: it says that it holds {told:,} images, and there are {images:,}. Restore the file "
            "from a copy."
        )


def _missing(page: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
    tag = page.tags.get("GDAL_NODATA")
    if tag is None:
        return {}
    try:
        value = float(str(tag.value).strip("\x00 "))
    except ValueError:
        return {}
    fits = dtype.kind == "f" or (value.is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)
    return {"_FillValue": dtype.type(value)} if fits else {}


def _coords(file: Any, series: Any, dims: tuple[str, ...]) -> dict[str, xr.Variable]:
    sizes = dict(zip(dims, series.shape, strict=True))
    found: dict[str, xr.Variable] = {}
    for dim, start, step, units in _places(file, series.keyframe):
        if dim in sizes and step:
            about = {"units": units} if units else {}
            found[dim] = xr.Variable((dim,), start + step * np.arange(sizes[dim]), about)
    return found


def _places(file: Any, page: Any) -> list[tuple[str, float, float, str]]:
    """Dimension, first place, distance, units."""
    geo = page.geotiff_tags or {}
    scale, tie = geo.get("ModelPixelScale"), geo.get("ModelTiepoint")
    if scale and tie and len(tie) == 6:
        half = 0.0 if int(geo.get("GTRasterTypeGeoKey", 1)) == 2 else 0.5
        x, y = tie[3] + (half - tie[0]) * scale[0], tie[4] - (half - tie[1]) * scale[1]
        return [("x", x, scale[0], ""), ("y", y, -scale[1], "")]
    if file.is_ome and file.ome_metadata:
        root = ET.fromstring(file.ome_metadata)  # noqa: S314  entities are not expanded by this parser
        pixels = next((each for each in root.iter() if each.tag.endswith("}Pixels")), None)
        return [] if pixels is None else [_ome(pixels.attrib, dim) for dim in "xyz"]
    if file.is_imagej and file.imagej_metadata:
        about = file.imagej_metadata
        units = str(about.get("unit", "")).replace("\\u00B5", "u")
        return [("z", 0.0, float(about.get("spacing", 0.0)), units), *_resolution(page, units)]
    return []


def _ome(about: dict[str, str], dim: str) -> tuple[str, float, float, str]:
    name = f"PhysicalSize{dim.upper()}"
    return dim, 0.0, float(about.get(name, 0.0)), about.get(f"{name}Unit", "um").replace("µ", "u")


def _resolution(page: Any, units: str) -> list[tuple[str, float, float, str]]:
    found = []
    for dim, name in (("x", "XResolution"), ("y", "YResolution")):
        tag = page.tags.get(name)
        if units and tag is not None and tag.value[0]:
            found.append((dim, 0.0, tag.value[1] / tag.value[0], units))
    return found
