"""Rules about aggregate entries and the names of output columns."""

from __future__ import annotations

from collections.abc import Iterator

from featureflow.spec.messages import Finding
from featureflow.spec.models import AggregateEntry, Feature
from featureflow.spec.names import (
    FORBIDDEN_CHARACTERS,
    PLACEHOLDERS,
    RESERVED_PREFIXES,
    placeholders,
)
from featureflow.spec.ops import OPS
from featureflow.spec.paths import Path
from featureflow.spec.rules.scope import Scope
from featureflow.spec.suggest import did_you_mean


def aggregate_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about aggregates and output columns."""
    for name, feature in scope.project.features.items():
        path: Path = ("features", name)
        for i, entry in enumerate(feature.aggregate):
            yield from _entry((*path, "aggregate", i), entry)
        yield from _output_names(scope, path, feature)


def _entry(path: Path, entry: AggregateEntry) -> Iterator[Finding]:
    for j, op in enumerate(entry.ops):
        if entry.column is None and OPS[op.name].needs_column:
            free = ", ".join(name for name, spec in OPS.items() if not spec.needs_column)
            message = (
                f"{op.name} needs a column. Add column: to this entry; without one there are only {free}."
            )
            yield Finding((*path, "ops", j), message)
    if entry.by is not None and entry.values is None:
        message = (
            "by needs values: the columns of a table must be known before its data is read. Add values: […]."
        )
        yield Finding((*path, "by"), message)
    if entry.values is not None and entry.by is None:
        message = "values belongs to by. Add by: with the column whose values these are."
        yield Finding((*path, "values"), message, at_key=True)
    if entry.as_ is not None:
        yield from _template((*path, "as"), entry)


def _template(path: Path, entry: AggregateEntry) -> Iterator[Finding]:
    used = placeholders(entry.as_ or "")
    for name in used:
        if name not in PLACEHOLDERS:
            yield Finding(path, f"unknown placeholder {{{name}}}. {did_you_mean(name, PLACEHOLDERS)}")
    if "value" in used and entry.by is None:
        yield Finding(path, "{value} is the value of by, and this entry has no by.")
    if "column" in used and entry.column is None:
        yield Finding(path, "{column} is empty: this entry has no column.")


def _output_names(scope: Scope, path: Path, feature: Feature) -> Iterator[Finding]:
    time = scope.time_of(feature.source)
    first: dict[str, Path] = {}
    for column, inner in scope.placed_columns(str(path[1])):
        if inner[0] == "aggregate" and "{" in column:
            continue  # a placeholder that there is not, which is said elsewhere
        place = (*path, *inner)
        at_key = inner[0] in ("derive", "udf", "aggregate")
        for message in bad_name(column):
            yield Finding(place, message, at_key)
        if column.lower() == feature.partition and inner[0] != "source" and time is not None:
            yield Finding(
                place,
                f"column {column!r} has the name of the partition's folders ({feature.partition}=…). "
                "Rename it, or write another partition:.",
                at_key,
            )
        other = first.setdefault(column.lower(), place)
        if other is not place:
            yield _twice(column, place, other, at_key=at_key)


def bad_name(column: str) -> Iterator[str]:
    """What is wrong with the name of a column."""
    bad = sorted(set(column) & set(FORBIDDEN_CHARACTERS))
    if bad:
        shown = " ".join("space" if c == " " else repr(c) for c in bad)
        yield f"column {column!r} would have {shown} in its name, which tables can't store. Rename it (as:, derive:)."
    if column.lower().startswith(RESERVED_PREFIXES):
        yield f"column {column!r}: names that begin with {column[:4]!r} are the engine's own. Rename it."


def _twice(column: str, place: Path, other: Path, *, at_key: bool) -> Finding:
    what = place[2]
    if other[2] == "source":
        other_text = "is the source's time, which every table has"
    elif other[2] == "keys":
        other_text = "is a key, which every table has"
    elif other == place:
        other_text = "is made twice by this entry"
        return Finding(place, f"column {column!r} {other_text}. Rename one with as:, or remove one.", at_key)
    else:
        other_text = f"is already made by {_short(other)}"
    advice = "Rename one with as:." if what == "aggregate" else "Rename one, or remove it."
    if what == "lookup":
        advice = "Add a prefix:."
    return Finding(place, f"column {column!r} {other_text} ({{other}}). {advice}", at_key, other)


def _short(path: Path) -> str:
    index = f"[{path[3]}]" if isinstance(path[3], int) else ""
    return f"{path[2]}{index}"
