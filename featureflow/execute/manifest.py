"""Which exchange files there are, written down once for all tasks of a stage.

A task is given the manifest's name, not the list: the list of a large build would be shipped to every one of them.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import write_atomic

Entry = tuple[str, int | None, int | None, bool]


def write_manifest(folder: str, entries: list[Entry]) -> str:
    """Write (path, earliest, latest, has rows without time) of each exchange file; returns the manifest's path."""
    content = json.dumps(entries)
    path = os.path.join(folder, "manifests", f"{fingerprint(content)}.json")
    if not os.path.exists(path):
        write_atomic(path, content.encode(), durable=False)
    return path


@lru_cache(maxsize=64)
def read_manifest(path: str) -> tuple[Entry, ...]:
    """Read a manifest; the same one is read once by each process."""
    with open(path, encoding="utf-8") as file:
        return tuple((entry[0], entry[1], entry[2], entry[3]) for entry in json.load(file))


def touching(path: str, first_us: int | None, last_us: int, *, with_null: bool = False) -> tuple[str, ...]:
    """Exchange files that can hold a row in the closed range of times, in the manifest's order."""
    return tuple(
        name
        for name, low, high, null in read_manifest(path)
        if (
            low is not None and high is not None and low <= last_us and (first_us is None or high >= first_us)
        )
        or (with_null and null)
    )


def write_list(folder: str, rows: list[list[Any]]) -> str:
    """Write down rows of plain values for all tasks of a stage; returns the path, a name of the content."""
    content = json.dumps(rows)
    path = os.path.join(folder, "manifests", f"{fingerprint(content)}.json")
    if not os.path.exists(path):
        write_atomic(path, content.encode(), durable=False)
    return path


@lru_cache(maxsize=64)
def read_list(path: str) -> tuple[tuple[Any, ...], ...]:
    """Read what `write_list` wrote; the same list is read once by each process."""
    with open(path, encoding="utf-8") as file:
        return tuple(tuple(row) for row in json.load(file))
