"""Checks of data (section 8): as they are written, and one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from featureflow.spec.column_types import ColumnType
from featureflow.spec.duration_fields import PositiveDuration
from featureflow.spec.fields import (
    AsTuple,
    ColumnName,
    GivenScalar,
    Regex,
    Share,
    SpecModel,
    Sql,
    Text,
)

OnFail = Literal["error", "warn", "quarantine"]
Kind = Literal[
    "not_null",
    "unique",
    "min",
    "max",
    "in_set",
    "matches",
    "row_count",
    "freshness",
    "schema",
    "expression",
    "drift",
]

#: kinds that look at each row by itself: only they know a share of rows
ROW_KINDS = ("not_null", "min", "max", "in_set", "matches", "expression")
#: kinds that can name the rows that fail: only they can quarantine
QUARANTINE_KINDS = (*ROW_KINDS, "unique")
#: kinds that look at one column
COLUMN_KINDS = ("not_null", "min", "max", "in_set", "matches")
KINDS = (*COLUMN_KINDS, "unique", "row_count", "freshness", "schema", "expression", "drift")


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Parameters
    ----------
    kind
        What is checked.
    columns
        Columns that it looks at: one for most kinds; several for ``unique`` (the tuple is unique); none for
        ``row_count``, ``schema`` and ``expression``; for ``freshness`` none means the table's time.
    value
        ``min``, ``max``: the bound (inclusive). ``in_set``: a tuple. ``matches``: a regular expression, found
        anywhere in the text (anchor it with ``^`` and ``$``). ``row_count``: ``(least, most)``, either None.
        ``freshness``: a Duration, the greatest age of the newest row. ``schema``: column to type.
        ``expression``: SQL that must be true. ``drift``: ``(measure, reference, greatest value)``.
        ``not_null`` and ``unique``: True.
    share
        Share of the rows that must pass; 1.0 for all.
    where
        Only rows for which this SQL is true are looked at.
    on_fail
        ``error``: nothing is published; ``warn``; ``quarantine``: failing rows go to a side table.
    name
        The author's name of the check, or one made of kind and columns.
    entry
        Which item of ``checks:`` it was written in.

    Notes
    -----
    Nulls: a null passes every kind except ``not_null``; a null ``expression`` passes, as in SQL's CHECK.
    """

    kind: Kind
    columns: tuple[str, ...]
    value: Any
    share: float
    where: str | None
    on_fail: OnFail
    name: str
    entry: int

    @property
    def column(self) -> str | None:
        """The first column, if there is one."""
        return self.columns[0] if self.columns else None


class RowCount(SpecModel):
    """Bounds of the number of rows, both inclusive."""

    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None


class CheckEntry(SpecModel):
    """One item of ``checks:``; it may hold several checks, ``{column: amount, not_null: true, min: 0}``."""

    name: Text | None = Field(default=None, description="Name in reports.")
    column: Annotated[tuple[ColumnName, ...], AsTuple(single=True)] = Field(
        default=(), description="Column that is checked; several for `unique`."
    )
    not_null: Literal[True] | None = Field(default=None, description="No null (and no NaN) in the column.")
    unique: Literal[True] | None = Field(default=None, description="No value, or tuple of values, twice.")
    min: GivenScalar | None = Field(default=None, description="Least value, inclusive.")
    max: GivenScalar | None = Field(
        default=None, description="Greatest value, inclusive; for `drift` the limit."
    )
    in_set: Annotated[tuple[GivenScalar, ...], AsTuple(least=1)] | None = Field(
        default=None, description="All values that are allowed."
    )
    matches: Regex | None = Field(
        default=None, description="Regular expression that must be found in the text."
    )
    row_count: RowCount | None = Field(
        default=None, description="Bounds of the number of rows: {min: 1, max: 10}."
    )
    freshness: PositiveDuration | None = Field(default=None, description="Greatest age of the newest row.")
    schema_: dict[ColumnName, ColumnType] | None = Field(
        default=None, alias="schema", description="Columns that must be there, with their types."
    )
    expression: Sql | None = Field(
        default=None, description="SQL expression that must be true for every row."
    )
    drift: Literal["psi", "ks", "js", "null_rate", "mean_shift"] | None = Field(
        default=None, description="Distance of the column's distribution from a reference version."
    )
    against: Text | None = Field(
        default=None, description="Reference of `drift`: previous, or a version or tag."
    )
    share: Share = Field(default=1.0, description="Share of rows that must pass.")
    where: Sql | None = Field(default=None, description="Only rows for which this is true are looked at.")
    on_fail: OnFail = Field(default="error", description="What happens when the check fails.")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of check that this entry holds, in the order of the documentation."""
        given = {kind for kind in KINDS if getattr(self, "schema_" if kind == "schema" else kind) is not None}
        if self.drift is not None:
            given.discard("max")
        return tuple(kind for kind in KINDS if kind in given)

    def expanded(self, entry: int = 0) -> tuple[Check, ...]:
        """The checks of this entry one by one; a kind that looks at one column is repeated for each column."""
        found = []
        for kind in self.kinds:
            each = kind in COLUMN_KINDS or kind == "drift"
            groups = [(c,) for c in self.column] if each else [self.column]
            found += [self._check(kind, columns, entry) for columns in groups]
        return tuple(found)

    def _check(self, kind: Any, columns: tuple[str, ...], entry: int) -> Check:
        value = getattr(self, "schema_" if kind == "schema" else kind)
        if kind == "row_count":
            value = (value.min, value.max)
        elif kind == "drift":
            value = (self.drift, self.against or "previous", self.max)
        made = "_".join((*columns, kind))
        return Check(
            kind=kind,
            columns=columns,
            value=value,
            share=float(self.share),
            where=self.where,
            on_fail=self.on_fail,
            name=self.name or made,
            entry=entry,
        )


def expand(entries: tuple[CheckEntry, ...]) -> tuple[Check, ...]:
    """All checks of a ``checks:`` section one by one, in order."""
    return tuple(check for index, entry in enumerate(entries) for check in entry.expanded(index))
