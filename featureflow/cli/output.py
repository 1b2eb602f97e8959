"""Where results go: text for people or one JSON value, always to stdout."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import click

from featureflow.observe.terminal import paint_for, width


def look() -> dict[str, Any]:
    """How text on stdout is drawn: ``limit`` columns and ``paint``."""
    return {"limit": width(sys.stdout), "paint": paint_for(sys.stdout)}


def emit_json(value: Any) -> None:
    """Print one JSON value; times as ISO text, what JSON has no number for (NaN, infinities) as text."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, default=str, allow_nan=False))


def plain(value: Any) -> Any:
    """A value that every JSON reader takes."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def say(text: str, *styles: str) -> None:
    """Tell people something on stderr that is no result: what was made, what comes next."""
    click.echo(paint_for(sys.stderr)(text, *styles), err=True)
