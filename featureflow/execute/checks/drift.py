"""``drift`` checks: how far a column of the new version is from the same column of a reference version.

The measures are defined in `featureflow.execute.checks.distances`. ``against: previous`` is the version before the
one that is judged: the latest one for a build that changes the table; for a build that does not, the one before the
latest, so that a build with nothing to do gives the verdict of the build that published.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from featureflow.contracts.check import CheckResult
from featureflow.core.errors import TableError
from featureflow.core.expressions import compile_condition
from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import join
from featureflow.execute.checks.checking import BoundCheck, noted
from featureflow.execute.checks.distances import category_distance, numeric_distance
from featureflow.execute.checks.stored_rows import read_rows
from featureflow.execute.checks.value_counts import Keys, ordered_keys
from featureflow.execute.site import Site
from featureflow.execute.stages import TablePlan
from featureflow.tables.references import resolve
from featureflow.tables.state import TableState, read_state
from featureflow.tables.versions import check_not_expired, read_version


def judge_drift(
    check: BoundCheck, plan: TablePlan, state: TableState | None, urls: list[str], site: Site
) -> CheckResult:
    """Compare a column of a version that may not be published yet with a reference version.

    Parameters
    ----------
    state
        The latest published version; None if there is none.
    urls
        All files of the version that is judged.

    Returns
    -------
    CheckResult
        Passed if the distance is at most ``max``. A reference that is not there (no version yet, one that gc took, a
        column that it does not have, no values in it) passes, and the message says so. No values now, or a type that
        can't be compared with the reference's, fails.

    Raises
    ------
    TableError
        If ``against`` names a version or tag that does not exist.

    Notes
    -----
    Nulls are left out, except by ``null_rate``. Order: none matters. Cost: reads one column of both versions, see
    `sorted_counts`; what was measured is kept by the names of the files.
    """
    url = site.table_url(plan.table.name)
    measure, _, most = check.spec.value
    head = f"{check.spec.label}: {check.spec.column} drift {measure}:"
    reference = reference_of(check, plan.table.name, url, state, set(urls))
    if isinstance(reference, str):
        return CheckResult(check.spec.label, True, check.spec.on_fail, f"{head} {reference}", 0, 0)
    before = [join(url, staged.path) for staged in reference.files]
    key = fingerprint(["drift", check.id, before, sorted(urls)])
    found = noted(join(site.board, "checks", f"{key}.json"), lambda: _measure(check, reference, before, urls))
    distance = float(found["distance"])
    passed = distance <= most
    text = (
        found["reason"] or f"{distance:.4g} from version {reference.version}; at most {most:.4g} is allowed"
    )
    return CheckResult(check.spec.label, passed, check.spec.on_fail, f"{head} {text}", int(found["rows"]), 0)


def reference_of(
    check: BoundCheck, name: str, table_url: str, state: TableState | None, urls: set[str]
) -> TableState | str:
    """The version that a check compares with, or why there is none; see `judge_drift`."""
    which = str(check.spec.value[1])
    if state is None:
        return "there is no version to compare with yet"
    if which != "previous":
        try:
            return read_state(table_url, resolve(table_url, name, which))
        except TableError as error:
            raise TableError(f"{check.spec.label}: drift against {which!r}: {error}") from error
    if {join(table_url, staged.path) for staged in state.files} != urls:
        return state
    if state.version == 1:
        return "there is no previous version to compare with yet"
    previous = read_version(table_url, state.version - 1)
    try:
        check_not_expired(table_url, name, previous)
    except TableError:
        return f"the previous version, {previous.version}, has expired"
    return read_state(table_url, previous)


def _measure(
    check: BoundCheck, reference: TableState, before: list[str], urls: list[str]
) -> dict[str, object]:
    """The distance as JSON: ``reason`` is why there is none, with a distance of 0 or infinity in its place."""
    column, measure = check.spec.column or "", check.spec.value[0]
    if column not in reference.schema.names:
        return _nothing(0.0, f"version {reference.version} does not have the column")
    old, new = _Rows(before, check), _Rows(urls, check)
    n_old, nulls_old = old.count()
    n_new, nulls_new = new.count()
    if measure == "null_rate":
        if n_old == 0 or n_new == 0:
            return _nothing(
                0.0 if n_old == 0 else float("inf"), _empty(reference.version if n_old == 0 else None, "rows")
            )
        return {"distance": abs(nulls_new / n_new - nulls_old / n_old), "reason": "", "rows": n_new}
    if n_old == nulls_old or n_new == nulls_new:
        nobody = n_old == nulls_old
        return _nothing(
            0.0 if nobody else float("inf"), _empty(reference.version if nobody else None, "values")
        )
    kinds = old.kind(), new.kind()
    if "category" in kinds and kinds[0] != kinds[1]:
        return _nothing(
            float("inf"), f"its type is not that of version {reference.version}: they can't be compared"
        )
    if "category" in kinds:
        distance = category_distance(measure, old.categories(), new.categories())
    else:
        is_float = "float" in kinds
        distance = numeric_distance(
            measure, lambda: old.keys(is_float), lambda: new.keys(is_float), is_float=is_float
        )
    return {"distance": distance, "reason": "", "rows": n_new}


def _nothing(distance: float, reason: str) -> dict[str, object]:
    return {"distance": distance, "reason": reason, "rows": 0}


def _empty(version: int | None, what: str) -> str:
    return f"there are no {what} now" if version is None else f"there are no {what} in version {version}"


class _Rows:
    """One side of the comparison: the column in some files, where the check's condition is true."""

    def __init__(self, urls: list[str], check: BoundCheck) -> None:
        self._urls, self._where = sorted(urls), check.where
        self._column = check.spec.column or ""

    def _series(self) -> Iterator[pl.Series]:
        for url in self._urls:
            if self._where is None:
                yield read_rows(url, [self._column])[self._column]
                continue
            frame = read_rows(url)
            yield frame.filter(compile_condition(self._where, frame.schema).mask(frame))[self._column]

    def count(self) -> tuple[int, int]:
        """Rows and nulls."""
        rows = nulls = 0
        for series in self._series():
            rows, nulls = rows + len(series), nulls + series.null_count()
        return rows, nulls

    def kind(self) -> str:
        """``float``, ``integer`` (also of times) or ``category``."""
        dtype = next(self._series()).dtype
        if dtype.is_float():
            return "float"
        return "integer" if dtype.is_integer() or dtype.is_temporal() else "category"

    def keys(self, is_float: bool) -> Iterator[Keys]:
        """Numbers as ordered integers."""
        for series in self._series():
            yield ordered_keys(series.to_physical().cast(pl.Float64) if is_float else series)

    def categories(self) -> pl.DataFrame:
        """How often each value occurs."""
        parts = [
            series.drop_nulls()
            .to_frame("value")
            .group_by("value")
            .len("count")
            .with_columns(pl.col("count").cast(pl.Int64))
            for series in self._series()
        ]
        return pl.concat(parts).group_by("value").sum()
