"""All versions of a table, the newest first."""

from __future__ import annotations

from dataclasses import dataclass

from featureflow.tables import tags, versions
from featureflow.tables.versions import Version


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a table's history."""

    info: Version
    tags: tuple[str, ...]
    expired: bool


def history(table_url: str, *, limit: int | None = None) -> list[Entry]:
    """List versions, the newest first, with the tags that point to them now.

    Notes
    -----
    Cost: one small read for each version and tag; empty if the table was never published.
    """
    head = versions.head(table_url)
    if head is None or head.latest is None:
        return []
    by_version: dict[int, list[str]] = {}
    for tag, number in tags.list_tags(table_url).items():
        by_version.setdefault(number, []).append(tag)
    expired = versions.list_expired(table_url)
    last = 0 if limit is None else max(0, head.latest.version - limit)
    return [
        Entry(
            head.latest if number == head.latest.version else versions.read_version(table_url, number),
            tuple(sorted(by_version.get(number, []))),
            number in expired,
        )
        for number in range(head.latest.version, last, -1)
    ]
