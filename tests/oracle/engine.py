"""A feature table, computed by brute force from the words of the spec language: plain Python.

``evaluate(project, table)`` reads the same mapping that a YAML file holds, with two changes: a source has ``rows``
in place of ``path``, and every SQL expression is a callable of one row. Nothing here is fast, cached or shared with
the engine: for each output row, all rows of the source are asked whether they are in the window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oracle.aggregates import aggregate
from oracle.lookups import look_up
from oracle.rows import AnyOf, Row, any_of, duration, floor, nan_to_none, orders, rank, read, same, ticks

# Aggregations that see the order of the rows: the only ones where a tie that a hash decides can show.
ORDERED = {"first", "last", "first_k", "last_k", "argmax", "argmin"}


Identity = tuple[tuple[bool, Any], ...]


@dataclass
class Table:
    """Expected rows of a feature table.

    Parameters
    ----------
    columns
        Output columns: keys, time, ``keep``, aggregates, look-ups, derived.
    rows
        Expected rows; in the source's order for ``at: events``, by tick and key otherwise. The order is not part
        of the contract. A value that only a row hash decides is an `AnyOf`.
    keys, time
        Names of the key columns and of the time column.
    """

    columns: list[str]
    rows: list[Row]
    keys: list[str]
    time: str


@dataclass(frozen=True)
class Output:
    """One output column of an ``aggregate`` entry."""

    name: str
    op: str
    params: Mapping[str, Any]
    window: str
    entry: Mapping[str, Any]
    value: Any = None  # of the `by` column


def evaluate(project: Mapping[str, Any], name: str) -> Table:
    """Expected content of one feature table of a project."""
    spec = project["features"][name]
    source, events = origin(project, spec["source"])
    time, keys = source["time"], list(spec.get("keys", []))
    outputs = [output for entry in spec.get("aggregate", []) for output in expand(entry, spec)]
    keep = list(spec.get("keep", []))
    columns = [
        *keys,
        time,
        *[c for c in keep if c not in (*keys, time)],
        *[output.name for output in outputs],
    ]
    own = by_key(events, keys, time)
    asked = [(entry, *origin(project, entry["from"])) for entry in spec.get("lookup", [])]
    rows = []
    for seen, at in places(spec, keys, time, outputs, events):
        row = dict(seen)
        for output in outputs:
            row[output.name] = window_value(output, at, own.get(identity(seen, keys)), source)
        for entry, right, candidates in asked:
            matched = look_up_keys(project, entry, keys)
            found = look_up(entry, row, at, candidates, right, keys=matched, columns=entry["columns"])
            row.update({f"{entry.get('prefix', '')}{column}": value for column, value in found.items()})
        for column, expression in spec.get("derive", {}).items():
            row[column] = derived(expression, row)
        rows.append(row)
    for entry in spec.get("lookup", []):
        columns += [f"{entry.get('prefix', '')}{column}" for column in entry["columns"]]
    columns += [column for column in spec.get("derive", {}) if column not in columns]
    return Table(columns, [{column: row[column] for column in columns} for row in rows], keys, time)


def origin(project: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], list[Row]]:
    """A source, or a feature table in the role of one: its ``time``/``created``/``sequence`` and its rows."""
    if name in project.get("sources", {}):
        return project["sources"][name], read(project["sources"][name])
    table = evaluate(project, name)
    return {"time": table.time, "keys": table.keys, "columns": table.columns}, table.rows


# ---------------------------------------------------------------- where a table has rows


def places(
    spec: Mapping[str, Any], keys: Sequence[str], time: str, outputs: Sequence[Output], events: Sequence[Row]
) -> list[tuple[Row, int | None]]:
    """Output rows before anything is computed: what they see of the source, and their time."""
    at = spec.get("at", "events")
    if at == "events":
        return [(row, row[time]) for row in events]
    entities = by_key(events, keys, time).values()
    return [
        ({**{key: mine[0][key] for key in keys}, time: tick}, tick)
        for tick in ticks(at, [row[time] for row in events if row[time] is not None])
        for mine in entities
        if any(inside(row[time], tick, output) for output in outputs for row in mine)
    ]


def identity(row: Row, keys: Sequence[str]) -> Identity | None:
    """The keys of a row, to compare; None if one is null, which is equal to nothing. True is not 1."""
    if any(row[key] is None for key in keys):
        return None
    return tuple((isinstance(row[key], bool), row[key]) for key in keys)


def by_key(events: Sequence[Row], keys: Sequence[str], time: str) -> dict[Identity | None, list[Row]]:
    """Events with a key and a time, of each key."""
    groups: dict[Identity | None, list[Row]] = {}
    for row in events:
        if identity(row, keys) is not None and row[time] is not None:
            groups.setdefault(identity(row, keys), []).append(row)
    return groups


# ---------------------------------------------------------------- windows


def expand(entry: Mapping[str, Any], spec: Mapping[str, Any]) -> list[Output]:
    """Every output column of one ``aggregate`` entry, named as the contract says.

    ``closed``, ``delay`` and ``tail_hop`` of the entry win over those of ``window:``, and its ``fill_empty`` over
    the table's.
    """
    settings = {**spec.get("window", {}), **entry}
    if "fill_empty" in spec:
        settings.setdefault("fill_empty", spec["fill_empty"])
    outputs = []
    for op in entry["ops"]:
        kind, params = (op, {}) if isinstance(op, str) else next(iter(op.items()))
        for length in entry["windows"]:
            values = entry["values"] if entry.get("by") is not None else [None]
            names = [(named(entry, kind, params, length, value), value) for value in values]
            outputs += [Output(name, kind, params, length, settings, value) for name, value in names]
    return outputs


def named(entry: Mapping[str, Any], kind: str, params: Mapping[str, Any], length: str, value: Any) -> str:
    """``{column}_{op}_{window}`` or ``{op}_{window}`` or the entry's ``as``; with ``by``, ``__{value}`` after it."""
    label = kind
    if kind in ("quantile", "approx_quantile"):
        # 0.95 is p95, and 0.999 is p99_9
        percent = f"{100 * params['q']:.10g}".replace(".", "_")
        label = f"p{percent}" if kind == "quantile" else f"approx_p{percent}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter == "_") else "_" for letter in text
    )
    suffix = "" if entry.get("by") is None else f"__{text}"
    if entry.get("as"):
        if "{value}" in entry["as"]:
            suffix = ""
        own = entry["as"].format(column=entry.get("column", ""), op=label, window=length, value=text)
        return f"{own}{suffix}"
    stem = f"{label}_{length}" if entry.get("column") is None else f"{entry['column']}_{label}_{length}"
    return f"{stem}{suffix}"


def inside(moment: int, at: int, output: Output) -> bool:
    """Whether an event is in the window of a row at ``at``: four comparisons for four kinds of ends."""
    end = at - (duration(output.entry.get("delay", "0s")) or 0)
    closed = output.entry.get("closed", "left")
    before_end = moment <= end if closed in ("right", "both") else moment < end
    length = duration(output.window)
    if length is None:
        return before_end
    start = end - length
    if output.entry.get("tail_hop") is not None:
        hop = duration(output.entry["tail_hop"])
        start = floor(start, hop) if hop else start
    after_start = moment >= start if closed in ("left", "both") else moment > start
    return after_start and before_end


def window_value(output: Output, at: int | None, own: Sequence[Row] | None, source: Mapping[str, Any]) -> Any:
    """Value of one aggregate at one row, of the events of its key.

    Null for a row without a key or a time, ``count`` too.
    """
    if at is None or own is None:
        return None
    entry = output.entry
    rows = [
        row
        for row in own
        if inside(row[source["time"]], at, output)
        and (entry.get("where") is None or entry["where"](row) is True)
        and (
            entry.get("by") is None or (row[entry["by"]] is not None and same(row[entry["by"]], output.value))
        )
    ]
    column = entry.get("column")
    if column is not None:
        rows = [row for row in rows if row[column] is not None]
    if not rows and "fill_empty" in entry:
        return entry["fill_empty"]
    if output.op in ORDERED:
        return any_of(summary(output, ordered, source, at) for ordered in orders(rows, source))
    ordered = sorted(rows, key=lambda row: rank(row, source))
    return summary(output, ordered, source, at)


def summary(output: Output, rows: Sequence[Row], source: Mapping[str, Any], at: int) -> Any:
    """The aggregate of the rows of a window, in their order."""
    column, other = output.entry.get("column"), output.params.get("of")
    cells = [
        (row[source["time"]], row[column] if column else None, row[other] if other else None) for row in rows
    ]
    return aggregate(output.op, output.params, cells, at)


# ---------------------------------------------------------------- look-ups and derived columns


def look_up_keys(project: Mapping[str, Any], entry: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
    """Own column to column of the other side: as given, else the other table's keys, else this table's keys."""
    given = entry.get("keys")
    if isinstance(given, Mapping):
        return dict(given)
    if given is None and entry["from"] in project.get("features", {}):
        given = project["features"][entry["from"]].get("keys", [])
    return {name: name for name in (given if given is not None else keys)}


def derived(expression: Callable[[Row], Any], row: Row) -> Any:
    """A derived column; where the row has open values, all results that they allow."""
    rows = [row]
    for name, value in row.items():
        if isinstance(value, AnyOf):
            rows = [{**one, name: choice} for one in rows for choice in value.choices]
    return any_of(nan_to_none(expression(one)) for one in rows)
