"""A dataset, computed by brute force from the words of the spec language: plain Python.

``evaluate_dataset(project, name)`` reads the mapping that a YAML file holds, with ``rows`` in place of ``path`` and
callables of one row in place of SQL, as `oracle.engine` does. Each row of the spine asks every event and every
row of the other side; nothing is sorted, cached or joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oracle.aggregates import aggregate
from oracle.compare import cells_apart, plain_value
from oracle.engine import (
    ORDERED,
    by_key,
    derived,
    evaluate,
    expand,
    identity,
    look_up_keys,
    origin,
    window_value,
)
from oracle.lookups import look_up
from oracle.rows import Row, any_of, duration, microseconds, orders, rank, read, same

EMBARGOED = "embargoed"


@dataclass
class Expected:
    """A dataset as it must be.

    Parameters
    ----------
    columns
        The spine's, features of the tables, look-ups, derived, labels, and ``split`` if time or a column decides it.
    rows
        In the order of the spine.
    left_out
        Columns of used tables that can't be had at the spine's rows.
    """

    columns: list[str]
    rows: list[Row]
    left_out: list[str] = field(default_factory=list)


def evaluate_dataset(project: Mapping[str, Any], name: str) -> Expected:
    """Expected content of one dataset of a project."""
    spec = project["datasets"][name]
    spine, rows = spine_rows(project, spec["spine"])
    time, keys = spec["spine"].get("time", spine.get("time")), listed(spec["spine"]["keys"])
    carried = spec["spine"].get("columns") or (list(rows[0]) if rows else [])
    own = [*keys, *([time] if time else []), *carried]
    own += [label["column"] for label in labels_of(spec) if "source" not in label]
    columns = list(dict.fromkeys(own))
    found = Expected(columns, [{column: row[column] for column in columns} for row in rows])
    for used in listed(spec.get("features", [])):
        add_table(project, used if isinstance(used, Mapping) else {"table": used}, found, rows, time)
    for entry in spec.get("lookup", []):
        right, candidates = origin(project, entry["from"])
        pairs = look_up_keys(project, entry, keys)
        for spine_row, row in zip(rows, found.rows, strict=True):
            at = spine_row[time]
            got = look_up(entry, spine_row, at, candidates, right, keys=pairs, columns=entry["columns"])
            row.update({f"{entry.get('prefix', '')}{column}": value for column, value in got.items()})
        found.columns += [f"{entry.get('prefix', '')}{column}" for column in entry["columns"]]
    for column, expression in spec.get("derive", {}).items():
        for row in found.rows:
            row[column] = derived(expression, row)
        found.columns.append(column)
    for label in labels_of(spec):
        add_label(project, label, found, rows, time, keys)
    if spec.get("split", {}).get("by") in ("time", "column"):
        for spine_row, row in zip(rows, found.rows, strict=True):
            row["split"] = split_of(spec["split"], {**row, time: spine_row[time]}, time)
        found.columns += [] if "split" in found.columns else ["split"]
    return found


def listed(value: Any) -> list[Any]:
    """A list, also of one thing."""
    return list(value) if isinstance(value, list | tuple) else [value]


def labels_of(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The labels of a dataset, which may be one or none."""
    return listed(spec.get("label", []))


def spine_rows(project: Mapping[str, Any], spine: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Row]]:
    """Rows of a source, a feature table or files of the spine's own, for which ``where`` is true."""
    if "source" in spine:
        source, rows = origin(project, spine["source"])
    else:
        source, rows = spine, read({key: spine[key] for key in ("rows", "time", "timezone") if key in spine})
    where = spine.get("where")
    return source, [row for row in rows if where is None or where(row) is True]


# ---------------------------------------------------------------- feature tables


def add_table(
    project: Mapping[str, Any], used: Mapping[str, Any], found: Expected, rows: Sequence[Row], time: str
) -> None:
    """Features of one table at the rows: looked up if it has a grid, otherwise computed at their own times."""
    spec = project["features"][used["table"]]
    given = used.get("keys", {})
    given = given if isinstance(given, Mapping) else {key: key for key in given}
    spine_of = {theirs: ours for ours, theirs in given.items()}
    spine_of = {key: spine_of.get(key, key) for key in spec.get("keys", [])}
    if spec.get("at", "events") == "events":
        features = at_events(project, spec, rows, spine_of, time)
    else:
        features = at_ticks(project, used, rows, spine_of, time)
    names = [*features_of(spec)]
    missing = [column for column in names if found.rows and column not in features[0]]
    found.left_out += missing
    wanted = used.get("columns") or [column for column in names if column not in missing]
    prefix = used.get("prefix", "")
    for row, values in zip(found.rows, features, strict=True):
        row.update({f"{prefix}{column}": values[column] for column in wanted})
    found.columns += [f"{prefix}{column}" for column in wanted]


def features_of(spec: Mapping[str, Any]) -> list[str]:
    """Columns of a table that are features: not its keys, time and ``keep``."""
    names = [output.name for entry in spec.get("aggregate", []) for output in expand(entry, spec)]
    for entry in spec.get("lookup", []):
        names += [f"{entry.get('prefix', '')}{column}" for column in entry["columns"]]
    return [*names, *spec.get("derive", {})]


def at_ticks(
    project: Mapping[str, Any],
    used: Mapping[str, Any],
    rows: Sequence[Row],
    spine_of: Mapping[str, str],
    time: str,
) -> list[Row]:
    """The latest row of the table at or before each row's time."""
    table = evaluate(project, used["table"])
    columns = features_of(project["features"][used["table"]])
    entry = {"ttl": used["ttl"]} if "ttl" in used else {}
    pairs = {ours: theirs for theirs, ours in spine_of.items()}
    source = {"time": table.time}
    return [look_up(entry, row, row[time], table.rows, source, keys=pairs, columns=columns) for row in rows]


def at_events(
    project: Mapping[str, Any],
    spec: Mapping[str, Any],
    rows: Sequence[Row],
    spine_of: Mapping[str, str],
    time: str,
) -> list[Row]:
    """Windows, look-ups and derived columns as if each row were a row of the table."""
    source, events = origin(project, spec["source"])
    keys = list(spec["keys"])
    groups = by_key(events, keys, source["time"])
    outputs = [output for entry in spec.get("aggregate", []) for output in expand(entry, spec)]
    asked = [(entry, *origin(project, entry["from"])) for entry in spec.get("lookup", [])]
    known = source_columns(project, spec["source"])
    made = []
    for spine in rows:
        # what the table's own row would hold, where the spine has it
        seen = {column: spine[column] for column in known if column in spine}
        seen |= {key: spine[spine_of[key]] for key in keys} | {source["time"]: spine[time]}
        at = spine[time]
        whose = identity(seen, keys)
        mine = None if whose is None else groups.get(whose, [])  # a key without events has empty windows
        for output in outputs:
            seen[output.name] = window_value(output, at, mine, source)
        for entry, right, candidates in asked:
            pairs = look_up_keys(project, entry, keys)
            if any(column not in seen for column in pairs):
                continue
            got = look_up(entry, seen, at, candidates, right, keys=pairs, columns=entry["columns"])
            seen.update({f"{entry.get('prefix', '')}{column}": value for column, value in got.items()})
        for column, expression in spec.get("derive", {}).items():
            try:
                seen[column] = derived(expression, seen)
            except KeyError:  # made from something that the spine does not have
                seen.pop(column, None)
        made.append(seen)
    return made


def source_columns(project: Mapping[str, Any], name: str) -> list[str]:
    """Columns of a source or table, of all its rows."""
    _, rows = origin(project, name)
    return list(dict.fromkeys(column for row in rows for column in row))


# ---------------------------------------------------------------- labels


def add_label(
    project: Mapping[str, Any],
    label: Mapping[str, Any],
    found: Expected,
    rows: Sequence[Row],
    time: str,
    keys: Sequence[str],
) -> None:
    """A column of the spine, or an aggregate of what happens from ``t + gap`` on, for ``horizon``."""
    if "source" not in label:
        name = label.get("as", label["column"])
        values = [row[label["column"]] for row in rows]
    else:
        name = label.get("as", "label")
        values = later(project, label, rows, time, keys)
    for row, value in zip(found.rows, values, strict=True):
        row[name] = value
        if "derive" in label:
            row[name] = derived(label["derive"], row)
    if name not in found.columns:
        found.columns.append(name)


def later(
    project: Mapping[str, Any], label: Mapping[str, Any], rows: Sequence[Row], time: str, keys: Sequence[str]
) -> list[Any]:
    """Value of a label's window for each row."""
    source, events = origin(project, label["source"])
    given = label.get("keys", list(keys))
    pairs = dict(given) if isinstance(given, Mapping) else {key: key for key in listed(given)}
    gap, horizon = duration(label.get("gap", "0s")) or 0, duration(label["horizon"]) or 0
    end = latest_time(project, label["source"])
    values = []
    for row in rows:
        at = row[time]
        if at is None or any(row[ours] is None for ours in pairs):
            values.append(None)
            continue
        start = at + gap
        if end is None or start + horizon > end:  # not over yet
            values.append(None)
            continue
        inside = [
            event
            for event in events
            if event[source["time"]] is not None
            and start <= event[source["time"]] < start + horizon
            and all(
                event[theirs] is not None and same(event[theirs], row[ours]) for ours, theirs in pairs.items()
            )
            and (label.get("where") is None or label["where"](event) is True)
        ]
        values.append(summary(label, inside, source, start + horizon))
    return values


def latest_time(project: Mapping[str, Any], name: str) -> int | None:
    """How far the data of a source reaches: the latest time of any raw row, whatever ``where`` leaves out."""
    if name in project["features"]:
        _, rows = origin(project, name)
        times = [row[evaluate(project, name).time] for row in rows]
    else:
        source = project["sources"][name]
        zone = source.get("timezone", "UTC")
        times = [microseconds(row[source["time"]], zone) for row in source["rows"]]
    return max((moment for moment in times if moment is not None), default=None)


def summary(label: Mapping[str, Any], rows: Sequence[Row], source: Mapping[str, Any], at: int) -> Any:
    """The aggregate of the events of a label's window."""
    op, params = (label["op"], {}) if isinstance(label["op"], str) else next(iter(label["op"].items()))
    column, other = label.get("column"), params.get("of")
    if column is not None:
        rows = [row for row in rows if row[column] is not None]
    if not rows and "fill_empty" in label:
        return label["fill_empty"]

    def of(ordered: Sequence[Row]) -> Any:
        cells = [
            (row[source["time"]], row[column] if column else None, row[other] if other else None)
            for row in ordered
        ]
        return aggregate(op, params, cells, at)

    if op in ORDERED:
        return any_of(of(ordered) for ordered in orders(rows, source))
    return of(sorted(rows, key=lambda row: rank(row, source)))


# ---------------------------------------------------------------- splits


def split_of(split: Mapping[str, Any], row: Row, time: str) -> str:
    """Split of a row, by time or by column; by keys, group and random are a matter of hashes."""
    settings = ("by", "column", "embargo", "stratify", "folds", "seed")
    parts = {name: part for name, part in split.items() if name not in settings}
    if split["by"] == "column":
        value = row[split["column"]]
        names = parts or {name: name for name in ("train", "valid", "test")}
        chosen = (name for name, part in names.items() if part == "rest" or value in listed(part))
        return next(chosen, EMBARGOED)
    moment = row[time]
    if moment is None:
        return EMBARGOED
    embargo = duration(split.get("embargo", "0s")) or 0
    for name, part in parts.items():
        if part == "rest":
            return name
        end = microseconds(part.removeprefix("<").strip())
        assert end is not None
        if moment < end:
            return name if moment + embargo <= end else EMBARGOED
    return EMBARGOED


# ---------------------------------------------------------------- comparison


def dataset_differences(
    expected: Expected,
    actual: Sequence[Mapping[str, Any]],
    *,
    tolerance: float = 1e-9,
    ignore: Sequence[str] = (),
    limit: int = 10,
) -> list[str]:
    """What is different, row by row in the spine's order, in words; nothing if the datasets are equal."""
    if len(actual) != len(expected.rows):
        return [f"{len(expected.rows)} rows expected, got {len(actual)}"]
    found = []
    names = {name for row in actual for name in row} - set(ignore)
    if actual and names != set(expected.columns):
        missing, extra = sorted(set(expected.columns) - names), sorted(names - set(expected.columns))
        found.append(f"columns: missing {missing}, not expected {extra}")
    for number, (row, other) in enumerate(zip(expected.rows, actual, strict=True)):
        plain = {name: plain_value(value) for name, value in other.items()}
        apart = cells_apart(row, plain, tolerance)
        if apart:
            found.append(f"row {number} {row}: " + "; ".join(apart))
    return found if len(found) <= limit else [*found[:limit], f"and {len(found) - limit} more"]
