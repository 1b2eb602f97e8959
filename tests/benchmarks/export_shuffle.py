"""Global shuffle at export, against Dask DataFrame's own shuffles: rows a second, and the ratios in one run.

``python -m benchmarks.export_shuffle --rows 500000`` (in ``tests/``). Rows of 64 float32, a label and a key (272 bytes)
go from Parquet to Arrow files in shuffled order. Ways, all on two threads or two processes of one thread:

- ours, shuffled and in the spine's order, on threads; ours, shuffled, on a local cluster;
- ``dask.dataframe`` with ``shuffle_method="tasks"`` on threads, and ``"p2p"`` on the same cluster: each row gets a
  random number, rows are shuffled by shard, sorted within it, and written by ``pyarrow``.

The peers write neither statistics, hashes nor a manifest, do not wait for the disk, and give other shards in each run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featureflow.contracts.shard_manifest import Manifest
from featureflow.core.roles import Roles
from featureflow.execute.clusters.dask_executor import DaskExecutor
from featureflow.execute.executors import Executor, ThreadExecutor
from featureflow.export.run import ExportInput, RowsFile, export_rows
from featureflow.spec.exports import Export

N_FEATURES = 64
FEATURES = tuple(f"f{i:02d}" for i in range(N_FEATURES))
ROW_BYTES = 4 * N_FEATURES + 16
SHARD_ROWS = 125_000


def write_rows(folder: Path, rows: int, files: int = 4) -> ExportInput:
    """Write seeded rows, sorted by their key, as plain Parquet (float columns do not compress)."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    edges = np.linspace(0, rows, files + 1).astype(int).tolist()
    written = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        values = random.normal(size=(N_FEATURES, stop - start)).astype(np.float32)
        columns = {name: values[place] for place, name in enumerate(FEATURES)}
        key = np.arange(start, stop)
        table = pa.table({**columns, "label": key % 2, "id": key})
        path = folder / f"rows-{number}.parquet"
        pq.write_table(table, path, use_dictionary=False, compression="none", row_group_size=131_072)
        written.append(RowsFile(str(path), stop - start, start))
    roles = Roles(keys=("id",), features=FEATURES, labels=("label",))
    names = {name: name for name in table.schema.names}
    return ExportInput("bench", 1, "hash", tuple(written), table.schema, roles, names)


def ours(rows: ExportInput, folder: Path, executor: Executor, *, shuffle: bool, shard_rows: int) -> Manifest:
    """Export as a user does."""
    options = Export.model_validate({"shuffle": shuffle, "shard_size": shard_rows * ROW_BYTES})
    scratch = str(folder.parent / "scratch")
    return export_rows(rows, options, str(folder), executor=executor, scratch=scratch)


def dask_shuffle(rows: ExportInput, folder: Path, method: str, shard_rows: int, scheduler: Any) -> int:
    """Shuffle and write with `dask.dataframe`; gives the number of files."""
    import dask
    import dask.dataframe as dd

    folder.mkdir(parents=True)
    total = sum(file.rows for file in rows.files)
    shards = -(-total // shard_rows)
    with dask.config.set({"dataframe.convert-string": False}):
        frame = dd.read_parquet([file.url for file in rows.files], split_row_groups=True)
        frame = frame.map_partitions(numbered, shards, meta=numbered(frame._meta, shards))
        frame = frame.shuffle(on="shard", npartitions=shards, shuffle_method=method)
        parts = [dask.delayed(write_part)(part, str(folder)) for part in frame.to_delayed()]
        return sum(dask.compute(*parts, scheduler=scheduler))


def numbered(frame: Any, shards: int) -> Any:
    """Add a random number and the shard that it falls into."""
    mixed = np.random.default_rng().random(len(frame))
    return frame.assign(mixed=mixed, shard=(mixed * shards).astype(np.int64))


def write_part(frame: Any, folder: str) -> int:
    """Write the shards of one partition in random order: a hash can put several, or none, into it."""
    made = 0
    for shard, rows in frame.sort_values("mixed").groupby("shard", sort=False):
        table = pa.Table.from_pandas(rows.drop(columns=["mixed", "shard"]), preserve_index=False)
        with pa.ipc.new_file(os.path.join(folder, f"part-{shard:05d}.arrow"), table.schema) as writer:
            writer.write_table(table)
        made += 1
    return made


def check(folder: Path, rows: int) -> None:
    """All keys are there once, and not in order."""
    keys = []
    for path in sorted(folder.rglob("*.arrow")):
        with pa.memory_map(str(path)) as file:
            keys.append(pa.ipc.open_file(file).read_all()["id"].to_numpy())
    found = np.concatenate(keys)
    if not np.array_equal(np.sort(found), np.arange(rows)):
        raise AssertionError(f"{folder}: {found.size} keys, and not each of {rows} once")


def measure(ways: dict[str, Callable[[Path], Any]], workdir: Path, rows: int, runs: int) -> dict[str, float]:
    """Run each way in turn, ``runs`` times; give the median of seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            folder = workdir / "out"
            shutil.rmtree(folder, ignore_errors=True)
            start = time.perf_counter()
            way(folder)
            seconds[name].append(time.perf_counter() - start)
            check(folder, rows)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Measure, and print rows a second and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shard-rows", type=int, default=SHARD_ROWS)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--no-cluster", action="store_true")
    given = parser.parse_args(arguments)
    rows = write_rows(given.workdir / "rows", given.rows)
    size = given.shard_rows
    threads = ThreadExecutor(2)
    ways: dict[str, Callable[[Path], Any]] = {
        "ours, threads": lambda folder: ours(rows, folder, threads, shuffle=True, shard_rows=size),
        "ours, threads, no shuffle": lambda folder: ours(
            rows, folder, threads, shuffle=False, shard_rows=size
        ),
        "dask tasks, threads": lambda folder: dask_shuffle(rows, folder, "tasks", size, "threads"),
    }
    import dask

    with dask.config.set(num_workers=2):
        ours(rows, given.workdir / "warm", threads, shuffle=True, shard_rows=size)  # kernels are compiled
        taken = measure(ways, given.workdir, given.rows, given.runs)
    threads.close()
    if not given.no_cluster:
        taken |= _on_cluster(rows, given.workdir, given.rows, given.runs, size)
    for name, seconds in taken.items():
        print(f"{name:28s} {given.rows / seconds / 1e6:7.3f} M rows/s")
    _ratio("ours / dask tasks", taken["dask tasks, threads"], taken["ours, threads"])
    _ratio("cost of shuffling", taken["ours, threads"], taken["ours, threads, no shuffle"])
    if not given.no_cluster:
        _ratio("ours / dask p2p", taken["dask p2p, cluster"], taken["ours, cluster"])
    return taken


def _ratio(name: str, above: float, below: float) -> None:
    print(f"{name:28s} {above / below:7.2f}")


def _on_cluster(rows: ExportInput, workdir: Path, n: int, runs: int, size: int) -> dict[str, float]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=str(workdir / "dask"),
        ) as cluster,
        Client(cluster) as client,
    ):
        executor = DaskExecutor(client)
        ours(rows, workdir / "warm-cluster", executor, shuffle=True, shard_rows=size)
        return measure(
            {
                "ours, cluster": lambda folder: ours(rows, folder, executor, shuffle=True, shard_rows=size),
                "dask p2p, cluster": lambda folder: dask_shuffle(rows, folder, "p2p", size, client),
            },
            workdir,
            n,
            runs,
        )


if __name__ == "__main__":
    main()
