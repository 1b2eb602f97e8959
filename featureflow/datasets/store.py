"""A store with its datasets."""

from __future__ import annotations

from dataclasses import dataclass

from featureflow.core import storage
from featureflow.core.errors import TableError
from featureflow.datasets.dataset import DATASETS, Dataset, dataset_url, open_dataset
from featureflow.spec.suggest import did_you_mean
from featureflow.tables import delta_log
from featureflow.tables.references import split_reference
from featureflow.tables.store import Store as TableStore


@dataclass(frozen=True, slots=True, repr=False)
class Store(TableStore):
    """Feature tables and datasets under one URL."""

    def datasets(self) -> list[str]:
        """Names of the published datasets, sorted."""
        names = storage.list_names(storage.join(self.url, DATASETS))
        return [name for name in names if delta_log.numbers(dataset_url(self.url, name))]

    def dataset(self, reference: str) -> Dataset:
        """Open ``name``, ``name@2``, ``name@tag``, ``name@2026-11-01``.

        Raises
        ------
        TableError
            If the dataset or version does not exist; says what does.
        """
        name, which = split_reference(reference)
        known = self.datasets()
        if name not in known:
            raise TableError(f"{self.url}: no dataset {name!r}. {did_you_mean(name, known)}")
        return open_dataset(self.url, name, which)


def open(url: str) -> Store:  # noqa: A001  `featureflow.open` is its public name
    """Open the store at a folder or URL; nothing is read until something is asked for."""
    return Store(str(url).rstrip("/") or "/")
