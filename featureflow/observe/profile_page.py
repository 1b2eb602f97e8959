"""Where the time of a build went, as one HTML file: no scripts, nothing from the net, for light and dark screens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from featureflow.observe.bottleneck import kind_name
from featureflow.observe.profile import (
    WORKER_HEADERS,
    about,
    details_of,
    kind_bytes,
    kinds_of,
    rate_text,
    remarks,
    worker_rows,
)
from featureflow.observe.timeline import kind_class, timeline_svg
from featureflow.observe.units import count, moment, seconds, size

Profile = Mapping[str, Any]

#: Colour of each kind on light and dark pages: apart for people who see no red or no green, by lightness as well.
COLOURS = {
    "remote read": ("#1c5fc4", "#5e9bff"),
    "nvme read": ("#0f9fb8", "#45cfe6"),
    "decode": ("#7b52cc", "#b598ff"),
    "compute": ("#2b9a48", "#58cf78"),
    "exchange": ("#ee8a00", "#ffb14a"),
    "encode": ("#d43a78", "#ff82b2"),
    "write": ("#96592f", "#d39a6d"),
    "commit": ("#3f4750", "#c3cad3"),
    "spill": ("#cc2222", "#ff6a5e"),
    "driver": ("#8a94a0", "#79828d"),
    "idle": ("#e3e7ec", "#2c323b"),
}
#: Workers that are listed at most; seconds of the shortest stage that is.
_WORKERS, _SHORTEST = 100, 0.0005

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1a1f26; --pale: #5d6773; --line: #dfe3e8; --card: #f5f7f9;
  --s0: #e8ecf1; --s1: #dce2e9; %(light)s }
@media (prefers-color-scheme: dark) { :root { --page: #14181d; --text: #e6eaf0; --pale: #9aa5b1; --line: #2d343d;
  --card: #1c2128; --s0: #262d36; --s1: #303944; %(dark)s } }
body { background: var(--page); color: var(--text); font: 14px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 24px;
  max-width: 1240px; font-variant-numeric: tabular-nums }
h1 { font-size: 20px; margin: 0 } h2 { font-size: 15px; margin: 28px 0 8px } p { margin: 4px 0 }
.pale { color: var(--pale) }
.verdict { background: var(--card); border-left: 4px solid var(--accent); border-radius: 4px; margin: 16px 0;
  padding: 10px 16px }
.verdict strong { font-size: 16px }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%% } th { color: var(--pale); font-weight: 500; text-align: left }
th, td { border-bottom: 1px solid var(--line); padding: 3px 12px 3px 0; vertical-align: middle; white-space: nowrap }
.right { text-align: right } .detail td { color: var(--pale); border-bottom-color: transparent; padding-top: 0 }
.detail td:first-child { padding-left: 22px }
.chip { border-radius: 2px; display: inline-block; height: 10px; margin-right: 8px; width: 10px }
.bar { border-radius: 3px; display: flex; height: 12px; min-width: 260px; overflow: hidden; width: 100%% }
.bar.large { height: 26px } .bar span { display: block; height: 100%% }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 8px 0 }
svg.timeline { display: block; font: 10px system-ui, sans-serif; min-width: 900px; width: 100%% }
svg text { fill: var(--pale) } svg .name { fill: var(--text) } svg .lane { text-anchor: end }
svg .tick { text-anchor: middle }
svg .grid { stroke: var(--line); stroke-width: 1 } svg .s0 { fill: var(--s0) } svg .s1 { fill: var(--s1) }
svg .alone { fill: var(--s0); opacity: .45 } svg .phase .name { fill: var(--pale); font-style: italic }
svg .task { fill: transparent } svg .task:hover { stroke: var(--text); stroke-width: 1 }
svg .failed { fill: none; stroke: var(--spill); stroke-width: 1.5 }
"""


def profile_page(profile: Profile) -> str:
    """The whole page."""
    title = f"{profile['project']} · build {profile['build_id']}"
    found = profile["bottleneck"]
    reading = _READING_TASKS if "tasks" in profile["timeline"] else _READING_CELLS
    body = [
        f"<h1>{escape(title)}</h1>",
        _paragraph(
            f"{profile['status']} · began {moment(profile['started'])} UTC · featureflow {profile['engine_version']} · "
            f"{about(profile)}"
        ),
        f'<div class="verdict" style="--accent: var(--{kind_class(found["kind"] or "idle")})">',
        f"<strong>{escape(found['text'])}</strong><p>{escape(found['advice'])}</p></div>",
        _bar(profile["total"]["spent"], profile["kinds"], large=True),
        _legend(kind for kind in profile["kinds"] if profile["total"]["spent"].get(kind)),
        "<h2>Timeline</h2>",
        '<div class="scroll">' + (timeline_svg(profile) or "<p>No task ran.</p>") + "</div>",
        _paragraph(reading),
        "<h2>Kinds of work</h2>",
        _kinds(profile),
        _stages(profile),
        _workers(profile),
        _remarks(profile),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


_READING_TASKS = (
    "A row is a thread, a bar a task, divided by what it spent its time on; the order within a bar says nothing. "
    "Where nothing is drawn, the thread had no task; shaded, the driver worked alone."
)
_READING_CELLS = (
    "There were too many tasks to draw each. A row is a worker or some of them; its height is the share of its threads "
    "that worked, divided by what they did. Shaded, the driver worked alone."
)


def _style() -> str:
    def variables(place: int) -> str:
        return " ".join(f"--{kind_class(kind)}: {pair[place]};" for kind, pair in COLOURS.items())

    fills = "\n".join(
        f".{kind_class(kind)} {{ background: var(--{kind_class(kind)}); fill: var(--{kind_class(kind)}) }}"
        for kind in COLOURS
    )
    style = _STYLE % {"light": variables(0), "dark": variables(1)}
    return style.replace("var(--spill)", f"var(--{kind_class('spill')})") + fills


def _chip(kind: str) -> str:
    return f'<span class="chip {kind_class(kind)}"></span>{escape(kind_name(kind))}'


def _legend(kinds: Iterable[str]) -> str:
    return '<div class="legend">' + "".join(f"<span>{_chip(kind)}</span>" for kind in kinds) + "</div>"


def _paragraph(text: str) -> str:
    return f'<p class="pale">{escape(text)}</p>'


def _bar(spent: Mapping[str, float], kinds: Iterable[str], *, large: bool = False) -> str:
    whole = sum(spent.values()) or 1.0
    parts = "".join(
        f'<span class="{kind_class(kind)}" style="width: {100 * spent[kind] / whole:.2f}%" '
        f'title="{escape(kind_name(kind))} {spent[kind] / whole:.1%}"></span>'
        for kind in kinds
        if spent.get(kind)
    )
    return f'<div class="bar{" large" if large else ""}">{parts}</div>'


def _table(rows: Sequence[tuple[str, Sequence[str]]], headers: Sequence[str], right: Sequence[int]) -> str:
    """A table of HTML cells; each row comes with its class."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="right">{cell}</{tag}>' if i in right else f"<{tag}>{cell}</{tag}>"
            for i, cell in enumerate(row)
        )

    body = "".join(f'<tr class="{name}">{cells("td", row)}</tr>' for name, row in rows)
    head = f"<thead><tr>{cells('th', headers)}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _kinds(profile: Profile) -> str:
    total = profile["total"]
    available = total["available"] or 1.0
    rows: list[tuple[str, Sequence[str]]] = []
    for kind in kinds_of(profile):
        spent, moved = total["spent"][kind], kind_bytes(profile, kind)
        sizes = (size(moved) if moved else "", rate_text(moved, spent))
        rows.append(("", (_chip(kind), seconds(spent), f"{spent / available:.1%}", *sizes)))
        details = details_of(profile, kind)
        if len(details) > 1 or (details and details[0][0] != "other"):
            rows += [
                ("detail", (escape(name), seconds(amount), f"{amount / available:.1%}", "", ""))
                for name, amount in details
            ]
    headers = ("kind of work", "thread time", "share", "bytes", "a thread")
    return _table(rows, headers, (1, 2, 3, 4))


def _stages(profile: Profile) -> str:
    rows: list[tuple[str, Sequence[str]]] = []
    for stage in profile["stages"]:
        if stage["seconds"] < _SHORTEST:
            continue
        on_driver = stage["where"] == "driver"
        name = f"driver: {stage['name']}" if on_driver else stage["name"]
        tasks = (
            ("", "", "")
            if on_driver
            else (
                count(stage["tasks"]),
                count(stage["rows"]) if stage["rows"] else "",
                seconds(stage["longest"]),
            )
        )
        worked = sum(spent for kind, spent in stage["spent"].items() if kind != "idle")
        cpu = "" if on_driver or not worked else f"{min(1.0, stage['cpu'] / worked):.0%}"
        busy = "" if on_driver else f"{1 - stage['spent'].get('idle', 0.0) / (stage['available'] or 1.0):.0%}"
        bar = _bar(stage["spent"], profile["kinds"])
        rows.append(
            ("pale" if on_driver else "", (escape(name), bar, seconds(stage["seconds"]), busy, cpu, *tasks))
        )
    headers = ("stage", "", "time", "busy", "on a core", "tasks", "rows", "longest task")
    return "<h2>Stages</h2>" + _table(rows, headers, (2, 3, 4, 5, 6, 7))


def _workers(profile: Profile) -> str:
    rows = [("", [escape(cell) for cell in row]) for row in worker_rows(profile)]
    if not rows:
        return ""
    left = (
        f'<p class="pale">… and {count(len(rows) - _WORKERS)} less busy ones</p>'
        if len(rows) > _WORKERS
        else ""
    )
    return "<h2>Workers</h2>" + _table(rows[:_WORKERS], WORKER_HEADERS, (1, 2, 3, 4)) + left


def _remarks(profile: Profile) -> str:
    told = "".join(f"<li>{escape(text)}</li>" for text in remarks(profile))
    return f"<h2>Also</h2><ul>{told}</ul>" if told else ""
