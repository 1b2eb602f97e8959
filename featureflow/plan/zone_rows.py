"""Grids of zones as tables: the columns of their rows, and what is wrong with them, known before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from featureflow.contracts.grid_step import KNOWN_AT
from featureflow.core.types import INSTANT, storage_type, to_polars
from featureflow.plan.grid_lookups import time_problem
from featureflow.plan.nodes import CompiledTable, Input

if TYPE_CHECKING:
    import xarray as xr

    from featureflow.plan.grid_nodes import CompiledGrid, RowShape


def row_schema(outline: xr.Dataset, shape: RowShape) -> pa.Schema:
    """Columns of the rows of a grid of zones: keys, time, other coordinates along these, variables.

    Raises
    ------
    ValueError
        For a type that tables don't have.
    """
    dims = [*shape.keys, *([shape.time] if shape.time else [])]
    columns: dict[str, pa.DataType] = {}
    for dim in dims:
        columns[dim] = _label_type(outline[dim].dtype) if dim in outline.coords else pa.int64()
    for name, coordinate in outline.coords.items():
        if str(name) not in columns and coordinate.ndim == 1 and coordinate.dims[0] in dims:
            columns[str(name)] = _label_type(coordinate.dtype)
    for name, variable in outline.data_vars.items():
        columns[str(name)] = pa.from_numpy_dtype(variable.dtype)
    return pa.schema([pa.field(name, storage_type(kind)) for name, kind in columns.items()])


def _label_type(dtype: np.dtype[np.generic]) -> pa.DataType:
    if dtype.kind == "M":
        return INSTANT
    return pa.string() if dtype.kind in "OU" else pa.from_numpy_dtype(dtype)


def zone_input(grid: CompiledGrid, shape: RowShape) -> Input:
    """A grid of zones as the input of a table or dataset.

    ``known_at``, which values of several times have, says when a row was known: it is the input's ``created``.
    """
    schema = row_schema(grid.outline, shape)
    columns = {field.name: to_polars(field.type) for field in schema}
    created = KNOWN_AT if KNOWN_AT in columns else None
    return Input("table", grid.name, columns, shape.time, created, keys=shape.keys)


def zone_problem(outline: xr.Dataset, shape: RowShape) -> str | None:
    """Say why a grid of zones can't be kept as rows; None if it can."""
    problem = None if shape.time is None else time_problem(outline, shape.time)
    if problem is not None:
        return f"zones are rows of a table, and {problem}"
    try:
        row_schema(outline, shape)
    except (ValueError, pa.ArrowNotImplementedError) as error:
        return f"zones are rows of a table: {error}"
    return None


def early_rows(tables: Mapping[str, CompiledTable], grids: Mapping[str, CompiledGrid]) -> list[str]:
    """Say which windows of tables see rows of zones before their values were known."""
    pairs = [(table, grids[table.source.name]) for table in tables.values() if table.source.name in grids]
    return [said for said in (_early_windows(table, grid) for table, grid in pairs) if said]


def _early_windows(table: CompiledTable, grid: CompiledGrid) -> str | None:
    """Say which windows of a table see rows of zones before their values were known; None if none does."""
    shape = grid.rows
    if shape is None or shape.time is None or KNOWN_AT not in grid.outline.coords:
        return None
    times, known = (grid.outline[name].values.astype("M8[us]") for name in (shape.time, KNOWN_AT))
    late = int((known - times).astype(np.int64).max(initial=0))
    early = [window.text for window in table.windows if window.delay_us < late]
    if not early:
        return None
    seconds = -(-late // 1_000_000)
    unit, text = ("d", seconds // 86_400) if seconds % 86_400 == 0 else ("s", seconds)
    return (
        f"features.{table.name}: windows of {', '.join(early)} see a row of {grid.name} from its time on, and its "
        f"values are known up to {text}{unit} later (known_at). Give them that delay: window: {{delay: {text}{unit}}}."
    )
