"""Reading a source's files as the spec says: cast, normalise, filter, derive, fill, clip, mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa

from featureflow.contracts.source import Column, FileFacts, Group, SourceSchema, SourceSpec
from featureflow.core.errors import SourceError
from featureflow.core.meter import moved, spending
from featureflow.core.raw_files import RawFile
from featureflow.library.sources.casts import MisfitError, cast, read_type
from featureflow.library.sources.registry import format_named
from featureflow.library.sources.steps import Steps, compile_steps

#: Name of the column with a row's position in its file
ROW = "__row"


class SourceReader:
    """Reads single files of one source; picklable, so that a task can carry it.

    Parameters
    ----------
    spec, schema, format_name
        As :func:`~featureflow.library.sources.inspection.inspect_source` gave them.

    Attributes
    ----------
    output_schema
        Types after all steps: raw columns, hive columns, derived ones, less the dropped.
    problems
        Mistakes in the spec's expressions and steps, as (place below the source, message); reading with any is
        refused.
    """

    def __init__(self, spec: SourceSpec, schema: SourceSchema, format_name: str) -> None:
        self.spec, self.schema, self.format_name = spec, schema, format_name
        self.steps: Steps
        self.steps, self.problems = compile_steps(spec, schema)
        self._columns = {column.name: column for column in schema.columns}

    @property
    def output_schema(self) -> dict[str, pl.DataType]:
        """Types after all steps."""
        return dict(self.steps.output)

    def needed_inputs(self, columns: Iterable[str]) -> list[str]:
        """Raw columns that must be read for these output columns: through ``derive`` and ``where``."""
        return self.steps.inputs_for(columns)

    def groups_in(self, facts: FileFacts, time_range: tuple[int | None, int | None] | None) -> list[Group]:
        """Parts of a file that can hold rows of a half-open range of microseconds UTC; None is no bound."""
        if time_range is None:
            return list(facts.groups)
        low, high = time_range
        derived = self.spec.time in self.spec.derive
        return [
            group
            for group in facts.groups
            if (group.min_time is None and derived)
            or (
                group.min_time is not None
                and group.max_time is not None
                and (low is None or group.max_time >= low)
                and (high is None or group.min_time < high)
            )
        ]

    @spending("compute:row steps")
    def read(
        self,
        facts: FileFacts,
        columns: Sequence[str] | None = None,
        *,
        time_range: tuple[int | None, int | None] | None = None,
        groups: Sequence[int] | None = None,
        row_position: bool = False,
        finish: bool = True,
    ) -> pl.DataFrame:
        """Read one file, in the order of its rows.

        Parameters
        ----------
        columns
            Output columns, in this order; None for all.
        time_range
            Only rows with ``start <= time < end`` (microseconds UTC; None is no bound). Rows without a time are
            left out.
        groups
            Only these parts of the file, by their index; None for all.
        row_position
            Add ``__row``: the row's position in the file, counted from 0 before any filter.
        finish
            False stops before fill, clip and mask, for a deduplication that must come between; columns that a mask
            drops may then be asked for. Apply :meth:`finish` after it.

        Raises
        ------
        SourceError
            If the file is damaged, or a value does not fit its declared type: names file, column, row and value.

        Notes
        -----
        Nulls: NaN is null. Time: instants in UTC; naive times are in the source's ``timezone``.
        Cost: reads only the needed columns of the row groups that overlap ``time_range``.
        """
        if self.problems:
            raise SourceError(f"source {self.spec.name}: {self.problems[0][0]}: {self.problems[0][1]}")
        wanted = list(self.steps.output) if columns is None else list(columns)
        with_time = [*wanted, *([self.spec.time] if time_range is not None and self.spec.time else [])]
        parts = self.groups_in(facts, time_range)
        parts = parts if groups is None else [part for part in parts if part.index in set(groups)]
        frame = self._raw(facts, self.steps.inputs_for(with_time), parts)
        frame = frame.with_columns(pl.Series(ROW, _positions(facts, parts)))
        try:
            frame = self.steps.prepare(frame, with_time)
        except ValueError as error:
            raise SourceError(f"{facts.file.path}: source {self.spec.name}: {error}") from None
        if time_range is not None:
            frame = self._within(frame, time_range)
        if finish:
            frame = self.steps.finish(frame)
        return frame.select([*wanted, *([ROW] if row_position else [])])

    def finish(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Fill, clip and mask a frame that was read with ``finish=False``."""
        return self.steps.finish(frame)

    def timed(self, facts: FileFacts, group: Group) -> Group:
        """The range of a derived event time in a group."""
        times = self._derived_times(facts, group)
        low, high = times.min(), times.max()
        if low is None or high is None:
            return replace(group, min_time=None, max_time=None, null_times=group.rows)
        return replace(group, min_time=int(low), max_time=int(high), null_times=times.null_count())  # type: ignore[arg-type]

    def _derived_times(self, facts: FileFacts, group: Group) -> pl.Series:
        time = str(self.spec.time)
        frame = self._raw(facts, self.steps.inputs_for([time]), [group])
        frame = frame.with_columns(pl.Series(ROW, _positions(facts, [group])))
        try:
            return self.steps.prepare(frame, [time])[time].cast(pl.Int64)
        except ValueError as error:
            raise SourceError(f"{facts.file.path}: source {self.spec.name}: {error}") from None

    def _within(self, frame: pl.DataFrame, time_range: tuple[int | None, int | None]) -> pl.DataFrame:
        if self.spec.time is None:
            raise SourceError(f"source {self.spec.name}: has no `time`, so it can't be read by time.")
        low, high = time_range
        time = pl.col(self.spec.time).cast(pl.Int64)
        frame = frame.filter(time.is_not_null())
        frame = frame if low is None else frame.filter(time >= low)
        return frame if high is None else frame.filter(time < high)

    @spending("decode")
    def _raw(self, facts: FileFacts, names: Sequence[str], groups: Sequence[Group]) -> pl.DataFrame:
        """Read raw columns in normal form."""
        file, rows = facts.file, sum(group.rows for group in groups)
        in_file = {name for name, _ in facts.fields}
        read = [name for name in names if name in in_file]
        table: pa.Table | None = None
        if read and rows:
            stored = {name: self._columns[name].stored for name in read}
            chosen = None if len(groups) == len(facts.groups) else [group.index for group in groups]
            table = format_named(self.format_name, self.spec.options).read(
                file, columns=read, groups=chosen, stored=stored
            )
            moved("decode", table.nbytes)
            if table.num_rows != rows or set(table.column_names) != set(read):
                raise SourceError(
                    f"{file.path}: has changed since it was planned. Run again; don't replace files during a build."
                )
        series = []
        for name in names:
            column = self._columns[name]
            if name in in_file:
                given = _series(file, name, table)
                series.append(
                    self._cast(facts, column, given, groups)
                    if table is not None
                    else given.cast(read_type(column.type))
                )
            else:
                series.append(self._constant(facts, column, rows))
        return pl.DataFrame(series) if series else pl.DataFrame({ROW: _positions(facts, groups)})

    def _cast(self, facts: FileFacts, column: Column, given: pl.Series, groups: Sequence[Group]) -> pl.Series:
        zone = self.spec.timezone
        try:
            if column.type == "timestamp" and self._is_day(column):
                given = cast(
                    given, "date", zone
                )  # a day that is used as a time: midnight, but only if it is a day
            return cast(given, column.type, zone)
        except MisfitError as error:
            row = int(_positions(facts, groups)[error.position]) + 1
            raise SourceError(
                f"{facts.file.path}: column {column.name!r}, row {row}: {error.value!r} {error.reason}."
            ) from None

    def _is_day(self, column: Column) -> bool:
        declared = self.spec.columns.get(column.name)
        return (declared.strip().removesuffix("?") if declared else column.stored) in ("date", "date32")

    def _constant(self, facts: FileFacts, column: Column, rows: int) -> pl.Series:
        """A hive column of a file, or a column that the file may lack."""
        text = facts.file.hive.get(column.name) if column.hive else None
        try:
            one = cast(pl.Series(column.name, [text], dtype=pl.String), column.type, self.spec.timezone)
        except MisfitError as error:
            raise SourceError(
                f"{facts.file.path}: folder {column.name}={error.value}: {error.reason}."
            ) from None
        return one.new_from_index(0, rows)


def _series(file: RawFile, name: str, table: pa.Table | None) -> pl.Series:
    if table is None:
        return pl.Series(name, [], dtype=pl.Null)
    column = table.column(name)
    if not pa.types.is_primitive(column.type):
        try:
            column.validate(
                full=True
            )  # Polars takes bytes that are not UTF-8 for granted, and crashes on them
        except pa.ArrowInvalid as error:
            raise SourceError(f"{file.path}: column {name!r} is damaged: {error}. Repair the file.") from None
    return pl.Series(name, column.cast(pa.float32()) if column.type == pa.float16() else column)


def _positions(facts: FileFacts, groups: Sequence[Group]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Positions in the file of the rows of the groups."""
    starts = dict(
        zip([g.index for g in facts.groups], np.cumsum([0, *(g.rows for g in facts.groups)]), strict=False)
    )
    parts = [np.arange(starts[g.index], starts[g.index] + g.rows, dtype=np.int64) for g in groups]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
