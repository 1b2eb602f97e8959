"""What a build did, as a value: written to ``run.json``, printed at the end, shown in a notebook."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from featureflow.observe import html
from featureflow.observe.bottleneck import kind_name
from featureflow.observe.datasets import summary_texts
from featureflow.observe.exports import export_text
from featureflow.observe.terminal import Paint, table, wrap
from featureflow.observe.units import count, moment, plural, seconds, size

SCHEMA_VERSION = 1
"""Of ``run.json``: raised when an entry changes its meaning or goes away, not when one is added."""

Status = Literal["done", "nothing to do", "failed", "interrupted"]

CHANGE_STYLES: dict[str, tuple[str, ...]] = {
    "new": ("green",),
    "definition changed": ("yellow",),
    "full rebuild": ("yellow",),
    "new data": ("cyan",),
    "late data": ("yellow",),
    "unchanged": ("dim",),
}
"""How each change class of a table is coloured, here and in plans."""

_HEADERS = ("table", "change", "version", "rows", "written", "files", "kept", "slices")
_WIDE = 100


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage: how much there was, how much was there already, how long it took.

    ``reused`` counts the tasks whose result was found on disk; they are not in ``tasks``. ``shares`` are parts of the
    workers' time by kind of work, from 0 to 1.
    """

    name: str
    tasks: int = 0
    reused: int = 0
    rows: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def mostly(self) -> str:
        """The two largest shares, for people."""
        largest = sorted(self.shares, key=lambda kind: -self.shares[kind])[:2]
        return ", ".join(f"{kind_name(kind)} {self.shares[kind]:.0%}" for kind in largest)


@dataclass(frozen=True, slots=True)
class TableOutcome:
    """What became of one table.

    Parameters
    ----------
    name, change, reason
        As the plan said.
    version, previous_version
        Number of the version that this build published, None if it published none; and of the one before.
    rows, rows_written
        Rows of the table now; rows in the files that were written.
    files_written, files_reused, slices_computed
        What was done and what was kept.
    checks
        One entry for each check: ``label`` (its place in the spec), ``passed``, ``message`` and what else is known.
    kind
        ``table``, ``grid`` or ``dataset``.
    unit
        What ``rows`` and ``rows_written`` count: ``row``, or ``chunk`` of a grid's arrays.
    dataset
        Of a dataset: splits, embargoed rows, and labels, as `featureflow.observe.datasets.dataset_summary` gives them.
    """

    name: str
    change: str
    reason: str
    version: int | None
    previous_version: int | None
    rows: int
    rows_written: int = 0
    files_written: int = 0
    files_reused: int = 0
    slices_computed: int = 0
    checks: list[dict[str, Any]] = field(default_factory=list)
    kind: str = "table"
    dataset: dict[str, Any] | None = None
    unit: str = "row"


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything that a build leaves behind about itself.

    Parameters
    ----------
    build_id, project, engine_version
        Which build, of what, by which featureflow.
    started, seconds
        UTC instant as ISO text, and how long it took.
    status
        ``done``, ``nothing to do``, ``failed`` or ``interrupted``.
    tables, stages
        In the order in which they were built.
    warnings
        One sentence each.
    dashboard
        Address of the cluster's dashboard, if there was one.
    exports
        Shards that are there now, by dataset: ``dataset``, ``version``, ``folder``, ``format``, ``shards``, ``rows``,
        ``bytes``, ``splits`` (the last three of each), and ``left_out`` (rows by reason).
    bottleneck
        What held the build up and what to change; ``featureflow profile`` shows the rest.
    """

    build_id: str
    project: str
    started: str
    seconds: float
    engine_version: str
    status: str
    tables: list[TableOutcome]
    stages: list[StageReport]
    warnings: list[str] = field(default_factory=list)
    dashboard: str | None = None
    exports: list[dict[str, Any]] = field(default_factory=list)
    bottleneck: str | None = None

    @property
    def published(self) -> list[TableOutcome]:
        """Tables that have a new version."""
        return [table for table in self.tables if table.version is not None]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values, with ``schema_version``."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    def to_json(self) -> str:
        """Write the report as JSON text."""
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> RunReport:
        """Read what :meth:`to_json` wrote; entries that a later featureflow added are passed over.

        Raises
        ------
        ValueError
            If it was written in a newer form that this featureflow would misread.
        """
        given: dict[str, Any] = json.loads(text)
        version = given.get("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise ValueError(
                f"run report: schema_version {version!r} is not known (this featureflow reads up to {SCHEMA_VERSION}). "
                "Upgrade featureflow."
            )
        content = _known(cls, given)
        content["tables"] = [TableOutcome(**_known(TableOutcome, entry)) for entry in given["tables"]]
        content["stages"] = [StageReport(**_known(StageReport, entry)) for entry in given["stages"]]
        return cls(**content)

    def text(self, *, limit: int = 100, paint: Paint | None = None) -> str:
        """One screen: what happened to each table, where the time went, what to look at."""
        brush = paint or Paint()
        head = f"{self.project} · build {self.build_id} · {self.status} in {seconds(self.seconds)}"
        style = "green" if self.status in ("done", "nothing to do") else "red"
        lines = [brush(head, "bold", style), ""]
        lines += _narrowed(
            _HEADERS if limit >= _WIDE else _HEADERS[:-1],
            [_table_row(entry) for entry in self.tables],
            limit,
            brush,
            [CHANGE_STYLES.get(entry.change, ()) for entry in self.tables],
        )
        lines += self._dataset_lines(limit)
        if any(stage.tasks or stage.reused for stage in self.stages):
            lines += ["", *self._stage_lines(limit, brush)]
        lines += self._export_lines(limit)
        lines += self._check_lines(limit, brush)
        for warning in self.warnings:
            lines += [brush(line, "yellow") for line in wrap(f"  ! {warning}", limit, "    ")]
        if self.bottleneck:
            lines += ["", *wrap(f"  bottleneck: {self.bottleneck}", limit, "    ")]
        if self.dashboard:
            lines += ["", f"  dashboard {self.dashboard}"]
        return "\n".join(lines)

    def _dataset_lines(self, limit: int) -> list[str]:
        """What there is to say about each dataset that has a new version."""
        lines: list[str] = []
        for entry in self.published:
            for text in summary_texts(entry.dataset) if entry.dataset else ():
                lines += wrap(f"  {entry.name}: {text}", limit, "    ")
        return ["", *lines] if lines else []

    def _export_lines(self, limit: int) -> list[str]:
        lines = [line for entry in self.exports for line in wrap(f"  {export_text(entry)}", limit, "    ")]
        return ["", *lines] if lines else []

    def _stage_lines(self, limit: int, brush: Paint) -> list[str]:
        rows = [
            (
                stage.name,
                count(stage.tasks),
                count(stage.reused),
                count(stage.rows),
                size(stage.bytes_read),
                size(stage.bytes_written),
                seconds(stage.seconds),
                stage.mostly or "-",
            )
            for stage in self.stages
        ]
        headers = ("stage", "tasks", "reused", "rows", "read", "written", "time", "mostly")
        return _narrowed(headers, rows, limit, brush)

    def _check_lines(self, limit: int, brush: Paint) -> list[str]:
        checks = [(entry.name, check) for entry in self.tables for check in entry.checks]
        failed = [(name, check) for name, check in checks if not check.get("passed", True)]
        if not checks:
            return []
        passed = f"  {plural(len(checks) - len(failed), 'check')} passed"
        lines = ["", passed + (f", {len(failed)} failed" if failed else "")]
        for name, check in failed:
            text = f"  ✗ {check.get('message') or f'{name}: a check failed'}"
            text += f" (on_fail: {check['on_fail']})" if check.get("on_fail") else ""
            lines += [brush(line, "yellow") for line in wrap(text, limit, "    ")]
        return lines

    def __str__(self) -> str:
        """Same as :meth:`text`, without colour."""
        return self.text()

    def _repr_html_(self) -> str:
        """Show the report in a notebook."""
        head = f"build {self.build_id} · {moment(self.started)} UTC · {seconds(self.seconds)}"
        parts = [
            html.title(self.project, f"{self.status} · {head}"),
            html.table([_table_row(entry) for entry in self.tables], _HEADERS, right=range(3, len(_HEADERS))),
        ]
        stages = [
            (
                s.name,
                count(s.tasks),
                count(s.reused),
                count(s.rows),
                size(s.bytes_written),
                seconds(s.seconds),
                s.mostly,
            )
            for s in self.stages
        ]
        if stages:
            headers = ("stage", "tasks", "reused", "rows", "written", "time", "mostly")
            parts.append(html.table(stages, headers, right=(1, 2, 3, 4, 5)))
        said = [
            *self._dataset_lines(10_000),
            *self._export_lines(10_000),
            *self._check_lines(10_000, Paint()),
            *([f"bottleneck: {self.bottleneck}"] if self.bottleneck else []),
        ]
        parts += [html.notes([*(line.strip() for line in said if line), *self.warnings])]
        return html.page_part(parts)


def _table_row(entry: TableOutcome) -> tuple[str, ...]:
    if entry.version is None:
        version = "-" if entry.previous_version is None else f"{entry.previous_version} kept"
    else:
        version = (
            str(entry.version)
            if entry.previous_version is None
            else f"{entry.previous_version} → {entry.version}"
        )
    numbers = (entry.rows, entry.rows_written, entry.files_written, entry.files_reused, entry.slices_computed)
    if entry.unit == "chunk":
        chunks = [plural(number, "chunk") if number else "-" for number in numbers[:2]]
        return (entry.name, entry.change, version, *chunks, "-", "-", "-")
    return (entry.name, entry.change, version, *(count(number) if number else "-" for number in numbers))


def _narrowed(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    limit: int,
    brush: Paint,
    styles: Sequence[Sequence[str]] = (),
) -> list[str]:
    """Lay out rows without the columns in which nothing is; all but texts to the right."""
    empty = {"-", "0", "0 B"}
    keep = [i for i in range(len(headers)) if i == 0 or any(row[i] not in empty for row in rows)]
    texts = {"table", "change", "version", "stage", "mostly"}
    return table(
        [[row[i] for i in keep] for row in rows],
        [headers[i] for i in keep],
        limit=limit,
        right=[place for place, i in enumerate(keep) if headers[i] not in texts],
        styles=styles,
        styled=min(1, len(keep) - 1) if styles else 0,
        paint=brush,
        indent="  ",
    )


def with_shares(stages: Sequence[StageReport], profile: Mapping[str, Any]) -> list[StageReport]:
    """Put shares of a profile's stages beside the stages of a report; they have the same names."""
    found = {
        stage["name"]: {kind: round(s / stage["available"], 4) for kind, s in stage["spent"].items()}
        for stage in profile.get("stages", ())
        if stage["where"] == "workers" and stage["available"]
    }
    return [replace(stage, shares=found.get(stage.name, {})) for stage in stages]


def _known(cls: Callable[..., Any], entries: dict[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    return {name: value for name, value in entries.items() if name in names}
