"""Which versions a table has, and the projection of commits into ``_ff/versions``.

The Delta commit is the only truth. A projection repeats what the commit says under the version's number, so that
nobody needs to search the log; it is created after the commit, by the publisher or, if that one was killed, by
whoever looks next.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from featureflow.core import storage
from featureflow.core.errors import FeatureflowError, TableError
from featureflow.tables import delta_log, layout, records


@dataclass(frozen=True, slots=True)
class Version:
    """One published version of a table.

    Parameters
    ----------
    version, delta_version
        Number of the version (from 1) and of its commit in the Delta log.
    build, definition_hash, operation
        Who made it from what: ``publish`` or ``restore``.
    record, record_digest
        Where the rest is written down.
    published
        UTC instant as ISO text with microseconds; grows with the version.
    rows, bytes, files
        Size.
    table_id
        The table's identity in the Delta log.
    """

    version: int
    delta_version: int
    build: str
    definition_hash: str
    operation: str
    record: str
    record_digest: str
    published: str
    rows: int
    bytes: int
    files: int
    table_id: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where a table stands: its latest version, the log's last number, and commits that are not ours."""

    latest: Version | None
    last_commit: int
    foreign: list[int]


def version_path(number: int) -> str:
    """Name of a projection, relative to the table."""
    return f"{layout.VERSIONS}/{number:09d}.json"


def list_versions(table_url: str) -> list[int]:
    """Numbers of the projected versions, ascending, expired ones included."""
    names = storage.list_names(storage.join(table_url, layout.VERSIONS))
    return sorted(int(name[:9]) for name in names if name.endswith(".json") and name[:9].isdigit())


def read_version(table_url: str, number: int) -> Version:
    """Read a projection.

    Raises
    ------
    TableError
        If there is no such version.
    CorruptionError
        If the projection is damaged.
    """
    url = storage.join(table_url, version_path(number))
    try:
        data = storage.read_bytes(url)
    except FileNotFoundError as error:
        raise TableError(f"{table_url}: has no version {number}.") from error
    return Version(**records.unseal(data, url))


def head(table_url: str) -> Head | None:
    """Look where the table stands, and make up for projections that a killed publisher left out.

    Returns
    -------
    Head or None
        None if there is no table. ``foreign`` lists commits after the latest version that change the table and
        were not made by featureflow.

    Notes
    -----
    Cost: two listings and one small read; one more read for each commit after the latest projection.
    """
    commits = delta_log.numbers(table_url)
    if not commits:
        return None
    known = list_versions(table_url)
    latest = read_version(table_url, known[-1]) if known else None
    after = latest.delta_version + 1 if latest else 0
    if commits[-1] >= after and commits[-(commits[-1] - after + 1) :] != list(range(after, commits[-1] + 1)):
        raise TableError(f"{table_url}: the Delta log has lost entries between {after} and {commits[-1]}.")
    foreign: list[int] = []
    for number in range(after, commits[-1] + 1):
        commit = delta_log.read_commit(table_url, number)
        if commit.ours is None:
            foreign += [number] if commit.changes_table else []
            continue
        latest, foreign = Version(delta_version=number, **commit.ours), []
        # A reader may not be allowed to write; the projection is a convenience, the commit is what counts.
        with suppress(OSError, FeatureflowError):
            project(table_url, latest)
    return Head(latest, commits[-1], foreign)


def project(table_url: str, version: Version, record: Mapping[str, Any] | None = None) -> None:
    """Create a version's projection; whoever comes second finds the same bytes there.

    A grid's snapshot gets its tag first: where the projection is, the tag is. ``record`` is the version's, of whoever
    has it at hand.
    """
    if record is None:
        record = records.read_record(table_url, version.record, version.record_digest)
    snapshot = (record.get("arrays") or {}).get("snapshot")
    if snapshot:
        from featureflow.tables.arrays_life import project_version

        if not project_version(table_url, version.version, snapshot):
            return
    storage.write_new(storage.join(table_url, version_path(version.version)), records.sealed(asdict(version)))


def commit_content(version: Version) -> dict[str, Any]:
    """What the Delta commit says about a version; the commit's own number is the rest."""
    content = asdict(version)
    del content["delta_version"]
    return content


def expired_path(number: int) -> str:
    """Name of the mark of an expired version, relative to the table."""
    return f"{layout.EXPIRED}/{number:09d}.json"


def list_expired(table_url: str) -> set[int]:
    """Numbers of the versions that gc has taken away."""
    names = storage.list_names(storage.join(table_url, layout.EXPIRED))
    return {int(name[:9]) for name in names if name.endswith(".json") and name[:9].isdigit()}


def check_not_expired(table_url: str, name: str, version: Version) -> None:
    """Refuse a version whose files gc has deleted.

    Raises
    ------
    TableError
        If it has expired; names the oldest version that is still there.
    """
    if not storage.exists(storage.join(table_url, expired_path(version.version))):
        return
    kept = sorted(set(list_versions(table_url)) - list_expired(table_url))
    raise TableError(
        f"{name}@{version.version} has expired: `featureflow gc` deleted its files. "
        f"Versions still there: {', '.join(map(str, kept)) or 'none'}."
    )
