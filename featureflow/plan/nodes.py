"""What a compiled table is: typed, frozen values that name everything a task needs to know.

Nothing in here knows files. A node can be pickled to a worker, and written into a definition hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa

from featureflow.plan.slices import Partition

if TYPE_CHECKING:
    from featureflow.plan.grid_lookups import GridLookup

Closed = Literal["left", "right", "both", "none"]


@dataclass(frozen=True, slots=True)
class Input:
    """Rows that a table reads: a raw source, or the rows of another feature table.

    Parameters
    ----------
    kind, name
        ``("source", "transactions")`` or ``("table", "card_spend")``.
    columns
        Columns after the source's own steps, in order, with their types.
    time, created, sequence
        Names of the columns with that role; None if there is none.
    keys
        Key columns (of a feature table; empty for a raw source).
    """

    kind: Literal["source", "table", "grid"]
    name: str
    columns: dict[str, pl.DataType]
    time: str | None
    created: str | None = None
    sequence: str | None = None
    keys: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """Columns that decide between rows of equal time, the strongest first."""
        return tuple(column for column in (self.sequence, self.created) if column)


@dataclass(frozen=True, slots=True)
class Window:
    """A window of section 3; equal windows are computed once and shared by all aggregations."""

    length_us: int | None
    closed: Closed
    delay_us: int
    tail_hop_us: int | None
    text: str

    @property
    def reach_us(self) -> int | None:
        """How far before a row's time its window can begin; None for ``lifetime``."""
        if self.length_us is None:
            return None
        return self.length_us + self.delay_us + (self.tail_hop_us or 0)


@dataclass(frozen=True, slots=True)
class Series:
    """The events of one aggregate entry: a column, filtered by ``where`` and by a value of ``by``."""

    column: str | None
    where: str | None = None
    by: str | None = None
    by_value: Any = None


@dataclass(frozen=True, slots=True)
class Feature:
    """One output column of an aggregate."""

    name: str
    series: Series
    op: str
    params: tuple[tuple[str, Any], ...]
    window: Window
    type: pa.DataType
    other: str | None = None
    fills_empty: bool = False
    fill_empty: Any = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """An as-of look-up of section 5: the latest known row of ``right`` at or before the row's time."""

    right: Input
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    ttl_us: int | None
    allow_exact: bool
    on_tie: Literal["latest", "error"]
    knowledge: Literal["created", "event_time"]
    skip_nulls: bool
    interval_us: int | None
    availability_delay_us: int
    place: str

    @property
    def reach_us(self) -> int | None:
        """How far before a row's time the matched row can be; None without a ttl."""
        return self.ttl_us

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns of the right side that a match reads."""
        roles = (self.right.time, self.right.sequence, self.right.created)
        found = [*self.right_keys, *(role for role in roles if role), *(column for column, _ in self.columns)]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows at every tick (``at: {every: …}``) instead of at every event; ``start <= tick < end``."""

    every_us: int
    timezone: str
    start_us: int | None
    end_us: int | None


@dataclass(frozen=True, slots=True)
class Derived:
    """A column computed row by row: by SQL text, or by a Python function of some columns.

    ``folder`` is the spec's, where the function's module is looked for first.
    """

    name: str
    sql: str | None
    function: str | None = None
    inputs: tuple[str, ...] = ()
    params: tuple[tuple[str, Any], ...] = ()
    dtype: pl.DataType | None = None
    folder: str = ""


@dataclass(frozen=True, slots=True)
class CompiledTable:
    """A feature table, typed and checked: everything that decides its rows, given its input rows.

    ``schema`` holds the output columns in order: keys, time, kept columns, features, look-ups, derived columns.
    ``lineage`` maps each of them to the input columns (``source.column``) that it comes from.
    ``definition`` is the plain value behind ``definition_hash``; no path, name of a person or time is in it.
    """

    name: str
    source: Input
    keys: tuple[str, ...]
    time: str | None
    grid: Grid | None
    keep: tuple[str, ...]
    features: tuple[Feature, ...]
    lookups: tuple[Lookup | GridLookup, ...]
    derived: tuple[Derived, ...]
    partition: Partition
    checks: tuple[Any, ...]
    schema: pa.Schema
    lineage: dict[str, tuple[str, ...]]
    definition: dict[str, Any]
    definition_hash: str

    @property
    def windows(self) -> tuple[Window, ...]:
        """The distinct windows, in order of first use."""
        return tuple(dict.fromkeys(feature.window for feature in self.features))

    @property
    def lookback_us(self) -> int | None:
        """How far back a row looks into its own source; None if for ever."""
        reaches = [window.reach_us for window in self.windows]
        return (
            None
            if any(reach is None for reach in reaches)
            else max((r for r in reaches if r is not None), default=0)
        )
