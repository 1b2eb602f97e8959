"""A build of 100,000 partitions on 1,000 workers, with workers that compute nothing: what it costs the driver.

Run by hand: ``python tests/benchmarks/simulation.py``. The planner, the driver, the commit and the reader of
a table's state are the real ones; the source's files are facts without files, a task's result is made up, and its
files are sparse ones. Every task and result is pickled, as by the client of a cluster. Each phase is printed with its
CPU time and the memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.card_events import write_events
from benchmarks.measure import PAGE, table

SPEC = """\
featureflow: 1
project: simulated
sources:
  events: {{path: "{source}/*.parquet", time: ts, timezone: UTC}}
features:
  card_windows:
    source: events
    keys: [card_id]
    partition: {partition}
    aggregate:
      - {{column: amount, ops: [count, sum, mean, max, stddev_samp], windows: [{windows}]}}
"""
DAY_US = 86_400_000_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Size:
    """How large the simulated build is."""

    files: int = 100_000
    days: int = 100
    workers: int = 1000
    threads: int = 1
    rows: int = 20_000  # of a file
    file_bytes: int = 1 << 20
    groups: int = 8
    memory_bytes: int = 4 << 30
    windows: str = "1h, 6h, 12h, 1d"
    partition: str = "day"


@dataclass
class Phase:
    """CPU seconds of a phase, and the memory after it."""

    name: str
    cpu: float
    wall: float
    n: int
    resident: int
    peak: int

    def row(self) -> list[str]:
        """As text."""
        each = f"{self.cpu / self.n * 1e6:.0f}" if self.n else ""
        return [
            self.name,
            f"{self.n}",
            f"{self.cpu:.2f}",
            f"{self.wall:.2f}",
            each,
            f"{self.resident >> 20}",
            f"{self.peak >> 20}",
        ]


@dataclass
class Phases:
    """The phases so far."""

    found: list[Phase] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str, n: int) -> Any:
        """Measure one; ``n`` is the number of partitions that it is about."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.found.append(
            Phase(
                name, time.process_time() - cpu, time.perf_counter() - wall, n, resident_bytes(), peak_bytes()
            )
        )

    def text(self) -> str:
        """The table."""
        head = ["phase", "partitions", "CPU s", "wall s", "us each", "MiB after", "peak MiB"]
        return table([head, *(one.row() for one in self.found)])


def resident_bytes() -> int:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def peak_bytes() -> int:
    """The most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class SimulatedExecutor:
    """Workers that compute nothing: a task is pickled, waits its turn, and its result is made up.

    Parameters
    ----------
    results
        By name of the task's function: makes the result.
    """

    def __init__(self, size: Size, results: dict[str, Any]) -> None:
        self.slots = self.capacity = size.workers * size.threads
        self.threads = size.threads
        self.dashboard: str | None = None
        self.memory_bytes: int | None = size.memory_bytes
        self.description = f"{size.workers} simulated workers"
        self.tasks: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.largest_result = self.most_in_flight = 0
        self.cpu = 0.0  # seconds that results took to make up
        self.placed: dict[str, dict[str, int]] = {}  # by function and host
        self._hosts = {f"10.{i >> 8}.{i & 255}.1": size.threads for i in range(size.workers)}
        self._held: dict[str, str] = {}  # host by chunk: what it read is in its cache
        self.local = self.read = 0
        self._results = results
        self._waiting: deque[Any] = deque()

    def submit(self, tasks: list[Any]) -> None:
        """See `Executor`."""
        for task in tasks:
            name = task.function.__name__
            self.tasks[name] = self.tasks.get(name, 0) + 1
            self.bytes[name] = self.bytes.get(name, 0) + len(pickle.dumps((task.function, task.arguments)))
            self._waiting.append(task)
            at = self.placed.setdefault(name, {})
            at[task.host] = at.get(task.host, 0) + 1
            for chunk, _ in task.reads:
                self.read += 1
                self.local += self._held.get(chunk) == task.host
                self._held[chunk] = task.host
        self.most_in_flight = max(self.most_in_flight, len(self._waiting))

    def hosts(self) -> dict[str, int]:
        """Threads by host: every worker is one."""
        return self._hosts

    def holdings(self, names: Iterable[str]) -> dict[str, dict[str, int]]:
        """What hosts have in their caches."""
        return {name: {self._held[name]: 1 << 40} for name in names if name in self._held}

    def next_done(self) -> Iterable[tuple[str, Any, BaseException | None]]:
        """See `Executor`. Some finish at a time, as on a cluster whose tasks take seconds."""
        for _ in range(min(len(self._waiting), 50)):
            task = self._waiting.popleft()
            begun = time.process_time()
            sent = pickle.dumps(self._results[task.function.__name__](*task.arguments))
            self.cpu += time.process_time() - begun
            self.largest_result = max(self.largest_result, len(sent))
            yield task.key, pickle.loads(sent), None

    def cancel(self) -> None:
        """See `Executor`."""
        self._waiting.clear()

    def close(self) -> None:
        """See `Executor`."""


def made_up_facts(example: Any, size: Size) -> tuple[Any, ...]:
    """Facts of many files: each covers a part of one day, as logs do; the days come one after the other."""
    a_day = max(1, size.files // size.days)
    first = int(BEGIN.timestamp() * 1e6)
    found = []
    for i in range(size.files):
        day, place = min(i // a_day, size.days - 1), i % a_day
        low = first + day * DAY_US + place * (DAY_US // (2 * a_day))
        high = min(first + (day + 1) * DAY_US - 1, low + DAY_US // 2)
        date = f"{BEGIN + timedelta(days=day):%Y-%m-%d}"
        groups = tuple(
            replace(
                example.groups[0],
                index=k,
                rows=size.rows // size.groups,
                bytes=size.file_bytes // size.groups,
                min_time=low,
                max_time=high,
            )
            for k in range(size.groups)
        )
        path = f"s3://bucket-of-events/raw/date={date}/part-{i:06d}.parquet"
        file = replace(example.file, path=path, size=size.file_bytes, version=f"etag:{i:032x}")
        found.append(replace(example, file=file, rows=size.rows, groups=groups))
    return tuple(found)


def made_up_file(example: Any, path: str, rows: int, place: int) -> Any:
    """A staged file as a worker would describe it; statistics differ from file to file, as they do."""
    from featureflow.tables.parquet_files import StagedFile

    columns = {
        name: {
            key: value + place % 1009 if isinstance(value, int) and key in ("count", "sum") else value
            for key, value in stats.items()
        }
        | ({"sum": stats["sum"] * (1 + place * 1e-7)} if isinstance(stats.get("sum"), float) else {})
        for name, stats in example.columns.items()
    }
    text = json.dumps(columns, sort_keys=True, separators=(",", ":"))
    made = {"path": path, "rows": rows, "size": rows * 40, "columns_json": text}
    return StagedFile.of(**{**example.to_json(), **made, "footer_digest": f"{place:032x}"})


def sparse_file(url: str, size: int) -> None:
    """A file of that size with nothing in it."""
    os.makedirs(os.path.dirname(url), exist_ok=True)
    with open(url, "wb") as file:
        file.truncate(size)


class Simulation:
    """One project, its made-up source, and the executor that computes nothing."""

    def __init__(self, folder: Path, size: Size) -> None:
        from featureflow import Project

        self.size, self.folder = size, folder
        source = folder / "events"
        write_events(source, 3000, days=6)
        spec = folder / "spec.yaml"
        spec.write_text(SPEC.format(source=source, windows=size.windows, partition=size.partition))
        self.example = self._example(spec)
        self.project = Project(spec, store=str(folder / "store"), scratch=str(folder / "scratch"))
        self.executor = SimulatedExecutor(size, {"rekey": self._rekeyed, "compute_run": self._written})
        self.on_disk: list[tuple[str, int]] = []

    def _example(self, spec: Path) -> Any:
        """A real file of the table, whose statistics are copied."""
        from featureflow import Project
        from featureflow.tables.state import current_state

        store, scratch = self.folder / "real", self.folder / "real-scratch"
        Project(spec, store=str(store), scratch=str(scratch)).build()
        state = current_state(str(store / "features" / "card_windows"))
        assert state is not None
        return state.files[0]

    def compiled(self, facts: tuple[Any, ...] | None) -> Any:
        """The typed project; its source has these files."""
        from featureflow.execute.compiling import compile_names

        found = compile_names(self.project.loaded, ["card_windows"], self.project.scratch)
        if facts is not None:
            found.sources["events"] = replace(found.sources["events"], facts=facts)
        return found

    def site(self) -> Any:
        """Where it would run."""
        from featureflow.execute.profiling.recorder import Recorder
        from featureflow.execute.site import Site
        from featureflow.execute.sizing import Budget
        from featureflow.observe.progress import QuietProgress

        return Site(
            self.project.store_url,
            self.project.scratch,
            self.executor,
            Budget(self.size.memory_bytes, self.size.threads),
            Recorder(QuietProgress()),
        )

    def _rekeyed(self, job: Any, chunk: Any, path: str, *_: Any) -> Any:
        from featureflow.execute.exchange.exchange_file import NAMED_BUCKETS, Rekeyed

        named = min(NAMED_BUCKETS, job.n_buckets)
        each = chunk.rows // job.n_buckets
        largest = tuple((bucket, each + bucket % 3) for bucket in range(named))
        return Rekeyed(path, chunk.rows, chunk.size, False, largest)

    def _written(self, run: Any) -> Any:
        from featureflow.execute.windows.run import Written
        from featureflow.execute.windows.window_task import unit_path

        files = []
        a_unit = self.size.files * self.size.rows // self.size.days // 1000
        for unit in run.units:
            place = len(self.on_disk)
            file = made_up_file(self.example, unit_path(run.table, unit, run.bucket), a_unit, place)
            self.on_disk.append((os.path.join(run.table_url, file.path), file.size))
            files.append(file)
        return Written(sum(file.rows for file in files), 0, tuple(files))

    def make_files(self) -> None:
        """Sparse files for what the simulated tasks have written: the commit looks whether they are there."""
        for url, size in self.on_disk:
            sparse_file(url, size)
        self.on_disk.clear()


def build(simulation: Simulation, facts: tuple[Any, ...], phases: Phases, kind: str) -> tuple[Any, Any]:
    """Plan, dispatch, collect and publish a build; returns the plan and what was published."""
    from featureflow.execute.planner import Planner
    from featureflow.execute.publish import publish_table
    from featureflow.execute.table_build import TableBuild, table_output
    from featureflow.plan.columns import as_input

    n, site = len(facts), simulation.site()
    compiled = simulation.compiled(facts)
    with phases.phase(f"{kind}: sources to chunks", n):
        planner = Planner(simulation.project.loaded, compiled.tables, compiled.sources, site)
    with phases.phase(f"{kind}: plan", n):
        plan = planner.plan(["card_windows"], full=False, only=None)
    (table_plan,) = plan.tables
    with phases.phase(f"{kind}: show the plan", n):
        json.dumps(plan.summary())
    if not table_plan.does_something:
        return plan, None
    partitions = len(table_plan.missing) * table_plan.n_buckets
    run = TableBuild(table_plan, plan.input("events"), [], site, ())
    with phases.phase(f"{kind}: what is finished already", partitions):
        todo = run._todo()
    before, made_up = dict(simulation.executor.tasks), simulation.executor.cpu
    with phases.phase(f"{kind}: re-key and compute, by task", partitions):
        run._compute(todo)
    tasks = {k: v - before.get(k, 0) for k, v in simulation.executor.tasks.items()}
    phases.found[-1].n = sum(tasks.values())
    phases.found[-1].cpu -= simulation.executor.cpu - made_up
    simulation.make_files()
    with phases.phase(f"{kind}: collect", partitions):
        new = run._collect()
    with phases.phase(f"{kind}: output as input of others", partitions):
        state = plan.states["card_windows"]
        table_output(table_plan, state, new, site, as_input(table_plan.table))
    with phases.phase(f"{kind}: commit", partitions):
        inputs = {"events": {"files": plan.input("events").files}}
        remembered = {"build": f"simulated-{kind}", "inputs": inputs}
        published = publish_table(table_plan, run.url, state, new, remembered)
    return plan, published


def simulate(folder: Path, size: Size) -> tuple[Phases, Simulation, dict[str, int]]:
    """A first build, one with nothing new, and one with a day more."""
    from featureflow.plan.scan import known_facts, packed_facts

    simulation, phases = Simulation(folder, size), Phases()
    example = simulation.compiled(None).sources["events"].facts[0]
    more = replace(size, days=size.days + 1, files=size.files + size.files // size.days)
    with phases.phase("made-up facts (not ours)", more.files):
        facts = made_up_facts(example, more)
    kept = folder / "facts.jsonl"
    with phases.phase("facts to the scratch folder", size.files):
        kept.write_bytes(packed_facts(facts))
    bytes_of = {"facts on scratch": kept.stat().st_size}
    with phases.phase("facts from the scratch folder", size.files):
        read = known_facts(str(kept))
    assert tuple(read.values()) == facts
    del read
    plan, published = build(simulation, facts[: size.files], phases, "first")
    (table_plan,) = plan.tables
    assert published is not None and published.files_added == len(table_plan.missing) * table_plan.n_buckets
    del plan, table_plan  # another build is another process
    again, nothing = build(simulation, facts[: size.files], phases, "nothing new")
    assert nothing is None and not again.tables[0].missing
    del again
    later, published = build(simulation, facts, phases, "one day more")
    assert published is not None and len(later.tables[0].missing) <= 3
    for root, _, names in os.walk(folder):
        for name in names:
            kind = name.rpartition(".")[2]
            if kind in ("json", "files") and "real" not in root:
                label = f"{Path(root).name}/*.{kind}"
                bytes_of[label] = max(bytes_of.get(label, 0), (Path(root) / name).stat().st_size)
    return phases, simulation, bytes_of


def main(arguments: list[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=20_000, help="of a file")
    parser.add_argument("--workdir", type=Path)
    given = parser.parse_args(arguments)
    folder = given.workdir or Path(tempfile.mkdtemp(prefix="featureflow-simulation-"))
    size = Size(given.files, given.days, given.workers, rows=given.rows)
    before = resident_bytes()
    try:
        phases, simulation, bytes_of = simulate(folder, size)
    finally:
        if given.workdir is None:
            shutil.rmtree(folder)
    executor = simulation.executor
    print(phases.text())
    print(f"memory: {before >> 20} MiB before the first import, {peak_bytes() >> 20} MiB at the peak")
    for name, n in executor.tasks.items():
        print(f"{name}: {n} tasks, {executor.bytes[name] / n:.0f} bytes each when sent")
    for name, at in executor.placed.items():
        placed = {host: n for host, n in at.items() if host}
        if not placed:
            print(f"{name}: reads from everywhere, and runs wherever a thread is free")
            continue
        share = sum(placed.values()) / len(executor.hosts())
        most = max(placed.values()) / share
        print(f"{name}: {len(placed)} hosts have {share:.1f} tasks each; at most {most:.3f} of that")
    print(f"of {executor.read} chunks read, {executor.local} by a host that has them")
    print(f"largest result: {executor.largest_result} bytes; in flight at most {executor.most_in_flight}")
    for name, n_bytes in bytes_of.items():
        print(f"{name}: {n_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
