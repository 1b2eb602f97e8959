"""Files beside the shards for people and other tools: schema, statistics, a dataset card."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from featureflow.contracts.shard_manifest import Manifest
from featureflow.export.inputs import TRAIN, WHOLE, Column
from featureflow.export.statistics import Gathered

SCHEMA, STATISTICS, CARD = "schema.json", "stats.json", "README.md"
#: Formats that Hugging Face's `datasets` reads from a folder.
_HUGGING_FACE = ("arrow", "parquet", "webdataset")


def sidecar_files(manifest: Manifest, columns: Sequence[Column], statistics: Gathered) -> dict[str, bytes]:
    """Make all of them: name to content."""
    return {
        SCHEMA: _json(_schema(manifest)),
        STATISTICS: _json(_statistics(manifest, columns, statistics)),
        CARD: card(manifest).encode(),
    }


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _schema(manifest: Manifest) -> dict[str, Any]:
    return {
        "dataset": manifest.dataset,
        "version": manifest.version,
        "definition_hash": manifest.definition_hash,
        "format": manifest.format,
        "rows_per_record": manifest.options.rows_per_record,
        "columns": [asdict(column) for column in manifest.columns],
    }


def _statistics(manifest: Manifest, columns: Sequence[Column], statistics: Gathered) -> dict[str, Any]:
    fitted_on = TRAIN if TRAIN in manifest.splits else WHOLE if WHOLE in manifest.splits else None
    return {
        "fitted_on": fitted_on,
        "rows": manifest.rows,
        "splits": {name: sum(shard.rows for shard in shards) for name, shards in manifest.splits.items()},
        "columns": {column.name: statistics.of(column) for column in columns} if fitted_on else {},
        "labels": {
            label: {
                split: None if counts is None else dict(sorted(counts.items()))
                for split, counts in splits.items()
            }
            for label, splits in statistics.labels.items()
        },
    }


def card(manifest: Manifest) -> str:
    """Dataset card: Hugging Face's `load_dataset(folder)` finds the splits through its header."""
    rows = {name: sum(shard.rows for shard in shards) for name, shards in manifest.splits.items()}
    lines = [
        f"# {manifest.dataset}, version {manifest.version}",
        "",
        f"Training shards ({manifest.format}), written by featureflow. Definition `{manifest.definition_hash}`.",
        "",
        "| split | rows | shards |",
        "|---|---:|---:|",
        *(f"| {name} | {n} | {len(manifest.splits[name])} |" for name, n in rows.items()),
        "",
        f"Of {manifest.rows['in']} rows, {manifest.rows['kept']} are here"
        + "".join(
            f"; {n} {reason}" for reason, n in manifest.rows.items() if reason not in {"in", "kept"} and n
        )
        + ".",
        "",
        "| column | type | shape | role |",
        "|---|---|---|---|",
        *(f"| {c.name} | {c.dtype} | {list(c.shape) or ''} | {c.role} |" for c in manifest.columns),
        "",
        "Order and types of all columns are in `schema.json`, statistics of the train rows in `stats.json`, sizes and",
        "hashes of all files in `manifest.json`.",
        "",
    ]
    return "\n".join([*_header(manifest), *lines])


def _header(manifest: Manifest) -> list[str]:
    splits = [name for name, shards in manifest.splits.items() if shards]
    if manifest.format not in _HUGGING_FACE or not splits:
        return []
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for name in splits:
        first = manifest.splits[name][0]
        suffix = first.files[0].path.removeprefix(first.stem)  # a compressed one may have two
        # `datasets` allows word characters in the name of a split, nothing else
        lines += [f"  - split: {re.sub(r'[^A-Za-z0-9_]', '_', name)}", f'    path: "{name}/part-*{suffix}"']
    return [*lines, "---", ""]
