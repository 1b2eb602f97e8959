"""Movable names for versions. A tag is a folder of numbered, create-only moves; the highest number counts.

So a tag keeps its history, and of two people who move it at once both moves are there, one after the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from featureflow.core import storage
from featureflow.core.errors import TableError
from featureflow.tables import layout, records, versions

_TAG = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_RESERVED = frozenset({"latest", "previous"})


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a tag; ``version`` is None where the tag was taken away."""

    number: int
    version: int | None
    moved: str
    by: str | None


def list_tags(table_url: str) -> dict[str, int]:
    """Where every tag points now, by name."""
    found = {}
    for tag in storage.list_names(storage.join(table_url, layout.TAGS)):
        version = current(table_url, tag)
        if version is not None:
            found[tag] = version
    return found


def current(table_url: str, tag: str) -> int | None:
    """Where a tag points now, or None."""
    numbers = _numbers(table_url, tag)
    return _read(table_url, tag, numbers[-1]).version if numbers else None


def set_tag(table_url: str, tag: str, version: int | None, *, by: str | None = None) -> Move:
    """Point a tag at a version; None takes the tag away.

    Raises
    ------
    TableError
        If the name is not one, or the version does not exist or has expired.
    """
    if _TAG.fullmatch(tag) is None or tag in _RESERVED:
        raise TableError(
            f"tag {tag!r}: must begin with a small letter, go on with small letters, digits, '_', '-' or '.', "
            f"have at most 63 of them and not be {' or '.join(sorted(_RESERVED))}."
        )
    if version is not None:
        versions.check_not_expired(table_url, table_url, versions.read_version(table_url, version))
    while True:
        numbers = _numbers(table_url, tag)
        move = Move(
            numbers[-1] + 1 if numbers else 1,
            version,
            datetime.now(UTC).isoformat(timespec="microseconds"),
            by,
        )
        content: dict[str, Any] = {"version": version, "moved": move.moved, "by": by}
        if storage.write_new(_url(table_url, tag, move.number), records.sealed(content)):
            return move  # else somebody moved it meanwhile: ours is the later move


def _url(table_url: str, tag: str, number: int) -> str:
    return storage.join(table_url, layout.TAGS, tag, f"{number:09d}.json")


def _numbers(table_url: str, tag: str) -> list[int]:
    names = storage.list_names(storage.join(table_url, layout.TAGS, tag))
    return sorted(int(name[:9]) for name in names if name.endswith(".json") and name[:9].isdigit())


def _read(table_url: str, tag: str, number: int) -> Move:
    url = _url(table_url, tag, number)
    content = records.unseal(storage.read_bytes(url), url)
    return Move(number, content["version"], content["moved"], content["by"])
