"""A store: a folder or bucket of feature tables. Needs no spec and no cluster to read."""

from __future__ import annotations

from dataclasses import dataclass

from featureflow.core import storage
from featureflow.core.errors import TableError
from featureflow.spec.suggest import did_you_mean
from featureflow.tables import delta_log, layout, versions
from featureflow.tables.references import resolve, split_reference
from featureflow.tables.state import read_state
from featureflow.tables.table import Table

FEATURES = layout.FEATURES


def open(url: str) -> Store:  # noqa: A001  read as ff.open
    """Open a store by its URL. Nothing is read yet; an empty or missing folder is an empty store."""
    return Store(str(url).rstrip("/") or "/")


def table_url(store_url: str, name: str) -> str:
    """Root of a feature table in a store."""
    return storage.join(store_url, FEATURES, name)


def open_table(url: str, name: str, which: str = "latest") -> Table:
    """Open one version of the table at ``url``; ``which`` as after the ``@`` of a reference.

    Raises
    ------
    TableError
        If there is no such version.
    CorruptionError
        If its record is damaged.
    """
    return Table(name, url, read_state(url, resolve(url, name, which)))


@dataclass(frozen=True, slots=True, repr=False)
class Store:
    """Feature tables under one URL."""

    url: str

    def tables(self) -> list[str]:
        """Names of the published tables, sorted."""
        names = storage.list_names(storage.join(self.url, FEATURES))
        return [name for name in names if delta_log.numbers(table_url(self.url, name))]

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
            raise TableError(f"{self.url}: no table {name!r}. {did_you_mean(name, known)}")
        return open_table(table_url(self.url, name), name, which)

    def latest(self) -> list[Table]:
        """The latest version of every table."""
        return [self.table(name) for name in self.tables()]

    def versions(self, name: str) -> list[int]:
        """Numbers of a table's versions, expired ones left out."""
        url = table_url(self.url, name)
        versions.head(url)
        return sorted(set(versions.list_versions(url)) - versions.list_expired(url))

    def __repr__(self) -> str:
        """One line."""
        return f"Store({self.url}: {', '.join(self.tables()) or 'no tables'})"

    def _repr_html_(self) -> str:
        from featureflow.tables.html import store_html

        return store_html(self)
