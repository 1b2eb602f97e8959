"""Make items in a thread of their own, a few ahead of whoever takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_WAIT_SECONDS = 0.1


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def make_ahead(items: Generator[Item, None, None], depth: int, together: int) -> Iterator[Item]:
    """Give what ``items`` gives, made in a thread.

    Parameters
    ----------
    items
        Closed in the thread when the iterator is closed or done.
    depth, together
        Up to ``depth`` hand-overs wait, each of ``together`` items: to wake a thread costs as much as a small batch.

    Raises
    ------
    BaseException
        What ``items`` raised, where it would have been.
    """
    waiting: queue.Queue[list[Item] | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(given: list[Item] | _End) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(given, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        end = _End(None)
        made: list[Item] = []
        size = 1  # the first is handed over at once
        try:
            for item in items:
                made.append(item)
                if len(made) >= size:
                    if not put(made):
                        return
                    made, size = [], together
        except BaseException as error:  # noqa: BLE001  (raised again where items are taken)
            end = _End(error)
        finally:
            items.close()
        if made:
            put(made)
        put(end)

    thread = threading.Thread(target=make, name="featureflow-loader", daemon=True)
    thread.start()
    try:
        while True:
            given = waiting.get()
            if isinstance(given, _End):
                if given.error is not None:
                    raise given.error
                return
            yield from given
    finally:
        stopped.set()
        thread.join()
