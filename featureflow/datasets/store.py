"""A store with its datasets."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from featureflow.core import storage
from featureflow.core.errors import TableError
from featureflow.datasets.place import DATASETS, dataset_url
from featureflow.spec.suggest import did_you_mean
from featureflow.tables import delta_log
from featureflow.tables.references import split_reference
from featureflow.tables.store import FEATURES, open_table, table_url
from featureflow.tables.store import Store as TableStore
from featureflow.tables.table import Table

if TYPE_CHECKING:
    from featureflow.datasets.dataset import Dataset


@dataclass(frozen=True, slots=True, repr=False)
class Store(TableStore):
    """Feature tables and datasets under one URL."""

    def datasets(self) -> list[str]:
        """Names of the published datasets, sorted."""
        names = storage.list_names(storage.join(self.url, DATASETS))
        return [name for name in names if delta_log.numbers(dataset_url(self.url, name))]

    def table(self, reference: str) -> Table:
        """Open ``name``, ``name@7``, ``name@tag``, ``name@2026-11-01``, ``name@build:<id>``.

        Raises
        ------
        TableError
            If the table or version does not exist; says what does.
        """
        name, which = split_reference(reference)
        known = self.tables()
        if name not in known:
            if name in self.datasets():
                raise TableError(
                    f"{self.url}: {name!r} is a dataset; open it with store.dataset({reference!r})."
                )
            raise TableError(f"{self.url}: no table {name!r}. {did_you_mean(name, known)}")
        return open_table(table_url(self.url, name), name, which)

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
            if name in self.tables():
                raise TableError(
                    f"{self.url}: {name!r} is a feature table; open it with store.table({reference!r})."
                )
            raise TableError(f"{self.url}: no dataset {name!r}. {did_you_mean(name, known)}")
        # not before there is one: it loads encoders, and listing tables is quick
        from featureflow.datasets.dataset import open_dataset

        return open_dataset(self.url, name, which)

    def names(self) -> list[str]:
        """Names of everything that is published: feature tables, then datasets."""
        return [*self.tables(), *self.datasets()]

    def find(self, reference: str) -> tuple[str, str, str]:
        """Find where a name is: URL, name, and which version, as after the ``@``; the version is not looked up.

        Parameters
        ----------
        reference
            As for `table`. A name that is both a feature table and a dataset, which two projects in one store can
            bring about, is told apart by its folder: ``features/name``, ``datasets/name``.

        Raises
        ------
        TableError
            If there is no such name, or if it is ambiguous.
        """
        given, which = split_reference(reference)
        folder, _, name = given.rpartition("/")
        places = {FEATURES: self.tables(), DATASETS: self.datasets()}
        found = [place for place, names in places.items() if name in names and folder in ("", place)]
        if not found:
            known = [*places[FEATURES], *places[DATASETS]]
            raise TableError(f"{self.url}: no table or dataset {given!r}. {did_you_mean(given, known)}")
        if len(found) > 1:
            both = " or ".join(f"{place}/{name}" for place in found)
            raise TableError(f"{self.url}: {name!r} is both a feature table and a dataset. Write {both}.")
        return storage.join(self.url, found[0], name), name, which

    def version(self, reference: str) -> Table:
        """Open a version of a feature table or of a dataset, as a stored table; see `find`.

        Raises
        ------
        TableError
            If there is no such name or version; says what there is.
        """
        url, name, which = self.find(reference)
        return open_table(url, name, which)

    def latest_datasets(self) -> list[Dataset]:
        """The latest version of every dataset."""
        return [self.dataset(name) for name in self.datasets()]

    def __repr__(self) -> str:
        """One line."""
        return f"Store({self.url}: {', '.join(self.names()) or 'no tables'})"

    def _repr_html_(self) -> str:
        from featureflow.datasets.html import store_html

        return store_html(self)


def open(url: str | PathLike[str]) -> Store:  # noqa: A001  `featureflow.open` is its public name
    """Open the store at a folder or URL; nothing is read until something is asked for."""
    return Store(str(url).rstrip("/") or "/")
