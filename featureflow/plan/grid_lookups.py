"""What is asked of a grid at points: which variables, where, as of when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from featureflow.contracts.grid_step import KNOWN_AT
from featureflow.core.types import INSTANT, to_polars
from featureflow.plan.grid_chunks import time_dimensions
from featureflow.plan.nodes import Input

if TYPE_CHECKING:
    import xarray as xr

Method = Literal["nearest", "linear"]


@dataclass(frozen=True, slots=True)
class GridLookup:
    """Values of a grid at the places of rows, at the latest step that was known at their time.

    Parameters
    ----------
    right
        The grid; its columns are its variables, its time is its dimension of time (None if it has none).
    at
        Dimension to the rows' column that says where on it; all dimensions but the time.
    columns
        Variable, and the name that its values get.
    types
        Of the values.
    method
        ``nearest``: the cell that a point is in. ``linear``: between the centres around it; never in time.
    ttl_us
        The step's time may not be older; None for any age.
    allow_exact
        Whether a step of exactly the row's time counts.
    chunk_bytes
        Of one chunk of all the variables.
    """

    right: Input
    at: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    types: tuple[pa.DataType, ...]
    method: Method
    ttl_us: int | None
    allow_exact: bool
    place: str
    chunk_bytes: int = 0

    @property
    def left_keys(self) -> tuple[str, ...]:
        """The rows' columns that say where."""
        return tuple(dict.fromkeys(column for _, column in self.at))

    @property
    def n_corners(self) -> int:
        """Values that one answer is made of, at most."""
        return 1 << len(self.at) if self.method == "linear" else 1

    @property
    def reach_us(self) -> int:
        """Nothing: pieces of a grid say themselves at which times of rows they are looked up."""
        return 0

    @property
    def row_bytes(self) -> int:
        """What a row takes while it is looked up: positions, weights and values at every corner, and the answer."""
        output = sum(max(1, int(kind.bit_width) // 8) for kind in self.types)
        return self.n_corners * (16 * (len(self.at) + 2) + 2 * output) + 2 * output


def value_type(dtype: np.dtype, method: Method = "nearest") -> pa.DataType | None:
    """Type of the values that look-ups give of an array; None where there is none.

    A float stays what it is. Between integers lie fractions: ``linear`` makes them float64.

    Examples
    --------
    >>> value_type(np.dtype("float32")), value_type(np.dtype("int16"), "linear")
    (DataType(float), DataType(double))
    """
    if dtype.kind == "f" and dtype.itemsize in (2, 4, 8):
        return pa.float32() if dtype.itemsize == 2 else pa.from_numpy_dtype(dtype)
    if dtype.kind in "iu":
        return pa.float64() if method == "linear" else pa.from_numpy_dtype(dtype)
    if method == "linear":
        return None
    if dtype.kind == "b":
        return pa.bool_()
    return INSTANT if dtype.kind == "M" else None


def grid_input(name: str, outline: xr.Dataset, time: str | None, method: Method = "nearest") -> Input:
    """A grid as an input whose columns are its variables, as far as look-ups can give them."""
    columns: dict[str, pl.DataType] = {}
    for variable, array in outline.data_vars.items():
        kind = value_type(array.dtype, method)
        if kind is not None:
            columns[str(variable)] = to_polars(kind)
    return Input("grid", name, columns, time)


def time_of(outline: xr.Dataset, named: str | None = None) -> str | None:
    """The dimension of time: that of ``known_at``, or the one that the source names, or the only one with times."""
    if KNOWN_AT in outline.coords:
        return str(outline[KNOWN_AT].dims[0])
    found = time_dimensions(outline)
    if named in found:
        return named
    return found[0] if len(found) == 1 else None


def axis_problem(outline: xr.Dataset, dim: str, column: pl.DataType) -> str | None:
    """Say why rows can't be placed on a dimension by a column of that type; None if they can."""
    if dim not in outline.coords:
        return None if column.is_numeric() else f"{dim!r} has no coordinate, only positions; give a number."
    values = outline[dim].values
    if values.dtype.kind in "OSU":
        if column != pl.String():
            return f"{dim!r} holds names; the column must be text, and is {column}."
        if values.dtype.kind == "O" and not all(isinstance(value, str) for value in values.flat):
            return f"{dim!r} holds {type(values.flat[0]).__name__} values, on which no row can be placed."
        return None
    if values.dtype.kind == "M":
        return None if isinstance(column, pl.Datetime) else f"{dim!r} holds times; the column is {column}."
    if not column.is_numeric():
        return f"{dim!r} holds numbers; the column must be a number, and is {column}."
    steps = np.diff(values.astype(np.float64))
    if not np.isfinite(values.astype(np.float64)).all() or not ((steps > 0).all() or (steps < 0).all()):
        return f"the coordinate {dim!r} neither rises nor falls all the way, so that no place on it is sure."
    return None


def time_problem(outline: xr.Dataset, time: str) -> str | None:
    """Say why times of rows can't be compared with those of a grid; None if they can."""
    for name in (time, KNOWN_AT):
        if name in outline.coords and outline[name].dtype.kind != "M":
            calendar = getattr(next(iter(outline[name].values.flat), None), "calendar", None)
            return (
                f"its {name!r} is in the calendar {calendar!r}, whose days are not those of the rows' times. "
                "Convert the source's time to the standard calendar."
            )
    return None
