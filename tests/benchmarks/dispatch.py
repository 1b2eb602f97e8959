"""What a task costs the driver and the scheduler of a real Dask cluster whose workers have nothing to do.

Run by hand: ``python tests/benchmarks/dispatch.py``. The scheduler is a process, all workers live in another, each with
an address of its own, so that every worker is a host; tasks carry what re-keying carries, placed by what they read.
CPU seconds of driver and scheduler are read from the system, so other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import PAGE, table

TICKS = os.sysconf("SC_CLK_TCK")
IDLE_SECONDS = 15
PAYLOAD = "x" * 1500  # what re-keying carries, beside the function


def nothing(place: int, payload: str) -> tuple[int, int]:
    """The task."""
    return place, len(payload)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_bytes(pid: int) -> int:
    """Memory of a process now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


async def workers(address: str, n: int, folder: str) -> None:
    """Live as so many workers until the scheduler goes."""
    import dask
    from distributed import Worker

    settings = {
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.interval": "1 hour",
        "distributed.admin.tick.interval": "1 hour",
        "distributed.worker.memory.rebalance.measure": "managed",
        "distributed.worker.http.routes": [],
    }
    with dask.config.set(settings):
        made = []
        for i in range(n):
            host = f"127.1.{i // 250}.{i % 250 + 1}"
            worker = Worker(
                address,
                nthreads=1,
                memory_limit=0,
                host=host,
                dashboard=False,
                local_directory=os.path.join(folder, str(i)),
            )
            made.append(await worker)
        await asyncio.gather(*(worker.finished() for worker in made))


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--anywhere", action="store_true", help="tasks that read nothing")
    parser.add_argument("--as-workers", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.as_workers:
        asyncio.run(workers(given.as_workers, given.workers, given.folder))
        return
    with tempfile.TemporaryDirectory(prefix="featureflow-dispatch-") as folder:
        print(measured(given.workers, given.tasks, folder, anywhere=given.anywhere))


def measured(n_workers: int, n_tasks: int, folder: str, *, anywhere: bool = False) -> str:
    """Start a cluster, run the tasks, stop it; the figures as text."""
    import psutil
    from distributed import Client
    from distributed.utils import open_port

    address = f"tcp://127.0.0.1:{open_port()}"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(__file__).resolve().parents[1]}:{os.environ.get('PYTHONPATH', '')}",
    }
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"],
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    crowd = subprocess.Popen(
        [sys.executable, __file__, "--as-workers", address, "--workers", str(n_workers), "--folder", folder],
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        with Client(address, timeout="60s", set_as_default=False) as client:
            client.wait_for_workers(n_workers, timeout=300)
            return run(client, n_tasks, psutil.Process(scheduler.pid).pid, anywhere=anywhere)
    finally:
        for process in (crowd, scheduler):
            process.terminate()
            process.wait()


def run(client: Any, n_tasks: int, scheduler: int, *, anywhere: bool) -> str:
    """Give the tasks to the real driver, with the real executor."""
    # by its module's name, as all real ones: what is defined in __main__ is sent with every task
    from benchmarks.dispatch import nothing as task_function

    from featureflow.execute.clusters.dask_executor import DaskExecutor
    from featureflow.execute.driver import run_tasks
    from featureflow.execute.task import Task

    executor = DaskExecutor(client)
    executor.holdings(["nothing"])  # what is set up once
    tasks = (
        Task(
            f"{i:032x}",
            task_function,
            (i, PAYLOAD),
            "nothing",
            () if anywhere else ((f"chunk-{i}", 80 << 20),),
        )
        for i in range(n_tasks)
    )
    done: list[int] = []
    by_host: dict[str, int] = {}

    def on_done(task: Task, result: tuple[int, int]) -> None:
        done.append(result[0])
        by_host[task.host] = by_host.get(task.host, 0) + 1

    pids = (os.getpid(), scheduler)
    idle = [cpu_seconds(pid) for pid in pids]
    time.sleep(IDLE_SECONDS)  # heartbeats cost by the second, not by the task
    before = [cpu_seconds(pid) for pid in pids]
    idle = [(now - then) / IDLE_SECONDS for then, now in zip(idle, before, strict=True)]
    begun = time.perf_counter()
    run_tasks(executor, tasks, on_done)
    wall = time.perf_counter() - begun
    spent = [cpu_seconds(pid) - then for pid, then in zip(pids, before, strict=True)]
    assert sorted(done) == list(range(n_tasks))
    rows = [["", "CPU s", "us a task", "of that idle", "without", "MiB after"]]
    for name, seconds, rate, pid in zip(("driver", "scheduler"), spent, idle, pids, strict=True):
        rows.append([name, *_figures(seconds, rate * wall, n_tasks), f"{memory_bytes(pid) >> 20}"])
    rows.append(["both", *_figures(sum(spent), sum(idle) * wall, n_tasks), ""])
    hosts = len(executor.hosts())
    most = max(by_host.values()) * hosts / n_tasks
    shared = "" if anywhere else f"; no host had more than {most:.2f} of its share"
    executor.cancel()
    return f"{n_tasks} tasks on {hosts} hosts in {wall:.0f} s{shared}\n{table(rows)}"


def _figures(seconds: float, idle: float, n_tasks: int) -> list[str]:
    """Seconds, and microseconds a task: all, what idling as long takes, the rest."""
    return [f"{seconds:.1f}", *(f"{one / n_tasks * 1e6:.0f}" for one in (seconds, idle, seconds - idle))]


if __name__ == "__main__":
    main()
