"""What a Dask cluster itself did during a build: bytes that its workers spilled, workers that it lost."""

from __future__ import annotations

import logging
from typing import Any

from featureflow.execute.executors import Executor

log = logging.getLogger(__name__)

_SPILLED = ("memory-monitor", "disk-write", "bytes")


class ClusterCounts:
    """Counts of the cluster behind an executor, from now on; none without a scheduler, or if it does not say."""

    def __init__(self, executor: Executor | None) -> None:
        self._client = getattr(executor, "client", None)
        self._before = self._ask()

    def _ask(self) -> dict[str, Any]:
        # a client that has lost its scheduler would try to reach it for ten seconds more
        if self._client is None or getattr(self._client, "status", "running") != "running":
            return {}
        try:
            found: dict[str, Any] = self._client.run_on_scheduler(_counts)
        except Exception as error:  # noqa: BLE001  a gateway may forbid it, a dying scheduler not answer: it is a side matter
            log.debug("the scheduler does not say what was spilled: %r", error)
            return {}
        return found

    def since(self) -> dict[str, int]:
        """Give ``spilled_bytes`` and ``workers_lost`` since this object was made; empty where nobody knows."""
        now = self._ask()
        return {
            name: int(now[name] - self._before.get(name, 0))
            for name in ("spilled_bytes", "workers_lost")
            if name in now
        }


def _counts(dask_scheduler: Any) -> dict[str, Any]:
    """Sum up what a scheduler knows; runs there."""
    metrics = getattr(dask_scheduler, "cumulative_worker_metrics", {})
    spilled = sum(
        amount for key, amount in metrics.items() if isinstance(key, tuple) and tuple(key[-3:]) == _SPILLED
    )
    lost = sum(
        1
        for _, event in dask_scheduler.get_events("all")
        if isinstance(event, dict) and event.get("action") == "remove-worker" and not event.get("expected")
    )
    return {"spilled_bytes": spilled, "workers_lost": lost}
