"""What an export is given, and what its tasks are told: rows, columns, splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.contracts.shard_format import ShardOptions, ShardPlace
from featureflow.core.roles import Roles
from featureflow.datasets.patch_record import StoredPatches

#: The split whose statistics normalise all of them; a dataset without splits has only `WHOLE`.
TRAIN = "train"
WHOLE = "all"


@dataclass(frozen=True)
class RowsFile:
    """A Parquet file of a dataset version.

    Parameters
    ----------
    url
        Where it is; its content never changes.
    rows
        How many it has.
    first_row
        Position of its first row in the spine's order.
    """

    url: str
    rows: int
    first_row: int


@dataclass(frozen=True)
class ExportInput:
    """A dataset version, as an export needs it.

    Parameters
    ----------
    dataset, version, definition_hash
        What it is.
    files
        All its rows; in any order.
    schema
        Of the files.
    roles
        Of the columns, by exported or stored name.
    names
        Stored column to the name it has in the shards, in the order that it has there. Other columns are left out.
    splits
        Names of the splits in the spec's order, so that one without rows is known, too; those found if empty.
    patches
        Of a dataset of patches: what they hold. ``schema`` and ``names`` have their columns, the files do not.
    """

    dataset: str
    version: int
    definition_hash: str
    files: tuple[RowsFile, ...]
    schema: pa.Schema
    roles: Roles
    names: dict[str, str]
    splits: tuple[str, ...] = ()
    patches: StoredPatches | None = None


@dataclass(frozen=True)
class Column:
    """One column on its way into the shards.

    Parameters
    ----------
    name, stored
        In the shards, and in the dataset.
    kind
        ``number``: a NumPy array of one shape (times, dates and booleans, too); ``text``; ``list``: of any length.
    spilled, written
        Arrow types between the passes and in the shards; they differ where values are normalised in between.
    label
        Whether its values are counted by split.
    fill
        Value in place of nulls, if ``filled``.
    nan
        Whether nulls become NaN.
    indicator
        Name of the column that says where it was null; None for none.
    measured
        Whether mean and deviation mean something.
    scaled
        Whether it is to be normalised.
    channel
        Whether it is one of the arrays of one shape that ``layout: matrix`` stacks.
    """

    name: str
    stored: str
    role: str
    kind: Literal["number", "text", "list"]
    spilled: pa.DataType
    written: pa.DataType
    filled: bool = False
    fill: Any = None
    nan: bool = False
    indicator: str | None = None
    measured: bool = False
    scaled: bool = False
    channel: bool = False

    @property
    def label(self) -> bool:
        """Whether it is what models learn to predict."""
        return self.role == "label"


@dataclass(frozen=True)
class Plan:
    """What all tasks of an export know: how rows are chosen, converted and laid out. Picklable.

    Parameters
    ----------
    columns
        In order.
    split, weight, required
        Stored columns: of the split, of the weights, and the labels of which one at least must be known.
    seed
        Of the shuffle; None for the spine's order.
    matrix
        Names of the columns that become one column ``x``; empty for none.
    schema
        Of the shards.
    scratch, folder
        Where this export's spills and markers are, and where its shards go.
    bake
        Whether shards hold normalised values.
    patches
        Of a dataset of patches: where their values come from.
    in_place
        Names of the columns of patches that are written where they stay, and go through no spill.
    """

    columns: tuple[Column, ...]
    split: str | None
    weight: str | None
    required: tuple[str, ...]
    seed: int | None
    matrix: tuple[str, ...]
    schema: pa.Schema
    format: str
    options: ShardOptions
    scratch: str
    folder: str
    bake: bool = False
    patches: StoredPatches | None = None
    in_place: tuple[str, ...] = ()

    @property
    def keyed(self) -> bool:
        """Whether the rows of a shard are put in order by their keys; they come in order otherwise."""
        return self.seed is not None or self.patches is not None

    @property
    def spill_schema(self) -> pa.Schema:
        """Columns of a spill: the order's key if rows are put in order, then each column and its indicator.

        Those that are written in place are not in it.
        """
        fields = [] if not self.keyed else [pa.field("__key", pa.uint64())]
        for column in self.columns:
            if column.name not in self.in_place:
                fields.append(pa.field(column.name, column.spilled))
            if column.indicator:
                fields.append(pa.field(column.indicator, pa.bool_()))
        return pa.schema(fields)


@dataclass(frozen=True)
class SplitLayout:
    """How the rows of a split fall into shards.

    Parameters
    ----------
    name, rows
        The split.
    starts
        Rank of the first row of each shard within the split; none if there are no rows.
    first_shard
        Its first shard's number among those of all splits.
    bounds
        Key of the first row of each shard but the first, ascending.
    """

    name: str
    rows: int
    starts: tuple[int, ...]
    first_shard: int
    bounds: NDArray[np.uint64] = field(compare=False)

    @property
    def count(self) -> int:
        """Number of shards."""
        return len(self.starts)

    def places(self) -> list[tuple[ShardPlace, int]]:
        """Each shard, and how many rows it has."""
        ends = (*self.starts, self.rows)[1:]
        return [
            (
                ShardPlace(
                    f"{self.name}/part-{number:05d}-of-{self.count:05d}", number, self.count, start, self.rows
                ),
                end - start,
            )
            for number, (start, end) in enumerate(zip(self.starts, ends, strict=True))
        ]

    def shard_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Number of each row's shard among those of all splits."""
        return np.searchsorted(self.bounds, keys, side="right") + self.first_shard
