"""The spec's own ``tests:``: given rows become the sources' files, and the tables built from them are compared.

Nothing of the project's data is read: a source that a test gives no rows has none. A column that the spec names but
neither the rows nor ``columns:`` know is null, of the type that its use asks for.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from featureflow.core.expressions import column_names
from featureflow.spec.dependencies import ancestors, sources_of
from featureflow.spec.load import LoadedProject
from featureflow.spec.models import Project, Source, SourceOptions, SpecTest

_TOLERANCE = 1e-9
_NUMERIC_OPS = {
    "sum",
    "mean",
    "stddev_samp",
    "stddev_pop",
    "var_samp",
    "var_pop",
    "skew",
    "kurtosis",
    "median",
    "slope",
}


def prepare(loaded: LoadedProject, test: SpecTest, folder: str) -> tuple[LoadedProject, list[str]]:
    """Make a project whose sources are the rows that a test gives.

    Returns
    -------
    tuple
        The project, and the tables to build: those that the test expects something of, with all that they build on.
    """
    project = loaded.project
    tables = set(test.expect).union(*(ancestors(project, name) for name in test.expect))
    used = dict.fromkeys(source for name in tables for source in sources_of(project, name))
    sources = {name: _given_source(project, name, test.given.get(name, ()), folder) for name in used}
    features = {name: feature for name, feature in project.features.items() if name in tables}
    small = project.model_copy(update={"sources": sources, "features": features, "tests": ()})
    return replace(loaded, project=small), list(features)


def _given_source(project: Project, name: str, rows: tuple[dict[str, Any], ...], folder: str) -> Source:
    source = project.sources[name]
    instants = {column for column in (source.time, source.created) if column and column not in source.derive}
    types = dict.fromkeys(instants, "timestamp") | dict(source.columns)
    names = dict.fromkeys(column for row in rows for column in row)
    wanted = dict.fromkeys(_columns_named(project, name), "string")
    wanted.update(_types_by_use(project, name))
    for column, kind in wanted.items():
        if column not in names and column not in source.derive and column not in source.udf:
            names[column] = None
            types.setdefault(column, kind)
    series = [pl.Series(column, [_plain(row.get(column)) for row in rows], strict=False) for column in names]
    series = [each.cast(pl.String) if each.dtype == pl.Null else each for each in series]
    path = os.path.join(folder, f"{name}.parquet")
    pl.DataFrame(series).write_parquet(path)
    update = {
        "path": (path,),
        "format": "parquet",
        "columns": types,
        "options": SourceOptions(),
        "checks": (),
    }
    return source.model_copy(update={**update, "missing_columns": "null"})


def _plain(value: Any) -> Any:
    """Times as text: the source's own rules read them."""
    return value.isoformat() if isinstance(value, (datetime, date)) else value


def _columns_named(project: Project, name: str) -> list[str]:
    """Columns of a source that the spec names anywhere."""
    source = project.sources[name]
    found: list[str] = [column for column in (source.time, source.created, source.sequence) if column]
    found += [*source.deduplicate, *source.fill, *source.clip, *source.mask]
    for sql in (source.where, *source.derive.values()):
        found += column_names(sql) if sql else []
    for feature in project.features.values():
        if feature.source == name:
            found += [*feature.keys, *feature.keep]
            for entry in feature.aggregate:
                found += [
                    column for column in (entry.column, entry.by, *(op.other for op in entry.ops)) if column
                ]
                found += column_names(entry.where) if entry.where else []
            found += [left for lookup in feature.lookup for left in lookup.keys]
        for lookup in feature.lookup:
            if lookup.from_ == name:
                found += [*lookup.keys.values(), *lookup.columns]
    return found


def _types_by_use(project: Project, name: str) -> dict[str, str]:
    """Types of columns that are aggregated as numbers."""
    source = project.sources[name]
    found = dict.fromkeys(source.clip, "float64")
    for feature in project.features.values():
        for entry in feature.aggregate if feature.source == name else ():
            if entry.column and any(op.name in _NUMERIC_OPS for op in entry.ops):
                found[entry.column] = "float64"
    return found


def compare(
    expected: tuple[dict[str, Any], ...], actual: pl.DataFrame, keys: list[str], place: str
) -> list[str]:
    """Say which expected rows are not there; columns that an expected row leaves out may have any value."""
    problems = []
    left = list(actual.iter_rows(named=True))
    for i, row in enumerate(expected):
        unknown = [column for column in row if column not in actual.columns]
        if unknown:
            problems.append(
                f"{place}[{i}]: there is no column {unknown[0]!r}; there are {', '.join(actual.columns)}."
            )
            continue
        candidates = [
            found for found in left if all(same(row[key], found[key]) for key in keys if key in row)
        ]
        match = next(
            (found for found in candidates if all(same(value, found[c]) for c, value in row.items())), None
        )
        if match is not None:
            left.remove(match)
            continue
        problems.append(f"{place}[{i}]: {_difference(row, candidates, keys)}")
    return problems


def _difference(row: dict[str, Any], candidates: list[dict[str, Any]], keys: list[str]) -> str:
    where = ", ".join(f"{key}={row[key]}" for key in keys if key in row) or "these values"
    if not candidates:
        return f"there is no row with {where}."
    found = candidates[0]
    parts = [
        f"{column} is {found[column]!r}, expected {value!r}"
        for column, value in row.items()
        if not same(value, found[column])
    ]
    return f"row with {where}: {'; '.join(parts) or 'it is there, but not so often'}."


def same(expected: Any, actual: Any) -> bool:
    """Compare a value of YAML with one of a table: numbers up to 1e-9, times as instants (UTC where none is named)."""
    if expected is None or actual is None:
        return expected is None and actual is None
    if isinstance(actual, datetime):
        return _instant(expected) == actual
    if isinstance(actual, date):
        return str(expected) == actual.isoformat()
    if isinstance(actual, bool) or isinstance(expected, bool):
        return expected is actual
    if isinstance(actual, (int, float)) and isinstance(expected, (int, float)):
        return expected == actual or math.isclose(expected, actual, rel_tol=_TOLERANCE)
    if isinstance(actual, list):
        return (
            isinstance(expected, (list, tuple))
            and len(expected) == len(actual)
            and all(map(same, expected, actual))
        )
    return bool(expected == actual) or str(expected) == str(actual)


def _instant(value: Any) -> datetime | None:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
