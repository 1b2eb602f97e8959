"""Checks of grids: judged by what is known of every chunk, without reading a value again; of zones by their rows."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from featureflow.contracts.check import CheckResult
from featureflow.core.storage import join
from featureflow.execute.checks.checking import BoundCheck
from featureflow.execute.checks.stored_rows import read_rows
from featureflow.execute.grids.build import GridBuild
from featureflow.execute.grids.chunk_rows import ChunkRow


def judge_grid(build: GridBuild, checks: Iterable[BoundCheck], now_us: int) -> list[CheckResult]:
    """Judge the checks of a grid that is computed, all chunks of its new version together.

    Notes
    -----
    Nulls: missing values pass everything but ``not_null``. An infinite value is outside of any bound.
    """
    checks = list(checks)
    if not checks:
        return []
    if build.grid.rows is None:
        by_variable: dict[str, list[ChunkRow]] = {}
        for row in build.rows:
            by_variable.setdefault(row.variable, []).append(row)
        return [_of_chunks(check, by_variable.get(str(check.spec.column), [])) for check in checks]
    frame = _rows(build)
    time = build.grid.rows.time
    return [check.judge([check.partial(frame, time)], now_us) for check in checks]


def _rows(build: GridBuild) -> pl.DataFrame:
    if build.zones is not None:
        return pl.DataFrame(build.zones)
    state = build.plan.state
    files = [] if state is None else state.files
    return pl.concat([read_rows(join(build.url, staged.path)) for staged in files])


def _of_chunks(check: BoundCheck, rows: list[ChunkRow]) -> CheckResult:
    spec = check.spec
    head = f"{spec.label}: {spec.column} {spec.kind}"
    there, missing = sum(row.count for row in rows), sum(row.nulls for row in rows)
    if spec.kind == "not_null":
        passed = there >= spec.share * (there + missing) - 1e-9
        share = f"; {spec.share:.4g} of them must be there" if spec.share < 1 else ""
        text = f"{head}: {missing:,} of {there + missing:,} values are missing{share}"
        return CheckResult(spec.label, passed, spec.on_fail, text, there + missing, missing)
    low = spec.kind == "min"
    bound, filled = float(str(spec.value)), [row for row in rows if row.count]
    ends = [(row.min if low else row.max, row) for row in filled]
    worse = [row for end, row in ends if end is None or (end < bound if low else end > bound)]
    known = [end for end, _ in ends if end is not None]
    end = (
        "infinite"
        if len(known) < len(ends)
        else f"{(min if low else max)(known):g}"
        if known
        else "not there"
    )
    text = f"{head} {spec.value}: the {'least' if low else 'greatest'} value is {end}"
    if worse:
        place = ", ".join(f"{dim} {a}:{b}" for dim, (a, b) in worse[0].spans.items())
        text += f"; {len(worse)} of {len(rows)} chunks have such values, the first at {place}"
    return CheckResult(spec.label, not worse, spec.on_fail, text, there + missing, len(worse))
