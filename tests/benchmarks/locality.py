"""Four hosts with disks of their own read remote files, each request 150 ms late: what is local, how long it takes.

    python tests/benchmarks/locality.py [--builds] [--latency-ms 150]

A scheduler and four workers of one thread on 127.0.0.2 … 5, each with its own scratch folder. Without ``--builds``: 60
tasks that read two chunks of 1 MB each through the cache, from a file system that waits; nothing else is measured.
With it: whole builds of 60 raw files on SeaweedFS, behind a proxy that adds the latency to each GET of one; each build
changes the source's condition, so that all files are re-keyed again with the same columns; figures are of that stage.
`default placement` is Dask's own, with the same caches.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from featureflow.core.chunk_cache import labelled
from featureflow.core.fingerprints import fingerprint
from featureflow.core.meter import metering
from featureflow.core.remote import fetch_ranges
from featureflow.execute.clusters.dask_executor import DaskExecutor
from featureflow.execute.clusters.workers import WorkerSettings
from featureflow.execute.driver import run_tasks
from featureflow.execute.task import Task

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import table
from clusters.hosts import Hosts, start_hosts
from servers.fault_proxy import FaultProxy, Rule
from servers.seaweedfs import environment_of, start_s3, variables

SPEC = """
featureflow: 1
project: local
sources:
  events: {{path: "{raw}/*.parquet", time: ts, where: "amount > -{n}"}}
features:
  spend:
    source: events
    keys: [card]
    aggregate:
      - {{column: amount, ops: [sum, count], windows: [1d]}}
targets:
  hosts: {{exchange: local}}
"""


@dataclass
class Round:
    """One build: what its re-keying read, and from where."""

    name: str
    local: int
    remote: int
    seconds: float
    whole: float
    hosts: int

    @property
    def share(self) -> float:
        """Bytes that came from a disk of the host."""
        return self.local / max(1, self.local + self.remote)


@dataclass
class Rounds:
    """Hosts, and what was done on them."""

    folder: Path
    hosts: Hosts
    rounds: list[Round] = field(default_factory=list)

    def run(self, name: str, at: tuple[float, Callable[[], None]] | None = None) -> Round:
        """Read everything once more; ``at`` calls a function when so large a share is read."""
        raise NotImplementedError

    def warm(self) -> None:
        """Let all workers import and compile what they need, with other files."""

    def forget(self) -> None:
        """Empty caches: workers start again on empty disks."""
        for i in list(self.hosts.running):
            self.hosts.kill(i)
            shutil.rmtree(self.hosts.scratch(i), ignore_errors=True)
            self.hosts.start(i)
        self.hosts.wait()
        self.warm()

    def all(self) -> None:
        """What happens to a cluster."""
        hosts = self.hosts
        self.warm()
        with default_placement():
            self.run("cold, default placement")
            self.run("again, default placement")
        self.forget()
        self.run("cold")
        self.run("again")
        self.run("a host is lost at half", (0.5, lambda: hosts.kill(3)))
        hosts.start(3)
        hosts.wait()
        self.warm()
        self.run("it is back with its disk")
        hosts.kill(3)
        hosts.wait()
        self.run("it is gone for good")
        self.run("the build after")
        hosts.start(4)
        hosts.wait()
        self.warm()
        self.run("another, empty host comes")
        self.run("the build after that")

    def text(self) -> str:
        """All rounds as a table."""
        head = ["build", "hosts", "local bytes", "reading s", "build s"]
        rows = [
            [r.name, str(r.hosts), f"{r.share:.0%}", f"{r.seconds:.1f}", f"{r.whole:.1f}"]
            for r in self.rounds
        ]
        return table([head, *rows])


class SlowFiles(AbstractFileSystem):
    """A remote store without content: every request waits, then gives zeros."""

    protocol = "slow"
    cachable = False
    latency = 0.15

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        time.sleep(self.latency)
        return bytes((end or 0) - (start or 0))


def read_chunks(names: tuple[str, ...], size: int, latency: float) -> dict[str, int]:
    """A task: read some chunks through the host's cache; bytes by where they came from."""
    fsspec.register_implementation("slow", SlowFiles, clobber=True)
    SlowFiles.latency = latency
    with metering() as found:
        for name in names:
            with labelled(fingerprint([name])):
                fetch_ranges(f"slow://raw/{name}", "etag:1", [(0, size)])
    return found.bytes


@dataclass
class Reads(Rounds):
    """Tasks that read and do nothing else."""

    n: int = 60
    size: int = 1_000_000
    latency: float = 0.15

    def run(self, name: str, at: tuple[float, Callable[[], None]] | None = None) -> Round:
        """See `Rounds`."""
        executor = DaskExecutor(self.hosts.client, settings=WorkerSettings(str(self.folder / "driver")))
        tasks = []
        for i in range(self.n):
            chunks = (f"{i}a", f"{i}b")
            reads = tuple((fingerprint([chunk]), self.size) for chunk in chunks)
            tasks.append(Task(f"{i}", read_chunks, (chunks, self.size, self.latency), f"read {i}", reads))
        moved: Counter[str] = Counter()
        done = 0

        def count(_: Task, found: dict[str, int]) -> None:
            nonlocal done, at
            moved.update(found)
            done += 1
            if at is not None and done >= at[0] * self.n:
                call, at = at[1], None
                call()

        begun = time.monotonic()
        run_tasks(executor, tasks, count)
        seconds = time.monotonic() - begun
        n_hosts = len(self.hosts.running)
        time.sleep(1)  # workers say twice a second what has changed
        self.rounds.append(Round(name, moved["nvme read"], moved["remote read"], seconds, seconds, n_hosts))
        return self.rounds[-1]


@dataclass
class Builds(Rounds):
    """Whole builds from S3."""

    raw: str = ""
    n: int = 0

    def run(self, name: str, at: tuple[float, Callable[[], None]] | None = None) -> Round:
        """See `Rounds`."""
        return self.build(name, at=at)

    def build(self, name: str, *, at: tuple[float, Callable[[], None]] | None = None, raw: str = "") -> Round:
        """Re-key all raw files and compute; ``at`` calls a function at a share of the re-keying."""
        import featureflow as ff

        self.n += 1
        store = self.folder / f"store{self.n}"
        project = ff.Project(
            SPEC.format(raw=raw or self.raw, n=self.n),
            store=str(store),
            client=self.hosts.client,
            scratch=self.folder / "driver",
            target="hosts",
        )
        report = project.build(progress=_Watch(*at) if at else None)
        profile = json.loads(next((store / "runs").glob("*/profile.json")).read_text())
        stage = next(one for one in profile["stages"] if "re-key" in one["name"])
        moved = stage["bytes"]
        found = Round(
            name,
            moved.get("nvme read", 0),
            moved.get("remote read", 0),
            stage["seconds"],
            report.seconds,
            len(self.hosts.running),
        )
        if not raw:
            self.rounds.append(found)
        shutil.rmtree(store)
        return found

    def warm(self) -> None:
        """See `Rounds`."""
        self.build("", raw=f"{self.raw}-warm")


class _Watch:
    """A progress display that calls a function when so much of the re-keying is done."""

    def __init__(self, share: float, call: Callable[[], None]) -> None:
        self.share, self.call = share, call
        self.total = self.done = 0

    def start(self, title: str) -> None: ...

    def stage(self, name: str, total: int) -> None:
        if "re-key" in name:
            self.total = total

    def advance(self, name: str, *, tasks: int = 1, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002
        if "re-key" in name:
            self.done += tasks
            if self.call is not None and self.done >= self.share * self.total:
                call, self.call = self.call, None  # type: ignore[assignment]
                call()

    def note(self, text: str) -> None: ...

    def finish(self) -> None: ...


@contextmanager
def default_placement() -> Iterator[None]:
    """Tasks go where Dask puts them."""
    from featureflow.execute.clusters.dask_executor import DaskExecutor

    real = DaskExecutor.hosts
    DaskExecutor.hosts = lambda self: {}  # type: ignore[method-assign]
    try:
        yield
    finally:
        DaskExecutor.hosts = real  # type: ignore[method-assign]


def put_files(raw: str, n: int, rows: int) -> None:
    """The raw files."""
    import numpy as np
    import polars as pl

    from featureflow.core.storage import write_atomic

    rng = np.random.default_rng(0)
    for i in range(n):
        frame = pl.DataFrame(
            {
                "card": rng.integers(0, 5000, rows),
                "amount": rng.gamma(2.0, 30.0, rows),
                "ts": np.sort(rng.integers(0, 86_400_000_000, rows))
                + i * 86_400_000_000
                + 1_767_225_600_000_000,
                "note": rng.random(rows),
            }
        ).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
        sink = io.BytesIO()
        frame.write_parquet(sink)
        write_atomic(f"{raw}/{i:04d}.parquet", sink.getvalue())


@contextmanager
def open_builds(folder: Path, *, files: int, rows: int, latency: float, hosts: int = 4) -> Iterator[Builds]:
    """Start everything."""
    with start_s3(folder / "s3") as server, FaultProxy(server.endpoint) as proxy:
        environment = environment_of(proxy.url)
        with variables(environment):
            raw = server.url("raw")
            put_files(raw, files, rows)
            put_files(f"{raw}-warm", 4 * hosts, 100)
            proxy.add(Rule("latency", method="GET", path=r"/raw/.*parquet", seconds=latency))
            with start_hosts(hosts, folder / "hosts", environment=environment) as running:
                yield Builds(folder, running, raw=raw)


@contextmanager
def open_reads(folder: Path, *, latency: float = 0.15, hosts: int = 4) -> Iterator[Reads]:
    """Start hosts for tasks that only read."""
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}  # workers import this module
    with start_hosts(hosts, folder / "hosts", environment=environment) as running:
        yield Reads(folder, running, latency=latency)


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builds", action="store_true")
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--latency-ms", type=float, default=150)
    given: Any = parser.parse_args()
    latency = given.latency_ms / 1000
    with tempfile.TemporaryDirectory(prefix="locality-") as name:
        folder = Path(name)
        opened: Any = (
            open_builds(folder, files=given.files, rows=given.rows, latency=latency)
            if given.builds
            else open_reads(folder, latency=latency)
        )
        with opened as rounds:
            rounds.all()
            print(rounds.text())


if __name__ == "__main__":
    # workers must find what tasks are made of under this name
    from benchmarks.locality import main as imported

    imported()
