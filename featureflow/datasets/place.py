"""Where the datasets of a store are."""

from __future__ import annotations

from featureflow.core.storage import join
from featureflow.tables import layout

DATASETS = layout.DATASETS


def dataset_url(store_url: str, name: str) -> str:
    """Root of a dataset."""
    return join(store_url, DATASETS, name)
