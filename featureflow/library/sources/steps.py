"""Row steps of a source, in the order of the YAML: where, derive; then, after deduplication, fill, clip and mask."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from featureflow.contracts.source import SourceSchema, SourceSpec
from featureflow.core.errors import SourceError
from featureflow.core.expressions import Expression, compile_condition, compile_expression
from featureflow.library.sources.casts import MisfitError, cast, read_type

SALT = "FEATUREFLOW_SALT"


@dataclass(frozen=True, slots=True)
class Steps:
    """The compiled steps of one source; picklable.

    Parameters
    ----------
    raw
        Types of the columns as read; columns of types that nothing can use (structs) are left out.
    output
        Types after all steps.
    """

    raw: dict[str, pl.DataType]
    output: dict[str, pl.DataType]
    where: Expression | None
    derive: dict[str, Expression]
    fill: dict[str, Any]
    clip: dict[str, tuple[Any, Any]]
    mask: dict[str, str]

    def prepare(self, frame: pl.DataFrame, wanted: Iterable[str]) -> pl.DataFrame:
        """Filter, and derive what is wanted; derived columns are added in order."""
        if self.where is not None:
            frame = frame.filter(self.where.mask(frame))
        needed = self.derived_for(wanted)
        for name, expression in self.derive.items():
            if name in needed:
                frame = frame.with_columns(expression.series(frame, name))
        return frame

    def finish(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Fill, clip and mask the columns that are there."""
        there = set(frame.columns)
        filled = [
            pl.col(n).fill_null(pl.lit(v, dtype=frame.schema[n])) for n, v in self.fill.items() if n in there
        ]
        frame = frame.with_columns(filled) if filled else frame
        clipped = [
            pl.col(n).clip(*(None if b is None else pl.lit(b, dtype=frame.schema[n]) for b in bounds))
            for n, bounds in self.clip.items()
            if n in there
        ]
        frame = frame.with_columns(clipped) if clipped else frame
        for name, how in self.mask.items():
            if name in there:
                frame = frame.drop(name) if how == "drop" else frame.with_columns(masked(frame[name]))
        return frame

    def derived_for(self, wanted: Iterable[str]) -> set[str]:
        """Derived columns that these columns need, themselves included."""
        needed = set(wanted)
        for name in reversed(self.derive):
            if name in needed:
                needed.update(self.derive[name].columns)
        return needed & set(self.derive)

    def inputs_for(self, wanted: Iterable[str]) -> list[str]:
        """Raw columns that these columns and the filter need, in the order of the schema."""
        needed = set(wanted) | (set(self.where.columns) if self.where is not None else set())
        for name in self.derived_for(needed):
            needed.update(self.derive[name].columns)
        return [name for name in self.raw if name in needed]


def compile_steps(spec: SourceSpec, schema: SourceSchema) -> tuple[Steps, list[tuple[str, str]]]:
    """Type-check the steps of a source.

    Returns
    -------
    steps, problems
        Problems are (place below the source such as ``derive.hour``, message); the steps lack what is wrong.
    """
    problems: list[tuple[str, str]] = []
    types: dict[str, pl.DataType] = {}
    for column in schema.columns:
        try:
            types[column.name] = read_type(column.type)
        except ValueError:
            continue  # a struct or map: it may lie in the files, but there is nothing to do with it
    raw = dict(types)
    where = None
    if spec.where is not None:
        try:
            where = compile_condition(spec.where, types)
        except ValueError as error:
            late = [name for name in spec.derive if f"no column {name!r}" in str(error)]
            hint = " `where` runs before `derive`: filter by the expression itself." if late else ""
            problems.append(("where", str(error) + hint))
    derive = {}
    for name, sql in spec.derive.items():
        if name in types:
            problems.append(
                (f"derive.{name}", f"there is a column {name!r} already; give the derived one its own name.")
            )
            continue
        try:
            derive[name] = compile_expression(sql, types)
            types[name] = derive[name].dtype
        except ValueError as error:
            problems.append((f"derive.{name}", str(error)))
    _check_roles(spec, types, problems)
    fill = _checked(spec.fill, "fill", types, problems, _constant)
    clip = _checked(spec.clip, "clip", types, problems, _bounds)
    mask = _checked(spec.mask, "mask", types, problems, _mask)
    for name, how in mask.items():
        if how == "drop":
            del types[name]
        else:
            types[name] = pl.String()
    return Steps(raw, types, where, derive, fill, clip, mask), problems


def _check_roles(spec: SourceSpec, types: Mapping[str, pl.DataType], problems: list[tuple[str, str]]) -> None:
    for role in ("time", "created", "sequence"):
        name = getattr(spec, role)
        if name is None:
            continue
        if name not in types:
            problems.append((role, f"there is no column {name!r}. Known: {', '.join(types)}."))
        elif role != "sequence" and types[name] != pl.Datetime("us", "UTC"):
            text = (
                f"column {name!r} is {str(types[name]).lower()}, not a time. Declare `columns: {{{name}: timestamp}}` "
                "(ISO text), or timestamp[s|ms|us|ns] for numbers since 1970."
            )
            problems.append((role, text))
        if name in spec.mask:
            problems.append((f"mask.{name}", f"the {role} column can't be masked."))


def _checked(
    given: Mapping[str, Any],
    step: str,
    types: Mapping[str, pl.DataType],
    problems: list[tuple[str, str]],
    check: Any,
) -> dict[str, Any]:
    kept = {}
    for name, value in given.items():
        if name not in types:
            problems.append((f"{step}.{name}", f"there is no column {name!r}. Known: {', '.join(types)}."))
            continue
        try:
            kept[name] = check(value, types[name])
        except ValueError as error:
            problems.append((f"{step}.{name}", str(error)))
    return kept


def _constant(value: Any, dtype: pl.DataType) -> Any:
    """Read a constant of the YAML as a value of a column's type.

    Raises
    ------
    ValueError
        If it is of another type or does not fit.
    """
    kind = str(dtype).lower()
    wrong = ValueError(f"{value!r} is no {kind}.")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("NaN is no value here; NaN is read as null.")
    if isinstance(value, bool) or dtype == pl.Boolean:
        if not (isinstance(value, bool) and dtype == pl.Boolean):
            raise wrong
        return value
    if dtype.is_temporal() and not isinstance(value, (int, float)):
        wanted = "date" if dtype == pl.Date else "timestamp"
        try:
            return cast(pl.Series([str(value)]), wanted, "UTC")[0]
        except MisfitError:
            raise wrong from None
    if (dtype == pl.String) != isinstance(value, str) or not isinstance(value, (int, float, str)):
        raise wrong
    if dtype.is_integer() and not isinstance(value, int):
        raise wrong
    try:
        pl.Series([value], dtype=dtype, strict=True)
    except (pl.exceptions.PolarsError, OverflowError, TypeError):
        raise wrong from None
    return value


def _bounds(value: Any, dtype: pl.DataType) -> tuple[Any, Any]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"{value!r} is no pair [low, high]; write null for no bound.")
    if not (dtype.is_numeric() or dtype.is_temporal()):
        raise ValueError(f"only numbers and times can be clipped, not {str(dtype).lower()}.")
    low, high = (None if bound is None else _constant(bound, dtype) for bound in value)
    if low is not None and high is not None and low > high:
        raise ValueError(f"the low bound {low!r} is above the high bound {high!r}.")
    return low, high


def _mask(value: Any, dtype: pl.DataType) -> str:
    if value not in ("sha256", "drop"):
        raise ValueError(f"{value!r} is no mask. Known: sha256, drop.")
    if value == "sha256" and isinstance(dtype, (pl.List, pl.Struct, pl.Array)):
        raise ValueError("lists can't be hashed; drop the column.")
    return str(value)


def masked(column: pl.Series) -> pl.Series:
    """Replace values by the hex SHA-256 of salt and value text; nulls stay.

    The salt comes from the environment of the process that reads and is stored nowhere. Equal values of one salt
    give equal hashes, so masked columns still work as keys.

    Raises
    ------
    SourceError
        If the salt is not set: a hash without one is undone by a table of all card numbers.
    """
    salt = os.environ.get(SALT)
    if not salt:
        raise SourceError(
            f"mask of column {column.name!r}: the environment variable {SALT} is not set. Set it to a secret."
        )
    text = column.cast(pl.String)
    distinct = text.drop_nulls().unique(maintain_order=True)
    hashes = [hashlib.sha256((salt + value).encode()).hexdigest() for value in distinct]
    return text.replace_strict(
        distinct, pl.Series(hashes, dtype=pl.String), default=None, return_dtype=pl.String
    )
