"""Shards: our writers beside the libraries' own, and our loader beside the libraries' readers, in one run.

``python tests/benchmarks/shards.py --rows 50000 --load-rows 2000000`` with the environment of
``tests/readers/make_environment.py``. Rows are 64 float32, a label and a key (272 bytes). Writing is timed inside one
process each, imports and Python's rows excluded, files included; CPU seconds, because nothing else is steady on a
shared machine. The libraries read what we wrote, in shuffled order where they can, sample by sample as their users do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import table as text_table
from readers import environment

WRITERS = ("mds", "litdata", "tfrecord", "webdataset")
READ = """
import sys, time, json
sys.path.insert(0, sys.argv[1])
import peers_read
started, cpu = time.perf_counter(), time.process_time()
found = peers_read.READERS[sys.argv[2]](sys.argv[3])
took = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu}
print(json.dumps({"rows": len(next(iter(found.values()))), **took}))
"""


def rows(n: int) -> dict[str, np.ndarray]:
    """Columns of n rows."""
    chance = np.random.default_rng(1)
    x = chance.standard_normal((n, 64), np.float32)
    return {"x": x, "label": chance.integers(0, 2, n), "key": np.arange(n, dtype=np.int64)}


def write_ours(name: str, table: pa.Table, folder: Path) -> tuple[float, float]:
    """Encode one shard and write its files; CPU and wall seconds."""
    chosen, options = environment.shard_format(name), environment.ShardOptions()
    place = environment.ShardPlace("train/part-00000-of-00001", 0, 1, 0, table.num_rows)
    (folder / "train").mkdir(parents=True, exist_ok=True)
    cpu, wall = time.process_time(), time.perf_counter()
    made = chosen.encode(table, place, options)
    for path, parts in made.files.items():
        with (folder / path).open("wb") as file:
            for part in parts:
                file.write(part)
    return time.process_time() - cpu, time.perf_counter() - wall


def write_theirs(name: str, given: Path, folder: Path, n: int) -> tuple[float, float]:
    """Write the same rows with the library."""
    folder.mkdir()
    (folder.parent / f"{folder.name}-warm").mkdir()
    options: dict[str, object] = {"warm": str(folder.parent / f"{folder.name}-warm")}
    if name == "mds":
        columns = {"x": "ndarray:float32:64", "label": "int64", "key": "int64"}
        options |= {"columns": columns, "shards": {"part": n}, "compression": None}
    if name == "litdata":
        options |= {"chunk_size": n}
    done = environment.call("torch", "peers_write.py", name, str(given), str(folder), json.dumps(options))
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    took = json.loads(done.stdout.splitlines()[-1])
    return took["cpu"], took["wall"]


def compare_writers(n: int, runs: int, folder: Path) -> str:
    """CPU rows a second of each writer, in turns."""
    made = rows(n)
    table = environment.table(made)
    given = folder / "rows.npz"
    np.savez(given, **made)
    lines = [["writer", "ours M rows/CPU s", "library", "ratio CPU", "ratio wall"]]
    for name in WRITERS:
        write_ours(name, table.slice(0, 64), folder / f"{name}-first")  # compiles
        took = [
            (
                *write_ours(name, table, folder / f"{name}-ours-{turn}"),
                *write_theirs(name, given, folder / f"{name}-{turn}", n),
            )
            for turn in range(runs)
        ]
        a, b, c, d = (statistics.median(one) for one in zip(*took, strict=True))
        lines.append([name, f"{n / a / 1e6:.2f}", f"{n / c / 1e6:.3f}", f"{c / a:.0f}", f"{d / b:.0f}"])
    return text_table(lines)


def export(folder: Path, name: str, made: dict[str, np.ndarray], shards: int) -> Path:
    """Shards of one format with a manifest, as an export makes them."""
    import pyarrow.parquet as pq

    from featureflow.core.roles import Roles
    from featureflow.execute.executors import ThreadExecutor
    from featureflow.export.run import ExportInput, RowsFile, export_rows
    from featureflow.spec.exports import Export

    table = environment.table(made)
    source = folder / f"{name}-source.parquet"
    pq.write_table(table, source, compression="none", use_dictionary=False)
    roles = Roles(keys=("key",), features=("x",), labels=("label",))
    given = ExportInput(
        dataset=name,
        version=1,
        definition_hash="benchmark",
        files=(RowsFile(str(source), table.num_rows, 0),),
        schema=table.schema,
        roles=roles,
        names={column: column for column in table.schema.names},
    )
    size = table.num_rows * 272 // shards
    options = Export.model_validate({"format": name, "shard_size": size})
    target = folder / f"{name}-shards"
    export_rows(given, options, str(target), executor=ThreadExecutor(2), scratch=str(folder / "scratch"))
    return target


def load_ours(folder: Path, batch: int, runs: int) -> tuple[float, float]:
    """Shuffled batches of all rows: rows a second of wall and of CPU time, medians."""
    from featureflow.loaders.shards import load_shards

    found = []
    for epoch in range(runs + 1):
        cpu, wall, seen = time.process_time(), time.perf_counter(), 0
        for one in load_shards(str(folder)).numpy(batch, seed=1, epoch=epoch):
            seen += len(one["key"])
        found.append((seen / (time.perf_counter() - wall), seen / (time.process_time() - cpu)))
    walls, cpus = zip(*found[1:], strict=True)
    return statistics.median(walls), statistics.median(cpus)


def compare_loaders(n: int, peer_rows: int, runs: int, folder: Path) -> str:
    """Rows a second of our loader from arrow shards, and of the libraries' readers."""
    ours = export(folder, "arrow", rows(n), 32)
    wall, cpu = load_ours(ours, 1024, runs)
    lines = [["loader", "rows", "M rows/s wall", "M rows/CPU s", "ours / it"]]
    lines.append(["featureflow, batch 1024, shuffled", str(n), f"{wall / 1e6:.2f}", f"{cpu / 1e6:.2f}", "1"])
    for name in ("litdata", "webdataset", "mds"):
        shards = export(folder, name, rows(peer_rows), 4)
        command = [
            environment.interpreter("torch"),
            "-c",
            READ,
            str(environment.HERE),
            name,
            str(shards / "all"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        took = json.loads(done.stdout.splitlines()[-1])
        rate = took["rows"] / took["wall"]
        each = [f"{rate / 1e6:.4f}", f"{took['rows'] / took['cpu'] / 1e6:.4f}", f"{wall / rate:.0f}"]
        lines.append([name, str(took["rows"]), *each])
    return text_table(lines)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--load-rows", type=int, default=2_000_000)
    parser.add_argument("--peer-rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workdir", type=Path)
    given = parser.parse_args(arguments)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(dir=given.workdir, prefix="shards-") as name:
        folder = Path(name)
        print(compare_loaders(given.load_rows, given.peer_rows, given.runs, folder))
        print(compare_writers(given.rows, given.runs, folder))


if __name__ == "__main__":
    main()
