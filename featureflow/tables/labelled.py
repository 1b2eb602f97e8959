"""Tables as labelled arrays: a grid's variables, and a table's rows by keys and time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from featureflow.core.errors import TableError
from featureflow.spec.suggest import did_you_mean
from featureflow.tables import versions

if TYPE_CHECKING:
    import xarray as xr

    from featureflow.tables.table import Table

#: A dense array of a table may have so many times its rows, and always so many values.
_SPARSE, _SMALL = 100, 1_000_000


def open_grid(table: Table, variables: Sequence[str] | None, chunks: Any) -> xr.Dataset:
    """A grid's arrays, lazily."""
    from featureflow.tables.arrays_reading import open_arrays

    versions.check_not_expired(table.url, table.name, table.state.info)
    found = open_arrays(table.url, table.record["arrays"]["snapshot"], chunks=chunks)
    if variables is None:
        return found
    for name in variables:
        if name not in found.variables:
            hint = did_you_mean(name, [str(known) for known in found.data_vars])
            raise TableError(f"{table.name}@{table.version}: no variable {name!r}. {hint}")
    return found[list(variables)]


def grid_schema(arrays: Mapping[str, Any]) -> pa.Schema:
    """Variables as fields; dimensions, sizes, chunks and units are each field's metadata."""
    return pa.schema(
        [pa.field(name, _arrow_type(about["dtype"]), metadata=_metadata(arrays, about))
         for name, about in arrays["variables"].items()]
    )  # fmt: skip


def _metadata(arrays: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, str]:
    dims = about["dims"]
    given = {
        "dims": json.dumps(dims),
        "shape": json.dumps([arrays["sizes"][dim] for dim in dims]),
        "chunks": json.dumps([arrays["chunks"].get(dim, arrays["sizes"][dim]) for dim in dims]),
    }
    units = about.get("units")
    return given if units is None else {**given, "units": str(units)}


def _arrow_type(dtype: str) -> pa.DataType:
    import numpy as np

    try:
        return pa.from_numpy_dtype(np.dtype(dtype))
    except pa.ArrowNotImplementedError:  # complex numbers: Arrow has none
        return pa.list_(pa.float64(), 2)


def sizes_text(arrays: Mapping[str, Any]) -> str:
    """Variables and sizes in a few words.

    Examples
    --------
    >>> sizes_text({"variables": {"sst": {}}, "sizes": {"lat": 180, "time": 365}, "dims": ["time", "lat"]})
    'sst, time 365 x lat 180'
    """
    names = list(arrays["variables"])
    some = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return f"{some}, {' x '.join(f'{dim} {size:,}' for dim, size in sizes_of(arrays).items())}"


def sizes_of(arrays: Mapping[str, Any]) -> dict[str, int]:
    """Sizes in the order of the dimensions, which JSON has lost."""
    return {dim: int(arrays["sizes"][dim]) for dim in arrays["dims"]}


def grid_bytes(record: Mapping[str, Any]) -> int:
    """Bytes of all values of a grid before compression, as its chunks' rows add up."""
    return int(record["statistics"]["bytes"].get("sum", 0))


def grid_statistics(arrays: Mapping[str, Any], rows: pa.Table) -> pl.DataFrame:
    """Count, nulls, least, greatest, mean and sum of every variable, from its chunks' rows."""
    frame = pl.DataFrame(rows)
    made = []
    for name, about in arrays["variables"].items():
        of = frame.filter(pl.col("variable") == name)
        parts = of.filter(pl.col("mean").is_not_null())
        total = math.fsum(mean * count for mean, count in parts.select("mean", "count").iter_rows())
        counted = int(parts["count"].sum())
        low, high = of["min"].min(), of["max"].max()
        made.append(
            {
                "column": name,
                "type": about["dtype"],
                "count": int(of["count"].sum()),
                "nulls": int(of["nulls"].sum()),
                "min": None if low is None else str(low),
                "max": None if high is None else str(high),
                "mean": total / counted if counted else None,
                "sum": total if counted else None,
            }
        )
    schema = {"column": pl.String, "type": pl.String, "count": pl.Int64, "nulls": pl.Int64}
    more = {"min": pl.String, "max": pl.String, "mean": pl.Float64, "sum": pl.Float64}
    return pl.DataFrame(made, schema={**schema, **more})


def dense_dataset(table: Table, columns: Sequence[str] | None) -> xr.Dataset:
    """A table's rows as arrays over its keys and its time."""
    where = f"{table.name}@{table.version}"
    dims = [*table.keys, *([table.time] if table.time else [])]
    if not dims:
        raise TableError(f"{where}: to_xarray needs keys or a time for its dimensions; the table has none.")
    rest = [name for name in (table.schema.names if columns is None else columns) if name not in dims]
    frame = pl.DataFrame(table.to_arrow([*dims, *rest]))
    nulls = [name for name in dims if frame[name].null_count()]
    if nulls:
        raise TableError(
            f"{where}: to_xarray: {nulls[0]!r} has nulls, which label nothing. Leave those rows out."
        )
    if frame.select(pl.struct(dims).is_duplicated().any()).item():
        twice = frame.filter(pl.struct(dims).is_duplicated()).select(dims).row(0)
        told = ", ".join(f"{dim}={value}" for dim, value in zip(dims, twice, strict=True))
        raise TableError(
            f"{where}: to_xarray: {' and '.join(dims)} do not name a row: there are several with {told}. "
            "Read rows with to_polars()."
        )
    cells = math.prod(frame[name].n_unique() for name in dims)
    if cells > max(_SMALL, _SPARSE * frame.height):
        raise TableError(
            f"{where}: to_xarray: all combinations of {' and '.join(dims)} are {cells:,} values a column for "
            f"{frame.height:,} rows. Read rows with to_polars()."
        )
    zoneless = [
        pl.col(name).dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone
    ]
    rows = frame.with_columns(zoneless).to_pandas()
    made: xr.Dataset = rows.set_index(dims).to_xarray()
    made.attrs = {"table": table.name, "version": table.version}
    return made
