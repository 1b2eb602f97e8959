"""Commands for the life of a version: ``tag``, ``restore``, ``gc``, ``verify``."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from featureflow.cli.options import Age, json_option, store_option, target_option
from featureflow.cli.output import emit_json, look, say
from featureflow.cli.stores import open_store
from featureflow.observe.units import plural, size

if TYPE_CHECKING:
    from featureflow.datasets.store import Store


@click.command(short_help="Give a version a name that can be moved.")
@click.argument("name", metavar="NAME[@V]")
@click.argument("label", metavar="TAG")
@click.option("--delete", is_flag=True, help="Take the tag away.")
@store_option
@target_option
@json_option
def tag(name: str, label: str, delete: bool, store: str | None, target: str | None, as_json: bool) -> None:
    """Point TAG at a version, such as `tag card_spend@7 prod`; then card_spend@prod means version 7.

    A tag that exists is moved; its earlier places are remembered.
    """
    from featureflow.observe.stored import named
    from featureflow.tables.tags import set_tag

    table = open_store(store, target).version(name)
    version = None if delete else table.version
    set_tag(table.url, label, version, by=_user())
    if as_json:
        emit_json({**named(table), "tag": label, "version": version})
    elif delete:
        say(f"{table.name}: tag {label} is gone")
    else:
        say(f"{table.name}@{label} is version {version}")


@click.command(short_help="Make an old version the latest again.")
@click.argument("name", metavar="NAME@V")
@store_option
@target_option
@json_option
def restore(name: str, store: str | None, target: str | None, as_json: bool) -> None:
    """Publish an old version again, as a new one; no data is copied and no version is lost."""
    from featureflow.observe.stored import named
    from featureflow.tables.references import split_reference
    from featureflow.tables.restore import restore as publish_again

    if "@" not in name:
        raise click.UsageError(
            f"which version of {name}? Write {name}@7; `featureflow history {name}` lists them."
        )
    table = open_store(store, target).version(name)
    build = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
    which = split_reference(name)[1]
    published = publish_again(
        table.url, table.name, which, build=build, by={"author": {"user": _user(), "commit": None}}
    )
    if as_json:
        emit_json(
            {
                **named(table),
                "restored": table.version,
                "version": published.version,
                "rows": published.rows,
            }
        )
    else:
        rows = plural(published.rows, "chunk" if table.is_grid else "row")
        say(f"{table.name}: version {published.version} is version {table.version} again, {rows}")


@click.command(short_help="Delete versions that nobody keeps, and leftovers.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="The last N versions stay.")
@click.option(
    "--older-than", type=Age(), metavar="AGE", help="Only versions older than this go, such as 30d."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@store_option
@target_option
@json_option
def gc(
    names: tuple[str, ...],
    keep: int | None,
    older_than: str | None,
    dry_run: bool,
    store: str | None,
    target: str | None,
    as_json: bool,
) -> None:
    """Expire old versions of the named tables and datasets (all when omitted) and delete what no version needs.

    The latest version and tagged ones always stay. With both --keep and --older-than a version stays if either says
    so; with neither, only files that killed builds left behind are deleted, after a week. That is also what happens to
    tables that were never published.
    """
    from featureflow.core.durations import Duration
    from featureflow.core.storage import join
    from featureflow.execute.exchange.scratch import evict_work
    from featureflow.execute.exchange.sharing import WORK
    from featureflow.observe.stored import room_of
    from featureflow.tables.collect import gc as collect
    from featureflow.tables.collect import unpublished

    age = None
    if older_than is not None:
        age = timedelta(microseconds=Duration.parse(older_than).microseconds or 0)
    opened = open_store(store, target)
    found: dict[str, list[dict[str, Any]]] = {"table": [], "dataset": []}
    never = [one for one in unpublished(opened.url) if not names or {one.name, one.reference} & {*names}]
    known = {name for one in never for name in (one.name, one.reference)}
    tables = [opened.version(name) for name in names or _latest(opened) if name not in known]
    places = [(room_of(table), table.name, table.url) for table in tables]
    places += [(one.kind, one.name, one.url) for one in never]
    for kind, name, url in places:
        collected = collect(url, name, keep=keep, older_than=age, dry_run=dry_run)
        found[kind].append(
            {
                kind: name,
                "expired": list(collected.expired),
                "kept": list(collected.kept),
                "pinned": {str(number): list(names) for number, names in collected.pinned.items()},
                "files": len(collected.files),
                "array_objects": collected.array_objects,
                "bytes": collected.bytes,
            }
        )
    files, freed_bytes = (0, 0) if names else evict_work(join(opened.url, WORK), dry_run=dry_run)
    if as_json:
        work = {"files": files, "bytes": freed_bytes}
        emit_json({"dry_run": dry_run, "tables": found["table"], "datasets": found["dataset"], "work": work})
        return
    for kind, entry in ((kind, entry) for kind, entries in found.items() for entry in entries):
        gone = ", ".join(str(number) for number in entry["expired"]) or "none"
        verb = "would go" if dry_run else "expired"
        arrays = f"{plural(entry['array_objects'], 'object')} of arrays, " if entry["array_objects"] else ""
        freed = f"{plural(entry['files'], 'file')}, {arrays}{size(entry['bytes'])}"
        click.echo(f"{entry[kind]}: versions {verb}: {gone}; kept: {len(entry['kept'])}; {freed}")
        for number, readers in entry["pinned"].items():
            click.echo(f"    version {number} stays: its values are those of dataset {', '.join(readers)}")
    if files:
        click.echo(f"{WORK}/: {plural(files, 'old file')} of builds on several hosts; {size(freed_bytes)}")
    if not any(found.values()):
        click.echo(f"{opened.url}: no tables")


@click.command(short_help="Is everything there, and is it what was written?")
@click.argument("names", metavar="[NAME[@V]]...", nargs=-1)
@click.option("--deep", is_flag=True, help="Read every byte: checksums, row counts, statistics.")
@store_option
@target_option
@json_option
def verify(names: tuple[str, ...], deep: bool, store: str | None, target: str | None, as_json: bool) -> None:
    """Check versions (the latest of every table and dataset when none is named). Exits with 1 if anything is wrong."""
    from featureflow.tables.store import table_url
    from featureflow.tables.verify import verify as check

    opened = open_store(store, target)
    found = []
    for given in names or _latest(opened):
        url, name, which = opened.find(given)
        kind = "table" if url == table_url(opened.url, name) else "dataset"
        found.append((kind, name, check(url, name, which, deep=deep)))
    failed = any(result.problems for _, _, result in found)
    if as_json:
        entries: dict[str, list[dict[str, Any]]] = {"table": [], "dataset": []}
        for kind, name, result in found:
            about = {"version": result.version, "deep": result.deep, "files": result.files}
            about |= {"chunks": result.chunks, "chunk_bytes": result.chunk_bytes} if result.chunks else {}
            problems = list(result.problems)
            entries[kind].append({kind: name, **about, "bytes": result.bytes, "problems": problems})
        emit_json({"ok": not failed, "tables": entries["table"], "datasets": entries["dataset"]})
    else:
        brush = look()["paint"]
        for _, name, result in found:
            mark = brush("✗", "red") if result.problems else brush("✓", "green")
            how = "every byte read" if result.deep else "sizes and records"
            counted = f"{plural(result.files, 'file')}, {size(result.bytes)}"
            if result.chunks:
                counted += f", {plural(result.chunks, 'chunk')} of {size(result.chunk_bytes)} of values"
            counted += f"; {how}"
            click.echo(f"{mark} {name}@{result.version}  {counted}")
            for problem in result.problems:
                click.echo(f"    {problem}")
        if not found:
            click.echo(f"{opened.url}: no tables")
    if failed:
        raise click.exceptions.Exit(1)


def _latest(store: Store) -> list[str]:
    """References to everything, each by its folder: two projects of one store may use a name twice."""
    return [f"features/{name}" for name in store.tables()] + [f"datasets/{name}" for name in store.datasets()]


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return None
