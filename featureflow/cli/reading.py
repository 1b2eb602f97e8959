"""Commands that look at stored tables and datasets: ``ls``, ``show``, ``history``, ``diff``, ``lineage``."""

from __future__ import annotations

import re

import click

from featureflow.cli.options import json_option, store_option, target_option
from featureflow.cli.output import emit_json, look
from featureflow.cli.stores import open_store

_LINEAGE = re.compile(r"(?P<table>[^.@]+(?:@[^.]+)?)(?:\.(?P<column>.+))?")


@click.command(short_help="Tables and datasets of the store, with size and age.")
@store_option
@target_option
@json_option
def ls(store: str | None, target: str | None, as_json: bool) -> None:
    """List the latest version of every table, grid and dataset. The size of a grid is that of its values in memory."""
    from featureflow.observe.stored import describe_version, listing_text

    opened = open_store(store, target)
    tables = [describe_version(table) for table in opened.latest()]
    datasets = [describe_version(opened.version(f"datasets/{name}")) for name in opened.datasets()]
    if as_json:
        emit_json({"store": opened.url, "tables": tables, "datasets": datasets})
    else:
        click.echo(listing_text([*tables, *datasets], opened.url, **look()))


@click.command(short_help="Schema, statistics and a sample of a version.")
@click.argument("name", metavar="NAME[@V]")
@click.option("--rows", type=click.IntRange(min=0), default=5, show_default=True, help="Rows of the sample.")
@store_option
@target_option
@json_option
def show(name: str, rows: int, store: str | None, target: str | None, as_json: bool) -> None:
    """Show a version: what it is, the statistics of its columns, and a few of its rows.

    V is a number, a tag, a time or `latest`: card_spend@7, card_spend@prod, card_spend@2026-11-01. Of a dataset also
    its splits, its labels in each of them, encoders, and what its build warned of. Of a grid its dimensions with their
    ranges and chunks, and of each variable units, how many values there are and are missing, least, mean and greatest.
    """
    from featureflow.observe.stored import describe_stored, kind_of, stored_text

    table = open_store(store, target).version(name)
    described = describe_stored(table)
    sample = table.sample(rows) if rows and not table.is_grid else None  # whose rows are chunks
    balance = None
    if kind_of(table) == "dataset":
        from featureflow.datasets.balance import label_balance
        from featureflow.datasets.dataset import Dataset

        balance = label_balance(Dataset(table))
        described["label_balance"] = balance
    if as_json:
        emit_json({**described, "sample": [] if sample is None else sample.to_dicts()})
    else:
        click.echo(stored_text(described, sample, balance, **look()))


@click.command(short_help="Versions of a table or dataset, the latest first.")
@click.argument("name")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="No more versions than this."
)
@store_option
@target_option
@json_option
def history(name: str, limit: int, store: str | None, target: str | None, as_json: bool) -> None:
    """List the versions of a table or dataset: when, how large, from which definition."""
    from featureflow.observe.stored import describe_entry, history_text, named
    from featureflow.tables.history import history as versions_of

    table = open_store(store, target).version(name)
    entries = [describe_entry(table, entry) for entry in versions_of(table.url, limit=limit)]
    if as_json:
        emit_json({**named(table), "versions": entries})
    else:
        click.echo(history_text(entries, **look()))


@click.command(short_help="What changed between two versions.")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@store_option
@target_option
@json_option
def diff(before: str, after: str, store: str | None, target: str | None, as_json: bool) -> None:
    """Compare two versions of a table or dataset: definition, schema, rows, statistics.

    For example: diff card_spend@6 card_spend@7
    """
    from featureflow.observe.differences import describe_difference, difference_text
    from featureflow.tables.diff import diff as compare

    opened = open_store(store, target)
    found = compare(opened.version(before), opened.version(after))
    described = describe_difference(found)
    if as_json:
        emit_json(described)
    else:
        click.echo(difference_text(described, **look()))


@click.command(short_help="What a table or dataset, or one of its columns, comes from.")
@click.argument("name", metavar="NAME[@V][.COLUMN]")
@store_option
@target_option
@json_option
def lineage(name: str, store: str | None, target: str | None, as_json: bool) -> None:
    """Show the input columns that each column of a version was computed from."""
    from featureflow.datasets.lineage import origins_of
    from featureflow.observe.definitions import lineage_text
    from featureflow.observe.stored import named

    match = _LINEAGE.fullmatch(name)
    if match is None:
        raise click.UsageError(
            f"{name!r} is no table or column. Write card_spend or card_spend.amount_sum_1d."
        )
    table = open_store(store, target).version(match["table"])
    columns = [match["column"]] if match["column"] else table.schema.names
    found = {column: list(origins_of(table, column)) for column in columns}
    if as_json:
        emit_json({**named(table), "version": table.version, "columns": found})
    else:
        click.echo(lineage_text(f"{table.name}@{table.version}", found, **look()))
