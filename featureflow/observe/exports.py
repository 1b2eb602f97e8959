"""What an export wrote, for people."""

from __future__ import annotations

from typing import Any

from featureflow.observe.terminal import Paint, table, wrap
from featureflow.observe.units import count, plural, size

#: Why a row of a dataset is in no shard.
_REASONS = {
    "embargoed": "embargoed",
    "sampled_out": "left out by down-sampling",
    "unlabelled": "without any label",
}


def export_text(entry: dict[str, Any]) -> str:
    """One line: what was written, how much, where.

    Examples
    --------
    >>> about = {"dataset": "t", "version": 2, "folder": "s/t/2", "format": "mds"}
    >>> export_text({**about, "shards": 1, "rows": 9, "bytes": 5})
    't@2 as mds: 1 shard, 9 rows, 5 B in s/t/2'
    """
    what = f"{plural(entry['shards'], 'shard')}, {plural(entry['rows'], 'row')}, {size(entry['bytes'])}"
    return f"{entry['dataset']}@{entry['version']} as {entry['format']}: {what} in {entry['folder']}"


def export_report(entry: dict[str, Any], *, limit: int = 100, paint: Paint | None = None) -> str:
    """Say what an export holds by split, which rows it left out, and how it is loaded."""
    brush = paint or Paint()
    head, *rest = wrap(export_text(entry), limit, "  ")
    rows = [
        (name, count(found["shards"]), count(found["rows"]), size(found["bytes"]))
        for name, found in entry["splits"].items()
    ]
    headers = ("split", "shards", "rows", "bytes")
    lines = [brush(head, "bold"), *rest, ""]
    lines += table(rows, headers, limit=limit, right=(1, 2, 3), paint=brush, indent="  ")
    reasons = [f"{count(n)} {_REASONS.get(reason, reason)}" for reason, n in entry["left_out"].items()]
    if reasons:
        lines += ["", *wrap(f"  left out: {', '.join(reasons)}", limit, "    ")]
    return "\n".join([*lines, "", brush(f'  ff.load_shards("{entry["folder"]}")', "dim")])
