"""Checks of a spec (section 8): bound to a place, evaluated where rows are made, judged before they are visible.

Checks with ``on_fail: quarantine`` look at all rows; ``unique`` among them at those that the others leave. The checks
that only judge look at the rows that remain, which are the rows that are published.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from featureflow.contracts.check import CheckPartial, CheckResult, CheckSpec
from featureflow.core.durations import Duration
from featureflow.core.expressions import compile_condition
from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending
from featureflow.core.storage import join, read_bytes, write_atomic
from featureflow.library.checks.evaluate import bad_rows, evaluate, merge, validate, verdict
from featureflow.plan.definition import plain
from featureflow.spec.checks import Check


@dataclass(frozen=True, slots=True)
class BoundCheck:
    """A check with its place in the spec; ``id`` names what it computes, whatever happens when it fails."""

    spec: CheckSpec
    where: str | None
    id: str
    entry: int

    @property
    def quarantines(self) -> bool:
        """Whether failing rows go to a side table."""
        return self.spec.on_fail == "quarantine"

    @property
    def whole(self) -> bool:
        """Whether no task can judge it alone, because it is about all rows at once."""
        return self.spec.kind == "drift" or (self.spec.kind == "unique" and not self.quarantines)

    def columns(self) -> tuple[str, ...]:
        """Columns of ``unique``, or the one of the others."""
        if self.spec.kind == "unique" and isinstance(self.spec.value, (list, tuple)):
            return tuple(self.spec.value)
        return (self.spec.column,) if self.spec.column else ()

    def columns_read(self, schema: dict[str, pl.DataType]) -> tuple[str, ...]:
        """All columns that evaluating it looks at."""
        found = list(self.columns())
        for sql in (self.where, self.spec.value if self.spec.kind == "expression" else None):
            if sql is not None:
                found.extend(compile_condition(sql, schema).columns)
        return tuple(dict.fromkeys(found))

    def partial(self, frame: pl.DataFrame, time: str | None) -> CheckPartial:
        """Evaluate on some rows."""
        return evaluate(self.spec, self._looked_at(frame), self.spec.column or time)

    def bad(self, frame: pl.DataFrame) -> pl.Series:
        """Which rows fail."""
        if self.where is None:
            return bad_rows(self.spec, frame)
        looked_at = compile_condition(self.where, frame.schema).mask(frame)
        failing = np.zeros(frame.height, np.bool_)
        failing[looked_at.to_numpy()] = bad_rows(self.spec, frame.filter(looked_at)).to_numpy()
        return pl.Series(failing)

    def _looked_at(self, frame: pl.DataFrame) -> pl.DataFrame:
        return (
            frame
            if self.where is None
            else frame.filter(compile_condition(self.where, frame.schema).mask(frame))
        )

    def judge(self, parts: list[CheckPartial], now_us: int) -> CheckResult:
        """Give the verdict on all rows."""
        return verdict(self.spec, merge(parts), now_us)


def bind(checks: tuple[Check, ...], place: str) -> tuple[BoundCheck, ...]:
    """Bind checks to a place such as ``features.card_spend``."""
    found = []
    for check in checks:
        value = _value(check)
        column = check.column if len(check.columns) == 1 else None
        named = "" if check.name == "_".join((*check.columns, check.kind)) else f" ({check.name})"
        label = f"{place}.checks[{check.entry}]{named}"
        spec = CheckSpec(check.kind, label, column, value, check.share, check.on_fail)
        aside = check.on_fail == "quarantine"
        identity = fingerprint([check.kind, list(check.columns), plain(check.value), check.where, aside])
        found.append(BoundCheck(spec, check.where, identity, check.entry))
    return tuple(found)


def notes_folder(board: str, checks: tuple[BoundCheck, ...]) -> str:
    """Where tasks leave what these checks found; other checks on the same rows have another folder."""
    return join(board, "checks", fingerprint(sorted(check.id for check in checks)))


def _value(check: Check) -> Any:
    value = check.value
    if check.kind == "row_count":
        low, high = value
        return {"min": low or 0, **({} if high is None else {"max": high})}
    if isinstance(value, Duration):
        return value.microseconds
    if check.kind == "unique":
        return list(check.columns)
    return list(value) if isinstance(value, tuple) else value


@spending("compute:checks")
def failing_rows(checks: tuple[BoundCheck, ...], frame: pl.DataFrame) -> pl.Series:
    """Which rows go to quarantine; ``unique`` looks at the rows that the other checks leave."""
    failing = np.zeros(frame.height, np.bool_)
    for check in sorted((c for c in checks if c.quarantines), key=lambda c: c.spec.kind == "unique"):
        if check.spec.kind == "unique":
            left = np.flatnonzero(~failing)
            failing[left] = check.bad(frame.filter(pl.Series(~failing))).to_numpy()
        else:
            failing |= check.bad(frame).to_numpy()
    return pl.Series(failing)


@spending("compute:checks")
def findings(
    checks: tuple[BoundCheck, ...], frame: pl.DataFrame, failing: pl.Series, time: str | None
) -> dict[str, Any]:
    """What a task can say about some rows, as JSON by check: about all of them, or those not in quarantine."""
    left = frame.filter(~failing) if failing.any() else frame
    return {
        check.id: check.partial(frame if check.quarantines else left, time).to_json()
        for check in checks
        if not check.whole
    }


def noted(path: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a note says, written now if there is none; its path or URL must name all that was looked at."""
    with suppress(FileNotFoundError):
        return json.loads(read_bytes(path))  # type: ignore[no-any-return]
    found = find()
    write_atomic(path, json.dumps(found).encode(), durable=False)
    return found


def check_problems(
    checks: tuple[BoundCheck, ...],
    schema: dict[str, pl.DataType],
    time: str | None,
    keys: tuple[str, ...] | None = None,
) -> list[tuple[int, str, str]]:
    """Find mistakes in checks against the columns that they will see: (entry, field, message).

    Parameters
    ----------
    keys
        Keys of a feature table; None for a source.
    """
    problems = []
    for check in checks:
        kind, field = check.spec.kind, "where"
        try:
            if check.where is not None:
                compile_condition(check.where, schema)
            field = kind
            if kind == "drift":
                _check_drift(check, schema, is_table=keys is not None)
            else:
                validate(check.spec, schema, check.spec.column or time)
            if kind == "freshness":
                _check_time(check.spec.column or time, schema)
            if kind == "unique" and check.quarantines and keys is not None:
                _check_together(check, keys, time)
        except ValueError as error:
            problems.append((check.entry, field, str(error)))
    return problems


def _check_drift(check: BoundCheck, schema: dict[str, pl.DataType], *, is_table: bool) -> None:
    column, measure = check.spec.column, check.spec.value[0]
    if not is_table:
        raise ValueError(
            "drift compares versions, and a source has none. Check a feature table built from it."
        )
    if column not in schema:
        raise ValueError(f"there is no column {column!r}. Known: {', '.join(schema)}.")
    dtype = schema[column]
    kind = str(dtype).lower()
    if measure in ("ks", "mean_shift") and not (dtype.is_numeric() or dtype.is_temporal()):
        raise ValueError(
            f"drift: {measure} needs numbers or times; {column!r} is {kind}. Use psi, js or null_rate."
        )
    if measure != "null_rate" and dtype.is_nested():
        raise ValueError(f"drift: {measure} does not take lists; {column!r} is {kind}. Use null_rate.")


def _check_time(column: str | None, schema: dict[str, pl.DataType]) -> None:
    if column is None or not isinstance(schema.get(column), pl.Datetime):
        raise ValueError(f"freshness needs a time; {column!r} is none. Known: {', '.join(schema)}.")


def _check_together(check: BoundCheck, keys: tuple[str, ...], time: str | None) -> None:
    missing = [name for name in (*keys, *([time] if time else [])) if name not in check.columns()]
    if missing:
        raise ValueError(
            f"unique can put rows of a feature table into quarantine only if its columns hold the table's keys and "
            f"time ({', '.join(missing)} missing): equal rows must lie in one file. Check the source, or use error "
            "or warn."
        )
