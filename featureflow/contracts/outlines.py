"""Outlines of cubes: datasets with dimensions, coordinates, dtypes and attributes, whose variables hold no values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core.indexing import LazilyIndexedArray


class _Absent(BackendArray):
    """Shape and dtype of an array that is nowhere. Small when pickled, whatever the shape."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("an outline has no values: read them with Cube.read")


def absent(
    dims: Sequence[Hashable],
    shape: Sequence[int],
    dtype: np.dtype[Any] | type | str,
    attrs: Mapping[Any, Any] | None = None,
) -> xr.Variable:
    """Give a variable without values; ``isel``, ``transpose`` and pickling work, and whatever reads values fails."""
    array = _Absent(tuple(int(n) for n in shape), np.dtype(dtype))
    return xr.Variable(tuple(dims), LazilyIndexedArray(array), attrs=dict(attrs or {}))


def outline_of(data: xr.Dataset) -> xr.Dataset:
    """Give the outline of a dataset: its coordinates as they are, its variables without values."""
    empty = {name: absent(v.dims, v.shape, v.dtype, v.attrs) for name, v in data.data_vars.variables.items()}
    return data.assign(empty)
