"""Verdicts on checks before the commit: from notes of tasks, from notes of the version before, or from the files."""

from __future__ import annotations

import json
import os
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from featureflow.contracts.check import CheckPartial, CheckResult
from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import is_local, join, read_bytes, write_atomic
from featureflow.execute.build import Site
from featureflow.execute.checking import WHOLE_KINDS, BoundCheck, notes_folder
from featureflow.execute.driver import Task, run_tasks
from featureflow.execute.exchange import Chunk
from featureflow.execute.inputs import Readable, unchecked
from featureflow.execute.publish import slice_label
from featureflow.execute.stages import TablePlan
from featureflow.execute.uniqueness import repeated_rows
from featureflow.execute.window_task import Unit, note_path, write_quarantine
from featureflow.plan.slices import Slice
from featureflow.tables.parquet_files import StagedFile
from featureflow.tables.state import TableState

Partials = dict[str, dict[str, Any]]


def judge_table(
    site: Site,
    plan: TablePlan,
    state: TableState | None,
    new: list[tuple[Slice, StagedFile]],
    checks: tuple[BoundCheck, ...],
    now_us: int,
) -> tuple[list[CheckResult], Partials]:
    """Judge a table's checks over all slices of the new version.

    Returns
    -------
    tuple
        The verdicts, and the partial results by slice and check, to be kept in the record for the next build.
    """
    if not checks:
        return [], {}
    by_row = [check for check in checks if check.spec.kind not in WHOLE_KINDS]
    partials = _noted(notes_folder(site.scratch, checks), plan, by_row)
    before = (state.record.get("check_partials") or {}) if state else {}
    files = _kept_files(plan, state)
    for label in plan.reused:
        known = before.get(label, {})
        missing = [check for check in by_row if check.id not in known]
        partials[label] = {check.id: known[check.id] for check in by_row if check.id in known}
        if missing:
            partials[label].update(_from_files(site, plan, files.get(label, []), missing))
    results = []
    urls = [join(site.table_url(plan.table.name), f.path) for fs in files.values() for f in fs]
    urls += [join(site.table_url(plan.table.name), staged.path) for _, staged in new]
    for check in checks:
        if check.spec.kind == "unique":
            parts = [_unique_over(urls, check)]
        elif check.spec.kind == "drift":
            from featureflow.execute.drift import judge_drift

            results.append(judge_drift(check, plan, state, urls, site))
            continue
        else:
            parts = [CheckPartial.from_json(part[check.id]) for part in partials.values() if check.id in part]
        results.append(check.judge(parts, now_us))
    return results, partials


def _noted(folder: str, plan: TablePlan, checks: list[BoundCheck]) -> Partials:
    """What the tasks of this build found, by slice."""
    from featureflow.library.checks.evaluate import merge

    found: Partials = {}
    for part in plan.missing:
        notes = []
        for bucket in range(plan.n_buckets):
            with open(note_path(folder, Unit(part, plan.slices[part]), bucket), encoding="utf-8") as file:
                notes.append(json.load(file))
        found[part.label] = {
            check.id: merge([CheckPartial.from_json(note[check.id]) for note in notes]).to_json()
            for check in checks
        }
    return found


def _kept_files(plan: TablePlan, state: TableState | None) -> dict[str, list[StagedFile]]:
    files: dict[str, list[StagedFile]] = {label: [] for label in plan.reused}
    for (label, _), staged in state.units.items() if state else ():
        name = slice_label(label, plan.table.partition)
        if name in files:
            files[name].append(staged)
    return files


def _from_files(
    site: Site, plan: TablePlan, files: list[StagedFile], checks: list[BoundCheck]
) -> dict[str, Any]:
    """Evaluate checks that are new on files that are not."""
    from featureflow.library.checks.evaluate import merge

    frames = [_read(join(site.table_url(plan.table.name), staged.path)) for staged in files]
    empty = pl.DataFrame(pa.Table.from_batches([], plan.table.schema))
    return {
        check.id: merge([check.partial(frame, plan.table.time) for frame in (frames or [empty])]).to_json()
        for check in checks
    }


def _read(url: str) -> pl.DataFrame:
    source: Any = url if is_local(url) else pa.BufferReader(read_bytes(url))
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        return pl.DataFrame(file.read())


def _unique_over(urls: list[str], check: BoundCheck) -> CheckPartial:
    """Count rows that repeat another one over all files; a null never equals another."""
    names = list(check.columns())
    if not urls:
        return CheckPartial()
    rows = pl.scan_parquet(urls, hive_partitioning=False).select(names)
    counted = rows.drop_nulls().group_by(names).len().filter(pl.col("len") > 1)
    total, repeated = pl.collect_all([rows.select(pl.len()), counted.sort(names)], engine="streaming")
    bad = int((repeated["len"] - 1).sum()) if repeated.height else 0
    sample = tuple(", ".join(str(value) for value in row[:-1]) for row in repeated.head(5).iter_rows())
    return CheckPartial(int(total.item()), bad, sample)


def judge_source(
    site: Site, name: str, readable: Readable, checks: tuple[BoundCheck, ...], now_us: int
) -> list[CheckResult]:
    """Judge a source's checks over all of its chunks; what was found of a chunk is kept on scratch."""
    by_row = tuple(check for check in checks if check.spec.kind not in WHOLE_KINDS)
    parts: list[dict[str, Any]] = []
    folder = os.path.join(site.scratch, "checks")
    stage = f"{name}: check"
    site.progress.stage(stage, len(readable.chunks))
    tasks = []
    for chunk in readable.chunks:
        note = os.path.join(
            folder,
            f"{fingerprint([chunk.id, [check.id for check in by_row], [c.quarantines for c in by_row]])}.json",
        )
        side = join(site.store_url, "_ff", "quarantine", name, f"{chunk.id}.parquet")
        tasks.append(
            Task(note, check_chunk, (unchecked(readable), chunk, by_row, note, side), f"{stage} {chunk.id}")
        )

    def done(_: Task, found: dict[str, Any]) -> None:
        parts.append(found)
        site.progress.advance(stage)

    if by_row:
        run_tasks(site.executor, tasks, done)
    results = []
    for check in checks:
        if check.spec.kind == "unique":
            found = repeated_rows(site.executor, readable, check.columns(), site.scratch, site.progress)
            total = sum(chunk.rows for chunk in readable.chunks)
            results.append(check.judge([CheckPartial(total, sum(len(one.row) for one in found))], now_us))
        else:
            results.append(check.judge([CheckPartial.from_json(part[check.id]) for part in parts], now_us))
    return results


def check_chunk(
    readable: Readable, chunk: Chunk, checks: tuple[BoundCheck, ...], note: str, quarantine: str
) -> dict[str, Any]:
    """Evaluate a source's checks on one chunk; rows for quarantine go to a side file."""
    if os.path.exists(note):
        with open(note, encoding="utf-8") as file:
            return json.load(file)  # type: ignore[no-any-return]
    source = readable.input
    needed = [name for check in checks for name in check.columns_read(source.columns)]
    whole = any(check.quarantines or check.spec.kind == "schema" for check in checks)
    if source.time is not None:
        needed.append(source.time)
    columns = tuple(source.columns) if whole else tuple(dict.fromkeys(needed)) or tuple(source.columns)[:1]
    frame = readable.reader.read(chunk, columns)
    found = {check.id: check.partial(frame, source.time).to_json() for check in checks}
    failing = pl.Series([False]).new_from_index(0, frame.height)
    for check in checks:
        if check.quarantines:
            failing = failing | check.bad(frame)
    if failing.any():
        write_quarantine(frame.filter(failing).to_arrow(compat_level=pl.CompatLevel.oldest()), quarantine)
    write_atomic(note, json.dumps(found).encode(), durable=False)
    return found
