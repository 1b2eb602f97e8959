"""Keeps what a progress display forgets: the stages of a build with their counts and seconds."""

from __future__ import annotations

import time

from featureflow.observe.progress import Progress
from featureflow.observe.report import StageReport


class Recorder:
    """A `Progress` that passes everything on and remembers the stages."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._begun: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._sums: dict[str, list[int]] = {}

    def start(self, title: str) -> None:
        """See `Progress`."""
        self._shown.start(title)

    def stage(self, name: str, total: int) -> None:
        """See `Progress`."""
        self._begun.setdefault(name, time.monotonic())
        self._sums.setdefault(name, [0, 0, 0])
        self._shown.stage(name, total)

    def advance(self, name: str, *, tasks: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002
        """See `Progress`."""
        for i, amount in enumerate((tasks, rows, bytes)):
            self._sums[name][i] += amount
        self._ended[name] = time.monotonic()
        self._shown.advance(name, tasks=tasks, rows=rows, bytes=bytes)

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._shown.note(text)

    def finish(self) -> None:
        """See `Progress`."""
        self._shown.finish()

    def stages(self) -> list[StageReport]:
        """The stages so far, in the order in which they were announced."""
        return [
            StageReport(
                name,
                tasks=self._sums[name][0],
                rows=self._sums[name][1],
                bytes_written=self._sums[name][2],
                seconds=round(self._ended.get(name, begun) - begun, 3),
            )
            for name, begun in self._begun.items()
        ]
