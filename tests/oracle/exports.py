"""Exports written by a dozen plain lines: what loaders are tested on, without the package's own exporter."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from featureflow.contracts.shard_format import ShardOptions, ShardPlace
from featureflow.contracts.shard_manifest import Manifest, Shard, ShardColumn, ShardFile
from featureflow.core.roles import Roles
from featureflow.library.shards.registry import shard_format

ROLES = Roles(keys=("key",), features=("x", "amount"), labels=("label",))


def numbered(start: int, rows: int) -> pa.Table:
    """Rows whose values all follow from their key, so that a mixed-up row is seen."""
    keys = np.arange(start, start + rows)
    matrix = (keys[:, None] * 4 + np.arange(4)).astype(np.float32)
    return pa.table(
        {
            "key": pa.array(keys, pa.int64()),
            "x": pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), 4),
            "amount": pa.array(keys / 8, pa.float64()),
            "label": pa.array(keys % 2 == 1, pa.bool_()),
            "text": pa.array([f"row {key}" for key in keys], pa.string()),
        }
    )


def assert_rows(batch: Mapping[str, Any]) -> None:
    """Every row of a batch is a row of `numbered`."""
    keys = np.asarray(batch["key"])
    np.testing.assert_array_equal(np.asarray(batch["x"]), keys[:, None] * 4 + np.arange(4))
    np.testing.assert_array_equal(np.asarray(batch["amount"]), keys / 8)
    np.testing.assert_array_equal(np.asarray(batch["label"]), keys % 2 == 1)
    assert batch["text"] == [f"row {key}" for key in keys]


def write_export(
    root: Path,
    splits: Mapping[str, Sequence[pa.Table]],
    *,
    shard_format_name: str = "arrow",
    compression: str = "none",
    block_rows: int = 16_384,
    normalization: dict[str, dict[str, float]] | None = None,
    names: Mapping[str, tuple[str, ...]] | None = None,
    rows: dict[str, int] | None = None,
) -> Path:
    """Write tables as the shards of an export, one each, and the manifest."""
    encoder, options = (
        shard_format(shard_format_name),
        ShardOptions(compression=compression, block_rows=block_rows),
    )
    schema = next(table.schema for tables in splits.values() for table in tables)
    written = {}
    for split, tables in splits.items():
        total, first, shards = sum(table.num_rows for table in tables), 0, []
        for number, table in enumerate(tables):
            stem = f"{split}/part-{number:05}-of-{len(tables):05}"
            made = encoder.encode(table, ShardPlace(stem, number, len(tables), first, total), options)
            first += table.num_rows
            files = tuple(_write(root, path, buffers) for path, buffers in made.files.items())
            shards.append(Shard(stem, table.num_rows, files, made.entry))
        written[split] = tuple(shards)
    kept = sum(shard.rows for shards in written.values() for shard in shards)
    manifest = Manifest(
        dataset="tiny",
        version=1,
        definition_hash="d",
        options_hash="o",
        engine="test",
        format=shard_format_name,
        options=options,
        columns=tuple(_column(field, (names or {}).get(field.name, ())) for field in schema),
        roles=ROLES,
        splits=written,
        shuffle=None,
        rows=rows or {"in": kept, "kept": kept},
        normalization=normalization or {},
        arrow_schema=base64.b64encode(schema.serialize().to_pybytes()).decode(),
    )
    (root / "manifest.json").write_text(manifest.to_json())
    return root


def _write(root: Path, path: str, buffers: Sequence[Any]) -> ShardFile:
    data = b"".join(bytes(memoryview(buffer).cast("B")) for buffer in buffers)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    return ShardFile(path, len(data), xxhash.xxh3_64_hexdigest(data))


def _column(field: pa.Field, names: tuple[str, ...]) -> ShardColumn:
    kind, shape = field.type, ()
    while pa.types.is_fixed_size_list(kind):
        kind, shape = kind.value_type, (*shape, kind.list_size)
    return ShardColumn(field.name, str(kind), shape, ROLES.of(field.name), names)
