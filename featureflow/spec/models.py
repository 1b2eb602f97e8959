"""The typed spec: one frozen model for each section of the YAML, with the YAML's own names.

A name that Python reserves ends in an underscore here: ``from_``, ``as_``. What is not given has its default, so
that code that reads a spec never asks for presence. Lists of YAML are tuples.

After :func:`featureflow.spec.load.load_project` these also hold: every ``source`` and ``from`` names something that
exists, tables have no cycles, ``Lookup.keys`` is never empty, ``Source.format`` is the real format, and a feature of
a source without time has ``partition: none``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from featureflow.core.durations import Duration
from featureflow.spec.checks import Check, CheckEntry, OnFail, expand
from featureflow.spec.fields import (
    AsTuple,
    ColumnName,
    ColumnType,
    Delay,
    GivenScalar,
    Number,
    OpField,
    PositiveDuration,
    Reference,
    Scalar,
    SpecModel,
    Sql,
    TableName,
    Text,
    Timestamp,
    TimeZone,
    WindowLength,
)
from featureflow.spec.formats import format_of
from featureflow.spec.ops import Op

__all__ = [
    "AggregateEntry",
    "Availability",
    "Check",
    "CheckEntry",
    "Every",
    "Feature",
    "Lookup",
    "OnFail",
    "Op",
    "Project",
    "Source",
    "SourceOptions",
    "SpecTest",
    "Target",
    "Udf",
    "WindowDefaults",
    "WindowRule",
]

Format = Literal["parquet", "csv", "json", "delta", "arrow", "zarr", "netcdf"]
Closed = Literal["left", "right", "both", "none"]
Partition = Literal["day", "month", "year", "none"]
Columns = Annotated[tuple[ColumnName, ...], AsTuple(single=True, least=1)]
Tags = Annotated[tuple[Text, ...], AsTuple(single=True)]
ZERO = Duration(0, "0s")
#: the word null, which YAML reads as no value where it has no quotes
NullWord = Annotated[
    Literal["error", "null"],
    BeforeValidator(lambda given: "null" if given is None else given),
    WithJsonSchema({"enum": ["error", "null", None]}),
]
#: a few lines of ops, windows and values can ask for millions of columns
LIMIT_COLUMNS = 10_000


class SourceOptions(SpecModel):
    """How the files of a source are read; all but ``version`` are for ``csv``, ``version`` is for ``delta``."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = Field(
        default=",", description="Between two values."
    )
    quote: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        default='"', description="Around a value."
    )
    header: bool = Field(default=True, description="Whether the first row holds the names.")
    null_values: Annotated[tuple[str, ...], AsTuple(single=True)] = Field(
        default=("",), description="Texts that mean null."
    )
    comment: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Start of lines to leave out."
    )
    skip_rows: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Lines before the header to leave out."
    )
    encoding: Literal["utf8", "utf8-lossy"] = Field(default="utf8", description="Encoding of the text.")
    version: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Delta version; the latest if omitted."
    )


class Udf(SpecModel):
    """A column made by a Python function; needs ``allow_python: true``.

    The function gets one Polars Series for each of ``inputs``, then ``params`` by keyword, and returns a Series
    of the same length and of ``type``. It must be a pure function, row by row.
    """

    function: Text = Field(
        description="`module:function`, or a name of the entry point group `featureflow.udf`."
    )
    inputs: Columns = Field(description="Columns that the function gets, in order.")
    type: ColumnType = Field(description="Type of the result.")
    params: dict[str, Scalar] = Field(default_factory=dict, description="Keyword arguments.")
    version: Text | None = Field(
        default=None, description="Change it to rebuild when the code of the function changed."
    )


class Source(SpecModel):
    """Raw data and how it becomes clean rows: cast, filter, derive, deduplicate, fill, clip, mask, check."""

    description: str | None = None
    owner: str | None = None
    tags: Tags = ()
    path: Annotated[tuple[Text, ...], AsTuple(single=True, least=1)] = Field(
        description="Files, globs or folders, local or of any fsspec URL; `key=value` folders become columns."
    )
    format: Format = Field(description="From the suffix of the path when omitted.")
    options: SourceOptions = SourceOptions()
    time: ColumnName | None = Field(default=None, description="Event time; windows and look-ups need it.")
    created: ColumnName | None = Field(
        default=None, description="When the row became known (knowledge time)."
    )
    sequence: ColumnName | None = Field(default=None, description="Breaks ties of equal time.")
    timezone: TimeZone = Field(default="UTC", description="Zone of a naive time column.")
    columns: dict[ColumnName, ColumnType] = Field(
        default_factory=dict, description="Cast on read; a value that does not fit is an error."
    )
    missing_columns: NullWord = Field(
        default="error", description="A file without a column that others have: refuse it, or read null."
    )
    extra_columns: Literal["error", "ignore"] = Field(
        default="error",
        description="A file with a column that others do not have: refuse it, or leave the column out.",
    )
    where: Sql | None = Field(default=None, description="SQL; rows for which it is not true are left out.")
    derive: dict[ColumnName, Sql] = Field(default_factory=dict, description="New columns, in order.")
    udf: dict[ColumnName, Udf] = Field(
        default_factory=dict, description="Columns made by Python, after `derive`."
    )
    deduplicate: Annotated[tuple[ColumnName, ...], AsTuple(single=True)] = Field(
        default=(), description="One row per value of these: the one first known (created, sequence, time)."
    )
    fill: dict[ColumnName, GivenScalar] = Field(
        default_factory=dict, description="Values instead of missing ones."
    )
    clip: dict[ColumnName, Annotated[tuple[Number | None, Number | None], AsTuple()]] = Field(
        default_factory=dict, description="[least, greatest]; either may be null."
    )
    mask: dict[ColumnName, Literal["sha256", "drop"]] = Field(
        default_factory=dict, description="Hash (salted by ${FEATUREFLOW_SALT}), or leave the column out."
    )
    checks: Annotated[tuple[CheckEntry, ...], AsTuple()] = ()

    @model_validator(mode="before")
    @classmethod
    def _format_from_suffix(cls, given: Any) -> Any:
        if isinstance(given, dict) and "format" not in given:
            found = format_of(given.get("path"))
            return given if found is None else {**given, "format": found}
        return given

    @property
    def each_check(self) -> tuple[Check, ...]:
        """The checks one by one."""
        return expand(self.checks)


class Every(SpecModel):
    """A time grid: ticks ``from <= t < to`` every so often, from the epoch in ``timezone``."""

    every: PositiveDuration
    from_: Timestamp | None = Field(
        default=None, alias="from", description="First tick at or after this; inclusive."
    )
    to: Timestamp | None = Field(default=None, description="Last tick before this; exclusive.")
    timezone: TimeZone = Field(
        default="UTC", description="Zone of the grid, and of `from` and `to` if they name none."
    )

    def _utc_microseconds(self, at: datetime | None) -> int | None:
        if at is None:
            return None
        aware = at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(self.timezone))
        since = aware - datetime.fromtimestamp(0, tz=ZoneInfo("UTC"))
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    @property
    def start_us(self) -> int | None:
        """``from`` in microseconds since the epoch, UTC."""
        return self._utc_microseconds(self.from_)

    @property
    def end_us(self) -> int | None:
        """``to`` in microseconds since the epoch, UTC."""
        return self._utc_microseconds(self.to)


class WindowRule(SpecModel):
    """Where windows of one entry begin and end (section 3), all values decided."""

    closed: Closed = "left"
    delay: Delay = ZERO
    tail_hop: PositiveDuration | None = None


class WindowDefaults(WindowRule):
    """Defaults for all entries of a feature table."""


class AggregateEntry(SpecModel):
    """Aggregations of one column: every op over every window (and every value of ``by``)."""

    column: ColumnName | None = Field(
        default=None, description="Input; may be omitted for count and time gaps."
    )
    ops: Annotated[tuple[OpField, ...], AsTuple(single=True, least=1)]
    windows: Annotated[tuple[WindowLength, ...], AsTuple(single=True, least=1)]
    where: Sql | None = Field(default=None, description="Only events for which this is true.")
    as_: Text | None = Field(
        default=None, alias="as", description="Name, with {column} {op} {window} {value}."
    )
    by: ColumnName | None = Field(
        default=None, description="One output column for each of `values` of this column."
    )
    values: Annotated[tuple[GivenScalar, ...], AsTuple(least=1)] | None = None
    fill_empty: Scalar = Field(default=None, description="Result when nothing is in the window.")
    closed: Closed | None = None
    delay: Delay | None = None
    tail_hop: PositiveDuration | None = None

    @property
    def fills_empty(self) -> bool:
        """Whether ``fill_empty`` is written; ``fill_empty: null`` is."""
        return "fill_empty" in self.model_fields_set

    def window_rule(self, defaults: WindowRule) -> WindowRule:
        """The entry's own rule where it has one, otherwise the table's."""
        return WindowRule(
            closed=self.closed or defaults.closed,
            delay=self.delay if self.delay is not None else defaults.delay,
            tail_hop=self.tail_hop if self.tail_hop is not None else defaults.tail_hop,
        )


class Availability(SpecModel):
    """A looked-up row stands for an interval and is known from the interval's end plus ``delay``."""

    interval: Delay = ZERO
    delay: Delay = ZERO


class Lookup(SpecModel):
    """Columns of the latest row of another source or feature table at or before the row's time."""

    from_: Reference = Field(alias="from", description="A source or a feature table.")
    keys: dict[ColumnName, ColumnName] = Field(
        default_factory=dict,
        description="This table's column to the other's; a list if they are named alike; "
        "omitted for a feature table: its own keys.",
    )
    columns: Columns
    ttl: PositiveDuration | None = Field(default=None, description="Only rows with e >= t - ttl.")
    allow_exact: bool = Field(default=True, description="Whether a row of exactly this time counts.")
    on_tie: Literal["latest", "error"] = "latest"
    knowledge: Literal["created", "event_time"] = Field(
        default="created", description="Whether only rows that were known (created <= t) count."
    )
    nulls: Literal["row", "skip"] = Field(
        default="row", description="Whole rows, or per column the latest non-null value."
    )
    availability: Availability | None = None
    prefix: str = Field(default="", description="In front of the columns' names.")

    @model_validator(mode="before")
    @classmethod
    def _keys_of_one_name(cls, given: Any) -> Any:
        if isinstance(given, dict):
            keys = given.get("keys")
            if isinstance(keys, str):
                keys = [keys]
            if isinstance(keys, list) and all(isinstance(key, str) for key in keys):
                return {**given, "keys": {key: key for key in keys}}
        return given

    def output(self, column: str) -> str:
        """Name that a column of the other table has here."""
        return f"{self.prefix}{column}"


def _form_of_at(given: Any) -> str | None:
    if isinstance(given, str):
        return "<text>"
    return "<mapping>" if isinstance(given, dict | Every) else None


At = Annotated[
    Annotated[Literal["events"], Tag("<text>")] | Annotated[Every, Tag("<mapping>")],
    Discriminator(
        _form_of_at,
        custom_error_type="at_form",
        custom_error_message="must be events, or a grid such as {every: 1d}",
    ),
]


class Feature(SpecModel):
    """A feature table: for rows of a source, or a time grid, what was known at each row's time."""

    description: str | None = None
    owner: str | None = None
    tags: Tags = ()
    source: Reference = Field(description="A source or a feature table.")
    keys: Columns = Field(description="Columns that say whose features these are.")
    at: At = "events"
    aggregate: Annotated[tuple[AggregateEntry, ...], AsTuple()] = ()
    window: WindowDefaults = WindowDefaults()
    fill_empty: Scalar = Field(default=None, description="Default of the entries' `fill_empty`.")
    lookup: Annotated[tuple[Lookup, ...], AsTuple()] = ()
    derive: dict[ColumnName, Sql] = Field(default_factory=dict, description="New columns, in order.")
    udf: dict[ColumnName, Udf] = Field(
        default_factory=dict, description="Columns made by Python, after `derive`."
    )
    keep: Annotated[tuple[ColumnName, ...], AsTuple(single=True)] = ()
    partition: Partition = "day"
    checks: Annotated[tuple[CheckEntry, ...], AsTuple()] = ()

    @model_validator(mode="after")
    def _few_columns(self) -> Feature:
        count = sum(len(e.ops) * len(e.windows) * len(e.values or (None,)) for e in self.aggregate)
        if count > LIMIT_COLUMNS:
            raise ValueError(f"makes {count} columns; at most {LIMIT_COLUMNS} are accepted. Split the table.")
        return self

    @property
    def every(self) -> Every | None:
        """The time grid; None for ``at: events``."""
        return self.at if isinstance(self.at, Every) else None

    @property
    def each_check(self) -> tuple[Check, ...]:
        """The checks one by one."""
        return expand(self.checks)

    def fill_of(self, entry: AggregateEntry) -> tuple[bool, Any]:
        """Whether empty windows of an entry are filled by the author, and with what."""
        if entry.fills_empty:
            return True, entry.fill_empty
        return "fill_empty" in self.model_fields_set, self.fill_empty


class SpecTest(SpecModel):
    """An example that the author promises: rows given to sources, rows expected of feature tables."""

    name: Text
    given: dict[str, Annotated[tuple[dict[str, Any], ...], AsTuple()]] = Field(
        description="Source to its rows."
    )
    expect: dict[str, Annotated[tuple[dict[str, Any], ...], AsTuple()]] = Field(
        description="Feature table to rows that it must have; columns that are left out may have any value."
    )


class Target(SpecModel):
    """Where one `--target` runs; what is omitted comes from the project or the command line."""

    store: Text | None = None
    scheduler: Text | None = Field(
        default=None, description="local, threads, or the URL of a Dask scheduler."
    )
    workers: Annotated[int, Field(ge=1)] | None = None
    memory: Text | None = Field(default=None, description="For each worker, such as 8GB.")
    scratch: Text | None = Field(default=None, description="Folder on a fast local disk.")


class Project(SpecModel):
    """A whole spec."""

    featureflow: Literal[1] = Field(default=1, description="Version of this language.")
    project: Text = Field(default="default", description="Name of the project.")
    description: str | None = None
    store: Text = Field(default="./store", description="Folder or any fsspec URL where tables are kept.")
    allow_python: bool = Field(default=False, description="Whether `udf:` may run Python functions.")
    targets: dict[TableName, Target] = Field(default_factory=dict)
    sources: dict[TableName, Source] = Field(default_factory=dict)
    features: dict[TableName, Feature] = Field(default_factory=dict)
    datasets: dict[TableName, Any] = Field(
        default_factory=dict, description="This version checks only their names and stores them as written."
    )
    tests: Annotated[tuple[SpecTest, ...], AsTuple()] = ()
