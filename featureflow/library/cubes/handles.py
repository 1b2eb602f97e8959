"""Open files and stores of this process: opened once, used by all its threads, closed when others are needed."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from featureflow.core import s3

#: open files at most; a file that is being read is never closed
MOST = 64


class Closes(Protocol):
    """Something that is open."""

    def close(self) -> None:
        """Close it."""


Opened = TypeVar("Opened", bound=Closes)

_lock = threading.Lock()
_open: OrderedDict[Hashable, Closes] = OrderedDict()
_users: dict[int, int] = {}
_opening: dict[Hashable, threading.Lock] = {}
_process = 0


@contextmanager
def borrowed(key: Hashable, opener: Callable[[], Opened]) -> Iterator[Opened]:
    """Give what `opener` opens, or what it opened before under the same key; it stays open inside the block.

    Notes
    -----
    A forked child opens its own: libraries keep threads and locks that do not survive a fork. So does a process whose
    account or endpoint of S3 has changed: what is open still talks to the one before.
    """
    if s3.is_s3(getattr(key, "url", "")):
        key = (key, id(s3.account()))
    handle: Any = _taken(key)
    if handle is None:
        with _lock:
            mine = _opening.setdefault(key, threading.Lock())
        with mine:  # two threads open one file once
            handle = _taken(key)
            if handle is None:
                handle = opener()
                with _lock:
                    _open[key] = handle
                    _users[id(handle)] = _users.get(id(handle), 0) + 1
                    _opening.pop(key, None)
    try:
        yield handle
    finally:
        with _lock:
            _users[id(handle)] -= 1
            if not _users[id(handle)]:
                del _users[id(handle)]
            surplus = _surplus()
        for each in surplus:
            each.close()


def _taken(key: Hashable) -> Any:
    global _process  # noqa: PLW0603  of whose the handles are
    with _lock:
        if _process != os.getpid():
            _open.clear()
            _users.clear()
            _process = os.getpid()
        handle = _open.get(key)
        if handle is not None:
            _open.move_to_end(key)
            _users[id(handle)] = _users.get(id(handle), 0) + 1
        return handle


def _surplus() -> list[Closes]:
    idle = [key for key, handle in _open.items() if id(handle) not in _users]
    return [_open.pop(key) for key in idle[: max(0, len(_open) - MOST)]]


def close_all() -> None:
    """Close what nobody uses."""
    with _lock:
        idle = [_open.pop(key) for key, handle in list(_open.items()) if id(handle) not in _users]
    for each in idle:
        each.close()
