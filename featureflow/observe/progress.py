"""Progress of a build, on stderr: live bars for people, plain lines for logs, nothing when asked for quiet.

One stage is one line. The driver calls these methods from one thread; a method costs microseconds, so that it can be
called for every task.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from featureflow.observe.terminal import is_terminal
from featureflow.observe.units import count, plural, seconds, short_count, size

#: A log gets a line of a running stage this often.
LINE_EVERY_SECONDS = 5.0


class Progress(Protocol):
    """What a build reports while it runs.

    ``finish`` comes last, also after an error (call it in ``finally``). A stage that is announced twice has the tasks
    of both; a stage of no tasks is not shown. Stages may come before ``start``: what a plan has to look up.
    """

    def start(self, title: str) -> None:
        """Begin; ``title`` says what is being built."""

    def stage(self, name: str, total: int) -> None:
        """Announce a stage of so many tasks."""

    def advance(self, name: str, *, tasks: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002
        """Count finished tasks of a stage, with the rows and bytes that they produced."""

    def note(self, text: str) -> None:
        """Say something worth knowing, once."""

    def finish(self) -> None:
        """End: nothing moves after this. Calling it twice does no harm."""


@dataclass(slots=True)
class _Stage:
    name: str
    total: int
    begun: float
    last_shown: float
    tasks: int = 0
    rows: int = 0
    bytes: int = 0
    ended: float | None = None

    def add(self, tasks: int, rows: int, n_bytes: int, now: float) -> bool:
        """Count; whether this was the last task."""
        self.tasks += tasks
        self.rows += rows
        self.bytes += n_bytes
        if self.tasks >= self.total and self.ended is None:
            self.ended = now
            return True
        return False

    def detail(self, now: float, *, with_bytes: bool = True) -> str:
        """Rows, rate and bytes so far, as far as they are known."""
        parts = [f"{short_count(self.rows)} rows"] if self.rows else []
        spent = (self.ended or now) - self.begun
        if self.rows and spent > 0.2:
            parts.append(f"{short_count(self.rows / spent)} rows/s")
        parts += [size(self.bytes)] if self.bytes and with_bytes else []
        return " · ".join(parts)


class QuietProgress:
    """Says nothing."""

    def start(self, title: str) -> None:
        """See `Progress`."""

    def stage(self, name: str, total: int) -> None:
        """See `Progress`."""

    def advance(self, name: str, *, tasks: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002
        """See `Progress`."""

    def note(self, text: str) -> None:
        """See `Progress`."""

    def finish(self) -> None:
        """See `Progress`."""


class LineProgress:
    """A line when a stage begins to take long, every few seconds after that, and when it ends.

    Parameters
    ----------
    stream
        Where to write; stderr as it is at the first call when omitted.
    every_seconds
        Time between two lines of a stage.
    clock
        Seconds; for tests.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        every_seconds: float = LINE_EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._every = every_seconds
        self._clock = clock
        self._stages: dict[str, _Stage] = {}

    def start(self, title: str) -> None:
        """See `Progress`."""
        self._write(title)

    def stage(self, name: str, total: int) -> None:
        """See `Progress`."""
        _announce(self._stages, name, total, self._clock())

    def advance(self, name: str, *, tasks: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002
        """See `Progress`."""
        now = self._clock()
        stage = self._stages[name]
        if stage.add(tasks, rows, bytes, now):
            about = ", ".join(
                [plural(stage.tasks, "task")]
                + ([f"{count(stage.rows)} rows"] if stage.rows else [])
                + ([size(stage.bytes)] if stage.bytes else [])
            )
            self._write(f"{name}: done, {about} in {seconds(now - stage.begun)}")
        elif now - stage.last_shown >= self._every:
            stage.last_shown = now
            detail = stage.detail(now)
            done = f"{name}: {count(stage.tasks)} of {plural(stage.total, 'task')}"
            self._write(f"{done} · {detail}" if detail else done)

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._write(f"note: {text}")

    def finish(self) -> None:
        """See `Progress`."""
        self._stages.clear()

    def _write(self, text: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(text + "\n")
        stream.flush()


class BarProgress:
    """Live bars on a terminal; what was done stays on the screen.

    Parameters
    ----------
    console
        A ``rich.console.Console``; one for stderr when omitted.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console  # 60 ms: only paid by those who see it

        self._console = console if console is not None else Console(stderr=True, highlight=False)
        self._wide = self._console.width >= 100
        self._bars: Any = None
        self._ids: dict[str, Any] = {}
        self._stages: dict[str, _Stage] = {}

    def start(self, title: str) -> None:
        """See `Progress`."""
        self._console.print(title, style="bold", markup=False)

    def _open(self) -> Any:
        """The bars; they begin with the first stage, so that nothing blinks for a build with nothing to do."""
        if self._bars is not None:
            return self._bars
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._bars = Progress(
            TextColumn(
                "  {task.description}", table_column=Column(no_wrap=True, max_width=38 if self._wide else 28)
            ),
            BarColumn(bar_width=24 if self._wide else 8, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn(
                "{task.fields[detail]}",
                style="dim",
                table_column=Column(no_wrap=True, max_width=None if self._wide else 24),
            ),
            console=self._console,
            refresh_per_second=5,
        )
        self._bars.start()
        return self._bars

    def stage(self, name: str, total: int) -> None:
        """See `Progress`."""
        if not total:
            return
        bars = self._open()
        stage = _announce(self._stages, name, total, time.monotonic())
        if name in self._ids:
            bars.update(self._ids[name], total=stage.total)
        else:
            self._ids[name] = bars.add_task(_plain(name), total=total, detail="")

    def advance(self, name: str, *, tasks: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002
        """See `Progress`."""
        now = time.monotonic()
        stage = self._stages[name]
        stage.add(tasks, rows, bytes, now)
        self._bars.update(self._ids[name], advance=tasks, detail=stage.detail(now, with_bytes=self._wide))

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._console.print(f"  {text}", style="yellow", markup=False)

    def finish(self) -> None:
        """See `Progress`."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._stages.clear()
        self._ids.clear()


def choose_progress(*, quiet: bool = False) -> Progress:
    """Bars if stderr is a terminal that may be coloured, lines if it is a log, nothing if asked for quiet.

    ``NO_COLOR``, ``CI`` or ``TERM=dumb`` in the environment ask for lines.
    """
    if quiet:
        return QuietProgress()
    if is_terminal(sys.stderr) and not os.environ.get("NO_COLOR"):
        return BarProgress()
    return LineProgress()


def _announce(stages: dict[str, _Stage], name: str, total: int, now: float) -> _Stage:
    stage = stages.get(name)
    if stage is None:
        stage = stages[name] = _Stage(name, total, now, now)
    else:
        stage.total += total
        stage.ended = None if stage.tasks < stage.total else stage.ended
    return stage


def _plain(text: str) -> str:
    """A text in which rich finds no markup."""
    return text.replace("[", r"\[")
