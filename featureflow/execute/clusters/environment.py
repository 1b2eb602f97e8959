"""Setting up the process of a worker: what its environment can say before it starts, and what can be set later.

Measured reasons: Arrow's default allocator keeps what is freed, and Dask counts that as the task's memory (390 MB
against 120 MB after dropping 256 MB of tables); native pools of one thread, since a task is the unit of parallelism.

glibc's malloc, left to itself or told to trim early (Dask's own setting), asks the system for every array of more than
128 KiB anew, and its pages are faulted in again: 24 of 74 CPU seconds of a build of wide windows on a worker of 6 GB.
So within a task a part of what is freed is kept for the next array, and `give_back` returns it when the task is done:
7 CPU seconds of the system's, 28.5 s instead of 41.9, and a tenth more at the peak.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

#: Free memory at the top of the heap that malloc may keep, and the largest array that it takes from there: the most
#: that glibc accepts. A worker of little memory keeps a share of its limit, since holes in the heap count, too.
_TRIM_THRESHOLD = 512 << 20
_MMAP_THRESHOLD = 32 << 20
_KEPT_SHARE, _LEAST_KEPT = 1 / 16, 16 << 20

#: For processes that we start, before they do.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": str(_TRIM_THRESHOLD),
    "MALLOC_MMAP_THRESHOLD_": str(_MMAP_THRESHOLD),
}

#: Which module reads a variable when it is first imported, and never again.
_READ_BY = {
    "OMP_NUM_THREADS": "numpy",
    "MKL_NUM_THREADS": "numpy",
    "OPENBLAS_NUM_THREADS": "numpy",
    "POLARS_MAX_THREADS": "polars",
    "NUMBA_NUM_THREADS": "numba",
    "ARROW_DEFAULT_MEMORY_POOL": "pyarrow",
}
#: Of these nothing can be set once the library runs.
_ONLY_BEFORE = ("POLARS_MAX_THREADS",)


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What became of a worker's preparation: its scratch folder, what could not be set, why it can't work."""

    scratch: str
    warnings: list[str] = field(default_factory=list)
    problem: str = ""


def prepare_process(scratch: str, spill_directory: str, memory_limit: int | None = None) -> WorkerReport:
    """Set what can still be set in a running process, and try what tasks will need.

    Parameters
    ----------
    scratch
        Folder for temporary files; made if it is not there.
    spill_directory
        Where Dask writes what does not fit into memory.
    memory_limit
        Bytes that the process may have; None: no limit.
    """
    warnings = _set_environment()
    _limit_arrow()
    _limit_native_pools()
    _limit_malloc(memory_limit)
    problem = _problem_of_scratch(scratch)
    if _in_memory(spill_directory):
        warnings.append(
            f"Dask spills to {spill_directory}, which is in memory. Start workers with --local-directory on a disk."
        )
    return WorkerReport(scratch, warnings, problem)


def _set_environment() -> list[str]:
    """Set variables whose library is not loaded yet; say which came too late."""
    late = []
    for name, value in WORKER_ENVIRONMENT.items():
        if name in os.environ:
            continue
        module = _READ_BY.get(name)
        if module is None or module not in sys.modules:
            os.environ[name] = value
        elif name in _ONLY_BEFORE:
            late.append(
                f"{module} was loaded on workers before we could set {name}=1. Set it where they start."
            )
    return late


def _limit_arrow() -> None:
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())  # gives freed memory back
    pa.set_cpu_count(1)


def _limit_native_pools() -> None:
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    threadpool_limits(1)


def _limit_malloc(memory_limit: int | None) -> None:
    """What the three variables of malloc say, for glibc that has started, and for a worker of so much memory."""
    kept = _TRIM_THRESHOLD
    if memory_limit:
        kept = max(_LEAST_KEPT, min(kept, int(memory_limit * _KEPT_SHARE)))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8  # from malloc.h
        mallopt(m_arena_max, 2)
        mallopt(m_trim_threshold, kept)
        mallopt(m_mmap_threshold, min(_MMAP_THRESHOLD, kept // 16))


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Return memory that is free to the system, so that Dask does not count it as the worker's; nothing without glibc.

    Cost: some milliseconds, for a heap of gigabytes; other threads that allocate wait.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def _problem_of_scratch(scratch: str) -> str:
    try:
        os.makedirs(scratch, exist_ok=True)
        with tempfile.TemporaryFile(dir=scratch):
            return ""
    except OSError as error:
        return (
            f"can't write to its scratch folder {scratch}: {error.strerror}. "
            "Set FEATUREFLOW_SCRATCH on that host to a folder on a disk of its own, or give --scratch."
        )


def _in_memory(folder: str) -> bool:
    """Whether a folder is on a file system in memory (Linux)."""
    best, kind = "", ""
    with suppress(OSError), open("/proc/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, mount, found, *_ = line.split(" ")
            below = mount if mount.endswith("/") else mount + "/"
            if (folder + "/").startswith(below) and len(mount) >= len(best):
                best, kind = mount, found
    return kind in {"tmpfs", "ramfs"}
