"""Keys as codes, the order of ties, runs of slices, duplicates, manifests, ticks, the driver."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.core.errors import ComputeError, SourceError
from featureflow.execute.checks.duplicates import find_duplicates
from featureflow.execute.driver import run_tasks
from featureflow.execute.exchange.exchange_file import ROW, ROW_HASH, write_buckets
from featureflow.execute.exchange.fetching import read_bucket
from featureflow.execute.exchange.manifest import touching, write_manifest
from featureflow.execute.executors import ThreadExecutor
from featureflow.execute.sizing import RowEstimate
from featureflow.execute.stages import Piece, PieceIndex
from featureflow.execute.task import Task
from featureflow.execute.windows.grid import last_tick, ticks_between
from featureflow.execute.windows.keycodes import encode, encode_pair
from featureflow.execute.windows.sorted_rows import sort_rows
from featureflow.plan.nodes import Grid
from featureflow.plan.slices import MAX_US, to_us

HOUR = 3_600_000_000


# ---------------------------------------------------------------- keys


def test_codes_follow_values() -> None:
    codes, _, size = encode([pa.array(["b", None, "", "é", "b"], pa.large_string())])
    assert (codes.tolist(), size) == ([1, -1, 0, 2, 1], 3)


def test_a_null_in_any_key_column_is_no_key() -> None:
    codes, _, size = encode([pa.array([2, 1, None, 2]), pa.array([True, None, True, False])])
    assert (codes.tolist(), size) == ([1, -1, -1, 0], 2)


def test_many_wide_key_columns() -> None:
    """Their combinations are more than 64 bits."""
    columns = [pa.array(np.roll(np.arange(20_000), i)) for i in range(6)]
    codes, _, size = encode(columns)
    assert size == 20_000
    assert len(set(codes.tolist())) == 20_000
    left, right, _ = encode_pair(columns, [column.slice(5, 10) for column in columns])
    assert left[5:15].tolist() == right.tolist()
    assert len(set(right.tolist())) == 10


def test_integers_meet_by_value() -> None:
    left, right, _ = encode_pair(
        [pa.array([1, 2**64 - 1, 2, None], pa.uint64())], [pa.array([-1, 1, None], pa.int64())]
    )
    assert left[0] == right[1]
    assert left[1:].tolist() == [-1, -1, -1]
    assert right[2] == -1


KEYS = st.lists(st.tuples(st.sampled_from([None, 1, 2]), st.sampled_from([None, "", "a"])), max_size=8)


@given(KEYS, KEYS)
def test_pairs_are_equal_where_keys_are(left: list[Any], right: list[Any]) -> None:
    def arrays(rows: list[Any]) -> list[pa.Array]:
        return [
            pa.array([row[0] for row in rows], pa.int32()),
            pa.array([row[1] for row in rows], pa.large_string()),
        ]

    a, b, size = encode_pair(arrays(left), arrays(right))
    for i, mine in enumerate(left):
        for j, other in enumerate(right):
            assert (a[i] == b[j] and a[i] >= 0) == (mine == other and None not in mine)
    assert max([-1, *a, *b]) < max(size, 1)


# ---------------------------------------------------------------- order


def table(times: list[int | None], **columns: Any) -> pa.Table:
    stamps = pa.array(times, pa.int64()).cast(pa.timestamp("us", "UTC"))
    return pa.table({"k": pa.array([1] * len(times)), "ts": stamps, **columns})


def test_ties_by_sequence_then_created_then_hash() -> None:
    rows = table([5, 5, 5, 5], seq=[2, None, 1, 1], made=pa.array([0, 0, 9, 8]), v=[1.0, 2.0, 3.0, 4.0])
    found = sort_rows(rows, ("k",), "ts", ("seq", "made"))
    assert found.events["v"].to_pylist() == [2.0, 4.0, 3.0, 1.0]


@given(st.permutations(range(8)))
def test_the_order_of_the_input_does_not_matter(order: list[int]) -> None:
    """Values are equal to a hash that takes -0.0 for 0.0, but their bytes are not."""
    values = [0.0, -0.0, 0.0, -0.0, 1.0, None, float("inf"), 1.0]
    rows = table([5] * 6 + [None, -3], v=pa.array(values))
    first, again = (
        sort_rows(one, ("k",), "ts").table["v"].to_pylist() for one in (rows, rows.take(pa.array(order)))
    )
    assert [repr(value) for value in first] == [repr(value) for value in again]


def test_rows_without_a_key_or_time_stand_apart() -> None:
    rows = table([3, None, -5]).set_column(0, "k", pa.array([None, 1, 1]))
    found = sort_rows(rows, ("k",), "ts")
    assert found.n_apart == 2
    assert found.times.tolist() == [-5]
    assert found.offsets.tolist() == [0, 1]


# ---------------------------------------------------------------- files on scratch


def test_buckets_of_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "x" / "one.arrow")
    write_buckets(pa.table({"v": [0, 1, 2, 3]}), np.array([2, 0, 2, 0]), 4, path)
    found = [read_bucket((path,), bucket)[0].column("v").to_pylist() for bucket in range(4)]
    assert found == [[1, 3], [], [0, 2], []]
    assert [child.name for child in (tmp_path / "x").iterdir()] == ["one.arrow"]


def test_manifest(tmp_path: Path) -> None:
    entries = [("a", 0, 5, False), ("b", None, None, True), ("c", 6, 9, True)]
    path = write_manifest(str(tmp_path), list(entries))
    assert touching(path, 5, 6) == ("a", "c")
    assert touching(path, None, 0) == ("a",)
    assert touching(path, 0, -1, with_null=True) == ("b", "c")


def test_duplicates_keep_the_row_first_known(tmp_path: Path) -> None:
    def file(name: str, ids: list[Any], made: list[Any], hashes: list[int]) -> str:
        rows = pa.table({"id": pa.array(ids, pa.int64()), "made": pa.array(made, pa.timestamp("us", "UTC"))})
        rows = rows.append_column(ROW, pa.array(range(len(ids)), pa.uint32())).append_column(
            ROW_HASH, pa.array(hashes, pa.uint64())
        )
        path = str(tmp_path / name)
        write_buckets(rows, np.zeros(len(ids), np.int64), 1, path)
        return path

    paths = (
        file("a", [1, 1, None, 2], [None, 7, 1, 5], [4, 3, 2, 1]),
        file("b", [1, None, 2], [7, 1, 5], [2, 2, 9]),
    )
    manifest = write_manifest(str(tmp_path), [(path, None, None, False) for path in paths])
    found = find_duplicates(manifest, 0, ("id",), "made", None, None)
    # 1: made at 7 twice, the smaller hash wins; 2: likewise; a null id repeats nothing
    assert sorted(zip(found.chunk.tolist(), found.row.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 2)]


# ---------------------------------------------------------------- ticks


def test_ticks_are_local_midnights() -> None:
    grid = Grid(24 * HOUR, "Europe/Berlin", None, None)
    first, last = (to_us(datetime(2026, 3, day, tzinfo=UTC)) for day in (28, 31))
    hours = [(tick - first) // HOUR for tick in ticks_between(grid, first, last).tolist()]
    assert hours == [23, 46, 70]  # clocks go forward on the 29th


def test_a_local_time_that_does_not_exist_has_no_tick() -> None:
    grid = Grid(HOUR, "Europe/Berlin", None, None)
    first, last = (to_us(datetime(2026, 3, 29, hour, tzinfo=UTC)) for hour in (0, 3))
    assert len(ticks_between(grid, first, last)) == 4
    autumn = [to_us(datetime(2026, 10, 25, hour, tzinfo=UTC)) for hour in (0, 3)]
    assert [(tick - autumn[0]) // HOUR for tick in ticks_between(grid, *autumn)] == [
        0,
        2,
        3,
    ]  # 2:00 exists twice


@given(st.integers(-(10**15), 10**15), st.sampled_from([1, 7, HOUR, 24 * HOUR]))
def test_the_last_tick_sees_the_last_event(event: int, every: int) -> None:
    tick = last_tick(Grid(every, "UTC", None, None), event)
    assert tick % every == 0
    assert event <= tick < event + every


# ---------------------------------------------------------------- planning


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=8),
    st.integers(-3, 20),
    st.integers(0, 9),
)
def test_pieces_that_touch_a_range(spans: list[tuple[int, int]], first: int, length: int) -> None:
    pieces = [Piece(f"p{i}", start, start + size, 0, 1, 1) for i, (start, size) in enumerate(spans)]
    index, last = PieceIndex(pieces), first + length
    assert {p.id for p in index.touching(first, last)} == {
        p.id for p in pieces if p.min_us <= last and p.max_us >= first
    }
    before = {p.id for p in pieces if p.min_us <= last}
    assert {p.id for p in index.touching(None, last)} == before
    without = PieceIndex([p for p in pieces if p.id in before])
    assert index.names(None, last) == without.names(None, last)
    if before:
        fewer = PieceIndex([p for p in pieces if p.id != min(before)])
        assert index.names(None, last) != fewer.names(None, last)


def test_estimates_near_the_end_of_time() -> None:
    estimate = RowEstimate([Piece("a", MAX_US, MAX_US, 0, 10, 1), Piece("b", 0, 99, 0, 100, 1)])
    assert estimate.between(0, 50) == 50
    assert RowEstimate([]).between(None, 5) == 0


# ---------------------------------------------------------------- the driver


@pytest.fixture
def executor() -> Iterable[ThreadExecutor]:
    made = ThreadExecutor(2)
    yield made
    made.close()


def test_all_tasks_run_and_few_are_in_flight(executor: ThreadExecutor) -> None:
    handed_out, done = [0], []

    def tasks() -> Iterable[Task]:
        for i in range(50):
            handed_out[0] += 1
            yield Task(f"{i}", lambda x: x * x, (i,), "square")

    def finished(task: Task, result: int) -> None:
        assert handed_out[0] - len(done) <= 2 * 3
        done.append((int(task.key), result))

    run_tasks(executor, tasks(), finished)
    assert sorted(done) == [(i, i * i) for i in range(50)]


def test_a_task_that_fails_twice_is_run_again(executor: ThreadExecutor) -> None:
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OSError("the disk blinked")
        return "at last"

    results: list[str] = []
    run_tasks(executor, [Task("a", flaky, (), "flaky")], lambda _, result: results.append(result))
    assert (results, len(tries)) == (["at last"], 3)


def test_a_poison_task_is_named(executor: ThreadExecutor) -> None:
    def poison() -> None:
        raise ZeroDivisionError("by zero")

    with pytest.raises(ComputeError, match="t, bucket 3 failed 3 times: ZeroDivisionError") as failure:
        run_tasks(executor, [Task("a", poison, (), "t, bucket 3")], lambda *_: None)
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


def test_wrong_data_is_not_tried_again(executor: ThreadExecutor) -> None:
    tries: list[int] = []

    def wrong() -> None:
        tries.append(1)
        raise SourceError("b.csv: 'n/a' is no number")

    with pytest.raises(SourceError) as failure:
        run_tasks(executor, [Task("a", wrong, (), "re-key b.csv")], lambda *_: None)
    assert len(tries) == 1
    assert failure.value.__notes__ == ["while running: re-key b.csv"]
