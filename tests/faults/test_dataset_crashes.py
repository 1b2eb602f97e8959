"""A build of a dataset that dies or fails: nothing half-done is visible, and the next one goes on where it stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from parity.dataset_world import DatasetWorld, dataset, digests

import featureflow as ff
from featureflow.datasets import joins
from featureflow.tables.collect import gc

#: Kills its own process, without any clean-up, at the nth call of a function.
SUICIDE = """
import os, signal, sys, threading
from pkgutil import resolve_name
from unittest import mock
import featureflow as ff

where, after, spec, store, scratch = sys.argv[1:]
real, lock, calls = resolve_name(where), threading.Lock(), [0]

def deadly(*arguments, **options):
    with lock:
        calls[0] += 1
        if calls[0] > int(after):
            os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)

with mock.patch(where, deadly), mock.patch("featureflow.datasets.planning.rows_of_piece", lambda _: 100):
    ff.Project(spec, store=store, scratch=scratch, scheduler="threads", workers=2).build()
"""
MOMENTS = [
    ("featureflow.datasets.spine.write_buckets", 1),
    ("featureflow.datasets.joins.write_buckets", 2),
    ("featureflow.datasets.finishing.write_buckets", 1),
    ("featureflow.datasets.encoding.write_atomic", 5),
    ("featureflow.datasets.finishing.write_file", 1),
    ("featureflow.datasets.build.publish_table", 0),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> DatasetWorld:
    made = DatasetWorld(tmp_path_factory.mktemp("undisturbed")).fill()
    with mock.patch("featureflow.datasets.planning.rows_of_piece", lambda _: 100):
        made.project().build()
    return made


@pytest.mark.parametrize(("where", "after"), MOMENTS)
def test_a_killed_build_goes_on(undisturbed: DatasetWorld, where: str, after: int, tmp_path: Path) -> None:
    store = tmp_path / "store"
    arguments = [where, str(after), str(undisturbed.spec), str(store), str(tmp_path / "store-scratch")]
    died = subprocess.run([sys.executable, "-c", SUICIDE, *arguments], timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL
    assert ff.open(str(store)).datasets() == []
    answered = set((tmp_path / "store-scratch").rglob("*.arrow"))
    with (
        mock.patch("featureflow.datasets.planning.rows_of_piece", lambda _: 100),
        mock.patch("featureflow.datasets.joins._questions", side_effect=joins._questions) as asked,
    ):
        undisturbed.project(store).build()
    again = [call for call in asked.call_args_list if Path(call.args[0].path) in answered]
    assert again == []  # what was answered is not asked again
    assert digests(store) == digests(undisturbed.store)
    found = dataset(store)
    gc(found.table.url, "train")
    left = {path.name for path in Path(found.table.url).glob("*.parquet")}
    assert left == {file.path for file in found.files}


def test_a_join_that_loses_or_doubles_a_row_is_found(undisturbed: DatasetWorld, tmp_path: Path) -> None:
    real = joins.write_buckets
    for change in (lambda t: t.slice(1), lambda t: joins.pa.concat_tables([t, t.slice(0, 1)])):

        def wrong(table, buckets, n_buckets, path, change=change):  # type: ignore[no-untyped-def]
            changed = change(table)
            numbers = changed.column(joins.ROW).to_numpy()
            real(changed, numbers // 100, n_buckets, path)

        store = tmp_path / f"store{change(joins.pa.table({'x': [1, 2]})).num_rows}"
        with (
            mock.patch("featureflow.datasets.planning.rows_of_piece", lambda _: 100),
            mock.patch("featureflow.datasets.joins.write_buckets", wrong),
            pytest.raises(ff.ComputeError, match="lost or doubled"),
        ):
            undisturbed.project(store).build()
        assert ff.open(str(store)).datasets() == []


def test_a_damaged_answer_file_is_made_again(undisturbed: DatasetWorld, tmp_path: Path) -> None:
    """As a power cut leaves it: renamed, but not flushed."""
    store = tmp_path / "store"
    with mock.patch("featureflow.datasets.planning.rows_of_piece", lambda _: 100):
        with (
            mock.patch("featureflow.datasets.build.publish_table", side_effect=OSError("no power")),
            pytest.raises(OSError, match="no power"),
        ):
            undisturbed.project(store).build()
        for path in (tmp_path / "store-scratch" / "exchange").rglob("*.arrow"):
            path.write_bytes(path.read_bytes()[:50])
        undisturbed.project(store).build()
    assert digests(store) == digests(undisturbed.store)


def test_a_failed_check_publishes_nothing(tmp_path: Path) -> None:
    from parity.dataset_world import SPEC

    strict = SPEC + "    checks: [{column: x_count_6h, max: 0, on_fail: error}]\n"
    world = DatasetWorld(tmp_path, spec=strict).fill()
    with pytest.raises(ff.CheckFailed, match=r"datasets\.train\.checks\[0\]"):
        world.project().build()
    assert ff.open(str(world.store)).datasets() == []
    assert ff.open(str(world.store)).tables() == []
