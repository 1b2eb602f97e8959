"""Stored tables for people and for ``--json``: what is there, what is in it, how it came to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featureflow.core.types import type_name
from featureflow.observe.terminal import Paint, table, wrap
from featureflow.observe.units import count, moment, plural, size, value

if TYPE_CHECKING:
    import polars as pl

    from featureflow.tables.history import Entry
    from featureflow.tables.table import Table
    from featureflow.tables.versions import Version

#: No more columns of a sample than this are printed side by side.
_SAMPLE_COLUMNS = 12


def describe_version(found: Table) -> dict[str, Any]:
    """Describe a version in a line: size, age, tags, who made it from what."""
    record = found.record
    author = record.get("author") or {}
    return {
        **_facts(found.name, found.state.info, found.tags),
        "columns": len(found.schema),
        "description": record.get("description"),
        "change": record.get("change"),
        "reason": record.get("reason"),
        "engine": record.get("engine"),
        "by": author.get("user"),
        "git": author.get("commit"),
    }


def describe_entry(name: str, entry: Entry) -> dict[str, Any]:
    """Describe a line of a table's history."""
    return {**_facts(name, entry.info, list(entry.tags)), "expired": entry.expired}


def _facts(name: str, info: Version, tags: list[str]) -> dict[str, Any]:
    return {
        "table": name,
        "version": info.version,
        "published": info.published,
        "operation": info.operation,
        "rows": info.rows,
        "bytes": info.bytes,
        "files": info.files,
        "definition_hash": info.definition_hash,
        "build": info.build,
        "tags": tags,
    }


def describe_stored(found: Table) -> dict[str, Any]:
    """Describe one version in full: schema, statistics, inputs, definition."""
    record = found.record
    statistics = record.get("statistics", {})
    return {
        **describe_version(found),
        "owner": record.get("owner"),
        "url": found.url,
        "keys": found.keys,
        "time": found.time,
        "partition": found.state.partition,
        "schema": [
            {"name": field.name, "type": type_name(field.type), **statistics.get(field.name, {})}
            for field in found.schema
        ],
        "lineage": record.get("lineage"),
        "inputs": record.get("inputs"),
        "definition": found.definition,
    }


def listing_text(
    versions: list[dict[str, Any]], store: str, *, limit: int = 100, paint: Paint | None = None
) -> str:
    """List the latest version of each table."""
    brush = paint or Paint()
    if not versions:
        return f"{store}: no tables yet"
    rows = [
        (
            entry["table"],
            str(entry["version"]),
            count(entry["rows"]),
            str(entry["columns"]),
            size(entry["bytes"]),
            moment(entry["published"]),
            ", ".join(entry["tags"]),
        )
        for entry in versions
    ]
    headers = ("table", "version", "rows", "columns", "size", "published (UTC)", "tags")
    styles = [("bold",)] * len(rows)
    return "\n".join(table(rows, headers, limit=limit, right=(1, 2, 3, 4), styles=styles, paint=brush))


def history_text(versions: list[dict[str, Any]], *, limit: int = 100, paint: Paint | None = None) -> str:
    """List versions of one table, the latest first; a star marks where the definition changed."""
    rows = []
    for position, entry in enumerate(versions):
        older = versions[position + 1] if position + 1 < len(versions) else None
        changed = older is not None and older["definition_hash"] != entry["definition_hash"]
        rows.append(
            (
                str(entry["version"]),
                moment(entry["published"]),
                count(entry["rows"]),
                "" if older is None else f"{entry['rows'] - older['rows']:+,}",
                size(entry["bytes"]),
                entry["definition_hash"][:8] + ("*" if changed else ""),
                entry["build"],
                ", ".join([*entry["tags"], *_remarks(entry)]),
            )
        )
    headers = ("version", "published (UTC)", "rows", "more", "size", "definition", "build", "tags")
    styles = [("dim",) if entry["expired"] else ("bold",) for entry in versions]
    lines = table(rows, headers, limit=limit, right=(0, 2, 3, 4), styles=styles, paint=paint)
    if any(row[5].endswith("*") for row in rows):
        lines += ["", "* another definition than the version before"]
    return "\n".join(lines)


def _remarks(entry: dict[str, Any]) -> list[str]:
    restored = ["(restored)"] if entry["operation"] == "restore" else []
    return restored + (["(expired)"] if entry["expired"] else [])


def stored_text(
    entry: dict[str, Any], sample: pl.DataFrame | None, *, limit: int = 100, paint: Paint | None = None
) -> str:
    """Show one version: what it is, its columns with their statistics, a few rows."""
    brush = paint or Paint()
    tags = f"   tags {', '.join(entry['tags'])}" if entry["tags"] else ""
    lines = [brush(f"{entry['table']}@{entry['version']}", "bold") + brush(tags, "cyan")]
    facts = [
        plural(entry["rows"], "row"),
        size(entry["bytes"]) + f" in {plural(entry['files'], 'file')}",
        f"published {moment(entry['published'])} UTC",
        f"keys {', '.join(entry['keys']) or 'none'}",
        *([f"time {entry['time']}"] if entry["time"] else []),
        f"partition {entry['partition']}",
        f"definition {entry['definition_hash'][:12]}",
        f"build {entry['build']}",
    ]
    facts += [f"by {entry['by']}"] if entry["by"] else []
    facts += [f"git {entry['git'][:10]}"] if entry["git"] else []
    facts += [entry["engine"]] if entry["engine"] else []
    lines += wrap(f"  {entry['description']}", limit, "  ") if entry["description"] else []
    lines += wrap("  " + " · ".join(facts), limit, "  ")
    lines += [f"  {entry['url']}", ""]
    rows = [
        (
            column["name"],
            column["type"],
            _share(column.get("nulls"), entry["rows"]),
            _statistic(column.get("min")),
            _statistic(column.get("mean")),
            _statistic(column.get("max")),
        )
        for column in entry["schema"]
    ]
    headers = ("column", "type", "nulls", "min", "mean", "max")
    lines += table(rows, headers, limit=limit, right=(2, 3, 4, 5), paint=brush, indent="  ")
    if sample is not None and sample.height:
        lines += ["", *sample_lines(sample, limit=limit, paint=brush)]
    return "\n".join(lines)


def sample_lines(sample: pl.DataFrame, *, limit: int = 100, paint: Paint | None = None) -> list[str]:
    """Lay out rows of a table; columns that do not fit are counted in the last line."""
    names, used = sample.columns, 0
    kept: list[str] = []
    cells = {name: [value(item) for item in sample[name].to_list()] for name in names}
    for name in names[:_SAMPLE_COLUMNS]:
        wide = min(26, max(len(name), *(len(text) for text in cells[name])))
        if kept and used + wide + 2 > limit - 2:
            break
        kept.append(name)
        used += wide + 2
    numeric = [i for i, name in enumerate(kept) if sample.schema[name].is_numeric()]
    rows = [[cells[name][i] for name in kept] for i in range(sample.height)]
    lines = table(rows, kept, limit=limit, right=numeric, paint=paint, indent="  ")
    left = len(names) - len(kept)
    return lines + ([f"  … and {plural(left, 'more column', 'more columns')}"] if left else [])


def _share(nulls: int | None, rows: int) -> str:
    if nulls is None:
        return ""
    if not nulls or not rows:
        return str(nulls)
    share = nulls / rows
    return "all" if nulls == rows else f"{share:.1%}" if share >= 0.001 else count(nulls)


def _statistic(given: Any) -> str:
    if given is None:
        return ""
    if isinstance(given, str) and given.endswith("Z") and given[4:5] == "-":
        return moment(given)
    return value(given)
