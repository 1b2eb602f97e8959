"""The output columns of a table or dataset while it is compiled: names, types, lineage, and mistakes so far."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa

from featureflow.core.errors import Problem
from featureflow.core.expressions import compile_expression
from featureflow.core.types import storage_type, to_arrow, to_polars
from featureflow.library.aggregations import make
from featureflow.plan.nodes import CompiledTable, Derived, Input, Lookup
from featureflow.spec.load import LoadedProject
from featureflow.spec.models import Lookup as LookupSpec

Path = tuple[Any, ...]


def as_input(table: CompiledTable) -> Input:
    """Give a feature table's rows as another table's input."""
    columns = {field.name: to_polars(field.type) for field in table.schema if not pa.types.is_map(field.type)}
    return Input("table", table.name, columns, table.time, keys=table.keys)


class ColumnBuilder:
    """Collects output columns; mistakes go to ``problems`` and the rest is still looked at.

    Parameters
    ----------
    at
        The section: ``("features", "card_spend")``.
    sources, tables
        What ``source:`` and ``from:`` can name.
    left_keys
        Columns that a look-up can start from; None for any.
    """

    def __init__(
        self,
        loaded: LoadedProject,
        at: Path,
        sources: dict[str, Input],
        tables: dict[str, CompiledTable],
        problems: list[Problem],
        left_keys: tuple[str, ...] | None = None,
    ) -> None:
        self.loaded, self.at, self.problems = loaded, at, problems
        self.sources, self.tables, self.left_keys = sources, tables, left_keys
        #: output columns so far, as expressions see them and as they are stored
        self.schema: dict[str, pl.DataType] = {}
        self.stored: dict[str, pa.DataType] = {}
        self.lineage: dict[str, tuple[str, ...]] = {}

    def input(self, name: str) -> Input | None:
        """What a name stands for: a raw source, or the rows of a compiled table; None if it has mistakes."""
        if name in self.sources:
            return self.sources[name]
        return as_input(self.tables[name]) if name in self.tables else None

    def output_type(
        self, source: Input, name: str | None, op: str, params: dict[str, Any], path: Path
    ) -> pa.DataType | None:
        """Type of an aggregation's result; None if it does not take such a column."""
        column = None if name is None else to_arrow(source.columns[name])
        try:
            return make({op: params} if params else op).output_type(column)
        except (TypeError, ValueError) as error:
            self.tell(path, f"{op} of {name or 'rows'}: {error}")
            return None

    def derive(self, expressions: dict[str, str]) -> list[Derived]:
        """Compile derived columns; each may use those before it."""
        found = []
        for name, sql in expressions.items():
            path: Path = ("derive", name)
            expression = self.check_sql(compile_expression, sql, self.schema, path)
            if expression is None:
                continue
            inputs = tuple(origin for column in expression.columns for origin in self.lineage[column])
            self.add(name, expression.dtype, inputs, path)
            found.append(Derived(name, sql))
        return found

    def tell(self, path: Path, message: str) -> None:
        """Note a mistake at a place below this section."""
        self.problems.append(self.loaded.problem((*self.at, *path), message))

    def take(self, source: Input, name: str, path: Path) -> None:
        """Take a column of the input over under its own name."""
        if name not in source.columns:
            self.tell(path, no_column(name, source))
        elif name not in self.stored:
            self.add(name, source.columns[name], (f"{source.name}.{name}",), path)

    def add(self, name: str, dtype: pl.DataType | pa.DataType, inputs: tuple[str, ...], path: Path) -> None:
        """Add an output column; a name that is taken is a mistake."""
        clash = next((other for other in self.stored if other.lower() == name.lower()), None)
        if clash is not None:
            self.tell(
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

    def lookup(self, source: Input, spec: LookupSpec, right: Input, path: Path) -> Lookup | None:
        """Compile one look-up; None if it has mistakes."""
        before = len(self.problems)
        pairs = spec.keys or {key: key for key in right.keys}
        if right.time is None:
            self.tell(
                (*path, "from"),
                f"{right.name!r} has no `time:`; a look-up takes the latest row at or before a time.",
            )
        for left_key, right_key in pairs.items():
            self.check_pair(source, right, left_key, right_key, path)
        columns = []
        for j, name in enumerate(spec.columns):
            if name not in right.columns:
                self.tell((*path, "columns", j), no_column(name, right))
                continue
            output = spec.output(name)
            columns.append((name, output))
            keys = tuple(f"{right.name}.{key}" for key in pairs.values())
            self.add(output, right.columns[name], (f"{right.name}.{name}", *keys), (*path, "columns", j))
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
            place=f"{self.at[0]}.{self.at[1]}.lookup[{path[1]}]",
        )

    def check_pair(self, source: Input, right: Input, left_key: str, right_key: str, path: Path) -> None:
        """Note keys that are not there or of different types."""
        at = (*path, "keys")
        if left_key not in source.columns:
            self.tell(at, no_column(left_key, source))
        elif self.left_keys is not None and left_key not in self.left_keys:
            self.tell(
                at, f"{left_key!r} is no key of the table; at a time grid a look-up can only start from keys."
            )
        if right_key not in right.columns:
            self.tell(at, no_column(right_key, right))
        if left_key in source.columns and right_key in right.columns:
            left, other = source.columns[left_key], right.columns[right_key]
            if left != other and not (left.is_integer() and other.is_integer()):
                self.tell(
                    at,
                    f"{left_key!r} is {left} but {right_key!r} of {right.name!r} is {other}; "
                    "declare one type in `columns:`.",
                )

    def check_sql(
        self, check: Callable[..., Any], sql: str, schema: dict[str, pl.DataType], path: Path
    ) -> Any:
        """Compile an expression or condition; None if it has mistakes."""
        try:
            return check(sql, schema)
        except ValueError as error:
            self.tell(path, str(error))
            return None

    def sql_columns(self, sql: str, schema: dict[str, pl.DataType]) -> list[str]:
        """Columns that an expression reads."""
        return list(compile_expression(sql, schema).columns)

    def arrow_schema(self) -> pa.Schema | None:
        """The stored schema; None if a type can not be stored."""
        fields = []
        for name, kind in self.stored.items():
            try:
                fields.append(pa.field(name, storage_type(kind)))
            except (TypeError, ValueError) as error:
                self.tell((), f"column {name!r}: {error}")
                return None
        return pa.schema(fields)


def no_column(name: str, source: Input) -> str:
    """Say that an input has no such column, and what it has."""
    near = difflib.get_close_matches(name, source.columns, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{source.name!r} has no column {name!r}.{hint} It has: {', '.join(source.columns)}."
