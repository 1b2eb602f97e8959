"""Evaluating checks frame by frame: partial results that merge in any order, and the verdict over the whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from featureflow.contracts.check import CheckPartial, CheckResult, CheckSpec, RowCheck
from featureflow.core.durations import Duration
from featureflow.core.types import parse_type, to_arrow, type_name
from featureflow.library.checks.rows import (
    Condition,
    InSet,
    Matches,
    Maximum,
    Minimum,
    NotNull,
    Unique,
    columns_of,
)

#: Adding a check of rows: one class in rows.py, one entry here.
_ROW_CHECKS: tuple[RowCheck, ...] = (
    NotNull(),
    Minimum(),
    Maximum(),
    InSet(),
    Matches(),
    Condition(),
    Unique(),
)
ROW_CHECKS: Mapping[str, RowCheck] = {check.kind: check for check in _ROW_CHECKS}
#: Checks of a whole table, for which no row is at fault
TABLE_CHECKS = frozenset({"row_count", "freshness", "schema"})
_SAMPLE = 5


def validate(spec: CheckSpec, schema: Mapping[str, pl.DataType], time: str | None = None) -> None:
    """Check an entry against the columns that it will see, before any data.

    Raises
    ------
    ValueError
        One line: unknown kind or column, a value of the wrong type, ``quarantine`` for a check without rows.
    """
    if spec.kind not in ROW_CHECKS and spec.kind not in TABLE_CHECKS:
        raise ValueError(
            f"there is no check {spec.kind!r}. Known: {', '.join(sorted([*ROW_CHECKS, *TABLE_CHECKS]))}."
        )
    if isinstance(spec.share, bool) or not 0 <= spec.share <= 1:
        raise ValueError(f"share: must be between 0 and 1; got {spec.share!r}.")
    if spec.on_fail not in ("error", "warn", "quarantine"):
        raise ValueError(f"on_fail: {spec.on_fail!r} is not known. Known: error, warn, quarantine.")
    if spec.kind in ROW_CHECKS:
        ROW_CHECKS[spec.kind].validate(spec, schema)
        return
    if spec.on_fail == "quarantine":
        raise ValueError(
            f"{spec.kind} is about the whole table; there are no rows to quarantine. Use error or warn."
        )
    if spec.kind == "row_count":
        _row_bounds(spec.value)
    elif spec.kind == "freshness":
        if time is None:
            raise ValueError("freshness needs a `time` column.")
        _age(spec.value)
    else:
        for name, kind in _expected(spec).items():
            try:
                parse_type(kind)
            except ValueError as error:
                raise ValueError(f"schema: {name}: {error}") from None


def _row_bounds(value: object) -> tuple[int, int | None]:
    """Least and most rows: a number is the least, ``{min, max}`` both."""
    given: Mapping[str, Any] = value if isinstance(value, Mapping) else {"min": value}
    low, high = given.get("min", 0), given.get("max")
    ok = (
        not (set(given) - {"min", "max"}) and isinstance(low, int) and (high is None or isinstance(high, int))
    )
    if (
        not ok
        or isinstance(low, bool)
        or isinstance(high, bool)
        or low < 0
        or (high is not None and high < low)
    ):
        raise ValueError(f"row_count: write a least number, or {{min: …, max: …}}; got {value!r}.")
    return low, high


def _expected(spec: CheckSpec) -> dict[str, str]:
    if not isinstance(spec.value, Mapping) or not spec.value:
        raise ValueError(
            f"schema: write the type of each column, as {{amount: float64}}; got {spec.value!r}."
        )
    return {str(name): str(kind) for name, kind in spec.value.items()}


def bad_rows(spec: CheckSpec, frame: pl.DataFrame) -> pl.Series:
    """Which rows fail a check: true or false for each, never null; all false for a check of the whole table."""
    if spec.kind in TABLE_CHECKS:
        return pl.Series([False]).new_from_index(0, frame.height)
    return ROW_CHECKS[spec.kind].bad(spec, frame)


def evaluate(spec: CheckSpec, frame: pl.DataFrame, time: str | None = None) -> CheckPartial:
    """Evaluate a check on one frame.

    Parameters
    ----------
    time
        Name of the event time column, for ``freshness``.
    """
    if spec.kind == "freshness":
        newest = frame[str(time)].cast(pl.Int64).max()
        return CheckPartial(frame.height, newest=None if newest is None else int(newest))  # type: ignore[arg-type]
    if spec.kind == "schema":
        return CheckPartial(frame.height, facts={n: type_name(to_arrow(t)) for n, t in frame.schema.items()})
    if spec.kind == "row_count":
        return CheckPartial(frame.height)
    bad = bad_rows(spec, frame)
    count = int(bad.sum())
    names = columns_of(spec)
    if not count or not names or spec.kind == "not_null":
        return CheckPartial(frame.height, count)
    failing = frame.select(names).filter(bad)
    nested = any(isinstance(dtype, (pl.List, pl.Struct, pl.Array)) for dtype in failing.dtypes)
    if nested:
        texts = pl.Series([", ".join(map(str, row)) for row in failing.iter_rows()])
    else:
        texts = failing.select(
            pl.concat_str(pl.col(names).cast(pl.String), separator=", ", ignore_nulls=True)
        ).to_series()
    return CheckPartial(frame.height, count, tuple(texts.unique().sort().head(_SAMPLE)))


def merge(partials: Iterable[CheckPartial]) -> CheckPartial:
    """Combine partial results; the order does not matter."""
    rows = bad = 0
    sample: set[str] = set()
    newest: int | None = None
    facts: Mapping[str, str] | None = None
    for each in partials:
        rows, bad = rows + each.rows, bad + each.bad
        sample.update(each.sample)
        if each.newest is not None:
            newest = each.newest if newest is None else max(newest, each.newest)
        facts = each.facts if each.facts is not None else facts
    return CheckPartial(rows, bad, tuple(sorted(sample)[:_SAMPLE]), newest, facts)


def verdict(spec: CheckSpec, whole: CheckPartial, now: int | None = None) -> CheckResult:
    """Judge the merged result of all frames.

    Parameters
    ----------
    now
        Microseconds UTC that ``freshness`` is measured from: the time of the build, passed in so that a check can
        be repeated.
    """
    subject = f"{spec.column} " if spec.column else ""
    shown = "" if spec.kind in ("unique", "not_null", "expression") else f" {_short(spec.value)}"
    head = f"{spec.label}: {subject}{spec.kind}{shown}:"
    if spec.kind == "row_count":
        low, high = _row_bounds(spec.value)
        passed = low <= whole.rows and (high is None or whole.rows <= high)
        text = f"there are {whole.rows} rows"
    elif spec.kind == "freshness":
        passed, text = _fresh(spec, whole, now)
        head = f"{spec.label}: freshness:"
    elif spec.kind == "schema":
        passed, text = _same(spec, whole)
        head = f"{spec.label}: schema:"
    else:
        least = math.ceil(spec.share * whole.rows - 1e-9)  # 0.99 * 100 is 99.00000000000001 in some roundings
        passed = whole.rows - whole.bad >= least
        text = f"{whole.bad} of {whole.rows} rows {ROW_CHECKS[spec.kind].describe(spec)}"
        text += f" (e.g. {', '.join(whole.sample)})" if whole.sample else ""
        text += f"; {spec.share:.4g} of the rows must pass" if spec.share < 1 else ""
    return CheckResult(spec.label, passed, spec.on_fail, f"{head} {text}", whole.rows, whole.bad)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _age(value: object) -> int:
    """Microseconds of ``2d``, or of a number of them."""
    length = Duration.parse(value).microseconds if isinstance(value, str) else value
    if isinstance(length, bool) or not isinstance(length, int) or length <= 0:
        raise ValueError(f"freshness: {value!r} is no positive duration. Write it as 2d or 6h.")
    return length


def _fresh(spec: CheckSpec, whole: CheckPartial, now: int | None) -> tuple[bool, str]:
    if now is None:
        raise ValueError("freshness needs the time of the build.")
    if whole.newest is None:
        return False, "there is no row with a time"
    age = now - whole.newest
    most = _age(spec.value)
    return age <= most, f"the newest row is {age / 3.6e9:.1f} h old; at most {most / 3.6e9:.1f} h are allowed"


def _same(spec: CheckSpec, whole: CheckPartial) -> tuple[bool, str]:
    facts = whole.facts or {}
    wrong = []
    for name, kind in _expected(spec).items():
        wanted = type_name(parse_type(kind))
        if facts.get(name) != wanted:
            wrong.append(f"{name} is {facts.get(name, 'missing')}, not {wanted}")
    return not wrong, "; ".join(wrong) or "as declared"
