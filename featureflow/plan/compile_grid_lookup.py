"""A look-up of a grid at points, from its spec: checked against the grid's outline and the rows' columns."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import polars as pl

from featureflow.core.types import to_arrow
from featureflow.plan.columns import ColumnBuilder, Path, no_column
from featureflow.plan.grid_lookups import (
    GridLookup,
    axis_problem,
    grid_input,
    time_of,
    time_problem,
    value_type,
)
from featureflow.plan.nodes import Input
from featureflow.spec.models import Lookup
from featureflow.spec.suggest import did_you_mean

if TYPE_CHECKING:
    from featureflow.plan.grid_nodes import CompiledGrid

#: Fields of a look-up in a table, which mean nothing in a grid.
_OF_TABLES = ("keys", "on_tie", "knowledge", "nulls", "availability")


def compile_grid_lookup(
    builder: ColumnBuilder, rows: Input, time: str | None, spec: Lookup, grid: CompiledGrid, path: Path
) -> GridLookup | None:
    """Compile one look-up of a grid; None if it has mistakes, which the builder is told.

    Parameters
    ----------
    rows, time
        What the rows have, and which of it is their time.
    """
    before = len(builder.problems)
    outline = grid.outline
    grid_time = time_of(outline, grid.time)
    method = spec.method or "nearest"
    right = grid_input(grid.name, outline, grid_time, method)
    for name in _OF_TABLES:
        if name in spec.model_fields_set:
            builder.tell((*path, name), f"{name} is for look-ups in tables; {grid.name!r} is a grid.")
    columns = []
    for j, variable in enumerate(spec.columns or right.columns):
        place = (*path, "columns", j)
        kind = None if variable not in outline.data_vars else value_type(outline[variable].dtype, method)
        if variable not in outline.data_vars:
            builder.tell(place, no_column(variable, right))
        elif kind is None:
            hint = " Use `method: nearest`." if method == "linear" else " Leave it out with `columns:`."
            builder.tell(
                place, f"{variable!r} is {outline[variable].dtype}, which {method} can't give.{hint}"
            )
        else:
            columns.append((variable, spec.output(variable), kind))
            builder.add(spec.output(variable), kind, (f"{grid.name}.{variable}",), place)
    if not columns and len(builder.problems) == before:
        builder.tell((*path, "columns"), f"{grid.name!r} has no variable that a look-up can give.")
    used = {str(dim) for variable, _, _ in columns for dim in outline[variable].dims}
    _check_time(builder, grid, time, grid_time if grid_time in used else None, path)
    _check_places(builder, rows, spec, grid, [str(d) for d in outline.dims if d in used], grid_time, path)
    if len(builder.problems) > before:
        return None
    return GridLookup(
        right=right,
        at=tuple(spec.at.items()),
        columns=tuple((variable, output) for variable, output, _ in columns),
        types=tuple(kind for _, _, kind in columns),
        method=method,
        ttl_us=spec.ttl.microseconds if spec.ttl else None,
        allow_exact=spec.allow_exact,
        place=f"{builder.at[0]}.{builder.at[1]}.lookup[{path[1]}]",
        chunk_bytes=prod(max(grid.chunks.get(dim, 1), 1) for dim in used)
        * sum(outline[variable].dtype.itemsize for variable, _, _ in columns),
    )


def _check_time(
    builder: ColumnBuilder, grid: CompiledGrid, time: str | None, own: str | None, path: Path
) -> None:
    if own is None:
        return
    if time is None:
        builder.tell(
            path,
            f"{grid.name!r} has times; a look-up takes what is known at a time. Give the rows a `time:`.",
        )
    problem = time_problem(grid.outline, own)
    if problem is not None:
        builder.tell((*path, "from"), f"{grid.name!r}: {problem}")


def _check_places(
    builder: ColumnBuilder,
    rows: Input,
    spec: Lookup,
    grid: CompiledGrid,
    used: list[str],
    own: str | None,
    path: Path,
) -> None:
    known = [str(dim) for dim in grid.outline.dims if dim != own]
    dims = [dim for dim in used if dim != own]
    for dim, column in (spec.at or {}).items():
        at = (*path, "at", dim)
        if dim == own:
            builder.tell(at, f"{dim!r} is the grid's time: it is looked up as of the row's. Leave it out.")
        elif dim not in grid.outline.dims:
            builder.tell(at, f"{grid.name!r} has no dimension {dim!r}. {did_you_mean(dim, known)}")
        elif column not in rows.columns:
            builder.tell(at, no_column(column, rows))
        elif builder.left_keys is not None and column not in builder.left_keys:
            builder.tell(
                at, f"{column!r} is no key of the table; at a time grid a look-up can only start from keys."
            )
        else:
            kind = rows.columns[column]
            problem = axis_problem(grid.outline, dim, pl.Float64() if kind.is_decimal() else kind)
            if problem is not None:
                builder.tell(at, f"{column!r} ({to_arrow(kind)}) is no place on {grid.name!r}: {problem}")
    missing = [dim for dim in dims if dim not in (spec.at or {})]
    if missing:
        wanted = ", ".join(f"{dim}: column" for dim in missing)
        builder.tell(
            (*path, "at"),
            f"say where the rows are on {', '.join(missing)} of {grid.name!r}: at: {{{wanted}}}.",
        )
