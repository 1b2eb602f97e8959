"""Export a version of a dataset: which files, which columns, which folder."""

from __future__ import annotations

from collections.abc import Mapping

from featureflow.contracts.shard_manifest import Manifest
from featureflow.core.roles import EMBARGOED
from featureflow.core.storage import join
from featureflow.datasets.dataset import Dataset
from featureflow.execute.executors import Executor
from featureflow.export.run import ExportInput, OnProgress, RowsFile, export_rows
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
    rows = ExportInput(
        dataset=dataset.name,
        version=dataset.version,
        definition_hash=dataset.table.state.definition_hash,
        files=tuple(files),
        schema=dataset.schema,
        roles=dataset.roles,
        names=_names(dataset, keys=options.keys),
        splits=tuple(name for name in dataset.splits if name != EMBARGOED),
    )
    manifest = export_rows(
        rows, options, folder, executor=executor, scratch=scratch, on_progress=progress, replace=replace
    )
    return folder, manifest


def _names(dataset: Dataset, *, keys: bool) -> dict[str, str]:
    """Stored column to its name in the shards: what loads of the dataset have, too."""
    roles = dataset.roles
    own = [*roles.keys, *([roles.time] if roles.time else [])] if keys else []
    more = [name for name in (roles.weight, roles.fold) if name]
    stored: Mapping[str, str] = dataset.stored_names()
    return {stored[name]: name for name in (*own, *roles.features, *roles.labels, *more)}
