"""Text for terminals: aligned columns that fit the width, and colour that carries no meaning of its own."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_RESET = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours, or none of them: ``Paint(False)`` gives every text back as it is.

    Examples
    --------
    >>> Paint(False)("late data", "yellow")
    'late data'
    """

    enabled: bool = False

    def __call__(self, text: str, *styles: str) -> str:
        """Give the text in these styles."""
        codes = [_CODES[style] for style in styles]
        if not self.enabled or not codes or not text:
            return text
        return f"\x1b[{';'.join(codes)}m{text}{_RESET}"


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at the stream right now: a terminal, and not the log of a CI run."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # a replaced or closed stream
        return False


def paint_for(stream: TextIO) -> Paint:
    """Colours for a stream: only on a terminal, and never with ``NO_COLOR`` (https://no-color.org)."""
    return Paint(is_terminal(stream) and not os.environ.get("NO_COLOR"))


def width(stream: TextIO | None = None) -> int:
    """Columns to fill: those of the terminal (``COLUMNS`` first), 100 where there is none, never under 60."""
    target = stream or sys.stdout
    if os.environ.get("COLUMNS", "").isdigit() or is_terminal(target):
        return max(60, shutil.get_terminal_size((100, 24)).columns)
    return 100


def text_width(text: str) -> int:
    """Columns that a text takes: wide East Asian characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def clip(text: str, limit: int) -> str:
    """Cut a text to so many columns, with ``…`` where something is missing. Line ends become blanks.

    Examples
    --------
    >>> clip("merchant_id", 8)
    'merchan…'
    """
    text = " ".join(text.split()) if any(c in text for c in "\n\r\t") else text
    if text_width(text) <= limit:
        return text
    kept, used = [], 0
    for c in text:
        used += text_width(c)
        if used > limit - 1:
            break
        kept.append(c)
    return "".join(kept) + "…"


def wrap(text: str, limit: int, indent: str = "") -> list[str]:
    """Break a text at blanks into lines of so many columns; later lines begin with ``indent``."""
    lines, line = [], text[: len(text) - len(text.lstrip(" "))]
    for word in text.split():
        candidate = f"{line} {word}" if line.strip() else line + word
        if text_width(candidate) > limit and line.strip():
            lines.append(line)
            line = indent + word
        else:
            line = candidate
    return [*lines, line] if line.strip() or not lines else lines


def table(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str],
    *,
    limit: int,
    right: Sequence[int] = (),
    styles: Sequence[Sequence[str]] = (),
    styled: int = 0,
    paint: Paint | None = None,
    indent: str = "",
) -> list[str]:
    """Lay out rows in columns under dim headings.

    Parameters
    ----------
    rows, headers
        Texts without colour.
    limit
        Columns of the terminal; the widest text column gives way first, and nothing is cut below eight columns.
    right
        Positions of the columns that are aligned to the right (numbers).
    styles
        For each row, styles of its cell in the column at ``styled``.
    """
    brush = paint or Paint()
    cells = [[clip(cell, 10_000) for cell in row] for row in rows]
    widths = [
        max(text_width(headers[i]), *(text_width(row[i]) for row in cells))
        if cells
        else text_width(headers[i])
        for i in range(len(headers))
    ]
    flexible = [i for i in range(len(headers)) if i not in right]
    _shrink(widths, flexible, limit - len(indent) - 2 * (len(headers) - 1))

    def line(row: Sequence[str]) -> list[str]:
        return [_pad(clip(cell, widths[i]), widths[i], i in right) for i, cell in enumerate(row)]

    shown = [(indent + "  ".join(line(headers))).rstrip()] if any(headers) else []
    out = [brush(text, "dim") for text in shown]
    for number, row in enumerate(cells):
        padded = line(row)
        style = styles[number] if number < len(styles) else ()
        padded[styled] = brush(padded[styled], *style)
        out.append((indent + "  ".join(padded)).rstrip())
    return out


def _shrink(widths: list[int], flexible: list[int], room: int) -> None:
    while sum(widths) > room:
        candidates = [i for i in flexible if widths[i] > 8] or [
            i for i in range(len(widths)) if widths[i] > 8
        ]
        if not candidates:
            return
        widest = max(candidates, key=lambda i: widths[i])
        widths[widest] -= 1


def _pad(text: str, columns: int, right: bool) -> str:
    gap = " " * (columns - text_width(text))
    return gap + text if right else text + gap
