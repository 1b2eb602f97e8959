"""Rules about tables and what they take from each other."""

from __future__ import annotations

from collections.abc import Iterator

from featureflow.spec.dependencies import ancestors, find_cycles
from featureflow.spec.messages import Finding
from featureflow.spec.models import Feature, Lookup
from featureflow.spec.paths import Path
from featureflow.spec.rules.patches import grid_lookup
from featureflow.spec.rules.scope import Scope
from featureflow.spec.suggest import did_you_mean

#: what to do with a grid where a table is looked up
AT = "Say where a row is on it: at: {lat: latitude, lon: longitude}."


def names_once(scope: Scope) -> Iterator[Finding]:
    """Sources, feature tables and datasets share one set of names: a look-up names either."""
    seen: dict[str, str] = {}
    for section in ("sources", "features", "datasets"):
        for name in scope.declared[section]:
            if name in seen:
                first: Path = (seen[name], name)
                message = f"{name!r} is also the name of one of the {seen[name]} ({{other}}). Rename one."
                yield Finding((section, name), message, at_key=True, other=first)
            else:
                seen[name] = section


def references_exist(scope: Scope) -> Iterator[Finding]:
    """``source`` and ``from`` name a source or a feature table."""
    for name, feature in scope.project.features.items():
        yield from unknown_reference(scope, ("features", name, "source"), feature.source)
        for i, lookup in enumerate(feature.lookup):
            yield from looked_up(scope, ("features", name, "lookup", i), lookup)


def looked_up(scope: Scope, path: Path, lookup: Lookup) -> Iterator[Finding]:
    """What a look-up names: with ``at`` a grid, otherwise a source or a feature table."""
    if lookup.at:
        yield from grid_lookup(scope, path, lookup)
        return
    if "method" in lookup.model_fields_set:
        yield Finding((*path, "method"), "is for look-ups of grids. Add at:, or remove it.", at_key=True)
    yield from unknown_reference(scope, (*path, "from"), lookup.from_, advice=AT)


def unknown_reference(scope: Scope, path: Path, reference: str, *, advice: str = "") -> Iterator[Finding]:
    """A name that is neither a source's nor a feature table's, or that of a grid, which has no rows.

    A grid of zones has rows.
    """
    known = [*scope.declared["sources"], *scope.declared["features"]]
    plain = reference.partition("@")[0]
    if scope.is_grid(reference) and not scope.is_zonal(reference):
        what = "a grid" if reference in scope.project.grids else "a source of N-d data"
        yield Finding(path, f"{reference!r} is {what}, which has no rows. {advice or 'Name a table.'}")
    if reference in known:
        return
    if reference in scope.declared["datasets"]:
        yield Finding(path, f"{reference!r} is a dataset. Name a source or a feature table.")
    elif plain in known:
        message = f"{reference!r} names a version; a spec is built from the newest data. Write {plain}."
        yield Finding(path, message)
    else:
        message = f"unknown source or feature table {reference!r}. {did_you_mean(reference, known)}"
        yield Finding(path, message)


def no_cycles(scope: Scope) -> Iterator[Finding]:
    """Tables build on tables, but not in a circle."""
    for cycle in find_cycles(scope.project):
        name = cycle[0]
        if name in scope.project.grids:
            yield _grid_cycle(scope, cycle)
            continue
        feature = scope.project.features[name]
        following = cycle[1] if len(cycle) > 1 else name
        path: Path = ("features", name, "source")
        if feature.source != following:
            index = next(i for i, lookup in enumerate(feature.lookup) if lookup.from_ == following)
            path = ("features", name, "lookup", index, "from")
        chain = " -> ".join([*cycle, name])
        yield Finding(path, f"feature tables depend on each other in a circle: {chain}. Break it.")


def _grid_cycle(scope: Scope, cycle: list[str]) -> Finding:
    name = cycle[0]
    following = cycle[1] if len(cycle) > 1 else name
    place = next(place for place, read in scope.project.grids[name].reads if read == following)
    chain = " -> ".join([*cycle, name])
    return Finding(("features", name, *place), f"grids depend on each other in a circle: {chain}. Break it.")


def time_where_needed(scope: Scope) -> Iterator[Finding]:
    """Windows, look-ups, grids and dated partitions need a time."""
    for name, feature in scope.project.features.items():
        if not scope.has_table(feature.source):
            continue
        path: Path = ("features", name)
        if scope.time_of(feature.source) is None:
            what = f"the time of its source {feature.source!r}, which has none. Add time: to the source."
            if feature.aggregate:
                yield Finding((*path, "aggregate"), f"windows need {what}", at_key=True)
            if any(not lookup.at for lookup in feature.lookup):
                yield Finding((*path, "lookup"), f"look-ups need {what}", at_key=True)
            if feature.every is not None:
                yield Finding((*path, "at"), f"a time grid needs {what}")
            if "partition" in feature.model_fields_set and feature.partition != "none":
                yield Finding((*path, "partition"), f"partition: {feature.partition} needs {what}")
        for i, lookup in enumerate(feature.lookup):
            yield from lookup_has_time(scope, (*path, "lookup", i, "from"), lookup.from_)


def lookup_has_time(scope: Scope, path: Path, name: str) -> Iterator[Finding]:
    """What is looked up has a time."""
    if scope.has_table(name) and scope.time_of(name) is None:
        yield Finding(path, f"look-ups need a time, and {name!r} has none. Add time: to the source.")


def grids_make_sense(scope: Scope) -> Iterator[Finding]:
    """``at: {every: …}`` needs windows, keeps no column of an event, and has an end after its start."""
    for name, feature in scope.project.features.items():
        every, path = feature.every, ("features", name)
        if every is None:
            continue
        if feature.keep:
            yield Finding(
                (*path, "keep"),
                "a row of a time grid stands for no single event, so no source column can be kept. "
                "Remove keep, or aggregate the column (last).",
                at_key=True,
            )
        if not feature.aggregate and scope.complete("features", name):
            yield Finding(
                (*path, "at"),
                "a time grid has a row for each key with an event in a window, and there is no window. "
                "Add aggregate.",
            )
        if every.start_us is not None and every.end_us is not None and every.start_us >= every.end_us:
            yield Finding((*path, "at", "to"), "must be later than from; the grid has no tick.")


def lookups_match(scope: Scope) -> Iterator[Finding]:
    """Look-ups have keys, and of a feature table they take columns that it has."""
    for name, feature in scope.project.features.items():
        for i, lookup in enumerate(feature.lookup):
            path: Path = ("features", name, "lookup", i)
            if lookup.at:
                continue
            if not lookup.keys and lookup.from_ in scope.project.sources:
                message = (
                    f"missing field 'keys'. A source has no keys of its own; write keys: {{column of this table: "
                    f"column of {lookup.from_}}}."
                )
                yield Finding(path, message)
            yield from one_lookup(scope, path, lookup)


def one_lookup(scope: Scope, path: Path, lookup: Lookup) -> Iterator[Finding]:
    """What is right or wrong about a look-up wherever it is: in a feature table or a dataset."""
    yield from _availability(path, lookup)
    if scope.knows_columns(lookup.from_):
        yield from _lookup_columns(scope, path, lookup)
    if lookup.from_ in scope.project.sources:
        yield from _masked(scope, path, lookup)


def _availability(path: Path, lookup: Lookup) -> Iterator[Finding]:
    given = lookup.availability
    if given is not None and not given.interval.microseconds and not given.delay.microseconds:
        yield Finding((*path, "availability"), "needs a positive interval or delay, such as {interval: 1d}.")


def _lookup_columns(scope: Scope, path: Path, lookup: Lookup) -> Iterator[Finding]:
    known = scope.columns_of(lookup.from_)
    wanted: list[tuple[Path, str]] = [
        ((*path, "columns", j), column) for j, column in enumerate(lookup.columns)
    ]
    wanted += [((*path, "keys", left), right) for left, right in lookup.keys.items()]
    for place, column in wanted:
        if column not in known:
            message = (
                f"feature table {lookup.from_!r} has no column {column!r}. {did_you_mean(column, known)}"
            )
            yield Finding(place, message)


def _masked(scope: Scope, path: Path, lookup: Lookup) -> Iterator[Finding]:
    dropped = scope.dropped(lookup.from_)
    for j, column in enumerate(lookup.columns):
        if column in dropped:
            yield Finding((*path, "columns", j), dropped_message(column, lookup.from_))
    for left, right in lookup.keys.items():
        if right in dropped:
            yield Finding((*path, "keys", left), dropped_message(right, lookup.from_))


def dropped_message(column: str, table: str) -> str:
    """What is wrong with taking a column that its source leaves out."""
    return f"{column!r} is left out of {table!r} (mask: drop). Use sha256, or another column."


def _inputs(feature: Feature) -> Iterator[tuple[Path, str]]:
    """Columns that a feature table takes from its source by name."""
    for i, key in enumerate(feature.keys):
        yield ("keys", i), key
    for i, column in enumerate(feature.keep):
        yield ("keep", i), column
    for i, entry in enumerate(feature.aggregate):
        if entry.column is not None:
            yield ("aggregate", i, "column"), entry.column
        if entry.by is not None:
            yield ("aggregate", i, "by"), entry.by
        for j, op in enumerate(entry.ops):
            if op.other is not None:
                yield ("aggregate", i, "ops", j), op.other


def inputs_exist(scope: Scope) -> Iterator[Finding]:
    """Columns taken from another feature table exist; columns of a source are not dropped there."""
    for name, feature in scope.project.features.items():
        dropped = scope.dropped(feature.source)
        checked = scope.knows_columns(feature.source)
        known = scope.columns_of(feature.source) if checked else []
        for path, column in _inputs(feature):
            if column in dropped:
                yield Finding(("features", name, *path), dropped_message(column, feature.source))
            elif checked and column not in known:
                message = f"feature table {feature.source!r} has no column {column!r}. {did_you_mean(column, known)}"
                yield Finding(("features", name, *path), message)


def tests_name_tables(scope: Scope) -> Iterator[Finding]:
    """Tests give rows to sources and expect rows of feature tables and datasets; each has its own name."""
    first: dict[str, int] = {}
    built = [*scope.declared["features"], *scope.declared["datasets"]]
    for i, test in enumerate(scope.project.tests):
        for name in test.given:
            known = scope.declared["sources"]
            if name not in known:
                message = f"unknown source {name!r}. {did_you_mean(name, known)}"
                yield Finding(("tests", i, "given", name), message, at_key=True)
            elif scope.is_grid(name):
                message = f"{name!r} is a source of N-d data, to which a test can't give rows."
                yield Finding(("tests", i, "given", name), message, at_key=True)
        for name in test.expect:
            message = ""
            if name not in built:
                message = f"unknown feature table or dataset {name!r}. {did_you_mean(name, built)}"
            elif scope.is_grid(name):
                message = (
                    f"{name!r} is a grid, and tests expect rows. Name a feature table or a dataset of tables."
                )
            elif any(one in scope.project.grids for one in _behind(scope, name)):
                message = (
                    f"{name!r} builds on a grid, whose N-d data a test can't give. Name one that does not."
                )
            elif name in scope.project.datasets and scope.project.datasets[name].spine.source is None:
                message = f"the spine of dataset {name!r} is files, to which a test can't give rows. Make it a source."
            if message:
                yield Finding(("tests", i, "expect", name), message, at_key=True)
        place: Path = ("tests", i, "name")
        if test.name in first:
            other: Path = ("tests", first[test.name], "name")
            yield Finding(place, f"another test has the name {test.name!r} ({{other}}).", other=other)
        first.setdefault(test.name, i)


def _behind(scope: Scope, name: str) -> set[str]:
    known = name in scope.project.features or name in scope.project.datasets
    return ancestors(scope.project, name) if known else set()


def table_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about tables and what they take from each other."""
    yield from names_once(scope)
    yield from references_exist(scope)
    yield from no_cycles(scope)
    yield from time_where_needed(scope)
    yield from grids_make_sense(scope)
    yield from lookups_match(scope)
    yield from inputs_exist(scope)
    yield from tests_name_tables(scope)
