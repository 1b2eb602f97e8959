"""Bytes and values of boxes, from dtypes and dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import xarray as xr

from featureflow.contracts.cube import Span


def bytes_in(outline: xr.Dataset, region: Mapping[str, Span]) -> int:
    """Bytes of all variables of a box."""
    return sum(variable_bytes(variable, region) for variable in outline.data_vars.values())


def values_in(outline: xr.Dataset, region: Mapping[str, Span]) -> int:
    """Values of the largest variable of a box."""
    return max((_values(variable, region) for variable in outline.data_vars.values()), default=0)


def _values(variable: xr.DataArray, region: Mapping[str, Span]) -> int:
    return prod(
        region[str(dim)][1] - region[str(dim)][0] if str(dim) in region else int(n)
        for dim, n in variable.sizes.items()
    )


def variable_bytes(variable: xr.DataArray, region: Mapping[str, Span]) -> int:
    """Bytes of a variable in a box."""
    return int(variable.dtype.itemsize) * _values(variable, region)
