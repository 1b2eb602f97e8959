"""Several hosts on one machine: a scheduler, workers on 127.0.0.2 and up, each with scratch of its own.

    with start_hosts(4, tmp_path) as hosts:
        ff.Project(spec, client=hosts.client).build()
        hosts.kill(0)

Each worker is a process of its own with its own address, ``FEATUREFLOW_SCRATCH`` and spill folder; no two share a disk.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_DASK = [sys.executable, "-W", "ignore", "-m", "dask"]


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass
class Hosts:
    """Running processes; `kill` and `start` take the number of a host, from 0."""

    folder: Path
    address: str
    client: Any
    workers: int
    threads: int
    memory: str
    nanny: bool
    environment: Mapping[str, str]
    options: tuple[str, ...]
    security: Any
    scheduler: subprocess.Popen[bytes]
    running: dict[int, list[subprocess.Popen[bytes]]] = field(default_factory=dict)

    def host(self, i: int) -> str:
        """Address of a host, without port."""
        return f"127.0.0.{i + 2}"

    def scratch(self, i: int) -> Path:
        """Its own disk."""
        return self.folder / f"host{i}"

    def start(self, i: int) -> None:
        """Start the workers of a host; its disk is as it was left."""
        self.scratch(i).mkdir(parents=True, exist_ok=True)
        for n in range(self.workers):
            spill = self.folder / f"spill{i}-{n}"
            command = [
                *_DASK,
                "worker",
                self.address,
                "--host",
                self.host(i),
                "--nthreads",
                str(self.threads),
            ]
            command += ["--memory-limit", self.memory, "--local-directory", str(spill), "--no-dashboard"]
            command += [*(() if self.nanny else ("--no-nanny",)), *_tls_options(self.security), *self.options]
            log = (self.folder / f"worker{i}-{n}.log").open("ab")
            environment = {**os.environ, **self.environment, "FEATUREFLOW_SCRATCH": str(self.scratch(i))}
            started = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            log.close()
            self.running.setdefault(i, []).append(started)

    def wait(self, timeout: float = 60) -> None:
        """Wait until the scheduler knows exactly the workers that run."""
        wanted = sum(len(processes) for processes in self.running.values())
        deadline = time.monotonic() + timeout
        while len(self.client.nthreads()) != wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{len(self.client.nthreads())} of {wanted} workers, see {self.folder}/*.log"
                )
            time.sleep(0.1)

    def send(self, i: int, what: signal.Signals) -> None:
        """Send a signal to all workers of a host, as SIGSTOP."""
        for process in self.running.get(i, ()):
            process.send_signal(what)

    def kill(self, i: int) -> None:
        """A host dies: SIGKILL; its disk stays."""
        self.send(i, signal.SIGKILL)
        for process in self.running.pop(i, ()):
            process.wait(30)

    def close(self) -> None:
        """End all that we started, by their own ids."""
        if self.client is not None:
            with suppress(TimeoutError):  # the scheduler may have been killed
                self.client.close(timeout=2)
        started = [*(process for host in self.running.values() for process in host), self.scheduler]
        for process in started:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(15)


def _tls_options(security: Any) -> tuple[str, ...]:
    if security is None:
        return ()
    files = {
        "ca-file": security.tls_ca_file,
        "cert": security.tls_worker_cert,
        "key": security.tls_worker_key,
    }
    return tuple(text for name, path in files.items() for text in (f"--tls-{name}", path))


@contextmanager
def start_hosts(
    n: int,
    folder: Path,
    *,
    workers: int = 1,
    threads: int = 1,
    memory: str = "2GB",
    nanny: bool = False,
    environment: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    scheduler_options: tuple[str, ...] = (),
    security: Any = None,
) -> Iterator[Hosts]:
    """Start a scheduler and ``n`` hosts with some worker processes each; a connected client is in ``.client``.

    With ``security``, a ``distributed.Security``, all connections are encrypted.

    With ``nanny`` a killed worker process comes back by itself; without, the host is gone until `Hosts.start`.
    """
    from distributed import Client

    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = dict(environment or {})
    command = [
        *_DASK,
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
        *scheduler_options,
    ]
    command += ["--dashboard-address", "127.0.0.1:0", *_tls_options(security)]
    log = (folder / "scheduler.log").open("ab")
    scheduler = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
    log.close()
    address = f"{'tls' if security else 'tcp'}://127.0.0.1:{port}"
    hosts = Hosts(
        folder, address, None, workers, threads, memory, nanny, environment, options, security, scheduler
    )
    try:
        for i in range(n):
            hosts.start(i)
        hosts.client = Client(address, timeout="60s", set_as_default=False, security=security)
        hosts.wait()
        yield hosts
    finally:
        hosts.close()
