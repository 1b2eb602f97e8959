"""Commands that plan and build: ``plan`` shows what ``build`` does."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from featureflow.cli.options import (
    check_range,
    engine_options,
    json_option,
    quiet_option,
    selection_options,
    spec_argument,
    store_option,
    target_option,
)
from featureflow.cli.output import emit_json, look, say


@click.command(short_help="What a build would do to each table, and why.")
@spec_argument
@selection_options
@click.option(
    "--graph", type=click.Path(dir_okay=False), metavar="FILE.svg", help="Also draw the task graph."
)
@store_option
@target_option
@engine_options
@json_option
def plan(
    spec: str | None,
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    full: bool,
    graph: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Show what `build` would do, without doing it.

    For each table: its change class and the reason, the slices to compute and those kept, bytes to read and write,
    and memory per task against the budget.
    """
    from featureflow.api import Project
    from featureflow.observe.plans import plan_text

    check_range(start, end)
    planned = Project(spec, **where).plan(select, exclude, start=start, end=end, full=full).summary()
    if graph is not None:
        from featureflow.observe.graph import plan_svg

        with open(graph, "w", encoding="utf-8") as file:
            file.write(plan_svg(planned))
        say(f"task graph: {graph}")
    if as_json:
        emit_json(planned)
    else:
        click.echo(plan_text(planned, **look()))


@click.command(short_help="Build what has changed and publish new versions.")
@spec_argument
@selection_options
@store_option
@target_option
@engine_options
@quiet_option
@json_option
def build(
    spec: str | None,
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    full: bool,
    quiet: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Compute what is new or changed, publish one new version of each table that changed, and print the run report.

    Nothing becomes visible before a table is complete and its checks passed. An interrupted build loses nothing that
    was finished: the next one goes on from there.
    """
    from featureflow.api import Project
    from featureflow.execute.executors import keep_freed_memory
    from featureflow.observe.progress import choose_progress

    check_range(start, end)
    progress = choose_progress(quiet=quiet)
    keep_freed_memory()
    try:
        report = Project(spec, **where).build(
            select, exclude, start=start, end=end, full=full, progress=progress
        )
    finally:
        progress.finish()
    if as_json:
        emit_json(report.as_dict())
    else:
        click.echo(report.text(**look()))
