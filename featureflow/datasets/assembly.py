"""Put a piece of a dataset together: the spine's rows, the answers of every join, derived columns and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from featureflow.core.errors import ComputeError
from featureflow.core.meter import spending
from featureflow.datasets.joins import piece_answers
from featureflow.datasets.spine import SpineFile, spine_rows
from featureflow.execute.exchange.manifest import read_list
from featureflow.execute.windows.arrays import as_stored
from featureflow.execute.windows.derive import derive_columns
from featureflow.execute.windows.sorted_rows import column
from featureflow.plan.dataset_nodes import CompiledDataset, LabelNode, Use


@dataclass(frozen=True, slots=True)
class Assembly:
    """What all pieces of a dataset are made from.

    Parameters
    ----------
    spine
        List of the spine's files: path, number of the first row, rows.
    answers
        For each of ``dataset.joins`` the list of its answer files.
    piece_rows, rows
        Rows of a piece (the last one has fewer), and of the whole.
    """

    dataset: CompiledDataset
    spine: str
    answers: tuple[str, ...]
    piece_rows: int
    rows: int

    @property
    def n_pieces(self) -> int:
        """How many pieces there are; at least one, so that there is a file that has the columns."""
        return max(1, -(-self.rows // self.piece_rows))

    def range(self, piece: int) -> tuple[int, int]:
        """First and one past the last row of a piece."""
        return piece * self.piece_rows, min(self.rows, (piece + 1) * self.piece_rows)


@spending("compute:assemble")
def assemble(job: Assembly, piece: int) -> pa.Table:
    """Rows of one piece, in the spine's order, with ``dataset.schema``.

    Raises
    ------
    ComputeError
        If a join lost or doubled a row, or a value does not fit its stored type.
    """
    dataset, (start, stop) = job.dataset, job.range(piece)
    files = tuple(SpineFile(*row) for row in read_list(job.spine))
    spine = spine_rows(files, start, stop).combine_chunks()
    if spine.num_rows != stop - start:
        raise ComputeError(f"the spine has {spine.num_rows} rows from {start} instead of {stop - start}.")
    answers = iter([piece_answers(paths, piece, start, stop - start) for paths in job.answers])
    table = spine.select([name for name in dataset.schema.names if name in dataset.carried])
    for use in dataset.uses:
        windows = next(answers) if use.windows else None
        looked_up = [next(answers) for _ in use.lookups]
        table = _append(table, _features(use, spine, windows, looked_up))
    for _ in dataset.lookups:
        table = _append(table, next(answers))
    table = derive_columns(table, dataset.derived)
    for label in dataset.labels:
        table = _with_label(table, spine, label, next(answers) if label.windows else None)
    return pa.table(
        [as_stored(column(table, field.name), field) for field in dataset.schema], schema=dataset.schema
    )


def _append(table: pa.Table, more: pa.Table) -> pa.Table:
    for name in more.schema.names:
        table = table.append_column(name, more.column(name))
    return table


def _features(use: Use, spine: pa.Table, windows: pa.Table | None, looked_up: list[pa.Table]) -> pa.Table:
    """Columns of one used table, computed in its own namespace and given their final names."""
    rows = spine.num_rows
    local = pa.table({name: column(spine, origin) for name, origin in use.carried})
    for found in ([windows] if windows is not None else []) + looked_up:
        local = _append(local, found) if local.num_columns else found
    if use.derived:
        if not local.num_columns:  # constants: an expression of no column
            local = pa.table({"__row": pa.array(np.arange(rows))})
        local = derive_columns(local, use.derived)
    return pa.table(
        [column(local, name) for name, _ in use.outputs], names=[final for _, final in use.outputs]
    )


def _with_label(table: pa.Table, spine: pa.Table, label: LabelNode, found: pa.Table | None) -> pa.Table:
    if found is not None:
        values = column(found, label.name)
    elif label.column in table.schema.names:
        values = column(table, label.column or "")
    else:
        values = column(spine, label.column or "")
    if label.derived is not None:
        hidden = [name for name in table.schema.names if name != label.name]
        seen = table.select(hidden).append_column(label.name, values)
        # the expression takes the raw value by the label's name and gives the final one under that name
        made = derive_columns(seen, (replace(label.derived, name="__label"),))
        values = column(made, "__label")
    return table if label.name in table.schema.names else table.append_column(label.name, values)
