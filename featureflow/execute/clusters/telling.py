"""Small results reach the driver with the news that their task is done, instead of being asked for.

Dask keeps a result on its worker; to get one costs the scheduler a request to that worker, which is most of what a
short task costs it. So a worker says what came out as an event, in the message that says that the task is done. The
result is on the worker all the same: an event that nobody hears costs a request.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from distributed import Client, get_worker

from featureflow.execute.clusters.workers import run_prepared

#: Topic of the events. One for all drivers: the scheduler keeps the last thousand events of each topic for good.
TOPIC = "featureflow-results"
#: Larger results are asked for.
TOLD_BYTES = 8 << 10


def run_and_tell(driver: str, key: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task on a worker that could be prepared, and tell its driver what came out, if that is small.

    Parameters
    ----------
    driver, key
        Names of the driver and of the task's start.
    """
    result = run_prepared(function, *arguments)
    with suppress(
        Exception
    ):  # what pickle alone can't write, Dask may; and outside of a worker nobody is told
        packed = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
        if len(packed) <= TOLD_BYTES:
            get_worker().log_event(TOPIC, {"driver": driver, "key": key, "result": packed})
    return result


class Told:
    """What workers told this driver and it has not taken yet."""

    def __init__(self, client: Client, driver: str) -> None:
        self._client, self._driver = client, driver
        self._results: dict[str, bytes] = {}
        client.subscribe_topic(TOPIC, self._hear)

    def running(self, function: Callable[..., Any], key: str) -> Callable[..., Any]:
        """The function, to be run by a worker that could be prepared, which then tells this driver."""
        return partial(run_and_tell, self._driver, key, function)

    def _hear(self, event: tuple[float, Any]) -> None:
        """In the client's thread; it comes before the news that the task is done."""
        said = event[1]
        if said["driver"] == self._driver:
            self._results[said["key"]] = said["result"]

    def take(self, keys: Sequence[str]) -> dict[str, Any]:
        """Results of those of these tasks that were told; forgotten here."""
        found = ((key, self._results.pop(key, None)) for key in keys)
        # as trusted as what Dask would give: it unpickles results as well
        return {key: pickle.loads(packed) for key, packed in found if packed is not None}  # noqa: S301

    def forget(self) -> None:
        """What was told of tasks that nobody waits for."""
        self._results.clear()

    def close(self) -> None:
        """Hear no more."""
        with suppress(ValueError):  # another driver of the same client does
            self._client.unsubscribe_topic(TOPIC)
