"""Versions of grids that datasets of the same store read their values from."""

from __future__ import annotations

import json

from featureflow.core import storage
from featureflow.tables import delta_log, versions
from featureflow.tables.layout import DATASETS, FEATURES
from featureflow.tables.state import read_state


def pinned_snapshots(table_url: str) -> dict[str, tuple[str, ...]]:
    """Snapshots of a grid that versions of datasets pin, and which: ``patches@2``.

    Notes
    -----
    A dataset of patches holds no values: without the snapshot it can't be read. Versions of datasets that have expired
    pin nothing.

    Cost: the record of every version of the store's datasets.
    """
    features, _, name = table_url.rstrip("/").rpartition("/")
    store, _, room = features.rpartition("/")
    if room != FEATURES:
        return {}
    found: dict[str, list[str]] = {}
    root = storage.join(store, DATASETS)
    for dataset in storage.list_names(root):
        url = storage.join(root, dataset)
        if not delta_log.numbers(url):
            continue
        versions.head(url)  # projects what a build that was killed has committed
        gone = versions.list_expired(url)
        for number in versions.list_versions(url):
            if number in gone:
                continue
            record = read_state(url, versions.read_version(url, number)).record
            patches = (record.get("dataset") or {}).get("patches")
            given = {} if patches is None else json.loads(patches)["sources"].get(name, {})
            if "snapshot" in given:
                found.setdefault(str(given["snapshot"]), []).append(f"{dataset}@{number}")
    return {snapshot: tuple(names) for snapshot, names in found.items()}
