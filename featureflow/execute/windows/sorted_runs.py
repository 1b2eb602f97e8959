"""Rows of a bucket that memory can't hold at once: sorted in runs on scratch, cut into pieces, read back by piece.

An external sort without a merge: each run is sorted by keys and time, so the rows of a range of keys (or of a range of
times of one key) are one stretch of each run. A piece is these stretches together, and is sorted again in memory. Cuts
lie between keys; inside a key only where it alone is too much, and then between two times, so that rows that tie are
never parted and a piece sorts as the whole would.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featureflow.core.meter import moved, spent
from featureflow.execute.exchange.disk_space import write_error
from featureflow.execute.windows.keycodes import encode
from featureflow.execute.windows.sorted_rows import NO_TIME, column, microseconds, sort_rows
from featureflow.kernels.gather import take_rows

#: Rows of a record batch in a run: what is read from a disk for a stretch of rows is rounded up to these.
BATCH_ROWS = 16_384
#: A cut is looked for among so many rows for each piece and run.
SAMPLES = 8

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of a piece: from ``first`` up to ``end`` in each run; ``keys`` counts keys of all runs together at most."""

    first: Positions
    end: Positions
    keys: int
    one_key: bool = False

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int((self.end - self.first).sum())


@dataclass(frozen=True, slots=True)
class _Run:
    """A sorted file: rows without a key or a time, then the events; and where each key's events end."""

    path: str
    rows: int
    apart: int
    keys: str


class SortedRuns:
    """Sorted runs in a folder on scratch.

    Parameters
    ----------
    folder
        Where the files go; its owner removes it.
    keys, time
        Columns of the rows.
    aside
        Columns that break no tie.
    """

    def __init__(
        self, folder: str, keys: tuple[str, ...], time: str | None, aside: tuple[str, ...] = ()
    ) -> None:
        self._folder, self._keys, self._time, self._aside = folder, keys, time, aside
        self._runs: list[_Run] = []
        self._schema: pa.Schema | None = None
        self.bytes = 0

    def add(self, table: pa.Table) -> None:
        """Sort rows and write them as a run.

        Raises
        ------
        ComputeError
            If the disk is full.
        """
        if self._schema is None:
            self._schema = table.schema
        if table.num_rows == 0:
            return
        rows = sort_rows(table, self._keys, self._time, aside=self._aside)
        ends = rows.offsets[1:]
        firsts = rows.offsets[:-1] + rows.n_apart
        keys = take_rows(rows.table.select(list(dict.fromkeys(self._keys))), firsts)
        directory = keys.append_column(_ENDS, pa.array(ends))
        path = os.path.join(self._folder, f"run-{len(self._runs)}.arrow")
        self.bytes += write_arrow(path, rows.table.to_batches(max_chunksize=BATCH_ROWS), rows.table.schema)
        write_arrow(f"{path}.keys", directory.to_batches(), directory.schema)
        self._runs.append(_Run(path, rows.table.num_rows, rows.n_apart, f"{path}.keys"))

    @property
    def is_empty(self) -> bool:
        """Whether there is no run yet."""
        return not self._runs

    @property
    def apart(self) -> Stretch:
        """Rows without a key or a time."""
        none = np.zeros(len(self._runs), np.int64)
        return Stretch(none, np.array([run.apart for run in self._runs], np.int64), 0, True)

    def read(self, stretch: Stretch) -> pa.Table:
        """Rows of a stretch, run by run; copied."""
        tables = []
        with spent("spill"):
            for run, first, end in self._with(stretch):
                batches = _batches(run.path, first, end, None)
                tables += [pa.Table.from_batches(batches).combine_chunks()] if batches else []
            if not tables:
                return self._empty()
            found = pa.concat_tables(tables).combine_chunks()
        moved("spill", found.nbytes)
        return found

    def _empty(self) -> pa.Table:
        if self._schema is None:
            raise ValueError("rows are added before they are read")
        return self._schema.empty_table()

    def _with(self, stretch: Stretch) -> list[tuple[_Run, int, int]]:
        return list(zip(self._runs, stretch.first.tolist(), stretch.end.tolist(), strict=True))

    # ------------------------------------------------------------ cuts

    def by_key(self, piece_rows: int) -> list[Stretch]:
        """Cut the events between keys, finer than pieces of so many rows; a key with many rows stands alone."""
        if not self._runs:
            return []
        step = max(1, piece_rows // (SAMPLES * len(self._runs)))
        borders = self._borders(step)
        cuts, places = [self.apart.end], [np.zeros(len(self._runs), np.int64)]
        before_and_after = self._find(borders)
        for low, high, low_place, high_place in before_and_after:
            cuts += [low, high]
            places += [low_place, high_place]
        cuts.append(np.array([run.rows for run in self._runs], np.int64))
        places.append(np.array([_n_keys(run) for run in self._runs], np.int64))
        return [
            Stretch(first, end, int((places[i + 1] - places[i]).sum()), one_key=i % 2 == 1)
            for i, (first, end) in enumerate(pairwise(cuts))
            if (end > first).any()
        ]

    def _borders(self, step: int) -> pa.Table | None:
        """Keys in ascending order, each once: those in whose events a multiple of ``step`` is reached in some run."""
        picked = []
        for run in self._runs:
            directory = _directory(run)
            ends = column(directory, _ENDS).to_numpy()
            reached = np.flatnonzero(np.diff(ends // step, prepend=0))
            picked.append(take_rows(directory.drop_columns([_ENDS]), reached))
        borders = pa.concat_tables(picked).combine_chunks()
        if borders.num_rows == 0:
            return None
        codes, _, _ = encode([column(borders, key) for key in self._keys])
        _, first = np.unique(codes, return_index=True)
        return take_rows(borders, first)

    def _find(self, borders: pa.Table | None) -> list[tuple[Positions, Positions, Positions, Positions]]:
        """For each border, in each run: its first row and the one behind its last, and the same among the keys."""
        if borders is None:
            return []
        shape = (borders.num_rows, len(self._runs))
        low, high, low_place, high_place = (np.zeros(shape, np.int64) for _ in range(4))
        for number, run in enumerate(self._runs):
            directory = _directory(run)
            ends = np.concatenate(([0], column(directory, _ENDS).to_numpy())) + run.apart
            joined = [pa.concat_arrays([column(directory, key), column(borders, key)]) for key in self._keys]
            codes, _, _ = encode(joined)
            known, wanted = codes[: directory.num_rows], codes[directory.num_rows :]
            for side, place, row in (("left", low_place, low), ("right", high_place, high)):
                place[:, number] = np.searchsorted(known, wanted, side=side)  # type: ignore[call-overload]
                row[:, number] = ends[place[:, number]]
        return list(zip(low, high, low_place, high_place, strict=True))

    def by_time(
        self, stretch: Stretch, piece_rows: int, also: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], list[Stretch]]:
        """Cut the rows of one key (or of none) between times.

        ``also`` are times to cut at in any case.

        Returns
        -------
        tuple
            The time at which each part but the first begins, ascending; the parts, empty ones too.
        """
        step = max(1, piece_rows // (SAMPLES * max(1, len(self._runs))))
        samples = [np.empty(0, np.int64) if also is None else also]
        for run, first, end in self._with(stretch):
            samples.append(self._times(run, first, end)[step::step].copy())
        cuts = np.unique(np.concatenate(samples))
        cuts = cuts[cuts != NO_TIME]
        places = np.zeros((len(cuts) + 2, len(self._runs)), np.int64)
        places[0], places[-1] = stretch.first, stretch.end
        for number, (run, first, end) in enumerate(self._with(stretch)):
            places[1:-1, number] = first + np.searchsorted(self._times(run, first, end), cuts)
        return cuts, [Stretch(first, end, stretch.keys, one_key=True) for first, end in pairwise(places)]

    def _times(self, run: _Run, first: int, end: int) -> NDArray[np.int64]:
        """Times of some rows of a run, ascending."""
        if self._time is None:
            return np.zeros(end - first, np.int64)
        batches = _batches(run.path, first, end, [self._time])
        if not batches:
            return np.empty(0, np.int64)
        return microseconds(column(pa.Table.from_batches(batches), self._time))


_ENDS = "__ff_ends"


def _directory(run: _Run) -> pa.Table:
    with pa.memory_map(run.keys) as file, pa.ipc.open_file(file) as reader:
        return reader.read_all().combine_chunks()


def _n_keys(run: _Run) -> int:
    return int(_directory(run).num_rows)


def _batches(path: str, first: int, end: int, columns: list[str] | None) -> list[pa.RecordBatch]:
    """Rows of a run, mapped; only the pages of what is used are read."""
    if end <= first:
        return []
    with pa.memory_map(path) as file, pa.ipc.open_file(file) as reader:
        found = []
        for number in range(first // BATCH_ROWS, (end - 1) // BATCH_ROWS + 1):
            batch = reader.get_batch(number)
            batch = batch if columns is None else batch.select(columns)
            start = number * BATCH_ROWS
            low, high = max(first - start, 0), min(end - start, batch.num_rows)
            found.append(batch.slice(low, high - low))
        return found


def write_arrow(path: str, batches: list[pa.RecordBatch], schema: pa.Schema) -> int:
    """Write batches to a file of a folder on scratch; returns its bytes.

    Raises
    ------
    ComputeError
        If the disk is full; nothing of the file stays.
    """
    with spent("spill"):
        try:
            with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
        except OSError as error:
            if os.path.exists(path):
                os.unlink(path)
            raise write_error(path, error, sum(batch.nbytes for batch in batches)) from error
    size = os.path.getsize(path)
    moved("spill", size)
    return size
