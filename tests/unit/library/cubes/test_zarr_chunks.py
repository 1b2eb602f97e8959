"""Chunks that are decoded one by one, against what zarr-python reads."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import pytest
import zarr
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

from featureflow.library.cubes.zarr_chunks import ZarrChunks, chunks_of

SHAPE, CHUNKS = (7, 9), (3, 4)


def values_of(dtype: str) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


def whole(array: Any, found: ZarrChunks) -> np.ndarray[Any, Any]:
    """All chunks put together."""
    counts = [-(-size // part) for size, part in zip(array.shape, found.shape, strict=True)]
    cells = list(product(*(range(n) for n in counts)))
    out = np.zeros([n * part for n, part in zip(counts, found.shape, strict=True)], found.dtype)
    for cell, data in zip(cells, found.fetch(cells), strict=True):
        cut = tuple(slice(at * n, (at + 1) * n) for at, n in zip(cell, found.shape, strict=True))
        out[cut] = found.fill if data is None else found.decode(data).reshape(found.shape)
    return out[: array.shape[0], : array.shape[1]]


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|b1", "|u1", "<f2"])
@pytest.mark.parametrize(
    "codec", [None, numcodecs.Zstd(), numcodecs.Blosc(), numcodecs.GZip(), numcodecs.Zlib(), numcodecs.LZ4()]
)
def test_version_2(tmp_path: Path, dtype: str, codec: Any) -> None:
    array = zarr.create_array(
        tmp_path, shape=SHAPE, chunks=CHUNKS, dtype=dtype, compressors=codec, zarr_format=2, fill_value=1
    )
    array[:5] = values_of(dtype)[:5]  # the last chunks are not stored
    found = chunks_of(zarr.open_array(tmp_path, mode="r"))
    assert found is not None
    np.testing.assert_array_equal(whole(array, found), array[:])


@pytest.mark.parametrize("dtype", ["float32", "int16", "bool", "float16"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize(
    "codecs", [(), (ZstdCodec(checksum=True),), (BloscCodec(),), (GzipCodec(),), (ZstdCodec(), Crc32cCodec())]
)
def test_version_3(tmp_path: Path, dtype: str, endian: Any, codecs: tuple[Any, ...]) -> None:
    array = zarr.create_array(
        tmp_path,
        shape=SHAPE,
        chunks=CHUNKS,
        dtype=dtype,
        compressors=codecs,
        serializer=BytesCodec(endian=endian),
    )
    array[:, :5] = values_of(dtype)[:, :5]
    found = chunks_of(zarr.open_array(tmp_path, mode="r"))
    assert found is not None
    np.testing.assert_array_equal(whole(array, found), array[:])


@pytest.mark.parametrize("location", ["start", "end"])
def test_shards_are_read_by_their_chunks(tmp_path: Path, location: Any) -> None:
    sharding = ShardingCodec(chunk_shape=(3, 4), codecs=[BytesCodec(), ZstdCodec()], index_location=location)
    array = zarr.create_array(
        tmp_path, shape=SHAPE, chunks=(6, 8), dtype="int32", serializer=sharding, compressors=()
    )
    array[:4, :3] = values_of("int32")[:4, :3]
    array[0, 8] = 3
    opened = zarr.open_array(tmp_path, mode="r")
    found = chunks_of(opened)
    assert found is not None
    assert found.shape == (3, 4)
    np.testing.assert_array_equal(whole(array, found), array[:])


def test_what_only_zarr_python_can_decode(tmp_path: Path) -> None:
    def found(name: str, **given: Any) -> Any:
        return chunks_of(zarr.create_array(tmp_path / name, shape=SHAPE, chunks=CHUNKS, **given))

    assert found("turned", dtype="f4", filters=[TransposeCodec(order=(1, 0))]) is None
    assert found("fortran", dtype="f4", zarr_format=2, order="F") is None
    assert found("delta", dtype="i4", zarr_format=2, filters=[numcodecs.Delta(dtype="i4")]) is None
    assert found("times", dtype="M8[s]", zarr_format=2) is None
    assert found("plain", dtype="f4") is not None


@pytest.mark.parametrize("codec", [ZstdCodec(), BloscCodec(), GzipCodec(), None])
@pytest.mark.parametrize("kept", [0, 10, -1])
def test_a_chunk_that_is_cut_off_is_an_error(tmp_path: Path, codec: Any, kept: int) -> None:
    array = zarr.create_array(tmp_path, shape=(400,), chunks=(400,), dtype="f8", compressors=codec)
    array[:] = np.random.default_rng(0).normal(size=400)
    path = tmp_path / "c" / "0"
    path.write_bytes(path.read_bytes()[:kept])
    found = chunks_of(zarr.open_array(tmp_path, mode="r"))
    assert found is not None
    (data,) = found.fetch([(0,)])
    with pytest.raises((ValueError, RuntimeError, EOFError)):
        found.decode(data)


@pytest.mark.parametrize("damage", ["cut", "empty", "index"])
def test_a_damaged_shard_is_an_error(tmp_path: Path, damage: str) -> None:
    array = zarr.create_array(tmp_path, shape=(64,), chunks=(8,), shards=(64,), dtype="f8")
    array[:] = np.random.default_rng(0).normal(size=64)
    path = tmp_path / "c" / "0"
    data = path.read_bytes()
    flipped = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
    path.write_bytes({"cut": data[:50], "empty": b"", "index": flipped}[damage])
    found = chunks_of(zarr.open_array(tmp_path, mode="r"))
    assert found is not None
    with pytest.raises((ValueError, OSError)):
        found.fetch([(3,)])
