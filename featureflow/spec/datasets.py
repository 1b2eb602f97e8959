"""The typed spec of `datasets:`: a spine, the features at its rows, labels, splits, encoders and shards."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from featureflow.core.durations import Duration
from featureflow.spec.checks import Check, CheckEntry, expand
from featureflow.spec.features import ZERO, Lookup
from featureflow.spec.fields import (
    AsTuple,
    ColumnName,
    Delay,
    OpField,
    PositiveDuration,
    Reference,
    Scalar,
    SpecModel,
    Sql,
    Text,
)
from featureflow.spec.sources import Columns, Source, Tags

ShardFormatName = Literal["arrow", "parquet", "webdataset", "mds", "tfrecord", "npy", "zarr", "litdata"]


class Spine(SpecModel):
    """The rows of a dataset: those of a source, of a feature table, or of files named here."""

    source: Reference | None = Field(default=None, description="A source or a feature table.")
    files: Source | None = Field(
        default=None, description="Files, in place of `source`; written as `path: …`."
    )
    keys: Columns = Field(description="Columns that say whose rows these are.")
    time: ColumnName | None = Field(
        default=None, description="The time at which features are evaluated; the source's own if omitted."
    )
    where: Sql | None = Field(default=None, description="SQL; only rows for which this is true.")
    columns: Columns | None = Field(default=None, description="Columns to carry along; all if omitted.")


class UsedTable(SpecModel):
    """Features of one table, evaluated at the spine's rows."""

    table: Reference = Field(description="A feature table.")
    keys: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="The spine's column to the table's key; omitted: columns named alike.",
    )
    columns: Columns | None = Field(default=None, description="Which features; all if omitted.")
    prefix: str = Field(default="", description="In front of the columns' names.")
    ttl: PositiveDuration | None = Field(
        default=None, description="Of a table with `at: {every: …}`: the tick may not be older than this."
    )


class Label(SpecModel):
    """What to learn: a column of the spine, or an aggregation of what happens after the row's time.

    The window is ``t + gap <= e < t + gap + horizon``; where it is not over at the end of the source's data: null.
    """

    column: ColumnName | None = Field(default=None, description="Of the spine; or the aggregation's input.")
    source: Reference | None = Field(default=None, description="A source or feature table of later events.")
    keys: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="The spine's column to the source's; a list if they are named alike.",
    )
    op: OpField | None = None
    horizon: PositiveDuration | None = None
    gap: Delay = ZERO
    where: Sql | None = Field(default=None, description="Only events for which this is true.")
    fill_empty: Scalar = Field(default=None, description="Value when nothing happened within the horizon.")
    as_: ColumnName | None = Field(default=None, alias="as", description="Name; `label` if omitted.")
    derive: Sql | None = Field(default=None, description="SQL over the label's name: its final value.")

    @property
    def name(self) -> str:
        """Name of the label's column."""
        return self.as_ or (self.column if self.source is None and self.column else "label")


class Split(SpecModel):
    """How rows fall into splits; each row into exactly one, or it is embargoed."""

    by: Literal["time", "keys", "group", "random", "column"]
    parts: dict[str, Any] = Field(
        description="Split to its share (0.8), its end (`< 2026-03-01`, by time) or `rest`; in order. "
        "Written beside `by:`, as `train: 0.8`."
    )
    column: ColumnName | None = Field(
        default=None, description="For by: group, the group; for by: column, the split."
    )
    embargo: Delay = Field(
        default=ZERO, description="By time: rows this close before a threshold are left out."
    )
    stratify: ColumnName | None = Field(
        default=None, description="Equal shares of each value of this column."
    )
    folds: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        default=None, description="Number of cross-validation folds; makes the column `fold`."
    )
    seed: int = 0


class Sample(SpecModel):
    """Down-sampling of train rows; the kept ones weigh 1 / share."""

    column: ColumnName = Field(description="Whose values have shares; mostly the label.")
    keep: dict[Any, float] = Field(
        description="Value to the share that is kept; other values are kept whole."
    )
    weight: ColumnName = Field(default="sample_weight", description="Column of the weights; 0 is left out.")
    seed: int = 0


class EncodeStep(SpecModel):
    """One encoder with all its parameters decided."""

    name: str
    params: tuple[tuple[str, Any], ...] = ()


class Encode(SpecModel):
    """Encoders for some columns, one after the other, fitted on the train split."""

    columns: Columns
    with_: tuple[EncodeStep, ...] = Field(alias="with")


class Select(SpecModel):
    """Which features are kept, decided on the train split; applied in this order, after encoding."""

    missing: float | None = Field(default=None, description="Drop a feature with a larger share of nulls.")
    variance: float | None = Field(
        default=None, description="Drop a feature whose variance is not above this."
    )
    correlation: float | None = Field(
        default=None, description="Of two features correlated above this (absolutely), drop the later one."
    )
    mutual_information: float | None = Field(
        default=None, description="Drop a feature that says less than this about the label, in nats."
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Keep the k features of the largest mutual information with the label."
    )


class Shuffle(SpecModel):
    """A global shuffle, the same for any partitioning."""

    seed: int = 0


class Normalize(SpecModel):
    """Scaling of the shards' features by train statistics."""

    method: Literal["standard", "minmax"] = "standard"
    apply: Literal["loader", "bake"] = Field(
        default="loader", description="By whoever loads (raw values stay in the shards), or in the shards."
    )
    columns: Columns | None = Field(default=None, description="Which features; all floating ones if omitted.")


class Export(SpecModel):
    """Training-ready shards of a dataset."""

    format: ShardFormatName = "arrow"
    path: Text | None = Field(
        default=None,
        description="Folder or URL; shards go to <path>/<dataset>/<version>. The store's exports/ if omitted.",
    )
    shard_size: int = Field(
        default=64_000_000, description="Bytes of a shard before compression, such as 256MB."
    )
    rows_per_record: Annotated[int, Field(ge=1, le=65_536)] = 1
    shuffle: Shuffle | None = Field(
        default=Shuffle(), description="`{seed: 7}`, or false for the spine's order."
    )
    compression: Literal["none", "zstd", "lz4", "gzip"] = "none"
    layout: Literal["columns", "matrix"] = Field(
        default="columns",
        description="matrix: all numeric features in one column `x`, which loads 3 times faster.",
    )
    float_: Literal["float32", "float64", "keep"] = Field(default="float32", alias="float")
    nulls: Literal["error", "nan"] = Field(default="error", description="nan: for floating columns.")
    fill: dict[ColumnName, Scalar] = Field(default_factory=dict, description="Values instead of nulls.")
    indicator: Annotated[tuple[ColumnName, ...], AsTuple(single=True)] = Field(
        default=(), description="Columns that get a second one, <column>_missing."
    )
    normalize: Normalize | None = None
    keys: bool = Field(default=True, description="Whether keys and time are in the shards.")


class Dataset(SpecModel):
    """A training set: exactly the spine's rows, in order, each with what was known at its time."""

    description: str | None = None
    owner: str | None = None
    tags: Tags = ()
    spine: Spine
    features: Annotated[tuple[UsedTable, ...], AsTuple(single=True)] = ()
    lookup: Annotated[tuple[Lookup, ...], AsTuple()] = ()
    derive: dict[ColumnName, Sql] = Field(default_factory=dict, description="New columns, in order.")
    label: Annotated[tuple[Label, ...], AsTuple(single=True)] = ()
    split: Split | None = None
    sample: Sample | None = None
    encode: Annotated[tuple[Encode, ...], AsTuple()] = ()
    select: Select | None = None
    export: Export | None = None
    checks: Annotated[tuple[CheckEntry, ...], AsTuple()] = ()

    @property
    def each_check(self) -> tuple[Check, ...]:
        """The checks one by one."""
        return expand(self.checks)

    @property
    def horizon(self) -> Duration:
        """The longest ``gap + horizon`` of the labels; 0 if none looks forward."""
        reach = max(
            (label.gap.microseconds + label.horizon.microseconds for label in self.label if label.horizon),
            default=0,
        )
        return Duration(reach, f"{reach}us")
