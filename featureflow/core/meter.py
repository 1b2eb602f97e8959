"""Where the time of a task goes: seconds, bytes and counts by kind of work, measured where the work is done.

Nothing is measured unless somebody asks (:func:`metering`); then a block costs under a microsecond::

    with spent("decode"):
        frame = decode(data)
    moved("remote read", len(data))

A kind is one of :data:`KINDS`, with a detail behind a colon if there is one to tell: ``compute:sort``,
``exchange:remote``. Blocks may stand in each other: what the inner one takes is not the outer one's. So the blocks of a
thread never add up to more than its time.

Other threads take part if they run in a copy of the context (:func:`carried`). A task holds one thread of its worker,
and what it does is split by that thread's time alone, else a task that reads with eight threads would have spent eight
times its own length. Its thread waits for the others in a block that says for what. Seconds of the other threads are
kept apart, as ``beside``; bytes and counts are counted wherever they occur.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, Token, copy_context
from dataclasses import dataclass, field
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

#: Kinds of work, in the order of a report. What a task spends outside of any block is compute.
KINDS = (
    "remote read",
    "nvme read",
    "decode",
    "compute",
    "exchange",
    "encode",
    "write",
    "commit",
    "spill",
)

_IO = frozenset({"remote read", "nvme read", "exchange", "write", "commit", "spill"})

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(slots=True)
class Spent:
    """What was measured, by kind: seconds of the thread that measures and of others, bytes, counts."""

    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    beside: dict[str, float] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)


_current: ContextVar[Spent | None] = ContextVar("featureflow_meter", default=None)
_open: ContextVar[_Block | None] = ContextVar("featureflow_meter_block", default=None)
_OFF: AbstractContextManager[None] = nullcontext()


class _Block:
    """An open block; knows the block around it, which does not count this one's time."""

    __slots__ = ("_around", "_begun", "_found", "_inside", "_kind", "_thread", "_token")

    def __init__(self, found: Spent, kind: str) -> None:
        self._found, self._kind = found, kind
        self._inside = 0.0

    def __enter__(self) -> None:
        self._around = _open.get()
        self._token: Token[_Block | None] = _open.set(self)
        self._thread = threading.get_ident()
        self._begun = time.perf_counter()

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        whole = time.perf_counter() - self._begun
        _open.reset(self._token)
        found, around = self._found, self._around
        if around is not None and around._thread == self._thread:  # noqa: SLF001  another one of this class
            around._inside += whole  # noqa: SLF001
        with found.lock:
            into = found.seconds if self._thread == found.thread else found.beside
            into[self._kind] = into.get(self._kind, 0.0) + whole - self._inside


@contextmanager
def metering() -> Iterator[Spent]:
    """Measure what happens inside, in this thread and in others that run in a copy of its context."""
    found = Spent()
    token, opened = _current.set(found), _open.set(None)
    try:
        yield found
    finally:
        _open.reset(opened)
        _current.reset(token)


def spent_so_far() -> dict[str, float]:
    """Seconds by kind up to now, with blocks of this thread that are still open; empty if nothing is measured."""
    found = _current.get()
    if found is None:
        return {}
    now, inner, thread = time.perf_counter(), 0.0, threading.get_ident()
    with found.lock:
        seconds = dict(found.seconds)
    block = _open.get()
    while block is not None and block._thread == thread:  # noqa: SLF001
        whole = now - block._begun  # noqa: SLF001
        kind = block._kind  # noqa: SLF001
        seconds[kind] = seconds.get(kind, 0.0) + whole - block._inside - inner  # noqa: SLF001
        block, inner = block._around, whole  # noqa: SLF001
    return seconds


def measuring() -> bool:
    """Whether somebody measures here: what costs something only to be measured is done then."""
    return _current.get() is not None


def spent(kind: str) -> AbstractContextManager[None]:
    """Count the time of a block under a kind; blocks inside it count under theirs, not twice.

    A block must end in the thread and the function call that began it: never around a ``yield``.
    """
    found = _current.get()
    return _OFF if found is None else _Block(found, kind)


def waiting_for_store(kind: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Count all calls of a function that talks to a store under a kind, but for those from a block of such a kind.

    What an exchange reads from the store is the exchange's; what a decoder reads is a remote read. Bytes that the
    function gives are counted with it.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def measured(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            found = _current.get()
            if found is None or _open_kinds() & _IO:
                return function(*args, **kwargs)
            with _Block(found, kind):
                result = function(*args, **kwargs)
            if isinstance(result, bytes):
                moved(kind, len(result))
            return result

        return measured

    return decorate


def _open_kinds() -> set[str]:
    kinds, block = set(), _open.get()
    while block is not None:
        kinds.add(block._kind.partition(":")[0])  # noqa: SLF001
        block = block._around  # noqa: SLF001
    return kinds


def spending(kind: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Count all calls of a function under a kind.

    Examples
    --------
    >>> @spending("compute:sort")
    ... def order(values):
    ...     return sorted(values)
    >>> with metering() as found:
    ...     order([2, 1])
    [1, 2]
    >>> list(found.seconds)
    ['compute:sort']
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def measured(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            found = _current.get()
            if found is None:
                return function(*args, **kwargs)
            with _Block(found, kind):
                return function(*args, **kwargs)

        return measured

    return decorate


def moved(kind: str, n_bytes: int) -> None:
    """Count bytes under a kind."""
    found = _current.get()
    if found is not None:
        with found.lock:
            found.bytes[kind] = found.bytes.get(kind, 0) + n_bytes


def counted(name: str, number: int = 1) -> None:
    """Count events: ``cache hits``, ``cache misses``, ``requests``, ``retries``."""
    found = _current.get()
    if found is not None:
        with found.lock:
            found.counts[name] = found.counts.get(name, 0) + number


def carried(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Give a function that other threads can call as a part of what is measured here.

    ``pool.submit(carried(read), part)``, ``pool.map(carried(read), parts)``. Gives the function itself if nothing is
    measured.
    """
    if _current.get() is None:
        return function
    context = copy_context()

    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        # a context can be entered once at a time: each call has a copy, which costs nothing
        return context.copy().run(function, *args, **kwargs)

    return run
