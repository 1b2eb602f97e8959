"""A piece of work, as the driver hands it to an executor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """An argument that many tasks have: sent to the cluster once, and to each worker once, not with every task.

    ``key`` names it within the build: the same name means the same value.
    """

    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work: ``function(*arguments)``; for an argument that is `Shared`, the function gets its value.

    Parameters
    ----------
    key
        Name of the content: a task of the same key gives the same result.
    label
        Text for people, ``stage, what exactly``.
    reads
        What it reads that a host may have on its disk, as (name, bytes): a placement that follows the bytes puts the
        task where most of them are.
    host
        Where it should run if it can; set by the driver. Another host takes it if this one is gone or others are idle.
    """

    key: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    label: str
    reads: tuple[tuple[str, int], ...] = ()
    host: str = ""


class WorkerDied(Exception):
    """The workers that ran a task died, so often that the cluster has given it up; maybe because of another task."""
