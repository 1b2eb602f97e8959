"""Commands for writing a project: ``init``, ``demo``, ``validate``, ``compile``, ``test``."""

from __future__ import annotations

import os
import shutil
from typing import Any

import click

from featureflow.cli.options import json_option, quiet_option, spec_argument, store_option, target_option
from featureflow.cli.output import emit_json, look, say
from featureflow.core.errors import FeatureflowError, SpecError
from featureflow.observe.units import plural

_TEMPLATES = ("fraud", "sensors", "imaging")


@click.command(short_help="Make a small project that builds as it is.")
@click.argument("folder", metavar="[DIR]", required=False, default=".", type=click.Path(file_okay=False))
@click.option("--template", type=click.Choice(_TEMPLATES), default="fraud", show_default=True)
def init(folder: str, template: str) -> None:
    """Make a small project in DIR (this folder when omitted): a spec and data, ready to build.

    Nothing that is there already is overwritten.
    """
    from importlib.resources import as_file, files

    with as_file(files("featureflow.demo") / "templates" / template) as root:
        names = sorted(os.listdir(root))
        there = [name for name in names if os.path.lexists(os.path.join(folder, name))]
        if there:
            raise FeatureflowError(
                f"{folder}: {', '.join(there)} is there already and will not be overwritten. "
                "Name a new folder: featureflow init my_project"
            )
        shutil.copytree(root, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    say(f"{folder}: a project from the template {template!r}: {', '.join(names)}", "green")
    step = "" if folder in (".", "./") else f"cd {folder} && "
    say(f"next: {step}featureflow build")


@click.command(short_help="The main job on real data: versions, a training set, shards, models.")
@click.argument(
    "folder", metavar="[DIR]", required=False, default="featureflow-demo", type=click.Path(file_okay=False)
)
def demo(folder: str) -> None:
    """Build features of 336,776 flights and the weather in DIR: all of it, then one more day.

    Then make a training set of them, export shards, load those, and train models on them beside naive guesses.
    """
    from featureflow.demo.run import run_demo

    run_demo(folder)


@click.command(short_help="Every mistake of a spec at once; reads no data.")
@spec_argument
@target_option
@json_option
def validate(spec: str | None, target: str | None, as_json: bool) -> None:
    """Check SPEC (a file or folder; featureflow.yaml or configs/ when omitted) without reading any data.

    Every mistake is one line, file:line:col: path: what is wrong.
    """
    from featureflow.spec.load import load_project
    from featureflow.spec.suggest import did_you_mean

    try:
        loaded = load_project(spec)
        if target is not None and target not in loaded.project.targets:
            hint = did_you_mean(target, list(loaded.project.targets))
            raise SpecError([loaded.problem(("targets",), f"no target {target!r}. {hint}")])
    except SpecError as error:
        if not as_json:
            raise
        emit_json({"valid": False, "problems": [_problem(problem) for problem in error.problems]})
        raise click.exceptions.Exit(error.exit_code) from None
    project = loaded.project
    counts = {
        name: len(getattr(project, name)) for name in ("sources", "features", "grids", "datasets", "tests")
    }
    if as_json:
        emit_json({"valid": True, "project": project.project, **counts, "problems": []})
        return
    parts = [
        plural(counts["sources"], "source"),
        plural(counts["features"], "feature table"),
        *([plural(counts["grids"], "grid")] if counts["grids"] else []),
        *([plural(counts["datasets"], "dataset")] if counts["datasets"] else []),
        plural(counts["tests"], "test"),
    ]
    click.echo(f"{project.project} is valid: {', '.join(parts)}")


def _problem(problem: Any) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in ("file", "line", "column", "path", "message")}


@click.command("compile", short_help="Output columns, their types, and what each comes from.")
@spec_argument
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the language instead, for editors.")
@store_option
@target_option
@json_option
def compile_(spec: str | None, schema: bool, store: str | None, target: str | None, as_json: bool) -> None:
    """Type-check SPEC against the schemas of its sources, and list every output column of tables and datasets."""
    if schema:
        from featureflow.spec.json_schema import json_schema

        emit_json(json_schema())
        return
    from featureflow.api import Project
    from featureflow.observe.definitions import (
        definitions_text,
        describe_dataset_definition,
        describe_definition,
    )
    from featureflow.observe.grids import describe_grid_definition

    project = Project(spec, store=store, target=target)
    found = project.compile_all()
    tables = [describe_definition(table) for table in found.tables.values()]
    grids = [describe_grid_definition(one) for one in found.grids.values()]
    datasets = [describe_dataset_definition(one) for one in found.datasets.values()]
    if as_json:
        emit_json({"tables": tables, "grids": grids, "datasets": datasets})
    else:
        click.echo(definitions_text([*tables, *grids, *datasets], **look()))


@click.command(short_help="The spec's own tests, in seconds.")
@spec_argument
@target_option
@quiet_option
@json_option
def test(spec: str | None, target: str | None, quiet: bool, as_json: bool) -> None:
    """Run the `tests:` of SPEC on the rows that they give: no files, no cluster. Exits with 1 if one fails."""
    from featureflow.api import Project

    results = Project(spec, target=target).test()
    failed = [result for result in results if not result.passed]
    if as_json:
        entries = [{"name": r.name, "passed": r.passed, "message": r.message} for r in results]
        emit_json({"passed": not failed, "tests": entries})
    else:
        brush = look()["paint"]
        for result in results:
            if result.passed and not quiet:
                click.echo(f"{brush('✓', 'green')} {result.name}")
            elif not result.passed:
                click.echo(f"{brush('✗', 'red')} {result.name}\n{_indented(result.message)}")
        passed = f"{len(results) - len(failed)} of {plural(len(results), 'test')} passed"
        click.echo(passed if results else "the spec has no tests: add some under `tests:`")
    if failed:
        raise click.exceptions.Exit(1)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
