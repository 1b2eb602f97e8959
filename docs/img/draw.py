"""Draw the timelines of the user guide as SVG: `python docs/img/draw.py` rewrites them, a test compares.

No dependencies: an SVG is text. One function a picture; times are hours, so that the pictures can be checked by eye.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH = 780
LEFT, RIGHT = 150, 740  # where the first and the last hour of a timeline are
INK, PALE, IN, OUT, AT, LATER = "#1f2933", "#9aa5b1", "#0b69a3", "#cbd2d9", "#c0392b", "#6b4ea0"


class Picture:
    """A drawing with one time axis; rows are placed from the top."""

    def __init__(self, height: int, first: float, last: float) -> None:
        self.height, self.first, self.last = height, first, last
        self.parts: list[str] = []

    def x(self, hour: float) -> float:
        """Where an hour is."""
        return round(LEFT + (hour - self.first) / (self.last - self.first) * (RIGHT - LEFT), 1)

    def text(self, x: float, y: float, words: str, *, color: str = INK, size: int = 13, anchor: str = "start",
             bold: bool = False) -> None:  # fmt: skip
        """Write words; `anchor` is start, middle or end."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" fill="{color}" font-size="{size}" text-anchor="{anchor}"{weight}>'
            f"{escape(words)}</text>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, *, color: str = INK, width: float = 1.5,
             dash: str = "") -> None:  # fmt: skip
        """Draw a straight line."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{color}" stroke-width="{width}"{dashed}/>'
        )

    def dot(self, x: float, y: float, *, color: str = IN, hollow: bool = False, radius: float = 6) -> None:
        """Draw an event, or the end of a window; hollow ones do not belong."""
        fill = "#ffffff" if hollow else color
        self.parts.append(
            f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}" stroke="{color}" stroke-width="2"/>'
        )

    def axis(self, y: float, marks: dict[float, str], *, label: str = "time") -> None:
        """Draw the axis with its named hours."""
        self.line(LEFT - 10, y, RIGHT + 10, y, color=PALE)
        self.parts.append(f'<path d="M {RIGHT + 10} {y - 4} l 9 4 l -9 4 z" fill="{PALE}"/>')
        for hour, words in marks.items():
            self.line(self.x(hour), y - 4, self.x(hour), y + 4, color=PALE)
            self.text(self.x(hour), y + 20, words, size=12, anchor="middle", color=INK)
        self.text(LEFT - 20, y + 4, label, size=12, anchor="end", color=PALE)

    def row_time(self, hour: float, top: float, bottom: float, words: str = "t") -> None:
        """Mark the instant that is asked about."""
        self.line(self.x(hour), top, self.x(hour), bottom, color=AT, dash="5 4")
        self.text(self.x(hour), top - 6, words, color=AT, anchor="middle", bold=True)

    def interval(self, y: float, start: float | None, end: float, *, opens: bool, closes: bool, label: str,
                 color: str = IN) -> None:  # fmt: skip
        """Draw a window; a filled end belongs to it, a hollow one does not. No start: from the beginning."""
        left = self.x(self.first) if start is None else self.x(start)
        self.parts.append(
            f'<rect x="{left}" y="{y - 7}" width="{round(self.x(end) - left, 1)}" height="14" '
            f'fill="{color}" opacity="0.16"/>'
        )
        self.line(left, y, self.x(end), y, color=color, width=2.5)
        if start is not None:
            self.dot(left, y, color=color, hollow=not opens, radius=5)
        self.dot(self.x(end), y, color=color, hollow=not closes, radius=5)
        self.text(LEFT - 20, y + 4, label, anchor="end")

    def svg(self) -> str:
        """Give the file's text."""
        body = "\n  ".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.height}" '
            f'viewBox="0 0 {WIDTH} {self.height}" font-family="DejaVu Sans, Verdana, sans-serif">\n'
            f'  <rect width="{WIDTH}" height="{self.height}" fill="#ffffff"/>\n  {body}\n</svg>\n'
        )


def window_and_lookup() -> str:
    """Draw the one thing to remember: the window excludes t, the look-up includes it."""
    p = Picture(200, 5, 11)
    p.text(LEFT, 22, "Three events; one of them at t itself.", color=PALE, size=12)
    events = {6.5: "5", 8.5: "7", 10: "9"}
    p.axis(165, {6: "06:00", 7: "07:00", 8: "08:00", 9: "09:00", 10: "10:00"})
    p.row_time(10, 50, 165)
    for hour, value in events.items():
        p.dot(p.x(hour), 165)
        p.text(p.x(hour) - 10, 152, value, anchor="end", color=IN, bold=True)
    p.interval(75, 6, 10, opens=True, closes=False, label="window 4h")
    p.text(p.x(10) + 14, 79, "5 + 7 = 12", color=IN, bold=True)
    p.line(p.x(10), 115, p.x(10), 140, color=IN, width=2.5)
    p.dot(p.x(10), 115, radius=5)
    p.text(LEFT - 20, 119, "look-up", anchor="end")
    p.text(p.x(10) + 14, 119, "9", color=IN, bold=True)
    return p.svg()


def closed() -> str:
    """Draw the four kinds of ends, with events exactly on both."""
    p = Picture(270, 5, 11)
    events = (6, 7.5, 9, 10)
    p.row_time(10, 28, 235)
    p.line(p.x(6), 28, p.x(6), 235, color=PALE, dash="2 4")
    p.text(p.x(6), 22, "t - w", color=PALE, anchor="middle")
    rows = (
        ("closed: left", True, False),
        ("closed: right", False, True),
        ("closed: both", True, True),
        ("closed: none", False, False),
    )
    for place, (label, opens, closes) in enumerate(rows):
        y = 55 + 45 * place
        p.interval(y, 6, 10, opens=opens, closes=closes, label=label)
        inside = sum(1 for e in events if 6 < e < 10 or (opens and e == 6) or (closes and e == 10))
        p.text(p.x(10) + 14, y + 4, f"count {inside}", color=IN, bold=True)
    p.axis(235, {6: "06:00", 7.5: "07:30", 9: "09:00", 10: "10:00"}, label="events")
    for hour in events:
        p.dot(p.x(hour), 235)
    return p.svg()


def delay_and_hop() -> str:
    """Draw what moves a window: delay moves both ends, tail_hop floors the start."""
    p = Picture(290, 4, 12)
    at = 10.5
    p.row_time(at, 28, 255, "t = 10:30")
    p.interval(60, at - 4, at, opens=True, closes=False, label="4h")
    p.text(p.x(at) + 12, 64, "[06:30, 10:30)", color=IN, size=12)
    p.interval(110, at - 5, at - 1, opens=True, closes=False, label="4h, delay: 1h")
    p.text(p.x(at) + 12, 114, "[05:30, 09:30)", color=IN, size=12)
    p.interval(160, 6, at, opens=True, closes=False, label="4h, tail_hop: 1h")
    p.line(p.x(6), 160, p.x(6.5), 160, color=AT, width=4)
    p.text(p.x(at) + 12, 164, "[06:00, 10:30)", color=IN, size=12)
    p.interval(210, None, at, opens=True, closes=False, label="lifetime")
    p.text(p.x(at) + 12, 214, "all before t", color=IN, size=12)
    p.axis(255, {h: f"{h:02}:00" for h in range(4, 12)})
    return p.svg()


def lookup() -> str:
    """Draw an as-of match with and without a time to live."""
    p = Picture(250, 0, 12)
    values = {1: "low", 4: "mid", 8: "high"}
    for at, label in ((7, "A"), (8, "B"), (9.5, "C")):
        p.row_time(at, 34, 205, label)
    p.axis(205, {h: f"{h:02}:00" for h in (0, 1, 4, 7, 8, 9.5, 12) if h == int(h)}, label="risk")
    p.text(p.x(9.5), 225, "09:30", size=12, anchor="middle")
    for hour, value in values.items():
        p.dot(p.x(hour), 205)
        p.text(p.x(hour) - 10, 190, value, anchor="end", color=IN, bold=True)
    rows = (("no ttl", None), ("ttl: 2h", 2), ("allow_exact: false", None))
    for place, (label, ttl) in enumerate(rows):
        y = 65 + 45 * place
        p.text(LEFT - 20, y + 4, label, anchor="end")
        for at in (7, 8, 9.5):
            strict = label.startswith("allow")
            known = [h for h in values if (h < at if strict else h <= at) and (ttl is None or h >= at - ttl)]
            found = values[max(known)] if known else "null"
            color = IN if known else PALE
            p.text(p.x(at) + 6, y + 4, found, color=color, bold=bool(known), size=12)
    return p.svg()


def knowledge() -> str:
    """Draw the cutoff of knowledge: an event may be older than the moment it became known."""
    p = Picture(230, 0, 12)
    p.row_time(7.7, 40, 185, "t = 07:42")
    rows = ((1, 2, "low"), (4, 6, "mid"), (5, 9, "high"))
    for place, (event, created, value) in enumerate(rows):
        y = 70 + 36 * place
        known = created <= 7.7
        color = IN if known else PALE
        p.line(p.x(event), y, p.x(created), y, color=color, width=2)
        p.dot(p.x(event), y, color=color)
        p.parts.append(
            f'<rect x="{p.x(created) - 5}" y="{y - 5}" width="10" height="10" fill="{color}" stroke="{color}"/>'
        )
        p.text(p.x(event) - 14, y + 4, value, color=color, bold=True, anchor="end")
        p.text(p.x(created) + 12, y + 4, "known in time" if known else "not known at t", color=color, size=12)
    p.axis(185, {h: f"{h:02}:00" for h in (1, 2, 4, 5, 6, 9)})
    p.dot(60, 70)
    p.text(74, 74, "event", size=12)
    p.parts.append(f'<rect x="55" y="101" width="10" height="10" fill="{IN}"/>')
    p.text(74, 110, "created", size=12)
    return p.svg()


def availability() -> str:
    """Draw when the rows of a daily table are known: at the end of their day, plus the delay."""
    p = Picture(200, 0, 72)
    p.axis(160, {0: "Mon 00:00", 24: "Tue 00:00", 48: "Wed 00:00", 72: "Thu 00:00"})
    for place, (day, value) in enumerate(((0, "Monday's row"), (24, "Tuesday's row"))):
        y = 60 + 44 * place
        p.interval(y, day, day + 24, opens=True, closes=False, label="")
        p.line(p.x(day + 24), y, p.x(day + 26), y, color=AT, width=3)
        p.line(p.x(day + 26), y - 10, p.x(day + 26), 160, color=AT, dash="4 4")
        p.text(p.x(day + 26) + 6, y + 4, f"known {'Tue' if day == 0 else 'Wed'} 02:00", color=AT, size=12)
        p.text(p.x(day) + (10 if day == 0 else 44), y - 12, value, color=IN, size=12)
    p.text(LEFT - 20, 64, "interval: 1d", anchor="end")
    p.text(LEFT - 20, 82, "delay: 2h", anchor="end", color=AT)
    return p.svg()


def increment() -> str:
    """Draw which files a late row makes new: its own day, and the days whose windows reach back to it."""
    p = Picture(250, 0, 10)
    late, window = 3, 2
    for day in range(10):
        for bucket in range(3):
            new = late <= day <= late + window
            x, y = p.x(day) + 2, 60 + 40 * bucket
            color = IN if new else OUT
            p.parts.append(f'<rect x="{x}" y="{y}" width="54" height="32" rx="3" fill="{color}"/>')
        p.text(p.x(day) + 29, 200, f"day {day + 1}", size=12, anchor="middle")
    for bucket in range(3):
        p.text(LEFT - 20, 80 + 40 * bucket, f"bucket {bucket}", anchor="end")
    p.text(p.x(late) + 29, 30, "a late row", color=AT, anchor="middle", bold=True)
    p.line(p.x(late) + 29, 36, p.x(late) + 29, 56, color=AT)
    p.text(
        LEFT,
        232,
        "blue: computed again (windows of 2d reach back to the late row); grey: kept as they are",
        size=12,
    )
    return p.svg()


def training_row() -> str:
    """Draw what one row of a training set knows, and what it should learn."""
    p = Picture(265, 0, 19)
    at = 9
    p.row_time(at, 34, 225, "t: a row of the spine")
    p.text(LEFT, 20, "known at t", color=IN, bold=True)
    p.text(RIGHT, 20, "not known at t", color=LATER, anchor="end", bold=True)
    p.interval(65, at - 7, at, opens=True, closes=False, label="window 7d")
    p.text(p.x(at - 7) + 8, 52, "count 3", color=IN, size=12)
    p.line(p.x(at), 110, p.x(at), 135, color=IN, width=2.5)
    p.dot(p.x(at), 110, radius=5)
    p.text(LEFT - 20, 114, "look-up", anchor="end")
    p.text(p.x(at) - 12, 114, "the latest at or before t: the one at t", color=IN, size=12, anchor="end")
    p.line(p.x(at), 160, p.x(at + 2), 160, color=PALE, dash="3 3")
    p.text(p.x(at + 1), 152, "gap 2d", color=PALE, size=12, anchor="middle")
    p.interval(160, at + 2, at + 8, opens=True, closes=False, label="label", color=LATER)
    p.text(p.x(at + 2) + 8, 147, "horizon 6d: count 2", color=LATER, size=12)
    p.axis(225, {day: f"day {day}" for day in (2, 9, 11, 17)}, label="events")
    for day in (1, 3, 5.5, 8, 9, 10, 11, 14, 17):
        p.dot(p.x(day), 225, color=IN if day <= at else LATER)
    p.text(LEFT, 260, "The event at t is in the look-up, not in the window. The one on day 17 is after the horizon.",
           color=PALE, size=12)  # fmt: skip
    return p.svg()


def embargo() -> str:
    """Draw which rows are in no split: those whose label is made in the time of the next one."""
    p = Picture(290, 0, 20)
    end, reach = 10, 4
    p.row_time(end, 34, 230, "train: < day 10")
    p.parts.append(
        f'<rect x="{p.x(end - reach)}" y="40" width="{round(p.x(end) - p.x(end - reach), 1)}" height="190" '
        f'fill="{AT}" opacity="0.08"/>'
    )
    rows = ((3, "train"), (6, "train"), (7.5, "embargoed"), (9, "embargoed"), (10, "test"), (13, "test"))
    for place, (day, split) in enumerate(rows):
        y = 58 + 30 * place
        color = PALE if split == "embargoed" else IN
        p.interval(
            y, day, day + reach, opens=True, closes=False, label="", color=LATER if color == IN else PALE
        )
        p.dot(p.x(day), y, color=color)
        p.text(LEFT - 20, y + 4, split, anchor="end", color=color, bold=split != "embargoed")
    p.axis(230, {day: f"day {day}" for day in (0, 6, 10, 14)})
    p.text(p.x(end - reach / 2), 272, "embargo: 4d", size=12, anchor="middle", color=AT)
    p.text(RIGHT, 272, "the bars: horizons of the labels, 4 days", size=12, anchor="end", color=LATER)
    return p.svg()


def out_of_time() -> str:
    """Draw which labels the target encoding of a row may use: those that were known, of the same category."""
    p = Picture(200, 0, 20)
    at, delay = 14, 4
    p.row_time(at, 34, 140, "t: a train row, merchant A")
    p.interval(70, None, at - delay, opens=True, closes=True, label="labels known")
    p.line(p.x(at - delay), 70, p.x(at), 70, color=PALE, dash="3 3")
    p.text(p.x(at - delay / 2), 62, "label_delay 4d", size=12, color=PALE, anchor="middle")
    p.axis(140, {day: f"day {day}" for day in (0, 10, 14)}, label="merchant A")
    for day, label in ((1, 1), (4, 0), (7, 0), (10, 1), (12, 1), (14, 0), (17, 1)):
        p.dot(p.x(day), 140, color=IN if day <= at - delay else PALE)
        p.text(
            p.x(day) - 10, 127, str(label), anchor="end", color=IN if day <= at - delay else PALE, bold=True
        )
    p.text(LEFT, 190, "mean 2 / 4: labels of rows at least 4 days older. Not its own, not those that came later.",
           size=12)  # fmt: skip
    return p.svg()


def shuffle() -> str:
    """Draw the two passes of a global shuffle: each piece into one spill, each shard from a slice of every spill."""
    p = Picture(330, 0, 10)
    colors = ("#0b69a3", "#c0392b", "#b58900", "#2f855a")
    for column, words in ((40, "pieces, in the spine's order"), (330, "one spill a piece"), (620, "shards")):
        p.text(column, 26, words, bold=True)
    p.text(183, 52, "pass 1: hash(row, seed)", size=12, color=PALE)
    p.text(478, 52, "pass 2: sort by hash", size=12, color=PALE)
    for piece in range(3):
        y = 80 + 80 * piece
        p.parts.append(f'<rect x="40" y="{y}" width="120" height="48" fill="{OUT}" rx="3"/>')
        p.text(100, y + 29, f"rows {piece * 4} to {piece * 4 + 3}", anchor="middle")
        p.line(165, y + 24, 320, y + 24, color=PALE)
        for shard in range(4):
            p.parts.append(
                f'<rect x="330" y="{y + 12 * shard}" width="120" height="11" fill="{colors[shard]}" opacity="0.75"/>'
            )
    for shard in range(4):
        y = 72 + 62 * shard
        p.parts.append(
            f'<rect x="620" y="{y}" width="120" height="44" fill="{colors[shard]}" opacity="0.75" rx="3"/>'
        )
        for piece in range(3):
            p.line(455, 80 + 80 * piece + 12 * shard + 5, 615, y + 22, color=colors[shard], width=1)
    p.text(
        40,
        318,
        "Each row is read twice and written twice, whatever its shard. Tasks: pieces + shards.",
        size=12,
    )
    return p.svg()


PICTURES: dict[str, Callable[[], str]] = {
    "window-and-lookup": window_and_lookup,
    "closed": closed,
    "delay-and-hop": delay_and_hop,
    "lookup": lookup,
    "knowledge": knowledge,
    "availability": availability,
    "increment": increment,
    "training-row": training_row,
    "embargo": embargo,
    "out-of-time": out_of_time,
    "shuffle": shuffle,
}


def main() -> int:
    """Write all pictures beside this file."""
    folder = Path(__file__).parent
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(draw())
    return 0


if __name__ == "__main__":
    sys.exit(main())
