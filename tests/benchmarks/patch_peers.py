"""Patches written and read by other libraries, for `patches.py`, which runs this in an interpreter that has them.

``python patch_peers.py LIBRARY VALUES.npy FOLDER RUNS`` prints one JSON object: seconds of wall and CPU of each run and
the sum of all values. The values lie in memory, decoded: what a library takes is its own work alone.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PATCH = (8, 64, 64)
SHARD_BYTES = 128 << 20
Array = np.ndarray[Any, Any]


def cut_all(values: Array) -> Array:
    """All patches, as a view: ``(a, b, c, 8, 64, 64)``."""
    a, b, c = (size // patch for size, patch in zip(values.shape, PATCH, strict=True))
    cut = values[: a * PATCH[0], : b * PATCH[1], : c * PATCH[2]]
    return cut.reshape(a, PATCH[0], b, PATCH[1], c, PATCH[2]).transpose(0, 2, 4, 1, 3, 5)


def write_streaming(values: Array, folder: Path) -> float:
    """Write patches with MDS."""
    from streaming import MDSWriter

    shutil.rmtree(folder, ignore_errors=True)
    columns = {"x": f"ndarray:float32:{','.join(map(str, PATCH))}"}
    patches = cut_all(values)
    with MDSWriter(out=str(folder), columns=columns, size_limit=SHARD_BYTES) as out:
        for place in np.ndindex(*patches.shape[:3]):
            out.write({"x": np.ascontiguousarray(patches[place])})
    return 0.0


def read_streaming(folder: Path) -> float:
    """Read them again, in order."""
    from streaming import LocalDataset

    data = LocalDataset(str(folder))
    return sum(float(data[i]["x"].sum(dtype=np.float64)) for i in range(len(data)))


def write_webdataset(values: Array, folder: Path) -> float:
    """Write patches with webdataset."""
    import webdataset

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    patches = cut_all(values)
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxsize=SHARD_BYTES, verbose=0) as out:
        for number, place in enumerate(np.ndindex(*patches.shape[:3])):
            out.write({"__key__": f"{number:09d}", "x.npy": np.ascontiguousarray(patches[place])})
    return 0.0


def read_webdataset(folder: Path) -> float:
    """Read them again, in order."""
    import webdataset

    urls = sorted(str(path) for path in folder.glob("*.tar"))
    data = webdataset.WebDataset(urls, shardshuffle=False).decode()
    return sum(float(one["x.npy"].sum(dtype=np.float64)) for one in data)


PEERS: dict[str, tuple[Callable[[Array, Path], float], Callable[[Path], float]]] = {
    "streaming": (write_streaming, read_streaming),
    "webdataset": (write_webdataset, read_webdataset),
}


def timed(function: Callable[[], float], runs: int) -> dict[str, Any]:
    """Seconds of wall and CPU of each run, and what the function returns."""
    walls, cpus, found = [], [], 0.0
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        found = function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": walls, "cpu": cpus, "sum": found}


def main(arguments: list[str]) -> None:
    """Write and read with one library."""
    library, path, folder, runs = arguments
    write, read = PEERS[library]
    values = np.load(path)
    out = Path(folder)
    found = {
        "write": timed(lambda: write(values, out), int(runs)),
        "read, summed": timed(lambda: read(out), int(runs)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
