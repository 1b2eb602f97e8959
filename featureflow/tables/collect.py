"""Garbage collection: versions that nobody keeps, and what killed builds left behind.

Order matters. A version is first marked as expired, so that its readers are told so; then its files go. Nothing that a
kept version lists is ever deleted, nor anything younger than the margin: it may belong to a build that is running, or
be finished work that the next build will find.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from featureflow.core import storage
from featureflow.core.errors import TableError
from featureflow.tables import delta_log, layout, records, tags, versions
from featureflow.tables.layout import ARRAYS
from featureflow.tables.staged import REQUESTS
from featureflow.tables.state import read_state
from featureflow.tables.versions import Version

MARGIN = timedelta(days=7)
"""Longer than the longest build."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What gc took away, or would take away; ``bytes`` are of files and of a grid's arrays together.

    ``pinned`` are versions that stay only because versions of datasets (``patches@2``) read their values.
    """

    dry_run: bool
    expired: tuple[int, ...]
    kept: tuple[int, ...]
    files: tuple[str, ...]
    bytes: int
    array_objects: int = 0
    pinned: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def gc(
    table_url: str,
    name: str,
    *,
    keep: int | None = None,
    older_than: timedelta | None = None,
    margin: timedelta = MARGIN,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Collected:
    """Expire old versions and delete what no version needs.

    Parameters
    ----------
    keep
        The last ``keep`` versions stay. None: only ``older_than`` counts.
    older_than
        Versions published within this time stay. None: only ``keep`` counts. With neither, no version expires and
        only leftovers are deleted.
    margin
        Files that no version lists are deleted only when they are older than this.
    dry_run
        Report only.
    now
        The present, for tests.

    Notes
    -----
    The latest version and tagged ones never expire, nor does a grid's version whose snapshot a dataset of patches of
    the same store pins: it goes once that version of the dataset has expired. With both ``keep`` and ``older_than``,
    a version stays if either says so. Of a table that was never published, only what has the name of a file of ours
    goes: its first builds were killed, or one is running.

    Raises
    ------
    TableError
        If there is nothing of such a table, or ``keep`` is not positive.
    """
    now = now or datetime.now(UTC)
    head = versions.head(table_url)
    if (head is None and next(storage.walk(table_url), None) is None) or (head and head.latest is None):
        raise TableError(f"table {name!r} was never published in {table_url}.")
    if keep is not None and keep < 1:
        raise TableError(f"gc: keep must be 1 or more; got {keep}.")
    if head and head.foreign:
        raise TableError(
            f"{name}: the Delta log has commits that are not featureflow's ({head.foreign}); gc would delete their "
            "files. `featureflow restore` undoes them."
        )
    already = versions.list_expired(table_url)
    known = [
        versions.read_version(table_url, n) for n in versions.list_versions(table_url) if n not in already
    ]
    expiring = _expiring(known, set(tags.list_tags(table_url).values()), keep, older_than, now)
    pinned = _pinned(table_url, expiring)
    expiring = [v for v in expiring if v.version not in pinned]
    kept = [v for v in known if v not in expiring]
    if not dry_run:
        for version in expiring:
            mark = {"version": version.version, "expired": now.isoformat(timespec="microseconds")}
            storage.write_new(
                storage.join(table_url, versions.expired_path(version.version)), records.sealed(mark)
            )
    doomed = sorted(
        (path, size)
        for path, size in _unneeded(table_url, kept, expiring, now - margin)
        if head is not None or _is_ours(path)
    )
    if not dry_run:
        # a request each: several at a time, since ten thousand in a row take minutes
        with ThreadPoolExecutor(1 if storage.is_local(table_url) else REQUESTS) as pool:
            list(pool.map(lambda one: storage.delete(storage.join(table_url, one[0])), doomed))
    arrays = _collect_arrays(table_url, kept, before=now - margin, dry_run=dry_run)
    return Collected(
        dry_run,
        tuple(v.version for v in expiring),
        tuple(v.version for v in kept),
        tuple(path for path, _ in doomed),
        sum(size for _, size in doomed) + arrays[1],
        arrays[0],
        pinned,
    )


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A ``table`` or ``dataset`` of which there are files, but no version; ``reference`` is with its folder."""

    kind: str
    name: str
    reference: str
    url: str


def unpublished(store_url: str) -> list[Unpublished]:
    """What builds of a store have begun and never published."""
    found = []
    for kind, folder in (("table", layout.FEATURES), ("dataset", layout.DATASETS)):
        for name in storage.list_names(storage.join(store_url, folder)):
            url = storage.join(store_url, folder, name)
            if not delta_log.numbers(url) and next(storage.walk(url), None) is not None:
                found.append(Unpublished(kind, name, f"{folder}/{name}", url))
    return found


def _is_ours(path: str) -> bool:
    """Whether a path below a table is one that builds write."""
    if path.startswith("_ff/") or path.rpartition("/")[2].startswith(".tmp-"):
        return True
    try:
        layout.parse_path(path)
    except TableError:
        return False
    return True


def _pinned(table_url: str, expiring: list[Version]) -> dict[int, tuple[str, ...]]:
    """Those of a grid's versions that datasets of the store read, and which do."""
    if not expiring or not storage.exists(storage.join(table_url, ARRAYS)):
        return {}
    from featureflow.tables.arrays_life import snapshot_of
    from featureflow.tables.pins import pinned_snapshots

    readers = pinned_snapshots(table_url)
    snapshots = {v.version: snapshot_of(read_state(table_url, v).record) for v in expiring} if readers else {}
    return {number: readers[snapshot] for number, snapshot in snapshots.items() if snapshot in readers}


def _collect_arrays(
    table_url: str, kept: list[Version], *, before: datetime, dry_run: bool
) -> tuple[int, int]:
    """Objects and bytes of arrays that went; none of a table without arrays."""
    if not storage.exists(storage.join(table_url, ARRAYS)):
        return 0, 0
    from featureflow.tables.arrays_life import collect_arrays, snapshot_of

    snapshots = {v.version: snapshot_of(read_state(table_url, v).record) for v in kept}
    present = {number: snapshot for number, snapshot in snapshots.items() if snapshot}
    found = collect_arrays(table_url, present, before=before, dry_run=dry_run)
    return found.objects, found.bytes


def _expiring(
    known: list[Version], tagged: set[int], keep: int | None, older_than: timedelta | None, now: datetime
) -> list[Version]:
    if keep is None and older_than is None:
        return []
    recent = {v.version for v in known[-(keep or 1) :]}
    young = {
        v.version for v in known if older_than and datetime.fromisoformat(v.published) > now - older_than
    }
    return [v for v in known if v.version not in recent | young | tagged]


def _unneeded(
    table_url: str, kept: list[Version], expiring: list[Version], before: datetime
) -> Iterator[tuple[str, int]]:
    """Path and size of what can go: files of expiring versions at once, files of no version when they are old."""
    needed = {file.path for version in kept for file in read_state(table_url, version).files}
    released: dict[str, datetime] = {}
    for version in expiring:  # ascending, so that a file's last version counts
        published = datetime.fromisoformat(version.published)
        released.update((file.path, published) for file in read_state(table_url, version).files)
    recorded = {versions.read_version(table_url, n).record for n in versions.list_versions(table_url)}
    for path, size, changed in storage.walk(table_url):
        if path.rpartition("/")[2].startswith(".tmp-"):  # of a writer that was killed, wherever it wrote
            if changed < before:
                yield path, size
            continue
        if path in needed or path.startswith(f"{layout.LOG}/"):
            continue
        if path.startswith("_ff/"):
            # Records of expired versions stay: lineage and history outlive the data, and are small.
            orphan = path.startswith(layout.RECORDS) and path.rpartition(".")[0] not in recorded
            unpublished = path.startswith((f"{layout.PROGRESS}/", f"{layout.FIT_PARTS}/"))
            if (orphan or unpublished) and changed < before:
                yield path, size
        # A file that was touched after its version was published is being reused by a build (find_staged touches).
        elif changed < before or (path in released and changed <= released[path]):
            yield path, size
