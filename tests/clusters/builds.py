"""Small projects to build on clusters, and what their stores hold."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

#: All workers on this machine see them.
SPEC = """
sources: {{events: {{path: "{folder}/data/*.parquet", time: ts}}}}
features:
  spend:
    source: events
    keys: card
    aggregate:
      - {{column: amount, ops: [sum, mean, max, stddev_samp], windows: [1h, 7d, lifetime]}}
      - {{ops: count, windows: 1d}}
"""


def make_project(folder: Path, *, files: int = 12, rows: int = 20_000, targets: str = "") -> Path:
    """A spec file beside its data: some days of events of 300 cards."""
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(7)
    first = int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp() * 1e6)
    for day in range(files):
        times = first + day * 86_400_000_000 + np.sort(rng.integers(0, 86_400_000_000, rows))
        pl.DataFrame(
            {
                "card": rng.integers(0, 300, rows),
                "ts": pl.Series(times).cast(pl.Datetime("us", "UTC")),
                "amount": rng.normal(50, 20, rows).round(2),
            }
        ).write_parquet(folder / "data" / f"{day:02}.parquet")
    spec = folder / "featureflow.yaml"
    spec.write_text(SPEC.format(folder=folder) + targets)
    return spec


def contents(store: Path) -> dict[str, str]:
    """Names and checksums of a store's data files: equal for equal builds."""
    found = {}
    for path in sorted((store / "features").rglob("*.parquet")):
        found[str(path.relative_to(store))] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found
    return found


class Watcher:
    """A progress display that does something once so many tasks are done, and keeps what was said."""

    def __init__(self, tasks: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.notes: list[str] = []
        self.acted = False
        self._left, self._act = tasks, act

    def start(self, title: str) -> None: ...

    def stage(self, name: str, total: int) -> None: ...

    def advance(self, name: str, *, tasks: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002
        self._left -= tasks
        if self._left <= 0 and not self.acted:
            self.acted = True
            self._act()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finish(self) -> None: ...
