"""The task graph of a plan as a picture: sources, re-keying, window tasks and commits, grouped, with their counts.

Hand-written SVG: one self-contained file that any browser shows, on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise, zip_longest
from typing import Any

from featureflow.observe.plans import to_build
from featureflow.observe.terminal import clip
from featureflow.observe.units import count, plural, short_count, size

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _TOP = 208, 62, 84, 22, 24, 74
_COLOURS = {
    "source": ("#e8eef7", "#5b7aa8"),
    "rekey": ("#fdf3dc", "#c08a1e"),
    "new": ("#e3f4e5", "#3c9650"),
    "new data": ("#def1f5", "#2b8ca3"),
    "definition changed": ("#fbe9dd", "#c96a2b"),
    "full rebuild": ("#fbe9dd", "#c96a2b"),
    "late data": ("#fbe9dd", "#c96a2b"),
    "unchanged": ("#f2f2f2", "#9a9a9a"),
    "commit": ("#ece5f6", "#7a57ad"),
}


@dataclass(slots=True)
class _Box:
    """A box, or with no lines a lane: the place where a long edge passes a rank. ``row`` is the middle."""

    key: str
    rank: int
    kind: str
    lines: tuple[str, str, str] = ("", "", "")
    row: float = 0.0

    @property
    def is_lane(self) -> bool:
        return self.kind == "lane"

    @property
    def half(self) -> float:
        """Half of the height, in rows."""
        return 0.22 if self.is_lane else 0.5

    @property
    def x(self) -> float:
        return _MARGIN + self.rank * (_WIDTH + _GAP_X)

    @property
    def y(self) -> float:
        """Top of a box."""
        return _TOP + self.row * (_HEIGHT + _GAP_Y)

    @property
    def middle(self) -> float:
        return self.y + _HEIGHT / 2


@dataclass(slots=True)
class _Edge:
    """A line through all these boxes, of which those between are lanes."""

    keys: list[str]
    dashed: bool

    def steps(self) -> Iterator[tuple[str, str]]:
        return pairwise(self.keys)


def plan_svg(plan: dict[str, Any]) -> str:
    """Draw a described plan.

    Returns
    -------
    str
        An SVG document. Left to right: raw sources, their re-keying, window tasks of each table, its commit; a table
        that reads another stands to the right of it, and so does a dataset, whose tasks are joins and pieces. Look-ups
        are dashed and drawn without their own re-keying; tables with nothing to do are grey.
    """
    boxes, edges = _layout(plan)
    _add_lanes(boxes, edges)
    _place(boxes, edges)
    width = 2 * _MARGIN + (max((b.rank for b in boxes.values()), default=0) + 1) * (_WIDTH + _GAP_X) - _GAP_X
    height = _TOP + (max((b.row for b in boxes.values()), default=0) + 1) * (_HEIGHT + _GAP_Y) - _GAP_Y + 52
    width = max(width, 720)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" font-family="system-ui, -apple-system, Segoe UI, DejaVu Sans, sans-serif">'
        ),
        f"<title>{escape(plan['project'])}: plan</title>",
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
        (
            '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="#8a8a8a"/></marker></defs>'
        ),
        _text(_MARGIN, 32, plan["project"], size_px=18, weight=600),
        _text(_MARGIN, 52, _about(plan), size_px=12, colour="#6a6a6a"),
    ]
    parts += [_draw_edge(edge, boxes) for edge in edges]
    parts += [_draw(box) for box in boxes.values() if not box.is_lane]
    parts += [_legend(height - 22), "</svg>"]
    return "\n".join(parts) + "\n"


def _about(plan: dict[str, Any]) -> str:
    return f"{to_build(plan['tables'])} to build into {clip(plan['store'], 70)}"


def _layout(plan: dict[str, Any]) -> tuple[dict[str, _Box], list[_Edge]]:
    boxes: dict[str, _Box] = {}
    edges: list[_Edge] = []
    tables = {entry["name"]: entry for entry in plan["tables"]}
    details = plan.get("sources", {})
    for name, entry in tables.items():
        key = f"table:{name}"
        rank = 2
        for item in entry["reads"]:
            dashed = item["use"] == "look-up"
            if item["kind"] in ("table", "grid") and item["name"] in tables:
                start = f"commit:{item['name']}"
                # A table that has nothing to do has no commit; its files are read all the same.
                start = start if start in boxes else f"table:{item['name']}"
                rank = max(rank, boxes[start].rank + 1)
            else:
                sorted_again = (
                    entry.get("kind") != "grid" and item["use"] != "labels"
                )  # which lie on the patches
                rekey = bool(entry["compute"]) and not dashed and sorted_again
                detail = details.get(item["name"], {})
                spine = name if entry.get("kind") == "dataset" and item["use"] == "rows" else None
                start = _source_boxes(boxes, edges, item, detail, rekey=rekey, spine=spine)
            edges.append(_Edge([start, key], dashed))
        change = entry["change"]
        kind = entry.get("kind", "table")
        about = change if kind == "table" else f"{kind}, {change}"
        boxes[key] = _Box(key, rank, change, (name, about, _work(entry)))
        if entry["publishes"]:
            version = (entry["version"] or 0) + 1
            after = (f"commit {name}", f"version {version}", _written(entry))
            boxes[f"commit:{name}"] = _Box(f"commit:{name}", rank + 1, "commit", after)
            edges.append(_Edge([key, f"commit:{name}"], dashed=False))
    return boxes, edges


def _source_boxes(
    boxes: dict[str, _Box],
    edges: list[_Edge],
    item: dict[str, str],
    detail: dict[str, Any],
    *,
    rekey: bool,
    spine: str | None,
) -> str:
    """Add the boxes of a source, and of its re-keying; as the spine of a dataset its rows are numbered, too."""
    name = item["name"]
    source, exchange = f"source:{name}", f"rekey:{name}" if spine is None else f"spine:{spine}"
    if source not in boxes:
        facts = [plural(detail["files"], "file")] if "files" in detail else []
        facts += [size(detail["bytes"])] if "bytes" in detail else []
        rows = f"{count(detail['rows'])} rows" if "rows" in detail else ""
        boxes[source] = _Box(source, 0, "source", (name, ", ".join(facts) or item["kind"], rows))
    if not rekey:
        return source
    if exchange not in boxes:
        tasks = f"up to {plural(detail['chunks'], 'task')}" if "chunks" in detail else "one task a chunk"
        head, about = (
            (f"re-key {name}", "rows to buckets by key")
            if spine is None
            else (f"spine of {spine}", "numbered, to each join's buckets")
        )
        boxes[exchange] = _Box(exchange, 1, "rekey", (head, about, tasks))
        edges.append(_Edge([source, exchange], dashed=False))
    return exchange


def _work(entry: dict[str, Any]) -> str:
    if not entry["publishes"]:
        return f"version {entry['version']} is kept"
    if not entry["compute"]:
        return "nothing to compute"
    work = f"{plural(len(entry['compute']), 'slice')} × {plural(entry['buckets'], 'bucket')}"  # noqa: RUF001
    if entry.get("kind") == "dataset":
        work = plural(entry["buckets"], "piece")
    if entry.get("kind") == "grid":
        work = plural(entry["estimate"]["chunks_computed"], "chunk")
    tasks = entry["estimate"].get("tasks")
    return f"{plural(tasks, 'task')}: {work}" if tasks else work


def _written(entry: dict[str, Any]) -> str:
    if entry.get("kind") == "grid":
        kept = entry["estimate"]["chunks_reused"]
        return f"{plural(kept, 'chunk')} kept" if kept else ""
    kept = f"{plural(len(entry['reuse']), 'slice')} kept" if entry["reuse"] else ""
    rows = entry["estimate"].get("rows_computed")
    return ", ".join(part for part in (f"~{short_count(rows)} rows" if rows else "", kept) if part)


def _add_lanes(boxes: dict[str, _Box], edges: list[_Edge]) -> None:
    """Keep a free lane for every edge that passes a rank; edges of one box share it."""
    for edge in edges:
        start, end = edge.keys
        for rank in range(boxes[start].rank + 1, boxes[end].rank):
            key = f"lane:{start}:{rank}"
            boxes.setdefault(key, _Box(key, rank, "lane"))
            edge.keys.insert(-1, key)


def _place(boxes: dict[str, _Box], edges: list[_Edge]) -> None:
    """Give every box a row: near the middle of what it reads, never on another box of its rank."""
    steps = dict.fromkeys(
        step for edge in edges for step in edge.steps()
    )  # in order: sums of floats depend on it
    ranks = sorted({box.rank for box in boxes.values()})
    for rank in ranks:
        wanted: dict[str, float] = {}
        for position, box in enumerate(box for box in boxes.values() if box.rank == rank):
            before = [boxes[start].row for start, end in steps if end == box.key]
            wanted[box.key] = sum(before) / len(before) if before else float(position)
        floor = -0.5
        for key in sorted(wanted, key=lambda k: (wanted[k], k)):
            box = boxes[key]
            box.row = max(wanted[key], floor + box.half)
            floor = box.row + box.half
    for rank in reversed(ranks[:-1]):
        _recentre([box for box in boxes.values() if box.rank == rank], boxes, steps)


def _recentre(here: list[_Box], boxes: dict[str, _Box], steps: Iterable[tuple[str, str]]) -> None:
    """Move boxes of a rank next to what reads them, where there is room, in their order."""
    here.sort(key=lambda box: box.row)
    floor = -0.5
    for box, following in zip_longest(here, here[1:]):
        after = [boxes[end].row for start, end in steps if start == box.key]
        ceiling = following.row - following.half - box.half if following else float("inf")
        target = sum(after) / len(after) if after else box.row
        box.row = max(floor + box.half, min(target, ceiling))
        floor = box.row + box.half


def _draw_edge(edge: _Edge, boxes: dict[str, _Box]) -> str:
    """A curve in every gap, level through the lanes."""
    first, *between, last = [boxes[key] for key in edge.keys]
    x, y = first.x + _WIDTH, first.middle
    path = f"M{x:g} {y:g}"
    for box in [*between, last]:
        end = box.x if box.is_lane else box.x - 2
        bend = (end - x) / 2
        path += f"C{x + bend:g} {y:g} {end - bend:g} {box.middle:g} {end:g} {box.middle:g}"
        x, y = box.x + _WIDTH, box.middle
        path += f"H{x:g}" if box.is_lane else ""
    dash = ' stroke-dasharray="5 4"' if edge.dashed else ""
    return f'<path d="{path}" fill="none" stroke="#8a8a8a" stroke-width="1.4"{dash} marker-end="url(#end)"/>'


def _draw(box: _Box) -> str:
    fill, stroke = _COLOURS.get(box.kind, _COLOURS["unchanged"])
    head, second, third = box.lines
    return "".join(
        [
            f"<g><title>{escape(' · '.join(line for line in box.lines if line))}</title>",
            (
                f'<rect x="{box.x:g}" y="{box.y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="7" fill="{fill}" '
                f'stroke="{stroke}" stroke-width="1.3"/>'
            ),
            _text(box.x + 12, box.y + 20, clip(head, 23), size_px=13, weight=600),
            _text(box.x + 12, box.y + 37, clip(second, 32), size_px=11, colour=stroke),
            _text(box.x + 12, box.y + 52, clip(third, 32), size_px=11, colour="#555555"),
            "</g>",
        ]
    )


def _text(x: float, y: float, text: str, *, size_px: int, weight: int = 400, colour: str = "#222222") -> str:
    if not text:
        return ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size_px}" font-weight="{weight}" fill="{colour}">'
        f"{escape(text)}</text>"
    )


def _legend(y: float) -> str:
    entries = (
        ("source", "source"),
        ("rekey", "re-key"),
        ("new", "new"),
        ("new data", "new data"),
        ("late data", "late data or new definition"),
        ("unchanged", "unchanged"),
        ("commit", "commit"),
    )
    parts, x = [], float(_MARGIN)
    for kind, label in entries:
        fill, stroke = _COLOURS[kind]
        parts.append(
            f'<rect x="{x:g}" y="{y - 9:g}" width="11" height="11" rx="2" fill="{fill}" stroke="{stroke}"/>'
        )
        parts.append(_text(x + 17, y + 1, label, size_px=11, colour="#6a6a6a"))
        x += 34 + 6.4 * len(label)
    parts.append(
        f'<path d="M{x:g} {y - 3:g}h26" stroke="#8a8a8a" stroke-width="1.4" stroke-dasharray="5 4"/>'
    )
    parts.append(_text(x + 33, y + 1, "look-up", size_px=11, colour="#6a6a6a"))
    return "".join(parts)
