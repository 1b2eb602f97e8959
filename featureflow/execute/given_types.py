"""Types of the columns of rows that a spec's test gives: declared, else from the values, else from their use.

A column without any value has the first of a few types for which everything that the spec does with it is right; what
nothing is done with is text.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import polars as pl
import pyarrow as pa

from featureflow.core.expressions import column_names, compile_expression
from featureflow.core.types import parse_type, to_polars
from featureflow.library.aggregations import make
from featureflow.spec.datasets import Dataset
from featureflow.spec.models import Project, Source

#: Types that a column without values is tried as, in this order.
_CANDIDATES = ("string", "float64", "timestamp", "bool", "int64")
#: So many unknown columns of one expression are tried in all combinations; more are taken as the first type.
_MOST_UNKNOWN = 4


def types_of(project: Project, name: str, rows: tuple[dict[str, Any], ...]) -> dict[str, str]:
    """Type of each column of a source that the rows have or the spec names, as ``columns:`` would declare it.

    Raises
    ------
    ValueError
        If the values of a column are of several types; says which.
    """
    source = project.sources[name]
    made = {*source.derive, *source.udf}
    named = [*(column for row in rows for column in row), *source.columns]
    named += [column for column in columns_named(project, name) if column not in made]
    types: dict[str, str] = {}
    for column in dict.fromkeys(named):
        kind = _type_of_values(column, [row.get(column) for row in rows])
        declared = source.columns.get(column)
        if column in (source.time, source.created) and kind in (None, "string"):
            types[column] = "timestamp" if declared is None or declared.startswith("timestamp") else declared
        elif declared is not None or kind is not None:
            types[column] = declared or str(kind)
        if kind == "int64" and declared is None and _has_fractions(source, column):
            types[column] = "float64"
    for column, value in source.fill.items():
        if column not in made:
            types.setdefault(column, str(_type_of_values(column, [value])))
    _by_look_up(project, name, types)
    _by_aggregation(project, name, types)
    _by_expressions(project, name, types, [column for column in dict.fromkeys(named) if column not in types])
    for column in named:
        types.setdefault(column, "float64" if column in source.clip else "string")
    return types


def _type_of_values(column: str, values: list[Any]) -> str | None:
    """Type of the values of a column; None if it has none."""
    found = {type(value) for value in values if value is not None}
    if found <= {int, float}:
        return ("float64" if float in found else "int64") if found else None
    if len(found) > 1 and any(kind in found for kind in (bool, int, float, list, dict)):
        names = ", ".join(sorted(kind.__name__ for kind in found))
        raise ValueError(f"column {column!r} has values of several types: {names}.")
    (kind, *_) = found
    if kind is list:
        inner = _type_of_values(column, [item for value in values if value for item in value])
        return f"list<{inner or 'string'}>"
    return "bool" if kind is bool else "string"


def _has_fractions(source: Source, column: str) -> bool:
    constants = [source.fill.get(column), *source.clip.get(column, ())]
    return any(isinstance(value, float) for value in constants)


def source_behind(project: Project, name: str) -> str:
    """The source whose rows a feature table or dataset has."""
    while name in project.features or name in project.datasets:
        feature = project.features.get(name)
        name = str(project.datasets[name].spine.source) if feature is None else feature.source
    return name


def compared_keys(project: Project) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of (source, column) whose values are compared: of look-ups, and of a dataset's spine with what it reads."""
    for feature in project.features.values():
        for lookup in feature.lookup:
            for left, right in lookup.keys.items():
                yield (feature.source, left), (lookup.from_, right)
    for name, dataset in project.datasets.items():
        spine = source_behind(project, name)
        pairs = [(lookup.from_, lookup.keys) for lookup in dataset.lookup]
        pairs += [(label.source, label.keys) for label in dataset.label if label.source is not None]
        pairs += [(used.table, used.keys) for used in dataset.features]
        for other, keys in pairs:
            for left, right in keys.items():
                yield (spine, left), (source_behind(project, other), right)


def _by_look_up(project: Project, name: str, types: dict[str, str]) -> None:
    """A key that is looked up has the type of the key on the other side, where that is declared."""
    for one, two in compared_keys(project):
        for (here, column), (other, declared) in ((one, two), (two, one)):
            if here == name != other and other in project.sources:
                kind = project.sources[other].columns.get(declared)
                if kind is not None:
                    types.setdefault(column, kind)


def _by_aggregation(project: Project, name: str, types: dict[str, str]) -> None:
    for dataset in project.datasets.values():
        for label in dataset.label:
            derived = project.sources[name].derive
            if label.source == name and label.op and label.column and label.column not in (*types, *derived):
                op = {label.op.name: dict(label.op.params)} if label.op.params else label.op.name
                fitting = (kind for kind in _CANDIDATES if _takes(op, parse_type(kind)))
                types[label.column] = next(fitting, "float64")
    for feature in project.features.values():
        for entry in feature.aggregate if feature.source == name else ():
            if entry.by is not None and entry.by not in project.sources[name].derive:
                types.setdefault(entry.by, str(_type_of_values(entry.by, list(entry.values or ("",)))))
            if entry.column is None or entry.column in types or entry.column in project.sources[name].derive:
                continue
            ops = [{op.name: dict(op.params)} if op.params else op.name for op in entry.ops]
            fitting = (kind for kind in _CANDIDATES if all(_takes(op, parse_type(kind)) for op in ops))
            types[entry.column] = next(fitting, "float64")


def _takes(op: Any, kind: pa.DataType) -> bool:
    try:
        make(op).output_type(kind)
    except (TypeError, ValueError):
        return False
    return True


def _by_expressions(project: Project, name: str, types: dict[str, str], unknown: list[str]) -> None:
    """Try types until the expressions are right, in their order; derived columns are known to the later ones."""
    source = project.sources[name]
    schema = {column: to_polars(parse_type(kind)) for column, kind in types.items()}
    for made, sql in _expressions(project, name, source):
        used = column_names(sql)
        missing = [column for column in used if column in unknown and column not in types]
        for kinds in product(*([_CANDIDATES] * len(missing) if len(missing) <= _MOST_UNKNOWN else [])):
            tried = dict(zip(missing, kinds, strict=False))
            attempt = {**schema, **{column: to_polars(parse_type(kind)) for column, kind in tried.items()}}
            try:
                dtype = compile_expression(sql, attempt).dtype
            except ValueError:
                continue
            types.update(tried)
            schema = attempt if made is None else {**attempt, made: dtype}
            break


def _expressions(project: Project, name: str, source: Source) -> Iterator[tuple[str | None, str]]:
    if source.where is not None:
        yield None, source.where
    yield from source.derive.items()
    for feature in project.features.values():
        for entry in feature.aggregate if feature.source == name else ():
            if entry.where is not None:
                yield None, entry.where
    for dataset in project.datasets.values():
        if dataset.spine.source == name and dataset.spine.where is not None:
            yield None, dataset.spine.where
        for label in dataset.label:
            if label.source == name and label.where is not None:
                yield None, label.where


def columns_named(project: Project, name: str) -> list[str]:
    """Columns of a source that the spec names anywhere."""
    source = project.sources[name]
    found: list[str] = [column for column in (source.time, source.created, source.sequence) if column]
    found += [*source.deduplicate, *source.fill, *source.clip, *source.mask]
    found += [column for udf in source.udf.values() for column in udf.inputs]
    for sql in (source.where, *source.derive.values()):
        found += column_names(sql) if sql else []
    for feature in project.features.values():
        if feature.source == name:
            found += [*feature.keys, *feature.keep]
            for entry in feature.aggregate:
                others = (op.other for op in entry.ops)
                found += [column for column in (entry.column, entry.by, *others) if column]
                found += column_names(entry.where) if entry.where else []
            found += [left for lookup in feature.lookup for left in lookup.keys]
        for lookup in feature.lookup:
            if lookup.from_ == name:
                found += [*lookup.keys.values(), *lookup.columns]
    for dataset in project.datasets.values():
        found += _named_by(dataset, name)
    return found


def _named_by(dataset: Dataset, name: str) -> list[str]:
    """Columns of a source that a dataset names."""
    found: list[str] = []
    spine = dataset.spine
    if spine.source == name:
        found += [*spine.keys, *([spine.time] if spine.time else []), *(spine.columns or ())]
        found += column_names(spine.where) if spine.where else []
        found += [left for used in dataset.features for left in used.keys]
        found += [left for lookup in dataset.lookup for left in lookup.keys]
        found += [label.column for label in dataset.label if label.source is None and label.column]
    for lookup in dataset.lookup:
        if lookup.from_ == name:
            found += [*lookup.keys.values(), *lookup.columns]
    for label in dataset.label:
        if label.source == name:
            found += [*label.keys.values(), *([label.column] if label.column else [])]
            found += column_names(label.where) if label.where else []
    return found


def given_frame(rows: tuple[dict[str, Any], ...], types: dict[str, str]) -> pl.DataFrame:
    """The rows as they would lie in a file; times and whatever else is declared as text stay text."""
    series = []
    for column, kind in types.items():
        values = [_plain(row.get(column)) for row in rows]
        found = _type_of_values(column, values)
        dtype = (
            pl.String()
            if found is None and not kind.startswith("list")
            else to_polars(parse_type(found or kind))
        )
        series.append(pl.Series(column, values, dtype=dtype))
    return pl.DataFrame(series)


def _plain(value: Any) -> Any:
    """Times as text: the source's own rules read them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value
