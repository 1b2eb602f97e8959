"""Where a build happens."""

from __future__ import annotations

from dataclasses import dataclass

from featureflow.core.storage import join
from featureflow.execute.executors import Executor
from featureflow.execute.sizing import Budget
from featureflow.observe.progress import Progress


@dataclass(slots=True)
class Site:
    """Where a build happens: store, scratch, executor, memory.

    ``scratch`` is a folder on a fast disk of each host. ``board`` is where the driver and all workers see the same
    files: small things that one writes and another reads (manifests, notes, positions). It is scratch itself where
    all of them share that, else a folder of the store.
    """

    store_url: str
    scratch: str
    executor: Executor
    budget: Budget
    progress: Progress
    board: str = ""

    def __post_init__(self) -> None:
        self.board = self.board or self.scratch

    def table_url(self, name: str) -> str:
        """Root of a feature table."""
        return join(self.store_url, "features", name)
