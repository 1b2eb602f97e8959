"""Checks of single rows: not_null, min, max, in_set, matches, expression; and unique within a frame."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from featureflow.contracts.check import CheckSpec
from featureflow.core.expressions import compile_condition


def columns_of(spec: CheckSpec) -> list[str]:
    """Columns that a check reads, without those of an expression."""
    if spec.kind == "unique" and isinstance(spec.value, (list, tuple)):
        return [str(name) for name in spec.value]
    return [spec.column] if spec.column is not None else []


def require_column(spec: CheckSpec, schema: Mapping[str, pl.DataType]) -> pl.DataType:
    """Type of the checked column.

    Raises
    ------
    ValueError
        If the check names none, or one that is not there.
    """
    if spec.column is None:
        raise ValueError(f"{spec.kind} needs a `column`.")
    if spec.column not in schema:
        raise ValueError(f"there is no column {spec.column!r}. Known: {', '.join(schema)}.")
    return schema[spec.column]


def _constant(value: Any, dtype: pl.DataType, kind: str) -> pl.Expr:
    """A value of the YAML as a literal that compares with a column of this type."""
    wrong = ValueError(f"{kind}: {value!r} can't be compared with a column of type {str(dtype).lower()}.")
    if isinstance(value, bool) or dtype == pl.Boolean:
        if not (isinstance(value, bool) and dtype == pl.Boolean):
            raise wrong
        return pl.lit(value)
    if dtype.is_numeric():
        if not isinstance(value, (int, float)):
            raise wrong
        return pl.lit(value)
    if dtype.is_temporal() and not isinstance(dtype, (pl.Duration, pl.Time)):
        text = pl.Series([str(value).replace("Z", "+00:00")])
        try:
            moment = text.str.to_datetime(time_unit="us", time_zone="UTC", strict=True)
        except pl.exceptions.PolarsError:
            raise wrong from None
        return pl.lit(moment[0]) if isinstance(dtype, pl.Datetime) else pl.lit(moment.dt.date()[0])
    if dtype != pl.String or not isinstance(value, str):
        raise wrong
    return pl.lit(value)


class NotNull:
    """``not_null: true``."""

    kind: ClassVar[str] = "not_null"

    def validate(self, spec: CheckSpec, schema: Mapping[str, pl.DataType]) -> None:
        """Check the entry."""
        require_column(spec, schema)
        if spec.value not in (True, None):
            raise ValueError(f"not_null: write true, or leave the check out; got {spec.value!r}.")

    def bad(self, spec: CheckSpec, frame: pl.DataFrame) -> pl.Series:
        """Rows without a value."""
        return frame[str(spec.column)].is_null()

    def describe(self, spec: CheckSpec) -> str:
        """Words."""
        del spec
        return "are null"


class Minimum:
    """``min: 0``; the bound itself passes."""

    kind: ClassVar[str] = "min"

    def validate(self, spec: CheckSpec, schema: Mapping[str, pl.DataType]) -> None:
        """Check the entry."""
        _constant(spec.value, require_column(spec, schema), self.kind)

    def bad(self, spec: CheckSpec, frame: pl.DataFrame) -> pl.Series:
        """Rows below."""
        name = str(spec.column)
        below = pl.col(name) < _constant(spec.value, frame.schema[name], self.kind)
        return frame.select(below.fill_null(False)).to_series()

    def describe(self, spec: CheckSpec) -> str:
        """Words."""
        return f"are below {spec.value}"


class Maximum:
    """``max: 1``; the bound itself passes."""

    kind: ClassVar[str] = "max"

    def validate(self, spec: CheckSpec, schema: Mapping[str, pl.DataType]) -> None:
        """Check the entry."""
        _constant(spec.value, require_column(spec, schema), self.kind)

    def bad(self, spec: CheckSpec, frame: pl.DataFrame) -> pl.Series:
        """Rows above."""
        name = str(spec.column)
        above = pl.col(name) > _constant(spec.value, frame.schema[name], self.kind)
        return frame.select(above.fill_null(False)).to_series()

    def describe(self, spec: CheckSpec) -> str:
        """Words."""
        return f"are above {spec.value}"


class InSet:
    """``in_set: [web, pos]``."""

    kind: ClassVar[str] = "in_set"

    def validate(self, spec: CheckSpec, schema: Mapping[str, pl.DataType]) -> None:
        """Check the entry."""
        dtype = require_column(spec, schema)
        if not isinstance(spec.value, (list, tuple)) or not spec.value:
            raise ValueError(f"in_set: write a list of values; got {spec.value!r}.")
        for value in spec.value:
            if value is not None:
                _constant(value, dtype, "in_set")

    def bad(self, spec: CheckSpec, frame: pl.DataFrame) -> pl.Series:
        """Rows with another value."""
        name = str(spec.column)
        dtype = frame.schema[name]
        known = pl.lit(False)
        for value in spec.value:
            if value is not None:
                known = known | (pl.col(name) == _constant(value, dtype, "in_set"))
        return frame.select((~known).fill_null(False).alias(name)).to_series()

    def describe(self, spec: CheckSpec) -> str:
        """Words."""
        return f"are not in {list(spec.value)}"


class Matches:
    """``matches: '^[A-Z]{2}$'``: a regular expression that is found anywhere in the text; anchor it with ^ and $."""

    kind: ClassVar[str] = "matches"

    def validate(self, spec: CheckSpec, schema: Mapping[str, pl.DataType]) -> None:
        """Check the entry."""
        if require_column(spec, schema) != pl.String:
            raise ValueError(f"matches: column {spec.column!r} is no string.")
        try:
            pl.Series([""]).str.contains(str(spec.value))
            re.compile(str(spec.value))
        except (pl.exceptions.PolarsError, re.error) as error:
            said = str(error).splitlines()[0]
            raise ValueError(f"matches: {spec.value!r} is no regular expression: {said}") from None

    def bad(self, spec: CheckSpec, frame: pl.DataFrame) -> pl.Series:
        """Rows in which the expression is not found."""
        return ~frame[str(spec.column)].str.contains(str(spec.value)).fill_null(True)

    def describe(self, spec: CheckSpec) -> str:
        """Words."""
        return f"do not match {spec.value!r}"


class Condition:
    """``expression: "a <= b"``: SQL; a row for which it is null passes, as in a SQL CHECK constraint."""

    kind: ClassVar[str] = "expression"

    def validate(self, spec: CheckSpec, schema: Mapping[str, pl.DataType]) -> None:
        """Check the entry."""
        compile_condition(str(spec.value), schema)

    def bad(self, spec: CheckSpec, frame: pl.DataFrame) -> pl.Series:
        """Rows for which it is false."""
        return ~compile_condition(str(spec.value), frame.schema).series(frame).fill_null(True)

    def describe(self, spec: CheckSpec) -> str:
        """Words."""
        return f"do not satisfy {spec.value!r}"


class Unique:
    """``unique: true`` for a column, ``unique: [a, b]`` for several; nulls are not compared.

    Only repetitions **within one frame** are seen here. Uniqueness over a table needs all rows of a value in one
    frame, which the engine's exchange by key gives, or a count of values over all frames.
    """

    kind: ClassVar[str] = "unique"

    def validate(self, spec: CheckSpec, schema: Mapping[str, pl.DataType]) -> None:
        """Check the entry."""
        names = columns_of(spec)
        if not names:
            raise ValueError("unique: write `column: a, unique: true`, or `unique: [a, b]`.")
        for name in names:
            if name not in schema:
                raise ValueError(f"there is no column {name!r}. Known: {', '.join(schema)}.")

    def bad(self, spec: CheckSpec, frame: pl.DataFrame) -> pl.Series:
        """All rows of a repeated value but the first."""
        names = columns_of(spec)
        complete = pl.all_horizontal(pl.col(name).is_not_null() for name in names)
        again = ~pl.struct(names).is_first_distinct()
        return frame.select((complete & again).alias(names[0])).to_series()

    def describe(self, spec: CheckSpec) -> str:
        """Words."""
        return f"repeat a value of {', '.join(columns_of(spec))}"
