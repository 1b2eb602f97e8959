"""Spec and input schemas → typed tables. Every mistake is found before data is read, and all are told at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa

from featureflow.core.errors import Problem, SpecError
from featureflow.core.expressions import compile_condition, compile_expression
from featureflow.core.fingerprints import fingerprint
from featureflow.core.types import parse_type, storage_type, to_arrow, to_polars
from featureflow.library.aggregations import make
from featureflow.plan.definition import table_definition
from featureflow.plan.nodes import CompiledTable, Derived, Feature, Grid, Input, Lookup, Series, Window
from featureflow.spec.dependencies import dependency_order
from featureflow.spec.load import LoadedProject
from featureflow.spec.models import AggregateEntry, Every, Project
from featureflow.spec.models import Feature as FeatureSpec
from featureflow.spec.models import Lookup as LookupSpec
from featureflow.spec.names import output_columns

Path = tuple[Any, ...]


def compile_project(
    loaded: LoadedProject, sources: dict[str, Input], names: list[str] | None = None
) -> dict[str, CompiledTable]:
    """Compile feature tables in the order in which they can be built.

    Parameters
    ----------
    loaded
        The spec.
    sources
        Every raw source that the tables use, with its schema after the source's own steps.
    names
        Tables to compile; what they build on is compiled too. All by default.

    Raises
    ------
    SpecError
        With every problem of every table.
    """
    problems: list[Problem] = []
    compiled: dict[str, CompiledTable] = {}
    for name in dependency_order(loaded.project):
        if names is not None and name not in names:
            continue
        table = _TableCompiler(loaded, name, sources, compiled, problems).compile()
        if table is not None:
            compiled[name] = table
    if problems:
        raise SpecError(problems)
    return compiled


def as_input(table: CompiledTable) -> Input:
    """Give a feature table's rows as another table's input."""
    columns = {field.name: to_polars(field.type) for field in table.schema if not pa.types.is_map(field.type)}
    return Input("table", table.name, columns, table.time, keys=table.keys)


class _TableCompiler:
    """Compiles one table; mistakes go to ``problems`` and the rest is still looked at."""

    def __init__(
        self,
        loaded: LoadedProject,
        name: str,
        sources: dict[str, Input],
        tables: dict[str, CompiledTable],
        problems: list[Problem],
    ) -> None:
        self.loaded, self.name, self.problems = loaded, name, problems
        self.project: Project = loaded.project
        self.spec: FeatureSpec = loaded.project.features[name]
        self.sources, self.tables = sources, tables
        self.at: Path = ("features", name)
        #: output columns so far, as expressions see them and as they are stored
        self.schema: dict[str, pl.DataType] = {}
        self.stored: dict[str, pa.DataType] = {}
        self.lineage: dict[str, tuple[str, ...]] = {}

    def compile(self) -> CompiledTable | None:
        before = len(self.problems)
        source = self._input(self.spec.source)
        if source is None:
            return None
        self._columns(source)
        features = self._features(source)
        lookups = self._lookups(source)
        derived = self._derived()
        self._partition_needs()
        if len(self.problems) > before:
            return None
        schema = self._arrow_schema()
        if schema is None:
            return None
        upstream = {name: table.definition_hash for name, table in self.tables.items()}
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
            partition=self.spec.partition,
            checks=self.spec.each_check,
            schema=schema,
            lineage=self.lineage,
            definition=definition,
            definition_hash=fingerprint(definition),
        )

    def _tell(self, path: Path, message: str) -> None:
        self.problems.append(self.loaded.problem((*self.at, *path), message))

    def _input(self, name: str) -> Input | None:
        if name in self.sources:
            return self.sources[name]
        return as_input(self.tables[name]) if name in self.tables else None

    def _columns(self, source: Input) -> None:
        """Keys, time and kept columns."""
        for i, key in enumerate(self.spec.keys):
            self._take(source, key, ("keys", i))
            if key in source.columns and source.columns[key].is_nested():
                self._tell(
                    ("keys", i),
                    f"{key!r} is {source.columns[key]}; a key is a single value. Take one with `derive:`.",
                )
        if source.time is not None:
            self._take(source, source.time, ("source",))
        for i, name in enumerate(self.spec.keep):
            self._take(source, name, ("keep", i))

    def _take(self, source: Input, name: str, path: Path) -> None:
        if name not in source.columns:
            self._tell(path, _no_column(name, source))
        elif name not in self.stored:
            self._add(name, source.columns[name], (f"{source.name}.{name}",), path)

    def _add(self, name: str, dtype: pl.DataType | pa.DataType, inputs: tuple[str, ...], path: Path) -> None:
        clash = next((other for other in self.stored if other.lower() == name.lower()), None)
        if clash is not None:
            self._tell(
                path,
                f"the table has a column {clash!r} already. Give this one another name with `as:` or `prefix:`.",
            )
            return
        if isinstance(dtype, pa.DataType):
            self.stored[name] = dtype
            if not pa.types.is_map(dtype):  # Polars has no maps: expressions can't use one
                self.schema[name] = to_polars(dtype)
        else:
            self.schema[name] = dtype
            self.stored[name] = to_arrow(dtype)
        self.lineage[name] = tuple(dict.fromkeys(inputs))

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
                self._tell((*path, field), _no_column(name, source))
        if entry.where is not None:
            self._check_sql(compile_condition, entry.where, source.columns, (*path, "where"))
        return len(self.problems) == before

    def _entry(self, source: Input, entry: AggregateEntry, path: Path) -> list[Feature]:
        found = []
        values = self._by_values(source, entry, path)
        for output in output_columns(entry):
            op_path = (*path, "ops", entry.ops.index(output.op))
            params = dict(output.op.params)
            other = output.op.other
            if other is not None and other not in source.columns:
                self._tell(op_path, _no_column(other, source))
                continue
            kind = self._output_type(source, entry.column, output.op.name, params, op_path)
            if kind is None:
                continue
            series = Series(entry.column, entry.where, entry.by, values.get(output.value))
            window = self._window(entry, output.window)
            inputs = [name for name in (entry.column, entry.by, other) if name]
            inputs += self._sql_columns(entry.where, source.columns) if entry.where else []
            lineage = tuple(f"{source.name}.{name}" for name in inputs or [source.time or ""])
            fills, fill = self._fill(entry, kind, path)
            found.append(
                Feature(
                    output.name, series, output.op.name, output.op.params, window, kind, other, fills, fill
                )
            )
            self._add(output.name, kind, lineage, op_path)
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
                self._tell(
                    (*path, "values", i), f"{value!r} is not a value of {entry.by!r}, which is {dtype}."
                )
        return found

    def _output_type(
        self, source: Input, name: str | None, op: str, params: dict[str, Any], path: Path
    ) -> pa.DataType | None:
        column = None if name is None else to_arrow(source.columns[name])
        try:
            return make({op: params} if params else op).output_type(column)
        except (TypeError, ValueError) as error:
            self._tell(path, f"{op} of {name or 'rows'}: {error}")
            return None

    def _fill(self, entry: AggregateEntry, kind: pa.DataType, path: Path) -> tuple[bool, Any]:
        """Whether empty windows are filled, and with what, as a value of the result's type."""
        fills, value = self.spec.fill_of(entry)
        if not fills or value is None:
            return fills, None
        try:
            return True, pa.scalar(value).cast(kind).as_py()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            if entry.fills_empty:
                self._tell((*path, "fill_empty"), f"{value!r} does not fit the result, which is {kind}.")
            return False, None  # the table's default is for the columns that it fits

    def _window(self, entry: AggregateEntry, length: Any) -> Window:
        rule = entry.window_rule(self.spec.window)
        hop = rule.tail_hop.microseconds if rule.tail_hop else None
        return Window(length.microseconds, rule.closed, rule.delay.microseconds or 0, hop, str(length))

    def _lookups(self, source: Input) -> list[Lookup]:
        found = []
        for i, spec in enumerate(self.spec.lookup):
            path: Path = ("lookup", i)
            right = self._input(spec.from_)
            if right is None:
                continue
            node = self._lookup(source, spec, right, path)
            if node is not None:
                found.append(node)
        return found

    def _lookup(self, source: Input, spec: LookupSpec, right: Input, path: Path) -> Lookup | None:
        before = len(self.problems)
        pairs = spec.keys
        if right.time is None:
            self._tell(
                (*path, "from"),
                f"{right.name!r} has no `time:`; a look-up takes the latest row at or before a time.",
            )
        for left_key, right_key in pairs.items():
            self._check_pair(source, right, left_key, right_key, path)
        columns = []
        for j, name in enumerate(spec.columns):
            if name not in right.columns:
                self._tell((*path, "columns", j), _no_column(name, right))
                continue
            output = spec.output(name)
            columns.append((name, output))
            keys = tuple(f"{right.name}.{key}" for key in pairs.values())
            self._add(output, right.columns[name], (f"{right.name}.{name}", *keys), (*path, "columns", j))
        if len(self.problems) > before:
            return None
        available = spec.availability
        return Lookup(
            right=right,
            left_keys=tuple(pairs),
            right_keys=tuple(pairs.values()),
            columns=tuple(columns),
            ttl_us=spec.ttl.microseconds if spec.ttl else None,
            allow_exact=spec.allow_exact,
            on_tie=spec.on_tie,
            knowledge=spec.knowledge,
            skip_nulls=spec.nulls == "skip",
            interval_us=(available.interval.microseconds or None) if available else None,
            availability_delay_us=(available.delay.microseconds or 0) if available else 0,
            place=f"features.{self.name}.lookup[{path[1]}]",
        )

    def _check_pair(self, source: Input, right: Input, left_key: str, right_key: str, path: Path) -> None:
        at = (*path, "keys")
        if left_key not in source.columns:
            self._tell(at, _no_column(left_key, source))
        elif self.spec.at != "events" and left_key not in self.spec.keys:
            self._tell(
                at, f"{left_key!r} is no key of the table; at a time grid a look-up can only start from keys."
            )
        if right_key not in right.columns:
            self._tell(at, _no_column(right_key, right))
        if left_key in source.columns and right_key in right.columns:
            left, other = source.columns[left_key], right.columns[right_key]
            if left != other and not (left.is_integer() and other.is_integer()):
                self._tell(
                    at,
                    f"{left_key!r} is {left} but {right_key!r} of {right.name!r} is {other}; "
                    "declare one type in `columns:`.",
                )

    def _derived(self) -> list[Derived]:
        found = []
        for name, sql in self.spec.derive.items():
            path: Path = ("derive", name)
            expression = self._check_sql(compile_expression, sql, self.schema, path)
            if expression is None:
                continue
            inputs = tuple(origin for column in expression.columns for origin in self.lineage[column])
            self._add(name, expression.dtype, inputs, path)
            found.append(Derived(name, sql))
        folder = os.path.abspath(self.loaded.root)
        for name, udf in self.spec.udf.items():
            path = ("udf", name)
            missing = [column for column in udf.inputs if column not in self.schema]
            if missing:
                self._tell(
                    (*path, "inputs"),
                    f"the table has no column {missing[0]!r}; it has: {', '.join(self.schema)}.",
                )
                continue
            dtype = to_polars(parse_type(udf.type))
            inputs = tuple(origin for column in udf.inputs for origin in self.lineage[column])
            self._add(name, dtype, inputs, path)
            found.append(
                Derived(
                    name, None, udf.function, udf.inputs, tuple(sorted(udf.params.items())), dtype, folder
                )
            )
        return found

    def _check_sql(
        self, check: Callable[..., Any], sql: str, schema: dict[str, pl.DataType], path: Path
    ) -> Any:
        try:
            return check(sql, schema)
        except ValueError as error:
            self._tell(path, str(error))
            return None

    def _sql_columns(self, sql: str, schema: dict[str, pl.DataType]) -> list[str]:
        return list(compile_expression(sql, schema).columns)

    def _partition_needs(self) -> None:
        if self.spec.at != "events" and not self.spec.aggregate:
            self._tell(
                ("at",),
                "a time grid needs at least one window: a key has a row while an event is in its longest one.",
            )

    def _grid(self) -> Grid | None:
        at = self.spec.at
        if not isinstance(at, Every):
            return None
        return Grid(at.every.microseconds or 0, at.timezone, at.start_us, at.end_us)

    def _arrow_schema(self) -> pa.Schema | None:
        fields = []
        for name, kind in self.stored.items():
            try:
                fields.append(pa.field(name, storage_type(kind)))
            except (TypeError, ValueError) as error:
                self._tell((), f"column {name!r}: {error}")
                return None
        return pa.schema(fields)


def _no_column(name: str, source: Input) -> str:
    import difflib

    near = difflib.get_close_matches(name, source.columns, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{source.name!r} has no column {name!r}.{hint} It has: {', '.join(source.columns)}."
