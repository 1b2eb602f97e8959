"""Compiled tables and datasets for people and for ``compile --json``: columns, types, and what each comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from featureflow.core.types import type_name
from featureflow.observe.datasets import deciding_columns
from featureflow.observe.grids import grid_definition_facts
from featureflow.observe.terminal import Paint, clip, table, wrap
from featureflow.observe.units import plural

if TYPE_CHECKING:
    from featureflow.plan.dataset_nodes import CompiledDataset, Use
    from featureflow.plan.nodes import CompiledTable


def describe_definition(compiled: CompiledTable) -> dict[str, Any]:
    """Describe a compiled table as JSON values: what it reads, its columns, its hash."""
    keys, features = set(compiled.keys), {feature.name for feature in compiled.features}
    derived = {column.name for column in compiled.derived}
    looked_up = {name for lookup in compiled.lookups for _, name in lookup.columns}

    def role(name: str) -> str:
        if name in keys:
            return "key"
        if name == compiled.time:
            return "time"
        if name in features:
            return "window"
        if name in looked_up:
            return "look-up"
        return "derived" if name in derived else "kept"

    return {
        "name": compiled.name,
        "kind": "table",
        "source": {"kind": compiled.source.kind, "name": compiled.source.name},
        "lookups": [{"kind": item.right.kind, "name": item.right.name} for item in compiled.lookups],
        "keys": list(compiled.keys),
        "time": compiled.time,
        "partition": compiled.partition,
        "windows": [window.text for window in compiled.windows],
        "definition_hash": compiled.definition_hash,
        "columns": [
            {
                "name": field.name,
                "type": type_name(field.type),
                "role": role(field.name),
                "from": list(compiled.lineage.get(field.name, ())),
            }
            for field in compiled.schema
        ],
    }


def describe_dataset_definition(compiled: CompiledDataset) -> dict[str, Any]:
    """Describe a compiled dataset as JSON values: its spine, what is joined with it, its columns, its hash.

    Columns that encoders make are not among them: how many they are is known once they are fitted.
    """
    spec, split = compiled.spec, compiled.spec.split
    deciding = [] if split is None else deciding_columns(split, compiled.keys, compiled.time)
    added: list[tuple[str, str, str, list[str]]] = []
    if split is not None:
        added += [("split", "string", "split", deciding)]
        added += [("fold", "int32", "fold", deciding)] if split.folds else []
    if spec.sample is not None:
        added.append((spec.sample.weight, "float64", "weight", [spec.sample.column]))
    columns = [
        {
            "name": field.name,
            "type": type_name(field.type),
            "role": _dataset_role(field.name, compiled),
            "from": list(compiled.lineage.get(field.name, ())),
        }
        for field in compiled.schema
    ]
    for name, kind, role, sources in added:
        origins = dict.fromkeys(one for source in sources for one in compiled.lineage.get(source, ()))
        if name not in compiled.schema.names:  # `by: column` takes one that is there
            columns.append({"name": name, "type": kind, "role": role, "from": list(origins)})
    return {
        "name": compiled.name,
        "kind": "dataset",
        "spine": {"kind": compiled.spine.kind, "name": compiled.spine.name, "where": compiled.where},
        "keys": list(compiled.keys),
        "time": compiled.time,
        "features": [
            {"table": use.table, "how": _how(use), "columns": [final for _, final in use.outputs]}
            for use in compiled.uses
        ],
        "lookups": [{"kind": item.right.kind, "name": item.right.name} for item in compiled.lookups],
        "labels": [
            {
                "name": label.name,
                "source": label.windows.right.name if label.windows else None,
                "column": label.column,
            }
            for label in compiled.labels
        ],
        "split": None if split is None else {"by": split.by, "parts": list(split.parts)},
        "encoded": list(dict.fromkeys(name for entry in spec.encode for name in entry.columns)),
        "definition_hash": compiled.definition_hash,
        "notices": list(compiled.notices),
        "columns": columns,
    }


def _dataset_role(name: str, compiled: CompiledDataset) -> str:
    if name in compiled.keys:
        return "key"
    if name == compiled.time:
        return "time"
    if name in {label.name for label in compiled.labels}:
        return "label"
    split = compiled.spec.split
    if split is not None and split.by == "column" and name == split.column:
        return "split"
    return "feature" if name in compiled.features else "kept"


def _how(use: Use) -> str:
    """How a table's features are found: at the spine's own times, or in its latest row."""
    if use.windows is not None:
        return "evaluated"
    return "latest row" if use.lookups else "computed"


def definitions_text(
    described: Iterable[dict[str, Any]], *, limit: int = 100, paint: Paint | None = None
) -> str:
    """Write described tables and datasets for people, one after the other."""
    brush = paint or Paint()
    blocks = []
    for entry in described:
        kind = entry.get("kind", "table")
        head = brush(entry["name"], "bold") + ("" if kind == "table" else f"   {kind}")
        head += brush(f"   definition {entry['definition_hash'][:12]}", "dim")
        facts = _FACTS[kind](entry)
        lines = [head, *wrap("  " + " · ".join(facts), limit, "  "), ""]
        headers, rows = _columns(entry)
        lines += table(rows, headers, limit=limit, paint=brush, indent="  ")
        for notice in entry.get("notices", ()):
            lines += wrap(f"  · {notice}", limit, "    ")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _columns(entry: dict[str, Any]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Headers and rows of what an entry has."""
    if entry.get("kind") == "grid":
        rows = [
            (c["name"], c["type"], ", ".join(c["dims"]), c["units"] or "-", ", ".join(c["from"]))
            for c in entry["columns"]
        ]
        return ("variable", "type", "dimensions", "units", "comes from"), rows
    columns = [(c["name"], c["type"], c["role"], ", ".join(c["from"])) for c in entry["columns"]]
    return ("column", "type", "what", "comes from"), columns


def _table_facts(entry: dict[str, Any]) -> list[str]:
    reads = [entry["source"]["name"], *(f"{item['name']} (look-up)" for item in entry["lookups"])]
    facts = [f"from {', '.join(dict.fromkeys(reads))}", f"keys {', '.join(entry['keys']) or 'none'}"]
    facts += [f"time {entry['time']}"] if entry["time"] else []
    return [*facts, f"partition {entry['partition']}", plural(len(entry["columns"]), "column")]


def _dataset_facts(entry: dict[str, Any]) -> list[str]:
    spine = entry["spine"]
    facts = [f"rows of {spine['name']}" + (f" where {spine['where']}" if spine["where"] else "")]
    facts += [f"keys {', '.join(entry['keys']) or 'none'}"]
    facts += [f"time {entry['time']}"] if entry["time"] else []
    facts += [f"{one['table']} ({one['how']})" for one in entry["features"]]
    facts += [f"{one['name']} (look-up)" for one in entry["lookups"]]
    for label in entry["labels"]:
        facts.append(f"label {label['name']}" + (f" from {label['source']}" if label["source"] else ""))
    if entry["split"]:
        facts.append(f"split by {entry['split']['by']}: {', '.join(entry['split']['parts'])}")
    facts += [f"encoded: {', '.join(entry['encoded'])}"] if entry["encoded"] else []
    return [*facts, plural(len(entry["columns"]), "column")]


_FACTS = {"table": _table_facts, "dataset": _dataset_facts, "grid": grid_definition_facts}


def lineage_text(
    name: str, columns: dict[str, list[str]], *, limit: int = 100, paint: Paint | None = None
) -> str:
    """Draw what each column of a table comes from."""
    brush = paint or Paint()
    lines = [brush(name, "bold")]
    for position, (column, origins) in enumerate(columns.items()):
        last = position == len(columns) - 1
        lines.append(f"{'└─' if last else '├─'} {column}")
        stem = "   " if last else "│  "
        for number, origin in enumerate(origins):
            branch = "└─" if number == len(origins) - 1 else "├─"
            lines.append(brush(clip(f"{stem}{branch} {origin}", limit), "dim"))
        if not origins:
            lines.append(brush(f"{stem}└─ no column: counts rows, or is constant", "dim"))
    return "\n".join(lines)
