"""PyTorch reads our shards: tensors, workers, epochs, resume, and a model that learns."""

from __future__ import annotations

import json

import pytest
from oracle.exports import numbered, write_export
from readers.environment import call

pytestmark = pytest.mark.readers


def test_torch_loads_shards(tmp_path):
    write_export(tmp_path, {"train": [numbered(i * 50, 50) for i in range(6)]})
    done = call("torch", "torch_loads.py", str(tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"rows": 288}
