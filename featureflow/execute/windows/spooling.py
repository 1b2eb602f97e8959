"""Output rows of the pieces of a run, by unit, on scratch until the file of each unit can be written."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError
from featureflow.core.meter import spent
from featureflow.execute.sizing import MARGIN
from featureflow.execute.windows.gathering import room_of
from featureflow.execute.windows.run import Run, Unit, Written
from featureflow.execute.windows.sorted_runs import write_arrow
from featureflow.execute.windows.window_task import split_units, sum_of, unit_path, write_unit
from featureflow.tables.parquet_files import ROW_GROUP_ROWS, write_in_groups


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
        """Write the file of each unit.

        Raises
        ------
        ComputeError
            If a unit has checks, or a single column, that memory can't hold.
        """
        return sum_of([self._write_unit(number, unit) for number, unit in enumerate(self._run.units)])

    def _write_unit(self, number: int, unit: Unit) -> Written:
        run, room = self._run, room_of(self._run)
        sizes = [_sizes(path, number) for path in self._paths]
        rows, n_bytes = sum(size[0] for size in sizes), sum(size[1] for size in sizes)
        if MARGIN * 2 * n_bytes <= room.task_bytes:
            with spent("spill"):
                batches = [_batch(path, number) for path in self._paths]
                made = pa.Table.from_batches(batches, run.table.schema).combine_chunks()
                del batches
            return write_unit(run, unit, made)
        widest = 2 * n_bytes if run.checks else 2 * max(self._column_bytes(number))
        if widest > room.task_bytes:
            what = "its checks must see all of them at once" if run.checks else "one column alone is too much"
            raise ComputeError(
                f"features.{run.table.name}: slice {unit.slice.label} has {rows:,} rows in bucket {run.bucket}, and "
                f"{what}: {widest / 1e9:.2f} GB; a task may use {room.task_bytes / 1e9:.2f} GB. Raise --memory, or use "
                "a smaller `partition:`."
            )
        file = write_in_groups(
            run.table.schema,
            rows,
            lambda name: self._column(number, name),
            self._groups(number),
            run.table_url,
            unit_path(run.table, unit, run.bucket),
            keys=list(run.table.keys),
            time=run.table.time,
        )
        return Written(rows, 0, (file,))

    def _column_bytes(self, number: int) -> list[int]:
        """Bytes of each column of a unit."""
        widths = np.zeros(len(self._run.table.schema), np.int64)
        for path in self._paths:
            widths += [column.nbytes for column in _batch(path, number).columns]
        return widths.tolist()

    def _column(self, number: int, name: str) -> pa.Array:
        """A column of a unit, file by file: what is mapped for one is let go before the next."""
        with spent("spill"):
            return pa.concat_arrays([_copied(_batch(path, number).column(name)) for path in self._paths])

    def _groups(self, number: int) -> Iterator[pa.Table]:
        """Rows of a unit, as many at a time as a row group has."""
        schema = self._run.table.schema
        held: list[pa.Table] = []
        n = 0
        for path in self._paths:
            table = pa.Table.from_batches([_batch(path, number)], schema)
            start = 0
            while n + table.num_rows - start >= ROW_GROUP_ROWS:
                part = table.slice(start, ROW_GROUP_ROWS - n)
                yield pa.concat_tables([*held, part]).combine_chunks()
                start += part.num_rows
                held, n = [], 0
            if start < table.num_rows:
                held.append(table.slice(start))
                n += table.num_rows - start
        if n:
            yield pa.concat_tables(held).combine_chunks()


def _copied(array: pa.Array) -> pa.Array:
    """The same values in memory of their own."""
    return array.take(pa.array(np.arange(len(array))))


def _sizes(path: str, number: int) -> tuple[int, int]:
    batch = _batch(path, number)
    return batch.num_rows, batch.nbytes


def _empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)


def _batch(path: str, number: int) -> pa.RecordBatch:
    with pa.memory_map(path) as file, pa.ipc.open_file(file) as reader:
        return reader.get_batch(number)
