"""Rules about checks (section 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from featureflow.spec.checks import COLUMN_KINDS, KINDS, QUARANTINE_KINDS, ROW_KINDS, CheckEntry
from featureflow.spec.messages import Finding
from featureflow.spec.paths import Path
from featureflow.spec.rules.scope import Scope
from featureflow.spec.suggest import did_you_mean

_WITHOUT_COLUMN = ("row_count", "schema", "expression")

#: what can be said of arrays by the statistics of their chunks
_OF_GRIDS = ("not_null", "min", "max")


def check_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about the checks of sources, feature tables, grids and datasets."""
    for name, grid in scope.project.grids.items():
        for i, entry in enumerate(grid.checks):
            place: Path = ("features", name, "checks", i)
            yield from _entry(place, entry, complete=scope.complete("features", name))
            yield from _of_grid(place, entry, zonal=grid.is_zonal)
    for name, source in scope.project.sources.items():
        for i, entry in enumerate(source.checks):
            yield from _entry(("sources", name, "checks", i), entry, complete=scope.complete("sources", name))
            yield from _freshness(("sources", name, "checks", i), entry, source.time)
    for name, feature in scope.project.features.items():
        known = scope.columns_of(name) if scope.knows_columns(name) else None
        if not scope.has_table(feature.source):
            known = None  # its time column is not known
        for i, entry in enumerate(feature.checks):
            path: Path = ("features", name, "checks", i)
            yield from _entry(path, entry, complete=scope.complete("features", name))
            if known is not None:
                yield from _freshness(path, entry, scope.time_of(feature.source))
                yield from _columns(path, entry, known)
    for name, dataset in scope.project.datasets.items():
        for i, entry in enumerate(dataset.checks):
            path = ("datasets", name, "checks", i)
            yield from _entry(path, entry, complete=scope.complete("datasets", name))
            if scope.knows_time(dataset.spine):
                time = scope.time_of_spine(dataset.spine)
                yield from _freshness(path, entry, time, "spine")
            columns = scope.columns_of_dataset(name)
            if columns is not None and not dataset.encode:  # names of encoded columns come from the data
                yield from _columns(path, entry, columns)


def _of_grid(path: Path, entry: CheckEntry, *, zonal: bool) -> Iterator[Finding]:
    """What checks of grids can't do: arrays have no rows, and what is known of them is known chunk by chunk."""
    if entry.on_fail == "quarantine":
        yield Finding((*path, "on_fail"), "a grid has no rows to put aside. Use error or warn.")
    odd = [kind for kind in entry.kinds if kind == "drift" or not (zonal or kind in _OF_GRIDS)]
    for kind in odd:
        advice = "Remove it." if zonal else f"Grids have {', '.join(_OF_GRIDS)}."
        yield Finding((*path, kind), f"{kind} is a check of tables. {advice}", at_key=True)
    if zonal or odd:
        return
    if entry.where is not None:
        yield Finding(
            (*path, "where"), "where picks rows, which a grid does not have. Remove it.", at_key=True
        )
    if entry.share < 1 and set(entry.kinds) - {"not_null"}:
        message = "of a grid only not_null has a share of values. Write two entries, or remove it."
        yield Finding((*path, "share"), message, at_key=True)
    for bound in ("min", "max"):
        if isinstance(getattr(entry, bound), str):
            yield Finding((*path, bound), "must be a number: values of grids are numbers.")


def _columns(path: Path, entry: CheckEntry, known: list[str]) -> Iterator[Finding]:
    for j, column in enumerate(entry.column):
        if column not in known:
            yield Finding((*path, "column", j), f"unknown column {column!r}. {did_you_mean(column, known)}")
    for column in entry.schema_ or ():
        if column not in known:
            message = f"unknown column {column!r}. {did_you_mean(column, known)}"
            yield Finding((*path, "schema", column), message, at_key=True)


def _freshness(path: Path, entry: CheckEntry, time: str | None, what: str = "source") -> Iterator[Finding]:
    if entry.freshness is not None and not entry.column and time is None:
        message = f"needs a time, and the {what} has none. Add column:, or time: there."
        yield Finding((*path, "freshness"), message)


def _entry(path: Path, entry: CheckEntry, *, complete: bool) -> Iterator[Finding]:
    kinds = entry.kinds
    if not kinds:
        if complete:
            yield Finding(path, f"checks nothing. Add one of {', '.join(KINDS)}.")
        return
    needy = [kind for kind in kinds if kind in (*COLUMN_KINDS, "unique", "drift")]
    if complete and needy and not entry.column:
        yield Finding(
            (*path, needy[0]), f"{needy[0]} needs a column. Add column: to this entry.", at_key=True
        )
    if complete and entry.column and all(kind in _WITHOUT_COLUMN for kind in kinds):
        message = f"{kinds[0]} looks at whole rows. Remove column, or add a kind such as not_null."
        yield Finding((*path, "column"), message, at_key=True)
    yield from _numbers(path, entry, complete=complete)
    if "share" in entry.model_fields_set:
        odd = [kind for kind in kinds if kind not in ROW_KINDS]
        if odd:
            message = f"{odd[0]} does not look at each row by itself, so it has no share of rows. Remove it."
            yield Finding((*path, "share"), message, at_key=True)
    if entry.on_fail == "quarantine":
        odd = [kind for kind in kinds if kind not in QUARANTINE_KINDS]
        if odd:
            yield Finding((*path, "on_fail"), f"{odd[0]} names no rows to put aside. Use error or warn.")
    if complete and entry.against is not None and entry.drift is None:
        yield Finding(
            (*path, "against"), "against belongs to drift. Add drift: psi, or remove it.", at_key=True
        )


def _numbers(path: Path, entry: CheckEntry, *, complete: bool) -> Iterator[Finding]:
    if (
        complete
        and entry.drift is not None
        and (isinstance(entry.max, bool) or not isinstance(entry.max, int | float))
    ):
        yield Finding((*path, "drift"), "needs the greatest distance allowed. Add max: 0.2.", at_key=True)
    for bound in ("min", "max"):
        if isinstance(getattr(entry, bound), bool):
            yield Finding((*path, bound), "must be a number or a text such as a date; got true or false.")
    if entry.min is not None and entry.max is not None:
        yield from _order(path, entry.min, entry.max)
    count = entry.row_count
    if count is not None:
        if count.min is None and count.max is None:
            if complete:
                yield Finding((*path, "row_count"), "needs min or max, such as {min: 1}.")
        elif count.min is not None and count.max is not None and count.min > count.max:
            yield Finding(
                (*path, "row_count"), f"min {count.min} is greater than max {count.max}. Swap them."
            )


def _order(path: Path, least: Any, greatest: Any) -> Iterator[Finding]:
    kinds = {str if isinstance(bound, str) else float for bound in (least, greatest)}
    if len(kinds) > 1:
        yield Finding((*path, "max"), f"min {least!r} and max {greatest!r} are of two types.")
    elif least > greatest:
        yield Finding((*path, "min"), f"min {least} is greater than max {greatest}. Swap them.")
