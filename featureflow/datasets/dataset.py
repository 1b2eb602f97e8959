"""One version of a dataset, for notebooks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from featureflow.core.errors import TableError
from featureflow.core.roles import EMBARGOED, Roles
from featureflow.datasets.encoding import SUFFIX
from featureflow.datasets.fitted import Fitted
from featureflow.datasets.place import dataset_url
from featureflow.execute.sizing import row_bytes
from featureflow.loaders.shards import Shards, memory_shards
from featureflow.plan.patches import PATCH
from featureflow.spec.suggest import did_you_mean
from featureflow.tables.parquet_files import StagedFile
from featureflow.tables.store import open_table
from featureflow.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from featureflow.datasets.encoder import DatasetEncoder
    from featureflow.datasets.patch_record import StoredPatches
    from featureflow.plan.patches import PatchField


@dataclass(frozen=True, repr=False)
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
            In this order; all if omitted, but for the values of patches: name those.
        encoded
            With ``encode:``, features as encoded for a model; False for their raw values.

        Raises
        ------
        TableError
            If there is no such split or column.
        CorruptionError
            If stored bytes are not those that were written.
        """
        names = self.stored_names(encoded=encoded)
        wanted = list(names if columns is None else columns)
        cut = {} if self.patches is None else {field.name: field for field in self.patches.fields}
        for name in wanted:
            if name not in names and name not in cut:
                raise TableError(f"{self}: no column {name!r}. {did_you_mean(name, [*names, *cut])}")
        if any(name in cut for name in wanted):
            return self._with_patches(split, wanted, [cut[name] for name in wanted if name in cut])
        read = [names[name] for name in wanted]
        self._check_split(split)
        role = self.roles.split
        extra = [role] if split is not None and role is not None and role not in read else []
        parts = []
        for part in self.table.scan_files(self.files).tables([*read, *extra]):
            if split is not None and role is not None:
                part = part.filter(pc.equal(part.column(role), split).combine_chunks())  # noqa: PLW2901
            parts.append(part.select(read).rename_columns(wanted))
        if parts:
            return pa.concat_tables(parts)
        fields = [pa.field(name, self.schema.field(names[name]).type) for name in wanted]
        return pa.schema(fields).empty_table()

    def _with_patches(self, split: str | None, wanted: list[str], fields: list[PatchField]) -> pa.Table:
        """Rows with values of their patches, which are read from the grid's version."""
        from featureflow.library.shards.columns import arrow_column

        cut = {field.name for field in fields}
        own = list(dict.fromkeys([*(name for name in wanted if name not in cut), PATCH]))
        rows = self.to_arrow(split, own)
        if self.patches is not None:
            numbers = rows.column(PATCH).to_numpy()
            for field, values in self.patches.take(numbers, fields):
                rows = rows.append_column(field.name, arrow_column(values, field.type))
        return rows.select(wanted)

    @cached_property
    def patches(self) -> StoredPatches | None:
        """What its rows hold, if they are patches of a grid: values that stay in the grid's version."""
        given = self.record["dataset"].get("patches")
        if given is None:
            return None
        from featureflow.datasets.patch_record import open_patches

        store = self.table.url.rstrip("/").rpartition("/")[0].rpartition("/")[0]
        return open_patches(json.loads(given), store, self.name)

    @property
    def files(self) -> tuple[StagedFile, ...]:
        """Files of the version, in the order of their rows."""
        return tuple(sorted(self.table.state.files, key=lambda staged: staged.bucket))

    def stored_names(self, *, encoded: bool = True) -> dict[str, str]:
        """Column as it is called outside, to the stored one; see `to_arrow`."""
        raw = [name for name in self.schema.names if not name.endswith(SUFFIX)]
        given = self.record["dataset"]["encoder"]
        if given is None or not encoded:
            return {name: name for name in raw}
        # not `self.encoder`: importing scikit-learn takes longer than finding that there is nothing to export
        encoder, kept = json.loads(given), set(self.roles.features)
        made = Fitted.from_json(encoder["fitted"]).sources
        own = {*self.roles.keys, self.roles.time}
        names = {
            name: [(name, name)] * (name in own or name not in made)
            + [(one, f"{one}{SUFFIX}") for one in made.get(name, ())]
            for name in raw
        }
        features = set(encoder["inputs"])
        return {
            one: stored
            for name, found in names.items()
            for one, stored in found
            if one in kept or name not in features or one in own
        }

    @cached_property
    def loaded(self) -> Shards:
        """The rows in memory, with the loaders of exported shards; read once.

        Raises
        ------
        TableError
            If they would take more than half of this machine's memory: export them.
        """
        roles = self.roles
        wanted = [*roles.keys, *([roles.time] if roles.time else []), *roles.features, *roles.labels]
        wanted += [name for name in (roles.split, roles.fold, roles.weight) if name]
        stored, cut = self.stored_names(), () if self.patches is None else self.patches.fields
        width = sum(field.bytes for field in cut)
        width += sum(row_bytes(self.schema.field(stored[name]).type) for name in wanted if name in stored)
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        if self.rows * width > limit:
            raise TableError(
                f"{self}: its rows take {self.rows * width / 1e9:.1f} GB, more than half of the memory. Export "
                f"shards and load those: `featureflow export {self.name}`, then ff.load_shards(…)."
            )
        rows = self.to_arrow(columns=wanted)
        if roles.labels and not cut:  # a horizon that is not over teaches nothing
            known = [rows.column(name).is_valid() for name in roles.labels]
            rows = rows.filter(reduce(pc.or_, known))
        splits = [name for name in self.splits if name != EMBARGOED]
        return memory_shards(rows, roles, name=str(self), splits=splits or None)

    def torch(self, batch_size: int = 1024, split: str | None = None, **options: Any) -> Any:
        """Give batches as dicts of tensors, from memory: see `featureflow.loaders.shards.Shards.torch`.

        Rows whose labels are all null, and those that down-sampling left out, are not among them.
        """
        return self.loaded.torch(batch_size, split, **options)

    def numpy(self, batch_size: int = 1024, split: str | None = None, **options: Any) -> Any:
        """Give batches as dicts of arrays, from memory: see `featureflow.loaders.shards.Shards.numpy`."""
        return self.loaded.numpy(batch_size, split, **options)

    @cached_property
    def encoder(self) -> DatasetEncoder:
        """The fitted encoders as a scikit-learn transformer, from raw features to those that a model gets.

        Raises
        ------
        TableError
            If the dataset has no ``encode:``.
        """
        from featureflow.datasets.encoder import DatasetEncoder

        given = self.record["dataset"]["encoder"]
        if given is None:
            raise TableError(f"{self}: has no `encode:` in its spec, so there is nothing to encode with.")
        encoder: DatasetEncoder = DatasetEncoder.from_json(json.loads(given))
        return encoder

    @property
    def selection(self) -> pd.DataFrame:
        """What ``select:`` found about each feature, and why it was kept or dropped.

        Raises
        ------
        TableError
            If the dataset has no ``select:``.
        """
        import pandas as pd

        given = self.record["dataset"]["selection"]
        if given is None:
            raise TableError(f"{self}: has no `select:` in its spec.")
        return pd.DataFrame(json.loads(given)["features"])

    def _check_split(self, split: str | None) -> None:
        if split is None:
            return
        if not isinstance(split, str):
            raise TableError(
                f"{self}: the first argument names a split; name columns with columns={split!r}."
            )
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

    def _repr_html_(self) -> str:
        """Splits with their labels, columns, warnings."""
        from featureflow.datasets.html import dataset_html

        return dataset_html(self)


def open_dataset(store_url: str, name: str, which: str) -> Dataset:
    """Open a version of a dataset.

    Raises
    ------
    TableError
        If there is no such version.
    """
    return Dataset(open_table(dataset_url(store_url, name), name, which))
