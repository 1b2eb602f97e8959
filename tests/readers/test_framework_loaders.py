"""featureflow's own loader as a tf.data.Dataset and as JAX arrays: every row once."""

from __future__ import annotations

import numpy as np
import pytest
from oracle.exports import numbered, write_export
from readers.environment import read

pytestmark = pytest.mark.readers

SIZES = (70, 0, 55, 33)


def check(found):
    keys = found["key"]
    assert keys.tolist() != sorted(keys.tolist())  # shuffled
    assert sorted(keys.tolist()) == list(range(sum(SIZES)))
    assert (found["x"] == keys[:, None] * 4 + np.arange(4)).all()
    assert (found["amount"] == keys / 8).all()
    assert (found["label"] == (keys % 2 == 1)).all()
    assert found["text"].tolist() == [f"row {key}" for key in keys]


def exported(tmp_path, name):
    tables = [numbered(first, size) for first, size in zip((0, 70, 70, 125), SIZES, strict=True)]
    return write_export(tmp_path / "export", {"train": tables}, shard_format_name=name, block_rows=16)


@pytest.mark.parametrize("name", ["arrow", "webdataset"])
def test_tensorflow(tmp_path, name):
    check(read("featureflow_tf", exported(tmp_path, name), environment="tensorflow"))


@pytest.mark.parametrize(("name", "skip"), [("arrow", 0), ("arrow", 3), ("webdataset", 1)])
def test_jax(tmp_path, name, skip):
    found = read("featureflow_jax", exported(tmp_path, name), environment="tensorflow", skip=skip)
    assert found.pop("arrays").all()
    check(found)
