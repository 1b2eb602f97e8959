"""Export a version of a dataset: which files, which columns, which folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featureflow.contracts.shard_manifest import Manifest
from featureflow.core.roles import EMBARGOED
from featureflow.core.storage import join
from featureflow.datasets.dataset import Dataset
from featureflow.execute.executors import Executor
from featureflow.export.patches import index_names, schema_with
from featureflow.export.run import ExportInput, OnProgress, RowsFile, export_rows
from featureflow.observe.progress import Progress
from featureflow.spec.exports import Export

EXPORTS = "exports"


def export_folder(dataset: Dataset, options: Export, store_url: str) -> str:
    """Where a version's shards go: ``<path>/<dataset>/<version>``; the path is the store's ``exports`` by default."""
    root = options.path if options.path is not None else join(store_url, EXPORTS)
    return join(root, dataset.name, str(dataset.version))


def export_dataset(
    dataset: Dataset,
    options: Export,
    *,
    store_url: str,
    executor: Executor,
    scratch: str,
    progress: OnProgress | None = None,
    replace: bool = False,
) -> tuple[str, Manifest]:
    """Write a version of a dataset as shards; returns their folder and manifest.

    Features as encoded, labels, weights and folds go into the shards, keys and time unless ``keys: false``; other
    columns of the spine do not. See `export_rows` for what it raises, costs and promises.
    """
    folder = export_folder(dataset, options, store_url)
    files, first = [], 0
    for staged in dataset.files:
        files.append(RowsFile(join(dataset.table.url, staged.path), staged.rows, first))
        first += staged.rows
    patches = dataset.patches
    schema = dataset.schema if patches is None else schema_with(dataset.schema, patches.fields)
    rows = ExportInput(
        dataset=dataset.name,
        version=dataset.version,
        definition_hash=dataset.table.state.definition_hash,
        files=tuple(files),
        schema=schema,
        roles=dataset.roles,
        names=_names(dataset, keys=options.keys),
        splits=tuple(name for name in dataset.splits if name != EMBARGOED),
        patches=patches,
    )
    manifest = export_rows(
        rows, options, folder, executor=executor, scratch=scratch, on_progress=progress, replace=replace
    )
    return folder, manifest


def describe_export(folder: str, manifest: Manifest) -> dict[str, Any]:
    """Say what an export holds, as JSON values: its place and format, shards, rows and bytes, also by split.

    ``left_out`` are the dataset's rows that are in no shard, by reason.
    """
    by_split = {
        name: {
            "shards": len(shards),
            "rows": sum(shard.rows for shard in shards),
            "bytes": sum(file.bytes for shard in shards for file in shard.files),
        }
        for name, shards in manifest.splits.items()
    }
    return {
        "dataset": manifest.dataset,
        "version": manifest.version,
        "folder": folder,
        "format": manifest.format,
        **{key: sum(one[key] for one in by_split.values()) for key in ("shards", "rows", "bytes")},
        "splits": by_split,
        "left_out": {
            reason: rows for reason, rows in manifest.rows.items() if reason not in ("in", "kept") and rows
        },
    }


def shown_by(progress: Progress, name: str) -> OnProgress:
    """Report the stages of an export as those of a build; ``name`` goes before them."""
    done_before: dict[str, int] = {}

    def shown(stage: str, done: int, total: int) -> None:
        full = f"{name}: export {stage}"
        if full not in done_before:
            progress.stage(full, total)
        progress.advance(full, tasks=done - done_before.get(full, 0))
        done_before[full] = done

    return shown


def _names(dataset: Dataset, *, keys: bool) -> dict[str, str]:
    """Stored column to its name in the shards: what loads of the dataset have, too."""
    roles = dataset.roles
    own = [*roles.keys, *([roles.time] if roles.time else [])] if keys else []
    more = [name for name in (roles.weight, roles.fold) if name]
    stored: Mapping[str, str] = dataset.stored_names()
    if dataset.patches is not None:
        stored = {**stored, **{field.name: field.name for field in dataset.patches.fields}}
        own += index_names(dataset.patches) if keys else []
    return {stored[name]: name for name in (*own, *roles.features, *roles.labels, *more)}
