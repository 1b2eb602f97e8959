"""NetCDF, versions 3 and 4, and HDF5, local or in a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import xarray as xr

from featureflow.core import storage
from featureflow.core.errors import CubeMistake, SourceError
from featureflow.core.raw_files import RawFile
from featureflow.core.remote import fetch_ranges
from featureflow.library.cubes.files import FilePart
from featureflow.library.cubes.remote_file import open_remote

_HDF5 = b"\x89HDF\r\n\x1a\n"
_CLASSIC = (b"CDF\x01", b"CDF\x02")


@dataclass(frozen=True, slots=True)
class NetcdfPart(FilePart):
    """A NetCDF or HDF5 file."""

    @property
    def format_name(self) -> str:
        """For errors."""
        return "NetCDF or HDF5"

    def open_raw(self) -> xr.Dataset:
        """Open with h5netcdf, or scipy for the classic format, or the engine that was asked for."""
        options = dict(self.options)
        local = storage.is_local(self.url)
        target: Any = storage.local_path(self.url) if local else open_remote(self.file)
        engine = options.get("engine") or _engine(self.file)
        more: dict[str, Any] = {"phony_dims": "sort"} if engine == "h5netcdf" else {}
        raw = xr.open_dataset(
            target,
            engine=engine,
            group=options.get("group"),
            decode_cf=False,
            chunks=None,
            cache=False,
            **more,
        )
        try:
            return _named_dimensions(raw, options.get("dims"), self.where)
        except SourceError:
            raw.close()
            raise


def _engine(file: RawFile) -> str:
    if storage.is_local(file.path):
        with open(storage.local_path(file.path), "rb") as opened:
            start = opened.read(8)
    else:
        start = fetch_ranges(file.path, file.version, [(0, min(8, file.size))])[0]
    if start.startswith(_CLASSIC):
        return "scipy"
    if start == _HDF5 or not start.startswith(b"CDF"):
        return "h5netcdf"  # whose message says what is wrong, if it is no such file
    raise SourceError(
        f"{file.path}: is NetCDF of the 64-bit data kind (CDF-5): write it as NetCDF 4 (nccopy -k nc4)."
    )


def _is_phony(dim: str) -> bool:
    return dim.startswith("phony_dim_")


def _named_dimensions(raw: xr.Dataset, dims: tuple[str, ...] | None, where: str) -> xr.Dataset:
    """Give names to the dimensions of a plain HDF5 file, which has none."""
    by_rank = sorted(raw.variables.values(), key=lambda each: -each.ndim)
    phony = [
        dim for dim in dict.fromkeys(str(dim) for each in by_rank for dim in each.dims) if _is_phony(dim)
    ]
    if not phony and dims is not None:
        named = ", ".join(map(str, raw.dims))
        raise CubeMistake(
            ("options", "dims"), f"{where}: its dimensions have names ({named}): leave `options.dims` out."
        )
    if not phony:
        return raw
    if dims is None or len(dims) != len(phony):
        shapes = "; ".join(
            f"{name} {variable.shape}"
            for name, variable in raw.variables.items()
            if any(str(dim) in phony for dim in variable.dims)
        )
        asked = f"`options: {{dims: [{', '.join(f'dim{i}' for i in range(len(phony)))}]}}`"
        given = "" if dims is None else f" {len(dims)} names were given."
        raise CubeMistake(
            ("options", "dims"),
            f"{where}: is HDF5 without names of dimensions ({shapes}), and steps need names.{given} Name the "
            f"{len(phony)} lengths {tuple(raw.sizes[dim] for dim in phony)} in this order by {asked}, "
            "or attach dimension scales to the file.",
        )
    found = raw.rename(dict(zip(phony, dims, strict=True)))
    found.set_close(raw.close)  # which a renamed dataset does not do by itself
    return found
