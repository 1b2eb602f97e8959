"""Checks of a spec (section 8): bound to a place, evaluated where rows are made, judged before they are visible."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import polars as pl

from featureflow.contracts.check import CheckPartial, CheckResult, CheckSpec
from featureflow.core.durations import Duration
from featureflow.core.expressions import compile_condition
from featureflow.core.fingerprints import fingerprint
from featureflow.library.checks.evaluate import bad_rows, evaluate, merge, validate, verdict
from featureflow.plan.definition import plain
from featureflow.spec.checks import Check

#: Kinds that a task can't judge alone: they are about all rows at once.
WHOLE_KINDS = frozenset({"unique", "drift"})


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
        return evaluate(self.spec, self._looked_at(frame), time)

    def bad(self, frame: pl.DataFrame) -> pl.Series:
        """Which rows fail."""
        failing = bad_rows(self.spec, frame)
        if self.where is None:
            return failing
        return failing & compile_condition(self.where, frame.schema).mask(frame)

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
        spec = CheckSpec(
            check.kind, f"{place}.checks[{check.entry}]", column, value, check.share, check.on_fail
        )
        identity = fingerprint([check.kind, list(check.columns), plain(check.value), check.where])
        found.append(BoundCheck(spec, check.where, identity, check.entry))
    return tuple(found)


def notes_folder(scratch: str, checks: tuple[BoundCheck, ...]) -> str:
    """Where tasks leave what these checks found; other checks on the same rows have another folder."""
    return os.path.join(scratch, "checks", fingerprint(sorted(check.id for check in checks)))


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


def check_problems(
    checks: tuple[BoundCheck, ...], schema: dict[str, pl.DataType], time: str | None
) -> list[tuple[int, str]]:
    """Find mistakes in checks against the columns that they will see: (entry, message)."""
    problems = []
    for check in checks:
        try:
            if check.where is not None:
                compile_condition(check.where, schema)
            if check.spec.kind != "drift":
                validate(check.spec, schema, time)
            elif check.spec.column not in schema:
                raise ValueError(
                    f"drift: there is no column {check.spec.column!r}. There are: {', '.join(schema)}."
                )
        except ValueError as error:
            problems.append((check.entry, str(error)))
    return problems
