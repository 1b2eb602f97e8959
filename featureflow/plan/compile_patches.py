"""A spine of patches, from its spec: checked against the grid's outline and that of the labels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from featureflow.core.types import INSTANT, to_polars
from featureflow.plan.columns import ColumnBuilder, no_column
from featureflow.plan.grid_lookups import grid_input, time_of, time_problem
from featureflow.plan.grid_nodes import GridInput
from featureflow.plan.nodes import Input
from featureflow.plan.patches import (
    PATCH,
    VALID,
    PatchField,
    PatchLayout,
    PatchSpine,
    ReducedLabel,
    index_column,
    start_column,
)
from featureflow.spec.datasets import PatchLabels, Spine
from featureflow.spec.suggest import did_you_mean

if TYPE_CHECKING:
    import xarray as xr

    from featureflow.plan.grid_nodes import CompiledGrid

#: Patches of one dataset are numbered, and their index fits into memory.
MOST_PATCHES = 100_000_000


def compile_patches(
    builder: ColumnBuilder,
    spec: Spine,
    grid: CompiledGrid,
    labels: GridInput | CompiledGrid | None,
) -> tuple[Input, PatchSpine] | None:
    """Compile a spine of patches; None if it has mistakes, which the builder is told.

    Parameters
    ----------
    labels
        What ``labels.source`` names; None if there are no labels.

    Returns
    -------
    tuple
        The rows of the spine as an input whose columns are those of the index, and what patches hold.
    """
    before = len(builder.problems)
    outline = grid.outline
    time = _time(builder, spec, grid)
    layout = _layout(builder, spec, grid.name, outline)
    fields = _fields(builder, spec, grid.name, outline, layout)
    field, label = None, None
    if spec.labels is not None and labels is not None:
        field, label = _labels(builder, spec.labels, grid.name, outline, labels, layout)
    if len(builder.problems) > before:
        return None
    fields = [*fields, *([field] if field else [])]
    found = PatchSpine(
        grid=grid.name,
        layout=layout,
        fields=tuple(fields),
        label=label,
        time=time,
        valid=spec.valid,
        label_input=labels if isinstance(labels, GridInput) else None,
        label_spec=_source_json(builder, labels.name) if isinstance(labels, GridInput) else "{}",
    )
    columns: dict[str, pl.DataType] = {PATCH: pl.Int64()}
    for dim in layout.dims:
        columns[index_column(dim)] = pl.Int64()
        columns[start_column(dim)] = to_polars(coordinate_type(outline, dim))
    if time is not None:
        columns[time] = to_polars(INSTANT)
    columns[VALID] = pl.Float64()
    if label is not None:
        columns[label.name] = to_polars(label.type)
    _refuse_clashes(builder, columns, fields)
    if len(builder.problems) > before:
        return None
    return Input("grid", grid.name, columns, time, keys=(PATCH,)), found


def _source_json(builder: ColumnBuilder, name: str) -> str:
    """A source as the spec has it, and the folder that its paths start from."""
    source = builder.loaded.project.sources[name].model_dump(mode="json", by_alias=True)
    return json.dumps({"source": source, "root": os.path.abspath(builder.loaded.root)})


def coordinate_type(outline: xr.Dataset, dim: str) -> pa.DataType:
    """Type of the column of a dimension's coordinate; that of positions where it has none."""
    if dim not in outline.coords:
        return pa.int64()
    dtype = outline[dim].dtype
    if dtype.kind == "M":
        return INSTANT
    return pa.string() if dtype.kind in "OSU" else pa.from_numpy_dtype(dtype)


def _time(builder: ColumnBuilder, spec: Spine, grid: CompiledGrid) -> str | None:
    time = time_of(grid.outline, grid.time) if spec.time is None else spec.time
    if time is None:
        return None
    at = ("spine", "time" if spec.time is not None else "grid")
    if time not in grid.outline.dims:
        dims = [str(dim) for dim in grid.outline.dims]
        builder.tell(at, f"{grid.name!r} has no dimension {time!r}. {did_you_mean(time, dims)}")
        return None
    problem = time_problem(grid.outline, time)
    if problem is not None:
        builder.tell(at, f"{grid.name!r}: {problem}")
    return time


def _layout(builder: ColumnBuilder, spec: Spine, name: str, outline: xr.Dataset) -> PatchLayout:
    dims = [str(dim) for dim in outline.dims]
    for dim, size in spec.patch.items():
        if dim not in dims:
            builder.tell(
                ("spine", "patch", dim), f"{name!r} has no dimension {dim!r}. {did_you_mean(dim, dims)}"
            )
        elif size > outline.sizes[dim]:
            builder.tell(
                ("spine", "patch", dim),
                f"a patch of {size} is larger than {name!r}, which has {outline.sizes[dim]} along {dim!r}.",
            )
    cut = [dim for dim in dims if dim in spec.patch]
    layout = PatchLayout(
        tuple(cut),
        tuple(int(outline.sizes[dim]) for dim in cut),
        tuple(spec.patch[dim] for dim in cut),
        tuple(spec.stride[dim] for dim in cut),
    )
    if layout.n_patches > MOST_PATCHES:
        builder.tell(
            ("spine", "stride"),
            f"makes {layout.n_patches:,} patches, and {MOST_PATCHES:,} are the most. Use larger steps.",
        )
    return layout


def _fields(
    builder: ColumnBuilder, spec: Spine, name: str, outline: xr.Dataset, layout: PatchLayout
) -> list[PatchField]:
    known = [str(variable) for variable in outline.data_vars]
    found = []
    for j, variable in enumerate(spec.variables or known):
        if variable not in known:
            at = ("spine", "variables", j)
            builder.tell(at, no_column(variable, grid_input(name, outline, None)))
            continue
        field = _field(builder, outline, layout, (name, variable), ("feature", variable))
        if field is not None:
            found.append(field)
    return found


def _field(
    builder: ColumnBuilder,
    outline: xr.Dataset,
    layout: PatchLayout,
    of: tuple[str, str],
    becomes: tuple[Any, str],
) -> PatchField | None:
    source, variable = of
    role, name = becomes
    array = outline[variable]
    where = ("spine", "variables") if role == "feature" else ("spine", "labels")
    if array.dtype.kind not in "fiub":
        builder.tell(where, f"{variable!r} of {source!r} is {array.dtype}; patches hold numbers.")
        return None
    if layout.dims and not {str(dim) for dim in array.dims} & {*layout.dims}:
        builder.tell(
            where, f"{variable!r} of {source!r} has none of the dimensions of `patch:`. Leave it out."
        )
        return None
    sizes = dict(zip(layout.dims, layout.patch, strict=True))
    shape = tuple(sizes.get(str(dim), int(array.sizes[dim])) for dim in array.dims)
    dtype = array.dtype.newbyteorder("=")
    return PatchField(name, role, source, variable, tuple(map(str, array.dims)), shape, str(dtype))


def _labels(
    builder: ColumnBuilder,
    spec: PatchLabels,
    grid: str,
    outline: xr.Dataset,
    given: GridInput | CompiledGrid,
    layout: PatchLayout,
) -> tuple[PatchField | None, ReducedLabel | None]:
    """The label: patches of another grid, or one value made of each."""
    at = ("spine", "labels")
    known = [str(variable) for variable in given.outline.data_vars]
    variable = spec.variable or (known[0] if len(known) == 1 else "")
    if variable not in known:
        what = (
            f"has no variable {variable!r}." if variable else "has several variables. Name one: variable: …."
        )
        builder.tell(at, f"{spec.source!r} {what} It has: {', '.join(known)}.")
        return None, None
    array = given.outline[variable]
    before = len(builder.problems)
    for dim in map(str, array.dims):
        problem = _not_alike(outline, given.outline, dim)
        if problem is not None:
            builder.tell(at, f"{variable!r} of {spec.source!r} does not lie on {grid!r}: {problem}")
    if len(builder.problems) > before:
        return None, None
    if spec.op == "patch":
        return _field(builder, given.outline, layout, (spec.source, variable), ("label", spec.as_)), None
    kind = _label_type(array.dtype, spec.op)
    if kind is None:
        builder.tell((*at, "op"), f"{spec.op} can't be made of {variable!r}, which is {array.dtype}.")
        return None, None
    dims = tuple(map(str, array.dims))
    return None, ReducedLabel(spec.as_, spec.source, variable, spec.op, dims, kind)


def _not_alike(outline: xr.Dataset, other: xr.Dataset, dim: str) -> str | None:
    """Say why a dimension of the labels is not the grid's."""
    if dim not in outline.dims:
        return f"the grid has no dimension {dim!r}. Select one position of it first."
    if other.sizes[dim] != outline.sizes[dim]:
        return (
            f"it has {other.sizes[dim]} along {dim!r}, the grid {outline.sizes[dim]}. Regrid or select first."
        )
    if dim in outline.coords and dim in other.coords:
        mine, theirs = outline[dim].values, other[dim].values
        same = (
            np.allclose(mine.astype(np.float64), theirs.astype(np.float64), rtol=1e-6, atol=1e-9)
            if mine.dtype.kind in "fiu" and theirs.dtype.kind in "fiu"
            else np.array_equal(mine, theirs)
        )
        if not same:
            return f"its coordinate {dim!r} is another. Regrid it like the grid first."
    return None


def _label_type(dtype: np.dtype[Any], op: str) -> pa.DataType | None:
    if dtype.kind not in "fiub":
        return None
    if op in ("center", "majority", "min", "max"):
        return pa.bool_() if dtype.kind == "b" else pa.from_numpy_dtype(dtype)
    if op == "mean":
        return pa.from_numpy_dtype(dtype) if dtype.kind == "f" else pa.float64()
    return pa.from_numpy_dtype(dtype) if dtype.kind == "f" else pa.int64()


def _refuse_clashes(builder: ColumnBuilder, columns: Mapping[str, Any], fields: list[PatchField]) -> None:
    seen = {name.lower(): name for name in columns}
    for field in fields:
        if field.name.lower() in seen:
            at = ("spine", "labels" if field.role == "label" else "variables")
            builder.tell(
                at,
                f"patches have a column {seen[field.name.lower()]!r} already. "
                + (
                    "Name the label with `as:`."
                    if field.role == "label"
                    else "Rename the variable in the grid."
                ),
            )
        seen[field.name.lower()] = field.name
