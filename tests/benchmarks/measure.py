"""Run a command and measure it from outside: wall time, CPU seconds and peak memory, descendants included."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.05
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Run:
    """What one command took.

    Parameters
    ----------
    wall, cpu
        Seconds; ``cpu`` is user and system time of the process and of all descendants that it waited for.
    peak
        Bytes: the larger of the kernel's peak of the largest single process and of the sampled sum over
        the process and its descendants (every 50 ms; pages that they share count more than once).
    output
        What the command wrote to stdout and stderr.
    """

    wall: float
    cpu: float
    peak: int
    output: str


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None, log: Path) -> Run:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
        If it fails; with the end of its output.
    """
    with log.open("wb") as out:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(command), stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
        sampler = _Sampler(process.pid)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        sampler.stop()
    output = log.read_text(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output[-4000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(wall, usage.ru_utime + usage.ru_stime, max(usage.ru_maxrss * unit, sampler.peak), output)


def median(runs: Sequence[Run]) -> Run:
    """Medians of each figure by itself."""
    return Run(
        statistics.median(run.wall for run in runs),
        statistics.median(run.cpu for run in runs),
        round(statistics.median(run.peak for run in runs)),
        runs[-1].output,
    )


class _Sampler(threading.Thread):
    """Largest sum of resident memory over a process tree; 0 where there is no /proc."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._pid = pid
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, tree_bytes(self._pid))

    def stop(self) -> None:
        self._over.set()
        self.join()


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process and its descendants now."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * PAGE
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except (OSError, IndexError):
            continue  # it ended between two looks
    return total


def table(rows: Sequence[Sequence[str]]) -> str:
    """Text table: the first row is the header, columns after the first are right-aligned."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(widths[0]) if not place else cell.rjust(widths[place])
            for place, cell in enumerate(row)
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def report(title: str, results: Mapping[str, Sequence[Run]], *, ours: str) -> str:
    """Table of medians with the ratio of ours to each."""
    base = median(results[ours])
    rows = [["", "runs", "wall s", "CPU s", "peak MiB", "ours/it wall", "ours/it CPU", "ours/it peak"]]
    for name, runs in results.items():
        one = median(runs)
        ratios = [
            f"{a / b:.2f}" for a, b in ((base.wall, one.wall), (base.cpu, one.cpu), (base.peak, one.peak))
        ]
        figures = [f"{one.wall:.2f}", f"{one.cpu:.2f}", f"{one.peak / 2**20:.0f}"]
        rows.append([name, str(len(runs)), *figures, *ratios])
    return f"{title}\n{table(rows)}"
