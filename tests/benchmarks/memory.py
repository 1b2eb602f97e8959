"""Builds of more data than the workers have memory: what they hold, whether one dies, and what it costs.

Run by hand: ``python tests/benchmarks/memory.py --rows 120000000 --limit 600MiB``. The card events of wide windows are
built on a local Dask cluster twice: with little memory, and with memory to spare. The resident memory of every worker
is sampled every 20 ms; a worker that its nanny starts again is counted; so is what Dask itself wrote to disk
because a worker had too much. Rows of both builds are compared by hash before anything is printed.

``--hot 0.4`` gives one card 40 % of all rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.card_events import schema, write_events
from benchmarks.measure import table

SAMPLE_SECONDS = 0.02
SPEC = """\
featureflow: 1
project: bench
sources:
  events: {{path: "{source}/*.parquet", time: ts, timezone: UTC}}
features:
  card_windows:
    source: events
    keys: [card_id]
    partition: {partition}
    keep: [merchant_id, channel{keep}]
    aggregate:
      - {{column: amount, ops: [{ops}], windows: [{windows}]}}
"""


@dataclass
class Watched:
    """What was seen of the workers during a build."""

    peak: dict[str, int] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)
    processes: dict[str, set[int]] = field(default_factory=dict)

    @property
    def restarts(self) -> int:
        """Processes beyond the first of each nanny."""
        return sum(len(pids) - 1 for pids in self.processes.values())


class Watcher(threading.Thread):
    """Samples the resident memory of each nanny's worker process."""

    def __init__(self, cluster: Any) -> None:
        super().__init__(daemon=True)
        self.found = Watched()
        self._cluster, self._over = cluster, threading.Event()

    def run(self) -> None:
        import psutil

        while not self._over.wait(SAMPLE_SECONDS):
            for name, nanny in list(self._cluster.workers.items()):
                pid = nanny.pid
                if pid is None:
                    continue
                self.found.processes.setdefault(str(name), set()).add(pid)
                try:
                    process = psutil.Process(pid)
                    rss, times = process.memory_info().rss, process.cpu_times()
                except psutil.Error:
                    continue
                self.found.cpu[pid] = times.user + times.system
                self.found.peak[str(name)] = max(rss, self.found.peak.get(str(name), 0))

    def stop(self) -> Watched:
        """End; give what was seen."""
        self._over.set()
        self.join()
        return self.found


@dataclass(frozen=True)
class Measured:
    """One build."""

    limit: int
    workers: int
    decoded: int
    seconds: float
    rows: int
    peak: int
    driver_peak: int
    restarts: int
    spilled: int
    cpu: float
    tasks: int
    warnings: list[str]

    @property
    def share(self) -> float:
        """Largest resident memory of a worker, as a share of its limit."""
        return self.peak / self.limit


def decoded_bytes(source: Path) -> int:
    """What the events weigh as Arrow tables."""
    import pyarrow.parquet as pq

    first = min(source.glob("*.parquet"))
    with pq.ParquetFile(first) as file:
        group = file.read_row_group(0)
    rows = sum(pq.read_metadata(path).num_rows for path in source.glob("*.parquet"))
    return int(group.nbytes / group.num_rows * rows)


def spilled_bytes(client: Any) -> int:
    """Bytes that Dask wrote to disk to make room, over all workers."""

    def counted(dask_scheduler: Any) -> int:
        metrics = dask_scheduler.cumulative_worker_metrics
        return int(
            sum(value for key, value in metrics.items() if "disk-write" in key and key[-1] == "bytes")
            + sum(worker.metrics["spilled_bytes"]["disk"] for worker in dask_scheduler.workers.values())
        )

    return int(client.run_on_scheduler(counted))


def build(source: Path, folder: Path, limit: int, options: argparse.Namespace) -> Measured:
    """Build once on a fresh cluster, into a fresh store."""
    import dask
    import psutil
    from distributed import Client, LocalCluster

    import featureflow
    from featureflow.execute.clusters.environment import WORKER_ENVIRONMENT

    workers = options.workers
    spec = folder / "spec.yaml"
    keep = "".join(f", {name}" for name in extra_columns(options.extra))
    spec.write_text(
        SPEC.format(
            source=source, windows=options.windows, ops=options.ops, partition=options.partition, keep=keep
        )
    )
    decoded = decoded_bytes(source)
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=options.threads,
            memory_limit=limit,
            dashboard_address=None,
            local_directory=str(folder / "dask"),
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        project = featureflow.Project(
            spec, store=str(folder / "store"), client=client, scratch=folder / "scratch"
        )
        watcher = Watcher(cluster)
        watcher.start()
        begun = time.perf_counter()
        driver = psutil.Process()
        report = project.build(["card_windows"])
        seconds = time.perf_counter() - begun
        time.sleep(1.5)  # two heartbeats, which bring the counters
        found = watcher.stop()
        spilled = spilled_bytes(client)
        driver_peak = driver.memory_info().rss
    tasks = sum(stage.tasks for stage in report.stages)
    rows = report.tables[0].rows
    return Measured(
        limit,
        workers,
        decoded,
        seconds,
        rows,
        max(found.peak.values()),
        driver_peak,
        found.restarts,
        spilled,
        sum(found.cpu.values()),
        tasks,
        list(report.warnings),
    )


def digest(store: Path, columns: tuple[str, ...] = ()) -> tuple[int, int]:
    """Number of rows and an order-independent hash over all of them, file by file."""
    import polars as pl

    total, rows = 0, 0
    for path in sorted((store / "features" / "card_windows").rglob("*.parquet")):
        if "_ff" in path.parts:
            continue
        frame = pl.read_parquet(path, hive_partitioning=False)
        rows += frame.height
        total = (total + int(frame.hash_rows().cast(pl.Int128).sum())) % 2**64
    return rows, total


def alter(source: Path, hot: float, extra: int, seed: int = 7) -> None:
    """Give one card a share of all rows, and the rows more columns; row groups of 100,000 rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = schema()
    for name in extra_columns(extra):
        kind = kind.append(pa.field(name, pa.float64()))
    for place, path in enumerate(sorted(source.glob("*.parquet"))):
        chance = np.random.default_rng((seed, place))
        with pq.ParquetFile(path) as file, pq.ParquetWriter(path.with_suffix(".new"), kind) as writer:
            for batch in file.iter_batches(100_000):
                cards = batch.column("card_id").to_numpy()
                cards = np.where(chance.random(len(cards)) < hot, 7, cards)
                columns = [pa.array(cards), *batch.columns[1:]]
                columns += [pa.array(np.round(chance.random(len(cards)), 3)) for _ in extra_columns(extra)]
                writer.write_table(pa.Table.from_arrays(columns, schema=kind))
        path.with_suffix(".new").rename(path)


def extra_columns(extra: int) -> list[str]:
    """Names of the columns that are carried along."""
    return [f"attribute_{number}" for number in range(extra)]


def line(name: str, one: Measured, roomy: Measured | None) -> list[str]:
    """Row of the table."""
    ratios = ["", ""]
    if roomy is not None:
        ratios = [f"{roomy.seconds / one.seconds:.2f}", f"{roomy.cpu / one.cpu:.2f}"]
    return [
        name,
        f"{one.workers} x {one.limit / 2**20:.0f}",
        f"{one.decoded / 2**20:.0f}",
        f"{one.decoded / one.limit / one.workers:.2f}",
        f"{one.peak / 2**20:.0f}",
        f"{one.share:.2f}",
        f"{one.restarts}",
        f"{one.spilled}",
        f"{one.tasks}",
        f"{one.seconds:.1f}",
        f"{one.rows / one.seconds:,.0f}",
        f"{one.cpu:.0f}",
        *ratios,
        f"{one.driver_peak / 2**20:.0f}",
    ]


HEADER = [
    "", "limit MiB", "decoded MiB", "of limits", "peak MiB", "of limit", "restarts", "Dask spilled", "tasks",
    "s", "rows/s", "CPU s", "of roomy", "by CPU", "driver MiB",
]  # fmt: skip


def compare(folder: Path, options: argparse.Namespace) -> str:
    """Run the builds; returns the text to print."""
    from featureflow.core.sizes import parse_bytes

    source = folder / "events"
    write_events(source, options.rows, days=options.days)
    alter(source, options.hot, options.extra)
    kept: dict[str, Measured] = {}
    seen: dict[str, tuple[int, int]] = {}
    limits = {"little": parse_bytes(options.limit), "roomy": parse_bytes(options.roomy)}
    for name in ("roomy", "little") if not options.only else (options.only,):
        here = folder / name
        here.mkdir()
        kept[name] = build(source, here, limits[name], options)
        print(table([HEADER, line(name, kept[name], None)]), *kept[name].warnings, sep="\n", flush=True)
        if not options.unchecked:
            seen[name] = digest(here / "store")
        shutil.rmtree(here)
    if len(set(seen.values())) > 1:
        raise SystemExit(f"the rows differ: {seen}")
    if options.json:
        options.json.write_text(json.dumps({name: asdict(one) for name, one in kept.items()}))
    rows = [line(name, one, kept.get("roomy")) for name, one in kept.items()]
    return table([HEADER, *rows])


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--hot", type=float, default=0.0, help="share of all rows that one card has")
    parser.add_argument("--partition", default="day")
    parser.add_argument("--windows", default="1h, 1d, 7d, 30d")
    parser.add_argument("--ops", default="count, sum, mean, max, stddev_samp")
    parser.add_argument("--extra", type=int, default=0, help="more columns of numbers, carried along")
    parser.add_argument("--limit", default="600MiB", help="of each worker")
    parser.add_argument("--roomy", default="8GiB")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="little or roomy")
    parser.add_argument("--unchecked", action="store_true", help="do not compare the rows")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--workdir", type=Path, help="a folder on local disk; a temporary one when omitted")
    options = parser.parse_args(arguments)
    print(f"{platform.platform()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="memory-") as name:
        print(compare(Path(name), options))


if __name__ == "__main__":
    main()
