"""Hugging Face, polars, pandas, pyarrow, litdata and PyTorch read our Arrow, Parquet and NumPy shards."""

from __future__ import annotations

import numpy as np
import pytest
from readers.environment import assert_values, export, read

pytestmark = pytest.mark.readers


@pytest.mark.parametrize("name", ["arrow", "parquet"])
@pytest.mark.parametrize("reader", ["hugging_face", "hugging_face_stream"])
def test_hugging_face(tmp_path, name, reader):
    written = export(tmp_path, name)
    assert_values(read(reader, written.folder, builder=name, pattern=f"*.{name}"), written.rows)


@pytest.mark.parametrize(
    ("reader", "name"),
    [("polars", "arrow"), ("polars", "parquet"), ("pandas", "parquet"), ("pyarrow_dataset", "arrow")],
)
def test_frames(tmp_path, reader, name):
    written = export(tmp_path, name)
    assert_values(read(reader, written.folder, pattern=f"*.{name}"), written.rows)


def test_pyarrow_dataset_of_parquet(tmp_path):
    written = export(tmp_path, "parquet")
    assert_values(read("pyarrow_dataset", written.folder, pattern="*.parquet"), written.rows)


def test_litdata_reads_parquet(tmp_path):
    written = export(tmp_path, "parquet")
    found = read("litdata_parquet", written.folder)
    # it takes the files in the order in which the file system lists them
    order, expected = np.argsort(found["big"]), np.argsort(written.rows["big"])
    assert_values(
        {name: array[order] for name, array in found.items()},
        {name: array[expected] for name, array in written.rows.items()},
    )


def test_torch_loads_numpy(tmp_path):
    written = export(tmp_path, "npy")
    names = ["x", "patch", "big", "flag"]
    found = read("torch_numpy", written.folder, names=names)
    assert_values(found, {name: written.rows[name][:70] for name in names})
