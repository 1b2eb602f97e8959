"""The rows of a grid's Delta table: one for each variable and chunk, with its place, its name and what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import xarray as xr
import xxhash

from featureflow.contracts.cube import Region
from featureflow.core.meter import spending
from featureflow.execute.grids.units import Cell


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """One chunk of one variable.

    Parameters
    ----------
    variable, chunk
        Which; the chunk's number along each dimension of the variable.
    spans
        Positions ``[start, stop)`` by dimension of the grid; those that the variable does not have are missing.
    fingerprint
        Name of everything that the values come from.
    digest
        xxh3-128 of the values' bytes, in C order.
    count, nulls, min, max, mean
        Of the values that are there; NaN and NaT count as missing.
    bytes
        In memory.
    """

    variable: str
    chunk: tuple[int, ...]
    spans: Mapping[str, tuple[int, int]]
    fingerprint: str
    digest: str
    count: int
    nulls: int
    min: float | None
    max: float | None
    mean: float | None
    bytes: int


def schema_of(dims: Iterable[str]) -> pa.Schema:
    """Columns of the table of a grid with these dimensions."""
    return pa.schema(
        [
            pa.field("variable", pa.string()),
            pa.field("chunk", pa.list_(pa.int64())),
            *(pa.field(f"{dim}_{end}", pa.int64()) for dim in dims for end in ("start", "stop")),
            pa.field("fingerprint", pa.string()),
            pa.field("digest", pa.string()),
            pa.field("count", pa.int64()),
            pa.field("nulls", pa.int64()),
            pa.field("min", pa.float64()),
            pa.field("max", pa.float64()),
            pa.field("mean", pa.float64()),
            pa.field("bytes", pa.int64()),
        ]
    )


def table_of(rows: Iterable[ChunkRow], dims: list[str]) -> pa.Table:
    """Rows as they are stored, by variable and chunk."""
    ordered = sorted(rows, key=lambda row: (row.variable, row.chunk))
    columns: dict[str, list[Any]] = {
        field.name: [getattr(row, field.name) for row in ordered]
        for field in fields(ChunkRow)
        if field.name != "spans"
    }
    for dim in dims:
        spans = [row.spans.get(dim, (None, None)) for row in ordered]
        columns[f"{dim}_start"], columns[f"{dim}_stop"] = ([span[end] for span in spans] for end in (0, 1))
    schema = schema_of(dims)
    return pa.table([pa.array(columns[one.name], one.type) for one in schema], schema=schema)


def rows_of(table: pa.Table, dims: list[str]) -> list[ChunkRow]:
    """Read what `table_of` made."""
    found = []
    for entry in table.to_pylist():
        spans = {}
        for dim in dims:
            low, high = entry.pop(f"{dim}_start"), entry.pop(f"{dim}_stop")
            if low is not None:
                spans[dim] = (low, high)
        found.append(ChunkRow(**{**entry, "chunk": tuple(entry["chunk"]), "spans": spans}))
    return found


@spending("compute:statistics")
def describe_chunk(
    name: str, values: np.ndarray, dims: tuple[str, ...], cell: Cell, region: Region, fingerprint: str
) -> ChunkRow:
    """Look at the values of a variable in one chunk; ``cell`` is its number along ``dims``."""
    values = np.ascontiguousarray(values)
    data: Any = values.reshape(-1).view(np.uint8) if values.size else b""
    nulls, least, most, mean = _statistics(values)
    return ChunkRow(
        variable=name,
        chunk=cell,
        spans={dim: region[dim] for dim in dims},
        fingerprint=fingerprint,
        digest=xxhash.xxh3_128(data).hexdigest(),
        count=values.size - nulls,
        nulls=nulls,
        min=least,
        max=most,
        mean=mean,
        bytes=values.nbytes,
    )


def _statistics(values: np.ndarray) -> tuple[int, float | None, float | None, float | None]:
    """Missing values, least, greatest, mean."""
    kind = values.dtype.kind
    if kind not in "fiub" or not values.size:
        nulls = int(np.isnat(values).sum()) if kind in "mM" else 0
        return nulls, None, None, None
    if kind != "f":
        return 0, float(values.min()), float(values.max()), float(values.mean(dtype=np.float64))
    total = float(values.sum(dtype=np.float64))
    if np.isfinite(total):  # no value is missing or infinite: three passes instead of six
        return 0, float(values.min()), float(values.max()), total / values.size
    there = ~np.isnan(values)
    count = int(np.count_nonzero(there))
    if not count:
        return values.size, None, None, None
    with np.errstate(invalid="ignore", over="ignore"):
        found = values[there]
        numbers = (float(found.min()), float(found.max()), float(found.sum(dtype=np.float64)) / count)
    least, most, mean = (number if np.isfinite(number) else None for number in numbers)
    return values.size - count, least, most, mean


def variables_of_cell(
    outline: xr.Dataset, dims: tuple[str, ...], cell: Cell
) -> list[tuple[str, tuple[str, ...], Cell]]:
    """Variables that a chunk of the grid writes: name, dimensions, number of the chunk along these.

    A variable that does not have a dimension belongs to the first chunks along it.
    """
    return Owners(outline, dims).of(cell)


class Owners:
    """`variables_of_cell` for many chunks."""

    def __init__(self, outline: xr.Dataset, dims: tuple[str, ...]) -> None:
        self._variables = []
        for name, variable in outline.data_vars.items():
            own = tuple(str(dim) for dim in variable.dims)
            axes = [dims.index(dim) for dim in own]
            lacks = [axis for axis, dim in enumerate(dims) if dim not in own]
            self._variables.append((str(name), own, axes, lacks))

    def of(self, cell: Cell) -> list[tuple[str, tuple[str, ...], Cell]]:
        """Variables that a chunk writes."""
        return [
            (name, own, tuple([cell[axis] for axis in axes]))
            for name, own, axes, lacks in self._variables
            if not any(cell[axis] for axis in lacks)
        ]
