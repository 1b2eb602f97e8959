"""Checks that everything of a version is there and is what was written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from featureflow.core import storage
from featureflow.core.errors import CorruptionError
from featureflow.tables import versions
from featureflow.tables.parquet_files import StagedFile
from featureflow.tables.reading import Scan
from featureflow.tables.references import resolve
from featureflow.tables.state import TableState, read_state
from featureflow.tables.statistics import table_statistics


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and every problem found; fine if there is none.

    Of a grid ``chunks`` counts those that were looked at, with ``deep`` read, and ``chunk_bytes`` their values.
    """

    version: int
    deep: bool
    files: int
    bytes: int
    problems: tuple[str, ...]
    chunks: int = 0
    chunk_bytes: int = 0


def verify(table_url: str, name: str, which: str = "latest", *, deep: bool = False) -> Verified:
    """Check a version and report all problems, not only the first.

    Parameters
    ----------
    deep
        Also read every byte: page checksums, footer digests, row counts, and that the column statistics computed
        from the rows are those of the record; of a grid also every chunk's digest. Without it: the record's digests,
        that each file has its size, and that each chunk of a grid is there.

    Raises
    ------
    TableError
        If there is no such version.

    Notes
    -----
    Cost: one status call a file; deep, a full read.
    """
    info = resolve(table_url, name, which)
    try:
        state = read_state(table_url, info)
    except CorruptionError as error:
        return Verified(info.version, deep, 0, 0, (str(error),))
    problems = list(_listing(table_url, state))
    with ThreadPoolExecutor(8) as pool:
        problems += [p for p in pool.map(lambda f: _problem(table_url, state, f, deep), state.files) if p]
    chunks = chunk_bytes = 0
    if state.record.get("arrays") and not problems:  # whose rows say where each chunk is, and its digest
        from featureflow.tables.arrays_verify import verify_arrays
        from featureflow.tables.table import Table

        rows = Table(name, table_url, state).to_arrow()
        problems += verify_arrays(table_url, state.version, state.record, rows, deep=deep)
        chunks, chunk_bytes = rows.num_rows, sum(rows.column("bytes").to_pylist())
    files = sum(file.size for file in state.files)
    return Verified(info.version, deep, len(state.files), files, tuple(problems), chunks, chunk_bytes)


def _listing(table_url: str, state: TableState) -> Iterator[str]:
    """Contradictions between the record, its list of files and the Delta commit."""
    rows = sum(file.rows for file in state.files)
    if rows != state.info.rows:
        yield f"{table_url}: the record lists {rows} rows, the commit says {state.info.rows}."
    head = versions.head(table_url)
    if head and head.foreign:
        yield f"{table_url}: commits {head.foreign} of the Delta log change the table and are not featureflow's."


def _problem(table_url: str, state: TableState, file: StagedFile, deep: bool) -> str | None:
    where = storage.join(table_url, file.path)
    try:
        size = storage.size_of(where)
    except FileNotFoundError:
        return f"{where}: is missing."
    except OSError as error:
        return f"{where}: can't be looked at: {error}."
    if size != file.size:
        return f"{where}: has {size} bytes instead of {file.size}."
    return _content_problem(table_url, state, file) if deep else None


def _content_problem(table_url: str, state: TableState, file: StagedFile) -> str | None:
    scan = Scan(table_url, state.schema, state.partition, state.partition_column, (file,))
    try:
        table = scan.read(file, state.schema.names)
    except CorruptionError as error:
        return str(error)
    found = json.loads(json.dumps(table_statistics(table)))
    wrong = [name for name, stats in file.columns.items() if found.get(name) != stats]
    where = storage.join(table_url, file.path)
    return f"{where}: columns {wrong} do not have the statistics that were recorded." if wrong else None
