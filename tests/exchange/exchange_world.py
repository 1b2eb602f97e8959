"""A project that sends everything through the exchange, hosts in this process, and what a store holds."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from parity.dataset_world import DatasetWorld, rows_of_events, rows_of_rates, rows_of_spine

from featureflow.execute.exchange import slice_server
from featureflow.execute.exchange.exchange_file import rekey
from featureflow.execute.exchange.places import Here, Sent, Wanted, being, disk_name
from featureflow.execute.task import Task

SPEC = """
featureflow: 1
project: world
sources:
  events:
    path: "{raw}/events/*.parquet"
    time: ts
    sequence: seq
    deduplicate: [seq]
    checks:
      - {column: x, max: 1000, on_fail: quarantine}
      - {column: [k, ts], unique: true, on_fail: quarantine}
      - {column: shop, not_null: true}
  rates: {path: "{raw}/rates/*.parquet", time: at}
  asked: {path: "{raw}/asked/*.parquet", time: t}
features:
  spend:
    source: events
    keys: [k]
    keep: [shop, seq]
    aggregate:
      - {column: x, ops: [count, sum, mean, max, last], windows: [6h, 2d, lifetime]}
      - {column: x, ops: [median], windows: [1d], where: "x > 0"}
    lookup: [{from: rates, keys: {shop: shop}, columns: [rate], ttl: 3d}]
    derive: {ratio: "x_sum_6h / nullif(x_mean_2d, 0)"}
    checks:
      - {column: x_count_6h, min: 0}
      - {column: rate, max: 0.98, on_fail: quarantine}
      - {column: [k, ts, seq], unique: true}
  daily:
    source: events
    keys: [shop]
    at: {every: 1d}
    aggregate: [{column: x, ops: [count, sum], windows: [2d]}]
    lookup: [{from: rates, keys: {shop: shop}, columns: [rate]}]
datasets:
  train:
    spine: {source: asked, keys: [k]}
    features:
      - spend
      - {table: daily, keys: {place: shop}, prefix: shop_}
    lookup: [{from: rates, keys: {place: shop}, columns: [rate], prefix: now_, ttl: 3d}]
    derive: {double: "now_rate * 2"}
    label: {source: events, keys: [k], op: count, horizon: 1d, as: busy, derive: "busy > 1"}
    split: {by: random, train: 0.7, test: 0.3, seed: 1, stratify: busy}
    encode:
      - {columns: [x_sum_2d, now_rate], with: [{impute: median}, standard]}
      - {columns: [place], with: target, folds: time}
      - {columns: [x_count_2d], with: quantile}
    select: {missing: 0.95, correlation: 0.999}
    checks: [{column: place, not_null: true}]
    export: {format: arrow, shard_size: 4000, nulls: nan, fill: {shop_x_count_2d: 0}, keys: false, shuffle: {seed: 3}}
"""


def make_world(folder: Path, raw: str | None = None, days: int = 3) -> DatasetWorld:
    """The project with three files of events; ``raw`` is where the sources are, the folder if omitted."""
    world = DatasetWorld(folder, spec=SPEC.replace("{raw}", raw or str(folder)))
    if raw is None:
        for i in range(days):
            add_events(world, i)
        world.write("rates", "a", rows_of_rates(2))
        world.write("asked", "a", rows_of_spine(3))
        world.write("asked", "b", rows_of_spine(4, 100))
    return world


def add_events(world: DatasetWorld, i: int) -> None:
    """Write a file of events; a tenth of its rows repeat others by their number."""
    rows = rows_of_events(i, 200)
    rows = rows.with_columns(seq=pl.col("seq") + 180 * i)
    world.write("events", f"part{i}", rows)


def contents(store: str | Path) -> dict[str, str]:
    """Hash of every data file, side file and shard below a local store, by path."""
    root = Path(store)
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        ours = path.suffix in {".parquet", ".arrow"} and "_delta_log" not in name
        if ours and path.is_file() and not name.startswith(("work/", "runs/")):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# ---------------------------------------------------------------- hosts in this process


@dataclass
class Host:
    """A host of the simulation: a disk, and what its tasks know of where they are."""

    address: str
    scratch: str
    alive: bool = True
    tasks: list[Task] = field(default_factory=list)


class Hosts:
    """An executor of several hosts, each with a scratch folder of its own, in threads of this process.

    What goes to a task and comes back is pickled, as between machines. ``on_task`` is called before each task, with its
    host.
    """

    memory_bytes: int | None = None
    dashboard: str | None = None

    def __init__(self, folder: Path, n: int = 2, *, same_disk: bool = False) -> None:
        self.all = [
            Host(f"fake://host{i}:{i}", str(folder / ("shared" if same_disk else f"host{i}")))
            for i in range(n)
        ]
        for host in self.all:
            os.makedirs(host.scratch, exist_ok=True)
        self.slots = self.threads = self.capacity = 2
        self.description = f"{n} hosts"
        self.requests: list[tuple[str, Wanted]] = []
        self.on_task: Callable[[Task, Host], None] = lambda _task, _host: None
        self._pool = ThreadPoolExecutor(2)
        self._keys: dict[Future[Any], str] = {}
        self._turn = 0
        self._lock = threading.Lock()

    def kill(self, i: int) -> None:
        """A host is gone with its disk."""
        self.all[i].alive = False
        shutil.rmtree(self.all[i].scratch)

    def restart(self, i: int) -> None:
        """Its worker comes back with an empty disk, at another address."""
        host = self.all[i]
        os.makedirs(host.scratch, exist_ok=True)
        host.address, host.alive = f"{host.address}0", True

    def here(self, host: Host) -> Here:
        """What a task on a host knows."""
        return Here(host.scratch, disk_name(host.scratch), host.address, self._ask)

    def _ask(self, wanted: Sequence[Wanted]) -> list[Sent]:
        return [self._ask_one(one) for one in wanted]

    def _ask_one(self, wanted: Wanted) -> Sent:
        for address in wanted.addresses:
            for host in self.all:
                if host.address == address and host.alive:
                    self.requests.append((address, wanted))
                    return _served(host.scratch, wanted)
        return Sent(reason="nobody answers")

    def submit(self, tasks: list[Task]) -> None:
        """See `Executor`."""
        for task in tasks:
            self._keys[self._pool.submit(self._run, pickle.dumps(task))] = task.key

    def _run(self, data: bytes) -> Any:
        while True:
            task: Task = pickle.loads(data)
            host = self._next_host(task)
            try:
                with being(self.here(host)):
                    result = pickle.loads(pickle.dumps(task.function(*task.arguments)))
            except Exception as error:  # noqa: BLE001  as a cluster does, with all of them
                if host.alive:
                    raise pickle.loads(pickle.dumps(error)) from None
            else:
                if host.alive:
                    return result
            # it died with its host: the cluster gives it to another one

    def _next_host(self, task: Task) -> Host:
        with self._lock:
            living = [host for host in self.all if host.alive]
            host = living[self._turn % len(living)]
            self._turn += 1
            self.on_task(task, host)
            if not host.alive:
                host = next(host for host in self.all if host.alive)
            host.tasks.append(task)
            return host

    def next_done(self) -> Iterable[tuple[str, Any, BaseException | None]]:
        """See `Executor`."""
        done, _ = wait(self._keys, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            yield self._keys.pop(future), None if error else future.result(), error

    def cancel(self) -> None:
        """See `Executor`."""
        wait(self._keys)
        self._keys.clear()

    def close(self) -> None:
        """See `Executor`."""
        self._pool.shutdown()

    def on_workers(
        self, function: Callable[..., Any], *arguments: Any, addresses: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """See `featureflow.execute.clusters.hosts.on_workers`."""
        found = {}
        for host in self.all:
            if host.alive and (addresses is None or host.address in addresses):
                with being(self.here(host)):
                    found[host.address] = pickle.loads(pickle.dumps(function(*arguments)))
        return found


def _served(scratch: str, wanted: Wanted) -> Sent:
    """What the server of a worker sends, without the network between."""
    names = [name.partition(":")[2] for name in wanted.names]
    found, schemas, slices = slice_server._find(scratch, names, wanted.bucket)
    data = bytearray()
    for piece in slice_server._pieces(slices):
        data += slice_server._read(piece)
    return slice_server._unpacked(wanted, {"found": found, "schemas": schemas}, np.frombuffer(data, np.uint8))


@contextmanager
def building_on(monkeypatch: Any, hosts: Hosts) -> Iterator[None]:
    """Have projects open these hosts, and several buckets for little data."""
    import featureflow.execute.opening as opening

    with monkeypatch.context() as patched:
        patched.setattr(opening, "open_executor", lambda *_args, **_kwargs: hosts)
        patched.setattr(hosts, "close", lambda: None)
        many_buckets(patched)
        yield


def many_buckets(patched: Any) -> None:
    """Several buckets and several pieces of a dataset for little data; decided by the driver."""
    import featureflow.datasets.planning as planning
    import featureflow.execute.sizing as sizing

    patched.setattr(sizing, "WORTH_SPLITTING_ROWS", 10)
    patched.setattr(sizing, "CRUMB_BYTES", 64)
    patched.setattr(planning, "WORTH_SPLITTING_ROWS", 10)
    patched.setattr(planning, "rows_of_piece", lambda _schema: 100)


def maps_on(host: Host) -> list[str]:
    """Names of the exchange files that a host was asked to make."""
    return [task.key for task in host.tasks if getattr(task.function, "function", task.function) is rekey]
