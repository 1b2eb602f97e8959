"""A plan before it runs: what each table will get and why, as plain values, text and HTML.

:func:`describe_plan` turns a plan into the value that ``plan --json`` prints; everything else is drawn from that value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from featureflow.library.aggregations.history import history_of
from featureflow.observe import html
from featureflow.observe.grids import describe_grid, grid_facts
from featureflow.observe.report import CHANGE_STYLES
from featureflow.observe.terminal import Paint, text_width, wrap
from featureflow.observe.units import plural, size

if TYPE_CHECKING:
    from featureflow.execute.build_plan import BuildPlan
    from featureflow.execute.stages import TablePlan
    from featureflow.plan.nodes import CompiledTable, Input

_MARKS = {
    "new": "+",
    "definition changed": "~",
    "full rebuild": "~",
    "new data": "+",
    "late data": "~",
    "unchanged": "=",
}


#: Columns before the text of a fact: indent, name, blank.
_FACT_INDENT = 6 + 8 + 1


def describe_build(plan: BuildPlan) -> dict[str, Any]:
    """Describe a build plan: its tables, and the sources with their files."""
    described = describe_plan(
        plan.tables, project=plan.project, store=plan.site.store_url, notes=plan.warnings
    )
    described["executor"] = plan.site.executor.description
    described["sources"] = {
        name: {
            "files": len(found.files),
            "chunks": len(found.chunks),
            "rows": sum(file["rows"] for file in found.files),
            "bytes": sum(file["size"] for file in found.files),
        }
        for name, found in plan.sources.items()
    }
    for entry in described["tables"]:
        state = plan.states.get(entry["name"])
        kept = set(entry["reuse"])
        files = [] if state is None else [_label(label, entry["partition"]) for label, _ in state.units]
        entry["estimate"]["files_reused"] = sum(label in kept for label in files)
    described["tables"][:0] = [describe_grid(grid.plan) for grid in plan.grids]
    for dataset in plan.datasets:
        entry = dataset.describe()
        described["tables"].append(entry)
        described["notes"] = list(dict.fromkeys([*described["notes"], *entry["notes"]]))
    return described


def _label(stored: str | None, partition: str) -> str:
    """Label of a slice, from the value of the storage column."""
    if stored is not None:
        return stored
    return "all" if partition == "none" else "null"


def describe_plan(
    tables: Iterable[TablePlan], *, project: str, store: str, notes: Iterable[str] = ()
) -> dict[str, Any]:
    """Describe what a build would do, as JSON values.

    Parameters
    ----------
    tables
        In the order in which they will be built.
    project, store
        Name of the project, URL of its store.
    notes
        What a reader should know besides; notes of the definitions (``tail_hop``) are added here.
    """
    described = [describe_table(plan) for plan in tables]
    return {
        "project": project,
        "store": store,
        "tables": described,
        "notes": list(dict.fromkeys([*notes, *(note for entry in described for note in entry["notes"])])),
    }


def describe_table(plan: TablePlan) -> dict[str, Any]:
    """Describe what would happen to one table; ``estimate`` holds whatever the planner worked out in numbers."""
    table = plan.table
    missing = [part.label for part in plan.missing]
    return {
        "kind": "table",
        "name": table.name,
        "change": plan.change,
        "reason": plan.reason,
        "publishes": plan.does_something,
        "version": None if plan.current is None else plan.current.version,
        "definition_hash": table.definition_hash,
        "partition": table.partition,
        "buckets": plan.n_buckets,
        "compute": missing,
        "reuse": list(plan.reused),
        "drop": list(plan.dropped),
        "reads": _reads(table),
        "estimate": dict(plan.estimate),
        "notes": _definition_notes(table),
    }


def _reads(table: CompiledTable) -> list[dict[str, str]]:
    def entry(given: Input, use: str) -> dict[str, str]:
        return {"kind": given.kind, "name": given.name, "use": use}

    found = [entry(table.source, "rows"), *(entry(lookup.right, "look-up") for lookup in table.lookups)]
    return [item for i, item in enumerate(found) if item not in found[:i]]


def _definition_notes(table: CompiledTable) -> list[str]:
    notes = []
    hops = dict.fromkeys(window.text for window in table.windows if window.tail_hop_us)
    if hops:
        shown = ", ".join(hops)
        notes.append(
            f"{table.name}: tail_hop is part of the definition of {shown}: the start of the window is rounded down."
        )
    lifetime = [feature for feature in table.features if feature.window.length_us is None]
    whole = [feature.name for feature in lifetime if history_of(feature.op) == "all"]
    if whole:
        notes.append(
            f"{table.name}: lifetime of {', '.join(whole)} reads all history in every build; there is no state for it."
        )
    elif lifetime and table.partition == "none":
        notes.append(
            f"{table.name}: lifetime reads all history in every build: with `partition: none` nothing is kept."
        )
    return notes


def plan_text(plan: dict[str, Any], *, limit: int = 100, paint: Paint | None = None) -> str:
    """Write a described plan for people: one block for each table that changes, one line for each that does not."""
    brush = paint or Paint()
    tables = plan["tables"]
    todo = sum(entry["publishes"] for entry in tables)
    about = f"{to_build(tables)} to build" if todo else "nothing to do"
    lines = [brush(f"{plan['project']} → {plan['store']}", "bold") + brush(f"   {about}", "dim"), ""]
    column = max((text_width(entry["name"]) for entry in tables), default=0)
    for entry in tables:
        lines += _table_lines(entry, min(column, 32), limit, brush)
    total = _totals([entry for entry in tables if entry["publishes"]])
    if todo > 1 and total:
        lines += ["", f"      {brush('all     ', 'dim')} {total}"]
    if plan["notes"]:
        lines.append("")
        lines += [line for note in plan["notes"] for line in wrap(f"  · {note}", limit, "    ")]
    return "\n".join(lines)


def to_build(entries: Iterable[dict[str, Any]]) -> str:
    """How many of the tables, and of the datasets if there are any, have something to be built.

    Examples
    --------
    >>> to_build([{"kind": "table", "publishes": True}, {"kind": "dataset", "publishes": False}])
    '1 of 1 table and 0 of 1 dataset'
    >>> to_build([{"kind": kind, "publishes": True} for kind in ("grid", "table", "dataset")])
    '1 of 1 grid, 1 of 1 table and 1 of 1 dataset'
    """
    by_kind: dict[str, list[bool]] = {}
    for entry in entries:
        by_kind.setdefault(entry.get("kind", "table"), []).append(entry["publishes"])
    parts = [f"{sum(found)} of {plural(len(found), kind)}" for kind, found in by_kind.items()]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:]))) or "0 of 0 tables"


def _why(entry: dict[str, Any]) -> str:
    kind = entry.get("kind", "table")
    return str(entry["reason"]) if kind == "table" else f"{kind}: {entry['reason']}"


def _table_lines(entry: dict[str, Any], column: int, limit: int, brush: Paint) -> list[str]:
    change = entry["change"]
    style = CHANGE_STYLES.get(change, ())
    mark = brush(_MARKS.get(change, "·"), "bold", *style)
    name = entry["name"].ljust(column)
    head = f"  {mark} {brush(name, 'bold') if entry['publishes'] else name}  {brush(change, *style)}"
    indent = " " * 6
    why = _why(entry)
    if text_width(f"  x {name}  {change}  {why}") <= limit:
        lines = [head + "  " + brush(why, "dim")]
    else:
        lines = [head, *(brush(line, "dim") for line in wrap(indent + why, limit, indent))]
    if not entry["publishes"]:
        return lines
    for label, text in _facts(entry):
        body = wrap(text, limit - _FACT_INDENT)
        lines.append(f"{indent}{brush(f'{label:<8}', 'dim')} {body[0]}")
        lines += [" " * _FACT_INDENT + line for line in body[1:]]
    return lines


def _facts(entry: dict[str, Any]) -> list[tuple[str, str]]:
    if entry.get("kind") == "grid":
        return grid_facts(entry)
    facts = [("compute", _compute_text(entry))]
    if entry["reuse"] or entry["drop"]:
        kept = plural(len(entry["reuse"]), "slice")
        files = entry["estimate"].get("files_reused")
        kept += f" in {plural(files, 'file')}" if files is not None else ""
        gone = (
            f"; {plural(len(entry['drop']), 'slice')} of version {entry['version']} dropped"
            if entry["drop"]
            else ""
        )
        facts.append(("reuse", kept + gone))
    estimate = entry["estimate"]
    facts.append(("read", _read_text(entry)))
    if "rows_computed" in estimate:
        written = f"about {plural(estimate['rows_computed'], 'row')}"
        if "output_row_bytes" in estimate:
            written += f", {size(_output_bytes(entry))} before compression"
        facts.append(("write", written))
    if "task_bytes" in estimate:
        text = f"{size(estimate['task_bytes'])} a task"
        if "budget_bytes" in estimate:
            share = estimate["task_bytes"] / max(1, estimate["budget_bytes"])
            text += f" of {size(estimate['budget_bytes'])} ({f'{share:.0%}' if share >= 0.01 else '< 1%'})"
        if estimate.get("spilled_bytes"):
            text += "; what is more goes through sorted runs on scratch"
        facts.append(("memory", text))
    return facts


def _compute_text(entry: dict[str, Any]) -> str:
    labels = entry["compute"]
    if not labels:
        return "nothing"
    tasks = entry["estimate"].get("tasks")
    if entry.get("kind") == "dataset":
        return _pieces_text(entry) + (f", {plural(tasks, 'task')}" if tasks else "")
    noun = {"day": "day", "month": "month", "year": "year"}.get(entry["partition"], "slice")
    text = f"{plural(len(labels), noun)} × {plural(entry['buckets'], 'bucket')}"  # noqa: RUF001
    if entry["partition"] != "none":
        text += f", {labels[0]}" if len(labels) == 1 else f", {labels[0]} … {labels[-1]}"
    return text + (f", {plural(tasks, 'task')}" if tasks else "")


def _pieces_text(entry: dict[str, Any]) -> str:
    spine = next((item["name"] for item in entry["reads"] if item["use"] == "rows"), "the spine")
    joins = sum(item["use"] != "rows" for item in entry["reads"])
    text = f"rows of {spine} in {plural(entry['buckets'], 'piece')}"
    return text + (f", joined with {plural(joins, 'input')}" if joins else "")


def _read_text(entry: dict[str, Any]) -> str:
    estimate = entry["estimate"]
    uses: dict[str, dict[str, None]] = {}
    for item in entry["reads"]:
        use = item["use"]
        if entry.get("kind") == "dataset":
            use = {"rows": "spine"}.get(use, use)
        uses.setdefault(item["name"], {})[use] = None
    names = ", ".join(
        name + (f" ({', '.join(said)})" if (said := [use for use in found if use != "rows"]) else "")
        for name, found in uses.items()
    )
    if "bytes_read" not in estimate:
        return names
    text = size(estimate["bytes_read"])
    if estimate.get("chunks_read"):
        text += f" in {plural(estimate['chunks_read'], 'chunk')}"
    if estimate.get("state_bytes"):
        text += f" and {size(estimate['state_bytes'])} of state for lifetime"
    skipped = estimate.get("bytes_total", estimate["bytes_read"]) - estimate["bytes_read"]
    if skipped > 0:
        text += f", {size(skipped)} skipped"
    return f"{text}: {names}"


def _totals(entries: list[dict[str, Any]]) -> str:
    known = [entry["estimate"] for entry in entries if "bytes_read" in entry["estimate"]]
    if not known:
        return ""
    tasks, read = sum(entry.get("tasks", 0) for entry in known), sum(entry["bytes_read"] for entry in known)
    return f"{plural(tasks, 'task')}, {size(read)} to read"


def _output_bytes(entry: dict[str, Any]) -> int:
    return int(entry["estimate"]["rows_computed"]) * int(entry["estimate"]["output_row_bytes"])


def plan_html(plan: dict[str, Any]) -> str:
    """Draw a described plan for a notebook."""
    rows = []
    for entry in plan["tables"]:
        facts = dict(_facts(entry)) if entry["publishes"] else {}
        rows.append(
            (
                entry["name"],
                entry["change"],
                _why(entry),
                facts.get("compute", "-"),
                facts.get("read", "-"),
                facts.get("write", "-"),
                facts.get("memory", "-"),
            )
        )
    headers = ("table", "change", "why", "compute", "read", "write", "memory")
    about = f"→ {plan['store']} · {to_build(plan['tables'])} to build"
    return html.page_part(
        [html.title(plan["project"], about), html.table(rows, headers), html.notes(plan["notes"])]
    )
