"""One Delta commit is exactly one version: everything before it is invisible, everything after it can be made up for.

1. Workers wrote files under their final names; no version lists them.
2. The record is written, under a name of its own.
3. **The commit**: the next number of the Delta log is created if absent. A lost race creates nothing.
4. The projection into ``_ff/versions``. A publisher killed before it is made up for by the next reader.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

import featureflow
from featureflow.core import storage
from featureflow.core.errors import CommitConflict, CommitUnknown, CorruptionError, TableError, Unreachable
from featureflow.core.fingerprints import fingerprint
from featureflow.tables import delta_log, layout, records, statistics, versions
from featureflow.tables.parquet_files import StagedFile
from featureflow.tables.schema_json import schema_to_json
from featureflow.tables.staged import sizes_of
from featureflow.tables.state import TableState, read_state
from featureflow.tables.versions import Version

logger = logging.getLogger(__name__)

RESERVED = frozenset(
    {"format", "version", "parent", "operation", "published", "engine", "schema", "partition"}
) | frozenset(
    {"partition_column", "keys", "time", "rows", "bytes", "files", "statistics", "files_digest", "table_id"}
)
"""Entries of a record that only :func:`publish` writes."""


@dataclass(frozen=True, slots=True)
class Published:
    """What :func:`publish` made: the version, and whether this call or an earlier one of the same build did it."""

    version: int
    delta_version: int
    rows: int
    bytes: int
    files_added: int
    files_removed: int
    files_kept: int


def _nothing(_phase: str) -> None:
    return None


def publish(
    table_url: str,
    *,
    schema: pa.Schema,
    partition: str,
    keys: list[str],
    time: str | None,
    adds: list[StagedFile],
    removes: list[str],
    record: dict[str, Any],
    expected_version: int | None,
    operation: str = "publish",
    over_foreign: bool = False,
    planned_on: TableState | None = None,
    on_phase: Callable[[str], None] = _nothing,
) -> Published:
    """Make a set of changes visible as the table's next version.

    Parameters
    ----------
    table_url
        Root of the table.
    schema
        Columns without the storage column, with storable types. Where it, or the partition, differs from the version
        before, every file of that version must be removed: a new definition is a full replacement.
    partition, keys, time
        How the table is cut and pruned.
    adds, removes
        New files, and paths of files that the version before lists. A file that is listed and added again is kept.
    record
        JSON values to remember; ``build`` and ``definition_hash`` are required.
    expected_version
        The version that was planned against; None: the table must not exist yet.
    operation
        ``publish`` or ``restore``.
    over_foreign
        Undo commits that other writers made since the latest version, instead of refusing.
    planned_on
        The version before, of whoever has read it: it is read here otherwise. That of 100,000 files takes 0.1 GB.
    on_phase
        Called with ``checked``, ``recorded``, ``committed``, ``projected`` after these steps; for tests and progress.

    Raises
    ------
    CommitConflict
        Nothing was published, because another build was faster. Plan again.
    CommitUnknown
        The store failed during the commit and could not be asked afterwards. Calling again with the same build is
        safe: a build publishes at most once.
    Unreachable
        The store failed, and nothing was published.
    TableError
        The request contradicts itself, or someone else changed the Delta table.

    Notes
    -----
    Cost: proportional to the number of live files for the record, to the changes for the commit.
    """
    head = versions.head(table_url)
    latest = head.latest if head else None
    if latest and latest.build == record["build"]:
        return Published(latest.version, latest.delta_version, latest.rows, latest.bytes, 0, 0, latest.files)
    _check_head(table_url, head, expected_version, over_foreign)
    before = None
    if latest is not None:
        same = planned_on is not None and planned_on.info == latest
        before = planned_on if same else read_state(table_url, latest)
    after = _files_after(table_url, before, adds, removes, schema, partition)
    storage.flush(
        table_url
    )  # data before the log: a commit must not survive a power cut that its files do not
    on_phase("checked")
    version = _new_version(before, record, operation, after, head.last_commit + 1 if head else 0)
    remembered = _remembered(version, before, record, schema, partition, keys, time, after)
    try:
        name, digest = records.write_record(table_url, remembered, after)
    except OSError as error:
        raise Unreachable(f"{table_url}: can't be written; nothing was published. {error}") from error
    version = replace(version, record=name, record_digest=digest)
    on_phase("recorded")
    foreign = delta_log.live_files(table_url) if head and head.foreign else None
    changes = _changes(before, after, remembered, schema, partition, foreign)
    _commit(table_url, version, changes)
    on_phase("committed")
    with suppress(
        OSError, Unreachable
    ):  # committed is committed: the next reader makes up for the projection
        versions.project(table_url, version, remembered)
    on_phase("projected")
    _checkpoint(table_url, version)
    return Published(
        version.version,
        version.delta_version,
        version.rows,
        version.bytes,
        len(changes.new),
        len(changes.gone),
        len(after) - len(changes.new),
    )


def _check_head(table_url: str, head: versions.Head | None, expected: int | None, over_foreign: bool) -> None:
    found = head.latest.version if head and head.latest else None
    if head and head.foreign and not over_foreign:
        raise TableError(
            f"{table_url}: commit {head.foreign[0]} of the Delta log was not made by featureflow and changes the "
            f"table. `featureflow restore` brings a version back as the next one; nothing was published."
        )
    if found != expected:
        was = "no table" if expected is None else f"version {expected}"
        now = "no table" if found is None else f"version {found}"
        raise CommitConflict(f"{table_url}: was planned against {was}, but there is {now} now. Plan again.")


def _files_after(
    table_url: str,
    before: TableState | None,
    adds: list[StagedFile],
    removes: list[str],
    schema: pa.Schema,
    partition: str,
) -> list[StagedFile]:
    """Files of the new version; refuses what would lose, double or hide rows."""
    if not schema.equals(layout.storable(schema)):
        raise TableError(
            f"{table_url}: the schema has types that are not stored; use layout.storable(schema): {schema}"
        )
    listed = {file.path: file for file in before.files} if before else {}
    unknown = sorted(set(removes) - listed.keys())
    if unknown:
        raise TableError(f"{table_url}: {unknown[0]} can't be removed, the version before does not list it.")
    gone = set(removes)
    kept = {path: file for path, file in listed.items() if path not in gone}
    column = layout.partition_column(partition, schema.names)
    schema_hash = fingerprint(schema_to_json(schema))
    new = {file.path: file for file in adds if file.path not in kept}
    for file in [*kept.values(), *new.values()]:
        found, slice_, _, _ = layout.parse_path(file.path)
        if found != column or file.schema_hash != schema_hash:
            raise TableError(
                f"{table_url}: {file.path} has other columns or another partition than the new version. "
                "A changed definition replaces every file."
            )
        layout.check_slice(partition, slice_)
    after = sorted([*kept.values(), *new.values()], key=lambda file: file.path)
    units: dict[tuple[str | None, int], str] = {}
    for file in after:
        other = units.setdefault((file.slice, file.bucket), file.path)
        if other != file.path:
            raise TableError(
                f"{table_url}: {other} and {file.path} hold the same slice and bucket; remove one of them."
            )
    _check_staged(table_url, list(new.values()))
    return after


def _check_staged(table_url: str, files: list[StagedFile]) -> None:
    """A file that gc or a person deleted since it was staged must not get into a version."""
    sizes = sizes_of(table_url, (file.path for file in files))
    problems = [
        f"{file.path} is missing"
        if file.path not in sizes
        else f"{file.path} has {sizes[file.path]} bytes instead of {file.size}"
        for file in files
        if sizes.get(file.path) != file.size
    ]
    if problems:
        raise CorruptionError(
            f"{table_url}: staged {'; '.join(problems[:3])}. Build again; nothing was published."
        )


def _new_version(
    before: TableState | None,
    record: dict[str, Any],
    operation: str,
    after: list[StagedFile],
    commit: int,
) -> Version:
    now = datetime.now(UTC)
    if before:  # clocks differ between machines, but "the version at this time" must follow the numbers
        now = max(now, datetime.fromisoformat(before.info.published) + timedelta(microseconds=1))
    return Version(
        version=before.version + 1 if before else 1,
        delta_version=commit,
        build=record["build"],
        definition_hash=record["definition_hash"],
        operation=operation,
        record="",
        record_digest="",
        published=now.isoformat(timespec="microseconds"),
        rows=sum(file.rows for file in after),
        bytes=sum(file.size for file in after),
        files=len(after),
        table_id=before.info.table_id if before else delta_log.new_table_id(),
    )


def _remembered(
    version: Version,
    before: TableState | None,
    record: dict[str, Any],
    schema: pa.Schema,
    partition: str,
    keys: list[str],
    time: str | None,
    after: list[StagedFile],
) -> dict[str, Any]:
    clash = sorted(RESERVED & set(record))
    if clash:
        raise ValueError(f"record entries {clash} are written by publish itself.")
    missing = [name for name in (*keys, *([time] if time else [])) if name not in schema.names]
    if missing:
        raise TableError(f"key or time columns {missing} are not in the schema {schema.names}.")
    return {
        **record,
        "version": version.version,
        "parent": before.version if before else None,
        "operation": version.operation,
        "published": version.published,
        "engine": f"featureflow {featureflow.__version__}",
        "table_id": version.table_id,
        "schema": schema_to_json(schema),
        "partition": partition,
        "partition_column": layout.partition_column(partition, schema.names),
        "keys": keys,
        "time": time,
        "rows": version.rows,
        "bytes": version.bytes,
        "files": version.files,
        "statistics": statistics.merge((file.columns for file in after), schema),
    }


@dataclass(frozen=True, slots=True)
class _Changes:
    """A commit's actions; those of files are made when they are written down, since there may be 100,000."""

    first: list[dict[str, Any]]
    gone: list[delta_log.Live]
    new: list[StagedFile]
    column: str | None
    now_ms: int

    def actions(self) -> Iterator[dict[str, Any]]:
        yield from self.first
        for file in self.gone:
            yield delta_log.remove_action(file, self.now_ms)
        for new in self.new:
            yield delta_log.add_action(new.path, self.column, new.slice, new.size, new.delta_stats)


def _changes(
    before: TableState | None,
    after: list[StagedFile],
    new: dict[str, Any],
    schema: pa.Schema,
    partition: str,
    foreign: list[delta_log.Live] | None,
) -> _Changes:
    """The commit's actions. ``foreign`` is what the log lists where others wrote to it; else the version before."""
    now_ms = _milliseconds(new["published"])
    first: list[dict[str, Any]] = []
    column = new["partition_column"]
    same = before is not None and all(
        before.record[k] == new[k] for k in ("schema", "partition_column", "keys", "time")
    )
    if before is None:
        first.append(delta_log.protocol_action())
    if not same or foreign is not None:
        kind = layout.partition_type(partition) if column else None
        pruning = [*new["keys"], *([new["time"]] if new["time"] else [])]
        first.append(delta_log.metadata_action(new["table_id"], schema, column, kind, pruning, now_ms))
    listed = {file.path for file in after}
    if foreign is not None:
        live = {file.path for file in foreign}
        gone = [file for file in foreign if file.path not in listed]
    else:
        live = {file.path for file in before.units.values()} if before else set()
        gone = _gone(before, listed)
    new_files = [file for file in after if file.path not in live]
    return _Changes(first, sorted(gone, key=lambda file: file.path), new_files, column, now_ms)


def _gone(state: TableState | None, listed: set[str]) -> list[delta_log.Live]:
    """Files of a version that are not listed any more, as the log knows them."""
    if state is None:
        return []
    column = state.partition_column
    return [
        delta_log.Live(file.path, file.size, {column: file.slice} if column else {})
        for file in state.units.values()
        if file.path not in listed
    ]


def _milliseconds(published: str) -> int:
    return int(datetime.fromisoformat(published).timestamp() * 1000)


def _commit(table_url: str, version: Version, changes: _Changes) -> None:
    """Create the next entry of the log; after any doubt, look what is there."""
    path = delta_log.commit_path(version.delta_version)
    url = storage.join(table_url, path)
    ours = versions.commit_content(version)
    data = delta_log.encode(
        ours,
        version.operation.upper(),
        f"featureflow/{featureflow.__version__}",
        changes.actions(),
        _milliseconds(version.published),
    )
    failure: BaseException | None = None
    try:
        if storage.write_new(url, data):
            return
    except (OSError, Unreachable) as error:
        failure = error
    # The entry may be ours although the store said no: a client that repeats a PUT whose reply was lost is told
    # that the object exists. Only the content decides.
    try:
        found = delta_log.read_commit(table_url, version.delta_version)
    except FileNotFoundError:
        raise Unreachable(
            f"{url}: the commit failed and is not there; nothing was published. {failure}"
        ) from failure
    except (OSError, Unreachable, CorruptionError) as error:
        raise CommitUnknown(
            f"{url}: the store failed during the commit ({failure}) and can't be asked ({error}). Build "
            f"{version.build} may or may not be version {version.version}; `featureflow history` "
            "will tell. Building again is safe."
        ) from error
    if found.ours is None or found.ours.get("record") != version.record:
        raise CommitConflict(
            f"{table_url}: another writer made commit {version.delta_version} first. Plan again."
        )


def _checkpoint(table_url: str, version: Version) -> None:
    if version.delta_version == 0 or version.delta_version % delta_log.CHECKPOINT_INTERVAL:
        return
    try:
        delta_log.checkpoint(table_url)
    except Exception as error:  # noqa: BLE001  a checkpoint only makes other readers faster; the version is there
        logger.debug("did not write a checkpoint of %s: %s", table_url, error)
