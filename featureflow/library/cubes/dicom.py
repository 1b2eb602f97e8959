"""DICOM series and multi-frame images: sorted by position, in the units of the modality (HU for CT)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from featureflow.core import storage
from featureflow.core.errors import CubeMistake, SourceError
from featureflow.library.cubes.errors import opening
from featureflow.library.cubes.files import FilePart
from featureflow.library.cubes.lazy import LazyArray, lazy_variable, needed
from featureflow.library.cubes.remote_file import open_remote

#: digits of a place that count, in millimetres: files of one series differ by rounding
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class DicomPart(FilePart):
    """A DICOM file: the variable ``image``; a slice has its place as the scalar coordinate ``z``."""

    @property
    def format_name(self) -> str:
        """For errors."""
        return "DICOM"

    def header(self) -> Any:
        """All but the pixels."""
        return self._read(stop_before_pixels=True)

    def _read(self, **more: Any) -> Any:
        pydicom = needed("pydicom", "imaging", self.where)
        local = storage.is_local(self.url)
        return pydicom.dcmread(storage.local_path(self.url) if local else open_remote(self.file), **more)

    def open_raw(self) -> xr.Dataset:
        """Open: the header now, the pixels when they are needed."""
        header = self.header()
        if "Rows" not in header or "Columns" not in header:
            raise SourceError(
                f"{self.where}: has no image ({header.get('Modality', 'no modality')}). Leave the file out."
            )
        pixels = _Pixels(self, header)
        about = {"Modality": str(header.get("Modality", "")), **_units(header)}
        array = LazyArray(pixels.shape, pixels.dtype, pixels.box)
        coords = _coords(header, pixels.dims, pixels.shape)
        return xr.Dataset({"image": lazy_variable(pixels.dims, array, about)}, coords=coords)


class _Pixels:
    """The pixels of a file, decoded and scaled once for all its readers."""

    def __init__(self, part: DicomPart, header: Any) -> None:
        self._part, self._lock = part, threading.Lock()
        self._values: np.ndarray[Any, Any] | None = None
        frames = int(header.get("NumberOfFrames") or 1)
        samples = int(header.get("SamplesPerPixel") or 1)
        stacked = "z" if _frame_places(header) is not None else "frame"
        dims = [(stacked, frames)] if frames > 1 else []
        dims += [("y", int(header.Rows)), ("x", int(header.Columns))]
        dims += [("sample", samples)] if samples > 1 else []
        self.dims = tuple(dim for dim, _ in dims)
        self.shape = tuple(size for _, size in dims)
        self._scales = _scales(header, frames)
        self.dtype = self._type(header)

    def _type(self, header: Any) -> np.dtype[Any]:
        if self._scales is not None:
            whole = all(float(value).is_integer() for pair in self._scales for value in pair)
            return np.dtype("i4") if whole and int(header.BitsAllocated) <= 16 else np.dtype("f8")
        if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
            return np.dtype("f4" if "FloatPixelData" in header else "f8")
        bits = max(8, int(header.BitsAllocated))
        return np.dtype(f"{'i' if int(header.get('PixelRepresentation') or 0) else 'u'}{bits // 8}")

    def box(self, box: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """Values of a box."""
        with self._lock:
            if self._values is None:
                self._values = self._decoded()
            return np.array(self._values[box])

    def _decoded(self) -> np.ndarray[Any, Any]:
        try:
            values = self._part._read().pixel_array  # noqa: SLF001
        except (RuntimeError, NotImplementedError, AttributeError) as error:
            if "plugin" in str(error) or "handler" in str(error):
                said = str(error).splitlines()[0]
                raise SourceError(
                    f"{self._part.where}: its compression needs one more package: {error}"
                ) from ValueError(said)
            raise
        values = np.asarray(values).reshape(self.shape)
        if self._scales is None:
            return values.astype(self.dtype, copy=False)
        shape = (-1,) + (1,) * (values.ndim - 1) if len(self._scales) > 1 else (1,) * values.ndim
        slope, intercept = (np.array(each, "f8").reshape(shape) for each in zip(*self._scales, strict=True))
        return np.asarray(values * slope + intercept, self.dtype)


def _scales(header: Any, frames: int) -> list[tuple[float, float]] | None:
    """Slope and intercept, of each frame where they differ; None if values are as stored."""
    if "DoseGridScaling" in header:
        return [(float(header.DoseGridScaling), 0.0)]
    if "RescaleSlope" in header:
        return [(float(header.RescaleSlope), float(header.get("RescaleIntercept") or 0.0))]
    shared = header.get("SharedFunctionalGroupsSequence") or [None]
    groups = (
        [shared[0]]
        if _transformation(shared[0])
        else list(header.get("PerFrameFunctionalGroupsSequence") or [])
    )
    found = [_transformation(group) for group in groups]
    if not any(found):
        return None
    if len(found) not in (1, frames) or not all(found):
        raise SourceError("some frames have a slope and others have none.")
    return [(float(each.RescaleSlope), float(each.RescaleIntercept)) for each in found]


def _transformation(group: Any) -> Any:
    sequence = None if group is None else group.get("PixelValueTransformationSequence")
    return sequence[0] if sequence else None


def _units(header: Any) -> dict[str, str]:
    if "DoseGridScaling" in header:
        return {"units": {"GY": "Gy", "RELATIVE": "1"}.get(str(header.get("DoseUnits")), "Gy")}
    given = str(
        header.get("RescaleType")
        or ("HU" if header.get("Modality") == "CT" and "RescaleSlope" in header else "")
    )
    return {"units": given} if given and given != "US" else {}


# ---------------------------------------------------------------- places


def _plane(header: Any) -> tuple[Any, Any, Any] | None:
    """Position of the first pixel, orientation of rows and columns, spacing; None if the file says none."""
    if "ImagePositionPatient" in header and "PixelSpacing" in header:
        return (
            header.ImagePositionPatient,
            header.get("ImageOrientationPatient") or [1, 0, 0, 0, 1, 0],
            header.PixelSpacing,
        )
    groups = [
        *(header.get("PerFrameFunctionalGroupsSequence") or [])[:1],
        *(header.get("SharedFunctionalGroupsSequence") or []),
    ]
    place = _of(groups, "PlanePositionSequence", "ImagePositionPatient")
    turn = _of(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _of(groups, "PixelMeasuresSequence", "PixelSpacing")
    return None if place is None or turn is None or spacing is None else (place, turn, spacing)


def _of(groups: Sequence[Any], sequence: str, name: str) -> Any:
    for group in groups:
        if sequence in group and name in group[sequence].value[0]:
            return group[sequence].value[0][name].value
    return None


def _axes(turn: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rows, columns = np.array(turn[:3], float), np.array(turn[3:], float)
    return rows, columns, np.cross(rows, columns)


def _frame_places(header: Any) -> np.ndarray[Any, Any] | None:
    """Place of each frame of a multi-frame image along the normal."""
    plane = _plane(header)
    if plane is None:
        return None
    normal = _axes(plane[1])[2]
    offsets = header.get("GridFrameOffsetVector")
    if offsets:
        first = float(np.dot(np.array(plane[0], float), normal))
        return first + np.array(offsets, float) - float(offsets[0])
    places = [
        _of([group], "PlanePositionSequence", "ImagePositionPatient")
        for group in header.get("PerFrameFunctionalGroupsSequence") or []
    ]
    if len(places) < 2 or any(place is None for place in places):
        return None
    return np.array([np.dot(np.array(place, float), normal) for place in places])


def _coords(header: Any, dims: tuple[str, ...], shape: tuple[int, ...]) -> dict[str, xr.Variable]:
    plane = _plane(header)
    if plane is None:
        return {}
    place, (rows, columns, normal) = np.array(plane[0], float), _axes(plane[1])
    down, across = (float(each) for each in plane[2])
    sizes, units = dict(zip(dims, shape, strict=True)), {"units": "mm"}
    found = {
        "x": xr.Variable(("x",), np.round(place @ rows + across * np.arange(sizes["x"]), _DIGITS), units),
        "y": xr.Variable(("y",), np.round(place @ columns + down * np.arange(sizes["y"]), _DIGITS), units),
    }
    if "z" in sizes:
        frames = _frame_places(header)
        assert frames is not None  # they made the dimension  # noqa: S101
        return found | {"z": xr.Variable(("z",), np.round(frames, _DIGITS), units)}
    if "frame" not in sizes:
        found["z"] = xr.Variable((), np.round(place @ normal, _DIGITS), units)
    return found


# ---------------------------------------------------------------- series


def of_one_series(parts: Sequence[DicomPart], group: str | None) -> list[DicomPart]:
    """The files of one series; SourceError if there are several and none is chosen."""
    found: dict[str, list[DicomPart]] = {}
    kinds: dict[str, str] = {}
    for part in parts:
        if part.url.rpartition("/")[2] == "DICOMDIR":
            continue  # the index of a medium, not an image
        with opening(part.where, part.url, "DICOM"):
            header = part.header()
        uid = str(header.get("SeriesInstanceUID", ""))
        found.setdefault(uid, []).append(part)
        kinds[uid] = str(header.get("Modality", "?"))
    if group is not None and group in found:
        return found[group]
    if group is None and len(found) == 1:
        return next(iter(found.values()))
    listed = "; ".join(f"{uid} ({kinds[uid]}, {len(files)} files)" for uid, files in found.items())
    what = f"there are {len(found)} series" if group is None else f"there is no series {group!r}"
    raise CubeMistake(
        ("options", "group"),
        f"source {parts[0].source!r}: {what}. Choose one by `options: {{group: <series>}}`: {listed or 'none'}.",
    )
