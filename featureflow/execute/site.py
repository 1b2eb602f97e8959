"""Where a build happens."""

from __future__ import annotations

from dataclasses import dataclass

from featureflow.core.storage import join
from featureflow.execute.executors import Executor
from featureflow.execute.sizing import Budget
from featureflow.observe.progress import Progress


@dataclass(slots=True)
class Site:
    """Where a build happens: store, scratch, executor, memory."""

    store_url: str
    scratch: str
    executor: Executor
    budget: Budget
    progress: Progress

    def table_url(self, name: str) -> str:
        """Root of a feature table."""
        return join(self.store_url, "features", name)
