"""The same rows give the same dataset: whatever the threads, buckets, cuts, files, pieces and schedulers."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from parity.dataset_world import DatasetWorld, dataset, digests, rows_of_events, rows_of_spine, stored
from polars.testing import assert_frame_equal


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> DatasetWorld:
    made = DatasetWorld(tmp_path_factory.mktemp("datasets")).fill()
    made.project().build()
    return made


def test_the_world_is_worth_it(world: DatasetWorld) -> None:
    rows = stored(world.store)
    spine = rows_of_spine(3)
    assert_frame_equal(rows.select(spine.columns), spine)
    found = dataset(world.store)
    assert all(count > 5 for count in found.splits.values())
    assert set(found.splits) == {"train", "valid", "test", "embargoed"}
    assert rows["busy"].null_count() > 0
    assert rows["rate"].drop_nulls().len() > 50
    assert rows["shop_x_sum_2d"].drop_nulls().len() > 50
    assert rows["place__encoded"].n_unique() > 5


@pytest.mark.parametrize("threads", [1, 4])
def test_threads(world: DatasetWorld, threads: int, tmp_path: Path) -> None:
    world.project(tmp_path / "store", workers=threads).build()
    assert digests(tmp_path / "store") == digests(world.store)


@pytest.mark.parametrize("buckets", [3, 8])
def test_buckets(world: DatasetWorld, buckets: int, tmp_path: Path) -> None:
    with (
        mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: buckets),
        mock.patch("featureflow.datasets.planning.WORTH_SPLITTING_ROWS", 0),
    ):
        world.project(tmp_path / "store").build()
    assert_frame_equal(stored(tmp_path / "store"), stored(world.store), check_exact=True)


def test_a_bucket_is_cut_by_time_where_it_is_too_large(world: DatasetWorld, tmp_path: Path) -> None:
    with mock.patch("featureflow.datasets.build.TASK_BYTES", 4_000):
        world.project(tmp_path / "store").build()
    scratch = tmp_path / "store-scratch"
    answers = [path for path in (scratch / "manifests").iterdir() if ".arrow" in path.read_text()]
    assert max(len(json.loads(path.read_text())) for path in answers) > 3  # there were cuts
    assert digests(tmp_path / "store") == digests(world.store)


def test_pieces(world: DatasetWorld, tmp_path: Path) -> None:
    """How many files there are is another layout, with the same rows in the same order."""
    with mock.patch("featureflow.datasets.planning.rows_of_piece", lambda _: 37):
        world.project(tmp_path / "store").build()
    assert len(digests(tmp_path / "store")) == 7
    assert_frame_equal(stored(tmp_path / "store"), stored(world.store))
    assert (
        dataset(tmp_path / "store").record["dataset"]["encoder"]
        == dataset(world.store).record["dataset"]["encoder"]
    )


def test_events_in_other_files_and_another_order(world: DatasetWorld, tmp_path: Path) -> None:
    other = DatasetWorld(tmp_path / "other").fill()
    (other.folder / "events" / "a.parquet").unlink()
    rows = rows_of_events(1).sample(fraction=1.0, shuffle=True, seed=5)
    for i, (start, stop) in enumerate(((0, 7), (7, 190), (190, 300))):
        other.write("events", f"{9 - i}", rows[start:stop])
    other.project().build()
    assert_frame_equal(stored(other.store), stored(world.store), check_exact=True)


def test_the_spine_in_other_files(world: DatasetWorld, tmp_path: Path) -> None:
    other = DatasetWorld(tmp_path / "other").fill()
    (other.folder / "asked" / "a.parquet").unlink()
    rows = rows_of_spine(3)
    for i, (start, stop) in enumerate(((0, 1), (1, 100), (100, 100), (100, rows.height))):
        other.write("asked", f"part-{i}", rows[start:stop])
    other.project().build()
    assert_frame_equal(stored(other.store), stored(world.store), check_exact=True)


def test_a_local_cluster(world: DatasetWorld, tmp_path: Path) -> None:
    world.project(tmp_path / "store", scheduler="local", workers=2).build()
    assert digests(tmp_path / "store") == digests(world.store)


def test_rebuilt_to_the_byte_and_then_unchanged(world: DatasetWorld, tmp_path: Path) -> None:
    store = tmp_path / "store"
    world.project(store).build()
    before = digests(store)
    report = world.project(store, scratch=tmp_path / "empty").build()
    assert report.status == "nothing to do"
    report = world.project(store, scratch=tmp_path / "empty").build(select=["train"], full=True)
    assert [outcome.change for outcome in report.tables] == ["full rebuild"]
    assert digests(store) == before


def test_more_events_change_what_they_must(world: DatasetWorld, tmp_path: Path) -> None:
    """A build after more data equals a build of all of it."""
    grown = DatasetWorld(tmp_path / "grown").fill()
    grown.project().build()
    grown.write("events", "b", rows_of_events(77, 50))
    grown.project().build()
    assert dataset(grown.store).version == 2
    fresh = grown.project(tmp_path / "fresh")
    fresh.build()
    assert_frame_equal(stored(grown.store), stored(tmp_path / "fresh"), check_exact=True)
    changed = stored(grown.store)["x_count_lifetime"] != stored(world.store)["x_count_lifetime"]
    assert changed.any()
    assert isinstance(stored(grown.store, "train@1"), pl.DataFrame)
    assert_frame_equal(stored(grown.store, "train@1"), stored(world.store), check_exact=True)
