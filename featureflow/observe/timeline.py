"""A build over time as a picture: stages on top, below a row for each thread or worker with what it did.

A task's bar is divided by the shares of its kinds of work; the order within a bar says nothing. Where there are too
many tasks, a row's height is the share of its threads that worked, divided in the same way. The colours are the page's
(`featureflow.observe.profile_page`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from featureflow.core.meter import KINDS
from featureflow.observe.bottleneck import kind_name
from featureflow.observe.units import seconds

Profile = Mapping[str, Any]

_LEFT, _WIDTH, _TOP = 190, 1200, 46
_RIGHT = 8
#: A bar of so many tasks says what it is when a pointer rests on it; of more, the file would grow for it.
_TITLED = 1500
_STEPS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    1800,
    3600,
)


def timeline_svg(profile: Profile) -> str:
    """Draw the timeline; empty where no task ran."""
    timeline = profile["timeline"]
    lanes: Sequence[str] = timeline["lanes"]
    if not lanes:
        return ""
    whole = max(profile["seconds"], 1e-6)
    scale = (_WIDTH - _LEFT - _RIGHT) / whole
    height = max(5, min(18, 900 // len(lanes)))
    gap = 2 if height > 8 else 1
    bottom = _TOP + len(lanes) * (height + gap)
    parts = [_axis(whole, scale, bottom), _stages(profile, scale, bottom)]
    parts += [_lane_name(name, i, height, gap) for i, name in enumerate(lanes) if height >= 9 or i % 3 == 0]
    if "tasks" in timeline:
        parts += _bars(profile, scale, height, gap)
    else:
        parts += _areas(timeline["cells"], scale, height, gap)
    return (
        f'<svg class="timeline" viewBox="0 0 {_WIDTH} {bottom + 22}" role="img" '
        f'aria-label="Timeline of {len(lanes)} rows over {escape(seconds(whole))}">{"".join(parts)}</svg>'
    )


def kind_class(kind: str) -> str:
    """Name of a kind in the page's style."""
    return "k-" + kind.replace(" ", "-")


def _axis(whole: float, scale: float, bottom: int) -> str:
    step = next((step for step in _STEPS if step * scale >= 70), 7200)
    found = []
    for i in range(int(whole / step) + 1):
        x = _LEFT + i * step * scale
        text = "0" if i == 0 else seconds(i * step)
        found.append(f'<path class="grid" d="M{x:.1f} {_TOP - 4}V{bottom}"/>')
        found.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 15}">{escape(text)}</text>')
    return "".join(found)


def _stages(profile: Profile, scale: float, bottom: int) -> str:
    """Bands of the stages and phases, with their names where there is room."""
    found = [f'<text class="lane" x="{_LEFT - 8}" y="28">stage</text>']
    shade = 0
    for name, is_stage, begun, length in profile["segments"]:
        width = length * scale
        if width < 0.5:
            continue
        shade = 1 - shade
        x = _LEFT + begun * scale
        text = name if is_stage else f"driver: {name}"
        found.append(
            f'<g class="{"stage" if is_stage else "phase"}"><rect class="s{shade}" x="{x:.1f}" y="14" '
            f'width="{max(0.6, width - 0.6):.1f}" height="20" rx="2"/>'
            f"<title>{escape(text)}: {escape(seconds(length))}</title>"
        )
        room = int((width - 8) / 5.8)
        if room >= 5:
            clipped = text if len(text) <= room else text[: room - 1] + "…"
            found.append(f'<text class="name" x="{x + 4:.1f}" y="28">{escape(clipped)}</text>')
        found.append("</g>")
        if not is_stage:
            found.append(
                f'<rect class="alone" x="{x:.1f}" y="{_TOP - 4}" width="{width:.1f}" height="{bottom - _TOP + 4}"/>'
            )
    return "".join(found)


def _lane_name(name: str, place: int, height: int, gap: int) -> str:
    y = _TOP + place * (height + gap) + height / 2 + 3.5
    clipped = name if len(name) <= 30 else "…" + name[-29:]
    return f'<text class="lane" x="{_LEFT - 8}" y="{y:.1f}">{escape(clipped)}<title>{escape(name)}</title></text>'


def _bars(profile: Profile, scale: float, height: int, gap: int) -> list[str]:
    tasks, stages = profile["timeline"]["tasks"], profile["timeline"]["stages"]
    kinds = [kind for kind in KINDS if kind in tasks["kinds"]]
    shares = [tasks["kinds"][kind] for kind in kinds]
    n_tasks = len(tasks["lane"])
    paths: dict[str, list[str]] = {kind: [] for kind in kinds}
    found = []
    for i in range(n_tasks):
        x = _LEFT + tasks["begun"][i] * scale
        y = _TOP + tasks["lane"][i] * (height + gap)
        width = max(0.7, tasks["seconds"][i] * scale - (0.4 if n_tasks <= _TITLED else 0))
        for kind, share in zip(kinds, shares, strict=True):
            part = width * share[i] / 1000
            if part >= 0.05:
                paths[kind].append(f"M{x:.1f} {y}h{part:.1f}v{height}h-{part:.1f}z")
                x += part
        if n_tasks <= _TITLED:
            found.append(
                f'<rect class="{"failed" if tasks["failed"][i] else "task"}" '
                f'x="{x - width:.1f}" y="{y}" width="{width:.1f}" height="{height}">'
                f"<title>{escape(_task_text(tasks, stages, kinds, shares, i))}</title></rect>"
            )
        elif tasks["failed"][i]:
            found.append(
                f'<rect class="failed" x="{x - width:.1f}" y="{y}" width="{width:.1f}" height="{height}"/>'
            )
    drawn = [f'<path class="{kind_class(kind)}" d="{"".join(d)}"/>' for kind, d in paths.items() if d]
    return drawn + found


def _task_text(
    tasks: Mapping[str, Any], stages: Sequence[str], kinds: Sequence[str], shares: Sequence[Any], i: int
) -> str:
    named = ", ".join(
        f"{kind_name(kind)} {share[i] / 10:.0f}%"
        for kind, share in zip(kinds, shares, strict=True)
        if share[i] >= 5
    )
    failed = ", failed" if tasks["failed"][i] else ""
    return f"{stages[tasks['stage'][i]]}: {seconds(tasks['seconds'][i])}{failed}\n{named}"


def _areas(cells: Mapping[str, Any], scale: float, height: int, gap: int) -> list[str]:
    kinds = [kind for kind in KINDS if kind in cells["kinds"]]
    width = cells["width"] * scale
    n_lanes = len(cells["kinds"][kinds[0]])
    found = []
    for lane in range(n_lanes):
        paths: dict[str, list[str]] = {kind: [] for kind in kinds}
        rows = [cells["kinds"][kind][lane] for kind in kinds]
        for column in range(len(rows[0])):
            y = float(height)
            for kind, row in zip(kinds, rows, strict=True):
                part = min(y, height * row[column] / 1000)
                if part >= 0.1:
                    y -= part
                    paths[kind].append(f"M{column} {y:.1f}h1v{part:.1f}h-1z")
        drawn = "".join(
            f'<path class="{kind_class(kind)}" d="{"".join(d)}"/>' for kind, d in paths.items() if d
        )
        top = _TOP + lane * (height + gap)
        found.append(f'<g transform="translate({_LEFT} {top}) scale({width:.5f} 1)">{drawn}</g>')
    return found
