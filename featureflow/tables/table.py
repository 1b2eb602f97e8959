"""One version of a feature table, for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from featureflow.core.errors import TableError
from featureflow.core.expressions import Expression, compile_condition
from featureflow.core.types import to_polars
from featureflow.spec.suggest import did_you_mean
from featureflow.tables import layout, versions
from featureflow.tables.labelled import (
    dense_dataset,
    grid_schema,
    grid_statistics,
    open_grid,
    sizes_text,
)
from featureflow.tables.parquet_files import StagedFile
from featureflow.tables.pruning import Comparison, comparisons_of
from featureflow.tables.reading import Scan, time_bound
from featureflow.tables.state import TableState

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

TimeBound = str | date | datetime | None
"""One end of a half-open time range; None is open, what has no zone is UTC."""

_DASK_PARTITION_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """A version of a feature table; immutable, so what it reads never changes.

    Notes
    -----
    Order: ``to_polars``, ``to_pandas`` and ``to_arrow`` give rows sorted by keys, then time (nulls first), rows that
    agree in both in the order of the source's tie rules: the same order for any number of buckets and slices.
    ``scan`` and ``to_dask`` give rows slice by slice, unsorted between files.
    Columns: all but the storage column (``day``, ``month``, ``year``), which comes when it is named in ``columns``.
    Errors: every byte that is read is verified; a flipped bit is a :class:`CorruptionError` naming the file.
    Grids: values are arrays, opened by ``to_xarray``; rows, one for each variable and chunk, say where the chunk is,
    its digest, count, extremes and mean, and are what the other readers give.
    """

    name: str
    url: str
    state: TableState = field(repr=False)

    @property
    def version(self) -> int:
        """Number of this version."""
        return self.state.version

    @property
    def schema(self) -> pa.Schema:
        """Columns and types, in order; of a grid its variables, with dimensions and units as metadata of each."""
        return grid_schema(self.record["arrays"]) if self.is_grid else self.state.schema

    @property
    def is_grid(self) -> bool:
        """Whether this is a version of a grid: its values are arrays, its rows say where each chunk is."""
        return bool(self.record.get("arrays"))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.state.info.rows

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return self.state.info.bytes

    @property
    def keys(self) -> list[str]:
        """Key columns."""
        return self.state.keys

    @property
    def time(self) -> str | None:
        """Time column."""
        return self.state.time

    @property
    def record(self) -> dict[str, Any]:
        """Everything the version remembers: inputs, engine, who and when, statistics."""
        return self.state.record

    @property
    def definition(self) -> Any:
        """The definition that it was built from."""
        return self.record.get("definition")

    @property
    def tags(self) -> list[str]:
        """Tags that point to this version now."""
        from featureflow.tables.tags import list_tags

        return sorted(tag for tag, version in list_tags(self.url).items() if version == self.version)

    @property
    def stats(self) -> pl.DataFrame:
        """Count, nulls, least, greatest, mean and sum of every column, without reading data.

        Extremes are text, because columns differ in type; times and dates are ISO 8601. Of a grid one line for each
        variable, from what its chunks' rows say.
        """
        if self.is_grid:
            return grid_statistics(self.record["arrays"], self.to_arrow(sort=False))
        found = self.record["statistics"]
        text = [
            {"column": name, "type": str(self.schema.field(name).type), **found[name]}
            for name in self.schema.names
        ]
        rows = [
            {
                **{k: row[k] for k in ("column", "type", "count", "nulls")},
                **{k: None if row.get(k) is None else str(row[k]) for k in ("min", "max")},
                **{k: None if row.get(k) is None else float(row[k]) for k in ("mean", "sum")},
            }
            for row in text
        ]
        schema = {"column": pl.String, "type": pl.String, "count": pl.Int64, "nulls": pl.Int64}
        more = {"min": pl.String, "max": pl.String, "mean": pl.Float64, "sum": pl.Float64}
        return pl.DataFrame(rows, schema={**schema, **more})

    def lineage(self, column: str) -> Any:
        """Where a column's values come from, as the build recorded it.

        Raises
        ------
        TableError
            If the table has no such column, or its record has no lineage.
        """
        if not self.is_grid:
            self._check_columns([column])
        lineage = self.record.get("lineage")
        if not isinstance(lineage, dict) or column not in lineage:
            raise TableError(f"{self.name}@{self.version}: the build recorded no lineage of {column!r}.")
        return lineage[column]

    def to_polars(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        time: tuple[TimeBound, TimeBound] | None = None,
        *,
        sort: bool = True,
    ) -> pl.DataFrame:
        """Read into a Polars frame.

        Parameters
        ----------
        columns
            Names, in the wanted order; all by default.
        where
            SQL condition over any columns, as in a spec: ``"card_id = 3 and amount > 10"``.
        time
            Half-open range ``[from, to)`` of the time column: ``("2026-01-01", "2026-02-01")``.
        sort
            False leaves rows in storage order, which is faster.

        Raises
        ------
        TableError
            For an unknown column or a condition that is none.
        CorruptionError
            If stored bytes changed.

        Notes
        -----
        Nulls: a row without a time is outside every range.
        Cost: files and row groups that can't hold a row (by keys and time) are not read.
        """
        return pl.DataFrame(self.to_arrow(columns, where, time, sort=sort))

    def to_pandas(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        time: tuple[TimeBound, TimeBound] | None = None,
        *,
        sort: bool = True,
    ) -> pd.DataFrame:
        """Read into pandas; parameters as :meth:`to_polars`. Integers with nulls become float64, as in pandas."""
        frame: pd.DataFrame = self.to_arrow(columns, where, time, sort=sort).to_pandas()
        return frame

    def to_arrow(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        time: tuple[TimeBound, TimeBound] | None = None,
        *,
        sort: bool = True,
    ) -> pa.Table:
        """Read into an Arrow table; parameters as :meth:`to_polars`."""
        wanted = list(self.state.schema.names if columns is None else columns)
        order = [*self.keys, *([self.time] if self.time else [])] if sort else []
        condition, scan = self._scan(wanted, where, time)
        needed = list(dict.fromkeys([*wanted, *order, *(condition.columns if condition else ())]))
        parts = list(_filtered(scan.tables(needed), condition))
        schema = pa.schema([self._field(name) for name in needed])
        table = (
            pa.concat_tables([part.cast(schema) for part in parts])
            if parts
            else pa.Table.from_batches([], schema)
        )
        return _sorted(table, order).select(wanted)

    def scan(self, time: tuple[TimeBound, TimeBound] | None = None) -> pl.LazyFrame:
        """Lazy Polars frame that reads file by file, only the columns that the query uses.

        Notes
        -----
        Order: slice by slice; sort explicitly where it matters.
        Cost: ``time`` skips files; a filter of the query does not, so give a time range here.
        """
        from polars.io.plugins import register_io_source

        _, scan = self._scan([], None, time)
        names = list(self.state.schema.names)

        def source(
            columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch: int | None
        ) -> Iterator[pl.DataFrame]:
            left = n_rows
            for table in scan.tables(names if columns is None else columns):
                if left is not None and left <= 0:
                    return
                frame = pl.DataFrame(table)
                frame = frame if left is None else frame.head(left)
                left = None if left is None else left - frame.height
                yield frame if predicate is None else frame.filter(predicate)

        schema = {field.name: to_polars(field.type) for field in self.state.schema}
        return register_io_source(source, schema=schema, is_pure=True)

    def to_dask(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        time: tuple[TimeBound, TimeBound] | None = None,
    ) -> Any:
        """Dask DataFrame; each partition reads about 64 MB of whole files, sorted by keys and time inside.

        Notes
        -----
        Nothing is read until it is computed; workers need access to the store.
        """
        import dask.dataframe as dd

        wanted = list(self.state.schema.names if columns is None else columns)
        _, scan = self._scan(wanted, where, time)
        groups = _groups(list(scan.pruned()))
        tables = [
            Table(self.name, self.url, replace(self.state, units={(f.slice, f.bucket): f for f in group}))
            for group in groups
        ]
        meta = pa.schema([self._field(name) for name in wanted]).empty_table().to_pandas()
        if not tables:
            return dd.from_pandas(meta, npartitions=1)
        return dd.from_map(
            _read_pandas, tables, columns=wanted, where=where, time=time, meta=meta, label=self.name
        )

    def to_xarray(self, columns: Sequence[str] | None = None, *, chunks: Any = None) -> xr.Dataset:
        """Open as an xarray Dataset: a grid's arrays lazily, a table's rows by keys and time.

        Parameters
        ----------
        columns
            Variables of the grid, or columns of the table, besides keys and time; all by default.
        chunks
            Of a grid: None reads from the store what is indexed, ``{}`` gives Dask arrays of the stored chunks.
            Of a table: handed to :meth:`xarray.Dataset.chunk` if it is not None.

        Raises
        ------
        TableError
            For an unknown column; for a table without keys and time, whose rows have nulls or duplicates in them, or
            whose array of all their combinations would be more than a hundred times its rows.
        CorruptionError
            When values are read whose bytes changed.

        Notes
        -----
        Nulls: a combination of keys and time without a row is NaN, NaT or None; columns of integers and booleans are
        floats and objects then, as in pandas. Time: UTC, without a zone, which xarray does not have.
        Cost: of a grid only metadata is read.
        """
        if self.is_grid:
            return open_grid(self, columns, chunks)
        made = dense_dataset(self, columns)
        return made if chunks is None else made.chunk(chunks)

    def sample(self, n: int = 1000, seed: int = 0, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Draw ``n`` rows without replacement, every row with the same chance; all rows if there are fewer.

        Notes
        -----
        Determinism: the same version, ``n`` and ``seed`` give the same rows, in storage order.
        Cost: reads the files that hold a drawn row.
        """
        wanted = list(self.state.schema.names if columns is None else columns)
        self._check_columns(wanted)
        chosen = np.sort(np.random.default_rng(seed).choice(self.rows, min(n, self.rows), replace=False))
        ends = np.cumsum([file.rows for file in self.state.files])
        parts, done, begin = [], 0, 0
        for file, end in zip(self.state.files, ends, strict=True):
            stop = int(np.searchsorted(chosen, end))
            if stop > done:
                table = self._scan([], None, None)[1].read(file, wanted)
                parts.append(table.take(pa.array(chosen[done:stop] - begin)))
            done, begin = stop, int(end)
        schema = pa.schema([self._field(name) for name in wanted])
        return pl.DataFrame(pa.concat_tables(parts) if parts else pa.Table.from_batches([], schema))

    def diff(self, other: str | Table) -> Any:
        """What changed from ``other`` (a table, ``name@7`` or ``7``) to this version."""
        from featureflow.tables.diff import diff
        from featureflow.tables.store import open_table

        if isinstance(other, Table):
            return diff(other, self)
        name, _, which = other.rpartition("@")
        if name not in ("", self.name):
            raise TableError(
                f"{self.name}: can't be compared with {other!r}, another table; open it with store.table()."
            )
        return diff(open_table(self.url, self.name, which), self)

    def _field(self, name: str) -> pa.Field:
        if name == self.state.partition_column:
            return pa.field(name, layout.partition_type(self.state.partition))
        return self.state.schema.field(name)

    def _check_columns(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.state.schema.names and name != self.state.partition_column:
                hint = did_you_mean(name, self.state.schema.names)
                raise TableError(f"{self.name}@{self.version}: no column {name!r}. {hint}")

    def _scan(
        self, columns: Sequence[str], where: str | None, time: tuple[TimeBound, TimeBound] | None
    ) -> tuple[Expression | None, Scan]:
        self._check_columns(columns)
        condition, comparisons = None, self._time_range(time)
        if where is not None:
            types = {field.name: to_polars(field.type) for field in self._all_fields()}
            try:
                condition = compile_condition(where, types)
            except ValueError as error:
                raise TableError(f"{self.name}@{self.version}: where: {error}") from None
            comparisons += comparisons_of(where, self.state.schema)
        return condition, self.scan_files(tuple(self.state.files), tuple(comparisons))

    def scan_files(self, files: tuple[StagedFile, ...], comparisons: tuple[Comparison, ...] = ()) -> Scan:
        """Scan of some of the version's files, for the rest of this room."""
        state = self.state
        versions.check_not_expired(self.url, self.name, state.info)
        return Scan(self.url, state.schema, state.partition, state.partition_column, files, comparisons)

    def _all_fields(self) -> list[pa.Field]:
        column = self.state.partition_column
        return [*self.state.schema, *([self._field(column)] if column else [])]

    def _time_range(self, time: tuple[TimeBound, TimeBound] | None) -> list[Comparison]:
        if time is None:
            return []
        if self.time is None:
            raise TableError(f"{self.name}: has no time column, so `time` can't choose rows.")
        first, end = time_bound(time[0], "from"), time_bound(time[1], "to")
        bounds = [
            Comparison(self.time, op, bound) for op, bound in ((">=", first), ("<", end)) if bound is not None
        ]
        return bounds or [Comparison(self.time, ">=", datetime.min.replace(tzinfo=UTC))]

    def __repr__(self) -> str:
        """One line."""
        if self.is_grid:
            return f"Table({self.name}@{self.version}: {sizes_text(self.record['arrays'])}, {self.url})"
        return (
            f"Table({self.name}@{self.version}: {self.rows:,} rows, {len(self.schema)} columns, {self.url})"
        )

    def _repr_html_(self) -> str:
        from featureflow.tables.html import table_html

        return table_html(self)


def _filtered(tables: Iterator[pa.Table], condition: Expression | None) -> Iterator[pa.Table]:
    for table in tables:
        yield table if condition is None else table.filter(condition.mask(pl.DataFrame(table)).to_arrow())


def _sorted(table: pa.Table, order: list[str]) -> pa.Table:
    """Sort by keys and time; stable, so equal rows keep the order of their file."""
    if not order or table.num_rows < 2:
        return table
    frame = pl.DataFrame(table.select(order)).with_row_index("")
    places = frame.sort(order, maintain_order=True, nulls_last=False)[""]
    if places.is_sorted():
        return table
    return table.take(places.to_arrow())


def _groups(files: list[Any]) -> list[list[Any]]:
    groups: list[list[Any]] = []
    size = _DASK_PARTITION_BYTES
    for file in files:
        if size + file.size > _DASK_PARTITION_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.size
    return groups


def _read_pandas(
    table: Table, columns: list[str], where: str | None, time: tuple[TimeBound, TimeBound] | None
) -> pd.DataFrame:
    return table.to_pandas(columns, where, time)
