"""Chunks that are decoded here, against the arrays as xarray reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numcodecs.blosc  # type: ignore[import-untyped]
import numpy as np
import pytest
import xarray as xr
import zarr
from unit.tables.array_world import CHUNKS, build, cube, write_all
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from featureflow.core.errors import CorruptionError
from featureflow.tables import arrays_layout
from featureflow.tables.arrays import ArraySpec, begin, open_arrays, write_region
from featureflow.tables.arrays_chunks import read_chunks, stored_chunks
from featureflow.tables.arrays_layout import compressors
from featureflow.tables.arrays_reading import open_group

BOUNDS = ((1, 9), (3, 17), (0, 8))


def read(
    url: str, snapshot: str, name: str, bounds: Any, shape: tuple[int, ...], *, in_place: bool = True
) -> np.ndarray[Any, Any]:
    """The box, put together; every chunk lies where the one before it did, if it can be decoded in place."""
    memory = np.full(10_000, 7, np.uint8)
    out = np.full(shape, -1.0, "f4")
    chunks = stored_chunks(url, snapshot, name)
    assert chunks is not None
    for origin, values in read_chunks(url, name, chunks, bounds, lambda s, _: memory[: s[0]]):
        assert np.shares_memory(values, memory) is in_place
        assert not values.flags.writeable
        inside = tuple(
            slice(0, min(n, size - at)) for n, size, at in zip(values.shape, shape, origin, strict=True)
        )
        out[tuple(slice(at, at + n.stop) for at, n in zip(origin, inside, strict=True))] = values[inside]
    return out[tuple(slice(*one) for one in bounds)]


@pytest.mark.parametrize("bounds", [BOUNDS, ((0, 10), (0, 17), (0, 14)), ((4, 5), (9, 10), (13, 14))])
def test_a_box_has_the_values_of_the_array(tmp_path: Path, bounds: Any) -> None:
    url, data = str(tmp_path), cube(10)
    snapshot = build(url, data, "b1")
    wanted = data.sst.values[tuple(slice(*one) for one in bounds)]
    np.testing.assert_array_equal(read(url, snapshot, "sst", bounds, data.sst.shape), wanted)


def test_chunks_inside_shards(tmp_path: Path) -> None:
    shards, url, data = {dim: 2 * size for dim, size in CHUNKS.items()}, str(tmp_path), cube(10)[["sst"]]
    write = begin(url, ArraySpec(data, CHUNKS, shards), "b1", None)
    write.merge([write_region(write.fork(), {}, data)])
    snapshot = write.commit("x")
    chunks = stored_chunks(url, snapshot, "sst")
    assert chunks is not None
    assert chunks.in_shards
    wanted = data.sst.values[tuple(slice(*one) for one in BOUNDS)]
    np.testing.assert_array_equal(read(url, snapshot, "sst", BOUNDS, data.sst.shape), wanted)


def test_a_chunk_that_was_never_written_is_missing_values(tmp_path: Path) -> None:
    data = xr.Dataset({"a": (("time", "lat", "lon"), np.ones((8, 18, 16), "f4"))})
    snapshot = begin(str(tmp_path), ArraySpec(data, CHUNKS), "b1", None).commit("nothing but shapes")
    assert np.isnan(read(str(tmp_path), snapshot, "a", ((0, 8), (0, 18), (0, 16)), (8, 18, 16))).all()


def test_changed_bytes_are_an_error_that_names_the_array(tmp_path: Path) -> None:
    url, data = str(tmp_path), cube(8)
    snapshot = build(url, data, "b1")
    files = sorted((p for p in tmp_path.rglob("chunks/*") if p.is_file()), key=lambda p: -p.stat().st_size)
    for path in files:
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 4
        path.write_bytes(bytes(whole))
    with pytest.raises(CorruptionError, match="variable 'sst'"):
        read(url, snapshot, "sst", BOUNDS, data.sst.shape)


def test_no_flipped_bit_of_a_chunk_becomes_a_value(tmp_path: Path) -> None:
    data = cube(4)[["sst"]]
    write = begin(str(tmp_path), ArraySpec(data, {}), "b1", None)
    write.merge([write_region(write.fork(), {}, data)])
    snapshot = write.commit("x")
    path = max((p for p in tmp_path.rglob("chunks/*")), key=lambda p: p.stat().st_size)
    good = path.read_bytes()
    chunks = stored_chunks(str(tmp_path), snapshot, "sst")
    assert chunks is not None
    (packed,) = chunks.fetch([(0, 0, 0)])
    assert bytes(packed) == good
    np.testing.assert_array_equal(chunks.decode(good).reshape(data.sst.shape), data.sst.values)
    memory = np.zeros(chunks.nbytes, np.uint8)
    for bit in range(8 * len(good)):
        broken = bytearray(good)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="checksum"):
            chunks.decode(bytes(broken), memory)
    for length in range(0, len(good), 7):
        with pytest.raises(ValueError, match="checksum"):
            chunks.decode(good[:length], memory)


# ---------------------------------------------------------------- how chunks are compressed


def test_the_same_values_are_the_same_bytes_and_smaller() -> None:
    values = np.sin(np.arange(1 << 18, dtype="f4") / 1000).reshape(512, 512)

    def packed(folder: str) -> bytes:
        array = zarr.create_array(
            store := zarr.storage.MemoryStore(),
            name=folder,
            data=values,
            chunks=values.shape,
            compressors=compressors(values.dtype, values.nbytes),
            filters=(),
        )
        np.testing.assert_array_equal(array[:], values)
        return bytes(store._store_dict[f"{folder}/c/0/0"].to_bytes())

    first = packed("a")
    assert first == packed("b")
    assert len(first) < 0.6 * values.nbytes
    assert numcodecs.blosc.use_threads is False  # its own threads write blocks in any order


@pytest.mark.parametrize(
    ("dtype", "shuffle"), [("f4", "shuffle"), ("i2", "shuffle"), ("?", "bitshuffle"), ("u1", "bitshuffle")]
)
def test_equal_bytes_or_bits_lie_together(tmp_path: Path, dtype: str, shuffle: str) -> None:
    data = xr.Dataset({"a": (("x",), np.arange(400).astype(dtype))}, {"x": np.arange(400.0)})
    write = begin(str(tmp_path), ArraySpec(data, {"x": 100}), "b1", None)
    snapshot = write.commit("x")
    group: Any = open_group(str(tmp_path), snapshot)
    blosc, checksum = group["a"].compressors
    assert (blosc.cname.name, blosc.shuffle.name, blosc.typesize) == (
        "lz4",
        shuffle,
        np.dtype(dtype).itemsize,
    )
    assert isinstance(checksum, Crc32cCodec)
    assert group["x"].compressors[0].typesize == 8


def test_chunks_that_blosc_can_not_take_are_zstd() -> None:
    (codec,) = compressors(np.dtype("f4"), 1 << 31)
    assert isinstance(codec, ZstdCodec)
    assert codec.checksum
    assert isinstance(compressors(np.dtype("f4"), (1 << 31) - 20)[0], BloscCodec)


def test_an_array_that_is_compressed_otherwise_is_read_and_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, data = str(tmp_path), cube(10)
    with monkeypatch.context() as before:
        before.setattr(arrays_layout, "compressors", lambda *_: (ZstdCodec(level=1, checksum=True),))
        old = build(url, data, "b1")
    wanted = data.sst.values[tuple(slice(*one) for one in BOUNDS)]
    np.testing.assert_array_equal(read(url, old, "sst", BOUNDS, data.sst.shape, in_place=False), wanted)
    longer = cube(12)
    write = begin(url, ArraySpec(longer, CHUNKS), "b2", old)
    assert write.empty == {"sst", "n"}
    write.merge(write_all(write, longer))
    new = write.commit("x")
    np.testing.assert_array_equal(read(url, new, "sst", BOUNDS, longer.sst.shape), wanted)
    xr.testing.assert_identical(open_arrays(url, old).load(), data)
    xr.testing.assert_identical(open_arrays(url, new).load(), longer)
    assert begin(url, ArraySpec(longer, CHUNKS), "b3", new).empty == frozenset()
