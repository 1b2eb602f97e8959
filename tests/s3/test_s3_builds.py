"""A whole project on S3: sources in four formats, store, shards; every command that reads or changes a store."""

from __future__ import annotations

import json
from datetime import timedelta

import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal
from s3.s3_world import files_below, project_file, put_lake, put_orders, spec_text

import featureflow as ff
from featureflow.cli.app import application
from featureflow.core import storage


@pytest.fixture(scope="module")
def world(s3_server, tmp_path_factory):
    """A lake and a store on S3, built twice: the second time with one more day."""
    with s3_server.environment():
        root = s3_server.url("world")
        lake, store = f"{root}/lake", f"{root}/store"
        folder = tmp_path_factory.mktemp("world")
        put_lake(lake)
        spec = project_file(folder, lake, store)
        first = ff.Project(spec, scratch=folder / "scratch").build()
        put_orders(lake, 7)
        second = ff.Project(spec, scratch=folder / "scratch").build()
        yield {"lake": lake, "store": store, "spec": spec, "folder": folder, "reports": (first, second)}


def run(*arguments: str) -> str:
    """Run a command, and give what it printed."""
    result = CliRunner().invoke(application, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_second_build_computes_the_new_day_only(world):
    first, second = ({table.name: table for table in report.tables} for report in world["reports"])
    assert first["spend"].slices_computed == 6
    assert first["spend"].rows == 120
    assert (second["spend"].slices_computed, second["spend"].rows_written) == (1, 20)
    assert (second["spend"].files_reused, second["spend"].version) == (6, 2)
    assert second["footfall"].version is None
    assert (second["again"].rows, second["again"].version) == (140, 2)


def test_nothing_new_builds_nothing_new(world):
    report = ff.Project(world["spec"], scratch=world["folder"] / "scratch").build()
    assert report.status == "nothing to do"


def test_a_local_store_gets_the_same_bytes(world, tmp_path):
    """The same sources, built in one go into a local store: files of the same names hold the same bytes."""
    local = tmp_path / "store"
    ff.Project(world["spec"], store=str(local), scratch=tmp_path / "scratch").build()
    ours, theirs = files_below(f"{world['store']}/features"), files_below(str(local / "features"))
    assert len(theirs) == 13
    assert theirs == {path: data for path, data in ours.items() if path in theirs}


def test_local_sources_give_the_same_rows(world, tmp_path):
    lake = str(tmp_path / "lake")
    put_lake(lake)
    put_orders(lake, 7)
    spec = project_file(tmp_path, lake, str(tmp_path / "store"))
    ff.Project(spec, scratch=tmp_path / "scratch").build()
    local, remote = ff.open(str(tmp_path / "store")), ff.open(world["store"])
    for name in ("spend", "footfall"):
        assert_frame_equal(local.table(name).to_polars(), remote.table(name).to_polars())
    assert_frame_equal(local.dataset("again").to_polars(), remote.dataset("again").to_polars())
    assert remote.table("spend").to_polars()["rate"].null_count() == 0


def test_reading_a_part_reads_what_reading_all_does(world):
    table = ff.open(world["store"]).table("spend")
    everything = table.to_polars()
    part = table.to_polars(
        ["customer", "ts", "amount"],
        where="customer = 3 and amount > 10",
        time=("2026-01-02T07:00", "2026-01-06T18:45"),
    )
    wanted = everything.filter(
        (pl.col("customer") == 3)
        & (pl.col("amount") > 10)
        & pl.col("ts").is_between(
            pl.datetime(2026, 1, 2, 7, time_zone="UTC"),
            pl.datetime(2026, 1, 6, 18, 45, time_zone="UTC"),
            closed="left",
        )
    ).select("customer", "ts", "amount")
    assert_frame_equal(part, wanted)
    assert part.height > 0
    lazily = table.scan().filter(pl.col("amount") > 10).select("amount").collect()
    assert lazily.height == everything.filter(pl.col("amount") > 10).height
    dask = table.to_dask(["customer", "amount"]).compute(scheduler="sync")
    assert len(dask) == everything.height
    assert table.to_polars(["day"])["day"].n_unique() == 7
    assert table.sample(5).height == 5


def test_life_of_a_version(world):
    store = world["store"]
    assert "spend" in run("ls", "--store", store)
    history = json.loads(run("history", "spend", "--store", store, "--json"))
    assert [each["version"] for each in history["versions"]] == [2, 1]
    assert run("show", "spend", "--store", store)
    assert "20 added" in run("diff", "spend@1", "spend@2", "--store", store)
    run("tag", "spend@1", "good", "--store", store)
    assert ff.open(store).table("spend@good").version == 1
    run("restore", "spend@1", "--store", store)
    assert ff.open(store).table("spend").rows == 120
    run("restore", "spend@2", "--store", store)
    assert "every byte read" in run("verify", "spend", "--store", store, "--deep")


def test_gc_takes_what_nobody_keeps(s3, bucket, tmp_path):
    from featureflow.tables.collect import gc

    lake, store = f"{bucket}/lake", f"{bucket}/store"
    put_lake(lake)
    spec = project_file(tmp_path, lake, store)
    ff.Project(spec, scratch=tmp_path / "scratch").build(select=["spend"])
    table = f"{store}/features/spend"
    storage.write_atomic(f"{table}/left/over.parquet", b"left by a killed build")
    spec.write_text(spec_text(lake, store).replace("[1d, 3d]", "[1d, 2d, 3d]"))
    ff.Project(spec, scratch=tmp_path / "scratch").build(select=["spend"])
    young = gc(table, "spend", keep=1)
    assert young.expired == (1,)
    assert len(young.files) == 6, "files of the expired version; what is young may belong to a running build"
    old = gc(table, "spend", keep=1, margin=timedelta(0))
    assert old.files == ("left/over.parquet",)
    assert ff.open(store).table("spend").rows == 120
    assert set(files_below(table)) == {f.path for f in ff.open(store).table("spend").state.files}


def test_shards_are_exported_to_s3_and_loaded_from_there(world, tmp_path):
    store, shards = world["store"], f"{world['store']}-shards"
    run("export", "again", "--format", "webdataset", "--path", shards, "--store", store)
    loaded = ff.load_shards(f"{shards}/again", cache=str(tmp_path / "cache"))
    rows = sum(len(batch["buys"]) for batch in loaded.numpy(16, split="train", shuffle=True))
    assert rows == ff.open(store).dataset("again").to_polars(split="train").height
    before = storage.list_names(f"{shards}/again/2/train")
    for name in before:
        storage.delete(f"{shards}/again/2/train/{name}")
    again = ff.load_shards(f"{shards}/again", cache=str(tmp_path / "cache"))
    assert sum(len(batch["buys"]) for batch in again.numpy(16, split="train")) == rows, "the copies are read"


def test_delta_readers_open_the_tables(world, s3):
    from deltalake import DeltaTable

    url = f"{world['store']}/features/spend"
    with s3.environment(AWS_ALLOW_HTTP="true"):
        assert pl.read_delta(url).height == ff.open(world["store"]).table("spend").rows
        assert DeltaTable(url).file_uris()


def test_checkpoints_are_written(s3, bucket, monkeypatch, tmp_path):
    from featureflow.tables import delta_log

    lake, store = f"{bucket}/lake", f"{bucket}/store"
    put_lake(lake)
    spec = project_file(tmp_path, lake, store)
    ff.Project(spec, scratch=tmp_path / "scratch").build(select=["footfall"])
    monkeypatch.setattr(delta_log, "CHECKPOINT_INTERVAL", 1)
    run("restore", "footfall@1", "--store", store)
    assert storage.exists(f"{store}/features/footfall/_delta_log/_last_checkpoint")
