"""HTML for notebooks: small, self-contained, readable on light and dark pages. Every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from featureflow.observe.units import plural

if TYPE_CHECKING:
    from featureflow.spec.load import LoadedProject

_FRAME = (
    "font-family: system-ui, sans-serif; font-size: 13px; line-height: 1.45; "
    "border-left: 3px solid #3b7dd8; padding: 2px 0 2px 12px; margin: 4px 0; overflow-x: auto"
)
_CELL = "padding: 2px 14px 2px 0; border: none; vertical-align: top; white-space: nowrap"
_TABLE = "border-collapse: collapse; border: none; margin: 4px 0; font-variant-numeric: tabular-nums"


def page_part(parts: Iterable[str]) -> str:
    """Put parts of :func:`title`, :func:`table` and :func:`notes` into one frame."""
    return f'<div style="{_FRAME}">{"".join(part for part in parts if part)}</div>'


def title(name: str, about: str = "") -> str:
    """A heading: a name and, paler, what there is to say about it."""
    rest = f' <span style="opacity: .65">{escape(about)}</span>' if about else ""
    return f"<div><strong>{escape(name)}</strong>{rest}</div>"


def table(rows: Sequence[Sequence[str]], headers: Sequence[str], *, right: Sequence[int] = ()) -> str:
    """A table of texts; the columns at the positions ``right`` hold numbers."""

    def cell(tag: str, text: str, position: int) -> str:
        align = "right" if position in right else "left"
        weight = "; font-weight: 500; opacity: .65" if tag == "th" else ""
        return f'<{tag} style="{_CELL}; text-align: {align}{weight}">{escape(text)}</{tag}>'

    head = "".join(cell("th", text, i) for i, text in enumerate(headers))
    body = "".join(
        '<tr style="background: none">' + "".join(cell("td", text, i) for i, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    top = f'<thead><tr style="border: none">{head}</tr></thead>' if any(headers) else ""
    return f'<table style="{_TABLE}">{top}<tbody>{body}</tbody></table>'


def notes(texts: Iterable[str]) -> str:
    """Remarks, one a line; nothing if there is none."""
    lines = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul style="margin: 4px 0; padding-left: 18px; opacity: .85">{lines}</ul>' if lines else ""


def project_html(loaded: LoadedProject, store_url: str) -> str:
    """A project's tables: what each reads, by which keys, and how much it aggregates; its grids with their steps."""
    project = loaded.project
    rows = []
    for name, feature in project.features.items():
        reads = [feature.source, *(f"{lookup.from_} (look-up)" for lookup in feature.lookup)]
        windows = dict.fromkeys(str(window) for entry in feature.aggregate for window in entry.windows)
        rows.append(
            (
                name,
                ", ".join(dict.fromkeys(reads)),
                ", ".join(feature.keys),
                ", ".join(windows) or "-",
                feature.description or "",
            )
        )
    grids = [
        (
            name,
            grid.source,
            " → ".join(step.name for step in grid.steps) or "-",
            " × ".join(f"{dim} {n}" for dim, n in (grid.chunks or {}).items()) or "chosen",  # noqa: RUF001
            grid.description or "",
        )
        for name, grid in project.grids.items()
    ]
    parts = [title(project.project, f"{project_facts(loaded)} → {store_url}")]
    parts += [table(rows, ("table", "reads", "keys", "windows", ""))] if rows else []
    parts += [table(grids, ("grid", "reads", "steps", "chunks", ""))] if grids else []
    return page_part(parts)


def project_facts(loaded: LoadedProject) -> str:
    """How much there is in a project, in a few words."""
    project = loaded.project
    facts = [plural(len(project.sources), "source")]
    facts += [plural(len(project.features), "feature table")] if project.features or not project.grids else []
    facts += [plural(len(project.grids), "grid")] if project.grids else []
    facts += [plural(len(project.datasets), "dataset")] if project.datasets else []
    return ", ".join(facts)
