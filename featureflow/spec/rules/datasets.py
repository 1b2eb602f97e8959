"""Rules about datasets: spine, features, look-ups, labels, and the names of all columns."""

from __future__ import annotations

from collections.abc import Iterator

from featureflow.spec.datasets import Dataset, Label, Spine, UsedTable
from featureflow.spec.messages import Finding
from featureflow.spec.names import dataset_columns
from featureflow.spec.ops import OPS
from featureflow.spec.paths import Path
from featureflow.spec.resolve import keys_of_use
from featureflow.spec.rules.aggregates import bad_name
from featureflow.spec.rules.scope import Scope
from featureflow.spec.rules.sources import format_findings
from featureflow.spec.rules.tables import (
    dropped_message,
    looked_up,
    lookup_has_time,
    one_lookup,
    unknown_reference,
)
from featureflow.spec.suggest import did_you_mean

_PATCHES = "For patches of a grid write grid: and patch:."
#: what belongs to labels of later events
_OF_EVENTS = ("op", "horizon", "gap", "keys", "where", "fill_empty")


def dataset_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about which rows and columns a dataset has."""
    for name, dataset in scope.project.datasets.items():
        path: Path = ("datasets", name)
        yield from _spine(scope, path, dataset)
        yield from _time(scope, path, dataset)
        for i, used in enumerate(dataset.features):
            yield from _use(scope, (*path, "features", i), used, dataset.spine)
        for i, lookup in enumerate(dataset.lookup):
            place = (*path, "lookup", i)
            yield from looked_up(scope, place, lookup)
            if lookup.at:
                at = {(*place, "at", dim): column for dim, column in lookup.at.items()}
                yield from _of_spine(scope, at, dataset.spine)
                continue
            yield from lookup_has_time(scope, (*place, "from"), lookup.from_)
            yield from one_lookup(scope, place, lookup)
            keys = {(*place, "keys", left): left for left in lookup.keys}
            yield from _of_spine(scope, keys, dataset.spine)
        for i, label in enumerate(dataset.label):
            yield from _label(scope, (*path, "label", i), label, dataset.spine)
        yield from _names(scope, path, dataset)


def _spine(scope: Scope, path: Path, dataset: Dataset) -> Iterator[Finding]:
    spine, place = dataset.spine, (*path, "spine")
    if spine.source is not None and spine.files is not None:
        message = "source and path both name the rows. Remove one."
        yield Finding((*place, "source"), message, at_key=True)
    elif (
        spine.source is None
        and spine.files is None
        and spine.grid is None
        and scope.complete("datasets", str(path[1]))
    ):
        yield Finding(place, "names no rows. Add source: (a source or feature table) or path: (files).")
    if spine.files is not None:
        yield from format_findings(place, spine.files)
        if spine.files.is_grid:
            message = f"rows are in tables; these files are {spine.files.format}. Make a grid of them, and name grid:."
            yield Finding((*place, "path"), message)
    if spine.source is not None:
        yield from unknown_reference(scope, (*place, "source"), spine.source, advice=_PATCHES)
    for field in ("keys", "columns"):
        given = getattr(spine, field) or ()
        for i, column in enumerate(given):
            if column in given[:i]:
                yield Finding((*place, field, i), f"{column!r} is there twice. Remove one.")
    wanted: dict[Path, str] = {(*place, "keys", i): key for i, key in enumerate(spine.keys)}
    wanted |= {(*place, "time"): spine.time} if spine.time else {}
    wanted |= {(*place, "columns", i): column for i, column in enumerate(spine.columns or ())}
    yield from _of_spine(scope, wanted, spine)


def _of_spine(scope: Scope, wanted: dict[Path, str], spine: Spine) -> Iterator[Finding]:
    """Columns that the spine's rows must have."""
    if spine.source is None:
        return
    known, dropped = scope.columns_of_spine(spine), scope.dropped(spine.source)
    for place, column in wanted.items():
        if column in dropped:
            yield Finding(place, dropped_message(column, spine.source))
        elif known is not None and column not in known:
            yield Finding(place, _no_column(spine.source, column, known))


def _no_column(table: str, column: str, known: list[str]) -> str:
    return f"feature table {table!r} has no column {column!r}. {did_you_mean(column, known)}"


def _time(scope: Scope, path: Path, dataset: Dataset) -> Iterator[Finding]:
    """What is known at a row's time needs that time."""
    spine = dataset.spine
    if spine.grid is not None or not scope.knows_time(spine) or scope.time_of_spine(spine) is not None:
        return
    needy = [
        ("features", "features are evaluated at a time", bool(dataset.features)),
        ("lookup", "look-ups need a time", any(not lookup.at for lookup in dataset.lookup)),
        ("label", "a label of later events needs a time", any(x.source for x in dataset.label)),
        ("split", "a split by time needs one", dataset.split is not None and dataset.split.by == "time"),
    ]
    for field, what, needed in needy:
        if needed:
            message = f"{what}, and the spine has none. Add time: to the spine."
            yield Finding((*path, field), message, at_key=True)


def _use(scope: Scope, path: Path, used: UsedTable, spine: Spine) -> Iterator[Finding]:
    feature = scope.project.features.get(used.table)
    known = scope.declared["features"]
    if used.table in scope.declared["sources"]:
        message = (
            f"{used.table!r} is a source, not a feature table. Take its columns with lookup:, "
            f"or make a feature table of it. {did_you_mean(used.table, known)}"
        )
        yield Finding((*path, "table"), message)
    elif scope.is_zonal(used.table):
        return  # its keys and columns are known when it is compiled
    elif used.table in scope.project.grids:
        message = f"{used.table!r} is a grid. Take its values with lookup: [{{from: {used.table}, at: …}}]."
        yield Finding((*path, "table"), message)
    elif used.table not in known:
        plain = used.table.partition("@")[0]
        if used.table in scope.declared["datasets"]:
            message = f"{used.table!r} is a dataset. Name a feature table."
        elif plain in known:
            message = (
                f"{used.table!r} names a version; a dataset is built from the newest data, and remembers "
                f"the versions that it was built from. Write {plain}."
            )
        else:
            message = f"unknown feature table {used.table!r}. {did_you_mean(used.table, known)}"
        yield Finding((*path, "table"), message)
    if feature is None:
        return
    if scope.has_table(used.table) and scope.time_of(used.table) is None:
        message = f"features are evaluated at a time, and {used.table!r} has none. Add time: to its source."
        yield Finding((*path, "table"), message)
    if used.ttl is not None and feature.every is None:
        message = (
            f"{used.table!r} is evaluated at the row's own time, so nothing in it can be old. Remove ttl; it is "
            "for tables with at: {every: …}."
        )
        yield Finding((*path, "ttl"), message, at_key=True)
    if not scope.complete("features", used.table):
        return
    keys = keys_of_use(used.keys, feature.keys)
    if keys is None:
        message = (
            f"does not fit {used.table!r}, whose keys are {', '.join(feature.keys)}. "
            "Write {column of the spine: key of the table}."
        )
        yield Finding((*path, "keys"), message, at_key=True)
    else:
        yield from _of_spine(scope, {(*path, "keys", left): left for left in keys}, spine)
    if scope.knows_columns(used.table) and scope.has_table(used.table):
        columns = scope.columns_of(used.table)
        for j, column in enumerate(used.columns or ()):
            if column not in columns:
                yield Finding((*path, "columns", j), _no_column(used.table, column, columns))


def _label(scope: Scope, path: Path, label: Label, spine: Spine) -> Iterator[Finding]:
    complete = scope.complete("datasets", str(path[1]))
    if label.source is None:
        if complete and label.column is None:
            message = "names nothing to learn. Add column: (of the spine), or source:, op: and horizon:."
            yield Finding(path, message)
        for field in _OF_EVENTS:
            if complete and field in label.model_fields_set:
                message = f"{field} is for a label of later events. Add source:, or remove it."
                yield Finding((*path, field), message, at_key=True)
        if label.column is not None:
            yield from _of_spine(scope, {(*path, "column"): label.column}, spine)
        return
    yield from unknown_reference(scope, (*path, "source"), label.source)
    if scope.has_table(label.source) and scope.time_of(label.source) is None:
        message = (
            f"labels look at what happens later, and {label.source!r} has no time. Add time: to the source."
        )
        yield Finding((*path, "source"), message)
    if complete:
        if label.op is None:
            yield Finding(path, "a label with a source needs an aggregation. Add op:, such as op: count.")
        if label.horizon is None:
            yield Finding(path, "a label with a source needs an end. Add horizon:, such as horizon: 30d.")
        if label.op is not None and label.column is None and OPS[label.op.name].needs_column:
            message = f"{label.op.name} needs a column. Add column: with a column of {label.source}."
            yield Finding((*path, "op"), message)
    yield from _of_spine(scope, {(*path, "keys", left): left for left in label.keys}, spine)
    yield from _events(scope, path, label, label.source)


def _events(scope: Scope, path: Path, label: Label, source: str) -> Iterator[Finding]:
    """Columns that a label takes from its source."""
    wanted: dict[Path, str] = {(*path, "keys", left): right for left, right in label.keys.items()}
    wanted |= {(*path, "column"): label.column} if label.column else {}
    wanted |= {(*path, "op"): label.op.other} if label.op is not None and label.op.other else {}
    checked = scope.knows_columns(source)
    known = scope.columns_of(source) if checked else []
    dropped = scope.dropped(source)
    for place, column in wanted.items():
        if column in dropped:
            yield Finding(place, dropped_message(column, source))
        elif checked and column not in known:
            yield Finding(place, _no_column(source, column, known))


def _names(scope: Scope, path: Path, dataset: Dataset) -> Iterator[Finding]:
    """No two columns have one name, as far as the spec alone knows them."""
    first: dict[str, Path] = {}
    told: set[Path] = set()
    for column, inner in dataset_columns(dataset, scope.time_of_spine(dataset.spine), scope.columns_if_table):
        place = (*path, *inner)
        own = inner[0] in ("derive", "label") or (inner[0] == "sample" and dataset.sample is not None)
        for message in bad_name(column) if own else ():
            yield Finding(place, message, inner[0] == "derive")
        if column.endswith("__encoded") and dataset.encode:
            message = (
                f"column {column!r}: names that end with '__encoded' are those of encoded columns. Rename it."
            )
            yield Finding(place, message, inner[0] == "derive")
        other = first.setdefault(column.lower(), place)
        # what the spine has twice is said there; of a whole table one column is enough
        if other is not place and inner[0] != "spine" and (place not in told or inner[-1] != "table"):
            told.add(place)
            yield _twice(column, place, other)


def _twice(column: str, place: Path, other: Path) -> Finding:
    what, where = place[2], other[2]
    if other == place:
        return Finding(place, f"column {column!r} is there twice. Remove one.")
    made = f"is already made by {where}" if where != "spine" else "is a column of the spine"
    if isinstance(other[3], int) and where != "spine":
        made += f"[{other[3]}]"
    advice = {
        "features": "Add a prefix:, or choose columns:.",
        "lookup": "Add a prefix:.",
        "label": "Rename it with as:.",
        "sample": "Rename it with weight:.",
        "split": "Rename the other.",
    }.get(str(what), "Rename one, or remove it.")
    return Finding(place, f"column {column!r} {made} ({{other}}). {advice}", what == "derive", other)
