"""One version of a dataset, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from featureflow.core.errors import TableError
from featureflow.core.roles import Roles
from featureflow.core.storage import join
from featureflow.datasets.encoding import SUFFIX
from featureflow.datasets.fitted import Fitted
from featureflow.spec.suggest import did_you_mean
from featureflow.tables.store import open_table
from featureflow.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd

DATASETS = "datasets"


def dataset_url(store_url: str, name: str) -> str:
    """Root of a dataset."""
    return join(store_url, DATASETS, name)


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """A version of a dataset; immutable, so what it reads never changes.

    Notes
    -----
    Order: rows come in the order of the spine, each exactly once.
    Columns: the spine's, features, labels, then ``split``, ``fold`` and weights as far as the spec asks for them.
    Errors: every byte that is read is verified; a flipped bit is a `CorruptionError` naming the file.
    """

    table: Table

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.table.name

    @property
    def version(self) -> int:
        """Number of this version."""
        return self.table.version

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.table.rows

    @property
    def record(self) -> dict[str, Any]:
        """Everything the version remembers: inputs and their versions, definitions, engine, who and when."""
        return self.table.record

    @property
    def definition(self) -> Any:
        """The definitions that it was built from."""
        return self.table.definition

    @property
    def roles(self) -> Roles:
        """Which column plays which part."""
        return Roles.from_json(self.record["dataset"]["roles"])

    @property
    def features(self) -> list[str]:
        """What a model gets, in order."""
        return list(self.roles.features)

    @property
    def labels(self) -> list[str]:
        """What it should learn."""
        return list(self.roles.labels)

    @property
    def splits(self) -> dict[str, int]:
        """Rows of each split; empty without ``split:``."""
        found = self.record["dataset"]
        return {name: found["split"]["rows"][name] for name in found["splits"]}

    @property
    def stats(self) -> pl.DataFrame:
        """Statistics of every column, without reading data."""
        return self.table.stats

    @property
    def schema(self) -> pa.Schema:
        """Columns and types as stored, in order."""
        return self.table.schema

    def lineage(self, column: str) -> Any:
        """Where a column's values come from."""
        return self.table.lineage(column)

    def to_arrow(
        self, split: str | None = None, columns: Sequence[str] | None = None, *, encoded: bool = True
    ) -> pa.Table:
        """Read rows in the spine's order.

        Parameters
        ----------
        split
            Only rows of this split; all rows, embargoed ones too, if omitted.
        columns
            In this order; all if omitted.
        encoded
            With ``encode:``, features as encoded for a model; False for their raw values.

        Raises
        ------
        TableError
            If there is no such split or column.
        CorruptionError
            If stored bytes are not those that were written.
        """
        names = self._stored(encoded=encoded)
        wanted = list(names if columns is None else columns)
        for name in wanted:
            if name not in names:
                raise TableError(f"{self}: no column {name!r}. {did_you_mean(name, list(names))}")
        read = [names[name] for name in wanted]
        self._check_split(split)
        role = self.roles.split
        extra = [role] if split is not None and role is not None and role not in read else []
        files = sorted(self.table.state.files, key=lambda staged: staged.bucket)
        parts = []
        for part in self.table.scan_files(tuple(files)).tables([*read, *extra]):
            if split is not None and role is not None:
                part = part.filter(pc.equal(part.column(role), split).combine_chunks())  # noqa: PLW2901
            parts.append(part.select(read).rename_columns(wanted))
        if parts:
            return pa.concat_tables(parts)
        fields = [pa.field(name, self.schema.field(names[name]).type) for name in wanted]
        return pa.schema(fields).empty_table()

    def _stored(self, *, encoded: bool) -> dict[str, str]:
        """Column as it is called outside, to the stored one."""
        raw = [name for name in self.schema.names if not name.endswith(SUFFIX)]
        fitted = self._fitted
        if fitted is None or not encoded:
            return {name: name for name in raw}
        found: dict[str, str] = {}
        for name in raw:
            made = fitted.sources.get(name)
            found.update({name: name} if made is None else {one: f"{one}{SUFFIX}" for one in made})
        return found

    @property
    def _fitted(self) -> Fitted | None:
        given = self.record["dataset"]["encoder"]
        return None if given is None else Fitted.from_json(given)

    def _check_split(self, split: str | None) -> None:
        if split is None:
            return
        if self.roles.split is None:
            raise TableError(f"{self}: has no splits. Add `split:` to its spec, or read it whole.")
        if split not in self.splits:
            raise TableError(f"{self}: no split {split!r}. {did_you_mean(split, list(self.splits))}")

    def to_polars(
        self, split: str | None = None, columns: Sequence[str] | None = None, *, encoded: bool = True
    ) -> pl.DataFrame:
        """Read rows as a Polars frame; see `to_arrow`."""
        return pl.DataFrame(self.to_arrow(split, columns, encoded=encoded))

    def to_pandas(
        self, split: str | None = None, columns: Sequence[str] | None = None, *, encoded: bool = True
    ) -> pd.DataFrame:
        """Read rows as a pandas frame; see `to_arrow`."""
        frame: pd.DataFrame = self.to_arrow(split, columns, encoded=encoded).to_pandas()
        return frame

    def __str__(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def __repr__(self) -> str:
        """One line."""
        parts = ", ".join(f"{name} {rows:,}" for name, rows in self.splits.items())
        return f"Dataset({self}: {self.rows:,} rows{f' ({parts})' if parts else ''}, {len(self.features)} features)"


def open_dataset(store_url: str, name: str, which: str) -> Dataset:
    """Open a version of a dataset.

    Raises
    ------
    TableError
        If there is no such version.
    """
    return Dataset(open_table(dataset_url(store_url, name), name, which))
