"""Between datasets in memory and kernels: arrays as kernels take them, and results with coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.cube import Region, slices_of
from featureflow.contracts.outlines import absent

Values = np.ndarray[Any, Any]


def is_number(variable: xr.Variable | xr.DataArray) -> bool:
    """Whether a variable holds numbers, or true and false."""
    return variable.dtype.kind in "fiub"


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type of a result with fractions: float32 stays, everything else is float64."""
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def floats(values: Values) -> Values:
    """Values as kernels take them: native float32 or float64."""
    return np.asarray(values, float_dtype(values.dtype))


def along(values: Values, axis: int) -> tuple[Values, bool]:
    """Give a C-contiguous ``(outer, n, inner)`` in which ``axis`` is ``n``, and whether that was moved to the front.

    With few values side by side after the axis, the axis is moved to the front: kernels work on rows.
    """
    inner = int(np.prod(values.shape[axis + 1 :]))
    if inner >= 16 or values.ndim == 1:
        outer = int(np.prod(values.shape[:axis]))
        return np.ascontiguousarray(values).reshape(outer, values.shape[axis], inner), False
    moved = np.ascontiguousarray(np.moveaxis(values, axis, 0))
    return moved.reshape(1, values.shape[axis], -1), True


def back(result: Values, shape: Sequence[int], axis: int, was_moved: bool) -> Values:
    """Give a kernel's ``(outer, m, inner)`` the dimensions of its input, of which ``axis`` is now ``m`` long."""
    length = result.shape[1]
    if not was_moved:
        return result.reshape(*shape[:axis], length, *shape[axis + 1 :])
    rest = [size for i, size in enumerate(shape) if i != axis]
    return np.ascontiguousarray(np.moveaxis(result.reshape(length, *rest), 0, axis))


def columns(values: Values, axes: Sequence[int]) -> Values:
    """Give a C-contiguous ``(n, columns)``: ``axes`` together are the rows, in their order."""
    front = np.moveaxis(values, list(axes), range(len(axes)))
    rows = int(np.prod([values.shape[axis] for axis in axes]))
    return np.ascontiguousarray(front).reshape(rows, -1)


def result(made: xr.Dataset, region: Region, arrays: Mapping[str, Values], passed: xr.Dataset) -> xr.Dataset:
    """Put a region of the output together, with the types, attributes and coordinates of its outline.

    Parameters
    ----------
    arrays
        Values that were computed, by variable.
    passed
        Has all other variables, within the region.
    """
    variables: dict[Any, Any] = {}
    for name, variable in made.data_vars.variables.items():
        values = arrays[str(name)] if name in arrays else passed.variables[name].values
        variables[name] = xr.Variable(
            variable.dims, np.asarray(values, variable.dtype), attrs=dict(variable.attrs)
        )
    inside = slices_of(region)
    coordinates = {
        name: one.isel({dim: inside[str(dim)] for dim in one.dims})
        for name, one in made.coords.variables.items()
    }
    return xr.Dataset(variables, coordinates, attrs=dict(made.attrs))


def reshaped(
    variable: xr.Variable | xr.DataArray,
    sizes: Mapping[Any, int],
    dtype: np.dtype[Any],
    attrs: Mapping[Any, Any],
) -> xr.Variable:
    """Give the outline of a variable with other sizes along some of its dimensions."""
    return absent(variable.dims, [sizes.get(dim, n) for dim, n in variable.sizes.items()], dtype, attrs)
