"""The difference of two versions for people and for ``diff --json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from featureflow.observe.terminal import Paint, table
from featureflow.observe.units import count, moment, plural, value

if TYPE_CHECKING:
    from featureflow.tables.diff import Diff

_STATISTICS = ("nulls", "min", "max", "mean")
_SLICES_SHOWN = 6
_COLUMNS_SHOWN = 12


def describe_difference(found: Diff) -> dict[str, Any]:
    """Describe a difference as JSON values."""
    rows: dict[str, Any] = {"before": found.rows_before, "after": found.rows_after, "compared": None}
    if found.rows is not None:
        rows["compared"] = asdict(found.rows)
    return {
        "before": found.before,
        "after": found.after,
        "same": found.same,
        "definition": [asdict(change) for change in found.definition],
        "columns_added": list(found.columns_added),
        "columns_removed": list(found.columns_removed),
        "columns_changed": [
            {"name": name, "before": old, "after": new} for name, old, new in found.columns_changed
        ],
        "slices_changed": list(found.slices_changed),
        "slices_shared": found.slices_shared,
        "files": {"shared": found.files_shared, "added": found.files_added, "removed": found.files_removed},
        "rows": rows,
        **(_grid(found) if found.variables else {}),
        "statistics": [_statistics(row) for row in found.statistics.to_dicts()],
    }


def _grid(found: Diff) -> dict[str, Any]:
    """Of a grid: its sizes, and the chunks of each variable."""
    variables = [
        {
            "name": one.name,
            "shared": one.chunks_shared,
            "changed": one.chunks_changed,
            "added": one.chunks_added,
            "removed": one.chunks_removed,
        }
        for one in found.variables
    ]
    return {"sizes": {"before": found.sizes_before, "after": found.sizes_after}, "variables": variables}


def _statistics(row: dict[str, Any]) -> dict[str, Any]:
    names = ("count", *_STATISTICS)
    return {
        "column": row["column"],
        "before": {name: row[name] for name in names},
        "after": {name: row[f"{name}_after"] for name in names},
    }


def difference_text(entry: dict[str, Any], *, limit: int = 100, paint: Paint | None = None) -> str:
    """Write a described difference for people: definition, columns, rows, files, then statistics that moved."""
    brush = paint or Paint()
    lines = [brush(f"{entry['before']} → {entry['after']}", "bold")]
    if entry["same"]:
        return "\n".join([*lines, "  no difference"])
    lines += [
        f"  {brush('~', 'yellow')} {c['path']}: {_show(c['before'])} → {_show(c['after'])}"
        for c in entry["definition"]
    ]
    lines += [f"  {brush('+', 'green')} column {name}" for name in entry["columns_added"]]
    lines += [f"  {brush('-', 'red')} column {name}" for name in entry["columns_removed"]]
    lines += [
        f"  {brush('~', 'yellow')} column {c['name']}: {c['before']} → {c['after']}"
        for c in entry["columns_changed"]
    ]
    lines += ["", *_data_lines(entry)]
    gone = {*entry["columns_added"], *entry["columns_removed"]}
    moved = [item for item in entry["statistics"] if item["column"] not in gone]
    rows = _statistic_rows(moved[:_COLUMNS_SHOWN])
    if rows:
        headers = ("column", "", "before", "after")
        lines += ["", *table(rows, headers, limit=limit, right=(2, 3), paint=brush, indent="  ")]
    if len(moved) > _COLUMNS_SHOWN:
        lines.append(
            f"  … and {plural(len(moved) - _COLUMNS_SHOWN, 'more column', 'more columns')}; --json has all"
        )
    return "\n".join(lines)


def _grid_lines(entry: dict[str, Any]) -> list[str]:
    old, new = entry["sizes"]["before"], entry["sizes"]["after"]
    moved = [
        f"{dim} {old.get(dim, '(none)')} → {new.get(dim, '(none)')}"
        for dim in dict.fromkeys([*old, *new])
        if old.get(dim) != new.get(dim)
    ]
    lines = [f"  sizes   {', '.join(moved)}"] if moved else []
    return lines + [
        f"  chunks  {one['name']}: {one['shared']:,} shared, {one['changed']:,} changed, {one['added']:,} added, "
        f"{one['removed']:,} removed"
        for one in entry["variables"]
    ]


def _data_lines(entry: dict[str, Any]) -> list[str]:
    if "variables" in entry:
        return _grid_lines(entry)
    rows, files = entry["rows"], entry["files"]
    text = f"  rows    {count(rows['before'])} → {count(rows['after'])}"
    if rows["compared"] is not None:
        compared = rows["compared"]
        text += (
            f": {compared['added']:,} added, {compared['removed']:,} removed, {compared['changed']:,} changed"
        )
    lines = [
        text,
        f"  files   {files['shared']:,} shared, {files['added']:,} added, {files['removed']:,} removed",
    ]
    slices = [str(label) for label in entry["slices_changed"] if label is not None]
    if slices:
        shown = slices if len(slices) <= _SLICES_SHOWN else [*slices[: _SLICES_SHOWN - 1], "…", slices[-1]]
        lines.append(
            f"  slices  {plural(len(slices), 'slice')} changed ({', '.join(shown)}), {entry['slices_shared']:,} shared"
        )
    return lines


def _statistic_rows(statistics: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    rows = []
    for entry in statistics:
        moved = [name for name in _STATISTICS if entry["before"][name] != entry["after"][name]]
        for position, name in enumerate(moved):
            column = "" if position else entry["column"]
            rows.append((column, name, _statistic(entry["before"][name]), _statistic(entry["after"][name])))
    return rows


def _statistic(given: Any) -> str:
    """A statistic as text; extremes come as text of their own, times in ISO form."""
    if given is None:
        return "-"
    if isinstance(given, str):
        if given[4:5] == "-" and "T" in given:
            return moment(given)
        try:
            return value(float(given)) if "." in given or "e" in given else given
        except ValueError:
            return given
    return value(given)


def _show(given: Any) -> str:
    if given is None:
        return "(none)"
    text = str(given)
    return text if len(text) <= 60 else text[:59] + "…"
