"""Output rows of the pieces of a run, by unit, on scratch until the file of each unit can be written."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.meter import spent
from featureflow.execute.sorted_runs import write_arrow
from featureflow.execute.window_task import Run, Written, split_units, sum_of, write_unit


class Spool:
    """Output rows of the pieces by unit, on scratch."""

    def __init__(self, run: Run, folder: str) -> None:
        self._run, self._folder = run, folder
        self._paths: list[str] = []

    def add(self, columns: list[pa.Array], times: NDArray[np.int64]) -> None:
        """Put the rows of a piece behind those before; ``columns`` is emptied."""
        parts = split_units(self._run, columns, times)
        path = os.path.join(self._folder, f"output-{len(self._paths)}.arrow")
        batches = [(part.combine_chunks().to_batches() or [_empty_batch(part.schema)])[0] for part in parts]
        del parts
        write_arrow(path, batches, batches[0].schema)
        self._paths.append(path)

    def write(self) -> Written:
        """Write the file of each unit."""
        written = []
        for number, unit in enumerate(self._run.units):
            with spent("spill"):
                batches = [_batch(path, number) for path in self._paths]
                made = pa.Table.from_batches(batches, self._run.table.schema).combine_chunks()
                del batches
            written.append(write_unit(self._run, unit, made))
            del made
        return sum_of(written)


def _empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)


def _batch(path: str, number: int) -> pa.RecordBatch:
    with pa.memory_map(path) as file, pa.ipc.open_file(file) as reader:
        return reader.get_batch(number)
