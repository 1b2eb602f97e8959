"""Verdicts on checks before the commit: from notes of tasks, from notes of the version before, or from the files."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from featureflow.contracts.check import CheckPartial, CheckResult
from featureflow.core.expressions import compile_condition
from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import delete, join, list_names
from featureflow.execute.checks.checking import BoundCheck, failing_rows, findings, noted, notes_folder
from featureflow.execute.checks.stored_rows import read_rows, scan_rows
from featureflow.execute.checks.uniqueness import repeated_rows
from featureflow.execute.exchange.exchange_file import ROW, Chunk, read_positions
from featureflow.execute.exchange.ranges import read_all
from featureflow.execute.exchange.rekeying import file_of, reads_of
from featureflow.execute.inputs import Readable, only_where, unchecked
from featureflow.execute.publish import slice_label
from featureflow.execute.site import Site
from featureflow.execute.stages import TablePlan
from featureflow.execute.task import Task
from featureflow.execute.windows.run import Unit
from featureflow.execute.windows.window_task import note_path, write_quarantine
from featureflow.library.checks.evaluate import merge
from featureflow.plan.columns import as_input
from featureflow.plan.nodes import Input
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
    root: str | None = None,
) -> tuple[list[CheckResult], Partials]:
    """Judge a table's checks over all slices of the new version; ``root`` is where it is, if not among the tables.

    Returns
    -------
    tuple
        The verdicts, and the partial results by slice and check, to be kept in the record for the next build.
    """
    if not checks:
        return [], {}
    root = root or site.table_url(plan.table.name)
    by_row = [check for check in checks if not check.whole]
    partials = _noted(notes_folder(site.board, checks), plan, by_row)
    before = (state.record.get("check_partials") or {}) if state else {}
    files = _kept_files(plan, state)
    for label in plan.reused:
        known = before.get(label, {})
        missing = [check for check in by_row if check.id not in known]
        partials[label] = {check.id: known[check.id] for check in by_row if check.id in known}
        if missing:
            partials[label].update(_from_files(site, plan, files.get(label, []), missing, root))
    urls = [join(root, staged.path) for kept in files.values() for staged in kept]
    urls += [join(root, staged.path) for _, staged in new]
    results = []
    for check in checks:
        if check.spec.kind == "drift":
            from featureflow.execute.checks.drift import judge_drift

            results.append(judge_drift(check, plan, state, urls, site))
        elif check.whole:
            results.append(check.judge([_unique_over(site, urls, check)], now_us))
        else:
            parts = [CheckPartial.from_json(part[check.id]) for part in partials.values() if check.id in part]
            results.append(check.judge([*parts, _of_nothing(check, as_input(plan.table))], now_us))
    return results, partials


def refuse_unknown_references(
    plan: TablePlan, state: TableState | None, checks: tuple[BoundCheck, ...], url: str
) -> None:
    """Raise for a ``drift`` check against a version that is not there, before anything is computed for it."""
    from featureflow.execute.checks.drift import reference_of

    for check in checks:
        if check.spec.kind == "drift":
            reference_of(check, plan.table.name, url, state, set())


def _of_nothing(check: BoundCheck, found: Input) -> CheckPartial:
    """A partial result of no rows: what ``schema`` looks at is there without any."""
    if check.spec.kind == "schema":
        return check.partial(pl.DataFrame(schema=found.columns), found.time)
    return CheckPartial()


def _noted(folder: str, plan: TablePlan, checks: list[BoundCheck]) -> Partials:
    """What the tasks of this build found, by slice."""
    found: Partials = {}
    paths = [
        note_path(folder, Unit(part, plan.slices[part]), bucket)
        for part in plan.missing
        for bucket in range(plan.n_buckets)
    ]
    texts = iter(read_all(paths))
    for part in plan.missing:
        notes = [json.loads(next(texts)) for _ in range(plan.n_buckets)]
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
    site: Site, plan: TablePlan, files: list[StagedFile], checks: list[BoundCheck], root: str
) -> dict[str, Any]:
    """Evaluate checks that are new on files that are not; what is found is kept."""
    schema, time = plan.table.schema, plan.table.time
    # a check looks at no map, and Polars has none
    plain = [field.name for field in schema if not pa.types.is_map(field.type)]

    def find() -> dict[str, Any]:
        frames = [read_rows(join(root, staged.path), plain) for staged in files]
        if not frames:
            frames = [pl.DataFrame(pa.Table.from_batches([], schema).select(plain))]
        return {
            check.id: merge([check.partial(frame, time) for frame in frames]).to_json() for check in checks
        }

    name = fingerprint([root, [staged.path for staged in files], [check.id for check in checks]])
    return noted(join(site.board, "checks", f"{name}.json"), find)


def _unique_over(site: Site, urls: list[str], check: BoundCheck) -> CheckPartial:
    """Count rows that repeat another one over all files; a null never equals another."""
    name = fingerprint([sorted(urls), check.id])
    path = join(site.board, "checks", f"{name}.json")
    return CheckPartial.from_json(noted(path, lambda: _repeated(urls, check).to_json()))


def _repeated(urls: list[str], check: BoundCheck) -> CheckPartial:
    names = list(check.columns())
    if not urls:
        return CheckPartial()
    rows = scan_rows(urls, names) if check.where is None else _where_true(urls, names, check.where).lazy()
    counted = rows.drop_nulls().group_by(names).len().filter(pl.col("len") > 1)
    total, repeated = pl.collect_all([rows.select(pl.len()), counted.sort(names)], engine="streaming")
    bad = int((repeated["len"] - 1).sum()) if repeated.height else 0
    sample = tuple(", ".join(str(value) for value in row[:-1]) for row in repeated.head(5).iter_rows())
    return CheckPartial(int(total.item()), bad, sample)


def _where_true(urls: list[str], names: list[str], where: str) -> pl.DataFrame:
    """Some columns of the rows for which a condition is true."""
    parts = []
    for url in urls:
        frame = read_rows(url)
        parts.append(frame.filter(compile_condition(where, frame.schema).mask(frame)).select(names))
    return pl.concat(parts)


def judge_source(
    site: Site, name: str, readable: Readable, checks: tuple[BoundCheck, ...], now_us: int
) -> list[CheckResult]:
    """Judge a source's checks over all of its chunks, and write the rows that go to quarantine.

    What was found of a chunk is kept. Side files of chunks that are not in the source any more are deleted.
    """
    folder = join(site.store_url, "_ff", "quarantine", name)
    parts = _look_at_chunks(site, name, readable, checks, folder)
    _keep_only(folder, {chunk.id for chunk in readable.chunks})
    results = []
    for check in checks:
        if check.whole:
            columns = check.columns()
            source = readable if check.where is None else only_where(readable, check.where)
            found, rows = repeated_rows(site, source, columns)
            partials = [CheckPartial(rows, sum(len(one.row) for one in found))]
        else:
            partials = [CheckPartial.from_json(part[check.id]) for part in parts]
        results.append(check.judge([*partials, _of_nothing(check, readable.input)], now_us))
    return results


def _look_at_chunks(
    site: Site, name: str, readable: Readable, checks: tuple[BoundCheck, ...], folder: str
) -> list[dict[str, Any]]:
    by_row = tuple(check for check in checks if not check.whole)
    if not by_row:
        return []
    parts: list[dict[str, Any]] = []
    stage = f"{name}: check"
    site.progress.stage(stage, len(readable.chunks))
    # every task gets it: the list of all chunks stays here
    raw = replace(unchecked(readable), chunks=(), files=[], drops={}, repeated={})
    ids = sorted(check.id for check in by_row)
    tasks = []
    for chunk in readable.chunks:
        dropped = readable.drops.get(chunk.id)
        aside = {check: paths[chunk.id] for check, paths in readable.repeated.items() if chunk.id in paths}
        side = join(folder, f"{chunk.id}.parquet")
        content = [chunk.id, ids, dropped and dropped.rpartition("/")[2], sorted(aside), side]
        note = join(site.board, "checks", f"{fingerprint(content)}.json")
        work = ChunkChecks(raw, chunk, by_row, note, side, dropped, aside)
        label = f"{stage}, {file_of(chunk)}"
        tasks.append(Task(note, check_chunk, (work,), label, reads_of(readable, chunk)))

    def done(_: Task, found: dict[str, Any]) -> None:
        parts.append(found)
        site.progress.advance(stage)

    site.run(tasks, done)
    return parts


def forget_old_quarantine(plan: TablePlan, url: str) -> None:
    """Delete the side files of slices that a table's new version has no more: their rows are in later ones."""
    _keep_only(join(url, "_ff", "quarantine"), set(plan.slices.values()))


def _keep_only(folder: str, fingerprints: set[str]) -> None:
    for name in list_names(folder):
        if name.removesuffix(".parquet").rpartition("-")[2] not in fingerprints:
            delete(join(folder, name))


@dataclass(frozen=True, slots=True)
class ChunkChecks:
    """Checks to evaluate on one chunk of a source.

    ``dropped`` lists all rows that are not read because they repeat others; ``aside``, by ``unique`` check, those of
    them that belong into the side file.
    """

    readable: Readable
    chunk: Chunk
    checks: tuple[BoundCheck, ...]
    note: str
    side: str
    dropped: str | None
    aside: dict[str, str]


def check_chunk(work: ChunkChecks) -> dict[str, Any]:
    """Evaluate a source's checks on one chunk; rows for quarantine go to a side file."""
    return noted(work.note, lambda: _check_chunk(work))


def _check_chunk(work: ChunkChecks) -> dict[str, Any]:
    source = work.readable.input
    frame = work.readable.reader.read(work.chunk, _columns_read(work, source), row_position=ROW)
    row = frame[ROW].to_numpy()
    repeated = {check: np.isin(row, read_positions(path)) for check, path in work.aside.items()}
    put_aside = np.logical_or.reduce([np.zeros(len(row), np.bool_), *repeated.values()])
    if work.dropped is not None:
        kept = ~np.isin(row, read_positions(work.dropped)) | put_aside
        frame, put_aside = frame.filter(pl.Series(kept)), put_aside[kept]
        repeated = {check: rows[kept] for check, rows in repeated.items()}
    others = tuple(check for check in work.checks if check.spec.kind != "unique")
    failing = failing_rows(others, frame).to_numpy() | put_aside
    found = findings(others, frame, pl.Series(failing), source.time)
    for check in work.checks:
        if check.spec.kind == "unique":
            found[check.id] = CheckPartial(
                frame.height, int(repeated.get(check.id, put_aside[:0]).sum())
            ).to_json()
    if failing.any():
        aside = frame.filter(pl.Series(failing)).drop(ROW)
        write_quarantine(aside.to_arrow(compat_level=pl.CompatLevel.oldest()), work.side)
    else:
        delete(work.side)
    return found


def _columns_read(work: ChunkChecks, source: Input) -> tuple[str, ...]:
    if any(check.quarantines or check.spec.kind == "schema" for check in work.checks):
        return tuple(source.columns)
    needed = [name for check in work.checks for name in check.columns_read(source.columns)]
    if source.time is not None:
        needed.append(source.time)
    return tuple(dict.fromkeys(needed)) or tuple(source.columns)[:1]
