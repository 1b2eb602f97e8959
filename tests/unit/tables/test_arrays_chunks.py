"""Chunks that are decoded here, against the arrays as xarray reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from unit.tables.array_world import CHUNKS, build, cube

from featureflow.core.errors import CorruptionError
from featureflow.tables.arrays_chunks import has_plain_chunks, read_chunks

BOUNDS = ((1, 9), (3, 17), (0, 8))


def read(url: str, snapshot: str, name: str, bounds: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The box, put together; every chunk lies where the one before it did."""
    memory = np.full(10_000, 7, np.uint8)
    out = np.full(shape, -1.0, "f4")
    for origin, values in read_chunks(
        url, snapshot, name, bounds, lambda s, d: memory[: int(np.prod(s)) * d.itemsize].view(d).reshape(s)
    ):
        inside = tuple(
            slice(0, min(n, size - at)) for n, size, at in zip(values.shape, shape, origin, strict=True)
        )
        out[tuple(slice(at, at + n.stop) for at, n in zip(origin, inside, strict=True))] = values[inside]
    return out[tuple(slice(*one) for one in bounds)]


@pytest.mark.parametrize("bounds", [BOUNDS, ((0, 10), (0, 17), (0, 14)), ((4, 5), (9, 10), (13, 14))])
def test_a_box_has_the_values_of_the_array(tmp_path: Path, bounds: Any) -> None:
    url, data = str(tmp_path), cube(10)
    snapshot = build(url, data, "b1")
    assert has_plain_chunks(url, snapshot, "sst")
    wanted = data.sst.values[tuple(slice(*one) for one in bounds)]
    np.testing.assert_array_equal(read(url, snapshot, "sst", bounds, data.sst.shape), wanted)


def test_chunks_inside_shards_are_not_read_here(tmp_path: Path) -> None:
    shards = {dim: 2 * size for dim, size in CHUNKS.items()}
    url = str(tmp_path)
    data = xr.Dataset({"a": (("time", "lat", "lon"), np.ones((8, 18, 16), "f4"))})
    from featureflow.tables.arrays import ArraySpec, begin

    write = begin(url, ArraySpec(data, CHUNKS, shards), "b1", None)
    snapshot = write.commit("nothing but shapes")
    assert not has_plain_chunks(url, snapshot, "a")


def test_a_chunk_that_was_never_written_is_missing_values(tmp_path: Path) -> None:
    from featureflow.tables.arrays import ArraySpec, begin

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
