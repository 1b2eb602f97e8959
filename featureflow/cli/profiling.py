"""``profile``: where the time of a build went."""

from __future__ import annotations

import click

from featureflow.cli.options import json_option, store_option, target_option
from featureflow.cli.output import emit_json, look, say
from featureflow.cli.stores import open_store


@click.command(short_help="Where the time of a build went, and what to change.")
@click.argument("build", required=False)
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False),
    metavar="FILE.html",
    help="Also write a page with a timeline of all tasks.",
)
@store_option
@target_option
@json_option
def profile(
    build: str | None, page: str | None, store: str | None, target: str | None, as_json: bool
) -> None:
    """Show where the workers' time went in BUILD: reading, decoding, computing, exchanging, writing, waiting.

    BUILD is the id of a build that ran into the store, or an end of it; the latest if omitted. The parts add up to the
    time that the workers' threads had. The page stands alone: it has no scripts and loads nothing.
    """
    from featureflow.observe.profile import profile_text
    from featureflow.tables.runs import read_profile

    found = read_profile(open_store(store, target).url, build)
    if page is not None:
        from featureflow.observe.profile_page import profile_page

        with open(page, "w", encoding="utf-8") as file:
            file.write(profile_page(found))
        say(f"page: {page}")
    if as_json:
        emit_json(found)
    else:
        click.echo(profile_text(found, **look()))
