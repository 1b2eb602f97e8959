"""Stored tables and datasets for people and for ``--json``: what is there, what is in it, how it came to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from featureflow.core.roles import Roles
from featureflow.core.types import type_name
from featureflow.observe.datasets import ENCODED, column_role, dataset_lines, describe_dataset, is_dataset
from featureflow.observe.stored_grids import (
    describe_grid_version,
    describe_variables,
    grid_lines,
    grid_size,
    sizes_line,
)
from featureflow.observe.terminal import Paint, table, wrap
from featureflow.observe.units import count, moment, plural, size, value
from featureflow.tables.state import read_state

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
        **_facts(found, found.state.info, found.tags),
        **_size_of_grid(found),
        "columns": len(found.schema),
        "description": record.get("description"),
        "change": record.get("change"),
        "reason": record.get("reason"),
        "engine": record.get("engine"),
        "by": author.get("user"),
        "git": author.get("commit"),
    }


def describe_entry(found: Table, entry: Entry) -> dict[str, Any]:
    """Describe a line of the history of a table or dataset, of which ``found`` is any version.

    Of a grid the version's own record is read, which says how large its arrays are.
    """
    facts = _facts(found, entry.info, list(entry.tags))
    if found.is_grid and not entry.expired:
        facts |= _size_of_grid(replace(found, state=read_state(found.url, entry.info)))
    return {**facts, "expired": entry.expired}


def kind_of(found: Table) -> str:
    """Whether a stored version is a ``table``'s (rows), a ``grid``'s (arrays) or a ``dataset``'s."""
    if is_dataset(found.record):
        return "dataset"
    return "grid" if found.is_grid else "table"


def room_of(found: Table) -> str:
    """Whether a stored version is among the tables, as grids are, or the datasets: ``table`` or ``dataset``."""
    return "dataset" if is_dataset(found.record) else "table"


def named(found: Table) -> dict[str, str]:
    """Name of a stored version, as every JSON value begins: ``{"table": …}`` (also a grid's) or ``{"dataset": …}``."""
    return {room_of(found): found.name}


def _size_of_grid(found: Table) -> dict[str, Any]:
    return grid_size(found) if found.is_grid else {}


def _facts(found: Table, info: Version, tags: list[str]) -> dict[str, Any]:
    return {
        **named(found),
        "kind": kind_of(found),
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
    """Describe one version in full: schema, statistics, inputs, definition; of a dataset also splits and roles."""
    record = found.record
    statistics = record.get("statistics", {})
    special = describe_dataset(record) if is_dataset(record) else {}
    roles = Roles.from_json(special["roles"]) if special else Roles()
    encoded = frozenset(one["column"] for one in special.get("encoders", ()))
    return {
        **describe_version(found),
        **special,
        "owner": record.get("owner"),
        "url": found.url,
        "keys": found.keys,
        "time": found.time,
        "partition": found.state.partition,
        **({"grid": describe_grid_version(found)} if found.is_grid else {}),
        "schema": describe_variables(found)
        if found.is_grid
        else [
            {
                "name": field.name,
                "type": type_name(field.type),
                **({"role": column_role(field.name, roles, encoded)} if special else {}),
                **statistics.get(field.name, {}),
            }
            for field in found.schema
        ],
        "lineage": record.get("lineage"),
        "inputs": record.get("inputs"),
        "definition": found.definition,
    }


def listing_text(
    versions: Iterable[dict[str, Any]], store: str, *, limit: int = 100, paint: Paint | None = None
) -> str:
    """List the latest version of each table and dataset."""
    brush = paint or Paint()
    entries = list(versions)
    if not entries:
        return f"{store}: no tables yet"
    grids = [entry for entry in entries if entry["kind"] == "grid"]
    rows = [entry for entry in entries if entry["kind"] != "grid"]
    lines = _listed(rows, "rows", "columns", limit, brush) if rows else []
    lines += [""] if rows and grids else []
    lines += _listed(grids, "dimensions", "vars", limit, brush) if grids else []
    return "\n".join(lines)


def _listed(entries: list[dict[str, Any]], extent: str, columns: str, limit: int, brush: Paint) -> list[str]:
    rows = [
        (
            _name(entry),
            entry["kind"],
            str(entry["version"]),
            sizes_line(entry["dims"]) if "dims" in entry else count(entry["rows"]),
            str(entry["columns"]),
            size(entry["bytes"]),
            moment(entry["published"]),
            ", ".join(entry["tags"]),
        )
        for entry in entries
    ]
    headers = ("name", "kind", "version", extent, columns, "size", "published (UTC)", "tags")
    right = (2, 4, 5) if extent == "dimensions" else (2, 3, 4, 5)
    return table(rows, headers, limit=limit, right=right, styles=[("bold",)] * len(rows), paint=brush)


def _name(entry: dict[str, Any]) -> str:
    return str(entry["dataset" if entry["kind"] == "dataset" else "table"])


def _rows_text(entry: dict[str, Any]) -> str:
    return plural(entry["chunks"], "chunk") if "chunks" in entry else count(entry["rows"])


def history_text(versions: list[dict[str, Any]], *, limit: int = 100, paint: Paint | None = None) -> str:
    """List versions of one table or dataset, the latest first; a star marks where the definition changed."""
    rows = []
    for position, entry in enumerate(versions):
        older = versions[position + 1] if position + 1 < len(versions) else None
        changed = older is not None and older["definition_hash"] != entry["definition_hash"]
        rows.append(
            (
                str(entry["version"]),
                moment(entry["published"]),
                _rows_text(entry),
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
    entry: dict[str, Any],
    sample: pl.DataFrame | None,
    balance: Mapping[str, Any] | None = None,
    *,
    limit: int = 100,
    paint: Paint | None = None,
) -> str:
    """Show one version: what it is, its columns with their statistics, a few rows.

    Parameters
    ----------
    balance
        Of a dataset, how its labels are distributed in each split; None where that is not known.
    """
    brush = paint or Paint()
    special = entry["kind"] == "dataset"
    tags = f"   tags {', '.join(entry['tags'])}" if entry["tags"] else ""
    head = brush(f"{_name(entry)}@{entry['version']}", "bold")
    kind = "" if entry["kind"] == "table" else f"   {entry['kind']}"
    lines = [head + kind + brush(tags, "cyan")]
    lines += wrap(f"  {entry['description']}", limit, "  ") if entry["description"] else []
    lines += wrap("  " + " · ".join(_facts_of(entry)), limit, "  ")
    lines += [f"  {entry['url']}", ""]
    if special:
        lines += [*dataset_lines(entry, balance, limit=limit, paint=brush), ""]
    if "grid" in entry:
        return "\n".join([*lines, *grid_lines(entry, limit, brush)])  # a sample would be of chunks
    lines += _column_lines(entry, limit, brush, roles=special)
    if sample is not None and sample.height:
        lines += ["", *sample_lines(sample, limit=limit, paint=brush)]
    return "\n".join(lines)


def _facts_of(entry: dict[str, Any]) -> list[str]:
    grid = entry.get("grid")
    facts = [
        *(
            [sizes_line(entry["dims"]), plural(entry["chunks"], "chunk"), f"{size(entry['bytes'])} of values"]
            if grid
            else [plural(entry["rows"], "row"), f"{size(entry['bytes'])} in {plural(entry['files'], 'file')}"]
        ),
        f"published {moment(entry['published'])} UTC",
        *([] if grid else [f"keys {', '.join(entry['keys']) or 'none'}"]),
        *([f"time {entry['time']}"] if entry["time"] else []),
        *([f"partition {entry['partition']}"] if entry["kind"] == "table" else []),
        f"definition {entry['definition_hash'][:12]}",
        f"build {entry['build']}",
    ]
    facts += [f"by {entry['by']}"] if entry["by"] else []
    facts += [f"git {entry['git'][:10]}"] if entry["git"] else []
    return facts + ([entry["engine"]] if entry["engine"] else [])


def _column_lines(entry: dict[str, Any], limit: int, brush: Paint, *, roles: bool) -> list[str]:
    rows = [
        (
            column["name"].removesuffix(ENCODED) if roles else column["name"],
            column["type"],
            *([column["role"]] if roles else []),
            _share(column.get("nulls"), entry["rows"]),
            _statistic(column.get("min")),
            _statistic(column.get("mean")),
            _statistic(column.get("max")),
        )
        for column in entry["schema"]
    ]
    headers = ("column", "type", *(["role"] if roles else []), "nulls", "min", "mean", "max")
    right = range(len(headers) - 4, len(headers))
    return table(rows, headers, limit=limit, right=right, paint=brush, indent="  ")


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
    if isinstance(given, bool):
        return str(given).lower()
    return value(given)
