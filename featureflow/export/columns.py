"""Which columns shards have, and of which type: one decision for each, before any row is read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from featureflow.contracts.shard_manifest import ShardColumn
from featureflow.core.errors import PlanError
from featureflow.core.roles import Roles
from featureflow.export.inputs import Column, ExportInput
from featureflow.library.shards.columns import element_type_and_shape, is_text
from featureflow.spec.exports import Export

#: Name of the column that holds all numeric features under `layout: matrix`.
MATRIX = "x"
INDICATOR = "{}_missing"


def plan_columns(rows: ExportInput, options: Export) -> tuple[Column, ...]:
    """Decide name, role and type of every column of the shards, in order.

    Raises
    ------
    PlanError
        If options name columns that are not exported, or a fill that the column can't hold.
    """
    _refuse_unknown(rows, options)
    planned = []
    for stored, name in rows.names.items():
        role = role_of(rows.roles, stored, name)
        if role in {"key", "time"} and not options.keys:
            continue
        planned.append(_column(name, stored, role, rows.schema.field(stored).type, options))
    if not planned:
        raise PlanError("export: no column is left to write. Keep keys, a feature or a label.")
    made = [INDICATOR.format(c.name) for c in planned if c.indicator]
    taken = {c.name for c in planned} & set(made)
    if taken:
        raise PlanError(
            f"export.indicator: a column {min(taken)!r} is there already. Rename it in the dataset."
        )
    scaled = normalized_names(planned, options)
    planned = [replace(c, scaled=c.name in scaled) for c in planned]
    if options.layout == "matrix":
        planned = _for_matrix(planned, options) if rows.patches is None else _for_channels(planned, options)
    if options.normalize is not None and options.normalize.apply == "bake":
        planned = [_wide(c, options) if c.scaled else c for c in planned]
    return tuple(planned)


def role_of(roles: Roles, stored: str, name: str) -> str:
    """Role of a column; the record may know it by the name that models see, or by that in the table."""
    role = roles.of(name)
    return role if role != "other" else roles.of(stored)


def _refuse_unknown(rows: ExportInput, options: Export) -> None:
    absent = [stored for stored in rows.names if rows.schema.get_field_index(stored) < 0]
    if absent:
        raise PlanError(f"export: the dataset has no column {absent[0]!r}.")
    names = list(rows.names.values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlanError(f"export: two columns would be called {twice[0]!r}.")
    given = {
        "fill": options.fill,
        "indicator": options.indicator,
        "normalize.columns": (options.normalize and options.normalize.columns) or (),
    }
    for option, columns in given.items():
        for column in columns:
            if column not in names:
                close = difflib.get_close_matches(column, names, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                known = ", ".join(sorted(names)[:20])
                raise PlanError(f"export.{option}: {column!r} is not exported.{hint} Exported: {known}.")


def _column(name: str, stored: str, role: str, given: pa.DataType, options: Export) -> Column:
    # whose row it is and where stays what it is: a key that was narrowed is another key
    floats = "keep" if role in {"key", "time", "other"} else options.float_
    kind = exported_type(given, floats)
    element, _ = element_type_and_shape(kind)
    is_list = pa.types.is_list(element) or pa.types.is_struct(element) or pa.types.is_map(element)
    floating = pa.types.is_floating(element)
    nan = floating and options.nulls == "nan"
    indicated = name in options.indicator
    filled, fill = name in options.fill, options.fill.get(name)
    if filled and is_list:
        raise PlanError(f"export.fill: {name!r} is {kind}; only numbers, times and text can be filled.")
    if filled:
        fill = _fill_value(name, fill, element)
    elif indicated and not nan:
        if is_list:
            raise PlanError(
                f"export.indicator: {name!r} is {kind}; only numbers, times and text can have one."
            )
        filled, fill = True, _zero(element)
    return Column(
        name=name,
        stored=stored,
        role=role,
        kind="list" if is_list else "text" if is_text(element) else "number",
        spilled=kind,
        written=kind,
        filled=filled,
        fill=fill,
        nan=nan and not filled,
        indicator=INDICATOR.format(name) if indicated else None,
        measured=floating or pa.types.is_integer(element) or pa.types.is_boolean(element),
    )


def exported_type(given: pa.DataType, floats: str) -> pa.DataType:
    """Type of a stored column in the shards: plain text, no dictionaries or decimals, floats as asked for."""
    t = pa.types
    if t.is_dictionary(given):
        return exported_type(given.value_type, floats)
    if t.is_fixed_size_list(given):
        return pa.list_(exported_type(given.value_type, floats), given.list_size)
    if t.is_list(given) or t.is_large_list(given):
        return pa.list_(exported_type(given.value_type, floats))
    if t.is_decimal(given):
        given = pa.float64()
    if t.is_floating(given) and floats != "keep":
        return pa.float32() if floats == "float32" else pa.float64()
    if t.is_string(given) or t.is_large_string(given) or t.is_string_view(given):
        return pa.string()
    if t.is_binary(given) or t.is_large_binary(given) or t.is_binary_view(given):
        return pa.binary()
    return given


def _fill_value(name: str, value: Any, kind: pa.DataType) -> Any:
    wrong = PlanError(f"export.fill.{name}: {value!r} is no value of a column of type {kind}.")
    if value is None or isinstance(value, bool) != pa.types.is_boolean(kind):
        raise wrong
    try:
        if pa.types.is_temporal(kind) and isinstance(value, str):
            return pa.scalar(value).cast(kind).as_py()
        filled = pa.scalar(value, kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise wrong from error
    if isinstance(value, float) and value != filled and not np.isclose(value, filled, rtol=1e-6):
        raise wrong  # 1.5 for an integer, 1e39 for a float32: Arrow would cut it
    return filled


def _zero(kind: pa.DataType) -> Any:
    if is_text(kind):
        return pa.scalar("", pa.string()).cast(kind).as_py()
    if pa.types.is_boolean(kind):
        return False
    return (
        pa.scalar(0, pa.int32()).cast(pa.int64() if kind.bit_width == 64 else pa.int32()).cast(kind).as_py()
    )


def _numeric(column: Column) -> bool:
    return column.role == "feature" and column.measured and not element_type_and_shape(column.written)[1]


def _for_matrix(planned: list[Column], options: Export) -> list[Column]:
    """Give all numeric features the type of the matrix."""
    doubles = any(_numeric(c) and pa.types.is_float64(c.written) for c in planned)
    kind = (
        pa.float64()
        if options.float_ == "float64" or (doubles and options.float_ == "keep")
        else pa.float32()
    )
    if any(c.name == MATRIX and not _numeric(c) for c in planned):
        raise PlanError(
            f"export.layout: matrix makes a column {MATRIX!r}, and there is one already. Rename it, or use columns."
        )
    return [replace(c, spilled=kind, written=kind) if _numeric(c) else c for c in planned]


def _for_channels(planned: list[Column], options: Export) -> list[Column]:
    """Give all variables of patches the type of the array that they are stacked into: ``(channels, …)``."""
    stacked = [c for c in planned if c.role == "feature" and element_type_and_shape(c.written)[1]]
    shapes = {element_type_and_shape(c.written)[1] for c in stacked}
    if len(shapes) > 1:
        listed = ", ".join(f"{c.name} {element_type_and_shape(c.written)[1]}" for c in stacked)
        raise PlanError(
            f"export.layout: matrix stacks variables of one shape, and these have several: {listed}. "
            "Choose `variables:` of one shape, or use columns."
        )
    if any(c.indicator for c in stacked):
        raise PlanError("export.indicator: variables that are stacked have none. Use `layout: columns`.")
    if any(c.name == MATRIX and c not in stacked for c in planned):
        raise PlanError(
            f"export.layout: matrix makes a column {MATRIX!r}, and there is one already. Use columns."
        )
    doubles = any(pa.types.is_float64(element_type_and_shape(c.written)[0]) for c in stacked)
    wide = options.float_ == "float64" or (doubles and options.float_ == "keep")
    element = pa.float64() if wide else pa.float32()

    def stack(column: Column) -> Column:
        kind = _nested(column.written, element)
        return replace(column, spilled=kind, written=kind, channel=True)

    return [stack(c) if c in stacked else c for c in planned]


def _wide(column: Column, options: Export) -> Column:
    """Keep float64 until the column is normalised: a mean may be large beside its deviation."""
    element, _ = element_type_and_shape(column.written)
    narrow = pa.float32() if options.float_ == "float32" else pa.float64()
    written = element if pa.types.is_floating(element) else narrow
    return replace(
        column,
        spilled=_nested(column.spilled, pa.float64()),
        written=_nested(column.written, written),
    )


def normalized_names(planned: Iterable[Column], options: Export) -> tuple[str, ...]:
    """Names of the features that are normalised: those asked for, or all floating ones.

    Raises
    ------
    PlanError
        If one that was asked for is no numeric feature.
    """
    if options.normalize is None:
        return ()
    columns = {c.name: c for c in planned}
    if options.normalize.columns is None:
        return tuple(
            c.name
            for c in columns.values()
            if c.role == "feature"
            and c.measured
            and pa.types.is_floating(element_type_and_shape(c.written)[0])
        )
    for name in options.normalize.columns:
        if name not in columns or columns[name].role != "feature" or not columns[name].measured:
            raise PlanError(f"export.normalize.columns: {name!r} is no numeric feature of the shards.")
    return tuple(options.normalize.columns)


def _nested(kind: pa.DataType, element: pa.DataType) -> pa.DataType:
    """The same fixed-size lists of another element."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_nested(kind.value_type, element), kind.list_size)
    return element


def lay_out(
    planned: tuple[Column, ...], *, matrix: bool
) -> tuple[pa.Schema, tuple[ShardColumn, ...], tuple[str, ...]]:
    """Give the schema of the shards, its description, and what is in the matrix, in order."""
    stacked = any(c.channel for c in planned)
    inside = [c for c in planned if matrix and (c.channel if stacked else _numeric(c))]
    names = [name for c in inside for name in (c.name, c.indicator) if name]
    fields, described = [], []
    for column in planned:
        if column in inside:
            if column is inside[0]:
                fields.append(pa.field(MATRIX, pa.list_(column.written, len(names))))
                described.append(_described(fields[-1], "feature", tuple(names)))
            continue
        fields.append(pa.field(column.name, column.written))
        described.append(_described(fields[-1], column.role))
        if column.indicator:
            fields.append(pa.field(column.indicator, pa.bool_()))
            described.append(_described(fields[-1], "indicator"))
    return pa.schema(fields), tuple(described), tuple(names)


def _described(field: pa.Field, role: str, names: tuple[str, ...] = ()) -> ShardColumn:
    element, shape = element_type_and_shape(field.type)
    return ShardColumn(field.name, str(element), shape, role, names)
