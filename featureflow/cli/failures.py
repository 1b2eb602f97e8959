"""What is printed, and which exit code is given, when a command fails."""

from __future__ import annotations

import os
import sys
import traceback

import click

from featureflow.core.errors import FeatureflowError, SpecError
from featureflow.observe.terminal import is_terminal, paint_for
from featureflow.observe.units import plural

INTERRUPTED = 130


def report_failure(error: BaseException) -> int:
    """Explain an error on stderr; gives the exit code.

    Notes
    -----
    A mistake in a spec is one line, ``file:line:col: path: what``, so that editors and CI can jump to it; a terminal
    also gets their number. Anything that is no :class:`FeatureflowError` is a bug of ours and says so.
    """
    brush = paint_for(sys.stderr)
    label = brush("error:", "bold", "red")
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted; finished work is kept and will be reused")
        return INTERRUPTED
    _trace(error)
    if isinstance(error, SpecError):
        _say(str(error))
        if is_terminal(sys.stderr):
            _say(f"{label} {plural(len(error.problems), 'problem')}")
        return error.exit_code
    if isinstance(error, FeatureflowError):
        _say(f"{label} {error}")
        _notes(error)
        return error.exit_code
    _say(f"{label} unexpected {type(error).__name__}: {error}")
    _notes(error)
    if not _debugging():
        _say("  This is a bug in featureflow. FEATUREFLOW_DEBUG=1 shows where it happened.")
    return FeatureflowError.exit_code


def _notes(error: BaseException) -> None:
    """What was going on; not what the message itself says."""
    for note in dict.fromkeys(getattr(error, "__notes__", ())):
        if note.rpartition("while running: ")[2] not in str(error):
            _say(f"  {note}")


def _debugging() -> bool:
    return os.environ.get("FEATUREFLOW_DEBUG", "") not in ("", "0")


def _trace(error: BaseException) -> None:
    if _debugging():
        _say("".join(traceback.format_exception(error)).rstrip())


def _say(text: str) -> None:
    click.echo(text, err=True)
