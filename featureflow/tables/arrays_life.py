"""The life of a grid's arrays: projection of versions, and garbage collection.

A version's snapshot is named by its Delta commit; tags and branches repeat that for Icechunk, whose own garbage
collection keeps what they point to.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from featureflow.core import storage
from featureflow.core.errors import FeatureflowError
from featureflow.tables.arrays import project_arrays
from featureflow.tables.arrays_repository import (
    arrays_url,
    changing,
    drop_branch,
    open_repository,
    talking_to,
)
from featureflow.tables.arrays_seal import SEALS, seal_path

logger = logging.getLogger(__name__)


def snapshot_of(record: Mapping[str, Any]) -> str | None:
    """Snapshot of a version's arrays; None for a table of rows."""
    found = (record.get("arrays") or {}).get("snapshot")
    return str(found) if found else None


def project_version(table_url: str, version: int, snapshot: str) -> bool:
    """Project a committed version's arrays; False if that has to be done again, by the next reader.

    What is committed is committed: no error of a projection is one of the build.
    """
    try:
        project_arrays(table_url, version, snapshot)
    except FeatureflowError as error:
        logger.warning("%s: version %d is there, its Icechunk tag not yet: %s", table_url, version, error)
        return False
    return True


# ---------------------------------------------------------------- garbage


@dataclass(frozen=True, slots=True)
class CollectedArrays:
    """What garbage collection of arrays took away, or would: objects (chunks, manifests, snapshots) and bytes."""

    objects: int = 0
    bytes: int = 0


def collect_arrays(
    table_url: str, kept: Mapping[int, str], *, before: datetime, dry_run: bool = False
) -> CollectedArrays:
    """Delete what no kept version needs.

    Parameters
    ----------
    kept
        Snapshots of the versions that stay, by version.
    before
        Nothing younger is deleted: it may belong to a build that is running.

    Notes
    -----
    Order: tags of expired versions and branches of dead builds go first, then history forgets the snapshots that
    nothing points to, then their objects are deleted. A dry run counts what is garbage already, and what only
    expiring versions keep is not counted.
    """
    repository = open_repository(table_url)
    url = arrays_url(table_url)
    if not dry_run:
        for version, snapshot in sorted(kept.items()):  # of builds that were killed after their commit
            if f"v{version}" not in repository.list_tags():
                project_arrays(table_url, version, snapshot)
        _drop_tags(table_url, repository, kept)
        _drop_dead_branches(table_url, repository, before)
    with talking_to(url), changing(table_url):
        if not dry_run:
            repository.expire_snapshots(before)
        found = repository.garbage_collect(before, dry_run=dry_run)
    if not dry_run:
        _drop_seals(table_url, repository, set(kept.values()), before)
    kinds = ("chunks", "manifests", "snapshots", "attributes", "transaction_logs")
    counted = sum(int(getattr(found, f"{kind}_deleted", 0)) for kind in kinds)
    return CollectedArrays(counted, int(found.bytes_deleted))


def _drop_tags(table_url: str, repository: Any, kept: Mapping[int, str]) -> None:
    """Tags of versions that have expired. Their names can never be used again, and need not be."""
    import icechunk

    for tag in sorted(repository.list_tags()):
        if tag[:1] != "v" or not tag[1:].isdigit() or int(tag[1:]) in kept:
            continue
        with talking_to(arrays_url(table_url)), changing(table_url):
            try:
                repository.delete_tag(tag)
            except icechunk.IcechunkError:
                if tag in repository.list_tags():
                    raise


def _drop_dead_branches(table_url: str, repository: Any, before: datetime) -> None:
    """Branches of builds that ended without dropping them, when they are old; what was published has a tag."""
    for branch in sorted(repository.list_branches()):
        if not branch.startswith("build-"):
            continue
        with talking_to(arrays_url(table_url)):
            tip = repository.lookup_branch(branch)
            written = repository.lookup_snapshot(tip).written_at
        if written < before:
            drop_branch(table_url, repository, branch)


def _drop_seals(table_url: str, repository: Any, kept: set[str], before: datetime) -> None:
    there = kept | {str(repository.lookup_branch(branch)) for branch in repository.list_branches()}
    for path, _, changed in storage.walk(storage.join(table_url, SEALS)):
        snapshot = path.removesuffix(".json")
        if snapshot not in there and changed < before:
            storage.delete(storage.join(table_url, seal_path(snapshot)))
