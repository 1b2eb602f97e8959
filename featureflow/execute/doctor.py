"""Can this machine, this store and this cluster do what a build needs? Each answer by trying it, not by a name."""

from __future__ import annotations

import importlib.metadata
import mmap
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import featureflow
from featureflow.core import conditional, storage
from featureflow.core.errors import FeatureflowError
from featureflow.observe.units import plural, size

Status = Literal["ok", "warning", "failed"]

#: What a build runs on; of workers these must be the same.
PACKAGES = (
    "dask",
    "distributed",
    "polars",
    "pyarrow",
    "deltalake",
    "numba",
    "numpy",
    "xarray",
    "zarr",
    "icechunk",
)
S3_PACKAGES = ("s3fs", "obstore")
_SPEED_BYTES = 64 << 20
_FREE_BYTES = 10 << 30
_SLOW = 100e6
_DESCRIPTORS = 4096
_SKEW_WARNING, _SKEW_FAILURE = 5.0, 600.0  # S3 refuses signatures that are 15 minutes off


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer.

    Parameters
    ----------
    area
        ``machine``, ``scratch``, ``store`` or ``cluster``.
    name
        What was asked.
    status
        ``failed`` if builds can't work; ``warning`` if they work, but badly or not always.
    text
        The answer, and what to do if it is not ok.
    facts
        Numbers for programs.
    """

    area: str
    name: str
    status: Status
    text: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def examine(
    *, store_url: str | None, scratch: str, scheduler: str | None = None, target: Any = None
) -> Iterator[Finding]:
    """Look at everything that was named, one finding at a time; nothing that goes wrong raises.

    Parameters
    ----------
    store_url
        None: no store is looked at. Objects are created and deleted below ``_ff/``.
    scratch
        Folder for exchange files.
    scheduler
        Address of a Dask scheduler; ``threads`` and ``local`` need none.
    target
        The `featureflow.spec.targets.Target` with the way to it (TLS).
    """
    yield from _machine(store_url)
    yield from _scratch(scratch)
    if store_url is not None:
        yield from _store(store_url)
    if scheduler is not None and "://" in scheduler:
        yield from _cluster(scheduler, target, store_url, scratch)
    elif target is not None and target.cluster is not None:
        text = f"{target.cluster.class_} is started by a build, and was not started for this."
        yield Finding("cluster", "workers", "ok", text, {"class": target.cluster.class_})


# ---------------------------------------------------------------- this machine


def versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Installed versions by package; empty text for one that is not there."""
    found = {"python": platform.python_version(), "featureflow": featureflow.__version__}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _machine(store_url: str | None) -> Iterator[Finding]:
    on_s3 = store_url is not None and store_url.startswith(("s3://", "s3a://"))
    found = versions((*PACKAGES, *(S3_PACKAGES if on_s3 else ())))
    missing = [name for name, version in found.items() if not version]
    text = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    if missing:
        text = f"{' and '.join(missing)} not installed: pip install 'featureflow[s3]'"
    yield Finding("machine", "versions", "failed" if missing else "ok", text, found)
    from featureflow.execute.executors import usable_cores
    from featureflow.execute.sizing import default_memory_bytes

    cores, memory = usable_cores(), default_memory_bytes()
    few = memory < 1 << 30
    text = f"{cores} usable, {size(memory)} of memory for a build ({size(memory // cores)} each)"
    if few:
        text += ". Little: tables with long windows may be refused; give more, or fewer --workers"
    yield Finding("machine", "cores", "warning" if few else "ok", text, {"cores": cores, "memory": memory})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = soft < _DESCRIPTORS
    text = f"{soft:,} at once" + (f" (of {hard:,} allowed): `ulimit -n {min(hard, 65_536)}`" if low else "")
    yield Finding("machine", "open files", "warning" if low else "ok", text, {"soft": soft, "hard": hard})


def _scratch(folder: str) -> Iterator[Finding]:
    try:
        os.makedirs(folder, exist_ok=True)
        free = shutil.disk_usage(folder).free
        speed = _write_speed(folder)
    except (OSError, ValueError) as error:
        text = f"{folder}: {error}. Name another folder by --scratch or $FEATUREFLOW_SCRATCH"
        yield Finding("scratch", "disk", "failed", text)
        return
    facts = {"folder": folder, "free_bytes": free, "write_bytes_per_second": round(speed)}
    notes = []
    if free < _FREE_BYTES:
        notes.append("little space: the exchange needs about as much as a build reads")
    if speed < _SLOW:
        notes.append("slow: is there an NVMe disk? Name it by --scratch")
    from featureflow.execute.clusters.environment import _in_memory

    if _in_memory(os.path.realpath(folder)):
        notes.append("in memory: what is written there is missing to the build")
    text = "; ".join([f"{folder}: {size(free)} free, written at {size(speed)}/s, mapped into memory", *notes])
    yield Finding("scratch", "disk", "warning" if notes else "ok", text, facts)


def _write_speed(folder: str) -> float:
    """Bytes a second of a file that is written, synced and mapped again.

    Raises
    ------
    ValueError
        If a mapped file does not hold what was written.
    """
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder) as file:
        begun = time.perf_counter()
        for _ in range(_SPEED_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        seconds = time.perf_counter() - begun
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if mapped[-len(block) :] != block:
                raise ValueError("a file mapped into memory does not hold what was written")
    return _SPEED_BYTES / seconds


# ---------------------------------------------------------------- the store


def _store(url: str) -> Iterator[Finding]:
    folder = storage.join(url, "_ff", f"doctor-{uuid4().hex}")
    probe = storage.join(folder, "probe")
    asked = "reachable"
    try:
        storage.list_names(url)
        yield Finding("store", asked, "ok", f"{url} answers", {"url": url})
        asked = "permissions"
        yield from _permissions(url, folder, probe)
        asked = "conditional writes"
        yield _creation(url, storage.join(folder, "once"))
    except (FeatureflowError, OSError) as error:
        text = str(error) if isinstance(error, FeatureflowError) else f"{url}: {error}"
        yield Finding("store", asked, "failed", text, {"url": url})
    finally:
        for name in ("probe", "once"):
            with suppress(FeatureflowError, OSError):
                storage.delete(storage.join(folder, name))
        if storage.is_local(folder):
            with suppress(OSError):
                os.rmdir(storage.local_path(folder))


def _permissions(url: str, folder: str, probe: str) -> Iterator[Finding]:
    """List, write, read, list again, overwrite, delete."""
    text = uuid4().hex.encode()
    begun = time.perf_counter()
    storage.write_atomic(probe, text)
    written = datetime.now(UTC)
    seconds = [time.perf_counter() - begun]
    for _ in range(5):
        begun = time.perf_counter()
        same = storage.read_bytes(probe) == text
        seconds.append(time.perf_counter() - begun)
    listed = {path: changed for path, _, changed in storage.walk(folder)}
    storage.delete(probe)
    gone = not storage.exists(probe)
    tried = {"reading it": same, "listing it": "probe" in listed, "deleting it": gone}
    wrong = [what for what, right in tried.items() if not right]
    if wrong:
        told = f"{url}: an object was written, but {' and '.join(wrong)} did not do what it should"
        yield Finding("store", "permissions", "failed", told)
        return
    median = sorted(seconds[1:])[2]
    told = f"may list, write, read and delete; {median * 1e3:.1f} ms a request"
    facts = {"read_seconds": median, "write_seconds": seconds[0]}
    yield Finding("store", "permissions", "ok", told, facts)
    yield _clock(written, listed["probe"])


def _clock(here: datetime, there: datetime) -> Finding:
    # stores tell whole seconds: half of one is how far the truth is off on average
    skew = (there - here).total_seconds() + (0.5 if there.microsecond == 0 else 0.0)
    off = abs(skew)
    status: Status = "failed" if off > _SKEW_FAILURE else "warning" if off > _SKEW_WARNING else "ok"
    text = f"this machine's and the store's differ by {off:.1f} s"
    if status != "ok":
        text += ": set the clock (NTP); signatures 15 minutes off are refused, and gc goes by age"
    return Finding("store", "clock", status, text, {"seconds": round(skew, 3)})


def _creation(url: str, once: str) -> Finding:
    if conditional.creates_once(once):
        return Finding("store", "conditional writes", "ok", "of two writers that create an object, one wins")
    return Finding("store", "conditional writes", "failed", f"{url}: {conditional.WITHOUT}")


# ---------------------------------------------------------------- the cluster


def look_from_worker(store_url: str | None) -> dict[str, Any]:
    """What a worker sees; runs there."""
    problem = ""
    if store_url is not None and not storage.is_local(store_url):
        try:
            storage.list_names(store_url)
        except (FeatureflowError, OSError) as error:
            problem = str(error)
    return {"versions": versions(), "time": time.time(), "store": problem, "host": platform.node()}


def _cluster(address: str, target: Any, store_url: str | None, scratch: str) -> Iterator[Finding]:
    from featureflow.execute.executors import open_executor

    try:
        executor = open_executor(address, scratch=scratch, target=target, store_url=store_url or "")
    except FeatureflowError as error:
        yield Finding("cluster", "scheduler", "failed", str(error), {"address": address})
        return
    try:
        client = executor.client  # type: ignore[attr-defined]
        workers = client.scheduler_info(n_workers=-1)["workers"]
        threads = sum(worker["nthreads"] for worker in workers.values())
        memory = sum(worker.get("memory_limit") or 0 for worker in workers.values())
        text = f"{address}: {plural(len(workers), 'worker')}, {plural(threads, 'thread')}, {size(memory)} of memory"
        facts = {"workers": len(workers), "threads": threads, "memory": memory}
        yield Finding("cluster", "scheduler", "ok", text, facts)
        begun = time.time()
        seen = client.run(look_from_worker, store_url)
        yield from _compared(seen, begun, time.time())
    except Exception as error:  # noqa: BLE001  what a worker raises has no common base; all of it is the finding
        yield Finding("cluster", "workers", "failed", f"{address}: {type(error).__name__}: {error}")
    finally:
        executor.close()


def _compared(seen: dict[str, dict[str, Any]], begun: float, ended: float) -> Iterator[Finding]:
    ours = versions()
    differing = [
        f"{address}: {name} {found['versions'].get(name) or 'missing'} (here {version})"
        for address, found in sorted(seen.items())
        for name, version in ours.items()
        if found["versions"].get(name) != version
    ]
    text = "; ".join(differing[:5]) + ". Install the same everywhere" if differing else "the same as here"
    yield Finding("cluster", "versions", "failed" if differing else "ok", text)
    blind = [f"{address}: {found['store']}" for address, found in sorted(seen.items()) if found["store"]]
    text = (
        "; ".join(blind[:3]) + ". Workers need credentials in their own environment or profile"
        if blind
        else "reached from every worker"
    )
    yield Finding("cluster", "store", "failed" if blind else "ok", text)
    skews = {a: max(begun - f["time"], f["time"] - ended, 0.0) for a, f in seen.items()}
    worst = max(skews.values(), default=0.0)
    status: Status = "warning" if worst > _SKEW_WARNING else "ok"
    text = f"at most {worst:.1f} s between the workers' and this machine's" + (
        ": set them (NTP)" if status != "ok" else ""
    )
    yield Finding("cluster", "clock", status, text, {"seconds": round(worst, 3)})


def summary(findings: list[Finding]) -> dict[str, Any]:
    """All findings for programs; ``ok`` is false if builds can't work."""
    return {
        "ok": all(finding.status != "failed" for finding in findings),
        "python": sys.executable,
        "findings": [finding.to_json() for finding in findings],
    }
