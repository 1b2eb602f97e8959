"""What a file or store of arrays holds, from its metadata alone; and whether its coordinates can be used."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from featureflow.core.errors import CubeMistake, SourceError

#: a coordinate of several dimensions with more values is read like a variable: outlines are sent to every task
LARGEST_COORDINATE = 1 << 22


@dataclass(frozen=True, slots=True)
class Stored:
    """A variable: dimensions, type after decoding, attributes, and the chunks that it is stored in."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attrs: dict[str, Any]
    chunks: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Contents:
    """Variables without values, coordinates with them."""

    variables: dict[str, Stored]
    coords: dict[str, xr.Variable]
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of every dimension."""
        found: dict[str, int] = {}
        for each in self.variables.values():
            found.update(zip(each.dims, each.shape, strict=True))
        for coordinate in self.coords.values():
            found.update(zip(map(str, coordinate.dims), coordinate.shape, strict=True))
        return found


def contents_of(data: xr.Dataset, where: str) -> Contents:
    """Describe a lazily opened, decoded dataset; reads its coordinates and nothing else.

    Parameters
    ----------
    where
        Source and file, for errors.
    """
    # bounds say again what their coordinate says
    bounds = {str(each.encoding["bounds"]) for each in data.variables.values() if "bounds" in each.encoding}
    known = {str(key): variable for key, variable in data.variables.items() if str(key) not in bounds}
    names = [str(key) for key in data.coords if str(key) in known and _small(known[str(key)])]
    coords = {name: _coordinate(known[name]) for name in names}
    variables = {}
    for name, variable in known.items():
        if name in coords:
            continue
        if variable.dtype.kind not in "biufcmMSUO":
            raise SourceError(
                f"{where}: variable {name!r} is of type {variable.dtype}, which is no array of values."
            )
        dims = tuple(str(dim) for dim in variable.dims)
        variables[name] = Stored(
            dims, variable.shape, variable.dtype, _attributes(variable), _chunks(variable)
        )
    return Contents(variables, coords, {str(k): v for k, v in data.attrs.items()})


def _small(variable: xr.Variable) -> bool:
    return variable.ndim < 2 or variable.size <= LARGEST_COORDINATE


def _coordinate(variable: xr.Variable) -> xr.Variable:
    kept = {key: variable.encoding[key] for key in ("units", "calendar") if key in variable.encoding}
    dims = tuple(str(dim) for dim in variable.dims)
    return xr.Variable(dims, np.asarray(variable.values), _attributes(variable), encoding=kept)


def _attributes(variable: xr.Variable) -> dict[str, Any]:
    return {str(key): value for key, value in variable.attrs.items() if not str(key).startswith("_Netcdf4")}


def _chunks(variable: xr.Variable) -> tuple[int, ...]:
    """Chunks as stored; the whole array where it is not chunked. Characters of texts have lost their dimension."""
    preferred: dict[Hashable, Any] = variable.encoding.get("preferred_chunks") or {}
    given = tuple(preferred.get(dim, size) for dim, size in zip(variable.dims, variable.shape, strict=True))
    return tuple(max(1, int(each[0] if isinstance(each, tuple) else each)) for each in given)


# ---------------------------------------------------------------- coordinates


def check_coordinates(contents: Contents, where: str) -> None:
    """Refuse a coordinate that has a value twice, or numbers or times that neither rise nor fall.

    Raises
    ------
    SourceError
        Names the coordinate, the position and the values there.
    """
    for name, variable in contents.coords.items():
        if variable.dims == (name,):
            check_coordinate(name, variable.values, where)


def check_coordinate(name: str, values: np.ndarray[Any, Any], where: str) -> None:
    """Check one index coordinate; see `check_coordinates`."""
    if values.dtype.kind in "SU" or (
        values.dtype.kind == "O" and values.size and isinstance(values[0], str | bytes)
    ):
        _no_repeats(name, values, where)
        return
    missing = np.flatnonzero(_missing(values))
    if missing.size:
        raise CubeMistake(
            (),
            f"{where}: coordinate {name!r} has no value at position {missing[0]}. Every place along a dimension needs "
            "one: repair the source, or leave the coordinate out.",
        )
    if values.size < 2:
        return
    rises, falls = values[1:] > values[:-1], values[1:] < values[:-1]
    rising = bool(rises[0]) or not falls[0]
    wrong = np.flatnonzero(~np.asarray(rises if rising else falls, bool))
    if not wrong.size:
        return
    at = int(wrong[0])
    if values[at] == values[at + 1]:
        raise CubeMistake(
            (),
            f"{where}: coordinate {name!r} has {_shown(values[at])} twice, at positions {at} and {at + 1}. A value "
            "names one place: remove the repetition from the source.",
        )
    raise CubeMistake(
        (),
        f"{where}: coordinate {name!r} is not sorted: {_shown(values[at])} at position {at} is followed by "
        f"{_shown(values[at + 1])}, where it {'rose' if rising else 'fell'} before. Write the source sorted "
        f"along {name!r} (xarray: .sortby({name!r})).",
    )


def _no_repeats(name: str, values: np.ndarray[Any, Any], where: str) -> None:
    seen: dict[Any, int] = {}
    for at, value in enumerate(values.tolist()):
        if value in seen:
            raise CubeMistake(
                (),
                f"{where}: coordinate {name!r} has {value!r} twice, at positions {seen[value]} and {at}. A value names "
                "one place: remove the repetition from the source.",
            )
        seen[value] = at


def _missing(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype.kind in "mM":
        return np.asarray(np.isnat(values))
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    if values.dtype.kind == "O":  # cftime; what is missing is None or NaN
        return np.array([value is None or value != value for value in values.tolist()], bool)  # noqa: PLR0124
    return np.zeros(values.shape, bool)


def _shown(value: Any) -> str:
    return str(value.astype("datetime64[s]")) if isinstance(value, np.datetime64) else str(value)
