"""Arguments and options that several commands share, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Bytes(click.ParamType[int]):
    """A number of bytes: ``8GB``, ``512MiB``, ``1.5G``; decimal unless there is an ``i``."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a size, or fail as a usage error."""
        from featureflow.core.sizes import parse_bytes

        try:
            return parse_bytes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Instant(click.ParamType[datetime]):
    """An ISO date or time; UTC unless it has an offset."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read an instant, or fail as a usage error."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is not a time. Write it as 2026-01-31 or 2026-01-31T12:00.", param, ctx)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


class Age(click.ParamType[str]):
    """A length of time as in a spec: ``30d``, ``12h``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check a duration and give its text, or fail as a usage error."""
        from featureflow.core.durations import Duration

        try:
            if Duration.parse(value).is_lifetime:
                raise ValueError(f"{value!r} has no length. Write it as 30d or 12h.")
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def _stacked(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(function: Command) -> Command:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _split(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Each option may name several tables, as in dbt: ``--select "a b+"``."""
    return tuple(word for value in values for word in value.split())


spec_argument = click.argument("spec", required=False, type=click.Path())
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value to stdout.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
target_option = click.option(
    "--target", metavar="NAME", help="Profile of the spec to use, such as dev or prod."
)
store_option = click.option(
    "--store", metavar="URL", help="Where tables are: a folder or s3://…; the spec's own when omitted."
)
engine_options = _stacked(
    click.option(
        "--scheduler",
        metavar="WHERE",
        help="tls://host:port of a Dask scheduler, local (a cluster of this machine), or threads.",
    ),
    click.option("--workers", type=click.IntRange(min=1), metavar="N", help="How many tasks run at once."),
    click.option(
        "--memory", type=Bytes(), metavar="SIZE", help="Memory that the build may use, such as 8GB."
    ),
    click.option("--scratch", type=click.Path(), metavar="DIR", help="Fast local disk for exchange files."),
)
selection_options = _stacked(
    click.option(
        "--select",
        "-s",
        multiple=True,
        callback=_split,
        metavar="WHAT",
        help="Only these tables: name, +name (and what it reads), name+ (and what reads it), tag:x, source:y+. "
        "Repeatable.",
    ),
    click.option(
        "--exclude", multiple=True, callback=_split, metavar="WHAT", help="Not these tables. Repeatable."
    ),
    click.option("--from", "start", type=Instant(), metavar="TIME", help="Rows from this time on (UTC)."),
    click.option("--to", "end", type=Instant(), metavar="TIME", help="Rows before this time (UTC)."),
    click.option("--full", is_flag=True, help="Compute everything again, also what has not changed."),
)


def check_range(start: datetime | None, end: datetime | None) -> None:
    """Refuse a range of no length.

    Raises
    ------
    click.UsageError
        If ``end`` is not after ``start``.
    """
    if start is not None and end is not None and start >= end:
        raise click.UsageError(
            f"--from {start:%Y-%m-%dT%H:%M:%S} is not before --to {end:%Y-%m-%dT%H:%M:%S}; the range is half-open."
        )
