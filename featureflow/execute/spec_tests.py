"""The spec's own ``tests:``: given rows become the sources' files, and the tables built from them are compared.

Nothing of the project's data is read: a source that a test gives no rows has none. Checks that only judge are left out;
those that put rows into quarantine decide which rows there are, and stay.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from featureflow.core.errors import PlanError
from featureflow.execute.given_types import compared_keys, given_frame, source_behind, types_of
from featureflow.spec.checks import CheckEntry
from featureflow.spec.dependencies import ancestors, sources_of
from featureflow.spec.load import LoadedProject
from featureflow.spec.models import Project, Source, SourceOptions, SpecTest

_TOLERANCE = 1e-9


def prepare(loaded: LoadedProject, test: SpecTest, folder: str) -> tuple[LoadedProject, list[str]]:
    """Make a project whose sources are the rows that a test gives.

    Returns
    -------
    tuple
        The project, and what to build: tables and datasets that the test expects something of, with all that they
        build on. Datasets are without what depends on all their rows: splits, samples, encoders, selection, shards.

    Raises
    ------
    PlanError
        If the values that are given for a column are of several types.
    """
    project = loaded.project
    wanted = set(test.expect).union(*(ancestors(project, name) for name in test.expect))
    used = dict.fromkeys(source for name in sorted(wanted) for source in sources_of(project, name))
    features = {
        name: feature.model_copy(update={"checks": _quarantining(feature.checks)})
        for name, feature in project.features.items()
        if name in wanted
    }
    whole = {"split": None, "sample": None, "encode": (), "select": None, "export": None, "checks": ()}
    datasets = {
        name: dataset.model_copy(update=whole) for name, dataset in project.datasets.items() if name in wanted
    }
    small = project.model_copy(update={"features": features, "datasets": datasets, "tests": ()})
    types = {}
    for name in used:
        try:
            types[name] = types_of(small, name, test.given.get(name, ()))
        except ValueError as error:
            raise PlanError(f"given.{name}: {error}") from None
    _match_look_up_keys(small, types, test)
    sources = {
        name: _given_source(project.sources[name], name, test.given.get(name, ()), types[name], folder)
        for name in used
    }
    return replace(loaded, project=small.model_copy(update={"sources": sources})), [*features, *datasets]


def _quarantining(checks: tuple[CheckEntry, ...]) -> tuple[CheckEntry, ...]:
    return tuple(entry for entry in checks if entry.on_fail == "quarantine")


def _match_look_up_keys(project: Project, types: dict[str, dict[str, str]], test: SpecTest) -> None:
    """Give a key without any value the type of the key that it is compared with."""
    for (left_source, left), (right_source, right) in compared_keys(project):
        if left_source in types and right_source in types:
            _take_over(types, test, (left_source, left), (right_source, right), project)
            _take_over(types, test, (right_source, right), (left_source, left), project)


def _take_over(
    types: dict[str, dict[str, str]],
    test: SpecTest,
    from_: tuple[str, str],
    to: tuple[str, str],
    project: Project,
) -> None:
    def has_values(source: str, column: str) -> bool:
        return any(row.get(column) is not None for row in test.given.get(source, ()))

    decided = has_values(*to) or to[1] in project.sources[to[0]].columns
    if has_values(*from_) and not decided and from_[1] in types[from_[0]] and to[1] in types[to[0]]:
        types[to[0]][to[1]] = types[from_[0]][from_[1]]


def _given_source(
    source: Source, name: str, rows: tuple[dict[str, Any], ...], types: dict[str, str], folder: str
) -> Source:
    path = os.path.join(folder, f"{name}.parquet")
    given_frame(rows, types).write_parquet(path)
    update = {
        "path": (path,),
        "format": "parquet",
        "columns": types,
        "options": SourceOptions(),
        "checks": _quarantining(source.checks),
        "missing_columns": "null",
    }
    return source.model_copy(update=update)


def time_zone(project: Project, name: str) -> str:
    """Zone of the times that a test expects of a table or dataset: that of the source whose rows it has."""
    return project.sources[source_behind(project, name)].timezone


def compare(
    expected: tuple[dict[str, Any], ...], actual: pl.DataFrame, keys: list[str], place: str, zone: str = "UTC"
) -> list[str]:
    """Say which expected rows are not there; columns that an expected row leaves out may have any value.

    Rows that are there and not expected are no mistake, but an empty list expects that there are none.
    """
    if not expected and actual.height:
        return [f"{place}: there are {actual.height} rows, expected none."]
    problems: dict[int, str] = {}
    left = list(actual.iter_rows(named=True))
    # the rows that say most choose first
    for i, row in sorted(enumerate(expected), key=lambda pair: -len(pair[1])):
        unknown = [column for column in row if column not in actual.columns]
        if unknown:
            known = ", ".join(actual.columns)
            problems[i] = f"{place}[{i}]: there is no column {unknown[0]!r}; there are {known}."
            continue
        own = [key for key in keys if key in row]
        candidates = [found for found in left if all(same(row[key], found[key], zone) for key in own)]
        fitting = (found for found in candidates if all(same(v, found[c], zone) for c, v in row.items()))
        match = next(fitting, None)
        if match is not None:
            left.remove(match)
        else:
            problems[i] = f"{place}[{i}]: {_difference(row, candidates, left, keys, zone)}"
    return [problems[i] for i in sorted(problems)]


def _difference(
    row: dict[str, Any],
    candidates: list[dict[str, Any]],
    left: list[dict[str, Any]],
    keys: list[str],
    zone: str,
) -> str:
    own = [key for key in keys if key in row]
    where = ", ".join(f"{key}={row[key]}" for key in own) or "these values"
    if not candidates:
        others = "; ".join(
            ", ".join(f"{key}={_shown(found[key], zone)}" for key in keys) for found in left[:5]
        )
        return f"there is no row with {where}. There {'is' if len(left) == 1 else 'are'}: {others or 'none'}."

    def wrong(found: dict[str, Any]) -> list[str]:
        return [column for column, value in row.items() if not same(value, found[column], zone)]

    nearest = min(candidates, key=lambda found: len(wrong(found)))
    parts = [f"{c} is {_shown(nearest[c], zone)}, expected {_shown(row[c], zone)}" for c in wrong(nearest)]
    return f"row with {where}: {'; '.join(parts)}."


def _shown(value: Any, zone: str) -> str:
    if isinstance(value, datetime):
        local = value.astimezone(ZoneInfo(zone)) if value.tzinfo else value
        return local.replace(tzinfo=None).isoformat()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else repr(value)


def same(expected: Any, actual: Any, zone: str = "UTC") -> bool:
    """Compare a value of YAML with one of a table.

    Numbers are the same up to 1e-9 of their size, times as instants (in ``zone`` where none is named), maps in any
    order of their keys.
    """
    if expected is None or actual is None:
        return expected is None and actual is None
    if isinstance(actual, datetime):
        return _instant(expected, zone) == actual
    if isinstance(actual, date):
        return str(expected) == actual.isoformat()
    if isinstance(actual, bool) or isinstance(expected, bool):
        return expected is actual
    if isinstance(actual, (int, float)) and isinstance(expected, (int, float)):
        return expected == actual or math.isclose(expected, actual, rel_tol=_TOLERANCE, abs_tol=1e-12)
    if isinstance(actual, list):
        return _same_list(expected, actual, zone)
    return bool(expected == actual) or str(expected) == str(actual)


def _same_list(expected: Any, actual: list[Any], zone: str) -> bool:
    if isinstance(expected, dict):  # a map is read as a list of keys and values
        found = {str(item["key"]): item["value"] for item in actual}
        wanted = {str(key): value for key, value in expected.items()}
        return found.keys() == wanted.keys() and all(same(wanted[key], found[key], zone) for key in found)
    if not isinstance(expected, (list, tuple)) or len(expected) != len(actual):
        return False
    return all(same(a, b, zone) for a, b in zip(expected, actual, strict=True))


def _instant(value: Any, zone: str) -> datetime | None:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
