"""Grids of zones as what tables and datasets read: rows in Parquet files, and parts of them by name and time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from featureflow.contracts.cube import Cube, slices_of
from featureflow.core.errors import TableError
from featureflow.core.fingerprints import fingerprint
from featureflow.execute.exchange.exchange_file import Chunk
from featureflow.execute.grids.naming import digest
from featureflow.execute.grids.stored import GridCube
from featureflow.execute.inputs import Readable, TableChunks
from featureflow.execute.stages import Piece
from featureflow.plan.grid_nodes import CompiledGrid, RowShape
from featureflow.plan.zone_rows import zone_input
from featureflow.tables.parquet_files import StagedFile


def zone_pieces(cube: GridCube, shape: RowShape) -> list[Piece]:
    """Parts of a grid of zones by name, and the times that they reach: what tables behind it are planned with.

    A part is named by its values and its labels: other times of the same values are other rows.
    """
    found = []
    for piece in cube.pieces():
        part = cube.outline.isel(slices_of(piece.region), missing_dims="ignore")
        labels = [[str(name), digest(one.values)] for name, one in sorted(part.coords.items(), key=str)]
        rows = int(np.prod([high - low for low, high in piece.region.values()], dtype=np.int64))
        times = [] if shape.time is None else _microseconds(part[shape.time].values)
        low, high = (min(times), max(times)) if times else (0, 0)
        if rows:
            found.append(Piece(fingerprint([piece.id, labels]), low, high, 0, rows, piece.size))
    return found


def zone_rows(grid: CompiledGrid, shape: RowShape, url: str, files: Iterable[StagedFile]) -> Readable:
    """Take the files of a version of a grid of zones as chunks."""
    times = [] if shape.time is None else _microseconds(grid.outline[shape.time].values)
    low, high = (min(times), max(times)) if times else (0, 0)
    chunks = tuple(
        Chunk(
            file=staged.path,
            row_groups=None,
            rows=staged.rows,
            size=staged.size,
            min_us=low,
            max_us=high,
            null_times=0,
            id=staged.path,
        )
        for staged in files
    )
    reader = TableChunks(fingerprint([grid.name, url]), url)
    return Readable(zone_input(grid, shape), reader, chunks, [], last_us=high if times else None)


def tabular(found: Readable | Cube) -> Readable:
    """An input as rows.

    Raises
    ------
    TableError
        If it is a grid without rows.
    """
    if isinstance(found, GridCube) and isinstance(found.table, Readable):
        return found.table
    if not isinstance(found, Readable):
        raise TableError("a grid was given where rows are needed. This is a mistake in featureflow.")
    return found


def gridded(found: Readable | Cube) -> Cube:
    """An input as arrays, with only what tasks need of it.

    Raises
    ------
    TableError
        If it is rows.
    """
    if isinstance(found, Readable):
        raise TableError("rows were given where a grid is needed. This is a mistake in featureflow.")
    return found.for_tasks() if isinstance(found, GridCube) else found


def _microseconds(times: np.ndarray) -> list[int]:
    found: list[int] = times.astype("M8[us]").astype(np.int64).tolist()
    return found
