"""Where the time of a task goes: seconds and bytes by kind of work, measured where the work is done.

Nothing is measured unless somebody asks (:func:`metering`); then a block costs under a microsecond.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Spent:
    """Seconds and bytes by kind; of compute also seconds by kernel (``compute:sort``)."""

    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    _inside: list[float] = field(default_factory=list)  # time of the blocks inside each open block


_current: ContextVar[Spent | None] = ContextVar("featureflow_meter", default=None)


@contextmanager
def metering() -> Iterator[Spent]:
    """Measure what happens inside; other threads take part if they run in a copy of this context."""
    found = Spent()
    token = _current.set(found)
    try:
        yield found
    finally:
        _current.reset(token)


@contextmanager
def spent(kind: str) -> Iterator[None]:
    """Count the time of a block under a kind; blocks inside it count under theirs, not twice."""
    found = _current.get()
    if found is None:
        yield
        return
    begun = time.perf_counter()
    found._inside.append(0.0)  # noqa: SLF001
    try:
        yield
    finally:
        whole = time.perf_counter() - begun
        inside = found._inside.pop()  # noqa: SLF001
        found.seconds[kind] = found.seconds.get(kind, 0.0) + whole - inside
        if found._inside:  # noqa: SLF001
            found._inside[-1] += whole  # noqa: SLF001


def moved(kind: str, n_bytes: int) -> None:
    """Count bytes under a kind."""
    found = _current.get()
    if found is not None:
        found.bytes[kind] = found.bytes.get(kind, 0) + n_bytes
