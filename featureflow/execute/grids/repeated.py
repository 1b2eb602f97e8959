"""Whether what a build made anew is what is published already: then there is no new version (spec section 9)."""

from __future__ import annotations

from collections.abc import Iterable

from featureflow.core.storage import join
from featureflow.execute.checks.stored_rows import read_rows
from featureflow.execute.grids.chunk_rows import ChunkRow, rows_of
from featureflow.tables.arrays_verify import verify_arrays
from featureflow.tables.state import TableState


def is_published(url: str, state: TableState | None, mark: str, rows: Iterable[ChunkRow]) -> bool:
    """Compare names and values of all chunks with those of the current version, and look whether that can be read.

    Parameters
    ----------
    url
        Of the table.
    state
        The current version, if there is one.
    mark
        Name of all that is not in chunks: dimensions, coordinates, attributes.
    rows
        What was made: every chunk of every variable.

    Notes
    -----
    Cost: where all is the same, the arrays are read once. Damaged ones don't count: the new version takes their place.
    """
    arrays = (state.record.get("arrays") or {}) if state else {}
    if state is None or arrays.get("mark") != mark:
        return False
    tables = [read_rows(join(url, staged.path)).to_arrow() for staged in state.files]
    before = (row for table in tables for row in rows_of(table, list(arrays["dims"])))
    if _values(before) != _values(rows):
        return False
    return not any(
        problem
        for table in tables
        for problem in verify_arrays(url, state.version, state.record, table, deep=True)
    )


def _values(rows: Iterable[ChunkRow]) -> set[tuple[str, tuple[int, ...], str, str]]:
    return {(row.variable, row.chunk, row.fingerprint, row.digest) for row in rows}
