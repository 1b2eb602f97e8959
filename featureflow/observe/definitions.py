"""Compiled tables for people and for ``compile --json``: columns, types, and what each comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from featureflow.core.types import type_name
from featureflow.observe.terminal import Paint, clip, table, wrap
from featureflow.observe.units import plural

if TYPE_CHECKING:
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


def definitions_text(
    described: Iterable[dict[str, Any]], *, limit: int = 100, paint: Paint | None = None
) -> str:
    """Write described tables for people, one after the other."""
    brush = paint or Paint()
    blocks = []
    for entry in described:
        head = brush(entry["name"], "bold") + brush(f"   definition {entry['definition_hash'][:12]}", "dim")
        reads = [entry["source"]["name"], *(f"{item['name']} (look-up)" for item in entry["lookups"])]
        facts = [f"from {', '.join(dict.fromkeys(reads))}", f"keys {', '.join(entry['keys']) or 'none'}"]
        facts += [f"time {entry['time']}"] if entry["time"] else []
        facts += [f"partition {entry['partition']}", plural(len(entry["columns"]), "column")]
        lines = [head, *wrap("  " + " · ".join(facts), limit, "  "), ""]
        lines += table(
            [(c["name"], c["type"], c["role"], ", ".join(c["from"])) for c in entry["columns"]],
            ("column", "type", "what", "comes from"),
            limit=limit,
            paint=brush,
            indent="  ",
        )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


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
