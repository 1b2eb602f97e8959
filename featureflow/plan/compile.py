"""Spec and input schemas → typed tables. Every mistake is found before data is read, and all are told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from featureflow.core.errors import Problem
from featureflow.core.expressions import compile_condition
from featureflow.core.fingerprints import fingerprint
from featureflow.core.types import parse_type, to_polars
from featureflow.plan.columns import ColumnBuilder, Path, no_column
from featureflow.plan.compile_grid_lookup import compile_grid_lookup
from featureflow.plan.definition import table_definition
from featureflow.plan.grid_lookups import GridLookup
from featureflow.plan.nodes import CompiledTable, Derived, Feature, Grid, Input, Lookup, Series, Window
from featureflow.spec.dependencies import dependency_order
from featureflow.spec.load import LoadedProject
from featureflow.spec.models import AggregateEntry, Every, Project
from featureflow.spec.names import output_columns

if TYPE_CHECKING:
    from featureflow.plan.grid_nodes import CompiledGrid


def compile_tables(
    loaded: LoadedProject,
    sources: dict[str, Input],
    names: list[str],
    problems: list[Problem],
    grids: Mapping[str, CompiledGrid] | None = None,
) -> dict[str, CompiledTable]:
    """Compile feature tables in the order in which they can be built.

    Parameters
    ----------
    loaded
        The spec.
    sources
        Every raw source that the tables use, with its schema after the source's own steps; and grids of zones.
    names
        Tables to compile, with all that they build on.
    problems
        Gets every mistake; a table with one, and what builds on it, is left out.
    grids
        The grids that they build on or look up.
    """
    compiled: dict[str, CompiledTable] = {}
    for name in dependency_order(loaded.project):
        if name not in names:
            continue
        table = _TableCompiler(loaded, name, sources, compiled, problems, grids or {}).compile()
        if table is not None:
            compiled[name] = table
    return compiled


class _TableCompiler(ColumnBuilder):
    """Compiles one table; mistakes go to ``problems`` and the rest is still looked at."""

    def __init__(
        self,
        loaded: LoadedProject,
        name: str,
        sources: dict[str, Input],
        tables: dict[str, CompiledTable],
        problems: list[Problem],
        grids: Mapping[str, CompiledGrid],
    ) -> None:
        spec = loaded.project.features[name]
        super().__init__(
            loaded,
            ("features", name),
            sources,
            tables,
            problems,
            None if spec.at == "events" else spec.keys,
        )
        self.name, self.spec, self.grids = name, spec, grids
        self.project: Project = loaded.project

    def compile(self) -> CompiledTable | None:
        before = len(self.problems)
        source = self.input(self.spec.source)
        if source is None:
            return None
        self._columns(source)
        features = self._features(source)
        lookups = self._lookups(source)
        derived = self._derived()
        self._partition_needs()
        self._time_needs(source)
        if len(self.problems) > before:
            return None
        schema = self.arrow_schema()
        if schema is None:
            return None
        upstream = {name: table.definition_hash for name, table in self.tables.items()}
        upstream |= {name: grid.definition_hash for name, grid in self.grids.items()}
        folder = os.path.abspath(self.loaded.root)
        definition = table_definition(self.project, self.name, upstream, folder)
        return CompiledTable(
            name=self.name,
            source=source,
            keys=self.spec.keys,
            time=source.time,
            grid=self._grid(),
            keep=tuple(c for c in self.spec.keep if c not in (*self.spec.keys, source.time)),
            features=tuple(features),
            lookups=tuple(lookups),
            derived=tuple(derived),
            partition="none" if source.time is None else self.spec.partition,
            checks=self.spec.each_check,
            schema=schema,
            lineage=self.lineage,
            definition=definition,
            definition_hash=fingerprint(definition),
        )

    def _columns(self, source: Input) -> None:
        """Keys, time and kept columns."""
        for i, key in enumerate(self.spec.keys):
            self.take(source, key, ("keys", i))
            if key in source.columns and source.columns[key].is_nested():
                self.tell(
                    ("keys", i),
                    f"{key!r} is {source.columns[key]}; a key is a single value. Take one with `derive:`.",
                )
        if source.time is not None:
            self.take(source, source.time, ("source",))
        for i, name in enumerate(self.spec.keep):
            self.take(source, name, ("keep", i))

    def _features(self, source: Input) -> list[Feature]:
        found: list[Feature] = []
        for i, entry in enumerate(self.spec.aggregate):
            path: Path = ("aggregate", i)
            if self._entry_is_sound(source, entry, path):
                found.extend(self._entry(source, entry, path))
        return found

    def _entry_is_sound(self, source: Input, entry: AggregateEntry, path: Path) -> bool:
        before = len(self.problems)
        for field in ("column", "by"):
            name = getattr(entry, field)
            if name is not None and name not in source.columns:
                self.tell((*path, field), no_column(name, source))
        if entry.where is not None:
            self.check_sql(compile_condition, entry.where, source.columns, (*path, "where"))
        return len(self.problems) == before

    def _entry(self, source: Input, entry: AggregateEntry, path: Path) -> list[Feature]:
        found = []
        values = self._by_values(source, entry, path)
        for output in output_columns(entry):
            op_path = (*path, "ops", entry.ops.index(output.op))
            params = dict(output.op.params)
            other = output.op.other
            if other is not None and other not in source.columns:
                self.tell(op_path, no_column(other, source))
                continue
            kind = self.output_type(source, entry.column, output.op.name, params, op_path)
            if kind is None:
                continue
            series = Series(entry.column, entry.where, entry.by, values.get(output.value))
            window = self._window(entry, output.window)
            inputs = [name for name in (entry.column, entry.by, other) if name]
            inputs += self.sql_columns(entry.where, source.columns) if entry.where else []
            lineage = tuple(f"{source.name}.{name}" for name in inputs or [source.time or ""])
            fills, fill = self._fill(entry, kind, path)
            found.append(
                Feature(
                    output.name, series, output.op.name, output.op.params, window, kind, other, fills, fill
                )
            )
            self.add(output.name, kind, lineage, op_path)
        return found

    def _by_values(self, source: Input, entry: AggregateEntry, path: Path) -> dict[Any, Any]:
        """Values of ``by`` as the column's own type."""
        if entry.by is None:
            return {}
        dtype = source.columns[entry.by]
        found = {}
        for i, value in enumerate(entry.values or ()):
            try:
                found[value] = pl.Series([value]).cast(dtype, strict=True)[0]
            except (pl.exceptions.PolarsError, TypeError):
                self.tell(
                    (*path, "values", i), f"{value!r} is not a value of {entry.by!r}, which is {dtype}."
                )
        return found

    def _fill(self, entry: AggregateEntry, kind: pa.DataType, path: Path) -> tuple[bool, Any]:
        """Whether empty windows are filled, and with what, as a value of the result's type."""
        fills, value = self.spec.fill_of(entry)
        if not fills or value is None:
            return fills, None
        try:
            return True, pa.scalar(value).cast(kind).as_py()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            if entry.fills_empty:
                self.tell((*path, "fill_empty"), f"{value!r} does not fit the result, which is {kind}.")
            return False, None  # the table's default is for the columns that it fits

    def _window(self, entry: AggregateEntry, length: Any) -> Window:
        rule = entry.window_rule(self.spec.window)
        hop = rule.tail_hop.microseconds if rule.tail_hop else None
        return Window(length.microseconds, rule.closed, rule.delay.microseconds or 0, hop, str(length))

    def _lookups(self, source: Input) -> list[Lookup | GridLookup]:
        found: list[Lookup | GridLookup | None] = []
        for i, spec in enumerate(self.spec.lookup):
            path: Path = ("lookup", i)
            if spec.at:
                if spec.from_ in self.grids:
                    grid = self.grids[spec.from_]
                    found.append(compile_grid_lookup(self, source, source.time, spec, grid, path))
                continue
            right = self.input(spec.from_)
            if right is not None:
                found.append(self.lookup(source, spec, right, path))
        return [node for node in found if node is not None]

    def _derived(self) -> list[Derived]:
        found = self.derive(self.spec.derive)
        folder = os.path.abspath(self.loaded.root)
        for name, udf in self.spec.udf.items():
            path = ("udf", name)
            missing = [column for column in udf.inputs if column not in self.schema]
            if missing:
                self.tell(
                    (*path, "inputs"),
                    f"the table has no column {missing[0]!r}; it has: {', '.join(self.schema)}.",
                )
                continue
            dtype = to_polars(parse_type(udf.type))
            inputs = tuple(origin for column in udf.inputs for origin in self.lineage[column])
            self.add(name, dtype, inputs, path)
            found.append(
                Derived(
                    name, None, udf.function, udf.inputs, tuple(sorted(udf.params.items())), dtype, folder
                )
            )
        return found

    def _partition_needs(self) -> None:
        if self.spec.at != "events" and not self.spec.aggregate:
            self.tell(
                ("at",),
                "a time grid needs at least one window: a key has a row while an event is in its longest one.",
            )

    def _time_needs(self, source: Input) -> None:
        """Windows, look-ups, ticks and dated partitions need a time, which zones may lack."""
        if source.time is not None:
            return
        needy = [
            ("aggregate", "windows need", bool(self.spec.aggregate)),
            ("lookup", "look-ups need", any(not lookup.at for lookup in self.spec.lookup)),
            ("at", "a time grid needs", self.spec.every is not None),
        ]
        dated = "partition" in self.spec.model_fields_set and self.spec.partition != "none"
        needy.append(("partition", f"partition: {self.spec.partition} needs", dated))
        for field, what, needed in needy:
            if needed:
                self.tell((field,), f"{what} a time, and {source.name!r} has none.")

    def _grid(self) -> Grid | None:
        at = self.spec.at
        if not isinstance(at, Every):
            return None
        return Grid(at.every.microseconds or 0, at.timezone, at.start_us, at.end_us)
