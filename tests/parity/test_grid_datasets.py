"""Datasets on grids, built from specs: look-ups at points and patches, against loops over plain arrays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray as xr
import zarr

import featureflow as ff
from featureflow.tables.collect import gc

SPEC = """
featureflow: 1
project: sea
store: {store}
sources:
  sst: {{path: sst.zarr}}
  land: {{path: land.zarr}}
  ships: {{path: ships.parquet, time: t}}
  scenes: {{path: scenes.parquet, time: since}}
  storms: {{path: storms.parquet, time: at}}
features:
  warm:
    source: sst
    steps: [{{rolling: {{dim: time, window: 2, op: mean}}}}]
    chunks: {{time: 6, lat: 8, lon: 10}}
datasets:
  met:
    spine: {{source: ships, keys: [ship], time: t}}
    lookup:
      - {{from: warm, at: {{lat: y, lon: x}}, ttl: 3d}}
      - {{from: warm, at: {{lat: y, lon: x}}, method: linear, columns: [sst], prefix: linear_}}
  cubes:
    spine:
      grid: warm
      patch: {{time: 3, lat: 4, lon: 5}}
      stride: {{time: 3, lat: 2, lon: 5}}
      valid: 0.6
      labels: land.zone
    split: {{by: block, block: {{lat: 8, lon: 10}}, train: 0.5, test: rest}}
    export: {{format: arrow, nulls: nan, normalize: standard}}
  days:
    spine:
      grid: warm
      patch: {{time: 4, lat: 8, lon: 10}}
      stride: {{time: 2, lat: 8, lon: 10}}
      labels: {{source: land, variable: zone, op: majority, as: zone}}
    lookup:
      - {{from: scenes, keys: {{lat_index: row, lon_index: col}}, columns: [cloud]}}
      - {{from: warm, at: {{lat: lat_start, lon: lon_start}}, prefix: corner_}}
    label: {{source: storms, keys: {{lat_index: row, lon_index: col}}, op: count, horizon: 3d, as: storms}}
    split: {{by: time, train: "< 2026-01-10", test: rest}}
"""


@dataclass
class World:
    """A project that was built, and what it was built from."""

    folder: Path
    project: ff.Project
    sst: xr.DataArray
    zone: np.ndarray[Any, Any]

    @property
    def warm(self) -> np.ndarray[Any, Any]:
        return np.asarray(self.sst.rolling(time=2).mean().values)


def write_source(folder: Path) -> tuple[xr.DataArray, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(18, 16, 20)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    coords = {
        "time": np.datetime64("2026-01-01", "ns") + np.arange(18) * np.timedelta64(1, "D"),
        "lat": 30.0 - np.arange(16) * 2.0,
        "lon": 10.0 + np.arange(20.0),
    }
    data = xr.Dataset({"sst": (("time", "lat", "lon"), values)}, coords)
    data.to_zarr(folder / "sst.zarr", mode="w", zarr_format=2, encoding={"sst": {"chunks": (6, 8, 20)}})
    zone = rng.integers(0, 3, (16, 20)).astype(np.int16)
    land = xr.Dataset({"zone": (("lat", "lon"), zone)}, {"lat": coords["lat"], "lon": coords["lon"]})
    land.to_zarr(folder / "land.zarr", mode="w", zarr_format=2)
    ships = pl.DataFrame(
        {
            "ship": rng.integers(0, 5, 300),
            "t": [datetime(2026, 1, 1) + timedelta(hours=float(h)) for h in rng.uniform(-30, 24 * 24, 300)],
            "y": rng.uniform(-4, 34, 300),
            "x": rng.uniform(8, 32, 300),
        }
    ).with_columns(y=pl.when(pl.col("ship") == 4).then(None).otherwise(pl.col("y")))
    ships.write_parquet(folder / "ships.parquet")
    corners = [(row, col) for row in (0, 8) for col in (0, 10)]
    scenes = [
        (row, col, datetime(2026, 1, day), 10 * day + row + col) for row, col in corners for day in (1, 8)
    ]
    pl.DataFrame(scenes, schema=["row", "col", "since", "cloud"], orient="row").write_parquet(
        folder / "scenes.parquet"
    )
    storms = [(row, col, datetime(2026, 1, day, 12)) for row, col in corners[:3] for day in range(1, 19)]
    pl.DataFrame(storms, schema=["row", "col", "at"], orient="row").write_parquet(folder / "storms.parquet")
    return data["sst"], zone


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sea")
    sst, zone = write_source(folder)
    (folder / "p.yaml").write_text(SPEC.format(store=folder / "store"))
    project = ff.Project(folder / "p.yaml", scheduler="threads", workers=1, scratch=folder / "scratch")
    project.build()
    yield World(folder, project, sst, zone)
    shutil.rmtree(folder)


def test_rows_have_the_values_of_their_cells_as_of_their_time(world: World) -> None:
    dataset = world.project.dataset("met")
    rows = dataset.to_polars()
    assert rows["ship"].to_list() == pl.read_parquet(world.folder / "ships.parquet")["ship"].to_list()
    warm, times = world.warm, world.sst["time"].values
    n_known = 0
    for row in rows.iter_rows(named=True):
        at = np.datetime64(row["t"].replace(tzinfo=None), "ns")
        step = int((times <= at).sum()) - 1
        expected = None
        if step >= 0 and row["y"] is not None and at - times[step] <= np.timedelta64(3, "D"):
            dy, dx = abs(world.sst["lat"].values - row["y"]), abs(world.sst["lon"].values - row["x"])
            if dy.min() <= 1.0 and dx.min() <= 0.5:
                value = float(warm[step, dy.argmin(), dx.argmin()])
                expected = None if np.isnan(value) else value
        assert row["sst"] == expected or row["sst"] == pytest.approx(expected, abs=1e-6)
        n_known += expected is not None
    assert n_known > 100


def test_linear_look_ups_equal_xarrays_within_the_centres(world: World) -> None:
    rows = world.project.dataset("met").to_polars()
    warm = xr.DataArray(world.warm, dims=world.sst.dims, coords=world.sst.coords)
    n_compared = 0
    for row in rows.filter(pl.col("y").is_not_null()).iter_rows(named=True):
        at = np.datetime64(row["t"].replace(tzinfo=None), "ns")
        step = int((world.sst["time"].values <= at).sum()) - 1
        if step < 0 or not (0 <= row["y"] <= 30 and 10 <= row["x"] <= 29):
            continue
        expected = float(warm.isel(time=step).interp(lat=row["y"], lon=row["x"]))
        if np.isnan(expected):
            continue
        assert row["linear_sst"] == pytest.approx(expected, abs=1e-5)
        n_compared += 1
    assert n_compared > 30


def test_lineage_and_plan_name_the_grid(world: World) -> None:
    assert world.project.dataset("met").lineage("sst") == ["warm.sst"]
    entry = next(t for t in world.project.plan().summary()["tables"] if t["name"] == "met")
    assert {"kind": "grid", "name": "warm", "use": "look-up"} in entry["reads"]
    assert entry["change"] == "unchanged"
    cubes = next(t for t in world.project.plan().summary()["tables"] if t["name"] == "cubes")
    assert [read["use"] for read in cubes["reads"]] == ["patches", "labels"]


def test_the_index_has_the_patches_with_enough_values(world: World) -> None:
    rows = world.project.dataset("cubes").to_polars()
    expected = []
    number = 0
    for t in range(0, 18 - 2, 3):
        for y in range(0, 16 - 3, 2):
            for x in range(0, 20 - 4, 5):
                block = world.warm[t : t + 3, y : y + 4, x : x + 5]
                share = float((~np.isnan(block)).mean())
                if share >= 0.6:
                    expected.append((number, t, y, x, 30.0 - 2.0 * y, 10.0 + x, share))
                number += 1
    found = rows.select("patch", "time_index", "lat_index", "lon_index", "lat_start", "lon_start", "valid")
    assert found.rows() == [pytest.approx(row) for row in expected]
    assert len(expected) < number  # the first steps of a rolling window are missing
    last = world.sst["time"].values[rows["time_index"].to_numpy() + 2]
    assert (rows["time"].dt.replace_time_zone(None).to_numpy().astype("datetime64[ns]") == last).all()


def check_batches(world: World, shards: Any, *, stacked: bool = False) -> int:
    """Compare all values of shards with slices of the arrays."""
    n = 0
    for split in (name for name in shards.splits if shards.rows(name)):
        for batch in shards.numpy(16, split, normalize=False):
            for i in range(len(batch["patch"])):
                t, y, x = (int(batch[f"{dim}_index"][i]) for dim in ("time", "lat", "lon"))
                expected = world.warm[t : t + 3, y : y + 4, x : x + 5]
                values = batch["x"][i, 0] if stacked else batch["sst"][i]
                np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)
                assert np.array_equal(batch["label"][i], world.zone[y : y + 4, x : x + 5])
                n += 1
    return n


def test_shards_have_the_values_of_the_grid(world: World) -> None:
    shards = ff.load_shards(str(world.folder / "store/exports/cubes"))
    dataset = world.project.dataset("cubes")
    assert check_batches(world, shards) == sum(shards.rows(name) for name in shards.splits)
    assert {name: shards.rows(name) for name in shards.splits} == {
        name: rows for name, rows in dataset.splits.items() if name != "embargoed"
    }
    batch = next(iter(shards.numpy(8, "train", columns=["sst", "label", "lat_start", "time"])))
    assert batch["sst"].shape == (8, 3, 4, 5)
    assert batch["sst"].dtype == np.float32
    assert batch["label"].dtype == np.int16
    assert batch["lat_start"].dtype == np.float64  # where it is, is not narrowed


def test_normalization_is_that_of_the_train_patches(world: World) -> None:
    shards = ff.load_shards(str(world.folder / "store/exports/cubes"))
    assert shards.manifest is not None
    train = np.concatenate([b["sst"] for b in shards.numpy(64, "train", normalize=False)])
    found = shards.manifest.normalization["sst"]
    assert found["mean"] == pytest.approx(np.nanmean(train.astype(np.float64)))
    assert found["scale"] == pytest.approx(np.nanstd(train.astype(np.float64)))
    given = np.concatenate([b["sst"] for b in shards.numpy(64, "train")])
    assert np.nanmean(given) == pytest.approx(0, abs=1e-5)
    assert np.nanstd(given) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("parquet", {}),
        ("npy", {"shuffle": False}),
        ("zarr", {}),
        ("webdataset", {"shard_size": "40kB"}),
        ("mds", {"layout": "matrix"}),
        ("tfrecord", {}),
        ("litdata", {"shuffle": {"seed": 3}, "layout": "matrix"}),
    ],
)
def test_every_format_holds_patches(world: World, format_name: str, options: dict[str, Any]) -> None:
    path = world.folder / "shards" / format_name
    shards = world.project.export(
        "cubes", {"format": format_name, "nulls": "nan", "path": str(path), **options}
    )
    stacked = options.get("layout") == "matrix"
    assert check_batches(world, shards, stacked=stacked) == sum(shards.rows(n) for n in shards.splits)
    if options.get("shuffle") is False:
        order = shards.to_arrow("train", ["patch"]).column("patch").to_pylist()
        assert order == sorted(order)


def test_channels_are_normalised_one_by_one(world: World) -> None:
    path = world.folder / "shards" / "channels"
    options = {"nulls": "nan", "layout": "matrix", "normalize": "standard", "path": str(path)}
    shards = world.project.export("cubes", options)
    given = np.concatenate([b["x"] for b in shards.numpy(64, "train")])
    assert given.shape[1:] == (1, 3, 4, 5)
    assert np.nanmean(given[:, 0]) == pytest.approx(0, abs=1e-5)
    assert np.nanstd(given[:, 0]) == pytest.approx(1, abs=1e-5)


def test_shards_do_not_depend_on_boxes_or_workers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def digests(path: Path) -> dict[str, str]:
        shards = ff.load_shards(str(path / "cubes"))
        assert shards.manifest is not None
        return {f.path: f.xxh3_64 for s in shards.manifest.splits.values() for one in s for f in one.files}

    options = {"nulls": "nan", "shard_size": "20kB"}
    world.project.export("cubes", {**options, "path": str(world.folder / "a")})
    monkeypatch.setattr("featureflow.export.patches.CHUNK_BYTES", 3_000)
    other = ff.Project(
        world.folder / "p.yaml", scheduler="threads", workers=2, scratch=world.folder / "other"
    )
    other.export("cubes", {**options, "path": str(world.folder / "b")})
    assert digests(world.folder / "a") == digests(world.folder / "b")


def test_labels_of_one_value(world: World) -> None:
    dataset = world.project.dataset("days")
    rows = dataset.to_polars()
    for row in rows.iter_rows(named=True):
        y, x = row["lat_index"], row["lon_index"]
        counts = np.bincount(world.zone[y : y + 8, x : x + 10].reshape(-1), minlength=3)
        assert row["zone"] == int(counts.argmax())
    # the tenth is the first day of the test split: patches on both sides of it are in neither
    first = rows["time_index"]
    assert (rows["split"] == "train").to_list() == (first + 3 <= 8).to_list()
    assert (rows["split"] == "test").to_list() == (first >= 9).to_list()
    assert dataset.record["dataset"]["split"]["embargoed"] == {"border": (rows["split"] == "embargoed").sum()}


def test_patches_take_labels_and_features_from_tables_as_of_their_time(world: World) -> None:
    dataset = world.project.dataset("days")
    assert dataset.features == ["sst", "cloud", "corner_sst"]
    assert dataset.labels == ["zone", "storms"]
    for row in dataset.to_polars().iter_rows(named=True):
        day = row["time"].day  # of the last step: all of the patch is known
        place = row["lat_index"] + row["lon_index"]
        assert row["cloud"] == (10 * (8 if day >= 8 else 1) + place)
        value = world.warm[row["time_index"] + 3, row["lat_index"], row["lon_index"]]
        assert row["corner_sst"] == (None if np.isnan(value) else pytest.approx(float(value), abs=1e-6))
        if day + 3 <= 18:  # a horizon that is over
            assert row["storms"] == (0 if (row["lat_index"], row["lon_index"]) == (8, 10) else 3)


def test_patches_in_memory_are_those_of_the_shards(world: World) -> None:
    dataset = world.project.dataset("cubes")
    table = dataset.to_arrow("test", columns=["patch", "sst"])
    values = (
        table.column("sst").combine_chunks().flatten().flatten().flatten().to_numpy().reshape(-1, 3, 4, 5)
    )
    rows = dataset.to_polars("test")
    for value, t, y, x in zip(values, rows["time_index"], rows["lat_index"], rows["lon_index"], strict=True):
        np.testing.assert_allclose(value, world.warm[t : t + 3, y : y + 4, x : x + 5], rtol=1e-6, atol=1e-6)
    batch = next(iter(dataset.numpy(8, "train")))
    assert batch["sst"].shape == (8, 3, 4, 5)


def test_later_values_change_no_look_up_and_no_patch_before_them(world: World) -> None:
    before = world.project.dataset("met").to_polars()
    folder = world.folder / "changed"
    shutil.copytree(world.folder / "sst.zarr", folder / "sst.zarr")
    shutil.copytree(world.folder / "store", folder / "store")  # a version of all before the values change
    for name in ("land.zarr", "ships.parquet", "scenes.parquet", "storms.parquet"):
        source = world.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    array = zarr.open_array(str(folder / "sst.zarr/sst"), mode="r+")
    array[12:] = 1e6
    (folder / "p.yaml").write_text(SPEC.format(store=folder / "store"))
    project = ff.Project(folder / "p.yaml", scheduler="threads", workers=1, scratch=folder / "scratch")
    project.build(["+met"])
    assert project.table("warm").version == 2
    pinned = project.dataset("cubes@1").to_arrow(columns=["sst"]).column("sst").combine_chunks()
    known = world.project.dataset("cubes").to_arrow(columns=["sst"]).column("sst").combine_chunks()
    values, same = (np.asarray(one.flatten().flatten().flatten()) for one in (pinned, known))
    np.testing.assert_array_equal(
        values, same
    )  # patches are those of the grid's version that they were made from
    after = project.dataset("met").to_polars()
    cut = pl.lit(datetime(2026, 1, 13)).dt.replace_time_zone("UTC")
    assert before.filter(pl.col("t") < cut).equals(after.filter(pl.col("t") < cut), null_equal=True)
    assert not before.filter(pl.col("t") >= cut).equals(after.filter(pl.col("t") >= cut), null_equal=True)


def test_gc_keeps_what_a_dataset_reads_until_that_has_gone(tmp_path: Path) -> None:
    first = np.random.default_rng(0).normal(size=(4, 4)).astype("f4")
    text = f"""
project: sea
store: {tmp_path / "store"}
sources: {{sst: {{path: sst.zarr}}}}
features:
  half: {{source: sst, steps: [{{derive: {{sst: sst / 2}}}}], chunks: {{lat: 2, lon: 2}}}}
datasets:
  tiles: {{spine: {{grid: half, patch: {{lat: 2, lon: 2}}}}}}
"""
    (tmp_path / "p.yaml").write_text(text)

    def build(values: np.ndarray[Any, Any], name: str) -> None:
        coords = {"lat": np.arange(4.0), "lon": np.arange(4.0)}
        xr.Dataset({"sst": (("lat", "lon"), values)}, coords).to_zarr(
            tmp_path / "sst.zarr", mode="w", zarr_format=2
        )
        project = ff.Project(
            tmp_path / "p.yaml", scheduler="threads", workers=1, scratch=tmp_path / "scratch"
        )
        project.build([name])

    build(first, "+tiles")
    build(first + 1, "half")
    build(first + 2, "half")
    store = ff.open(tmp_path / "store")
    grid, tiles = (str(tmp_path / "store" / part) for part in ("features/half", "datasets/tiles"))
    later = datetime.now(UTC) + timedelta(days=30)
    found = gc(grid, "half", keep=1, now=later)
    assert (found.expired, found.kept, dict(found.pinned)) == ((2,), (1, 3), {1: ("tiles@1",)})
    values = np.array(store.dataset("tiles").to_arrow(columns=["sst"])["sst"].to_pylist())
    np.testing.assert_array_equal(values.reshape(4, 2, 2)[0], first[:2, :2] / 2)
    build(first + 3, "+tiles")
    assert gc(tiles, "tiles", keep=1, now=later).expired == (1,)
    found = gc(grid, "half", keep=1, now=later)
    assert (found.expired, found.kept, dict(found.pinned)) == ((1, 3), (4,), {})
