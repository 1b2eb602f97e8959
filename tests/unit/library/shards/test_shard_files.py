"""Shards that were written to a folder, read by the tools that users have: no line of featureflow's own decoding."""

from __future__ import annotations

import itertools
import json
import os
from datetime import UTC, date, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import xarray
import zarr

from featureflow.contracts.shard_format import ShardOptions, ShardPlace
from featureflow.core.errors import ComputeError
from featureflow.library.shards.registry import shard_format

SIZES = (5, 5, 3)  # rows of the shards
N = sum(SIZES)
SCHEMA = pa.schema(
    [
        ("x", pa.list_(pa.float32(), 64)),
        ("patch", pa.list_(pa.list_(pa.list_(pa.float32(), 3), 5), 4)),
        ("amount", pa.float64()),
        ("id", pa.int64()),
        ("label", pa.int8()),
        ("seen", pa.bool_()),
        ("city", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
    ]
)
RNG = np.random.default_rng(7)
ARRAYS = {
    "x": RNG.standard_normal((N, 64)).astype(np.float32),
    "patch": RNG.standard_normal((N, 4, 5, 3)).astype(np.float32),
    "amount": np.array([np.inf, -0.0, 1e-300, *RNG.standard_normal(N - 3)]),
    "id": np.array([2**62, -(2**62), *range(N - 2)]),
    "label": np.arange(N, dtype=np.int8) - 6,
    "seen": np.arange(N) % 3 == 0,
}
CITIES = (["", "Zürich", "東京", "🏙"] * N)[:N]
AT = [datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC) + timedelta(days=17 * i) for i in range(N)]
DAYS = [date(1969, 12, 30) + timedelta(days=i) for i in range(N)]


def table() -> pa.Table:
    values = {name: array.tolist() for name, array in ARRAYS.items()}
    return pa.table({**values, "city": CITIES, "at": AT, "day": DAYS}, schema=SCHEMA)


def export(name: str, folder, options: ShardOptions, sizes=SIZES) -> list[str]:
    """Write one split as the exporter does: every shard by itself, then the index."""
    offered, rows, first = shard_format(name), table(), 0
    offered.check(SCHEMA, options)
    places, entries, files = [], [], {}
    for number, size in enumerate(sizes):
        stem = f"train/part-{number:05d}-of-{len(sizes):05d}"
        place = ShardPlace(stem, number, len(sizes), first, N)
        made = offered.encode(rows.slice(first, size), place, options)
        files |= {
            path: b"".join(bytes(memoryview(b).cast("B")) for b in bs) for path, bs in made.files.items()
        }
        places.append(place)
        entries.append({**made.entry, "bytes": 0, "xxh3_64": ""})
        first += size
    files |= offered.index("train", places, entries, SCHEMA, options)
    for path, data in files.items():
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(data)
    return sorted(files)


def assert_rows(rows: list[dict]) -> None:
    assert len(rows) == N
    for name, array in ARRAYS.items():
        found = np.array(
            [np.array([*map(np.array, row[name])]) if name == "x" else _nested(row[name]) for row in rows]
        )
        np.testing.assert_array_equal(found.astype(array.dtype), array, err_msg=name)
    assert [row["city"] for row in rows] == CITIES
    assert [pd.Timestamp(row["at"]) for row in rows] == [pd.Timestamp(at) for at in AT]
    assert [pd.Timestamp(row["day"]) for row in rows] == [pd.Timestamp(day) for day in DAYS]


def _nested(value):
    """Pandas gives arrays of arrays of objects."""
    return np.array([_nested(each) for each in value]) if np.ndim(value) else value


@pytest.mark.parametrize("compression", ["none", "zstd", "lz4"])
def test_parquet_shards_in_other_tools(tmp_path, compression):
    export("parquet", tmp_path, ShardOptions(compression=compression, block_rows=2))
    folder, files = f"{tmp_path}/train", f"{tmp_path}/train/*.parquet"
    frame = pl.read_parquet(files)
    assert frame.schema["patch"] == pl.Array(pl.Float32, (4, 5, 3))
    assert_rows(frame.to_dicts())
    assert_rows(duckdb.sql(f"select * from '{files}'").to_arrow_table().to_pylist())
    assert_rows(pd.read_parquet(folder).to_dict("records"))
    assert_rows(pads.dataset(folder).to_table().to_pylist())


@pytest.mark.parametrize("compression", ["none", "zstd", "lz4"])
def test_arrow_shards_in_other_tools(tmp_path, compression):
    export("arrow", tmp_path, ShardOptions(compression=compression, block_rows=2))
    assert_rows(pl.read_ipc(f"{tmp_path}/train/*.arrow").to_dicts())
    assert_rows(pads.dataset(f"{tmp_path}/train", format="ipc").to_table().to_pylist())
    one = pa.memory_map(f"{tmp_path}/train/part-00000-of-00003.arrow")
    with pa.ipc.open_file(one) as file:
        assert [file.get_batch(i).num_rows for i in range(file.num_record_batches)] == [2, 2, 1]
        assert file.schema.metadata is None


def test_parquet_files_are_written_as_measured(tmp_path):
    for compression in ("none", "zstd"):
        export("parquet", tmp_path, ShardOptions(compression=compression, block_rows=2))
        with pq.ParquetFile(f"{tmp_path}/train/part-00000-of-00003.parquet") as file:
            assert file.metadata.num_row_groups == 3
            columns = [file.metadata.row_group(0).column(i) for i in range(file.metadata.num_columns)]
            by_name = {column.path_in_schema: column for column in columns}
            assert not any(column.has_dictionary_page for column in columns)
            split = {path for path, column in by_name.items() if "BYTE_STREAM_SPLIT" in column.encodings}
            floats = {"x.list.element", "patch.list.element.list.element.list.element", "amount"}
            assert split == (floats if compression == "zstd" else set())
            assert not any(field.nullable for field in file.schema_arrow)


def test_a_changed_page_of_parquet_is_noticed(tmp_path):
    export("parquet", tmp_path, ShardOptions())
    path = f"{tmp_path}/train/part-00000-of-00003.parquet"
    with open(path, "rb") as file:
        data = bytearray(file.read())
    at = data.find(ARRAYS["patch"][:5].tobytes())
    assert at > 0
    data[at + 5] ^= 1
    place = ShardPlace("train/part-00000-of-00003", 0, 3, 0, N)
    with pytest.raises(Exception, match=r"train/part-00000-of-00003\.parquet.*(CRC|checksum)"):
        shard_format("parquet").decode(
            {f"{place.stem}.parquet": bytes(data)}, place, {}, SCHEMA, ShardOptions()
        )


def test_npy_shards_are_plain_numpy_files(tmp_path):
    paths = export("npy", tmp_path, ShardOptions(), sizes=(4, 7, 2))

    def column(name):
        parts = [f"{tmp_path}/train/{name}/part-{i:05d}-of-00003.npy" for i in range(3)]
        loaded = [np.load(part, allow_pickle=False) for part in parts]
        assert len({part.dtype.str for part in loaded}) == 1
        assert [len(part) for part in loaded] == [4, 7, 2] or name.startswith("city.")
        assert np.load(parts[0], mmap_mode="r").flags.c_contiguous
        return loaded

    for name, array in ARRAYS.items():
        found = np.concatenate(column(name))
        assert found.dtype == array.dtype
        assert found.tobytes() == array.tobytes()
    assert np.concatenate(column("at")).dtype == np.dtype("<M8[us]")
    assert [at.replace(tzinfo=UTC) for at in np.concatenate(column("at")).tolist()] == AT
    assert np.concatenate(column("day")).tolist() == DAYS
    texts = zip(column("city.offsets"), column("city.bytes"), strict=True)
    found = [bytes(data[a:b]).decode() for ends, data in texts for a, b in itertools.pairwise(ends)]
    assert found == CITIES
    assert len(paths) == 3 * (len(SCHEMA) + 1)


def test_a_file_of_npy_is_the_one_that_numpy_writes(tmp_path):
    """The head as the standard of version 1.0 has it, the same with every NumPy."""
    export("npy", tmp_path, ShardOptions())
    path = f"{tmp_path}/train/patch/part-00002-of-00003.npy"
    with open(path, "rb") as file:
        data = file.read()
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5, 3), }"
    assert data == b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117) + b"\n" + ARRAYS["patch"][10:].tobytes()


def test_a_file_of_npy_of_another_type_is_not_cast(tmp_path):
    place = ShardPlace("train/p", 0, 1, 0, 3)
    made = shard_format("npy").encode(pa.table({"x": [1.5, 2.5, 3.5]}), place, ShardOptions())
    files = {path: b"".join(bytes(b) for b in buffers) for path, buffers in made.files.items()}
    with pytest.raises(ComputeError, match="float64"):
        shard_format("npy").decode(files, place, {}, pa.schema([("x", pa.float32())]), ShardOptions())


def test_two_columns_of_npy_never_share_a_folder():
    schema = pa.schema([("city", pa.string()), ("city.bytes", pa.int64())])
    with pytest.raises(ComputeError, match=r"'city\.bytes' is one of two"):
        shard_format("npy").check(schema, ShardOptions())


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_zarr_shards_open_as_one_group(tmp_path, compression):
    paths = export("zarr", tmp_path, ShardOptions(compression=compression))
    assert "train/zarr.json" in paths
    group = zarr.open_group(f"{tmp_path}/train", mode="r")
    assert sorted(group.array_keys()) == sorted(SCHEMA.names)
    for name, array in ARRAYS.items():
        assert group[name].chunks == (5, *array.shape[1:])
        assert group[name].dtype == array.dtype
        np.testing.assert_array_equal(group[name][:], array, err_msg=name)
    assert group["city"][:].tolist() == CITIES
    since = datetime(1970, 1, 1, tzinfo=UTC)
    assert group["at"][:].tolist() == [(at - since) // timedelta(microseconds=1) for at in AT]
    for source in (
        xarray.open_zarr(f"{tmp_path}/train", chunks=None),
        xarray.open_zarr(f"{tmp_path}/train", chunks=None, consolidated=False),
    ):
        with source as opened:
            assert opened["patch"].dims == ("row", "patch_axis1", "patch_axis2", "patch_axis3")
            np.testing.assert_array_equal(opened["patch"].values, ARRAYS["patch"])
            assert [pd.Timestamp(at, tz="UTC") for at in opened["at"].values] == [
                pd.Timestamp(at) for at in AT
            ]
            assert [pd.Timestamp(day) for day in opened["day"].values] == [pd.Timestamp(day) for day in DAYS]
            assert opened["city"].values.tolist() == CITIES


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_zarr_shards_are_the_files_that_zarr_python_writes(tmp_path, compression):
    export("zarr", tmp_path / "ours", ShardOptions(compression=compression))
    group = zarr.open_group(f"{tmp_path}/theirs", mode="w", zarr_format=3)
    packed = zarr.codecs.ZstdCodec(level=1) if compression == "zstd" else None
    cities = np.array(CITIES, dtype=np.dtypes.StringDType())
    for name, array in {**ARRAYS, "city": cities}.items():
        axes = [f"{name}_axis{i}" for i in range(1, array.ndim)]
        how = {"chunks": (5, *array.shape[1:]), "compressors": packed, "dimension_names": ["row", *axes]}
        # a chunk of nothing but fill values is a file here, too
        group.create_array(
            name, shape=array.shape, dtype=array.dtype, **how, config={"write_empty_chunks": True}
        )
        group[name][:] = array
        theirs = _files(tmp_path / "theirs" / name)
        ours = _files(tmp_path / "ours" / "train" / name)
        assert json.loads(ours.pop("zarr.json")) == json.loads(theirs.pop("zarr.json")), name
        if compression == "none":
            assert ours == theirs, name
        assert sorted(ours) == sorted(theirs), name


def _files(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("sizes", [(4, 5, 4), (5, 4, 4), (6, 6, 1)])
def test_zarr_shards_have_equal_rows(tmp_path, sizes):
    with pytest.raises(ComputeError, match="zarr shards need equal numbers of rows: here 5"):
        export("zarr", tmp_path, ShardOptions(), sizes=sizes)


def test_an_empty_split_of_zarr_is_a_group_of_empty_arrays(tmp_path):
    offered, place = shard_format("zarr"), ShardPlace("test/part-00000-of-00001", 0, 1, 0, 0)
    made = offered.encode(table().slice(0, 0), place, ShardOptions())
    assert made.files == {}
    files = offered.index("test", [place], [made.entry], SCHEMA, ShardOptions())
    assert files == offered.index("test", [], [], SCHEMA, ShardOptions())
    for path, data in files.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    group = zarr.open_group(f"{tmp_path}/test", mode="r")
    assert {name: array.shape for name, array in group.arrays()}["patch"] == (0, 4, 5, 3)
    assert offered.decode({}, place, {}, SCHEMA, ShardOptions()).equals(table().slice(0, 0))


def test_zarr_has_no_bytes():
    with pytest.raises(ComputeError, match="'blob' is binary, and Zarr 3"):
        shard_format("zarr").check(pa.schema([("blob", pa.binary())]), ShardOptions())


@pytest.mark.parametrize("name", ["arrow", "npy", "zarr"])
def test_numbers_are_neither_copied_to_be_written_nor_to_be_read(name):
    """What makes these three fast: a shard's floats are the table's, and the table's the file's."""
    x = np.arange(6400, dtype=np.float32)
    rows = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(x), 64), "y": np.arange(100)})
    offered, place, options = shard_format(name), ShardPlace("train/p", 0, 1, 0, 100), ShardOptions()
    made = offered.encode(rows, place, options)
    buffers = [buffer for of_file in made.files.values() for buffer in of_file]
    assert any(memoryview(b).nbytes and np.shares_memory(np.frombuffer(b, np.uint8), x) for b in buffers)
    files = {path: b"".join(bytes(memoryview(b).cast("B")) for b in bs) for path, bs in made.files.items()}
    read = offered.decode(files, place, made.entry, rows.schema, options)
    values = read.column("x").chunk(0).values
    owned = [np.frombuffer(data, np.uint8) for data in files.values()]
    assert any(np.shares_memory(np.frombuffer(values.buffers()[1], np.uint8), data) for data in owned)
