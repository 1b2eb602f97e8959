"""The typed spec of `datasets:`: a spine, the features at its rows, labels, splits, encoders and shards.

After :func:`featureflow.spec.load.load_project` these also hold: ``Spine.time`` is the source's time if it was
omitted; ``UsedTable.keys`` maps a spine's column to every key of the table, in the table's order; the ``keys`` of a
look-up and of a label with a source are never empty; ``label`` of a target encoder is the name of a label, its
``label_delay`` a duration; ``Select.label`` names a label where one is needed; ``Split.parts`` is never empty for
``by: column``.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from featureflow.core.durations import Duration
from featureflow.spec.checks import Check, CheckEntry, expand
from featureflow.spec.duration_fields import Delay, PositiveDuration
from featureflow.spec.encode import Encode, EncodeStep
from featureflow.spec.exports import Export, Normalize, ShardFormatName, Shuffle
from featureflow.spec.features import ZERO, Lookup
from featureflow.spec.fields import (
    AsTuple,
    ColumnName,
    KeyMapping,
    Misplaced,
    OpField,
    Reference,
    Scalar,
    Shorthand,
    SpecModel,
    Sql,
)
from featureflow.spec.fields import Share as ShareOfRows
from featureflow.spec.sources import Columns, Sizes, Source, Tags
from featureflow.spec.splits import Before, Part, Rest, Share, Split, Values
from featureflow.spec.suggest import did_you_mean
from featureflow.spec.yaml_text import scalar

__all__ = [
    "Before",
    "Dataset",
    "Encode",
    "EncodeStep",
    "Export",
    "Label",
    "Normalize",
    "Part",
    "PatchLabels",
    "Rest",
    "Sample",
    "Select",
    "ShardFormatName",
    "Share",
    "Shuffle",
    "Spine",
    "Split",
    "UsedTable",
    "Values",
]

#: what a spine of files may say about them; more needs a source
FILE_FIELDS = ("path", "format", "options", "timezone", "missing_columns", "extra_columns")
#: what only a spine of patches has
PATCH_FIELDS = ("patch", "stride", "variables", "labels", "valid")
#: key of a patch: its number in the order of the grid
PATCH_KEY = "patch"


def _labels(given: Any) -> Any:
    if isinstance(given, str):
        source, _, variable = given.partition(".")
        return {"source": source, "variable": variable} if variable else {"source": source}
    return given


class PatchLabels(SpecModel):
    """What to learn of each patch: the same patch of another grid, or one value made of it."""

    source: Reference = Field(description="A source of N-d data or a grid.")
    variable: ColumnName | None = Field(default=None, description="Of the source; its only one if omitted.")
    op: Literal["patch", "center", "majority", "mean", "min", "max", "sum"] = Field(
        default="patch", description="The patch as it is, or one value made of it."
    )
    as_: ColumnName = Field(default="label", alias="as", description="Name of the label.")


class Spine(SpecModel):
    """The rows of a dataset: those of a source, of a feature table, of files named here, or patches of a grid.

    Of patches, ``keys`` is ``("patch",)``, ``stride`` has every dimension of ``patch``, and ``time`` names a dimension.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    source: Reference | None = Field(default=None, description="A source or a feature table.")
    files: Source | None = Field(
        default=None,
        alias="<files>",  # angle brackets: not written, and left out of the paths of mistakes
        description="Files, in place of `source`; written as `path: …`.",
    )
    grid: Reference | None = Field(
        default=None, description="A grid, in place of `source`: rows are its patches."
    )
    patch: Sizes = Field(default_factory=dict, description="Of a grid: dimension to the size of a patch.")
    stride: Sizes = Field(
        default_factory=dict,
        description="Dimension to the step from patch to patch; the patch's size if omitted.",
    )
    variables: Columns | None = Field(default=None, description="Of a grid: variables; all if omitted.")
    labels: Annotated[PatchLabels | None, Shorthand(_labels, {"type": "string", "minLength": 1})] = Field(
        default=None, description="Of a grid: what to learn of each patch, such as `land.zone`."
    )
    valid: ShareOfRows | None = Field(
        default=None, description="Of a grid: least share of values that are not missing, such as 0.9."
    )
    keys: Columns = Field(description="Columns that say whose rows these are; none for patches.")
    time: ColumnName | None = Field(
        default=None,
        description="The time at which features are evaluated; the source's own if omitted. "
        "Of a grid: the dimension of times.",
    )
    where: Sql | None = Field(default=None, description="SQL; only rows for which this is true.")
    columns: Columns | None = Field(default=None, description="Columns to carry along; all if omitted.")

    @model_validator(mode="before")
    @classmethod
    def _files_beside(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if "grid" in given:
            return _of_patches(given)
        for key in PATCH_FIELDS:
            if key in given:
                raise Misplaced((key,), f"{key} is for a spine of patches. Add grid:, or remove it.")
        files = {key: given[key] for key in FILE_FIELDS if key in given}
        if not files:
            return given
        if "path" not in files:
            first = next(iter(files))
            raise Misplaced(
                (first,), f"{first} is for a spine of files. Add path:, or write it at the source."
            )
        if isinstance(given.get("columns"), dict):
            message = "must be a list of columns to carry along. To cast columns, make the files a source."
            raise Misplaced(("columns",), message)
        if isinstance(given.get("time"), str):
            files["time"] = given["time"]
        return {**{key: value for key, value in given.items() if key not in FILE_FIELDS}, "<files>": files}

    @model_serializer(mode="wrap")
    def _beside(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        made: dict[str, Any] = handler(self)
        files = made.pop("<files>", None) or made.pop("files", None) or {}
        return {**made, **{key: value for key, value in files.items() if key in FILE_FIELDS}}


def _of_patches(given: dict[str, Any]) -> dict[str, Any]:
    for key in ("source", *FILE_FIELDS, "keys", "columns", "where"):
        if key in given:
            what = "Write variables:" if key == "columns" else "Remove it, or grid:"
            raise Misplaced(
                (key,), f"{key} is for a spine of rows, and this one has patches of a grid. {what}."
            )
    if "patch" not in given:
        raise Misplaced(
            (), "patches need a size. Add patch:, such as {lat: 64, lon: 64, time: 8}.", at_key=False
        )
    patch, stride = given["patch"], given.get("stride", {})
    if isinstance(patch, dict) and isinstance(stride, dict):
        if not patch:
            raise Misplaced(("patch",), "names no dimension. Write patch: {lat: 64, lon: 64, time: 8}.")
        for dim in stride:
            if dim not in patch:
                raise Misplaced(
                    ("stride", dim), f"patch has no dimension {dim!r}. {did_you_mean(dim, patch)}"
                )
        stride = {**patch, **stride}
    return {**given, "keys": PATCH_KEY, "stride": stride}


def _table(given: Any) -> Any:
    return {"table": given} if isinstance(given, str) else given


class UsedTable(SpecModel):
    """Features of one table, evaluated at the spine's rows."""

    table: Reference = Field(description="A feature table.")
    keys: KeyMapping = Field(
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
    keys: KeyMapping = Field(
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

    @property
    def reach_us(self) -> int:
        """How far after the row's time its value is known: ``gap + horizon``; 0 for a column of the spine."""
        if self.horizon is None:
            return 0
        return (self.gap.microseconds or 0) + (self.horizon.microseconds or 0)

    @property
    def fills_empty(self) -> bool:
        """Whether ``fill_empty`` is written; ``fill_empty: null`` is."""
        return "fill_empty" in self.model_fields_set


def _keep_value(given: Any) -> Any:
    """A value of a column; keys of YAML are texts, and stand for what they would be as values."""
    return scalar(given, plain=True) if isinstance(given, str) else given


def _some(given: Any) -> Any:
    if isinstance(given, dict) and not given:
        raise ValueError("is empty; it needs at least one value and its share, such as {0: 0.25}.")
    return given


KeepValue = Annotated[
    Any,
    PlainValidator(_keep_value),
    PlainSerializer(lambda value: value if isinstance(value, str) else json.dumps(value)),
    WithJsonSchema({"type": "string"}),
]


class Sample(SpecModel):
    """Down-sampling of train rows; the kept ones weigh 1 / share."""

    column: ColumnName = Field(description="Whose values have shares; mostly the label.")
    keep: Annotated[dict[KeepValue, ShareOfRows], BeforeValidator(_some)] = Field(
        description="Value to the share that is kept; other values are kept whole."
    )
    weight: ColumnName = Field(default="sample_weight", description="Column of the weights; 0 is left out.")
    seed: int = 0


Ratio = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Select(SpecModel):
    """Which features are kept, decided on the train split; applied in this order, after encoding."""

    missing: Ratio | None = Field(default=None, description="Drop a feature with a larger share of nulls.")
    variance: NotNegative | None = Field(
        default=None, description="Drop a feature whose variance is not above this."
    )
    correlation: Ratio | None = Field(
        default=None, description="Of two features correlated above this (absolutely), drop the later one."
    )
    mutual_information: NotNegative | None = Field(
        default=None, description="Drop a feature that says less than this about the label, in nats."
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Keep the k features of the largest mutual information with the label."
    )
    label: ColumnName | None = Field(
        default=None, description="Which label, where there are several; for the last two."
    )


class Dataset(SpecModel):
    """A training set: exactly the spine's rows, in order, each with what was known at its time."""

    description: str | None = None
    owner: str | None = None
    tags: Tags = ()
    spine: Spine = Field(description="Whose rows the dataset has.")
    features: Annotated[
        tuple[Annotated[UsedTable, Shorthand(_table, {"type": "string", "minLength": 1})], ...],
        AsTuple(single=True),
    ] = Field(default=(), description="Feature tables, by name or with how they are used.")
    lookup: Annotated[tuple[Lookup, ...], AsTuple()] = Field(
        default=(), description="The latest rows of sources or feature tables at or before the row's time."
    )
    derive: dict[ColumnName, Sql] = Field(default_factory=dict, description="New columns, in order.")
    label: Annotated[tuple[Label, ...], AsTuple(single=True)] = Field(
        default=(), description="What to learn; one or several."
    )
    split: Split | None = Field(default=None, description="Train, valid, test; folds.")
    sample: Sample | None = Field(default=None, description="Down-sampling of train rows, by weights.")
    encode: Annotated[tuple[Encode, ...], AsTuple(single=True)] = Field(
        default=(), description="Encoders of features, fitted on the train split."
    )
    select: Select | None = Field(default=None, description="Which features are kept, by train rows.")
    export: Export | None = Field(default=None, description="Training-ready shards.")
    checks: Annotated[tuple[CheckEntry, ...], AsTuple()] = ()

    @property
    def each_check(self) -> tuple[Check, ...]:
        """The checks one by one."""
        return expand(self.checks)

    @property
    def horizon(self) -> Duration:
        """The longest ``gap + horizon`` of the labels; 0 if none looks forward."""
        reach = max((label.reach_us for label in self.label), default=0)
        return Duration(reach, f"{reach}us")
