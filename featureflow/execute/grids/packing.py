"""Small datasets as bytes: what steps learn and the sums on the way to it. Arrays only, nothing that is executed."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from featureflow.core.errors import CorruptionError

_META = "layout"


def pack(data: xr.Dataset) -> bytes:
    """Write variables and coordinates, with dimensions and attributes, as a ``.npz`` file: the same bytes each time."""
    arrays: dict[str, np.ndarray] = {}
    layout = []
    for i, (name, variable) in enumerate(data.variables.items()):
        values = np.asarray(variable.values)
        if values.dtype.kind == "O":
            values = values.astype(str)
        arrays[f"a{i}"] = values
        layout.append([str(name), [str(dim) for dim in variable.dims], name in data.coords])
    meta = np.frombuffer(json.dumps(layout).encode(), np.uint8)
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **{_META: meta}, **arrays)
    return sink.getvalue()


def unpack(data: bytes, where: str) -> xr.Dataset:
    """Read what `pack` wrote.

    Raises
    ------
    CorruptionError
        If the bytes are something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            layout = json.loads(bytes(found[_META]))
            made = [
                (name, (dims, found[f"a{i}"]), is_coord) for i, (name, dims, is_coord) in enumerate(layout)
            ]
    except Exception as error:
        raise CorruptionError(
            f"{where}: is not what was written ({error}). Delete it; it is made again."
        ) from error
    return xr.Dataset(
        {name: variable for name, variable, is_coord in made if not is_coord},
        {name: variable for name, variable, is_coord in made if is_coord},
    )


def joined(outline: xr.Dataset, parts: Sequence[tuple[dict[str, slice], xr.Dataset]]) -> xr.Dataset:
    """Put parts of a dataset together: each with its place along the dimensions by which they are cut.

    Parameters
    ----------
    outline
        Dimensions, coordinates and dtypes of the whole.
    """
    if len(parts) == 1 and all(parts[0][1].sizes.get(dim) == n for dim, n in outline.sizes.items()):
        return parts[0][1]
    arrays = {
        name: np.empty([outline.sizes[dim] for dim in variable.dims], variable.dtype)
        for name, variable in outline.data_vars.items()
    }
    for place, part in parts:
        for name, array in arrays.items():
            dims = outline[name].dims
            array[tuple(place.get(str(dim), slice(None)) for dim in dims)] = (
                part[name].transpose(*dims).values
            )
    made = {name: (outline[name].dims, array) for name, array in arrays.items()}
    return xr.Dataset(
        made, {name: c for name, c in outline.coords.items() if set(c.dims) <= set(outline.sizes)}
    )
