"""The command itself: its groups of subcommands, and what happens when one of them fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

import featureflow
from featureflow.cli import authoring, building, examining, exporting, keeping, profiling, reading
from featureflow.cli.failures import report_failure

_SECTIONS: tuple[tuple[str, tuple[click.Command, ...]], ...] = (
    (
        "Write a project",
        (authoring.init, authoring.demo, authoring.validate, authoring.compile_, authoring.test),
    ),
    ("Build it", (building.plan, building.build, profiling.profile)),
    ("Train on it", (exporting.export,)),
    (
        "Look at tables and datasets",
        (reading.ls, reading.show, reading.history, reading.diff, reading.lineage),
    ),
    ("Keep versions", (keeping.tag, keeping.restore, keeping.gc, keeping.verify)),
    ("Find out what is wrong", (examining.doctor,)),
)


class _Application(click.Group):
    """Lists commands in the order of work, and turns every exception into a message and an exit code."""

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in _SECTIONS:
            limit = formatter.width - 6 - max(len(command.name or "") for command in commands)
            with formatter.section(title):
                formatter.write_dl(
                    [(command.name or "", command.get_short_help_str(limit)) for command in commands]
                )

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [command.name or "" for _, commands in _SECTIONS for command in commands]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  every error gets a text and an exit code
            ctx.exit(report_failure(error))


_EPILOG = """\b
Begin with:   featureflow demo            or:  featureflow init my_project
Exit codes:   0 done, 1 build or check failed, 2 usage or spec, 3 unreachable (try again),
              4 commit state unknown, 130 interrupted
"""


@click.group(
    cls=_Application,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.version_option(featureflow.__version__, prog_name="featureflow")
def application() -> None:
    """From YAML specs to point-in-time correct, versioned tables and datasets."""


for _, _commands in _SECTIONS:
    for _command in _commands:
        application.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Parameters
    ----------
    arguments
        Without the program's name; those of the process when omitted.
    """
    application.main(args=None if arguments is None else list(arguments), prog_name="featureflow")
