"""Batches of exported shards: exact resume, epochs, columns, tails, frames; every format; damage."""

from __future__ import annotations

import logging
import pickle
import re
import threading

import numpy as np
import pyarrow as pa
import pytest
from oracle.exports import assert_rows, numbered, write_export

from featureflow.core.errors import ComputeError, CorruptionError, TableError
from featureflow.library.shards.registry import shard_format
from featureflow.loaders import order
from featureflow.loaders.columns import describe
from featureflow.loaders.gather import Layout, OpenShard
from featureflow.loaders.order import Segment
from featureflow.loaders.rounds import Shelf
from featureflow.loaders.shards import load_shards

SIZES = (70, 0, 55, 33)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("shards") / "tiny" / "1")


def write_tiny(root, **options):
    tables, first = [], 0
    for size in SIZES:
        tables.append(numbered(first, size))
        first += size
    return write_export(root, {"train": tables, "test": [numbered(1000, 20)]}, block_rows=16, **options)


def flat(lists):
    return [key for keys in lists for key in keys]


def keys_of(batches):
    return [batch["key"].tolist() for batch in batches]


# ---------------------------------------------------------------- opening


def test_shards_say_what_they_are(export):
    shards = load_shards(str(export))
    assert (shards.splits, len(shards), shards.rows("test")) == (("train", "test"), 178, 20)
    assert shards.columns == ("key", "x", "amount", "label", "text")
    assert shards.manifest.format == "arrow"
    assert repr(shards) == (
        "<Shards tiny@1, arrow shards, 5 columns\n  train: 158 rows in 4 shards\n  test: 20 rows in 1 shards>"
    )
    assert "<td>train</td><td>158</td><td>4</td>" in shards._repr_html_()


def test_a_folder_of_versions_gives_the_highest_that_is_finished(tmp_path):
    for version in ("1", "2", "10"):
        write_export(tmp_path / "d" / version, {"all": [numbered(int(version), 3)]})
    assert load_shards(tmp_path / "d").to_pandas()["key"].tolist() == [10, 11, 12]
    (tmp_path / "d" / "10" / "manifest.json").unlink()
    assert load_shards(str(tmp_path / "d")).to_pandas()["key"].tolist() == [2, 3, 4]
    for version in ("1", "2"):
        (tmp_path / "d" / version / "manifest.json").unlink()
    with pytest.raises(
        TableError, match=r"no export there is finished: no version \(1, 2, 10\) has a manifest"
    ):
        load_shards(str(tmp_path / "d"))
    with pytest.raises(TableError, match=r"the export is unfinished: there is no manifest.json"):
        load_shards(str(tmp_path / "d" / "2"))
    with pytest.raises(TableError, match="nothing is there"):
        load_shards(str(tmp_path / "e"))
    with pytest.raises(TableError, match=r"holds the exports of d\. Name one: '.*/d'"):
        load_shards(str(tmp_path))


def test_a_manifest_that_does_not_add_up_is_refused(tmp_path):
    write_export(tmp_path, {"all": [numbered(0, 3)]}, rows={"in": 9, "kept": 4, "embargoed": 5})
    with pytest.raises(CorruptionError, match="4 rows were kept, and the shards have 3"):
        load_shards(str(tmp_path))
    write_export(tmp_path, {"all": [numbered(0, 3)]}, rows={"in": 9, "kept": 3, "embargoed": 5})
    with pytest.raises(CorruptionError, match="of 9 rows, 8 are accounted for"):
        load_shards(str(tmp_path))


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_once_and_whole(export, shuffle, prefetch):
    batches = load_shards(str(export)).numpy(10, shuffle=shuffle, tail="partial", prefetch=prefetch)
    found = []
    for batch in batches:
        assert list(batch) == ["key", "x", "amount", "label", "text"]
        assert_rows(batch)
        found += batch["key"].tolist()
    assert sorted(found) == list(range(158))
    assert (found == list(range(158))) is not shuffle
    assert len(batches) == 16


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_rounds_reuse_their_buffers(tmp_path, monkeypatch, prefetch, compression):
    """Stripes of 4 rows: forty rounds for one epoch, which take turns in two sets of buffers."""
    monkeypatch.setattr(order, "_ROUND_BYTES", 0)
    shards = load_shards(str(write_tiny(tmp_path, compression=compression)))
    whole = []
    for batch in shards.numpy(7, lanes=1, tail="partial", prefetch=prefetch):
        assert_rows(batch)
        whole += batch["key"].tolist()
    assert sorted(whole) == list(range(158))
    resumed = shards.numpy(7, lanes=1, tail="partial", prefetch=prefetch)
    resumed.load_state_dict({**resumed.state_dict(), "samples": 77})
    assert flat(keys_of(resumed)) == whole[77:]


def test_shards_that_are_read_are_let_go():
    """Of shards one after another, the last two stay open."""
    columns = [describe(pa.field("key", pa.int64()))]
    layout = Layout(columns)
    opened = []

    def open_shard(number):
        opened.append(number)
        return OpenShard(pa.table({"key": [number]}), columns)

    shelf = Shelf(open_shard)
    for number in [0, 0, 1, 0, 2, 3, 0]:
        buffers = layout.allocate(1)
        shelf.fill(layout, buffers, [Segment(number, 0, 1)])
        assert buffers[0].tolist() == [number]
        assert len(shelf._shards) <= 2
    assert opened == [0, 1, 2, 3, 0]


def test_types_are_those_of_the_columns(export):
    batch = next(iter(load_shards(str(export)).numpy(8)))
    assert {n: (v.dtype, v.shape) for n, v in batch.items() if n != "text"} == {
        "key": (np.int64, (8,)),
        "x": (np.float32, (8, 4)),
        "amount": (np.float64, (8,)),
        "label": (np.bool_, (8,)),
    }
    assert all(array.flags.writeable for name, array in batch.items() if name != "text")


def test_one_seed_one_order_and_every_epoch_another(export):
    shards = load_shards(str(export))
    first, again = shards.numpy(10, seed=4), shards.numpy(10, seed=4)
    epochs = [keys_of(first) for _ in range(3)]
    assert epochs == [keys_of(again) for _ in range(3)]
    assert keys_of(shards.numpy(10, seed=4, epoch=2)) == epochs[2]
    first.set_epoch(1)
    assert keys_of(first) == epochs[1]
    assert keys_of(shards.numpy(10, seed=5)) != epochs[0]
    assert len({str(epoch) for epoch in epochs}) == 3


def test_looking_at_a_batch_does_not_use_it_up(export):
    shards = load_shards(str(export))
    batches = shards.numpy(10)
    next(iter(batches))
    assert keys_of(batches) == keys_of(shards.numpy(10))
    assert batches.epoch == 1


def test_columns_in_the_order_asked_for(export):
    shards = load_shards(str(export))
    assert list(next(iter(shards.numpy(4, columns=["label", "key"])))) == ["label", "key"]
    with pytest.raises(ComputeError, match=r"there is no column 'lable'\. Did you mean 'label'"):
        shards.numpy(4, columns=["lable"])
    with pytest.raises(ComputeError, match="give a list of names"):
        shards.numpy(4, columns="label")


def test_what_makes_no_sense_is_refused(export):
    shards = load_shards(str(export))
    for wrong, message in [
        ({"batch_size": 0}, "batch_size=0: give 1 or more"),
        ({"split": "valid"}, "there is no split 'valid': split='train' or 'test'"),
        ({"rank": 1}, "rank=1, world=None: give both"),
        ({"rank": 2, "world": 2}, "rank=2: of 2 ranks, give 0 to 1"),
        ({"tail": "keep"}, "tail='keep': give one of drop, partial, pad"),
    ]:
        with pytest.raises(ComputeError, match=message):
            shards.numpy(**wrong)


def test_the_place_comes_from_the_environment(export, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    reading = load_shards(str(export)).numpy(4).reading
    assert (reading.rank, reading.world) == (1, 2)


def test_a_split_smaller_than_a_batch_is_said(export, caplog):
    shards = load_shards(str(export))
    with caplog.at_level(logging.WARNING):
        batches = shards.numpy(21, split="test", tail="drop")
    assert "split 'test' has 20 rows, less than one global batch of 21" in caplog.text
    assert list(batches) == []


def test_padding_is_zero_and_masked(export):
    batches = load_shards(str(export)).numpy(64, split="test", shuffle=False, tail="pad")
    (batch,) = list(batches)
    assert batch["mask"].tolist() == [True] * 20 + [False] * 44
    assert_rows({name: values[:20] for name, values in batch.items()})
    assert not batch["x"][20:].any()
    assert not batch["key"][20:].any()
    assert batch["text"][20:] == [""] * 44
    assert {len(values) for values in batch.values()} == {64}


def test_normalization_of_the_manifest(tmp_path):
    given = {
        "b": {"mean": 2.0, "scale": 4.0},
        "d": {"mean": 1.0, "scale": 0.0},
        "amount": {"mean": 5, "scale": 2},
    }
    root = write_tiny(tmp_path, normalization=given, names={"x": ("a", "b", "c", "d")})
    shards = load_shards(str(root))
    for batch in shards.numpy(50, tail="partial"):
        x = (batch["key"][:, None] * 4 + np.arange(4)).astype(np.float32)
        expected = (x - np.float32([0, 2, 0, 1])) / np.float32([1, 4, 1, 1])
        np.testing.assert_array_equal(batch["x"], expected)
        np.testing.assert_array_equal(batch["amount"], (batch["key"] / 8 - 5) / 2)
    for batch in shards.numpy(50, normalize=False):
        assert_rows(batch)


def test_many_columns_of_one_type_share_an_array(tmp_path):
    rng = np.random.default_rng(0)
    wide = {f"f{i}": rng.standard_normal(3000).astype(np.float32) for i in range(20)}
    table = pa.table({"key": np.arange(3000), "n": np.arange(3000) * 2, **wide})
    parts = [table.slice(0, 1700), table.slice(1700)]
    norm = {f"f{i}": {"mean": float(i), "scale": i + 1.0} for i in range(10)}
    write_export(tmp_path, {"train": parts}, block_rows=1024, normalization=norm)
    for shuffle in (True, False):
        for batch in load_shards(str(tmp_path)).numpy(100, shuffle=shuffle, tail="partial"):
            keys = batch["key"]
            np.testing.assert_array_equal(batch["n"], keys * 2)
            for i in range(20):
                raw = wide[f"f{i}"][keys]
                expected = (raw - np.float32(i)) / np.float32(i + 1) if i < 10 else raw
                np.testing.assert_array_equal(batch[f"f{i}"], expected)


def test_times_and_lists(tmp_path):
    times = np.array(["2026-01-01T00:00:00.000001", "1969-12-31T23:59:59"], "M8[us]")
    table = pa.table(
        {
            "at": pa.array(times, pa.timestamp("us", "UTC")),
            "tags": pa.array([["a", "b"], []], pa.list_(pa.string())),
            "spans": pa.array([[1.5, 2.5], [3.5]], pa.list_(pa.float32())),
        }
    )
    write_export(tmp_path, {"all": [table]})
    shards = load_shards(str(tmp_path))
    (batch,) = list(shards.numpy(2, shuffle=False))
    assert batch["at"].tolist() == times.astype(np.int64).tolist()
    assert batch["tags"] == [["a", "b"], []]
    assert [span.tolist() for span in batch["spans"]] == [[1.5, 2.5], [3.5]]
    (padded,) = list(shards.numpy(3, shuffle=True, tail="pad"))
    assert [len(span) for span in padded["spans"]][2] == 0
    (shuffled,) = list(shards.numpy(2))
    row = shuffled["at"].tolist().index(times.astype(np.int64)[0])
    assert shuffled["tags"][row] == ["a", "b"]
    assert shuffled["spans"][row].tolist() == [1.5, 2.5]


def test_batches_of_shuffled_shards_are_as_varied_as_chance_has_it(tmp_path):
    """Means of batches spread as those of independent draws; read in the order of the values, 30 times as much."""
    rng = np.random.default_rng(1)
    y = rng.permutation(np.sort(rng.standard_normal(120_000)))
    parts = [pa.table({"key": np.arange(4000), "y": y[i : i + 4000]}) for i in range(0, len(y), 4000)]
    write_export(tmp_path, {"train": parts})
    means = [
        batch["y"].mean() for epoch in range(2) for batch in load_shards(str(tmp_path)).numpy(100, seed=epoch)
    ]
    assert 0.9 < np.std(means) * 10 / y.std() < 1.1


# ---------------------------------------------------------------- position


@pytest.mark.parametrize("shuffle", [True, False])
def test_resumed_at_every_batch_it_goes_on_exactly(export, shuffle):
    shards = load_shards(str(export))
    whole = keys_of(shards.numpy(9, shuffle=shuffle, seed=2, epoch=3))
    for taken in range(len(whole) + 1):
        first = shards.numpy(9, shuffle=shuffle, seed=2, epoch=3, prefetch=taken % 3)
        running = iter(first)
        for _ in range(taken):
            next(running)
        resumed = shards.numpy(9, shuffle=shuffle)
        resumed.load_state_dict(first.state_dict())
        assert keys_of(resumed) == whole[taken:]
        assert keys_of(resumed) == keys_of(shards.numpy(9, shuffle=shuffle, seed=2, epoch=4))


def test_a_state_serves_another_number_of_ranks(export):
    shards = load_shards(str(export))

    def ranks(world, size, state=None, take=None):
        found = []
        for rank in range(world):
            batches = shards.numpy(size, seed=6, rank=rank, world=world, tail="partial")
            if state:
                batches.load_state_dict(state)
            found.append(keys_of(batches)[:take])
        return [sorted(flat(parts)) for parts in zip(*found, strict=True)]

    whole = ranks(1, 16)
    for before, after in [(4, 16), (16, 4), (1, 8), (2, 1), (3, 5)]:
        one = shards.numpy(16 // before or 1, seed=6, rank=0, world=before, tail="partial")
        running = iter(one)
        for _ in range(4):
            next(running)
        state = one.state_dict()
        global_batch = one.global_batch
        assert state["samples"] == 4 * global_batch
        rest = ranks(after, max(16 // after, 1), state)
        consumed = {key for batch in ranks(before, max(16 // before, 1))[:4] for key in batch}
        assert sorted(flat(rest)) == sorted(set(range(158)) - consumed)
        if 16 % before == 0 and 16 % after == 0:
            assert rest == whole[4:]


def test_a_state_of_something_else_is_refused(export, tmp_path):
    shards = load_shards(str(export))
    state = shards.numpy(10).state_dict()
    assert state["samples"] == 0
    other = load_shards(str(write_export(tmp_path, {"train": [numbered(0, 158)]})))
    for batches, what in [
        (other.numpy(10), "manifest"),
        (shards.numpy(10, split="test"), "split"),
        (shards.numpy(10, shuffle=False), "shuffle"),
        (shards.numpy(10, lanes=8), "lanes"),
    ]:
        with pytest.raises(TableError, match=f"the state was taken with {what}="):
            batches.load_state_dict(state)
        assert batches.state_dict()["epoch"] == 0
    with pytest.raises(TableError, match="no state of a loader"):
        shards.numpy(10).load_state_dict({"epoch": 1})


def test_setting_the_epoch_of_a_loaded_state_keeps_its_place(export):
    shards = load_shards(str(export))
    first = shards.numpy(10, epoch=2)
    running = iter(first)
    kept = [next(running)["key"].tolist() for _ in range(3)]
    resumed = shards.numpy(10)
    resumed.load_state_dict(first.state_dict())
    resumed.set_epoch(2)
    assert kept + keys_of(resumed) == keys_of(shards.numpy(10, epoch=2))


def test_leaving_early_stops_the_threads(export):
    shards = load_shards(str(export))
    before = threading.active_count()
    for batch in shards.numpy(10, prefetch=3):
        assert len(batch["key"]) == 10
        break
    assert threading.active_count() == before


# ---------------------------------------------------------------- whole tables


def test_frames(export):
    shards = load_shards(str(export))
    table = shards.to_arrow()
    assert table["key"].to_pylist() == [*range(158), *range(1000, 1020)]
    assert shards.to_arrow("test", ["text", "key"]).column_names == ["text", "key"]
    frame = shards.to_pandas("train")
    assert frame["x"][3].tolist() == [12, 13, 14, 15]
    polars = shards.to_polars("train", columns=["x", "label"])
    assert polars.shape == (158, 2)
    assert polars["x"][3].to_list() == [12, 13, 14, 15]


@pytest.mark.parametrize(
    "name", ["arrow", "parquet", "mds", "webdataset", "tfrecord", "npy", "zarr", "litdata"]
)
def test_every_format_is_loaded(tmp_path, name):
    compression = {"arrow": "zstd", "parquet": "zstd"}.get(name, "none")
    assert compression in shard_format(name).compressions
    tables = [numbered(0, 39), numbered(39, 38)]
    write_export(tmp_path, {"train": tables}, shard_format_name=name, compression=compression)
    found = []
    for batch in load_shards(str(tmp_path)).numpy(16, tail="partial"):
        assert_rows(batch)
        found += batch["key"].tolist()
    assert sorted(found) == list(range(77))


# ---------------------------------------------------------------- damage


def damage(root, how):
    path = root / "train" / "part-00002-of-00004.arrow"
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "cut":
        data = data[:-8]
    elif how == "flipped":
        data[len(data) // 2] ^= 1
    else:
        data = data[:0]
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["missing", "cut", "flipped", "empty"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_damaged_shard_is_named(tmp_path, how, prefetch):
    root = write_tiny(tmp_path)
    damage(root, how)
    shards = load_shards(str(root))
    for shuffle in (True, False):
        with pytest.raises(CorruptionError, match=r"shard .*/train/part-00002-of-00004: .*part-00002"):
            list(shards.numpy(10, shuffle=shuffle, prefetch=prefetch))
    with pytest.raises(CorruptionError, match="part-00002"):
        shards.to_pandas()
    assert len(list(shards.numpy(10, split="test"))) == 2


def test_a_checksum_can_be_left_out(tmp_path):
    root = write_tiny(tmp_path)
    path = root / "train" / "part-00002-of-00004.arrow"
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    data = path.read_bytes()
    changed = data.replace(np.float64(table["amount"][5].as_py()).tobytes(), np.float64(-1).tobytes(), 1)
    assert changed != data
    path.write_bytes(changed)
    with pytest.raises(CorruptionError, match="its bytes have changed"):
        load_shards(str(root)).to_arrow("train")
    assert -1 in load_shards(str(root), verify=False).to_arrow("train")["amount"].to_pylist()


def test_bytes_that_are_no_shard_are_named_without_checksums(tmp_path):
    root = write_tiny(tmp_path)
    path = root / "train" / "part-00002-of-00004.arrow"
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(CorruptionError, match=r"part-00002-of-00004\.arrow is not the Arrow file"):
        load_shards(str(root), verify=False).to_arrow()


@pytest.mark.parametrize("how", ["cut", "missing", "empty"])
def test_a_file_of_another_size_is_named_without_checksums(tmp_path, how):
    root = write_tiny(tmp_path)
    damage(root, how)
    with pytest.raises(CorruptionError, match=r"part-00002-of-00004\.arrow (has \d+ bytes, and|is missing)"):
        load_shards(str(root), verify=False).to_arrow()


def test_a_shard_with_other_rows_than_the_manifest_says_is_named(tmp_path):
    root = write_tiny(tmp_path)
    manifest = root / "manifest.json"
    text = manifest.read_text()
    assert text.count('"rows": 55') == 1
    assert text.count('"rows": 33') == 1
    wrong = text.replace('"rows": 55', '"rows": 54').replace('"rows": 33', '"rows": 34')
    manifest.write_text(wrong)
    with pytest.raises(CorruptionError, match="digest differs"):
        load_shards(str(root))
    manifest.write_text(
        re.sub(r',\s*"digest": "\w+"', "", wrong)
    )  # as older ones: without a digest of themselves
    with pytest.raises(CorruptionError, match="part-00002-of-00004 has 55 rows, and the manifest says 54"):
        load_shards(str(root)).to_arrow()


def test_loaders_travel_to_other_processes(export):
    shards = load_shards(str(export))
    batches = shards.numpy(10)
    assert keys_of(pickle.loads(pickle.dumps(batches))) == keys_of(batches)


def test_loading_imports_no_framework(export):
    import subprocess
    import sys

    code = (
        "import sys, featureflow.loaders.shards as s\n"
        "batches = s.load_shards(sys.argv[1]).numpy(16, tail='partial')\n"
        "assert sum(len(batch['text']) for batch in batches) == 158\n"
        "bad = {'torch', 'tensorflow', 'jax', 'pandas', 'polars', 'dask', 'numba'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, str(export)], check=True)


def test_a_framework_that_is_missing_is_named(export, monkeypatch):
    import sys

    shards = load_shards(str(export))
    for method, package in [("torch", "torch"), ("tf", "tensorflow"), ("jax", "jax")]:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=rf"\.{method}\(\) needs {package}"):
            getattr(shards, method)(4)


def test_one_reader_sees_every_row_by_default(export):
    """Several ranks drop what fills no global batch; a single reader has no reason to."""
    alone = load_shards(str(export)).numpy(21, split="test")
    assert [len(batch["key"]) for batch in alone] == [20]
    assert len(list(load_shards(str(export)).numpy(21, split="test", rank=0, world=2))) == 0
