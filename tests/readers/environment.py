"""What the tests with real readers share: rows, featureflow's shards of them, calls into the other environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featureflow.contracts.shard_format import ShardOptions, ShardPlace
from featureflow.library.shards.columns import arrow_column
from featureflow.library.shards.registry import shard_format

HERE = Path(__file__).parent
#: unequal on purpose
SHARD_ROWS = (70, 55, 33)
Columns = dict[str, np.ndarray[Any, Any]]


def interpreter(name: str) -> str:
    """Python of an environment; skips the test if nobody has made it."""
    sys.path.insert(0, str(HERE))
    try:
        from make_environment import default_root
    finally:
        sys.path.remove(str(HERE))
    folder = default_root() / name
    if not (folder / "complete").exists():
        pytest.skip(f"no environment at {folder}: run `python tests/readers/make_environment.py`")
    return str(folder / "bin" / "python")


def call(environment: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of this folder in another environment."""
    command = [interpreter(environment), str(HERE / script), *arguments]
    # for the loaders of this very checkout; the libraries' readers do not look at it
    found = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=found)


def read(reader: str, folder: Path, *, environment: str = "torch", **options: Any) -> Columns:
    """Every value that a library finds, by column."""
    out = folder.parent / f"{folder.name}-{reader}.npz"
    done = call(environment, "peers_read.py", reader, str(folder), str(out), json.dumps(options))
    assert done.returncode == 0, done.stderr[-4000:]
    with np.load(out) as file:
        return {name: file[name] for name in file.files}


def read_fails(reader: str, folder: Path, *, environment: str = "torch", **options: Any) -> str:
    """What a library says of damaged shards."""
    out = folder.parent / "never.npz"
    done = call(environment, "peers_read.py", reader, str(folder), str(out), json.dumps(options))
    assert done.returncode != 0, "the library read it"
    return done.stderr


def write(writer: str, rows: Columns, out: Path, **options: Any) -> None:
    """Write rows with a library's own writer."""
    given = out.parent / f"{out.name}-rows.npz"
    np.savez(given, **rows)
    done = call("torch", "peers_write.py", writer, str(given), str(out), json.dumps(options))
    assert done.returncode == 0, done.stderr[-4000:]


def values(n: int) -> Columns:
    """Rows with everything that has broken a reader once: signs, 2^62, empty text, text that is no ASCII."""
    rng = np.random.default_rng(20260101)
    big = rng.integers(-(2**62), 2**62, n)
    big[:2] = 2**62, -(2**62)
    texts = ["", "plain", "Grüße", "東京 🗼", "tab\there", 'quote"']
    return {
        "x": rng.standard_normal((n, 64)).astype(np.float32),
        "patch": rng.standard_normal((n, 4, 5, 3)).astype(np.float32),
        "amount": rng.standard_normal(n) * 1e6,
        "big": big,
        "negative": -rng.integers(0, 1000, n),
        "small": rng.integers(-5, 5, n).astype(np.int32),
        "flag": rng.random(n) < 0.5,
        "week": rng.integers(-9, 2**40, (n, 7)),
        "text": np.array([texts[i] for i in rng.integers(0, len(texts), n)]),
    }


def arrow_type(array: np.ndarray[Any, Any]) -> pa.DataType:
    """Nested fixed-size lists for the shape."""
    made: pa.DataType = pa.string() if array.dtype.kind == "U" else pa.from_numpy_dtype(array.dtype)
    for size in reversed(array.shape[1:]):
        made = pa.list_(made, size)
    return made


def table(rows: Columns) -> pa.Table:
    """The rows as an Arrow table."""
    return pa.table(
        {
            name: pa.array(array.tolist(), pa.string())
            if array.dtype.kind == "U"
            else arrow_column(array, arrow_type(array))
            for name, array in rows.items()
        }
    )


@dataclass
class Written:
    """One split's shards as featureflow writes them."""

    folder: Path
    rows: Columns
    options: ShardOptions
    files: list[Path] = field(default_factory=list)


def export(
    root: Path, name: str, rows: Columns | None = None, sizes: tuple[int, ...] = SHARD_ROWS, **options: Any
) -> Written:
    """Write rows as the shards of a split `train`: the format's own encoder and index, nothing else."""
    rows = values(sum(sizes)) if rows is None else rows
    offered, chosen, whole = shard_format(name), ShardOptions(**options), table(rows)
    offered.check(whole.schema, chosen)
    written = Written(root / "train", rows, chosen)
    places, entries, first = [], [], 0
    for number, size in enumerate(sizes):
        stem = f"train/part-{number:05d}-of-{len(sizes):05d}"
        place = ShardPlace(stem, number, len(sizes), first, whole.num_rows)
        made = offered.encode(whole.slice(first, size), place, chosen)
        for path, buffers in made.files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"".join(memoryview(buffer).cast("B") for buffer in buffers))
            written.files.append(target)
        places.append(place)
        entries.append(json.loads(json.dumps(made.entry)))
        first += size
    for path, content in offered.index("train", places, entries, whole.schema, chosen).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return written


def assert_values(found: Columns, expected: Columns) -> None:
    """Every value of every column, to the bit."""
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape, (name, found[name].shape, array.shape)
        assert (found[name] == array).all(), name


def flip(path: Path, at: int) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
