"""The typed spec of `features:`: windows, look-ups and derived columns of a feature table."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Discriminator, Field, Tag, model_validator

from featureflow.core.durations import Duration
from featureflow.spec.checks import Check, CheckEntry, expand
from featureflow.spec.duration_fields import Delay, PositiveDuration, WindowLength
from featureflow.spec.fields import (
    AsTuple,
    ColumnName,
    GivenScalar,
    KeyMapping,
    Misplaced,
    OpField,
    Reference,
    Scalar,
    SpecModel,
    Sql,
    Text,
    Timestamp,
    TimeZone,
)
from featureflow.spec.sources import Columns, Tags, Udf

Closed = Literal["left", "right", "both", "none"]
Partition = Literal["day", "month", "year", "none"]
ZERO = Duration(0, "0s")
#: a few lines of ops, windows and values can ask for millions of columns
LIMIT_COLUMNS = 10_000


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
    """Columns of the latest row of another source or feature table at or before the row's time.

    Of a grid: values at the row's place (``at``), at the latest time that was known at the row's time. Then ``keys``
    is empty, and no ``columns`` stand for all variables.
    """

    from_: Reference = Field(alias="from", description="A source or a feature table; with `at`, a grid.")
    keys: KeyMapping = Field(
        default_factory=dict,
        description="This table's column to the other's; a list if they are named alike; "
        "omitted for a feature table: its own keys.",
    )
    columns: Annotated[tuple[ColumnName, ...], AsTuple(single=True)] = Field(
        description="What is taken; of a grid its variables, all if omitted (also written `variables`)."
    )
    at: dict[ColumnName, ColumnName] = Field(
        default_factory=dict, description="Of a grid: its dimension to this table's column that says where."
    )
    method: Literal["nearest", "linear"] = Field(
        default="nearest",
        description="Of a grid: the nearest point, or linear between points; never in time.",
    )
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
    def _of_a_grid(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "at" not in given:
            return given
        if "variables" in given and "columns" in given:
            raise Misplaced(("variables",), "columns and variables are the same. Remove one.")
        rest = {key: value for key, value in given.items() if key != "variables"}
        return {"columns": given.get("variables", ()), **rest}

    @model_validator(mode="after")
    def _takes_something(self) -> Lookup:
        if not self.at and not self.columns:
            raise Misplaced(("columns",), "is empty; it needs at least one.", at_key=False)
        return self

    @property
    def takes_all(self) -> bool:
        """Whether it takes every variable of a grid, whatever these are."""
        return bool(self.at) and not self.columns

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
