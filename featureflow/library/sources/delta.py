"""Delta tables as a source: the log says which Parquet files there are and what the schema is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from featureflow.core.errors import SourceError, Unreachable
from featureflow.core.raw_files import RawFile
from featureflow.core.s3 import delta_options, is_s3
from featureflow.core.storage import is_local, join, list_names, local_path

#: Reader features under which the Parquet files alone are not the table
_WILDCARDS = set("*?[")
_UNREADABLE = {"deletionVectors", "columnMapping"}


def is_delta(path: str) -> bool:
    """Whether a folder holds a Delta table."""
    if is_local(path):
        return os.path.isdir(os.path.join(local_path(path), "_delta_log"))
    return is_s3(path) and not _WILDCARDS & set(path) and bool(list_names(join(path, "_delta_log")))


def snapshot(path: str, version: int | None) -> tuple[list[RawFile], pa.Schema, list[str], int]:
    """List the files of a table version.

    Returns
    -------
    files, schema, partition_columns, version
        Files sorted by path with their partition values; the table's schema; the version that was read.

    Raises
    ------
    SourceError
        If there is no such table or version, or its files alone don't make the table (deletion vectors, column
        mapping).
    Unreachable
        If the store does not answer.
    """
    table = _open(path, version)
    root = local_path(path) if is_local(path) else path
    features = _UNREADABLE & set(table.protocol().reader_features or ())
    if features:
        raise SourceError(
            f"{path}: the Delta table uses {', '.join(sorted(features))}, which this reader does not support. "
            "Rewrite it without (for deletion vectors: REORG TABLE ... APPLY (PURGE))."
        )
    partitions = list(table.metadata().partition_columns)
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    files = [_raw_file(root, action, partitions) for action in actions]
    schema = pa.schema(table.schema().to_arrow())
    return sorted(files, key=lambda file: file.path), schema, partitions, table.version()


def _open(path: str, version: int | None) -> Any:
    import deltalake
    from deltalake.exceptions import DeltaError, TableNotFoundError

    where = local_path(path) if is_local(path) else path
    at = "" if version is None else f" at version {version}"
    if is_local(path) and not os.path.isdir(where):
        raise SourceError(f"{path}: there is no such folder.")
    try:
        return deltalake.DeltaTable(where, version=version, storage_options=delta_options(path) or None)
    except TableNotFoundError as error:
        raise SourceError(f"{path}: there is no Delta table{at}.") from error
    except DeltaError as error:
        raise SourceError(f"{path}: the Delta table can't be read{at}: {error}") from error
    except OSError as error:
        if is_local(path):
            raise SourceError(f"{path}: the Delta table can't be read{at}: {error}") from error
        raise Unreachable(f"{path}: {error}") from error


def _raw_file(root: str, action: Mapping[str, Any], partitions: list[str]) -> RawFile:
    values = {name: _text(action.get(f"partition.{name}")) for name in partitions}
    path = str(action["path"])
    whole = path if "://" in path or path.startswith("/") else join(root, path)
    # a data file of Delta is never rewritten under its name
    return RawFile(whole, int(action["size_bytes"]), "delta", values)


def _text(value: object) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
