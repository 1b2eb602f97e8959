"""CF decoding: fill values, scale and offset, units of time and calendars, as xarray does it, with fewer copies."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from xarray.coders import CFDatetimeCoder, CFTimedeltaCoder

from featureflow.core.errors import SourceError

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


def read_decoded(decoded: xr.Variable, cut: tuple[slice, ...]) -> np.ndarray[Any, Any]:
    """Read and decode a part of a lazily decoded variable."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=xr.SerializationWarning)
        return np.asarray(decoded[cut].values)
