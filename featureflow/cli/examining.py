"""``doctor``: whether this machine, this store and this cluster can do what a build needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from featureflow.cli.options import json_option, store_option, target_option
from featureflow.cli.output import emit_json, look

if TYPE_CHECKING:
    from featureflow.execute.doctor import Finding

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


@click.command(short_help="Can this machine, store and cluster do what is needed?")
@store_option
@target_option
@click.option(
    "--scheduler", metavar="URL", help="A running Dask scheduler: does it have workers, with what versions?"
)
@click.option("--scratch", type=click.Path(), metavar="DIR", help="Fast local disk for exchange files.")
@json_option
def doctor(
    store: str | None, target: str | None, scheduler: str | None, scratch: str | None, as_json: bool
) -> None:
    """Try what a build needs, here, in the store and on the cluster, and say what is wrong (then exits with 1).

    Into the store it writes small objects below _ff/ and deletes them. A store that has no conditional writes is
    refused: versions could be lost there.
    """
    from featureflow.execute.doctor import examine, summary

    found = []
    for finding in examine(**_wanted(store, target, scheduler, scratch)):
        found.append(finding)
        if not as_json:
            _print(finding, first=len(found) == 1 or found[-2].area != finding.area)
    result = summary(found)
    if as_json:
        emit_json(result)
    else:
        bad = sum(finding.status == "failed" for finding in found)
        doubtful = sum(finding.status == "warning" for finding in found)
        words = f"{bad} failed, {doubtful} to look at" if bad or doubtful else "everything is as it should be"
        click.echo(f"\n{words}")
    if not result["ok"]:
        raise click.exceptions.Exit(1)


def _wanted(
    store: str | None, target: str | None, scheduler: str | None, scratch: str | None
) -> dict[str, Any]:
    """What to look at: what was named, else what a build in this folder would use."""
    from featureflow.api import Project, default_scratch
    from featureflow.cli.stores import has_project

    chosen = None
    if target is not None or (store is None and has_project()):
        project = Project(store=store, scheduler=scheduler, scratch=scratch, target=target)
        store, scheduler, scratch, chosen = (
            project.store_url,
            project.scheduler,
            project.scratch,
            project.target,
        )
    store = store or os.environ.get("FEATUREFLOW_STORE")
    folder = os.path.abspath(os.path.expanduser(scratch or default_scratch()))
    return {"store_url": store, "scratch": folder, "scheduler": scheduler, "target": chosen}


def _print(finding: Finding, *, first: bool) -> None:
    from featureflow.observe.terminal import wrap

    brush, limit = look()["paint"], look()["limit"]
    mark, colour = _MARKS[finding.status]
    if first:
        click.echo(brush(finding.area, "bold"))
    lines = wrap(finding.text, limit - 25)
    click.echo(f"  {brush(mark, colour)} {finding.name:19}  {lines[0]}")
    for line in lines[1:]:
        click.echo(" " * 25 + line)
