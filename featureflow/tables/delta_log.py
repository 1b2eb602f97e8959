"""Delta's transaction log, protocol (1, 2): one JSON file a commit, created if absent.

The log is written here and not through delta-rs, for three reasons that were measured with deltalake 1.6.6: it can't
change a table's partition column (the table becomes unreadable), it takes a commit whose reply was lost for a
conflict, and only creating the next number ourselves is a strict compare-and-swap. Every table is read back by
deltalake, Polars and DuckDB in the tests.

References
----------
.. [1] Delta Transaction Log Protocol, https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import Any

import pyarrow as pa

from featureflow.core import s3, storage
from featureflow.core.errors import CorruptionError
from featureflow.tables import layout
from featureflow.tables.schema_json import field_to_json

APP_ID = "featureflow"
_DIGEST = "featureflowDigest"  # of the commit's other bytes
_INFO = frozenset({"timestamp", "operation", "operationParameters", "engineInfo", "userMetadata", APP_ID})
#: Where any of these stands, featureflow wrote the commit: one damaged byte does not remove all of them.
_SIGNS = (b'"engineInfo":"featureflow/', b'"appId":"featureflow"', b'"featureflow":{')
CHECKPOINT_INTERVAL = 50
CONFIGURATION = {
    # Delta's own clean-up would delete log entries that old versions need; gc owns retention.
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
}


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of the log: its number, what featureflow wrote into it (or None), and whether it changes the table."""

    number: int
    ours: dict[str, Any] | None
    changes_table: bool


@dataclass(frozen=True, slots=True)
class Live:
    """A file that the log lists."""

    path: str
    size: int
    partition_values: dict[str, str | None]


def commit_path(number: int) -> str:
    """Name of a commit, relative to the table."""
    return f"{layout.LOG}/{number:020d}.json"


def numbers(table_url: str) -> list[int]:
    """Numbers of all commits in the log, ascending."""
    names = storage.list_names(storage.join(table_url, layout.LOG))
    return sorted(int(n[:20]) for n in names if len(n) == 25 and n.endswith(".json") and n[:20].isdigit())


def read_commit(table_url: str, number: int) -> Commit:
    """Read one commit back.

    Raises
    ------
    FileNotFoundError
        If there is no such commit.
    CorruptionError
        If its bytes are not those that were written.
    """
    url = storage.join(table_url, commit_path(number))
    data = storage.read_bytes(url)
    try:
        actions = [json.loads(line) for line in data.splitlines() if line]
        info: dict[str, Any] = next((a["commitInfo"] for a in actions if "commitInfo" in a), {})
        if not actions:
            raise ValueError("it is empty")
        if any(sign in data for sign in _SIGNS):
            _check_ours(info, data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptionError(
            f"{url}: its bytes are not those of a commit that was written: {error}"
        ) from error
    ours = info.get(APP_ID)
    changes = any(kind in action for action in actions for kind in ("add", "remove", "metaData", "protocol"))
    return Commit(number, ours if isinstance(ours, dict) else None, changes)


def _check_ours(info: dict[str, Any], data: bytes) -> None:
    """Refuse a commit of featureflow's that is not the one that was written: it would be taken for another's."""
    if info.keys() - {_DIGEST} != _INFO or not isinstance(info[APP_ID], dict):
        raise ValueError(f"commitInfo has the entries {sorted(info)}")
    if _DIGEST not in info:
        return  # written before there were digests
    plain = {"commitInfo": {name: value for name, value in info.items() if name != _DIGEST}}
    if info[_DIGEST] != _digest(plain, data.partition(b"\n")[2]):
        raise ValueError("its digest differs")


def _digest(info: dict[str, Any], rest: bytes) -> str:
    return hashlib.blake2b(_line(info) + rest, digest_size=16).hexdigest()


def _line(action: dict[str, Any]) -> bytes:
    return json.dumps(action, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def add_action(path: str, column: str | None, slice_: str | None, size: int, stats: str) -> dict[str, Any]:
    """Make a file visible."""
    return {
        "add": {
            "path": layout.delta_path(path),
            "partitionValues": _values(column, slice_),
            "size": size,
            "modificationTime": 0,
            "dataChange": True,
            "stats": stats,
        }
    }


def remove_action(file: Live, now_ms: int) -> dict[str, Any]:
    """Make a file invisible from this commit on; the file stays for older versions."""
    return {
        "remove": {
            "path": layout.delta_path(file.path),
            "deletionTimestamp": now_ms,
            "dataChange": True,
            "extendedFileMetadata": True,
            "partitionValues": file.partition_values,
            "size": file.size,
        }
    }


def _values(column: str | None, slice_: str | None) -> dict[str, str | None]:
    return {} if column is None else {column: slice_}


def metadata_action(
    table_id: str,
    schema: pa.Schema,
    column: str | None,
    kind: pa.DataType | None,
    pruning: list[str],
    now_ms: int,
) -> dict[str, Any]:
    """Schema, partition column and configuration of the table."""
    fields = [field_to_json(f) for f in schema]
    if column is not None and kind is not None:
        fields.append(field_to_json(pa.field(column, kind)))
    return {
        "metaData": {
            "id": table_id,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": [column] if column else [],
            "createdTime": now_ms,
            "configuration": {**CONFIGURATION, "delta.dataSkippingStatsColumns": ",".join(pruning)},
        }
    }


def protocol_action() -> dict[str, Any]:
    """The oldest protocol, which every Delta reader knows."""
    return {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}


def encode(
    ours: dict[str, Any], operation: str, engine: str, actions: Iterable[dict[str, Any]], now_ms: int
) -> bytes:
    """The bytes of a commit: who and what first, then the actions.

    Memory: the bytes once, however many actions; those of 100,000 files are 40 MB.
    """
    info = {
        "timestamp": now_ms,
        "operation": operation,
        "operationParameters": {},
        "engineInfo": engine,
        "userMetadata": json.dumps(ours, sort_keys=True),
        APP_ID: ours,
    }
    transaction = {"txn": {"appId": APP_ID, "version": ours["version"], "lastUpdated": now_ms}}
    content = BytesIO()
    content.write(_line({"commitInfo": {**info, _DIGEST: "0" * 32}}))  # in whose place the digest comes
    state = hashlib.blake2b(_line({"commitInfo": info}), digest_size=16)
    for action in chain(actions, [transaction]):
        line = _line(action)
        state.update(line)
        content.write(line)
    content.seek(0)
    content.write(_line({"commitInfo": {**info, _DIGEST: state.hexdigest()}}))
    return content.getvalue()


def _delta_table(table_url: str) -> Any:
    from deltalake import DeltaTable

    return DeltaTable(table_url, storage_options=s3.delta_options(table_url) or None)


def live_files(table_url: str) -> list[Live]:
    """Files that the log lists now, whoever wrote them."""
    rows = pa.table(_delta_table(table_url).get_add_actions(flatten=True)).to_pylist()
    prefix = "partition."
    return [
        Live(
            row["path"],
            row["size_bytes"],
            {k[len(prefix) :]: None if v is None else str(v) for k, v in row.items() if k.startswith(prefix)},
        )
        for row in rows
    ]


def new_table_id() -> str:
    """A table's identity for other Delta tools."""
    return str(uuid.uuid4())


def checkpoint(table_url: str) -> None:
    """Fold the log so far into one Parquet file; other readers open the table faster then."""
    _delta_table(table_url).create_checkpoint()
