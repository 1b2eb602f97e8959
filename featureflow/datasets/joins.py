"""The task of a join: one bucket of the spine's rows against the same bucket of another input.

The answers go to one file, by the piece of the dataset that each row belongs to, so that a piece is put together from
one batch of every file. A row's number goes with it: nothing is matched twice, and what is lost or doubled is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featureflow.core.errors import ComputeError
from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import spending
from featureflow.datasets.spine import TIME
from featureflow.execute.exchange.bucket import load_bucket
from featureflow.execute.exchange.exchange_file import ROW, exchange_path, finished_rows, write_buckets
from featureflow.execute.exchange.fetching import read_bucket
from featureflow.execute.exchange.manifest import read_list
from featureflow.execute.windows.arrays import booleans
from featureflow.execute.windows.evaluate import Evaluator, Queries
from featureflow.execute.windows.keycodes import encode_pair
from featureflow.execute.windows.lookups import look_up
from featureflow.execute.windows.sorted_rows import NO_TIME, SortedRows, column, sort_rows
from featureflow.kernels.gather import take_rows
from featureflow.kernels.ordering import group_order, offsets_from_codes
from featureflow.plan.dataset_nodes import WindowJoin
from featureflow.plan.nodes import Lookup

#: Part of every answer file's name: raise it when the same input gives other answers than before.
ENGINE = 1


@dataclass(frozen=True, slots=True)
class JoinTask:
    """A join of one bucket, for rows whose time is in ``[start_us, end_us)``; None is open.

    ``routed`` lists the spine's files by bucket, ``events`` is the manifest of the other input's. ``latest_us`` is the
    last time that the other input has. Rows without a time belong to the first range.
    """

    join: WindowJoin | Lookup
    bucket: int
    start_us: int | None
    end_us: int | None
    routed: str
    events: str
    latest_us: int | None
    piece_rows: int
    n_pieces: int
    folder: str

    @property
    def path(self) -> str:
        """Where the answers are, or will be: a name of everything that they depend on."""
        name = fingerprint([ENGINE, repr(replace(self, folder=""))])
        return exchange_path(self.folder, name)


@spending("compute:join")
def run_join(task: JoinTask, path: str) -> int:
    """Answer the rows of one bucket and write the answers, unless they are there; returns how many rows."""
    rows = finished_rows(path)
    if rows is not None:
        return rows
    questions = _questions(task)
    times = column(questions, TIME).to_numpy()
    keys = [column(questions, f"k{i}") for i in range(len(task.join.left_keys))]
    if isinstance(task.join, WindowJoin):
        order, arrays = _windows(task, task.join, keys, times)
    else:
        order, arrays = None, look_up(task.join, keys, times, _right(task, times, 0))
    names = task.join.columns if isinstance(task.join, WindowJoin) else tuple(n for _, n in task.join.columns)
    numbers = column(questions, ROW)
    numbers = numbers if order is None else numbers.take(pa.array(order))
    answers = pa.table([numbers, *arrays], names=[ROW, *names])
    write_buckets(answers, numbers.to_numpy() // task.piece_rows, task.n_pieces, path)
    return len(numbers)


def _questions(task: JoinTask) -> pa.Table:
    batches = read_bucket(tuple(path for (path,) in read_list(task.routed)), task.bucket)
    table = pa.Table.from_batches([b.replace_schema_metadata(None) for b in batches]).combine_chunks()
    if task.start_us is None and task.end_us is None:
        return table
    times = column(table, TIME).to_numpy()
    mask = np.ones(len(times), np.bool_)
    if task.start_us is not None:
        mask &= times >= task.start_us
    if task.end_us is not None:
        mask &= times < task.end_us
    return table.filter(booleans(mask)).combine_chunks()


def _right(task: JoinTask, times: NDArray[np.int64], shift: int) -> pa.Table:
    """Rows of the other side that some of the questions can see."""
    timed, reach = times[times != NO_TIME], task.join.reach_us
    first: int | None = 0
    last = -1
    if len(timed):
        last = int(timed.max()) + shift
        first = None if reach is None else int(timed.min()) + shift - reach
    return load_bucket(task.events, task.bucket, task.join.right, task.join.needed, first, last, False)


def _windows(
    task: JoinTask, join: WindowJoin, keys: list[pa.Array], times: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[pa.Array]]:
    """Evaluate windows; returns the order in which the answers come, and the answers."""
    found = _right(task, times, join.shift_us)
    rows = sort_rows(found, join.right_keys, join.right.time, join.right.order)
    del found
    codes = _codes(keys, rows, join.right_keys)
    codes[times == NO_TIME] = -1
    order = group_order(codes + 1, times).astype(np.int64, copy=False)
    n_apart = int(np.searchsorted(codes[order], 0))
    asked = times[order[n_apart:]] + join.shift_us
    # one more key than the events have, without any: for rows whose key never occurs
    n_keys = len(rows.offsets)
    offsets = np.append(rows.offsets, rows.offsets[-1])
    rows = SortedRows(rows.table, rows.n_apart, rows.codes, rows.times, offsets)
    queries = Queries(offsets_from_codes(codes[order[n_apart:]], n_keys), asked)
    answers = Evaluator(rows, queries).features(join.features)
    arrays = []
    for values in answers.values():
        if join.finished_only:
            over = np.zeros(len(asked), np.bool_) if task.latest_us is None else asked <= task.latest_us
            values = pc.if_else(booleans(over), values, pa.scalar(None, values.type))  # noqa: PLW2901
        arrays.append(pa.concat_arrays([pa.nulls(n_apart, values.type), values]) if n_apart else values)
    return order, arrays


def _codes(keys: list[pa.Array], rows: SortedRows, right_keys: tuple[str, ...]) -> NDArray[np.int64]:
    """Number of each question's key among the events' keys, one more for a key without events, -1 for null."""
    n_keys = len(rows.offsets) - 1
    # a key whose rows all lack a time has no events: the start of its group is another's
    used = np.flatnonzero(np.diff(rows.offsets))
    owners = take_rows(rows.table.select(list(right_keys)), rows.offsets[used] + rows.n_apart)
    left, right, size = encode_pair(keys, [column(owners, key) for key in right_keys])
    place = np.full(max(size, 1), n_keys, np.int64)
    place[right] = used
    codes = np.where(left >= 0, place[left], n_keys)
    for key in keys:
        if key.null_count:
            codes[np.asarray(key.is_null())] = -1
    return codes


@spending("compute:assemble")
def piece_answers(answers: str, piece: int, first: int, rows: int) -> pa.Table:
    """Answers of one join for one piece of the dataset, in the spine's order; ``answers`` lists the join's files.

    Raises
    ------
    ComputeError
        If a row has no answer, or more than one. A join never loses or doubles a row; this is where it is checked.
    """
    paths = tuple(path for (path,) in read_list(answers))
    batches = [batch.replace_schema_metadata(None) for batch in read_bucket(paths, piece)]
    table = pa.Table.from_batches(batches).combine_chunks()
    numbers = column(table, ROW).to_numpy() - first
    inside = bool(len(numbers) == rows and (rows == 0 or (numbers.min() >= 0 and numbers.max() < rows)))
    if not inside or (np.bincount(numbers, minlength=rows) != 1).any():
        raise ComputeError(
            f"a join gave {len(numbers)} answers for the {rows} rows from {first}: rows were lost or doubled. "
            "This is a mistake in featureflow; nothing was published."
        )
    place = np.empty(rows, np.int64)
    place[numbers] = np.arange(rows)
    return take_rows(table.drop_columns([ROW]), place)
