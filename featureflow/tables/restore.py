"""Make an old version current again, as a new version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from featureflow.core.errors import TableError
from featureflow.tables import versions
from featureflow.tables.commit import RESERVED, Published, publish
from featureflow.tables.references import resolve
from featureflow.tables.state import read_state


def restore(
    table_url: str,
    name: str,
    which: str,
    *,
    build: str,
    by: dict[str, Any] | None = None,
    on_phase: Callable[[str], None] = lambda _phase: None,
) -> Published:
    """Publish a new version whose content is that of an old one: same files, schema and definition, one commit.

    Also the way out after someone else wrote to the Delta table: what they added is removed by the same commit.

    Parameters
    ----------
    which
        As after the ``@`` of a reference.
    build
        Id of this operation.
    by
        More entries for the record (who, when, why).

    Raises
    ------
    TableError
        If there is no such version, or it has expired.
    CommitConflict
        If another build published meanwhile.
    """
    old = read_state(table_url, resolve(table_url, name, which))
    head = versions.head(table_url)
    if head is None or head.latest is None:
        raise TableError(f"table {name!r} was never published in {table_url}.")
    now = read_state(table_url, head.latest)
    kept = {k: v for k, v in old.record.items() if k not in RESERVED}
    record = {
        **kept,
        **(by or {}),
        "build": build,
        "definition_hash": old.definition_hash,
        "restored_from": old.version,
    }
    return publish(
        table_url,
        schema=old.schema,
        partition=old.partition,
        keys=old.keys,
        time=old.time,
        adds=old.files,
        removes=sorted({file.path for file in now.files} - {file.path for file in old.files}),
        record=record,
        expected_version=now.version,
        operation="restore",
        over_foreign=True,
        on_phase=on_phase,
    )
