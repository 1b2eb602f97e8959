"""Grids of zones: few values, kept as rows of an ordinary Delta table; parts by name beside it, for the next build."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import xarray as xr

from featureflow.contracts.cube import Region, slices_of
from featureflow.core.errors import ComputeError, TableError
from featureflow.core.storage import join, read_bytes, write_atomic
from featureflow.core.types import INSTANT
from featureflow.execute.grids.packing import joined, pack, unpack
from featureflow.execute.grids.region_task import GridJob, evaluate_box
from featureflow.execute.grids.tasks import Box
from featureflow.execute.grids.units import Cell, Lattice
from featureflow.plan.grid_nodes import CompiledGrid, RowShape
from featureflow.plan.zone_rows import row_schema
from featureflow.tables.layout import file_path
from featureflow.tables.parquet_files import StagedFile, write_file

#: Rows of one file: a constant, because a rebuild on another machine must give the same files.
ROWS_PER_FILE = 1 << 20


def part_path(folder: str, name: str) -> str:
    """Where a part of a grid of zones is kept."""
    return join(folder, f"{name}.npz")


def compute_zones(job: GridJob, box: Box, names: tuple[str, ...], folder: str) -> int:
    """Compute a box and write its parts under their names; gives their bytes."""
    data = evaluate_box(job, box)
    for cell, name in zip(box.cells, names, strict=True):
        part = data.isel(slices_of(job.lattice.region(cell), box.region))
        write_atomic(part_path(folder, name), pack(part), durable=False)
    return int(data.nbytes)


def read_zones(
    outline: xr.Dataset, lattice: Lattice, named: Mapping[Cell, str], folder: str, region: Region
) -> xr.Dataset:
    """Put the parts of a box together."""
    parts = []
    box = {dim: region.get(dim, (0, n)) for dim, n in zip(lattice.dims, lattice.sizes, strict=True)}
    for cell in lattice.touching(box):
        path = part_path(folder, named[cell])
        place = lattice.region(cell)
        cut = {d: (max(low, box[d][0]), min(high, box[d][1])) for d, (low, high) in place.items()}
        parts.append((slices_of(cut, box), unpack(_part(path), path).isel(slices_of(cut, place))))
    cut_outline = outline.isel(slices_of(box), missing_dims="ignore")
    return joined(cut_outline, parts).assign_coords(cut_outline.coords)


def _part(path: str) -> bytes:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        raise TableError(
            f"{path}: a part of this version of a grid of zones is gone: builds of later versions take away what they "
            "don't use. Its rows are there. Select the grid too, and its parts are computed again: --select +NAME."
        ) from None


def table_of_zones(grid: CompiledGrid, shape: RowShape, data: xr.Dataset) -> pa.Table:
    """Rows of all cells, by keys and time; missing values are null.

    Raises
    ------
    ComputeError
        If times are not those of the calendar that tables have.
    """
    dims = [*shape.keys, *([shape.time] if shape.time else [])]
    sizes = [int(data.sizes[dim]) for dim in dims]
    schema = row_schema(grid.outline, shape)
    columns: dict[str, pa.Array] = {}
    for axis, dim in enumerate(dims):
        labels = data[dim].values if dim in data.coords else np.arange(sizes[axis])
        at = np.indices(sizes)[axis].ravel() if sizes else np.zeros(1, np.int64)
        columns[dim] = _labels(grid, dim, labels).take(pa.array(at))
    for name, coordinate in data.coords.items():
        if str(name) not in columns and coordinate.ndim == 1 and coordinate.dims[0] in dims:
            axis = dims.index(str(coordinate.dims[0]))
            columns[str(name)] = _labels(grid, str(name), coordinate.values).take(
                pa.array(np.indices(sizes)[axis].ravel())
            )
    for name, variable in data.data_vars.items():
        values = variable.broadcast_like(data).transpose(*dims).values.ravel()
        columns[str(name)] = pa.array(values, from_pandas=True)
    table = pa.table({name: columns[name] for name in schema.names}).cast(schema)
    return table.sort_by([(dim, "ascending") for dim in dims]) if dims else table


def write_zones(rows: pa.Table, shape: RowShape, table_url: str, name: str) -> tuple[StagedFile, ...]:
    """Write rows in files that tasks can read one by one: one at least, ``name`` names them all."""
    return tuple(
        write_file(
            rows.slice(first, ROWS_PER_FILE),
            table_url,
            file_path(None, None, number, name),
            keys=list(shape.keys),
            time=shape.time,
        )
        for number, first in enumerate(range(0, max(rows.num_rows, 1), ROWS_PER_FILE))
    )


def _labels(grid: CompiledGrid, name: str, values: np.ndarray) -> pa.Array:
    """A coordinate as a column: times are instants, in UTC."""
    if values.dtype.kind == "M":
        return pa.array(values.astype("datetime64[us]")).cast(pa.timestamp("us")).cast(INSTANT)
    if values.dtype.kind == "O" and len(values) and not isinstance(values[0], str):
        raise ComputeError(
            f"features.{grid.name}: {name} holds {type(values[0]).__name__} values, which rows of a table don't have. "
            "Convert times of another calendar in the source."
        )
    return pa.array(values.astype(str) if values.dtype.kind in "OU" else values)
