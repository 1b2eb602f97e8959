"""What a data check is, and the plain values that its evaluation passes around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import polars as pl


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One test of one check entry: ``{column: amount, not_null: true, min: 0}`` is two of them.

    Parameters
    ----------
    kind
        ``not_null unique min max in_set matches expression row_count freshness schema``.
    label
        Place in the spec, for messages: ``features.card_spend.checks[0]``.
    column
        The column that is checked; None for ``expression``, ``row_count``, ``freshness``, ``schema`` and a ``unique``
        over several columns.
    value
        What stands behind the kind: a bound, a list, a regular expression, SQL, ``{min: …, max: …}`` for
        ``row_count``, a duration (``2d``) for ``freshness``, type name by column for ``schema``, a list of
        columns for ``unique``.
    share
        Least share of rows that must pass, 0 to 1.
    on_fail
        ``error``, ``warn`` or ``quarantine``.
    """

    kind: str
    label: str
    column: str | None = None
    value: Any = None
    share: float = 1.0
    on_fail: str = "error"


@dataclass(frozen=True, slots=True)
class CheckPartial:
    """What one frame says about a check; plain JSON both ways, and :func:`merge` of two is one again.

    Parameters
    ----------
    rows
        Rows seen.
    bad
        Rows that fail.
    sample
        Up to five of the failing values, as text, the smallest by (text): the same for any split of the rows.
    newest
        Latest event time in microseconds UTC, for ``freshness``.
    facts
        Type name by column, for ``schema``.
    """

    rows: int = 0
    bad: int = 0
    sample: tuple[str, ...] = ()
    newest: int | None = None
    facts: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """As dicts, lists, strings and numbers."""
        return {**asdict(self), "sample": list(self.sample)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CheckPartial:
        """Read what :meth:`to_json` gave."""
        return cls(**{**value, "sample": tuple(value["sample"])})


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict: whether it passed, what to do if not, and one line for people."""

    label: str
    passed: bool
    on_fail: str
    message: str
    rows: int
    bad: int


@runtime_checkable
class RowCheck(Protocol):
    """A check that each row passes or fails by itself."""

    kind: ClassVar[str]

    def validate(self, spec: CheckSpec, schema: Mapping[str, pl.DataType]) -> None:
        """Check the entry against the columns.

        Raises
        ------
        ValueError
            If the column is missing, or the value does not go with its type.
        """

    def bad(self, spec: CheckSpec, frame: pl.DataFrame) -> pl.Series:
        """Which rows fail: true or false for each, never null.

        Notes
        -----
        Nulls: pass every check but ``not_null``; a null says nothing about its value.
        """

    def describe(self, spec: CheckSpec) -> str:
        """What failing rows are: ``are below 0``."""
