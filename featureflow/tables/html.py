"""How stores, tables and differences look in a notebook: one small table each, no scripts, every value escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from featureflow.tables.labelled import grid_bytes, sizes_of

if TYPE_CHECKING:
    from featureflow.tables.diff import Diff
    from featureflow.tables.store import Store
    from featureflow.tables.table import Table

_STYLE = (
    "<style scoped>.ff{font:13px/1.5 system-ui,sans-serif;max-width:72em}.ff table{border-collapse:collapse}"
    ".ff th,.ff td{padding:1px 12px 1px 0;text-align:left;border:0;white-space:nowrap;background:none}"
    ".ff th{font-weight:600;border-bottom:1px solid #8888}.ff .n{text-align:right;font-variant-numeric:tabular-nums}"
    ".ff .q{opacity:.65}.ff summary{cursor:pointer}</style>"
)
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size_text(size: float) -> str:
    """Bytes for people, in powers of 1000.

    Examples
    --------
    >>> size_text(999), size_text(1_250_000)
    ('999 B', '1.2 MB')
    """
    step = 0
    while size >= 1000 and step < len(_UNITS) - 1:
        size, step = size / 1000, step + 1
    return f"{size:.0f} {_UNITS[step]}" if step == 0 else f"{size:.1f} {_UNITS[step]}"


def grid(header: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str] = ()) -> str:
    """An HTML table; columns named in ``numbers`` are aligned to the right."""
    classes = ["n" if name in numbers else "" for name in header]
    head = "".join(f'<th class="{c}">{escape(name)}</th>' for name, c in zip(header, classes, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{c}">{escape(_text(v))}</td>' for v, c in zip(row, classes, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def block(title: str, note: str, body: str) -> str:
    """Title, a quiet note beside it, and the body below."""
    return f'<div class="ff">{_STYLE}<b>{escape(title)}</b> <span class="q">{escape(note)}</span>{body}</div>'


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def table_html(table: Table) -> str:
    """A version: what it is, its columns with their statistics."""
    if table.is_grid:
        return _grid_html(table)
    info = table.state.info
    tags = "".join(f" · {tag}" for tag in table.tags)
    size = f"{table.rows:,} rows · {size_text(table.bytes)} in {info.files:,} files"
    note = f"{size} · published {info.published[:16]}Z{tags}"
    roles = dict.fromkeys(table.keys, "key") | ({table.time: "time"} if table.time else {})
    rows = []
    for row in table.stats.iter_rows(named=True):
        share = 100 * row["nulls"] / table.rows if table.rows else 0
        nulls = f"{share:.3g} %" if row["nulls"] else ""
        role = roles.get(row["column"], "")
        rows.append([row["column"], row["type"], role, nulls, row["min"], row["max"], row["mean"]])
    header = ["column", "type", "", "null", "min", "max", "mean"]
    body = grid(header, [[_short(v) for v in row] for row in rows], numbers=["null", "min", "max", "mean"])
    return block(f"{table.name}@{table.version}", note, body)


def _grid_html(table: Table) -> str:
    """A version of a grid: its dimensions, its variables with units and statistics."""
    arrays, info = table.record["arrays"], table.state.info
    tags = "".join(f" · {tag}" for tag in table.tags)
    size = f"{info.rows:,} chunks, {size_text(grid_bytes(table.record))} of values"
    note = f"{_sizes(sizes_of(arrays))} · {size} · published {info.published[:16]}Z{tags}"
    rows = []
    for row in table.stats.iter_rows(named=True):
        about = arrays["variables"][row["column"]]
        values = row["count"] + row["nulls"]
        nulls = f"{100 * row['nulls'] / values:.3g} %" if row["nulls"] else ""
        dims = ", ".join(about["dims"])
        numbers = [row["min"], row["max"], row["mean"]]
        rows.append([row["column"], row["type"], dims, about.get("units") or "", nulls, *numbers])
    header = ["variable", "type", "dimensions", "units", "null", "min", "max", "mean"]
    body = grid(header, [[_short(v) for v in row] for row in rows], numbers=["null", "min", "max", "mean"])
    return block(f"{table.name}@{table.version}", note, body)


def _short(value: Any) -> Any:
    """Numbers that came as text get six digits, long text is cut."""
    if not isinstance(value, str):
        return value
    try:
        return float(value) if "." in value or "e" in value or "inf" in value else int(value)
    except ValueError:
        return value if len(value) <= 32 else value[:31] + "…"


def store_html(store: Store) -> str:
    """The tables of a store."""
    tables = store.latest()
    rows = [
        [
            t.name,
            t.version,
            _sizes(sizes_of(t.record["arrays"])) if t.is_grid else t.rows,
            size_text(grid_bytes(t.record) if t.is_grid else t.bytes),
            len(t.schema),
            t.state.info.published[:16] + "Z",
            ", ".join(t.tags),
        ]
        for t in tables
    ]
    header = ["table", "version", "rows", "bytes", "columns", "published", "tags"]
    body = grid(header, rows, numbers=["version", "rows", "bytes", "columns"])
    n_grids = sum(t.is_grid for t in tables)
    counted = [_counted(len(tables) - n_grids, "table"), *([_counted(n_grids, "grid")] if n_grids else [])]
    return block(store.url, ", ".join(counted), body if rows else "")


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _sizes(sizes: Mapping[str, int]) -> str:
    """Sizes by dimension in a line."""
    return " × ".join(f"{dim} {size:,}" for dim, size in sizes.items())  # noqa: RUF001


def diff_html(diff: Diff) -> str:
    """What changed, in words, and the statistics that differ below a fold."""
    lines = "<br>".join(escape(line) for line in diff.lines())
    names = diff.statistics.columns
    fold = ""
    if diff.statistics.height:
        rows = [[_short(value) for value in row] for row in diff.statistics.iter_rows()]
        body = grid(names, rows, numbers=names[1:])
        fold = f"<details><summary>statistics of {len(rows)} columns</summary>{body}</details>"
    return block(f"{diff.before} → {diff.after}", "", f"<div>{lines}</div>{fold}")
