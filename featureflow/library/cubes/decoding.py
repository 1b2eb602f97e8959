"""CF decoding: fill values, scale and offset, units of time and calendars, as xarray does it, with fewer copies."""

from __future__ import annotations

import threading
import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import xarray as xr
from xarray.coders import CFDatetimeCoder, CFTimedeltaCoder

from featureflow.core.errors import SourceError

#: values that are decoded at once: with their copies they fit into the second cache
_BLOCK = 1 << 16
_MASKS = ("_FillValue", "missing_value")
_CHANGES = ("scale_factor", "add_offset", "_Unsigned", "dtype", "_Encoding")


def decode(raw: xr.Dataset, where: str) -> xr.Dataset:
    """Decode a lazily opened dataset; only index coordinates are read.

    Raises
    ------
    SourceError
        If a time has units or a calendar that nothing knows.
    """
    with warnings.catch_warnings():
        # dates that nanoseconds can't hold are decoded by cftime, and two fill values both mean missing
        warnings.filterwarnings("ignore", category=xr.SerializationWarning)
        warnings.filterwarnings("ignore", "Variable\\(s\\) referenced in")
        try:
            return xr.decode_cf(
                raw,
                decode_times=CFDatetimeCoder(),
                decode_timedelta=CFTimedeltaCoder(decode_via_units=False),
                decode_coords="all",
            )
        except (ValueError, OverflowError, KeyError) as error:
            said = " ".join([str(error).splitlines()[0], *getattr(error, "__notes__", [])[:1]])
            raise SourceError(f"{where}: the metadata can't be decoded: {said}") from error


def fill_of(raw: xr.Variable, decoded: xr.Variable) -> list[Any] | None:
    """Numbers that mean missing, if decoding does nothing else than to replace them by NaN; None if it does more."""
    if any(key in raw.attrs for key in _CHANGES) or raw.dtype != decoded.dtype or raw.dims != decoded.dims:
        return None
    given = [value for key in _MASKS if key in raw.attrs for value in np.atleast_1d(raw.attrs[key])]
    if raw.dtype.kind != "f":
        return None if given else []
    return [raw.dtype.type(value) for value in given if not np.isnan(value)]


def mask(values: np.ndarray[Any, Any], fills: list[Any]) -> np.ndarray[Any, Any]:
    """Replace numbers that mean missing, in place where the array is ours."""
    if not fills:
        return values
    out = values if values.flags.writeable else values.copy()
    for fill in fills:
        out[out == fill] = np.nan
    return out


def is_elementwise(raw: xr.Variable, decoded: xr.Variable) -> bool:
    """Whether decoding turns each number into a number: scale, offset, fill values, sign, byte order."""
    return raw.dtype.kind in "iuf" and decoded.dtype.kind in "iuf" and raw.dims == decoded.dims


def unpack(raw: xr.Variable, values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Decode numbers piece by piece, each small enough for the processor's cache.

    Parameters
    ----------
    raw
        The variable as stored, for its attributes.
    """
    out = np.empty(values.shape, dtype)
    flat, into = values.reshape(-1), out.reshape(-1)
    attrs = {key: value for key, value in raw.attrs.items() if key in (*_MASKS, *_CHANGES)}
    quiet = ALONE if all(key in attrs for key in _MASKS) else nullcontext()
    with quiet:  # two fill values that differ both mean missing, of which xarray warns
        for start in range(0, flat.size, _BLOCK):
            block = xr.Variable(("at",), flat[start : start + _BLOCK], attrs)
            done = xr.conventions.decode_cf_variable("", block, decode_times=False, decode_timedelta=False)
            into[start : start + _BLOCK] = done.values
    return out


class _WithoutWarnings:
    """Filters of warnings are one for all threads: one thread at a time may change them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: warnings.catch_warnings[Any] | None = None

    def __enter__(self) -> None:
        self._lock.acquire()
        self._inside = warnings.catch_warnings()
        self._inside.__enter__()
        warnings.simplefilter("ignore", xr.SerializationWarning)
        # texts of fixed length, which zarr-python reads as it wrote them: nothing that a reader could change
        warnings.filterwarnings("ignore", "The data type .* does not have a Zarr V3 specification")

    def __exit__(self, *error: object) -> None:
        assert self._inside is not None  # noqa: S101  entered before
        self._inside.__exit__(*error)  # type: ignore[arg-type]
        self._lock.release()


#: Around what warns of things that are meant so.
ALONE = _WithoutWarnings()


def read_decoded(decoded: xr.Variable, cut: tuple[slice, ...]) -> np.ndarray[Any, Any]:
    """Read and decode a part of a lazily decoded variable: texts, times, booleans."""
    with ALONE:
        return np.asarray(decoded[cut].values)
