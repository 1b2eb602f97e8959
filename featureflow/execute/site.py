"""Where a build happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from featureflow.core.storage import join
from featureflow.execute.driver import run_tasks
from featureflow.execute.exchange.places import SCRATCH
from featureflow.execute.exchange.remaking import Remaking
from featureflow.execute.exchange.scratch import PIECES
from featureflow.execute.executors import Executor
from featureflow.execute.sizing import Budget
from featureflow.execute.task import Task
from featureflow.observe.progress import Progress


@dataclass(slots=True)
class Site:
    """Where a build happens: store, scratch, executor, memory.

    ``scratch`` is a folder on a fast disk of each host. ``board`` is where the driver and all workers see the same
    files: small things that one writes and another reads (manifests, notes, positions). It is scratch itself where
    all of them share that, else a folder of the store.

    ``exchange`` says how slices get from the task that wrote them to the one that reads them: ``shared`` (all see the
    scratch folder), ``local`` (they stay on the disk of their host, and others ask for them), ``store`` (through the
    store); ``auto`` becomes shared or local when `featureflow.execute.exchange.sharing.settle_exchange` has looked.
    """

    store_url: str
    scratch: str
    executor: Executor
    budget: Budget
    progress: Progress
    board: str = ""
    exchange: str = "auto"
    remaking: Remaking = field(default_factory=Remaking)

    def __post_init__(self) -> None:
        self.board = self.board or self.scratch

    @property
    def shelf(self) -> str:
        """Where files like those of the exchange are that all workers and the driver read."""
        return join(self.board, "exchange" if self.exchange in ("auto", "shared") else PIECES)

    @property
    def slices(self) -> str:
        """Where the exchange files of re-keyed inputs are: as near to the tasks as the mode allows."""
        return f"{SCRATCH}exchange" if self.exchange == "local" else join(self.board, "exchange")

    def run(self, tasks: Iterable[Task], on_done: Callable[[Task, Any], None]) -> None:
        """Run tasks as `run_tasks` does; exchange files that are lost on the way are made again."""
        run_tasks(self.executor, tasks, on_done, lambda errors: self.remaking.remake(self.executor, errors))

    def table_url(self, name: str) -> str:
        """Root of a feature table."""
        return join(self.store_url, "features", name)
