"""The arithmetic of 1, 10 and 100 TB: what the planner decides, and what follows in requests, bytes and memory.

Run by hand: ``python tests/benchmarks/scaling.py``. Bytes of a row are measured in a small build of the same table;
files, buckets, slices and tasks come from the planner itself, which is given the facts of a made-up source; requests
follow from the constants of the readers. Prices and hosts are assumptions.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.card_events import write_events
from benchmarks.measure import table
from benchmarks.simulation import Simulation, Size, made_up_facts

#: Assumptions: a host, its price by the hour, and what object stores ask for a thousand requests.
CORES, HOST_MEMORY, HOST_DOLLARS = 16, 64 << 30, 0.95
GET_DOLLARS, PUT_DOLLARS = 0.0004, 0.005
NIC_BYTES = 12.5e9 / 8  # a second and host
#: Measured on wide windows (docs/benchmarks.md): CPU seconds of 20 million rows, reading and writing included.
CPU_SECONDS_A_ROW = 40.7 / 20e6
WINDOWS = "1h, 1d, 7d, 30d"
#: Measured: mapping an exchange file and finding one batch in it.
OPEN_SECONDS = 0.16e-3
#: Measured by simulation.py: the driver's memory with nothing, for a source file of 8 row groups, for an output file.
DRIVER_BASE, DRIVER_FILE, DRIVER_UNIT = 0.36e9, 2100, 4000
#: The source: stored bytes of a row, of which a table needs a few columns, in files of so many row groups.
RAW_ROW, COLUMNS, FILE_BYTES, GROUPS, DAYS = 100, 3, 128 << 20, 8, 365


@dataclass(frozen=True)
class RowBytes:
    """Bytes of a row: as stored in the source, in the exchange, and in the table's files."""

    raw: float
    exchange: float
    output: float


def measured_bytes(folder: Path, rows: int) -> RowBytes:
    """Build a small table of the same columns, and weigh its files."""
    from benchmarks.simulation import SPEC

    from featureflow import Project

    source = folder / "measured"
    write_events(source, rows, days=30)
    spec = folder / "measured.yaml"
    spec.write_text(SPEC.format(source=source, windows=WINDOWS, partition="day"))
    Project(spec, store=str(folder / "measured-store"), scratch=str(folder / "measured-scratch")).build()
    weights = (
        _bytes(source, "*.parquet"),
        _bytes(folder / "measured-scratch" / "exchange", "*.arrow"),
        _bytes(folder / "measured-store", "*.parquet"),
    )
    return RowBytes(*(weight / rows for weight in weights))


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


@dataclass(frozen=True)
class Scaled:
    """What a build of some size takes."""

    raw: float
    partition: str
    hosts: int
    rows: float
    chunks: int
    buckets: int
    units: int
    tasks: int
    read_again: float
    slices_a_task: float
    bytes_of: RowBytes

    def rows_of_text(self) -> dict[str, str]:
        """The figures by name."""
        exchanged = self.rows * self.bytes_of.exchange
        output = self.rows * self.bytes_of.output
        read = self.rows * self.bytes_of.raw
        # at plan a footer; in the task a footer again, and the needed columns of each row group, each by itself
        gets = self.chunks * (2 + GROUPS * COLUMNS)
        lists = self.chunks / 1000 + 2 * self.units / min(self.buckets, 1000)
        puts = self.units * max(1.0, output / self.units / (16 << 20))
        fetches = self.tasks * (self.hosts - 1)
        # 0.3: of the time of a row, loading and sorting
        rows_cpu = self.rows * CPU_SECONDS_A_ROW * (1 + 0.3 * (self.read_again - 1))
        open_cpu = self.tasks * self.slices_a_task * OPEN_SECONDS
        cpu = rows_cpu + open_cpu
        moved = exchanged * self.read_again * (self.hosts - 1) / self.hosts
        network = read + moved + output
        hours = max(cpu / CORES, network / NIC_BYTES) / self.hosts / 3600
        requests = gets / 1000 * GET_DOLLARS + (puts + lists) / 1000 * PUT_DOLLARS
        driver = DRIVER_BASE + self.chunks * DRIVER_FILE + self.units * DRIVER_UNIT
        return {
            "hosts of 16 cores, 64 GB": f"{self.hosts}",
            "rows": f"{self.rows / 1e9:,.0f} G",
            "re-keying tasks = exchange files": f"{self.chunks:,}",
            "buckets": f"{self.buckets:,}",
            "slices x buckets = files of the table": f"{self.units:,}",
            "mean file of the table": f"{output / self.units / 1e6:.1f} MB",
            "compute tasks": f"{self.tasks:,}",
            "rows sorted for each row of output": f"{self.read_again:.2f}",
            "record batches in the exchange (M x P)": f"{self.chunks * self.buckets / 1e6:,.0f} M",
            "mean record batch": f"{exchanged / (self.chunks * self.buckets) / 1e3:,.1f} kB",
            "exchange files that a compute task reads": f"{self.slices_a_task:,.0f}",
            "CPU seconds of a compute task": f"{rows_cpu / self.tasks:.1f} + {open_cpu / self.tasks:.1f} to open those",
            "exchange on the disk of a host": f"{exchanged / self.hosts / 1e9:,.0f} GB",
            "from the store": f"{read / 1e12:.1f} TB in {gets / 1e6:.2f} M requests",
            "between hosts": f"{moved / 1e12:.1f} TB in {fetches / 1e6:.2f} M requests",
            "to the store": f"{output / 1e12:.1f} TB in {puts / 1e6:.2f} M requests",
            "hours (if all of it scales)": f"{hours:.2f}",
            "requests": f"${requests:,.2f}",
            "hosts' hours": f"${hours * self.hosts * HOST_DOLLARS:,.2f}",
            "manifest of the exchange": f"{self.chunks * 144 / 1e6:.0f} MB",
            "the commit of all files": f"{self.units * 375 / 1e6:.0f} MB",
            "driver, CPU": f"{(self.chunks * 400e-6 + self.units * 250e-6) / 60:.1f} min",
            "driver, memory": f"{driver / 1e9:.1f} GB",
        }


def scaled(folder: Path, raw: float, hosts: int, partition: str, bytes_of: RowBytes) -> Scaled:
    """Let the planner decide about a source of this size.

    One of more than 50,000 files is planned with 50,000 larger ones, and the number of chunks put right after.
    """
    from featureflow.execute.planner import Planner
    from featureflow.execute.sizing import RunSizes

    chunks = max(1, round(raw / FILE_BYTES))
    files = min(chunks, 50_000) // DAYS * DAYS
    rows = raw / RAW_ROW
    size = Size(
        files,
        DAYS,
        hosts,
        CORES,
        rows=int(rows / files),
        file_bytes=int(raw / files),
        groups=1,
        memory_bytes=int(HOST_MEMORY * 0.7),
        windows=WINDOWS,
        partition=partition,
    )
    simulation = Simulation(folder, size)
    compiled = simulation.compiled(None)
    example = compiled.sources["events"].facts[0]
    compiled = simulation.compiled(made_up_facts(example, size))
    site: Any = simulation.site()
    planner = Planner(simulation.project.loaded, compiled.tables, compiled.sources, site)
    (plan,) = planner.plan(["card_windows"], full=False, only=None).tables
    pieces = planner._pieces["events"]
    sizes = RunSizes.of(
        plan.table,
        pieces,
        planner._footprint(plan.table, [], plan.n_buckets),
        plan.missing,
        plan.n_buckets,
        site.budget,
    )
    runs = sizes.runs(plan.missing, 1 / plan.n_buckets)
    reach = plan.table.lookback_us
    loaded = sum(sizes.estimate.between(run[0].start_us - reach, run[-1].end_us) for run in runs)
    own = sum(sizes.estimate.between(run[0].start_us, run[-1].end_us) for run in runs)
    return Scaled(
        raw,
        partition,
        hosts,
        rows,
        chunks,
        plan.n_buckets,
        len(plan.missing) * plan.n_buckets,
        len(runs) * plan.n_buckets,
        loaded / own,
        loaded / sizes.estimate.between(None, plan.missing[-1].end_us) / len(runs) * chunks,
        bytes_of,
    )


def main(arguments: list[str] | None = None) -> None:
    """Work it out and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="of the build that is weighed")
    parser.add_argument(
        "--sizes", default="1:4:day,1:4:month,10:16:month,100:128:month", help="TB:hosts:partition"
    )
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="featureflow-scaling-"))
    try:
        bytes_of = measured_bytes(folder, given.rows)
        print(
            f"a row: {RAW_ROW} bytes in the source, {bytes_of.raw:.1f} of them read, {bytes_of.exchange:.1f} in the "
            f"exchange, {bytes_of.output:.1f} in the table"
        )
        found = []
        for i, one in enumerate(given.sizes.split(",")):
            terabytes, hosts, partition = one.split(":")
            place = folder / str(i)
            place.mkdir()
            found.append(scaled(place, float(terabytes) * 1e12, int(hosts), partition, bytes_of))
        texts = [one.rows_of_text() for one in found]
        head = ["", *(f"{one.raw / 1e12:g} TB, {one.partition}" for one in found)]
        print(table([head, *([name, *(text[name] for text in texts)] for name in texts[0])]))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
