"""NIfTI volumes, versions 1 and 2, plain or compressed: scaled, with places in millimetres."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from featureflow.core import storage
from featureflow.core.remote import fetch_ranges
from featureflow.library.cubes.files import FilePart
from featureflow.library.cubes.lazy import LazyArray, lazy_variable, needed

_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_HEADER_2 = 540


@dataclass(frozen=True, slots=True)
class NiftiPart(FilePart):
    """A NIfTI file: the variable ``image``, with dimensions by the axis of the world nearest to each of its axes."""

    @property
    def format_name(self) -> str:
        """For errors."""
        return "NIfTI"

    def open_raw(self) -> xr.Dataset:
        """Open lazily; a compressed file is decompressed into memory, which is the only way to read a part of it."""
        nibabel = needed("nibabel", "imaging", self.where)
        image = self._image(nibabel)
        stored = image.dataobj
        dims = _dims(nibabel, image)
        probe = np.asarray(stored[(slice(0, 1),) * len(stored.shape)])
        array = LazyArray(stored.shape, probe.dtype, lambda box: np.array(stored[box], subok=False))
        chunks = dict.fromkeys(dims[3:], 1)
        attrs = {
            "affine": image.affine.ravel().tolist(),
            "orientation": "".join(map(str, nibabel.aff2axcodes(image.affine))),
        }
        coords = {dim: xr.Variable((dim,), values, about) for dim, values, about in _coords(dims, image)}
        return xr.Dataset({"image": lazy_variable(dims, array, attrs, chunks)}, coords=coords)

    def _image(self, nibabel: Any) -> Any:
        local = storage.is_local(self.url)
        packed = self.url.lower().endswith(".gz")
        if local and not packed:
            return nibabel.load(storage.local_path(self.url))
        data = (
            Path(storage.local_path(self.url)).read_bytes()
            if local
            else fetch_ranges(self.url, self.version, [(0, self.size)])[0]
        )
        data = gzip.decompress(data) if packed else data
        second = _HEADER_2 in (struct.unpack("<i", data[:4])[0], struct.unpack(">i", data[:4])[0])
        return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_bytes(data)


def _dims(nibabel: Any, image: Any) -> tuple[str, ...]:
    axes = nibabel.io_orientation(image.affine)[:, 0]
    world = [
        "xyz"[int(axis)] if np.isfinite(axis) else f"axis{i}"
        for i, axis in enumerate(axes[: len(image.shape)])
    ]
    more = ["t", "component", "dim6", "dim7"]
    return tuple([*world, *more][: len(image.shape)])


def _coords(dims: tuple[str, ...], image: Any) -> list[tuple[str, np.ndarray[Any, Any], dict[str, str]]]:
    """Places of voxels: of the world where axes are parallel to its own, else distances from the first voxel."""
    affine, found = image.affine, []
    space, of_time = image.header.get_xyzt_units()
    units = {} if space == "unknown" else {"units": {"meter": "m", "micron": "um"}.get(space, space)}
    for i, dim in enumerate(dims[:3]):
        column = affine[:3, i]
        along = "xyz".find(dim)
        steps = np.arange(image.shape[i])
        if along >= 0 and np.count_nonzero(column) == 1 and np.count_nonzero(affine[along, :3]) == 1:
            found.append((dim, affine[along, 3] + column[along] * steps, units))
        elif size := float(np.sqrt((column**2).sum())):
            found.append((dim, size * steps, {**units, "long_name": "distance from the first voxel"}))
    if "t" in dims and of_time in _SECONDS and (step := float(image.header.get_zooms()[3])):
        found.append(("t", np.arange(image.shape[3]) * (step * _SECONDS[of_time]), {"units": "s"}))
    return found
